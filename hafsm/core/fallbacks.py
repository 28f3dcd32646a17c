"""fallbackcommand: told `start` when the last real server of a service is gone, `stop` when one is there again.

Only the director that holds the services runs it, never twice in a row with the same word, one at a time for a service,
and not before it is known how the servers are. A director that gives the services up says `stop` first if it had said
`start`; a later life knows what the last one said.
Source: ldirectord, which runs it for every real server at every start, and not at its stop.
"""

from __future__ import annotations

from hafsm.core.actions import FallbackVerb, RunFallbackCommand
from hafsm.core.events import ActionFinished, Outcome
from hafsm.core.machines import Phase
from hafsm.core.settings import SECOND, VirtualService, host_port
from hafsm.core.state import Command, State, ipvs_due, ipvs_wanted
from hafsm.core.turn import Turn

_JOINED = (Phase.STABLE, Phase.LEAVING, Phase.GONE)
"""Who holds what is decided."""
GRACE_NS = 5 * SECOND
"""The shell ends a command at its own deadline; this much later the core stops waiting for the shell."""


def progress(turn: Turn) -> None:
    """Run what has to be run now."""
    state = turn.state
    if not state.commanded:
        return
    held = ipvs_wanted(state)
    firsts: dict[int, int] = {}
    for index in state.commanded:
        service = state.settings.services[index]
        if any(command.service == service.key for command in state.commands):
            continue
        wanted = _wanted(state, index, held, firsts)
        in_force = service.key in state.fallbacks
        if wanted is None or wanted is in_force:
            continue
        _run(turn, service, FallbackVerb.START if wanted else FallbackVerb.STOP)


def _wanted(state: State, index: int, held: bool, firsts: dict[int, int]) -> bool | None:
    """Whether the fallback should be in force; None while that is not known."""
    if not held:
        return False if state.phase in _JOINED and not ipvs_due(state) else None
    if state.serving[index]:
        return False
    if not firsts:
        position = 0
        for number, service in enumerate(state.settings.services):
            firsts[number] = position
            position += len(service.reals)
    views = state.reals[firsts[index] : firsts[index] + len(state.settings.services[index].reals)]
    return True if all(view.known or view.held for view in views) else None


def _run(turn: Turn, service: VirtualService, verb: FallbackVerb) -> None:
    state = turn.state
    timeout = state.settings.script_timeout_ns
    action = turn.do(
        RunFallbackCommand,
        command=service.fallback_command,
        verb=verb,
        virtual=":0" if service.protocol == "fwm" else host_port(service.address, service.port),
        protocol=service.protocol,
        timeout_ns=timeout,
    )
    command = Command(service=service.key, action=action, verb=verb, deadline=state.now + timeout + GRACE_NS)
    state.commands = (*state.commands, command)
    others = {key for key in state.fallbacks if key != service.key}
    state.fallbacks = tuple(sorted(others | {service.key} if verb is FallbackVerb.START else others))
    state.unsaved = True
    turn.errands = True
    why = "no real server is left" if verb is FallbackVerb.START else "the fallback is not needed any more"
    turn.say(f"fallbackcommand {verb.value} of {service.key}: {why}")


def gone(turn: Turn, services: tuple[VirtualService, ...]) -> None:
    """Before a new configuration is taken: what a service that loses its command has started is stopped."""
    state = turn.state
    stays = {service.key for service in services if service.fallback_command}
    for service in state.settings.services:
        if service.fallback_command and service.key in state.fallbacks and service.key not in stays:
            _run(turn, service, FallbackVerb.STOP)


def finished(turn: Turn, event: ActionFinished) -> bool:
    """Fold the end of a fallbackcommand; False if the action is none. A failure is told, not repeated (ldirectord)."""
    state = turn.state
    command = next((c for c in state.commands if c.action == event.action), None)
    if command is None:
        return False
    state.commands = tuple(c for c in state.commands if c.action != event.action)
    turn.errands = True
    turn.moved = True
    if event.outcome is not Outcome.DONE:
        detail = f" ({event.detail})" if event.detail else ""
        turn.say(f"fallbackcommand {command.verb.value} of {command.service} {event.outcome.value}{detail}")
    return True


def pass_deadlines(turn: Turn) -> None:
    """A shell that never answers does not keep the next word waiting for ever."""
    state = turn.state
    for command in state.commands:
        if state.now >= command.deadline:
            finished(turn, ActionFinished(at=state.now, action=command.action, outcome=Outcome.TIMED_OUT))
