"""Handing a set of groups from one director to the other, and telling the peer what is held.

Source: heartbeat 3 standby handshake (`ask_resources` me, other, done) and `resource` messages. What is done better
here: a peer that agrees and then does nothing does not keep the set.
"""

from __future__ import annotations

from hafsm.core.events import MessageReceived, StandbyRequested, TakeoverRequested
from hafsm.core.machines import HANDOVER, Handover, NodeState, Phase
from hafsm.core.settings import SECOND
from hafsm.core.state import REPORTS_KEPT, Holding, Lending, both_stable, reports_stable, warm
from hafsm.core.turn import Turn, seconds

ANSWER_LIMIT_NS = 10 * SECOND
"""heartbeat's timer for the answer to `me`."""
WARM_LIMIT_NS = 5 * SECOND
"""How long an offer waits for the first checks to end; the giver's patience is `ANSWER_LIMIT_NS`, heartbeat's too."""
STOP_HANDOVER_NS = 10 * SECOND
"""A daemon that ends waits no longer than this for the other one to take what it agreed to."""
_LEND = ("lend", "1")
"""A field of our own, which heartbeat ignores: see `Lending`."""
PARTNER_LIMIT_NS = 120 * SECOND
"""How long the other side may take to stop or start its part; heartbeat waits an hour."""


def peers_terms(event: MessageReceived) -> Holding:
    """A `rsc_hold` of the peer in this node's terms; an unknown word counts as none (heartbeat does the same)."""
    try:
        return Holding(event.hold).mirror()
    except ValueError:
        return Holding.NONE


def ask(turn: Turn, what: Holding, why: str) -> bool:
    """Offer a set to the peer; False if that cannot be now."""
    state = turn.state
    what = what.both(state.mine)
    if what is Holding.NONE:
        return False
    after = HANDOVER.fire(state.handover, "ask", both_stable(state))
    if after is state.handover:
        return False
    report(turn)  # the peer accepts an offer only from a node that it knows to be stable
    state.handover = after
    state.handover_set = what
    state.handover_deadline = state.now + ANSWER_LIMIT_NS
    state.handover_after = turn.peer.sequence
    turn.say(f"{why}: offering {what.value} resources to {turn.peer.name}")
    turn.send("ask_resources", (("rsc_hold", what.value), ("info", "me"), *([_LEND] if turn.peer.behaviour else [])))
    turn.moved = True
    return True


def asked(turn: Turn, event: MessageReceived) -> None:
    """Fold `ask_resources`."""
    state = turn.state
    if event.info != "me" and event.sequence <= state.handover_after:
        return
    match event.info:
        case "me":
            what = peers_terms(event)
            if state.stop_reason and state.handover is Handover.ASKED:
                state.stop_deadline = state.now  # both end, and neither will take anything
                turn.moved = True
            if state.handover is Handover.OFFERED and state.handover_set is what:
                if not state.answer_at:
                    answer(turn, "other")
                return
            after = HANDOVER.fire(state.handover, "peer_me", both_stable(state))
            if after is state.handover or what is Holding.NONE:
                turn.say(f"{event.node} offers {what.value} resources; not while either side is in flux")
                return
            state.handover = after
            state.handover_set = what
            state.handover_deadline = state.now + PARTNER_LIMIT_NS
            state.handover_after = event.sequence
            state.lending = Lending.AGREED if event.lend else Lending.NO
            turn.say(f"{event.node} gives {what.value} resources to this node")
            state.answer_at = state.now + WARM_LIMIT_NS
            answer_when_warm(turn)
        case "other":
            after = HANDOVER.fire(state.handover, "peer_other")
            if after is state.handover:
                return
            state.handover = after
            state.handover_deadline = 0
            state.lending = Lending.AGREED if event.lend else Lending.NO
            if state.stop_reason:
                state.stop_deadline = state.now + STOP_HANDOVER_NS
            state.mine = state.mine.minus(state.handover_set)
            turn.report_info = "standby"
            how = "lending them until it has them" if event.lend else "releasing them"
            turn.say(f"{event.node} takes {state.handover_set.value} resources: {how}")
        case "done":
            if state.handover is Handover.OFFERED:
                state.handover = HANDOVER.fire(state.handover, "peer_done")
                state.handover_deadline = 0
                state.mine = state.mine.plus(state.handover_set)
                turn.change_peer(
                    holds=turn.peer.holds.minus(state.handover_set),
                    report_sequence=max(turn.peer.report_sequence, event.sequence),
                )
                turn.say(f"{event.node} has released {state.handover_set.value} resources: starting them")
            elif state.handover is Handover.RELEASED:
                turn.change_peer(report_sequence=max(turn.peer.report_sequence, event.sequence))
                ends(turn, "peer_done")
    turn.moved = True


