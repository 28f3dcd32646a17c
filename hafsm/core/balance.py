"""The IPVS table: what is wanted and what is seen, and the requests that make the second the first.

What each real server is stands in `hafsm.core.reals`, which keeps the wanted entries of the services that it touches.
Sources: design law L5 (desired and observed); ldirectord (a real server is added before the fallback is removed;
`cleanstop=no` leaves a service in the kernel).
"""

from __future__ import annotations

from msgspec.structs import replace

from hafsm.core import alerts, fallbacks, operators, reals
from hafsm.core.actions import ObserveKernel, ProgramIpvs, RemoveAddress
from hafsm.core.events import ActionFinished, KernelObserved, Outcome, ServicesReloaded
from hafsm.core.groups import KERNEL_LIMIT_NS, restore
from hafsm.core.ipvs import Operation, TableEntry, Verb, apply, difference, digest
from hafsm.core.settings import SECOND
from hafsm.core.state import State, ipvs_wanted
from hafsm.core.turn import Turn

OBSERVE_EVERY_NS = 10 * SECOND
"""How long an `ipvsadm -C` or a stray VIP may go unnoticed."""
RETRY_NS = SECOND
"""Between attempts to program or observe what the kernel refused."""
NAMED_AT_MOST = 5
"""Repairs named in one sentence; the rest is counted."""


def reloaded(turn: Turn, event: ServicesReloaded) -> None:
    """Take a new ldirectord.cf; only what differs reaches the kernel."""
    state = turn.state
    old = {service.key for service in state.settings.services}
    new = {service.key for service in event.services}
    state.reload_trouble = ""
    turn.say(
        f"ldirectord.cf was read again: {len(event.services)} virtual services, "
        f"{len(new - old)} new, {len(old - new)} gone"
    )
    if state.alerts:
        alerts.send(turn)
    fallbacks.gone(turn, event.services)
    operators.file_changed(turn, event.services)
    reals.plan(turn, event.services, reload=True)


def wanted_table(state: State) -> tuple[TableEntry, ...]:
    """What the kernel should have: nothing unless this node holds the services, but for those that stay there."""
    return state.table if ipvs_wanted(state) else staying_table(state)


def staying_table(state: State) -> tuple[TableEntry, ...]:
    """The services with `cleanstop=no` that the kernel has, as they should be."""
    if all(service.clean_stop for service in state.settings.services):
        return ()
    present = {entry.service.key for entry in state.ipvs.seen}
    return tuple(
        entry
        for service, entry in zip(state.settings.services, state.table, strict=True)
        if not service.clean_stop and entry.service.key in present
    )


def reconcile(turn: Turn) -> None:
    """Send the kernel what is missing; one request at a time, so that what is seen stays certain."""
    state = turn.state
    view = state.ipvs
    if not view.known or view.pending or state.now < view.retry_at:
        return
    operations = missing(wanted_table(state), view.seen)
    if view.retry_at:
        turn.change_ipvs(retry_at=0, trouble="")
    if not operations:
        if view.trouble:
            turn.change_ipvs(trouble="")
        return
    action = turn.do(ProgramIpvs, operations=operations)
    turn.change_ipvs(pending=action, operations=operations, deadline=state.now + KERNEL_LIMIT_NS)


def missing(wanted: tuple[TableEntry, ...], seen: tuple[TableEntry, ...]) -> tuple[Operation, ...]:
    """`difference`, after what is the very same value at the same place in both was left out.

    Identity only saves work: entries that are merely equal come to the same, later.
    """
    if wanted is seen:
        return ()
    pairs = [(w, s) for w, s in zip(wanted, seen, strict=False) if w is not s]
    shared = min(len(wanted), len(seen))
    new = (*(w for w, _ in pairs), *wanted[shared:])
    old = (*(s for _, s in pairs), *seen[shared:])
    return difference(new, old) if new or old else ()


