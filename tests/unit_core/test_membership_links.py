"""Two links: copies count once, the loss of one is said and is not a dead peer."""

import pytest
from msgspec.structs import replace

from hafsm.core.machines import NodeState
from hafsm.core.settings import SECOND
from hafsm.core.step import next_deadline, step
from tests.unit_core.pair import A, B, Machine, Pair, act, ev


class TwoLinks:
    """server40 with links eth0 and eth1; server19's status messages are made by hand."""

    def __init__(self) -> None:
        self.pair = Pair(links=("eth0", "eth1"))
        self.node: Machine = self.pair.a
        self.node.start()
        self.sequence = 0

    def status(self, *links: int, sequence: int = 0) -> None:
        self.sequence += not sequence
        for link in links:
            self.node.fold(
                ev.HeartbeatReceived(
                    at=self.pair.now,
                    link=link,
                    node=B,
                    generation=1,
                    sequence=sequence or self.sequence,
                    status="active",
                )
            )

    def beats(self, seconds: int, *links: int) -> None:
        for _ in range(seconds):
            self.status(*links)
            self.pair.run(SECOND)

    def asked_again(self) -> list[str]:
        return [
            dict(a.fields)["firstseq"]
            for _, actions in self.node.log
            for a in actions
            if isinstance(a, act.SendMessage) and a.kind == "NS_rexmit"
        ]


def test_the_loss_of_one_link_is_said_and_is_not_a_dead_peer() -> None:
    two = TwoLinks()
    two.beats(5, 0, 1)
    two.beats(40, 0)
    peer = two.node.state.peer
    assert peer.state is not NodeState.DEAD and [link.up for link in peer.links] == [True, False]
    assert [r for r in two.node.reasons if "link" in r] == ["link eth1 to server19 is dead: nothing for 30.0 s"]
    two.beats(2, 0, 1)
    assert two.node.reasons[-1] == "link eth1 to server19 works again"
    two.pair.run(31 * SECOND)
    assert two.node.state.peer.state is NodeState.DEAD
    assert any("nothing on eth0 or eth1 for 30.0 s (deadtime 30.0 s)" in r for r in two.node.reasons)


def test_a_copy_on_the_other_link_counts_once() -> None:
    two = TwoLinks()
    two.status(0, 1)
    two.status(1, 0)
    assert two.node.state.peer.sequence == 2 and two.asked_again() == []


def test_a_peer_that_repeats_one_number_is_declared_dead() -> None:
    two = TwoLinks()
    two.beats(3, 0)
    for _ in range(40):
        two.status(0, sequence=3)
        two.pair.run(SECOND)
    assert two.node.state.peer.state is NodeState.DEAD


def test_gaps_are_asked_for_every_quarter_second_until_filled_or_refused() -> None:
    two = TwoLinks()
    two.beats(2, 0)
    two.status(0, sequence=6)
    assert two.node.state.peer.missing == (3, 4, 5)
    two.pair.run(SECOND)
    assert two.asked_again()[:6] == ["3", "4", "5"] * 2
    two.status(1, sequence=4)
    two.node.fold(ev.MessageReceived(at=two.pair.now, link=0, node=B, kind="NS_nak_rexmit", generation=1, first=5))
    assert two.node.state.peer.missing == (3,)
    two.status(0, sequence=3)
    before = len(two.asked_again())
    two.pair.run(2 * SECOND)
    assert len(two.asked_again()) == before


def test_a_gap_of_hundreds_is_forgotten() -> None:
    two = TwoLinks()
    two.beats(2, 0)
    two.status(0, sequence=400)
    assert two.node.state.peer.missing == ()
    assert any("lost 397 messages of server19: too many to ask for again" in r for r in two.node.reasons)


def test_every_tenth_message_in_order_is_acknowledged() -> None:
    two = TwoLinks()
    two.beats(21, 0, 1)
    acks = [
        dict(a.fields)["ackseq"]
        for _, actions in two.node.log
        for a in actions
        if isinstance(a, act.SendMessage) and a.kind == "NS_ackmsg"
    ]
    assert acks == ["a", "14"]


def test_a_late_heartbeat_is_warned_about() -> None:
    two = TwoLinks()
    two.beats(2, 0)
    two.pair.run(14 * SECOND)
    two.status(0)
    assert two.node.reasons[-1] == "late heartbeat from server19: 15.0 s (warntime 10.0 s)"


def test_what_was_sent_is_sent_again_and_never_more_than_fifty() -> None:
    pair = Pair().start()
    pair.run(200 * SECOND)
    last = pair.a.state.sequence
    pair.a.fold(
        ev.MessageReceived(at=pair.now, link=0, node=B, kind="NS_rexmit", generation=1, first=1, last=last + 900)
    )
    resent = [a for a in pair.a.log[-1][1] if isinstance(a, act.ResendMessages)]
    assert [(a.first, a.last, a.dest) for a in resent] == [(1, 50, B)]
    assert pair.a.name == A


FAR = 10**18


@pytest.mark.parametrize("nearest", ["peer", "ping", "neither"])
def test_what_is_heard_puts_off_the_nearest_deadline(nearest: str) -> None:
    """No other deadline hides the one that a heartbeat or an answered ping moves."""
    pair = Pair().start()
    pair.run(5 * SECOND)
    state, heard, answered = pair.a.state, last(pair, ev.HeartbeatReceived), last(pair, ev.PingAnswered)
    assert state.peer is not None
    views = tuple(replace(view, heard_at=state.now) for view in state.pings)
    state = replace(
        state,
        beat_at=state.now + 40 * SECOND if nearest != "neither" else state.now + SECOND,
        observe_at=FAR,
        renew_at=FAR,
        pings=views if nearest != "ping" else tuple(replace(view, heard_at=state.now - 20 * SECOND) for view in views),
        peer=replace(state.peer, heard_at=state.now - 10 * SECOND if nearest == "peer" else state.now),
    )
    state.due = next_deadline(state)
    at = state.now + SECOND // 2
    for event in (replace(heard, at=at, sequence=state.peer.sequence + 1), replace(answered, at=at)):
        after = step(state, event).state
        assert after.due == next_deadline(after)
        moved = {"peer": ev.HeartbeatReceived, "ping": ev.PingAnswered}.get(nearest)
        assert (after.due != state.due) is (moved is type(event))


def last(pair: Pair, kind: type[ev.EventBase]) -> ev.Event:
    return next(event for event, _ in reversed(pair.a.log) if type(event) is kind)
