"""Resource groups: resources started from the left, stopped from the right, one at a time, each with a deadline.

Also the VIPs' lease: renewed while this node lives, so that a dead owner lets go by itself (law L6).
Sources: heartbeat 3 ResourceManager (order, ask for the status before a start, stop retried every second up to ten
times, a failed start stops the whole group).
"""

from __future__ import annotations

from msgspec.structs import replace

from hafsm.core.actions import (
    AddAddress,
    AnnounceAddress,
    RemoveAddress,
    RenewAddresses,
    RunScript,
    ScriptVerb,
    SendMail,
    SetSyncDaemon,
)
from hafsm.core.events import ActionFinished, Outcome
from hafsm.core.machines import GROUP, GroupState, Handover, NodeState, Stopped
from hafsm.core.settings import SECOND, Address, Group, Resource, ResourceKind
from hafsm.core.state import (
    GroupView,
    Holding,
    Lending,
    Part,
    borrows,
    group_set,
    ipvs_unloaded,
    ipvs_wanted,
    wants_group,
)
from hafsm.core.turn import Turn, seconds

STOP_ATTEMPTS = 10
"""heartbeat's HA_STOPRETRYMAX."""
STOP_PAUSE_NS = SECOND
RETRY_FAILED_NS = 30 * SECOND
"""heartbeat waits 30 s after a failed start before it moves the group."""
KERNEL_LIMIT_NS = 10 * SECOND
"""A kernel request that takes longer counts as failed."""
SCRIPT_GRACE_NS = 5 * SECOND
"""The shell ends a script at its own deadline; this much later the core stops waiting for the shell."""
_KIND = ResourceKind
MAIL_LIMIT_NS = 60 * SECOND
"""Nobody waits for a mail, so this only bounds how long a hanging sendmail lives."""


def prepare(turn: Turn) -> None:
    """Begin a life: whatever an earlier one left running is stopped, cautiously."""
    turn.state.groups = tuple(
        GroupView(state=GroupState.STOPPING, position=len(group.resources) - 1, cautious=True)
        for group in turn.state.settings.groups
    )
    turn.moved = True


def advance(turn: Turn) -> None:
    """Drive every group towards where it is wanted, as far as it goes without waiting."""
    for index in range(len(turn.state.groups)):
        while _advance_one(turn, index):
            pass


def _advance_one(turn: Turn, index: int) -> bool:
    """One move of one group; False when it has to wait or is where it should be."""
    state = turn.state
    group = state.groups[index]
    wanted = wants_group(state, index)
    if group.state is GroupState.STOPPED:
        return wanted and _take(turn, index)
    if group.state is GroupState.FAILED:
        if not wanted:
            return _move(turn, index, "drop", failure="", retry_at=0)
        return state.now >= group.retry_at and _take(turn, index)
    if group.action:
        return False
    if group.state is GroupState.STARTED:
        return not wanted and _drop(turn, index, Part.SCRIPTS if _lends(turn, index) else Part.ALL)
    if group.state is GroupState.LENT:
        if wanted:
            return _take(turn, index)
        return state.lending is not Lending.AGREED and _drop(turn, index, Part.SERVING)
    if group.state is GroupState.STARTING:
        if not wanted:
            return _drop(turn, index)
        return _start_next(turn, index)
    return _stop_next(turn, index)


def _move(turn: Turn, index: int, trigger: str, facts: object = None, **changes: object) -> bool:
    group = turn.state.groups[index]
    turn.change_group(index, state=GROUP.fire(group.state, trigger, facts), **changes)
    return True


def _take(turn: Turn, index: int) -> bool:
    part = Part.SCRIPTS if turn.state.groups[index].state is GroupState.LENT else Part.ALL
    return _move(turn, index, "take", position=0, part=part, failure="", retry_at=0, attempts=0, cautious=False)


def _drop(turn: Turn, index: int, part: Part = Part.ALL) -> bool:
    """Stop from the resource in progress, or from the last one."""
    group = turn.state.groups[index]
    position = len(turn.state.settings.groups[index].resources) - 1
    if group.state is GroupState.STARTING:
        position = min(group.position, position)
    return _move(turn, index, "drop", position=position, part=part, attempts=0, deadline=0)


def _lends(turn: Turn, index: int) -> bool:
    """Whether this group serves on here until the peer has it: agreed, and no script has to wait for a VIP to go."""
    agreed = turn.state.handover is Handover.RELEASING and turn.state.lending is Lending.AGREED
    return agreed and can_lend(turn.state.settings.groups[index])


