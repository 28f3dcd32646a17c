"""Mail about real servers (`emailalert`): one a confirmed transition, reminders, a digest when many come at once.

Only the director that holds the services mails, and never in the step that decides: lines are collected for a moment
first. The lines are ldirectord's log lines, for which people have filters; the body says why.
Sources: ldirectord (subjects, bodies, phases, `emailalertfreq`).
"""

from __future__ import annotations

from hafsm.core.actions import SendMail
from hafsm.core.machines import RealState
from hafsm.core.settings import SECOND, MailAlert, MailPhase, RealServer, VirtualService
from hafsm.core.state import Alert, RealView, State, ipvs_wanted
from hafsm.core.turn import Turn

GATHER_NS = SECOND
"""Lines of one cause (a switch that dies, a check cycle) come within a second of each other."""
SINGLE_MAILS = 3
"""More lines than this at once for the same people are one mail."""
LINES_MAX = 500
"""In one digest; the rest is counted."""
MAIL_LIMIT_NS = 60 * SECOND


def note(turn: Turn, service: VirtualService, line: str, phase: MailPhase, why: str) -> None:
    """Queue a line, if anybody wants it and this director holds the services."""
    state = turn.state
    alert = service.alert
    if alert is None or phase not in alert.phases or not ipvs_wanted(state):
        return
    state.alerts = (*state.alerts, Alert(service=service.key, line=line, phase=phase, why=why))
    if not state.alerts_at:
        state.alerts_at = state.now + GATHER_NS
    turn.errands = True


def moved(turn: Turn, service: VirtualService, real: RealServer, after: RealView, before: RealView, why: str) -> None:
    """A real server has changed its state."""
    if service.alert is None:
        return
    place = f"{real.key} ({service.place})"
    match after.state:
        case RealState.UP:
            word = "Added" if before.state is RealState.REMOVED else "Restored"
            weight = real.weight if after.weight < 0 else after.weight
            line = f"{word} real server: {place} (Weight set to {weight})"
        case RealState.QUIESCED:
            line = f"Quiescent real server: {place} (Weight set to 0)"
        case _:
            line = f"Deleted real server: {place}"
    note(turn, service, line, before.phase, why)
    _remind(turn, service)


def down(turn: Turn, service: VirtualService, real: RealServer, before: RealView, why: str) -> None:
    """The first check of a real server failed: it never was up."""
    if service.alert is not None:
        note(turn, service, _inaccessible(service, real), before.phase, why)
        _remind(turn, service)


def fallback(turn: Turn, service: VirtualService, *, serving: bool) -> None:
    """The fallback comes into the table or leaves it."""
    if service.fallback is None or service.alert is None:
        return
    place = f"{service.fallback.key} ({service.place})"
    if serving:
        line = f"Added fallback server: {place} (Weight set to {service.fallback.weight})"
        note(turn, service, line, MailPhase.RUNNING, "no real server is left")
    else:
        note(turn, service, f"Deleted fallback server: {place}", MailPhase.RUNNING, "a real server is up")


def _inaccessible(service: VirtualService, real: RealServer) -> str:
    return f"Inaccessible real server: {real.key} ({service.place})"


def _remind(turn: Turn, service: VirtualService) -> None:
    """Start the clock of the service's reminders, unless it runs."""
    state = turn.state
    assert service.alert is not None, "asked only with an alert"
    if service.alert.again_ns and all(key != service.key for _, key in state.reminders):
        _again(turn, service, service.alert)


def _again(turn: Turn, service: VirtualService, alert: MailAlert) -> None:
    due = (turn.state.now + alert.again_ns, service.key)
    turn.state.reminders = tuple(sorted((*turn.state.reminders, due)))
    turn.errands = True


