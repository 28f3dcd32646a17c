"""Who is there: own status messages, the peer's, silence, return, lost messages asked for again, ping nodes.

Sources: heartbeat 3 reception rules (generation, sequence, retransmission, acknowledgement).
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from msgspec.structs import replace

from hafsm.core.actions import FenceNode, ResendMessages, SendPings
from hafsm.core.events import ActionFinished, HeartbeatReceived, MessageReceived, Outcome, PingAnswered
from hafsm.core.machines import NODE, Handover, NodeState, Phase
from hafsm.core.settings import MILLISECOND, SECOND
from hafsm.core.state import REPORTS_KEPT, LinkView, Peer, State, has_groups
from hafsm.core.turn import Turn, seconds

BEHAVIOUR = 1
"""What two hafsm directors do that heartbeat 3 does not, told in every heartbeat. 1: lend (make before break)."""
ASK_AGAIN_NS = 250 * MILLISECOND
"""heartbeat asks for a missing message every 250 ms."""
ASK_AT_ONCE = 10
"""Messages asked for again in one go; the oldest first."""
FORGET_GAP = 250
"""A larger gap is not asked for (heartbeat: "lost a lot of packets")."""
ACKNOWLEDGE_EVERY = 10
REMIND_NS = 30 * SECOND
"""Longer than any report takes, shorter than an operator's patience with two directors that hold the same VIP."""
REMIND_JOINING_NS = SECOND
"""Of a join, which the VIP may wait for."""
FENCE_LIMIT_NS = 60 * SECOND
FENCE_AGAIN_NS = 5 * SECOND
"""heartbeat tries fencing again after 5 s."""


def beat(turn: Turn) -> None:
    """Send the own status message and the pings, which are due."""
    state = turn.state
    send_status(turn)
    keepalive = state.settings.keepalive_ns
    state.beat_at += keepalive
    if state.beat_at <= state.now:
        state.beat_at = state.now + keepalive
    if state.pings:
        turn.do(SendPings)


def send_status(turn: Turn) -> None:
    """`init` once, `up` while joining, then `active`; every change is sent at once."""
    state = turn.state
    joining = "up" if state.beats else "init"
    status = joining if state.phase is Phase.WAITING else "active"
    state.beats += 1
    turn.send(
        "status",
        (
            ("st", status),
            ("dt", f"{state.settings.deadtime_ns // MILLISECOND:x}"),
            ("protocol", "1"),
            ("hj", f"{state.number:x}"),
            ("hv", f"{BEHAVIOUR:x}"),
        ),
    )


def heartbeat(turn: Turn, event: HeartbeatReceived) -> bool:
    """Fold a status message; True if the peer began a new life or came back."""
    peer = turn.peer
    if event.generation < peer.generation:
        return False
    links = _heard_on(turn, peer, event.link)
    renewed = False
    if event.generation > peer.generation:
        turn.change_peer(links=links)
        _new_life(turn, event.generation)
        renewed = True
        if event.status == "active" and turn.state.phase is Phase.STABLE:
            # Not a start: it has joined without this node, and both may hold the same.
            turn.change_peer(healed=True)
            ask_what_it_holds(turn)
    elif peer.farewell or peer.state is NodeState.DEAD:
        turn.change_peer(links=links)
        if peer.farewell or event.sequence <= peer.sequence:
            return False
        _healed(turn)
        renewed = True
    peer = turn.peer
    settings = turn.state.settings
    now = turn.state.now
    newest = event.sequence > peer.sequence
    accepted = _accept_sequence(
        turn,
        event.sequence,
        links,
        heard_at=now,
        behaviour=event.behaviour,
        status=event.status,
        deadtime_ns=event.deadtime_ns or settings.deadtime_ns,
    )
    if not accepted or not newest:
        return renewed
    if not peer.heard_at:
        turn.moved = True
        turn.say(f"heard {peer.name} for the first time (status {event.status})")
    elif not renewed and now - peer.heard_at > settings.warntime_ns:
        silence = now - peer.heard_at
        turn.say(f"late heartbeat from {peer.name}: {seconds(silence)} (warntime {seconds(settings.warntime_ns)})")
    return renewed


