"""Real servers: what checks, operators, maintenance files and the configuration make of each, by the table `REAL`.

Every change of a real server goes through `commit`, which keeps the wanted table beside it: only services touched are
touched there. What the kernel is told is `hafsm.core.balance`'s business.
Sources: design section 5; ldirectord (a fallback serves while no real server does; `quiescent`, `readdquiescent`,
`failurecount`, maintenance files).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from msgspec.structs import replace

from hafsm.core import alerts
from hafsm.core.actions import SetChecks
from hafsm.core.events import CheckResult, ChecksReported, MaintenanceEntry, MaintenanceListed
from hafsm.core.ipvs import DestinationEntry, TableEntry, service_entry
from hafsm.core.machines import REAL, RealState
from hafsm.core.settings import CheckKind, CheckSpec, MailPhase, Override, RealServer, RealVerb, VirtualService
from hafsm.core.state import RealView, State
from hafsm.core.turn import Turn

_UP, _KNOWN = RealState.UP, MailPhase.RUNNING
_FIXED = {CheckKind.ALWAYS_UP: True, CheckKind.ALWAYS_DOWN: False}
NAMED_AT_MOST = 20
"""Real servers named in one sentence; the rest is counted."""


class Facts(NamedTuple):
    """What the guards of the real server's table ask."""

    failures: int
    failurecount: int
    quiescent: bool
    readd: bool
    held: bool
    draining: bool
    healthy: bool


def facts_of(service: VirtualService, view: RealView) -> Facts:
    """A server that is not known yet has no credit: its first failure decides, whatever failurecount says."""
    return Facts(
        failures=view.failures,
        failurecount=service.failurecount if view.known else 1,
        quiescent=service.quiescent,
        readd=service.readd_quiescent,
        held=view.held,
        draining=view.hold is RealVerb.DRAIN,
        healthy=view.healthy,
    )


def fire(service: VirtualService, view: RealView, trigger: str, now: int) -> RealView:
    """The view after a trigger; `since` moves with the state."""
    after = REAL.fire(view.state, trigger, facts_of(service, view))
    return view if after is view.state else replace(view, state=after, since=now)


# ---- the configuration


def plan(turn: Turn, services: tuple[VirtualService, ...], *, reload: bool) -> None:
    """Derive checks and real servers from the services. One that was there before keeps its health, its hold and its
    place in the table; if it is checked otherwise now, until its first result."""
    state = turn.state
    old_services, old_views = state.settings.services, state.reals
    firsts = _firsts(old_services)
    by_key = {service.key: index for index, service in enumerate(old_services)} if old_views else {}
    state.settings = replace(state.settings, services=services)
    phase = MailPhase.RELOADING if reload else MailPhase.STARTING
    overrides = {(o.service, o.real): o for o in state.overrides}
    kept_out = _Maintained(state.maintenance)
    specs: dict[CheckSpec, int] = {}
    views: list[RealView] = []
    same: dict[int, int] = {}  # new → old index of the services of which nothing has changed
    for index, service in enumerate(services):
        known = by_key.pop(service.key, None)
        old = service if known is None else old_services[known]
        before: tuple[RealView, ...] = ()
        if known is not None:
            before = old_views[firsts[known] : firsts[known] + len(old.reals)]
            if old == service:
                same[index] = known
        left: dict[str, tuple[RealView, RealServer]] = {}
        if index not in same:
            for view, real in zip(before, old.reals, strict=False):
                left.setdefault(real.key, (view, real))
        same_rule = (old.quiescent, old.readd_quiescent) == (service.quiescent, service.readd_quiescent)
        for position, real in enumerate(service.reals):
            check = _check_of(real, specs)
            then = (before[position], real) if index in same else left.pop(real.key, None)
            if then is not None and then[1].check == real.check:
                view = then[0]
                if (view.service, view.real, view.check) != (index, position, check):
                    view = replace(view, service=index, real=position, check=check)
                if same_rule and then[1] == real:
                    views.append(view)
                    continue
            elif then is not None:
                view = replace(then[0], service=index, real=position, check=check, failures=0, phase=phase)
            else:
                view = RealView(service=index, real=position, check=check, since=state.now, phase=phase)
            override = overrides.get((service.key, real.key))
            views.append(_placed(turn, service, real, view, override, kept_out))
        if index not in same:
            _dropped(turn, old, list(left.values()))
    for known in by_key.values():
        old = old_services[known]
        gone = old_views[firsts[known] : firsts[known] + len(old.reals)]
        _dropped(turn, old, list(zip(gone, old.reals, strict=True)))
    _set(turn, tuple(views), tuple(specs), same, first=not reload)


def _check_of(real: RealServer, specs: dict[CheckSpec, int]) -> int:
    """The index of its check in the plan, which grows by it; -1: it is never checked."""
    if real.check is None or real.check.kind in _FIXED:
        return -1
    return specs.setdefault(real.check, len(specs))


