"""Who holds which set of groups: joining, take-over, hand-over, failback, a healed partition, leaving.

Sources: heartbeat 3 resource hand-over in haresources mode. What is done better here: two directors that start together
do not wait 10 s; a joining node never waits for ever, and asks a hafsm again and again before it takes what that may
hold; a healed partition is settled at once in favour of the configured owner, so the VIP is never without one.
"""

from __future__ import annotations

from hafsm.core import alerts, groups, standby
from hafsm.core.actions import Exit, RemoveAddress
from hafsm.core.events import MessageReceived
from hafsm.core.machines import HANDOVER, NODE, PHASE, GroupState, Handover, NodeState, Phase
from hafsm.core.membership import answer_nodes, fence, needs_fencing, owes_report, send_status
from hafsm.core.settings import SECOND, AutoFailback
from hafsm.core.state import (
    Holding,
    Lending,
    State,
    both_stable,
    group_set,
    groups_settled,
    has_groups,
    ipvs_unloaded,
)
from hafsm.core.turn import Turn, seconds

NODES_AGAIN_NS = SECOND
"""heartbeat repeats `reqnodes` every second."""
ANSWER_LIMIT_NS = 10 * SECOND
"""heartbeat's timer for a stable answer when joining. Beside a living hafsm that has not said at all what it holds it
is deadtime if that is longer: a network that loses many answers is no reason to hold a VIP twice."""
FAILBACK_AGAIN_NS = SECOND
FAILED_HOLD_NS = 300 * SECOND
"""A group that would not start is offered to the peer at most this often, so that it does not bounce."""
STOP_EXTRA_NS = 30 * SECOND
"""Beyond the scripts' own deadline, before a stopping daemon gives up on its groups."""
STOP_ANSWER_NS = 2 * SECOND
"""A daemon that ends offers its groups first, and goes on when the other hafsm has not answered by then."""
HOLDING = "holding"
"""`info` of the report with which a taker says that all it borrows serves there."""


# ---- joining


def join(turn: Turn) -> None:
    """While waiting: ask the peer for the node list, and start once everybody is known."""
    state = turn.state
    if state.phase is not Phase.WAITING or not state.ipvs.known:
        return
    peer = state.peer
    if peer is not None and peer.state is not NodeState.DEAD:
        if not peer.heard_at:
            return
        if not peer.nodes_answered:
            if not state.nodes_asked_at:
                state.nodes_asked_at = state.now
            if state.now < state.nodes_asked_at + state.settings.deadtime_ns:
                if state.now >= state.nodes_ask_again_at:
                    turn.send("reqnodes", dest=peer.name)
                    state.nodes_ask_again_at = state.now + NODES_AGAIN_NS
                return
            turn.say(f"{peer.name} did not answer reqnodes for {seconds(state.settings.deadtime_ns)}: going on")
    state.phase = PHASE.fire(state.phase, "nodes_known")
    state.joined_at = state.now
    send_status(turn)
    turn.send("starting")
    turn.moved = True
    if peer is not None and peer.state is not NodeState.DEAD:
        if peer.starting:
            # It said `starting` while this node was not ready to answer.
            _peer_starting(turn)
    elif not state.fence_action and not state.fence_deadline:
        take_over(turn, "no other director lives" if peer is not None else "this is the only director")


def _peer_starting(turn: Turn) -> None:
    """A heartbeat 3 says it once, when it holds nothing. It has ignored this node's if it was not active yet, and then
    sends no report: both would wait for 10 s."""
    state = turn.state
    peer = turn.change_peer(stable=False, starting=True)
    state.phase = PHASE.fire(state.phase, "peer_starting")
    if state.phase is not Phase.WAITING:
        turn.report_now = True
    turn.moved = True
    if state.phase is Phase.RECEIVED and not peer.behaviour:
        _become_stable(turn, "both_fresh", f"{peer.name} starts as well and holds nothing")


def _become_stable(turn: Turn, trigger: str, why: str) -> None:
    """End of the join: take the local set unless the peer holds it.

    Beside a stable peer also its own set, if it does not hold that: this node lost it in its last life, and heartbeat 3
    only logs that nobody owns it.
    """
    state = turn.state
    before = state.phase
    state.phase = PHASE.fire(before, trigger)
    if state.phase is before:
        return
    state.remind_at = 0
    theirs = state.peer.holds if state.peer is not None else Holding.NONE
    taken = (Holding.ALL if trigger == "peer_stable" else Holding.LOCAL).minus(theirs)
    state.mine = state.mine.plus(taken)
    if taken.covers(Holding.FOREIGN):
        state.failback_due = state.settings.auto_failback is not AutoFailback.OFF
    if taken is Holding.NONE:
        turn.say(f"{why}; {turn.peer.name} holds the local resources")
    else:
        turn.say(f"{why}; taking {_the(taken)} resources")
    turn.moved = True


