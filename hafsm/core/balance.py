"""Real servers and the IPVS table: check results become wanted entries, their difference to the seen ones operations.

Sources: design law L5 (desired and observed); ldirectord (a fallback serves while no real server is up; a real server
is added before the fallback is removed).
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from hafsm.core.actions import ObserveKernel, ProgramIpvs, RemoveAddress, SetChecks
from hafsm.core.events import ActionFinished, CheckResult, ChecksReported, KernelObserved, Outcome, ServicesReloaded
from hafsm.core.groups import KERNEL_LIMIT_NS, restore
from hafsm.core.ipvs import DestinationEntry, TableEntry, Verb, apply, difference, digest, service_entry
from hafsm.core.machines import REAL, RealState
from hafsm.core.settings import SECOND, CheckKind, CheckSpec, RealServer, VirtualService
from hafsm.core.state import RealView, State, ipvs_wanted
from hafsm.core.turn import Turn

OBSERVE_EVERY_NS = 10 * SECOND
"""How long an `ipvsadm -C` or a stray VIP may go unnoticed."""
RETRY_NS = SECOND
"""Between attempts to program or observe what the kernel refused."""

_FIXED = {CheckKind.ALWAYS_UP: RealState.UP, CheckKind.ALWAYS_DOWN: RealState.REMOVED}


class Failing(NamedTuple):
    """The facts that guards of the real server's table ask."""

    failures: int
    failurecount: int
    quiescent: bool


def plan(turn: Turn, services: tuple[VirtualService, ...]) -> None:
    """Derive checks and real servers from the services; one that was there before keeps its health."""
    state = turn.state
    before = {_identity(state, real): real for real in state.reals}
    state.settings = replace(state.settings, services=services)
    specs: dict[CheckSpec, int] = {}
    reals: list[RealView] = []
    for service_index, service in enumerate(services):
        for real_index, real in enumerate(service.reals):
            check = -1
            fixed = None
            if real.check is not None:
                fixed = _FIXED.get(real.check.kind)
                if fixed is None:
                    check = specs.setdefault(real.check, len(specs))
            view = RealView(service=service_index, real=real_index, check=check, since=state.now)
            if fixed is not None:
                view = replace(view, state=fixed, detail=f"checktype={real.check.kind.value}" if real.check else "")
            old = before.get((service.key, real.key, real.check))
            if old is not None and fixed is None:
                view = replace(view, state=old.state, failures=old.failures, since=old.since, detail=old.detail)
            reals.append(view)
    kept = {(services[view.service].key, services[view.service].reals[view.real].key) for view in reals}
    for (service_key, real_key, _), old in before.items():
        if (service_key, real_key) not in kept and old.state is not REAL.fire(old.state, "dropped"):
            turn.say(f"real server {real_key} of {service_key} is no longer configured: removed")
    watchers: list[list[int]] = [[] for _ in specs]
    for index, view in enumerate(reals):
        if view.check >= 0:
            watchers[view.check].append(index)
    state.reals = tuple(reals)
    state.watchers = tuple(tuple(indexes) for indexes in watchers)
    state.checks = tuple(specs)
    state.checks_plan += 1
    turn.do(SetChecks, plan=state.checks_plan, checks=state.checks)
    turn.moved = True


def _identity(state: State, view: RealView) -> tuple[str, str, CheckSpec | None]:
    service = state.settings.services[view.service]
    real = service.reals[view.real]
    return service.key, real.key, real.check


def reloaded(turn: Turn, event: ServicesReloaded) -> None:
    """Take a new ldirectord.cf; only what differs reaches the kernel."""
    old = {service.key for service in turn.state.settings.services}
    new = {service.key for service in event.services}
    turn.state.reload_trouble = ""
    turn.say(
        f"ldirectord.cf was read again: {len(event.services)} virtual services, "
        f"{len(new - old)} new, {len(old - new)} gone"
    )
    plan(turn, event.services)


def checked(turn: Turn, event: ChecksReported) -> None:
    """Fold a batch of check results; results of an older plan say nothing about this one."""
    state = turn.state
    if event.plan != state.checks_plan:
        return
    changed: dict[int, RealView] = {}
    for result in event.results:
        if result.check >= len(state.watchers):
            continue
        for index in state.watchers[result.check]:
            view = changed.get(index) or state.reals[index]
            if result.ok and view.state is RealState.UP and not view.failures:
                continue
            if not result.ok and view.state is not RealState.UP and view.detail == result.detail:
                continue
            changed[index] = _judge(turn, view, result)
    if changed:
        state.reals = tuple(changed.get(i, view) for i, view in enumerate(state.reals))


def _judge(turn: Turn, view: RealView, result: CheckResult) -> RealView:
    state = turn.state
    service = state.settings.services[view.service]
    real = service.reals[view.real]
    failures = 0 if result.ok else view.failures + 1
    facts = Failing(failures, service.failurecount, service.quiescent)
    after = REAL.fire(view.state, "check_passed" if result.ok else "check_failed", facts)
    if after is view.state:
        return replace(view, failures=failures, detail=result.detail)
    turn.moved = True
    turn.say(f"real server {real.key} of {service.key} {_became(after, result, failures)}")
    return replace(view, state=after, failures=failures, since=state.now, detail=result.detail)