def _firsts(services: tuple[VirtualService, ...]) -> list[int]:
    """Where the real servers of each service begin in `State.reals`."""
    firsts, total = [], 0
    for service in services:
        firsts.append(total)
        total += len(service.reals)
    return firsts


def _fixed(service: VirtualService, view: RealView, spec: CheckSpec, up: bool, now: int) -> RealView:
    """`on` and `off` are results that never change."""
    failures = 0 if up else 1
    detail = f"checktype={spec.kind.value}"
    view = replace(view, healthy=up, failures=failures, phase=MailPhase.STARTING, detail=detail)
    return replace(fire(service, view, "check_passed" if up else "check_failed", now), phase=MailPhase.RUNNING)


def _placed(
    turn: Turn,
    service: VirtualService,
    real: RealServer,
    view: RealView,
    override: Override | None,
    kept_out: _Maintained,
) -> RealView:
    """What the file, operators and maintenance files say of a server that is new, or whose service has changed."""
    if real.check is not None and real.check.kind in _FIXED:
        view = _fixed(service, view, real.check, _FIXED[real.check.kind], turn.state.now)
    if override is not None:
        view = overridden(service, view, override, turn.state.now)
    if kept_out.covers(real) is not view.maintenance:
        view = _maintained(service, view, not view.maintenance, turn.state.now)
    return fire(service, view, "configured", turn.state.now)


def _dropped(turn: Turn, service: VirtualService, left: list[tuple[RealView, RealServer]]) -> None:
    """Those that the file names no longer; the ones in the table leave it."""
    keys = [real.key for view, real in left if REAL.fire(view.state, "dropped") is not view.state]
    for key in keys[:NAMED_AT_MOST]:
        turn.say(f"real server {key} of {service.key} is no longer configured: removed")
    if len(keys) > NAMED_AT_MOST:
        turn.say(f"and {len(keys) - NAMED_AT_MOST} more of {service.key}")
    for key in keys if service.alert is not None else ():
        line = f"Purged real server (start): {key} ({service.place})"
        alerts.note(turn, service, line, MailPhase.RELOADING, "no longer configured")


def _set(
    turn: Turn,
    reals: tuple[RealView, ...],
    checks: tuple[CheckSpec, ...],
    same: dict[int, int],
    *,
    first: bool,
) -> None:
    """Take what was planned, and make anew only what it changes: wanted entries, watchers, the checkers' plan."""
    state = turn.state
    if first or [view.check for view in reals] != [view.check for view in state.reals]:
        watchers: list[list[int]] = [[] for _ in checks]
        for index, view in enumerate(reals):
            if view.check >= 0:
                watchers[view.check].append(index)
        state.watchers = tuple(tuple(indexes) for indexes in watchers)
    state.reals = reals
    position = 0
    table, serving = [], []
    for index, service in enumerate(state.settings.services):
        known = same.get(index)
        if known is not None:
            entry, count = state.table[known], state.serving[known]
        else:
            entry, count = entry_of(service, reals[position : position + len(service.reals)])
        position += len(service.reals)
        table.append(entry)
        serving.append(count)
    state.table, state.serving = tuple(table), tuple(serving)
    state.commanded = tuple(i for i, service in enumerate(state.settings.services) if service.fallback_command)
    if first or checks != state.checks:
        state.checks = checks
        state.checks_plan += 1
        turn.do(SetChecks, plan=state.checks_plan, checks=checks)
    turn.moved = True


# ---- the wanted table


def entry_of(service: VirtualService, views: Iterable[RealView]) -> tuple[TableEntry, int]:
    """What a service should have in the table, and how many real servers serve: the definition that `commit` keeps."""
    destinations: dict[str, DestinationEntry] = {}
    serving = 0
    for view in views:
        real = service.reals[view.real]
        if view.state is not RealState.REMOVED:
            destinations.setdefault(real.key, destination(real, view))
        serving += serves(real, view)
    if not serving and service.fallback is not None:
        destinations[service.fallback.key] = _destination(service.fallback, service.fallback.weight)
    return TableEntry(service=service_entry(service), destinations=tuple(destinations.values())), serving


def weight_of(real: RealServer, view: RealView) -> int:
    """An operator's weight, else the file's."""
    return real.weight if view.weight < 0 else view.weight


def serves(real: RealServer, view: RealView) -> bool:
    """New connections go there. A server of weight 0 does not keep the fallback away."""
    return view.state is RealState.UP and weight_of(real, view) > 0


def destination(real: RealServer, view: RealView) -> DestinationEntry:
    """The entry of a server that is in the table."""
    return _destination(real, weight_of(real, view) if view.state is RealState.UP else 0)