def can_lend(group: Group) -> bool:
    """A script to the left of a VIP starts before it and stops after it: a file system, perhaps, that only one director
    may have. Such a group is stopped here before it is started there."""
    kinds = [resource.kind for resource in group.resources if resource.kind in (_KIND.ADDRESS, _KIND.SCRIPT)]
    return _KIND.ADDRESS in kinds and kinds == sorted(kinds, key=lambda kind: kind is _KIND.SCRIPT)


def holds_vips(turn: Turn) -> bool:
    """Every group that is borrowed serves here: its VIPs were added, and its virtual services before them."""
    return not any(
        borrows(turn.state, index)
        and group.state is GroupState.STARTING
        and any(r.kind is _KIND.ADDRESS for r in turn.state.settings.groups[index].resources[group.position :])
        for index, group in enumerate(turn.state.groups)
    )


def _start_next(turn: Turn, index: int) -> bool:
    state = turn.state
    group = state.groups[index]
    resources = state.settings.groups[index].resources
    if group.position == len(resources):
        turn.say(f"{name(turn, index)} is started")
        return _move(turn, index, "finished")
    resource = resources[group.position]
    match resource.kind:
        case ResourceKind.ADDRESS:
            if borrows(state, index) and ipvs_wanted(state) and not (state.ipvs.trouble or _services_loaded(turn)):
                return False
            _add_address(turn, index, resource)
        case ResourceKind.SCRIPT:
            _run(turn, index, resource, ScriptVerb.STATUS)
        case ResourceKind.ANNOUNCE:
            _await(turn, index, turn.do(AnnounceAddress, address=resource.announced))
        case ResourceKind.SYNC:
            _await(turn, index, turn.do(SetSyncDaemon, daemon=resource.sync))
        case ResourceKind.MAIL:
            _mail(turn, index, resource, "starts")
            return _started(turn, index)
        case ResourceKind.IPVS:
            return _ipvs_loaded(turn, index)
    return False


def _started(turn: Turn, index: int) -> bool:
    turn.change_group(index, position=turn.state.groups[index].position + 1)
    return True


def _ipvs_loaded(turn: Turn, index: int) -> bool:
    """`ldirectord` is started once the kernel has every virtual service; a real server it refuses is retried beside."""
    if turn.state.ipvs.trouble:
        return _failed(turn, index, f"ldirectord did not start: {turn.state.ipvs.trouble}")
    return _services_loaded(turn) and _started(turn, index)


def _services_loaded(turn: Turn) -> bool:
    view = turn.state.ipvs
    if not view.known or view.pending:
        return False
    present = {entry.service.key for entry in view.seen}
    return all(service.key in present for service in turn.state.settings.services)


def _stop_next(turn: Turn, index: int) -> bool:
    state = turn.state
    group = state.groups[index]
    if not state.ipvs.known or state.now < group.deadline:
        return False
    if group.position < 0:
        failed = bool(group.failure)
        retry_at = state.now + RETRY_FAILED_NS if failed else 0
        lent = group.part is Part.SCRIPTS
        if lent:
            turn.say(f"{name(turn, index)} is lent: it serves until {turn.peer.name} has it")
        elif not group.cautious:
            turn.say(f"{name(turn, index)} is stopped")
        facts = Stopped(failed, lent)
        return _move(turn, index, "finished", facts, cautious=False, part=Part.ALL, retry_at=retry_at, deadline=0)
    resource = state.settings.groups[index].resources[group.position]
    if group.part is (Part.SCRIPTS if resource.kind in (_KIND.ADDRESS, _KIND.IPVS) else Part.SERVING):
        return _stopped(turn, index)
    match resource.kind:
        case ResourceKind.ADDRESS:
            if _address(resource) not in state.held:
                return _stopped(turn, index)
            _await(turn, index, turn.do(RemoveAddress, address=_address(resource)))
        case ResourceKind.SCRIPT:
            _run(turn, index, resource, ScriptVerb.STATUS if group.cautious else ScriptVerb.STOP)
        case ResourceKind.SYNC:
            assert resource.sync is not None, "a SYNC resource has a daemon"
            daemon = replace(resource.sync, role=resource.sync.role.other())
            _await(turn, index, turn.do(SetSyncDaemon, daemon=daemon))
        case ResourceKind.MAIL:
            if not group.cautious:
                _mail(turn, index, resource, "stops")
            return _stopped(turn, index)
        case ResourceKind.ANNOUNCE:
            return _stopped(turn, index)
        case ResourceKind.IPVS:
            return (ipvs_unloaded(state) or ipvs_wanted(state)) and _stopped(turn, index)
    return False