def _new_life(turn: Turn, generation: int) -> None:
    """The peer started (again): what its last life knew and held is void."""
    peer = turn.peer
    first = peer.generation == 0
    if not first:
        turn.say(f"{peer.name} started again (generation {peer.generation} → {generation})")
    turn.state.peer = Peer(
        name=peer.name,
        state=peer.state if first and peer.state is NodeState.INIT else NODE.fire(peer.state, "returned"),
        generation=generation,
        links=peer.links,
        deadtime_ns=turn.state.settings.deadtime_ns,
        holds=peer.holds,
        heard_at=0 if first else turn.state.now,
    )
    turn.moved = True


def _healed(turn: Turn) -> None:
    """Heard again in the same life; what it said meanwhile is past and is not asked for.

    `starting` makes it say what it holds, even if it never noticed the partition (it was cut in one direction only).
    """
    peer = turn.peer
    turn.say(f"{peer.name} is back after a partition, in the same life: both directors settle who keeps what")
    turn.change_peer(
        state=NODE.fire(peer.state, "healed"),
        stable=False,
        starting=False,
        healed=True,
        sequence=0,
        missing=(),
        heard_at=turn.state.now,
    )
    if turn.state.phase is Phase.STABLE:
        ask_what_it_holds(turn)
    turn.report_now = True
    turn.moved = True


def ask_what_it_holds(turn: Turn, again_ns: int = REMIND_NS) -> None:
    """`starting`: the peer answers with its report, and takes this node's as news."""
    turn.send("starting")
    turn.report_now = True
    turn.state.remind_at = turn.state.now + again_ns


def owes_report(peer: Peer) -> bool:
    """A hafsm that has not said in this life what it holds; it does whenever it is asked."""
    return peer.behaviour > 0 and not peer.report_sequence


def remind(turn: Turn) -> None:
    """A living peer that has not called itself stable for long is asked again: a report must not be lost for ever.

    A join asks a hafsm peer every second. A heartbeat 3 takes a second `starting` for another start.
    """
    state = turn.state
    peer = state.peer
    pause = 0
    if peer is not None and peer.state is not NodeState.DEAD and not peer.stable and not peer.farewell:
        if state.phase is Phase.STABLE and state.handover is Handover.IDLE:
            pause = REMIND_NS
        elif state.phase in (Phase.STARTING, Phase.RECEIVED) and owes_report(peer):
            pause = REMIND_JOINING_NS
    if not pause:
        state.remind_at = 0
    elif not state.remind_at:
        state.remind_at = state.now + pause
    elif state.now >= state.remind_at:
        turn.say(f"{turn.peer.name} has not said what it holds for {seconds(pause)}: asking again")
        ask_what_it_holds(turn, pause)


def _heard_on(turn: Turn, peer: Peer, link: int) -> tuple[LinkView, ...]:
    """The links after a copy came on this one: every authentic copy shows that its link works."""
    links = peer.links
    if link >= len(links):
        return links
    view = links[link]
    if not view.up and view.heard_at:
        turn.say(f"link {turn.state.settings.links[link]} to {peer.name} works again")
    heard = LinkView(heard_at=turn.state.now, up=True)
    return (*links[:link], heard, *links[link + 1 :]) if len(links) > 1 else (heard,)


class News(Enum):
    """What a message's generation and number say."""

    STALE = "stale"
    NEW = "new"
    HEALED = "healed"
    """New, and from a peer that counted as dead in the same life."""


def message(turn: Turn, event: MessageReceived) -> News:
    """Account for a message's number."""
    peer = turn.peer
    if event.generation != peer.generation or peer.farewell:
        return News.STALE
    healed = peer.state is NodeState.DEAD
    if healed and event.sequence <= peer.sequence:
        return News.STALE
    links = _heard_on(turn, peer, event.link)
    if healed:
        turn.change_peer(links=links)
        _healed(turn)
    elif event.sequence == 0:
        turn.change_peer(links=links)
        return News.NEW
    # Whoever says something new is alive, whatever became of its status messages. What stands outside the sequence
    # could have been recorded, and does not count.
    heard = {"heard_at": turn.state.now} if turn.peer.heard_at else {}
    if not _accept_sequence(turn, event.sequence, links, **heard):
        return News.STALE
    return News.HEALED if healed else News.NEW