def _destination(real: RealServer, weight: int) -> DestinationEntry:
    return DestinationEntry(
        address=real.address,
        port=real.port,
        forwarding=real.forwarding,
        weight=weight,
        upper_threshold=real.upper_threshold,
        lower_threshold=real.lower_threshold,
    )


def commit(turn: Turn, changed: dict[int, RealView]) -> None:
    """Put changed views in place, and the wanted entries of their services with them."""
    state = turn.state
    if not changed:
        return
    reals = list(state.reals)
    touched: dict[int, list[tuple[RealView, RealView]]] = {}
    for index, view in changed.items():
        before = reals[index]
        reals[index] = view
        if before.state is not view.state or before.weight != view.weight:
            touched.setdefault(view.service, []).append((before, view))
        elif before.phase is not view.phase and (state.commanded or state.answer_at):
            turn.moved = True  # the last server to be known may be what a fallbackcommand or an offer waits for
    state.reals = tuple(reals)
    if not touched:
        return
    table, counts = list(state.table), list(state.serving)
    for index, moves in touched.items():
        service = state.settings.services[index]
        count = counts[index]
        for before, view in moves:
            real = service.reals[view.real]
            count += serves(real, view) - serves(real, before)
        flipped = (count == 0) is not (counts[index] == 0)
        if flipped and service.fallback is not None:
            first = next(iter(i for i, view in changed.items() if view.service == index))
            first -= changed[first].real
            table[index], count = entry_of(service, reals[first : first + len(service.reals)])
            alerts.fallback(turn, service, serving=count == 0)
        else:
            table[index] = _patched(service, table[index], moves)
        counts[index] = count
    state.table, state.serving = tuple(table), tuple(counts)
    turn.moved = True


def _patched(service: VirtualService, entry: TableEntry, moves: list[tuple[RealView, RealView]]) -> TableEntry:
    """The entry with these servers as they are now. Costs a walk over the destinations, but makes only new ones."""
    left: dict[tuple[str, int], DestinationEntry | None] = {}
    for _, view in moves:
        real = service.reals[view.real]
        left[real.address, real.port] = None if view.state is RealState.REMOVED else destination(real, view)
    destinations: list[DestinationEntry] = []
    for known in entry.destinations:
        place = (known.address, known.port)
        if place not in left:
            destinations.append(known)
        elif (new := left.pop(place)) is not None:
            destinations.append(new)
    destinations.extend(new for new in left.values() if new is not None)
    return TableEntry(service=entry.service, destinations=tuple(destinations))


# ---- checks


def checked(turn: Turn, event: ChecksReported) -> None:
    """Fold a batch of check results; results of an older plan say nothing about this one."""
    state = turn.state
    if event.plan != state.checks_plan:
        return
    changed: dict[int, RealView] = {}
    reals, watchers = state.reals, state.watchers
    for result in event.results:
        if result.check >= len(watchers):
            continue
        for index in watchers[result.check]:
            view = changed.get(index) or reals[index]
            if view.phase is _KNOWN:
                if result.ok:
                    if view.healthy and not view.failures and (view.state is _UP or view.held):
                        continue
                elif view.failures and view.state is not _UP and view.detail == result.detail:
                    continue
            changed[index] = _judge(turn, view, result)
    commit(turn, changed)


def _judge(turn: Turn, view: RealView, result: CheckResult) -> RealView:
    state = turn.state
    service = state.settings.services[view.service]
    real = service.reals[view.real]
    failures = 0 if result.ok else view.failures + 1
    judged = replace(view, failures=failures, healthy=result.ok, detail=result.detail)
    after = fire(service, judged, "check_passed" if result.ok else "check_failed", state.now)
    if after.state is not view.state:
        turn.say(f"real server {real.key} of {service.key} {_became(after.state, result, failures)}")
        alerts.moved(turn, service, real, after, view, after.detail)
    elif not result.ok and not view.known and not view.held:
        alerts.down(turn, service, real, view, result.detail)
    return after if view.known else replace(after, phase=MailPhase.RUNNING)


def _became(after: RealState, result: CheckResult, failures: int) -> str:
    if after is RealState.UP:
        tenths = result.duration_us // 100
        return f"is up: check passed in {tenths // 10}.{tenths % 10} ms"
    times = "its check failed" if failures == 1 else f"{failures} checks in a row failed"
    return f"is {after.value}: {times} ({result.detail})"


# ---- operators and maintenance files


def overridden(service: VirtualService, view: RealView, override: Override, now: int) -> RealView:
    """A view under an operator's last word."""
    hold = override.verb if override.verb in (RealVerb.DRAIN, RealVerb.QUIESCE) else None
    weight = override.weight if override.verb is RealVerb.WEIGHT else -1
    was_held = view.hold is not None
    view = replace(view, hold=hold, weight=weight)
    if hold is not None:
        return fire(service, view, "drained" if hold is RealVerb.DRAIN else "quiesced", now)
    return fire(service, view, "released", now) if was_held else view


