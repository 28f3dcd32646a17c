"""The cluster's rules of cause: who is there, ping nodes, links, lives of the daemon. `causes_holding` has the rest.

Each rule compares two states and names the older nodes that made the difference.
"""

from __future__ import annotations

from hafsm.core.actions import FenceNode
from hafsm.core.events import (
    ActionFinished,
    DaemonStarted,
    MessageReceived,
    StopRequested,
)
from hafsm.core.machines import NodeState, Phase
from hafsm.core.state import Holding, Peer, group_set
from hafsm.core.turn import seconds
from replay import causes_holding
from replay.causes import Draft, Kind
from replay.causes_input import input_node
from replay.history import Moment
from replay.subjects import Subject, Topic, node, vips_of


def fold(draft: Draft, moment: Moment) -> None:
    """Add what changed in the cluster."""
    before, after, event = moment.before, moment.after, moment.event
    if isinstance(event, DaemonStarted):
        _started(draft, moment, event)
        return
    gap = moment.at - before.now
    if gap > before.settings.lease_ns and before.phase is not Phase.GONE:
        lease = f"its VIPs' lease is {seconds(before.settings.lease_ns)}"
        text = f"{before.settings.me} stood still for {seconds(gap)} ({lease}): no event was handled meanwhile"
        draft.add(moment, Kind.INPUT, text, anchor="froze", subjects=(node(before.settings.me),))
    if after.phase is Phase.GONE and before.phase is not Phase.GONE and 0 < after.leased_until <= moment.at:
        causes_holding.lapsed(draft, moment)
    if isinstance(event, StopRequested):
        draft.anchors["stop"] = input_node(draft, moment)
    if before.pings is not after.pings:
        _pings(draft, moment)
    if before.peer is not after.peer and before.peer is not None and after.peer is not None:
        _peer(draft, moment, before.peer, after.peer)
    if before.giving_up is not after.giving_up or before.give_up_at != after.give_up_at:
        causes_holding.giving_up(draft, moment)
    if after.failback_due and not before.failback_due and "mine" in draft.anchors:
        draft.anchors["failback"] = draft.anchors["mine"]
    if before.handover is not after.handover:
        causes_holding.handover(draft, moment)
    if before.phase is not after.phase:
        causes_holding.phase(draft, moment)
    if before.mine is not after.mine:
        causes_holding.mine(draft, moment)
    for action in moment.actions:
        if isinstance(action, FenceNode):
            text = f"{action.node} is to be reset before its resources are taken (action {action.id})"
            draft.add(moment, Kind.ACTION, text, causes=draft.anchor("fence", "peer"), anchor="fence")
    if before.fence_action and isinstance(event, ActionFinished) and event.action == before.fence_action:
        draft.anchors["fence"] = input_node(draft, moment)


def _started(draft: Draft, moment: Moment, event: DaemonStarted) -> None:
    me = moment.after.settings.me
    end = draft.anchors.get("end")
    last = draft.last
    draft.anchors.clear()
    if end is None and last is not None:
        quiet = seconds(max(0, moment.wall_ns - last.wall_ns))
        text = f"the life before ended without a word {quiet} before: killed, or the machine lost power"
        end = draft.add(last._replace(reason=""), Kind.GAP, text, subjects=(node(me),))
    same = "the machine had not booted since the last life" if event.same_boot else "the machine had just booted"
    text = f"hafsm {event.version} started on {me}, generation {event.generation}; {same}"
    start = draft.add(moment, Kind.INPUT, text, causes=(end,), subjects=(node(me),), anchor="start")
    for name in ("mine", "phase"):
        draft.anchors[name] = start


def _pings(draft: Draft, moment: Moment) -> None:
    for index, (old, new) in enumerate(zip(moment.before.pings, moment.after.pings, strict=True)):
        if old.alive == new.alive:
            continue
        subjects = (Subject(topic=Topic.PING, name=new.name),)
        if new.alive:
            text = f"ping node {new.name} {'answers again' if old.heard_at else 'answered for the first time'}"
            kind, evidence = Kind.INPUT, None
        else:
            deadping = seconds(moment.before.settings.deadping_ns)
            text = f"ping node {new.name} did not answer for {seconds(moment.at - old.heard_at)} (deadping {deadping})"
            kind, evidence = Kind.SILENCE, draft.watch.ping_silent(moment, index)
        draft.add(moment, kind, text, subjects=subjects, evidence=evidence, anchor=f"ping {index}")