def aligned(wanted: tuple[TableEntry, ...], seen: tuple[TableEntry, ...]) -> tuple[TableEntry, ...]:
    """The entries of `seen`, in the order of `wanted`; those equal to the wanted ones are the wanted ones, so that the
    next comparison is of identities."""
    if len(wanted) == len(seen):
        result: list[TableEntry] = []
        for want, have in zip(wanted, seen, strict=True):
            if want is not have and want.service.key != have.service.key:
                break
            result.append(want if want is have or want == have else have)
        else:
            return tuple(result)
    left = {entry.service.key: entry for entry in seen}
    ordered: list[TableEntry] = []
    for want in wanted:
        found = left.pop(want.service.key, None)
        if found is not None:
            ordered.append(want if want == found else found)
    return (*ordered, *left.values())


def _see(turn: Turn, table: tuple[TableEntry, ...], **changes: object) -> None:
    """The kernel has this now."""
    turn.change_ipvs(seen=aligned(wanted_table(turn.state), table), digest="", **changes)


def programmed(turn: Turn, event: ActionFinished) -> None:
    """Fold the end of a ProgramIpvs: what succeeded is seen; what did not is observed and tried again."""
    view = turn.state.ipvs
    if event.outcome is Outcome.DONE and not any(event.errors):
        _see(turn, apply(view.operations, view.seen), pending=0, operations=(), deadline=0)
        return
    errors = event.errors or (0,) * len(view.operations)
    done = tuple(o for o, errno in zip(view.operations, errors, strict=True) if errno == 0 and event.errors)
    refused = [(o, errno) for o, errno in zip(view.operations, errors, strict=True) if errno or not event.errors]
    first, errno = refused[0]
    cause = event.detail or (f"errno {errno}" if errno else event.outcome.value)
    text = f"{first}: {cause}" + (f" and {len(refused) - 1} more" if len(refused) > 1 else "")
    turn.say(f"IPVS refused {text}")
    services = any(o.verb in (Verb.ADD_SERVICE, Verb.EDIT_SERVICE) for o, _ in refused)
    _see(
        turn,
        apply(done, view.seen),
        pending=0,
        operations=(),
        deadline=0,
        retry_at=turn.state.now + RETRY_NS,
        trouble=text if services else "",
    )
    observe(turn)


def observe(turn: Turn) -> None:
    """Ask what the kernel really has."""
    state = turn.state
    if state.ipvs.known and not state.ipvs.digest:
        state.ipvs = replace(state.ipvs, digest=digest(state.ipvs.seen))
    state.observe_action = turn.do(ObserveKernel, expected=state.ipvs.digest, draining=reals.draining(state))
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
        reals.adopt(turn, event.table)
        _see(turn, event.table, known=True)
        stays = {entry.service.key for entry in staying_table(state)}
        left = [str(a) for a in event.addresses]
        left += [entry.service.key for entry in event.table if entry.service.key not in stays]
        if left:
            turn.say(f"an earlier life left {', '.join(left)}: cleaning up")
        return
    if not state.ipvs.pending and not event.matches:
        foreign = difference(state.ipvs.seen, event.table)
        if foreign:
            turn.say(_foreign(foreign, event.table))
            _see(turn, event.table)
    if not state.ipvs.pending:
        reals.emptied(turn, event.empty)
    restore(turn, event.addresses)


def _foreign(repairs: tuple[Operation, ...], found: tuple[TableEntry, ...]) -> str:
    """What somebody did to the table, by what repairs it."""
    weights = {(e.service.key, d.key): d for e in found for d in e.destinations}
    named = []
    by_hand = False
    for repair in repairs[:NAMED_AT_MOST]:
        destination = repair.destination
        known = None if destination is None else weights.get((repair.service.key, destination.key))
        if destination is not None and known is not None and known.weight != destination.weight:
            by_hand = True
            place = f"{destination.key} of {repair.service.key}"
            named.append(f"{place} had weight {known.weight} instead of {destination.weight}")
        else:
            named.append(str(repair))
    more = f" and {len(repairs) - NAMED_AT_MOST} more" if len(repairs) > NAMED_AT_MOST else ""
    advice = "; a weight set with `hafsm real weight` stays" if by_hand else ""
    return (
        f"the IPVS table was changed by somebody else: {len(repairs)} operations repair it "
        f"({', '.join(named)}{more}){advice}"
    )


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