def _maintained(service: VirtualService, view: RealView, begins: bool, now: int) -> RealView:
    """A maintenance file came or went. After that the next check that passes brings it back (ldirectord), so what the
    last one said does not count; a server that is never checked is back at once."""
    if begins:
        return fire(service, replace(view, maintenance=True), "maintained", now)
    view = replace(view, maintenance=False, healthy=view.healthy and view.check < 0)
    return fire(service, view, "released", now)


class _Maintained:
    """Whom the files in the maintenance folder mean."""

    def __init__(self, entries: tuple[MaintenanceEntry, ...]) -> None:
        self._places = {(address, entry.port) for entry in entries for address in entry.addresses}

    def covers(self, real: RealServer) -> bool:
        places = self._places
        return bool(places) and ((real.address, 0) in places or (real.address, real.port) in places)


def maintenance_listed(turn: Turn, event: MaintenanceListed) -> None:
    """Fold a new look at the maintenance folder. One that cannot be read changes nobody's state."""
    state = turn.state
    if event.trouble != state.maintenance_trouble:
        state.maintenance_trouble = event.trouble
        turn.say(
            f"maintenance folder: {event.trouble}; who was in maintenance stays there"
            if event.trouble
            else "the maintenance folder can be read again"
        )
    if event.trouble:
        return
    old = {entry.name for entry in state.maintenance if not entry.addresses}
    for entry in event.entries:
        if not entry.addresses and entry.name not in old:
            turn.say(f"maintenance file {entry.name} names nobody: it does not resolve to an address")
    state.maintenance = event.entries
    kept_out = _Maintained(event.entries)
    changed: dict[int, RealView] = {}
    for index, view in enumerate(state.reals):
        service = state.settings.services[view.service]
        real = service.reals[view.real]
        if kept_out.covers(real) is not view.maintenance:
            after = _maintained(service, view, not view.maintenance, state.now)
            changed[index] = after
            what = "in maintenance" if after.maintenance else "no longer in maintenance"
            told(turn, service, real, view, after, what)
    commit(turn, changed)


def told(turn: Turn, service: VirtualService, real: RealServer, before: RealView, after: RealView, what: str) -> None:
    """Say what somebody did to a server, and what it means for its traffic."""
    stays = "stays " if after.state is before.state else ""
    turn.say(f"real server {real.key} of {service.key}: {what}: {stays}{after.state.value}")
    if after.state is not before.state:
        alerts.moved(turn, service, real, after, before, what)


def emptied(turn: Turn, empty: tuple[tuple[str, str], ...]) -> None:
    """Drained servers on which no connection is left."""
    state = turn.state
    if not empty:
        return
    gone = dict.fromkeys(empty)
    changed: dict[int, RealView] = {}
    for index, view in enumerate(state.reals):
        if view.hold is not RealVerb.DRAIN or view.state is not RealState.QUIESCED:
            continue
        service = state.settings.services[view.service]
        real = service.reals[view.real]
        if (service.key, real.key) in gone:
            changed[index] = fire(service, view, "emptied", state.now)
            turn.say(f"real server {real.key} of {service.key} is drained: no connection is left, entry deleted")
            alerts.moved(turn, service, real, changed[index], view, "drained: no connection is left")
    commit(turn, changed)


def draining(state: State) -> tuple[tuple[str, str], ...]:
    """(service, real server) of those that wait for their last connection."""
    if not any(override.verb is RealVerb.DRAIN for override in state.overrides):
        return ()
    found = []
    for view in state.reals:
        if view.hold is RealVerb.DRAIN and view.state is RealState.QUIESCED:
            service = state.settings.services[view.service]
            found.append((service.key, service.reals[view.real].key))
    return tuple(found)


def adopt(turn: Turn, seen: tuple[TableEntry, ...]) -> None:
    """The first look of a life: servers of services that stay in the kernel (`cleanstop=no`) are taken as they are
    found, until their first check has ended."""
    state = turn.state
    found = {
        (entry.service.key, destination.address, destination.port): destination.weight
        for entry in seen
        for destination in entry.destinations
    }
    changed: dict[int, RealView] = {}
    for index, view in enumerate(state.reals):
        service = state.settings.services[view.service]
        if service.clean_stop or view.state is not RealState.REMOVED:
            continue
        real = service.reals[view.real]
        weight = found.get((service.key, real.address, real.port))
        if weight is None:
            continue
        view = replace(view, detail="left by an earlier life, not checked yet")
        changed[index] = fire(service, view, "found" if weight else "found_quiesced", state.now)
    if changed:
        turn.say(f"an earlier life left {len(changed)} real servers in the table: kept until their first check")
    commit(turn, changed)