def stopping(turn: Turn) -> None:
    """The daemon is asked to end: what is about to leave the table is told at once."""
    state = turn.state
    for view in state.reals:
        service = state.settings.services[view.service]
        if service.alert is not None and service.clean_stop and view.state is not RealState.REMOVED:
            line = f"Purged real server (stop): {service.reals[view.real].key} ({service.place})"
            note(turn, service, line, MailPhase.STOPPING, "the daemon ends")
    if state.alerts:
        send(turn)


def pass_deadlines(turn: Turn) -> None:
    """Reminders that are due, then every line that waited long enough."""
    state = turn.state
    while state.reminders and state.now >= state.reminders[0][0]:
        key = state.reminders[0][1]
        state.reminders = state.reminders[1:]
        turn.errands = True
        index = next((i for i, service in enumerate(state.settings.services) if service.key == key), -1)
        if index >= 0:
            _reminder(turn, index)
    if state.alerts and state.now >= state.alerts_at:
        send(turn)


def _reminder(turn: Turn, index: int) -> None:
    state = turn.state
    service = state.settings.services[index]
    if service.alert is None or not service.alert.again_ns:
        return
    lost = [
        view
        for view in state.reals
        if view.service == index and view.state is not RealState.UP and view.known and not view.held
    ]
    for view in lost:
        note(turn, service, _inaccessible(service, service.reals[view.real]), MailPhase.RUNNING, view.detail)
    if lost:
        _again(turn, service, service.alert)


def send(turn: Turn) -> None:
    """Hand over everything that waits: a mail a line, or a digest for those who would get too many."""
    state = turn.state
    services = {service.key: service for service in state.settings.services}
    waiting: dict[tuple[tuple[str, ...], str, str], list[tuple[VirtualService | None, MailAlert, Alert]]] = {}
    for line in state.alerts:
        service = services.get(line.service)
        alert = service.alert if service is not None else None
        if alert is None:
            continue  # the configuration that asked for this mail is gone
        waiting.setdefault((alert.to, alert.sender, alert.smtp), []).append((service, alert, line))
    state.alerts, state.alerts_at = (), 0
    turn.errands = True
    for lines in waiting.values():
        alert = lines[0][1]
        if len(lines) <= SINGLE_MAILS:
            for service, _, line in lines:
                subject = _prefixed(service, line.line)
                _mail(turn, alert, subject, _body(state, subject, line.phase, service, [line]))
            continue
        names = {service.key: service for service, _, _ in lines if service is not None}
        only = next(iter(names.values())) if len(names) == 1 else None
        subject = _prefixed(only, f"{len(lines)} changes of real servers: {lines[0][2].line}, …")
        text = _body(state, subject, lines[-1][2].phase, only, [line for _, _, line in lines])
        _mail(turn, alert, subject, text)


def _prefixed(service: VirtualService | None, line: str) -> str:
    return f"[{service.name}] {line}" if service is not None and service.name else line


def _body(state: State, subject: str, phase: MailPhase, service: VirtualService | None, lines: list[Alert]) -> str:
    parts = [
        f"ldirectord host: {state.settings.me}",
        f"Log-Message: {subject}",
        f"Daemon-Status: {phase.value}",
        "",
    ]
    if service is not None and service.name:
        parts.append(f"Service name: {service.name}")
    if service is not None and service.comment:
        parts.append(f"Comment: {service.comment}")
    for line in lines[:LINES_MAX]:
        reason = f": {line.why}" if line.why else ""
        parts.append(f"Reason{reason}" if len(lines) == 1 else f"{line.line}{reason}")
    if len(lines) > LINES_MAX:
        parts.append(f"and {len(lines) - LINES_MAX} more")
    parts.append(f"Said by hafsm event {state.number}.")
    return "\n".join(parts) + "\n"


def _mail(turn: Turn, alert: MailAlert, subject: str, text: str) -> None:
    turn.do(
        SendMail,
        to=alert.to,
        subject=subject,
        text=text,
        timeout_ns=MAIL_LIMIT_NS,
        sender=alert.sender,
        smtp=alert.smtp,
    )
