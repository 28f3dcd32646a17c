"""The rules of cause for what a director does: resource groups, VIPs in its kernel, the IPVS table.

`causes_reals` has the real servers.
"""

from __future__ import annotations

from hafsm.core.actions import (
    Action,
    AddAddress,
    AnnounceAddress,
    ProgramIpvs,
    RemoveAddress,
    RunFallbackCommand,
    RunScript,
    SetSyncDaemon,
)
from hafsm.core.events import (
    ActionFinished,
    DaemonStarted,
    KernelObserved,
    Outcome,
    ServicesReloaded,
)
from hafsm.core.ipvs import TableEntry
from hafsm.core.machines import GroupState
from hafsm.core.settings import Address
from hafsm.core.turn import seconds
from replay import causes_holding, causes_reals
from replay.causes import Draft, Kind
from replay.history import Moment
from replay.subjects import Subject, Topic, vip, vips_of

_EFFECTS = (AddAddress, RemoveAddress, RunScript, RunFallbackCommand, SetSyncDaemon, AnnounceAddress, ProgramIpvs)

NAMED = 3
"""Changes by hand that one sentence names."""


def fold(draft: Draft, moment: Moment) -> None:
    """Add what changed in resources, after the cluster's rules."""
    event = moment.event
    if isinstance(event, ActionFinished):
        _finished(draft, moment, event)
    elif isinstance(event, KernelObserved):
        _observed(draft, moment, event)
    if moment.before.groups is not moment.after.groups:
        _groups(draft, moment)
    if isinstance(event, ServicesReloaded):
        text = f"ldirectord.cf was read again: {len(event.services)} virtual services"
        draft.input = draft.add(moment, Kind.INPUT, text, anchor="reload")
    if isinstance(event, DaemonStarted):
        causes_reals.remembered(draft, moment, event)
    elif moment.before.reals is not moment.after.reals:
        causes_reals.fold(draft, moment)
    if moment.before.ipvs.seen is not moment.after.ipvs.seen:
        _table(draft, moment)
    for action in moment.actions:
        if isinstance(action, _EFFECTS):
            _decided(draft, moment, action)


def _decided(draft: Draft, moment: Moment, action: Action) -> None:
    """An action with an effect; its result will point to it. What was only asked for has changed nothing yet."""
    what, asked, _ = _words(action)
    gone = draft.anchors.get(f"gone {action.address}") if isinstance(action, AddAddress) else None
    if gone is not None and draft.graph.nodes[gone].seq == moment.seq:
        causes: tuple[int, ...] = (gone,)
    else:
        found = (*_group_anchor(draft, moment, action.id), *draft.decided(), draft.input)
        causes = tuple(cause for cause in found if cause is not None)
    if not causes:
        names = ("reals", "mine") if isinstance(action, ProgramIpvs) else ("mine",)
        causes = tuple(cause for cause in draft.anchor(*names) if cause is not None)
    identity = draft.add(moment, Kind.ACTION, f"{what} {asked} (action {action.id})", causes=causes, minor=True)
    draft.pending[action.id] = (action, identity)


def _words(action: Action) -> tuple[str, str, str]:
    """What it is about, how it was asked for, how it is told when it is done."""
    match action:
        case AddAddress():
            return f"VIP {action.address}", "is to be added and announced", "was added and announced"
        case RemoveAddress():
            return f"VIP {action.address}", "is to be removed", "was removed"
        case RunScript():
            command = " ".join((action.script, *action.arguments, action.verb.value))
            return command, "is to be run", "was run"
        case ProgramIpvs():
            more = f" and {len(action.operations) - 1} more" if len(action.operations) > 1 else ""
            return f"IPVS: {action.operations[0]}{more}", "is to be done", "was done"
        case SetSyncDaemon():
            return str(action.daemon), "is to run", "runs"
        case AnnounceAddress():
            return f"address {action.address}", "is to be announced", "was announced"
        case RunFallbackCommand():
            return f"fallbackcommand {action.verb.value} of {action.virtual}", "is to be run", "was run"
        case _:
            return type(action).__name__, "is to be done", "was done"


def _group_anchor(draft: Draft, moment: Moment, action: int) -> tuple[int | None, ...]:
    for index, group in enumerate(moment.after.groups):
        if group.action == action:
            return draft.anchor(f"group {index}")
    return ()


def _finished(draft: Draft, moment: Moment, event: ActionFinished) -> None:
    before = moment.before
    me = before.settings.me
    if event.action == before.renew_action:
        if event.outcome is not Outcome.DONE:
            causes_holding.renewal_failed(draft, moment, event)
        _gone(draft, moment, event.missing)
        return
    known = draft.pending.pop(event.action, None)
    action = known[0] if known is not None else _of_group(moment, event.action)
    if action is None:
        return
    what, _, done = _words(action)
    when = f", {seconds(moment.at - draft.graph.nodes[known[1]].at)} after it was decided" if known is not None else ""
    detail = f" ({event.detail})" if event.detail else ""
    word = done if event.outcome is Outcome.DONE else event.outcome.value
    text = f"{what} {word}{detail} on {me}{when} (action {event.action})"
    is_vip = isinstance(action, AddAddress | RemoveAddress)
    subjects = (vip(action.address),) if isinstance(action, AddAddress | RemoveAddress) else ()
    minor = event.outcome is Outcome.DONE and not is_vip
    causes = (known[1],) if known is not None else ()
    draft.input = draft.add(moment, Kind.RESULT, text, causes=causes, subjects=subjects, minor=minor)