def _became(after: RealState, result: CheckResult, failures: int) -> str:
    if after is RealState.UP:
        tenths = result.duration_us // 100
        return f"is up: check passed in {tenths // 10}.{tenths % 10} ms"
    times = "its check failed" if failures == 1 else f"{failures} checks in a row failed"
    return f"is {after.value}: {times} ({result.detail})"


def wanted_table(state: State) -> tuple[TableEntry, ...]:
    """What the kernel should have: empty unless this node holds the services."""
    if not ipvs_wanted(state):
        return ()
    destinations: list[list[DestinationEntry]] = [[] for _ in state.settings.services]
    for view in state.reals:
        if view.state is not RealState.REMOVED:
            real = state.settings.services[view.service].reals[view.real]
            weight = real.weight if view.state is RealState.UP else 0
            destinations[view.service].append(_destination(real, weight))
    up = {view.service for view in state.reals if view.state is RealState.UP}
    table = []
    for index, service in enumerate(state.settings.services):
        if index not in up and service.fallback is not None:
            destinations[index].append(_destination(service.fallback, service.fallback.weight))
        table.append(TableEntry(service=service_entry(service), destinations=tuple(destinations[index])))
    return tuple(table)


def _destination(real: RealServer, weight: int) -> DestinationEntry:
    return DestinationEntry(
        address=real.address,
        port=real.port,
        forwarding=real.forwarding,
        weight=weight,
        upper_threshold=real.upper_threshold,
        lower_threshold=real.lower_threshold,
    )


def reconcile(turn: Turn) -> None:
    """Send the kernel what is missing; one request at a time, so that what is seen stays certain."""
    state = turn.state
    view = state.ipvs
    if not view.known or view.pending or state.now < view.retry_at:
        return
    operations = difference(wanted_table(state), view.seen)
    if view.retry_at:
        turn.change_ipvs(retry_at=0, trouble="")
    if not operations:
        if view.trouble:
            turn.change_ipvs(trouble="")
        return
    action = turn.do(ProgramIpvs, operations=operations)
    turn.change_ipvs(pending=action, operations=operations, deadline=state.now + KERNEL_LIMIT_NS)


def programmed(turn: Turn, event: ActionFinished) -> None:
    """Fold the end of a ProgramIpvs: what succeeded is seen; what did not is observed and tried again."""
    view = turn.state.ipvs
    if event.outcome is Outcome.DONE and not any(event.errors):
        turn.change_ipvs(pending=0, operations=(), deadline=0, seen=apply(view.operations, view.seen))
        return
    errors = event.errors or (0,) * len(view.operations)
    done = tuple(o for o, errno in zip(view.operations, errors, strict=True) if errno == 0 and event.errors)
    refused = [(o, errno) for o, errno in zip(view.operations, errors, strict=True) if errno or not event.errors]
    first, errno = refused[0]
    cause = event.detail or (f"errno {errno}" if errno else event.outcome.value)
    text = f"{first}: {cause}" + (f" and {len(refused) - 1} more" if len(refused) > 1 else "")
    turn.say(f"IPVS refused {text}")
    services = any(o.verb in (Verb.ADD_SERVICE, Verb.EDIT_SERVICE) for o, _ in refused)
    turn.change_ipvs(
        pending=0,
        operations=(),
        deadline=0,
        seen=apply(done, view.seen),
        retry_at=turn.state.now + RETRY_NS,
        trouble=text if services else "",
    )
    observe(turn)


def observe(turn: Turn) -> None:
    """Ask what the kernel really has."""
    state = turn.state
    expected = digest(state.ipvs.seen) if state.ipvs.known else ""
    state.observe_action = turn.do(ObserveKernel, expected=expected)
    state.observe_at = state.now + (OBSERVE_EVERY_NS if state.ipvs.known else KERNEL_LIMIT_NS)


def observed(turn: Turn, event: KernelObserved) -> None:
    """Compare what is there with what was believed; the difference is repaired by `reconcile`."""
    state = turn.state
    if event.action != state.observe_action:
        return
    state.observe_action = 0
    first = not state.ipvs.known
    if first:
        # At once, whatever its scripts need to stop: the other director takes over when it hears of this new life.
        for address in event.addresses:
            turn.do(RemoveAddress, address=address)
        left = [str(a) for a in event.addresses]
        left += [entry.service.key for entry in event.table]
        if left:
            turn.say(f"an earlier life left {', '.join(left)}: cleaning up")
        turn.change_ipvs(known=True, seen=event.table)
        return
    if not state.ipvs.pending and not event.matches:
        foreign = difference(state.ipvs.seen, event.table)
        if foreign:
            turn.say(f"the IPVS table was changed by somebody else: {len(foreign)} operations repair it")
            turn.change_ipvs(seen=event.table)
    restore(turn, event.addresses)


def observation_failed(turn: Turn, event: ActionFinished) -> None:
    """Nothing is assumed: ask again."""
    state = turn.state
    state.observe_action = 0
    state.observe_at = state.now + RETRY_NS
    turn.say(f"the kernel could not be observed: {event.detail or event.outcome.value}")


def pass_deadlines(turn: Turn) -> None:
    """A kernel that never answers is asked again; the periodic look."""
    state = turn.state
    view = state.ipvs
    if view.pending and state.now >= view.deadline:
        programmed(turn, ActionFinished(at=state.now, action=view.pending, outcome=Outcome.TIMED_OUT))
    elif view.retry_at and state.now >= view.retry_at:
        turn.moved = True
    if state.now >= state.observe_at:
        observe(turn)