def _stopped(turn: Turn, index: int) -> bool:
    turn.change_group(index, position=turn.state.groups[index].position - 1, attempts=0, deadline=0)
    return True


def _failed(turn: Turn, index: int, why: str) -> bool:
    turn.say(f"{name(turn, index)}: {why}; stopping what was started, next try in {seconds(RETRY_FAILED_NS)}")
    position = min(turn.state.groups[index].position, len(turn.state.settings.groups[index].resources) - 1)
    return _move(turn, index, "failed", failure=why, attempts=0, position=position, part=Part.ALL, deadline=0)


def _add_address(turn: Turn, index: int, resource: Resource) -> None:
    address = _address(resource)
    state = turn.state
    if address not in state.held:
        state.held = (*state.held, address)
    if not state.renew_at:
        state.renew_at = state.now + state.settings.lease_ns // 3
        state.leased_until = state.now + state.settings.lease_ns
    _await(turn, index, turn.do(AddAddress, address=address, lease_s=state.settings.lease_ns // SECOND))


def _await(turn: Turn, index: int, action: int) -> None:
    """The group goes on when the kernel has answered, or has not for too long."""
    turn.change_group(index, action=action, deadline=turn.state.now + KERNEL_LIMIT_NS)


def _mail(turn: Turn, index: int, resource: Resource, what: str) -> None:
    """Tell people. The group does not wait: a slow mail system must not delay a hand-over."""
    to, *subject = resource.arguments
    sentence = f"{name(turn, index)} {what} on {turn.state.settings.me}"
    turn.do(
        SendMail,
        to=tuple(to.split(",")),
        subject=": ".join((*subject, sentence)),
        text=f"{sentence}, said by hafsm event {turn.state.number}.\n",
        timeout_ns=MAIL_LIMIT_NS,
    )


def _run(turn: Turn, index: int, resource: Resource, verb: ScriptVerb) -> None:
    timeout = turn.state.settings.script_timeout_ns
    action = turn.do(RunScript, script=resource.script, arguments=resource.arguments, verb=verb, timeout_ns=timeout)
    deadline = turn.state.now + timeout + SCRIPT_GRACE_NS
    turn.change_group(index, action=action, verb=verb, deadline=deadline)


def finished(turn: Turn, event: ActionFinished) -> bool:
    """Fold the end of a group's action; False if the action is not a group's."""
    for index, group in enumerate(turn.state.groups):
        if group.action == event.action:
            _ended(turn, index, event.outcome, event.detail)
            return True
    return False


def pass_deadlines(turn: Turn) -> None:
    """Actions that never ended count as timed out; pauses that are over are looked at."""
    now = turn.state.now
    for index, group in enumerate(turn.state.groups):
        due = group.deadline or group.retry_at
        if not due or now < due:
            continue
        if group.action:
            _ended(turn, index, Outcome.TIMED_OUT, "no result came")
        else:
            turn.moved = True


def _ended(turn: Turn, index: int, outcome: Outcome, detail: str) -> None:
    group = turn.state.groups[index]
    resource = turn.state.settings.groups[index].resources[group.position]
    verb = group.verb
    turn.change_group(index, action=0, verb=None, deadline=0)
    what = f"{resource.text} {verb.value}" if verb is not None else resource.text
    trouble = f"{what}: {outcome.value}" + (f" ({detail})" if detail else "")
    if group.state is GroupState.STARTING:
        if verb is ScriptVerb.STATUS and detail != "running":
            _run(turn, index, resource, ScriptVerb.START)
        elif outcome is Outcome.DONE:
            turn.change_group(index, position=group.position + 1)
        else:
            if resource.kind is ResourceKind.ADDRESS:
                # It may be there all the same; stopping removes it.
                turn.say(f"VIP {_address(resource)} could not be added")
            _failed(turn, index, trouble)
        return
    if verb is ScriptVerb.STATUS and detail != "stopped":
        _run(turn, index, resource, ScriptVerb.STOP)
    elif outcome is Outcome.DONE:
        _release(turn, resource)
        _stopped(turn, index)
    elif group.attempts + 1 < STOP_ATTEMPTS:
        turn.say(f"{trouble}; trying again in {seconds(STOP_PAUSE_NS)}")
        turn.change_group(index, attempts=group.attempts + 1, deadline=turn.state.now + STOP_PAUSE_NS)
    else:
        turn.say(f"{trouble}; given up after {STOP_ATTEMPTS} tries")
        _release(turn, resource)
        _stopped(turn, index)


def _release(turn: Turn, resource: Resource) -> None:
    """From now on the VIP is not renewed: what could not be removed ends with its lease."""
    if resource.kind is ResourceKind.ADDRESS:
        address = _address(resource)
        turn.state.held = tuple(a for a in turn.state.held if a != address)
        if not turn.state.held:
            turn.state.renew_at = 0
            turn.state.renew_action = 0
            turn.state.leased_until = 0


def _address(resource: Resource) -> Address:
    assert resource.address is not None, "an ADDRESS resource has an address"
    return resource.address


def name(turn: Turn, index: int) -> str:
    """`group IPaddr::192.168.2.232/24/eth0:0`."""
    return f"group {turn.state.settings.groups[index].key}"


def renew(turn: Turn) -> None:
    """Extend the lease of every VIP held."""
    state = turn.state
    if state.renew_action:
        turn.say(f"the kernel did not answer the renewal of {len(state.held)} VIP leases in time")
    state.renew_action = turn.do(RenewAddresses, addresses=state.held, lease_s=state.settings.lease_ns // SECOND)
    state.renew_at = state.now + state.settings.lease_ns // 3


def renewed(turn: Turn, event: ActionFinished) -> None:
    """Put back what somebody removed."""
    state = turn.state
    state.renew_action = 0
    if event.outcome is not Outcome.DONE:
        turn.say(f"VIP leases were not renewed: {event.detail or event.outcome.value}")
    elif len(event.missing) < len(state.held):
        sent_at = state.renew_at - state.settings.lease_ns // 3
        state.leased_until = sent_at + state.settings.lease_ns
    restore(turn, tuple(a for a in turn.state.held if a not in event.missing))


def lapsed(turn: Turn) -> bool:
    """No VIP could be renewed for a whole lease: the kernel has dropped them all, and a living peer may have more luck.

    Without such a peer it is tried on: there is nobody to release them for.
    """
    state = turn.state
    peer = state.peer
    over = 0 < state.leased_until <= state.now
    return over and peer is not None and peer.state is not NodeState.DEAD and peer.stable


def let_go(turn: Turn, lost: Holding) -> None:
    """Take the VIPs of these sets away at once, whatever their scripts are at: two directors answer for them."""
    state = turn.state
    for index, group in enumerate(state.settings.groups):
        if not lost.covers(group_set(state, index)):
            continue
        for resource in group.resources:
            if resource.kind is ResourceKind.ADDRESS and _address(resource) in state.held:
                turn.do(RemoveAddress, address=_address(resource))
                _release(turn, resource)


def restore(turn: Turn, present: tuple[Address, ...]) -> None:
    """Make the kernel's VIPs those that this node holds, except where a group is at work on one."""
    held = turn.state.held
    for address in held:
        if address not in present and not _in_progress(turn, address):
            turn.say(f"VIP {address} was gone although this node holds it: added again")
            turn.do(AddAddress, address=address, lease_s=turn.state.settings.lease_ns // SECOND)
    for address in present:
        if address not in held and not _in_progress(turn, address):
            turn.say(f"VIP {address} was there although this node does not hold it: removed")
            turn.do(RemoveAddress, address=address)


def announce(turn: Turn) -> None:
    """Tell the network again where the VIPs are that this node goes on holding."""
    state = turn.state
    for index, group in enumerate(state.groups):
        if group.state is GroupState.STARTED and wants_group(state, index):
            for resource in state.settings.groups[index].resources:
                if resource.address is not None:
                    turn.do(AddAddress, address=resource.address, lease_s=state.settings.lease_ns // SECOND)


def _in_progress(turn: Turn, address: Address) -> bool:
    """Whether a group is adding or removing it right now."""
    for group, settings in zip(turn.state.groups, turn.state.settings.groups, strict=True):
        if group.action and settings.resources[group.position].address == address:
            return True
    return False