def _accept_sequence(turn: Turn, sequence: int, links: tuple[LinkView, ...], **news: Any) -> bool:
    """True for a number not seen before; notes gaps, acknowledges every tenth message in order.

    The peer gets these links, and `news` with the newest number: what comes late says nothing about now.
    """
    peer = turn.peer
    last = peer.sequence
    if sequence <= last:
        turn.state.peer = replace(peer, links=links)
        if sequence not in peer.missing:
            return False
        _found(turn, sequence)
        return True
    missing = peer.missing
    ask_again_at = peer.ask_again_at
    if last and sequence > last + 1:
        if sequence - last > FORGET_GAP:
            turn.say(f"lost {sequence - last - 1} messages of {peer.name}: too many to ask for again")
            missing = ()
        else:
            missing = (*missing, *range(last + 1, sequence))
            ask_again_at = ask_again_at if peer.missing else turn.state.now + ASK_AGAIN_NS
    after = replace(peer, sequence=sequence, missing=missing, ask_again_at=ask_again_at, links=links, **news)
    turn.state.peer = after
    _acknowledge(turn, after, in_order(peer) if last else sequence - 1)
    return True


def in_order(peer: Peer) -> int:
    """The last number before which nothing is missing."""
    return peer.missing[0] - 1 if peer.missing else peer.sequence


def _found(turn: Turn, sequence: int) -> None:
    """A missing message came, or never will."""
    before = in_order(turn.peer)
    _acknowledge(turn, turn.change_peer(missing=tuple(s for s in turn.peer.missing if s != sequence)), before)


def _acknowledge(turn: Turn, peer: Peer, before: int) -> None:
    """Confirm what is in order whenever it passes a tenth message.

    Not only when that very message comes in order: on a link that loses messages that is rare, and heartbeat stops all
    its clients when 250 messages are not confirmed.
    """
    reached = in_order(peer)
    reached -= reached % ACKNOWLEDGE_EVERY
    if reached > before:
        turn.send("NS_ackmsg", (("ackseq", f"{reached:x}"),), dest=peer.name)


def ask_for_missing(turn: Turn) -> None:
    """Ask again for messages that did not come, oldest first."""
    peer = turn.peer
    for sequence in peer.missing[:ASK_AT_ONCE]:
        number = str(sequence)
        turn.send("NS_rexmit", (("firstseq", number), ("lastseq", number)), dest=peer.name)
    turn.change_peer(ask_again_at=turn.state.now + ASK_AGAIN_NS)


def resend(turn: Turn, event: MessageReceived) -> None:
    """The peer asks for messages again; heartbeat resends at most 50 for one request.

    A fresh report follows an old one: heartbeat takes a report that comes again for news, whatever it has heard since,
    and would stay in transition for ever.
    """
    first = max(1, event.first)
    last = min(event.last, turn.state.sequence, first + 49)
    if first <= last:
        turn.do(ResendMessages, first=first, last=last, dest=event.node)
        reports = turn.state.reports
        forgotten = len(reports) == REPORTS_KEPT and first < reports[0]
        if forgotten or any(first <= number <= last for number in reports[:-1]):
            turn.report_now = True


def refused(turn: Turn, event: MessageReceived) -> None:
    """The peer has a message no longer: stop asking."""
    if event.first in turn.peer.missing:
        _found(turn, event.first)


def answer_nodes(turn: Turn) -> None:
    """`repnodes` with exactly the names of ha.cf: a name the other side does not know would be added there."""
    names = " ".join(turn.state.settings.nodes) + " "
    turn.send("repnodes", (("nodelist", names), ("delnodelist", " ")), dest=turn.peer.name)


def silence_deadline(state: State) -> int:
    """When the peer counts as dead if nothing more is heard; 0: it is dead already or there is none."""
    peer = state.peer
    if peer is None or peer.state is NodeState.DEAD:
        return 0
    if peer.heard_at:
        return peer.heard_at + peer.deadtime_ns
    settings = state.settings
    return state.started_at + (settings.deadtime_ns if state.same_boot else settings.initdead_ns)