def answer_overdue(turn: Turn) -> None:
    """A join without a stable answer ends all the same."""
    due = join_deadline(turn.state)
    if due and turn.state.now >= due:
        _become_stable(turn, "answer_overdue", f"no stable answer for {seconds(due - turn.state.joined_at)}")


def join_deadline(state: State) -> int:
    """When a join ends without an answer; 0: not joining, or waiting for the peer to be fenced."""
    if state.phase not in (Phase.STARTING, Phase.RECEIVED) or state.fence_action or state.fence_deadline:
        return 0
    unknown = state.peer is not None and owes_report(state.peer)
    return state.joined_at + (max(ANSWER_LIMIT_NS, state.settings.deadtime_ns) if unknown else ANSWER_LIMIT_NS)


# ---- messages


def message(turn: Turn, event: MessageReceived) -> None:
    """Fold a new message of the peer's present life."""
    match event.kind:
        case "reqnodes":
            answer_nodes(turn)
        case "repnodes":
            turn.change_peer(nodes_answered=True)
            turn.moved = True
        case "starting" if event.sequence > turn.peer.report_sequence:
            _peer_starting(turn)
        case "starting":  # late: it has said what it holds since, and asks all the same
            turn.report_now = turn.state.phase is not Phase.WAITING
        case "resource":
            _reported(turn, event)
        case "ask_resources":
            standby.asked(turn, event)
        case "hb_takeover":
            standby.ask(turn, standby.peers_terms(event), f"{event.node} wants to take over")


def _reported(turn: Turn, event: MessageReceived) -> None:
    state = turn.state
    peer = turn.peer
    if event.sequence < peer.report_sequence:
        return
    hold = standby.peers_terms(event)
    if not event.full and hold is not Holding.NONE:
        hold = peer.holds.plus(hold)
    stable = peer.stable if event.stable is None else event.stable
    starting = peer.starting and not stable
    was_stable = peer.stable
    node = peer.state
    if stable:
        node = NODE.fire(node, "joined")
    node = NODE.fire(node, "acquired" if has_groups(state, hold) else "released")
    turn.change_peer(holds=hold, stable=stable, starting=starting, report_sequence=event.sequence, state=node)
    turn.moved = True
    if event.stable and not was_stable:
        turn.report_now = True
        turn.count_pings = True
    if state.phase in (Phase.STARTING, Phase.RECEIVED):
        if stable:
            _become_stable(turn, "peer_stable", f"{peer.name} is stable and holds {peer_words(hold)}")
        elif starting and hold is Holding.NONE:
            _become_stable(turn, "both_fresh", f"{peer.name} starts as well and holds nothing")
        else:
            state.phase = PHASE.fire(state.phase, "peer_reported")
        return
    if event.info == "shutdown" and state.stop_reason and state.handover is Handover.ASKED:
        state.stop_deadline = state.now  # both end: it will take nothing
    if event.info == HOLDING and state.lending is Lending.AGREED and state.handover is Handover.RELEASED:
        state.lending = Lending.HELD
        turn.say(f"{event.node} has the VIPs of {state.handover_set.value} resources")
    if state.handover is Handover.RELEASED and stable and hold.covers(state.handover_set):
        standby.ends(turn, "peer_holds")
    if stable:
        _settle_conflict(turn)
        if turn.peer.healed:
            turn.change_peer(healed=False)
            groups.announce(turn)


def _the(hold: Holding) -> str:
    """`the local`, `all`: for a sentence."""
    return "all" if hold is Holding.ALL else f"the {hold.value}"


def peer_words(hold: Holding) -> str:
    """What the peer holds, for a sentence of this node: whose resources they are."""
    return {
        Holding.NONE: "nothing",
        Holding.LOCAL: "this node's resources",
        Holding.FOREIGN: "its own resources",
        Holding.ALL: "all resources",
    }[hold]