def _gone(draft: Draft, moment: Moment, addresses: tuple[Address, ...]) -> None:
    for address in addresses:
        me = moment.before.settings.me
        text = f"VIP {address} was gone from {me}'s kernel: somebody removed it, or its lease ended"
        draft.input = draft.add(moment, Kind.INPUT, text, subjects=(vip(address),), anchor=f"gone {address}")


def _observed(draft: Draft, moment: Moment, event: KernelObserved) -> None:
    """What the kernel has is not what was believed: somebody else was there."""
    before, after = moment.before, moment.after
    if not before.ipvs.known or event.action != before.observe_action:
        return
    working = [
        settings.resources[group.position].address
        for group, settings in zip(before.groups, before.settings.groups, strict=True)
        if group.action
    ]
    gone = tuple(a for a in before.held if a not in event.addresses and a not in working)
    _gone(draft, moment, gone)
    if before.ipvs.seen is not after.ipvs.seen:
        text = f"{before.settings.me}'s IPVS table was changed by somebody else, not through hafsm"
        draft.input = draft.add(moment, Kind.INPUT, text + _by_hand(moment))


def _of_group(moment: Moment, action: int) -> Action | None:
    """A VIP's action that was decided where the journal does not know, from the group that waits for it."""
    before = moment.before
    for group, settings in zip(before.groups, before.settings.groups, strict=True):
        address = settings.resources[group.position].address if group.action == action else None
        if address is None:
            continue
        if group.state is GroupState.STARTING:
            return AddAddress(id=action, address=address, lease_s=0)
        return RemoveAddress(id=action, address=address)
    return None


def _groups(draft: Draft, moment: Moment) -> None:
    settings = moment.after.settings
    for index, (old, new) in enumerate(zip(moment.before.groups, moment.after.groups, strict=False)):
        if old.state is new.state:
            continue
        vips = vips_of(settings, index)
        key = settings.groups[index].key
        causes: tuple[int | None, ...] = (*draft.anchor(f"group {index}"), draft.input)
        match new.state:
            case GroupState.STARTING:
                causes = draft.anchor("mine")
                if old.state is GroupState.FAILED:
                    causes = (*causes, *draft.anchor("group failed"))
            case GroupState.STOPPING:
                failed = old.state is GroupState.STARTING and bool(new.failure)
                causes = (draft.input, *draft.anchor(f"group {index}")) if failed else draft.anchor("mine")
            case _:
                pass
        text = f"group {key} is {new.state.value} on {settings.me}"
        text += f": {new.failure}" if new.failure else ""
        failing = bool(new.failure)
        identity = draft.add(
            moment, Kind.DECISION, text, causes=causes, subjects=vips if failing else (), anchor=f"group {index}",
            minor=not failing,
        )  # fmt: skip
        if failing:
            draft.anchors["group failed"] = identity


def _table(draft: Draft, moment: Moment) -> None:
    """The kernel's table, as far as it is known, changed."""
    old = _weights(moment.before.ipvs.seen)
    new = _weights(moment.after.ipvs.seen)
    causes = (draft.input,) if draft.input is not None else draft.anchor("mine")
    for subject in sorted(old.keys() | new.keys(), key=lambda s: (s.service, s.name)):
        if old.get(subject) == new.get(subject):
            continue
        was, now = _weight(old.get(subject)), _weight(new.get(subject))
        text = f"{subject} has {now} in {moment.after.settings.me}'s IPVS table, had {was}"
        held = draft.anchor(f"hold {subject}") if new.get(subject) == 0 else ()
        draft.add(moment, Kind.RESULT, text, causes=(*causes, *held), subjects=(subject,))


def _by_hand(moment: Moment) -> str:
    """What was found where something else was believed."""
    was, found = _weights(moment.before.ipvs.seen), _weights(moment.after.ipvs.seen)
    changed = sorted((s for s in was.keys() | found.keys() if was.get(s) != found.get(s)), key=str)
    told = [f"{s.name} of {s.service} had {_weight(found.get(s))} instead of {_weight(was.get(s))}" for s in changed]
    more = f" and {len(told) - NAMED} more" if len(told) > NAMED else ""
    return f": {', '.join(told[:NAMED])}{more}" if told else ""


def _weight(weight: int | None) -> str:
    return f"weight {weight}" if weight is not None else "no entry"


def _weights(table: tuple[TableEntry, ...]) -> dict[Subject, int]:
    return {
        Subject(topic=Topic.REAL, name=d.key, service=entry.service.key): d.weight
        for entry in table
        for d in entry.destinations
    }