def _peer(draft: Draft, moment: Moment, old: Peer, new: Peer) -> None:
    subjects = (node(new.name),)
    event = moment.event
    if _has_died(old, new):
        if new.farewell and not old.farewell:
            came = input_node(draft, moment)
            draft.add(
                moment, Kind.DECISION, f"{new.name} is gone: it said so itself",
                causes=(came,), subjects=subjects, anchor="peer",
            )  # fmt: skip
        else:
            _peer_silent(draft, moment, old)
    elif new.generation != old.generation or (old.state is NodeState.DEAD and new.state is NodeState.INIT):
        came = input_node(draft, moment)
        if new.generation == old.generation:
            text = f"{new.name} is heard again in the same life: the partition is over"
        elif old.generation:
            text = f"{new.name} began a new life (generation {old.generation} → {new.generation})"
        else:
            text = f"{new.name} was heard for the first time"
        draft.add(
            moment, Kind.DECISION, text, causes=(came, draft.anchors.get("peer")), subjects=subjects, anchor="peer"
        )
    elif new.state is not old.state:
        text = f"{new.name} is {new.state.value} now"
        draft.add(
            moment, Kind.DECISION, text, causes=(input_node(draft, moment),), subjects=subjects, anchor="peer report",
            minor=True,
        )  # fmt: skip
    if new.holds is not old.holds and isinstance(event, MessageReceived):
        draft.anchors["peer report"] = input_node(draft, moment)
        _peer_holds(draft, moment, old, new)
    if new.pings != old.pings and isinstance(event, MessageReceived):
        draft.anchors["peer pings"] = input_node(draft, moment)
    if new.links is not old.links and new.state is not NodeState.DEAD:
        _links(draft, moment, old, new)


def _peer_holds(draft: Draft, moment: Moment, old: Peer, new: Peer) -> None:
    state = moment.after
    for which, verb in ((new.holds.minus(old.holds), "holds"), (old.holds.minus(new.holds), "does not hold")):
        groups = [i for i in range(len(state.settings.groups)) if which.covers(group_set(state, i))]
        vips = tuple(subject for index in groups for subject in vips_of(state.settings, index))
        if which is not Holding.NONE and vips:
            names = ", ".join(subject.name for subject in vips)
            causes = (input_node(draft, moment), *draft.anchor("handover", "mine"))
            draft.add(moment, Kind.DECISION, f"{new.name} {verb} {names} now", causes=causes, subjects=vips)


def _peer_silent(draft: Draft, moment: Moment, old: Peer) -> None:
    state = moment.before
    links = " or ".join(state.settings.links)
    if old.heard_at:
        text = f"no heartbeat of {old.name} came on {links} for {seconds(moment.at - old.heard_at)}"
        limit = f"deadtime {seconds(old.deadtime_ns)}"
    else:
        text = f"{old.name} was never heard since this director started {seconds(moment.at - state.started_at)} before"
        same = state.same_boot
        limit = f"{'deadtime' if same else 'initdead'} "
        limit += seconds(state.settings.deadtime_ns if same else state.settings.initdead_ns)
    causes: list[int | None] = []
    for link, arrivals in enumerate(draft.watch.beats):
        if arrivals:
            last = arrivals[-1]
            name = state.settings.links[link]
            heard = moment._replace(seq=last.seq, at=last.at, wall_ns=last.wall_ns, reason="")
            causes.append(
                draft.add(heard, Kind.INPUT, f"last heartbeat of {old.name} on {name}", subjects=_link_subject(name))
            )
    silence = draft.add(
        moment, Kind.SILENCE, f"{text} ({limit})",
        causes=(*causes, *draft.anchor("link trouble")), evidence=draft.watch.peer_silent(moment),
    )  # fmt: skip
    draft.add(
        moment, Kind.DECISION, f"{old.name} counts as dead", causes=(silence,), subjects=(node(old.name),),
        anchor="peer",
    )  # fmt: skip


def _link_subject(name: str) -> tuple[Subject, ...]:
    return (Subject(topic=Topic.LINK, name=name),)


def _links(draft: Draft, moment: Moment, old: Peer, new: Peer) -> None:
    for index, (was, now) in enumerate(zip(old.links, new.links, strict=True)):
        if was.up == now.up:
            continue
        name = moment.before.settings.links[index]
        if not now.up:
            text = f"no heartbeat of {new.name} came on {name} for {seconds(moment.at - was.heard_at)}, on another did"
            evidence = draft.watch.link_silent(moment, index)
            draft.add(
                moment, Kind.SILENCE, text, subjects=_link_subject(name), evidence=evidence, anchor=f"link {name}"
            )
        elif was.heard_at:
            draft.add(
                moment, Kind.INPUT, f"heartbeats of {new.name} come on {name} again", subjects=_link_subject(name),
                anchor=f"link {name}",
            )  # fmt: skip


def _has_died(old: Peer, new: Peer) -> bool:
    return new.state is NodeState.DEAD and old.state is not NodeState.DEAD
