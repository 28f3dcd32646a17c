"""Rules of cause for who holds what: give-ups for ping nodes, hand-overs, phases, sets of groups.

They mirror the rules of `hafsm.core`; each names its module.
"""

from __future__ import annotations

from hafsm.core.events import (
    ActionFinished,
    MessageReceived,
    StandbyRequested,
    StopRequested,
)
from hafsm.core.machines import Handover, Phase
from hafsm.core.state import Holding, State, group_set
from hafsm.core.turn import seconds
from replay.causes import Draft, Kind
from replay.causes_input import input_node
from replay.history import Moment
from replay.subjects import node, vip, vips_of

WAITS_FOR = {
    Handover.ASKED: "waits for the answer of",
    Handover.RELEASED: "waits until the groups are started by",
    Handover.OFFERED: "waits until the groups are stopped by",
}


def giving_up(draft: Draft, moment: Moment) -> None:
    """hafsm.core.ipfail: a give-up is planned, taken back, or carried out."""
    before, after = moment.before, moment.after
    if after.giving_up is Holding.NONE:
        if before.giving_up is not Holding.NONE and after.handover is before.handover:
            draft.add(
                moment, Kind.DECISION, f"{after.settings.me} keeps what it holds after all",
                causes=(*draft.anchor("peer pings", "giving up"),), anchor="giving up",
            )  # fmt: skip
        return
    if before.giving_up is after.giving_up:
        return
    me = after.settings.me
    here = sum(ping.alive for ping in after.pings)
    there = after.peer.pings if after.peer is not None else -1
    peer = after.peer.name if after.peer is not None else "?"
    counts = f"{peer} sees {there}, {me} {here}" if there >= 0 else f"{me} sees {here}"
    draft.add(
        moment, Kind.DECISION, f"{me} plans to give {after.giving_up.value} resources away: {counts} ping nodes",
        causes=(input_node(draft, moment), *_ping_anchors(draft, after)), anchor="giving up",
    )  # fmt: skip


def renewal_failed(draft: Draft, moment: Moment, event: ActionFinished) -> None:
    """hafsm.core.groups: a renewal did not work; the VIPs' lease runs on."""
    detail = f" ({event.detail})" if event.detail else ""
    names = ", ".join(map(str, moment.before.held))
    text = f"renewing the lease of {names} {event.outcome.value} on {moment.before.settings.me}{detail}"
    draft.add(moment, Kind.INPUT, text, anchor="renewal failed")


def lapsed(draft: Draft, moment: Moment) -> None:
    """hafsm.core.groups: the lease ran out, and there is a director that may have more luck."""
    before, after = moment.before, moment.after
    settings = after.settings
    names = ", ".join(map(str, before.held)) or "no VIP"
    last = seconds(moment.at - after.leased_until + settings.lease_ns)
    text = (
        f"{settings.me} could not renew the lease of {names} for {last} (lease {seconds(settings.lease_ns)}): "
        f"its kernel has dropped them"
    )
    vips = tuple(vip(address) for address in before.held)
    causes = draft.anchor("renewal failed")
    draft.add(moment, Kind.SILENCE, text, causes=causes, subjects=vips, anchor="lapsed")


def handover(draft: Draft, moment: Moment) -> None:
    """hafsm.core.standby, handover: each step of the handshake, and what began it."""
    before, after, event = moment.before, moment.after, moment.event
    me = after.settings.me
    peer = after.peer.name if after.peer is not None else "?"
    what = (after.handover_set if after.handover is not Handover.IDLE else before.handover_set).value
    causes: tuple[int | None, ...] = draft.anchor("handover")
    minor = True
    match after.handover:
        case Handover.ASKED:
            text, minor = f"{me} offered {what} resources to {peer}", False
            causes = _why_offered(draft, moment)
        case Handover.OFFERED:
            text, minor = f"{me} agreed to take {what} resources from {peer}", False
            home = after.handover_set.covers(Holding.LOCAL)  # it was away since this director started anew
            causes = (input_node(draft, moment), *(draft.anchor("start") if home else ()))
        case Handover.RELEASING:
            text = f"{peer} agreed: {me} stops the groups"
            causes = (*causes, input_node(draft, moment))
        case Handover.RELEASED:
            text = f"{me} has stopped what it had to: {peer} may start"
            if before.handover is Handover.ASKED:  # and had nothing to stop
                causes = (*causes, input_node(draft, moment))
        case Handover.TAKING:
            text = f"{peer} has stopped the groups: {me} starts them"
            causes = (*causes, input_node(draft, moment))
        case Handover.IDLE:
            minor = False
            if before.handover_deadline and moment.at >= before.handover_deadline:
                waits = WAITS_FOR.get(before.handover, "waits for")
                text = f"the hand-over of {what} resources failed: {me} {waits} {peer} in vain"
            elif draft.fresh or isinstance(event, StopRequested):
                text = f"the hand-over of {what} resources was called off"
                causes = (*draft.fresh, *causes)
            else:
                text, minor = f"the hand-over of {what} resources is finished", True
    draft.add(moment, Kind.DECISION, text, causes=causes, anchor="handover", minor=minor)