def silence(turn: Turn) -> str:
    """Declare the peer dead, whose time is over; the sentence."""
    state = turn.state
    peer = turn.peer
    links = " or ".join(state.settings.links)
    if peer.heard_at:
        limit = f"deadtime {seconds(peer.deadtime_ns)}"
        since = state.now - peer.heard_at
    else:
        limit = (
            f"deadtime {seconds(state.settings.deadtime_ns)}, no boot since the last life"
            if state.same_boot
            else (f"initdead {seconds(state.settings.initdead_ns)}")
        )
        since = state.now - state.started_at
    turn.change_peer(
        state=NODE.fire(peer.state, "silent"),
        stable=False,
        starting=False,
        missing=(),
        links=tuple(replace(link, up=False) for link in peer.links),
    )
    turn.moved = True
    return f"{peer.name} is dead: nothing on {links} for {seconds(since)} ({limit})"


def farewell(turn: Turn) -> None:
    """The peer has released everything and ends: dead until a newer generation is heard."""
    peer = turn.peer
    turn.change_peer(state=NODE.fire(peer.state, "goodbye"), farewell=True, stable=False, starting=False, missing=())
    turn.moved = True


def watch_links(turn: Turn) -> None:
    """A link that is silent while another still carries the peer's heartbeats is worth a sentence."""
    peer = turn.peer
    if peer.state is NodeState.DEAD:
        return
    for index, link in enumerate(peer.links):
        if link.up and turn.state.now - link.heard_at >= peer.deadtime_ns:
            name = turn.state.settings.links[index]
            turn.say(f"link {name} to {peer.name} is dead: nothing for {seconds(turn.state.now - link.heard_at)}")
            links = (*peer.links[:index], replace(link, up=False), *peer.links[index + 1 :])
            peer = turn.change_peer(links=links)


def needs_fencing(turn: Turn) -> bool:
    """A silent peer that may still hold something must be reset first, if there is a device for it."""
    peer = turn.peer
    return turn.state.settings.fencing and (not peer.generation or has_groups(turn.state, peer.holds))


def fence(turn: Turn) -> None:
    """Reset the silent peer; the take-over waits for success."""
    state = turn.state
    state.fence_action = turn.do(FenceNode, node=turn.peer.name, timeout_ns=FENCE_LIMIT_NS)
    state.fence_deadline = state.now + FENCE_LIMIT_NS + FENCE_AGAIN_NS
    turn.say(f"{turn.peer.name} may still hold resources: fencing it before taking over")


def fenced(turn: Turn, event: ActionFinished) -> bool:
    """Fold the end of a FenceNode; True if the way is free."""
    state = turn.state
    state.fence_action = 0
    if event.outcome is Outcome.DONE:
        state.fence_deadline = 0
        turn.say(f"{turn.peer.name} was fenced")
        return True
    state.fence_deadline = state.now + FENCE_AGAIN_NS
    turn.say(f"fencing {turn.peer.name} {event.outcome.value} ({event.detail}); again in {seconds(FENCE_AGAIN_NS)}")
    return False


def ping_answered(turn: Turn, event: PingAnswered) -> bool:
    """True if a ping node came back."""
    state = turn.state
    for index, view in enumerate(state.pings):
        if view.name == event.ping:
            came_back = not view.alive
            if came_back and view.heard_at:
                turn.say(f"ping node {view.name} answers again")
            after = replace(view, heard_at=state.now, alive=True)
            state.pings = (*state.pings[:index], after, *state.pings[index + 1 :])
            return came_back
    return False


def pings_silent(turn: Turn) -> bool:
    """True if a ping node has gone silent for deadping just now."""
    state = turn.state
    lost = False
    for index, view in enumerate(state.pings):
        if view.alive and state.now - view.heard_at >= state.settings.deadping_ns:
            turn.say(
                f"ping node {view.name} is dead: no answer for {seconds(state.now - view.heard_at)} "
                f"(deadping {seconds(state.settings.deadping_ns)})"
            )
            state.pings = (*state.pings[:index], replace(view, alive=False), *state.pings[index + 1 :])
            lost = True
    return lost