def _settle_conflict(turn: Turn) -> None:
    """Both hold a set: the preferred node keeps it (auto_failback on), else the first node of ha.cf keeps all."""
    state = turn.state
    peer = turn.peer
    overlap = state.mine.both(peer.holds)
    if overlap is Holding.NONE or state.phase is not Phase.STABLE:
        return
    if state.handover not in (Handover.IDLE, Handover.ASKED):
        return
    if state.handover is Handover.ASKED:  # nothing is released yet, and nobody else will say again that both hold it
        standby.cancel(turn)
    if state.settings.auto_failback is not AutoFailback.OFF:
        lost, rule = overlap.both(Holding.FOREIGN), "the preferred node keeps each set"
    else:
        first = state.settings.nodes[0] == state.settings.me
        lost, rule = (Holding.NONE if first else overlap), "the first node of ha.cf keeps them"
    kept = overlap.minus(lost)
    state.mine = state.mine.minus(lost)
    groups.let_go(turn, lost)
    if has_groups(state, lost):
        turn.say(f"both directors hold {lost.value} resources: releasing them, {rule}")
    if has_groups(state, kept):
        turn.say(f"both directors hold {kept.value} resources: keeping them, {rule}")
    turn.report_now = turn.report_now or kept is not Holding.NONE
    turn.moved = True


# ---- death


def peer_died(turn: Turn, sentence: str, *, released: bool) -> None:
    """The peer is dead: cancel what was agreed with it and take everything over, fencing it first if that is asked."""
    state = turn.state
    turn.say(sentence)
    standby.cancel(turn)
    state.giving_up = Holding.NONE
    state.give_up_at = 0
    if state.stop_reason:  # and the hand-over that it waited for is off: `progress` goes on with it
        return
    if not released and needs_fencing(turn):
        fence(turn)
        return
    take_over(turn, "")


def take_over(turn: Turn, why: str) -> None:
    """Hold every set from now on (a node that still waits does so when it has started)."""
    state = turn.state
    if state.phase is Phase.WAITING:
        return
    state.phase = PHASE.fire(state.phase, "alone")
    gained = Holding.ALL.minus(state.mine)
    state.mine = Holding.ALL
    if state.peer is not None:
        turn.change_peer(holds=Holding.NONE)
        state.failback_due = state.settings.auto_failback is not AutoFailback.OFF
    lead = f"{why}: " if why else ""
    turn.say(
        f"{lead}taking over {gained.value} resources" if gained is not Holding.NONE else f"{lead}nothing to take over"
    )
    turn.moved = True


def peer_renewed(turn: Turn) -> None:
    """The peer began a new life or came back: a new life holds nothing, whatever the last one held."""
    state = turn.state
    peer = turn.peer
    if state.fence_action or state.fence_deadline:
        state.fence_action = state.fence_deadline = 0
        turn.say("it lives: not fencing it any longer")
        state.joined_at = state.now
    standby.cancel(turn)
    if peer.healed or peer.holds is Holding.NONE:
        return
    if state.phase is Phase.STABLE and not state.stop_reason:
        take_over(turn, f"{peer.name} holds nothing any more")
    else:
        turn.change_peer(holds=Holding.NONE)


# ---- what follows from everything else; called until nothing moves


def progress(turn: Turn) -> None:
    """Take every step of a join, hand-over, failback or stop whose condition has come true."""
    state = turn.state
    join(turn)
    standby.answer_when_warm(turn)
    if state.handover is Handover.RELEASING and groups_settled(state):
        state.handover = HANDOVER.fire(state.handover, "stopped")
        state.handover_deadline = state.now + standby.PARTNER_LIMIT_NS
        standby.answer(turn, "done")
        turn.moved = True
    elif state.handover is Handover.TAKING and state.lending is Lending.AGREED and groups.holds_vips(turn):
        state.lending = Lending.HELD
        turn.report_now = True
        turn.report_info = HOLDING
        standby.report(turn)
        turn.moved = True
    elif state.handover is Handover.TAKING and groups_settled(state):
        standby.answer(turn, "done")
        standby.ends(turn, "started")
        if sees_fewer_pings(turn) and state.settings.auto_failback is not AutoFailback.OFF:
            state.failback_due = True  # it gave the set away for that; it gets it back when it sees as many
    _leave_if_free(turn)
    if not state.stop_reason:
        _adopt(turn)
        _offer_failed(turn)
        _failback(turn)
    _own_node(turn)
    if state.phase is Phase.LEAVING and groups_settled(state) and ipvs_unloaded(state):
        _gone(turn)