def _why_offered(draft: Draft, moment: Moment) -> tuple[int | None, ...]:
    """What began a hand-over; an operator first, as he needs no other reason."""
    before, after, event = moment.before, moment.after, moment.event
    if isinstance(event, StandbyRequested | StopRequested) or (
        isinstance(event, MessageReceived) and event.kind == "hb_takeover"
    ):
        return (input_node(draft, moment),)
    if before.giving_up is not Holding.NONE and after.giving_up is Holding.NONE:
        return draft.anchor("giving up")
    if after.failed_away_at != before.failed_away_at:
        return draft.anchor("group failed")
    causes = draft.anchor("peer report", "failback", "peer")
    peer = after.peer.name if after.peer is not None else "?"
    text = f"auto_failback {after.settings.auto_failback.value}: {peer} is stable, so its groups go home"
    return (draft.add(moment, Kind.DECISION, text, causes=causes),)


def phase(draft: Draft, moment: Moment) -> None:
    before, after, event = moment.before, moment.after, moment.event
    me = after.settings.me
    causes: tuple[int | None, ...] = (*draft.decided(), *draft.anchor("phase"))
    minor = True
    match after.phase:
        case Phase.LEAVING:
            text, minor = f"{me} leaves the cluster", False
            causes = draft.anchor("stop", "handover")
        case Phase.GONE:
            text = f"{me} has released everything and ends"
            causes = (*causes, *draft.anchor("froze", "lapsed"))
        case Phase.STABLE:
            text, minor = f"{me} has joined", False
            if before.phase in (Phase.STARTING, Phase.RECEIVED) and isinstance(event, MessageReceived):
                causes = (input_node(draft, moment), *causes)
            elif not draft.fresh:
                causes = (*draft.anchor("peer"), *causes)
        case _:
            text = f"{me} is {after.phase.value}"
    draft.add(moment, Kind.DECISION, text, causes=causes, subjects=(node(me),), anchor="phase", minor=minor)


def mine(draft: Draft, moment: Moment) -> None:
    """hafsm.core.handover: what this director holds from now on."""
    before, after, event = moment.before, moment.after, moment.event
    settings = after.settings
    gained, lost = after.mine.minus(before.mine), before.mine.minus(after.mine)
    verb, which = ("takes", gained) if gained is not Holding.NONE else ("gives up", lost)
    groups = [i for i in range(len(settings.groups)) if which.covers(group_set(after, i))]
    vips = tuple(subject for index in groups for subject in vips_of(settings, index))
    names = ", ".join(subject.name for subject in vips) or "no VIP"
    peer = after.peer
    conflict = peer is not None and lost.both(peer.holds) is not Holding.NONE
    both = ": both directors held them" if conflict else ""
    if draft.fresh:
        causes: tuple[int | None, ...] = draft.decided() or tuple(reversed(draft.fresh))
    elif isinstance(event, ActionFinished) and event.action == before.fence_action:
        causes = (input_node(draft, moment), *draft.anchor("fence", "peer"))
    elif isinstance(event, MessageReceived):
        causes = (input_node(draft, moment), *draft.anchor("peer"))
    else:
        causes = draft.anchor("peer", "phase")
    draft.add(
        moment, Kind.DECISION, f"{settings.me} {verb} {which.value} resources ({names}){both}",
        causes=causes, subjects=(node(settings.me), *vips), anchor="mine",
    )  # fmt: skip


def _ping_anchors(draft: Draft, state: State) -> tuple[int | None, ...]:
    """What moved the ping nodes that do not answer, or all that ever moved."""
    dead = [f"ping {i}" for i, ping in enumerate(state.pings) if not ping.alive]
    return draft.anchor(*(dead or [f"ping {i}" for i in range(len(state.pings))]))