def answer_when_warm(turn: Turn) -> None:
    """Agree to an offer once every real server was checked: a node that has just started would take a VIP with an empty
    table."""
    state = turn.state
    if not state.answer_at or state.handover is not Handover.OFFERED:
        return
    if warm(state, state.handover_set) or state.now >= state.answer_at:
        state.answer_at = 0
        answer(turn, "other")


def answer(turn: Turn, info: str) -> None:
    """`rsc_hold` is always in the terms of the node that goes standby."""
    state = turn.state
    giver_here = state.handover in (Handover.ASKED, Handover.RELEASING, Handover.RELEASED)
    hold = state.handover_set if giver_here else state.handover_set.mirror()
    lend = [] if state.lending is Lending.NO else [_LEND]
    turn.send("ask_resources", (("rsc_hold", hold.value), ("info", info), *lend))


def ends(turn: Turn, trigger: str) -> None:
    state = turn.state
    after = HANDOVER.fire(state.handover, trigger)
    if after is state.handover:
        return
    if trigger in ("peer_done", "peer_holds"):
        turn.say(f"{turn.peer.name} has {state.handover_set.value} resources now")
        turn.change_peer(holds=turn.peer.holds.plus(state.handover_set))
    state.handover = after
    state.handover_set = Holding.NONE
    state.handover_deadline = 0
    state.lending = Lending.NO
    state.answer_at = 0
    turn.moved = True


def cancel(turn: Turn) -> None:
    """The other side is gone, or this one leaves: what was released for it is this node's again, unless it ends."""
    state = turn.state
    if state.handover in (Handover.RELEASING, Handover.RELEASED) and not state.stop_reason:
        state.mine = state.mine.plus(state.handover_set)
    if turn.state.handover is not Handover.IDLE:
        turn.say(f"the hand-over of {turn.state.handover_set.value} resources is off")
    ends(turn, "cancel")


def overdue(turn: Turn) -> None:
    """The other side did not do its part in time."""
    state = turn.state
    what = state.handover_set
    name = turn.peer.name
    match state.handover:
        case Handover.ASKED:
            state.failback_again_at = state.now + ANSWER_LIMIT_NS
            turn.say(f"{name} did not answer for {seconds(ANSWER_LIMIT_NS)}: keeping {what.value} resources")
        case Handover.RELEASED:
            turn.say(f"{name} did not start {what.value} resources for {seconds(PARTNER_LIMIT_NS)}: taking them back")
            state.mine = state.mine.plus(what)
        case _:
            turn.say(f"{name} did not release {what.value} resources for {seconds(PARTNER_LIMIT_NS)}: forgotten")
    ends(turn, "overdue")


def report(turn: Turn) -> None:
    """Tell the peer what is held whenever that changed or it asked (heartbeat's `resource`)."""
    state = turn.state
    if state.peer is None or state.phase in (Phase.WAITING, Phase.STARTING, Phase.GONE):
        return
    stable = reports_stable(state)
    if not turn.report_now and state.reported is state.mine and state.reported_stable == stable:
        return
    fields = [("rsc_hold", state.mine.value), ("rtype", "full"), ("isstable", str(int(stable)))]
    if turn.report_info:
        fields.append(("info", turn.report_info))
    turn.send("resource", tuple(fields))
    state.reports = (*state.reports[1 - REPORTS_KEPT :], state.sequence)
    turn.report_now = False
    turn.report_info = ""
    state.reported = state.mine
    state.reported_stable = stable


def requested(turn: Turn, event: StandbyRequested) -> None:
    """heartbeat's `hb_standby`: refused, with the reason, while either side is in flux."""
    what = Holding(event.hold).both(turn.state.mine)
    if what is Holding.NONE:
        turn.say(f"standby {event.hold} asked by {event.by}: this director holds none of them")
    elif not ask(turn, what, f"standby {event.hold} asked by {event.by}"):
        turn.say(f"standby {event.hold} asked by {event.by}: refused, {unready(turn)}")


def takeover_requested(turn: Turn, event: TakeoverRequested) -> None:
    """heartbeat's `hb_takeover`: the peer is asked to go standby; what it does with that is its decision."""
    wanted = Holding(event.hold).minus(turn.state.mine)
    if wanted is Holding.NONE:
        turn.say(f"takeover {event.hold} asked by {event.by}: this director holds them already")
    elif not both_stable(turn.state):
        turn.say(f"takeover {event.hold} asked by {event.by}: refused, {unready(turn)}")
    else:
        turn.say(f"takeover {event.hold} asked by {event.by}: asking {turn.peer.name} for {wanted.value} resources")
        turn.send("hb_takeover", (("rsc_hold", wanted.value),))


def unready(turn: Turn) -> str:
    """Why no hand-over can begin now."""
    peer = turn.state.peer
    if peer is None or peer.state is NodeState.DEAD:
        return "there is no other director to hand over to or from"
    if turn.state.handover is not Handover.IDLE:
        return "another hand-over is under way"
    return f"{turn.state.settings.me if peer.stable else peer.name} is not stable"