def _failback(turn: Turn) -> None:
    state = turn.state
    peer = state.peer
    if not state.mine.covers(Holding.FOREIGN):
        state.failback_due = False
    if not state.failback_due or peer is None or state.now < state.failback_again_at or not both_stable(state):
        return
    if sees_fewer_pings(turn):
        return  # ipfail would send it straight back
    state.failback_again_at = state.now + FAILBACK_AGAIN_NS
    standby.ask(turn, Holding.FOREIGN, f"auto_failback {state.settings.auto_failback.value}, {peer.name} is stable")


def _adopt(turn: Turn) -> None:
    """Both are stable and nobody holds a set: heartbeat only logs that. Its owner takes it, and heartbeat's is taken
    from here."""
    state = turn.state
    if not both_stable(state):
        return
    free = Holding.ALL.minus(state.mine).minus(turn.peer.holds)
    if turn.peer.behaviour:
        free = free.both(Holding.LOCAL)
    if free is Holding.NONE:
        return
    state.mine = state.mine.plus(free)
    if free.covers(Holding.FOREIGN):
        state.failback_due = state.settings.auto_failback is not AutoFailback.OFF
    turn.say(f"nobody holds {_the(free)} resources: taking them")
    turn.moved = True


def sees_fewer_pings(turn: Turn) -> bool:
    """The peer said how many ping nodes it sees, and they are fewer than here."""
    return 0 <= turn.peer.pings < sum(ping.alive for ping in turn.state.pings)


def _offer_failed(turn: Turn) -> None:
    """A group that does not start here may start there."""
    state = turn.state
    if state.failed_away_at and state.now < state.failed_away_at + FAILED_HOLD_NS:
        return
    for index, group in enumerate(state.groups):
        if group.state is GroupState.FAILED and both_stable(state):
            key = state.settings.groups[index].key
            if standby.ask(turn, group_set(state, index), f"group {key} does not start here"):
                state.failed_away_at = state.now
                return


def _own_node(turn: Turn) -> None:
    state = turn.state
    node = state.node
    if state.phase is Phase.STABLE:
        node = NODE.fire(node, "joined")
    state.node = NODE.fire(node, "acquired" if has_groups(state, state.mine) else "released")


# ---- leaving


def stop(turn: Turn, by: str) -> None:
    """Begin a graceful stop. What a living hafsm can take is handed over to it first, without a gap; asked a second
    time, nothing is waited for."""
    state = turn.state
    again = bool(state.stop_reason)
    state.stop_reason = by
    hafsm_beside = state.peer is not None and state.peer.behaviour and has_groups(state, state.mine)
    if not again and hafsm_beside and standby.ask(turn, state.mine, f"{by}: stopping"):
        state.stop_deadline = state.now + STOP_ANSWER_NS
        return
    _leave(turn)


def _leave_if_free(turn: Turn) -> None:
    """A stop that hands over first: go on when that has ended, has to be given up, or as soon as the VIPs are there."""
    state = turn.state
    if not state.stop_reason or state.phase in (Phase.LEAVING, Phase.GONE):
        return
    if state.lending is Lending.HELD:
        standby.ends(turn, "peer_holds")
    if state.handover is Handover.IDLE or state.now >= state.stop_deadline:
        _leave(turn)


def _leave(turn: Turn) -> None:
    """Release everything, then tell the peer."""
    state = turn.state
    before = state.phase
    state.phase = PHASE.fire(before, "stop")
    if state.phase is before:
        return
    alerts.stopping(turn)
    held = "" if state.mine is Holding.NONE else f", releasing {state.mine.value} resources"
    turn.say(f"{state.stop_reason}: stopping{held}")
    state.failback_due = False
    standby.cancel(turn)
    state.fence_action = state.fence_deadline = 0
    state.mine = Holding.NONE
    state.stop_deadline = state.now + state.settings.script_timeout_ns + STOP_EXTRA_NS
    turn.report_info = "shutdown"
    turn.report_now = before is not Phase.WAITING
    turn.moved = True


def stop_overdue(turn: Turn) -> None:
    """Groups that do not stop must not keep the VIP: drop the addresses and go."""
    state = turn.state
    if state.phase is not Phase.LEAVING:
        turn.moved = True
        return
    turn.say("the groups did not stop in time: removing the VIPs and ending all the same")
    for address in state.held:
        turn.do(RemoveAddress, address=address)
    state.held = ()
    _gone(turn)


def _gone(turn: Turn) -> None:
    state = turn.state
    state.phase = PHASE.fire(state.phase, "all_stopped")
    if state.peer is not None:
        turn.send("shutdone", (("st", "dead"),))
    state.node = NODE.fire(state.node, "goodbye")
    turn.say("everything is released")
    turn.do(Exit, reason=state.stop_reason)
