"""ipfail: the director that sees more ping nodes gets the groups; on a tie nothing moves.

Source: heartbeat 3 ipfail (messages num_ping_nodes, you_are_dead, abort_giveup; two keepalives before giving up). There
a tie sends foreign groups home with auto_failback, whoever moved them; here a group goes home only if it came for the
sake of ping nodes (`handover.progress`), so that what an operator sent away stays away.
"""

from __future__ import annotations

from hafsm.core.events import MessageReceived
from hafsm.core.machines import Handover, NodeState
from hafsm.core.settings import SECOND, AutoFailback
from hafsm.core.standby import ask
from hafsm.core.state import Holding, both_stable, has_groups
from hafsm.core.turn import Turn

CLIENT = (("from_id", "ipfail"), ("to_id", "ipfail"))
"""heartbeat hands a message with these fields to the peer's ipfail."""
FETCH_AFTER_NS = 5 * SECOND


def seen(turn: Turn) -> int:
    """Ping nodes that answer; a group counts as one."""
    return sum(ping.alive for ping in turn.state.pings)


def send_count(turn: Turn) -> None:
    """Tell the peer how many ping nodes are seen here."""
    state = turn.state
    peer = state.peer
    if not state.settings.ipfail or peer is None or peer.state is NodeState.DEAD:
        return
    turn.send("num_ping_nodes", (("num_ping", str(seen(turn))), *CLIENT), dest=peer.name)


def message(turn: Turn, event: MessageReceived) -> None:
    """Fold a message of the peer's ipfail."""
    if not turn.state.settings.ipfail:
        return
    match event.kind:
        case "num_ping_nodes":
            turn.change_peer(pings=event.count)
            turn.moved = True
            _compare(turn)
        case "you_are_dead":
            if turn.state.giving_up is Holding.NONE and has_groups(turn.state, turn.state.mine):
                send_count(turn)  # this verdict may be old: an equal count makes the peer take it back
            _plan(turn, Holding.ALL, f"{event.node} sees more ping nodes ({seen(turn)} here)")
        case "abort_giveup":
            _keep(turn, f"{event.node} sees as many ping nodes as this node")


def _compare(turn: Turn) -> None:
    peer = turn.peer
    here = seen(turn)
    if here > peer.pings:
        turn.send("you_are_dead", CLIENT, dest=peer.name)
    elif here < peer.pings:
        _plan(turn, Holding.ALL, f"{peer.name} sees {peer.pings} ping nodes, this node {here}")
    else:
        if _waits_for_its_own(turn):
            # heartbeat's `abort_giveup` would also stop the peer from sending home what it holds of this node's.
            send_count(turn)
        else:
            turn.send("abort_giveup", CLIENT, dest=peer.name)
        _keep(turn, f"both directors see {here} ping nodes")


def _waits_for_its_own(turn: Turn) -> bool:
    """The peer holds groups of this node, this node none of the peer's, and auto_failback brings them home."""
    state = turn.state
    return (
        state.settings.auto_failback is not AutoFailback.OFF
        and turn.peer.holds.covers(Holding.LOCAL)
        and has_groups(state, Holding.LOCAL)
        and not state.mine.covers(Holding.FOREIGN)
    )


def _keep(turn: Turn, why: str) -> None:
    """Take a give-up back."""
    if turn.state.giving_up is not Holding.NONE:
        turn.say(f"{why}: keeping everything")
        _forget(turn)


def _plan(turn: Turn, what: Holding, why: str) -> None:
    state = turn.state
    what = what.both(state.mine)
    if what is Holding.NONE:
        return
    state.giving_up = what
    state.give_up_at = state.now + 2 * state.settings.keepalive_ns
    turn.say(f"{why}: giving {what.value} resources away in two keepalives")


def _forget(turn: Turn) -> None:
    turn.state.giving_up = Holding.NONE
    turn.state.give_up_at = 0


def give_up(turn: Turn) -> None:
    """The delay is over: offer the groups, or compare again once both sides are stable."""
    state = turn.state
    if not both_stable(state):
        state.give_up_at = state.now + 2 * state.settings.keepalive_ns
        return
    what = state.giving_up
    _forget(turn)
    if ask(turn, what, f"ipfail, {seen(turn)} ping nodes answer here"):
        state.gave_for_pings = True


def fetch_home(turn: Turn) -> None:
    """What was given away for the sake of ping nodes is asked back when this node sees as many again.

    A hafsm peer sends it home by itself; heartbeat does so only if no `abort_giveup` crosses its decision. So the peer
    is given time first, and is then asked as an operator would (`hb_takeover`).
    """
    state = turn.state
    if not state.gave_for_pings or state.handover is not Handover.IDLE:
        return
    if state.mine.covers(Holding.LOCAL):
        state.gave_for_pings = False
        state.fetch_home_at = 0
        return
    ready = (
        state.settings.auto_failback is not AutoFailback.OFF
        and both_stable(state)
        and turn.peer.holds.covers(Holding.LOCAL)
        and 0 <= turn.peer.pings <= seen(turn)
    )
    if not ready:
        state.fetch_home_at = 0
    elif not state.fetch_home_at:
        state.fetch_home_at = state.now + FETCH_AFTER_NS
    elif state.now >= state.fetch_home_at:
        turn.say(f"{seen(turn)} ping nodes answer here again: asking {turn.peer.name} for local resources")
        turn.send("hb_takeover", (("rsc_hold", Holding.LOCAL.value),))
        state.fetch_home_at = state.now + FETCH_AFTER_NS
