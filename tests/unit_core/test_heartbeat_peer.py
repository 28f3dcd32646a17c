"""heartbeat 3 as the peer, message by message: the orders that real runs of it showed."""

from __future__ import annotations

from hafsm.core.machines import Handover, Phase
from hafsm.core.settings import SECOND, AutoFailback
from hafsm.core.state import Holding
from tests.unit_core.pair import A, B, Pair, act, ev


class HeartbeatPeer:
    """Plays server40 for server19, the real core in `me`."""

    def __init__(self, **changes: object) -> None:
        self.pair = Pair(**changes)
        self.me = self.pair.b
        self.generation = 500
        self.sequence = 0

    def status(self, status: str = "active") -> None:
        self.sequence += 1
        self.me.fold(
            ev.HeartbeatReceived(
                at=self.pair.now,
                link=0,
                node=A,
                generation=self.generation,
                sequence=self.sequence,
                status=status,
                deadtime_ns=30 * SECOND,
            )
        )

    def say(self, kind: str, *, number: int = 0, **fields: object) -> None:
        """Send a message; `number` instead of the next one in order."""
        if not number:
            self.sequence += 1
        event = ev.MessageReceived(
            at=self.pair.now,
            link=0,
            node=A,
            kind=kind,
            generation=self.generation,
            sequence=number or self.sequence,
            **fields,
        )
        self.me.fold(event)

    def report(self, hold: str, stable: bool, info: str = "") -> None:
        self.say("resource", hold=hold, stable=stable, full=True, info=info)

    def heard(self) -> list[tuple[str, str, str]]:
        """(kind, rsc_hold, isstable or info) of all that server19 sent but statuses, oldest first."""
        sent = [a for _, actions in self.me.log for a in actions if isinstance(a, act.SendMessage)]
        return [
            (a.kind, f.get("rsc_hold", ""), f.get("isstable", "") or f.get("info", ""))
            for a in sent
            if a.kind != "status" and (f := dict(a.fields)) is not None
        ]

    def answers_a_start(self, hold: str) -> None:
        """server19 starts beside a stable heartbeat that holds this."""
        self.me.start()
        self.pair.run(SECOND)
        self.status()
        self.pair.run(SECOND)
        assert ("reqnodes", "", "") in self.heard()
        self.say("repnodes")
        assert ("starting", "", "") in self.heard()
        self.report(hold, True)
        self.pair.run(SECOND)


def test_a_set_that_was_lost_in_a_crash_is_taken_again() -> None:
    """heartbeat gave all away, hafsm crashed and was back before deadtime: heartbeat takes nothing, and never will."""
    peer = HeartbeatPeer(auto_failback=AutoFailback.OFF)
    peer.answers_a_start("none")
    assert peer.me.state.phase is Phase.STABLE and peer.me.state.mine is Holding.ALL
    assert peer.me.vips() == ["192.168.2.232"]
    assert any("holds nothing; taking all resources" in reason for reason in peer.me.reasons)


def test_what_was_lost_in_a_crash_goes_home_with_auto_failback() -> None:
    peer = HeartbeatPeer(auto_failback=AutoFailback.ON)
    peer.answers_a_start("none")
    assert peer.me.state.mine is Holding.ALL
    assert ("ask_resources", "foreign", "me") in peer.heard()


def test_a_start_beside_a_heartbeat_with_its_own_set_leaves_that_alone() -> None:
    peer = HeartbeatPeer(auto_failback=AutoFailback.ON)
    peer.answers_a_start("local")
    assert peer.me.state.mine is Holding.LOCAL and peer.me.vips() == []
    assert any("taking the local resources" in reason for reason in peer.me.reasons)


def acknowledged(peer: HeartbeatPeer) -> list[int]:
    """The numbers that server19 confirmed."""
    sent = [a for _, actions in peer.me.log for a in actions if isinstance(a, act.SendMessage)]
    return [int(dict(a.fields)["ackseq"], 16) for a in sent if a.kind == "NS_ackmsg"]


def test_what_is_in_order_is_confirmed_when_a_gap_closes() -> None:
    """On a link that loses one message in three the tenth message itself hardly ever came in order."""
    peer = HeartbeatPeer()
    peer.answers_a_start("local")
    while peer.sequence < 8:
        peer.status()
    peer.sequence = 9  # its message 9 is lost
    for _ in range(13):
        peer.status()
    assert acknowledged(peer) == []
    peer.say("starting", number=9)
    assert acknowledged(peer) == [20]


def test_a_message_that_heartbeat_no_longer_has_does_not_stop_confirming() -> None:
    peer = HeartbeatPeer()
    peer.answers_a_start("local")
    while peer.sequence < 8:
        peer.status()
    peer.sequence = 9
    peer.status()
    peer.status()
    peer.me.fold(
        ev.MessageReceived(at=peer.pair.now, link=0, node=A, kind="NS_nak_rexmit", generation=peer.generation, first=9)
    )
    assert acknowledged(peer) == [10]
    while peer.sequence < 20:
        peer.status()
    assert acknowledged(peer) == [10, 20]


def test_a_report_follows_an_old_one_that_was_sent_again() -> None:
    """The old report that comes again (not stable) must not be heartbeat's last word about this node."""
    peer = HeartbeatPeer()
    peer.answers_a_start("local")
    peer.say("starting")
    *old, last = (a.sequence for _, actions in peer.me.log for a in actions if getattr(a, "kind", "") == "resource")

    def sent_again(number: int) -> list[type]:
        peer.me.fold(
            ev.MessageReceived(
                at=peer.pair.now,
                link=0,
                node=A,
                kind="NS_rexmit",
                generation=peer.generation,
                first=number,
                last=number,
            )
        )
        return [type(action) for action in peer.me.log[-1][1]]

    for number in (last, 1):
        assert sent_again(number) == [act.ResendMessages], "the last report is still true, and a status is no report"
    before = len(peer.heard())
    assert sent_again(old[-1]) == [act.ResendMessages, act.SendMessage]
    assert peer.heard()[before:] == [("resource", "local", "1")]


def test_a_done_of_the_last_hand_over_that_comes_late_does_not_count_for_this_one() -> None:
    """The VIP would be taken while heartbeat still stops its scripts, and heartbeat would wait for ever."""
    peer = HeartbeatPeer(auto_failback=AutoFailback.OFF)
    peer.answers_a_start("all")
    late = peer.sequence + 1
    peer.sequence = late
    peer.report("all", True)
    peer.say("ask_resources", hold="all", info="me")
    assert peer.me.state.handover is Handover.OFFERED
    peer.say("ask_resources", number=late, hold="all", info="done")
    assert peer.me.state.handover is Handover.OFFERED and peer.me.vips() == []
    peer.say("ask_resources", hold="all", info="done")
    peer.pair.run(SECOND)
    assert peer.me.vips() == ["192.168.2.232"]


def test_a_tie_does_not_stop_heartbeat_from_sending_home_what_is_this_nodes() -> None:
    """heartbeat's ipfail plans that on our count and takes it back on `abort_giveup`, so our count is the answer."""
    pair = Pair().start()
    peer = pair.a.state.peer

    def hears(kind: str, **fields: object) -> list[str]:
        sequence = pair.a.state.peer.sequence + 1
        pair.a.fold(
            ev.MessageReceived(
                at=pair.now, link=0, node=B, kind=kind, generation=peer.generation, sequence=sequence, **fields
            )
        )
        return [a.kind for a in pair.a.log[-1][1] if isinstance(a, act.SendMessage)]

    assert "abort_giveup" in hears("num_ping_nodes", count=1)
    pair.a.fold(ev.StandbyRequested(at=pair.now, hold="all", by="root"))
    pair.until(lambda: pair.holders() == [B] and pair.settled())
    sent = hears("num_ping_nodes", count=1)
    assert "num_ping_nodes" in sent and "abort_giveup" not in sent


def test_what_was_given_away_for_ping_nodes_is_asked_back_from_a_peer_that_keeps_it() -> None:
    pair = Pair().start()
    pair.run(10 * SECOND)
    pair.a.sees_gateway = False
    pair.until(lambda: pair.holders() == [B] and pair.settled())
    pair.b.state.failback_due = False  # heartbeat's ipfail took its plan back
    pair.a.sees_gateway = True
    pair.until(lambda: pair.holders() == [A] and pair.settled(), limit=20 * SECOND)
    assert any("ping nodes answer here again: asking server19 for local resources" in r for r in pair.a.reasons)


def test_a_report_older_than_the_hand_over_that_comes_late_is_not_obeyed() -> None:
    """On a link that loses messages heartbeat's last report before it gave all away came after it had done so."""
    peer = HeartbeatPeer(auto_failback=AutoFailback.OFF)
    peer.answers_a_start("all")
    peer.pair.run(SECOND)
    peer.say("ask_resources", hold="all", info="me")
    assert ("ask_resources", "all", "other") in peer.heard()
    late = peer.sequence + 1
    peer.sequence = late
    peer.report("none", False, "standby")
    peer.say("ask_resources", hold="all", info="done")
    peer.pair.run(SECOND)
    assert peer.me.vips() == ["192.168.2.232"]
    peer.say("resource", number=late, hold="all", stable=True, full=True)
    peer.report("none", True)
    peer.pair.run(SECOND)
    assert peer.me.state.mine is Holding.ALL and peer.me.vips() == ["192.168.2.232"]
    assert not any("both directors hold" in reason for reason in peer.me.reasons)


def test_a_set_that_heartbeat_leaves_without_an_owner_is_taken() -> None:
    """heartbeat only logs "No one owns our local resources"."""
    peer = HeartbeatPeer(auto_failback=AutoFailback.OFF)
    peer.answers_a_start("local")
    assert peer.me.vips() == []
    peer.report("none", True)
    peer.pair.run(SECOND)
    assert peer.me.state.mine is Holding.ALL and peer.me.vips() == ["192.168.2.232"]
    assert any("nobody holds the foreign resources: taking them" in reason for reason in peer.me.reasons)


def test_a_heartbeat_that_starts_as_well_holds_nothing_whether_it_reports_or_not() -> None:
    """It does not, if it was not active when this node said `starting`; both would wait for 10 s."""
    peer = HeartbeatPeer(auto_failback=AutoFailback.OFF)
    peer.me.start()
    peer.pair.run(SECOND)
    peer.status("up")
    peer.pair.run(SECOND)
    peer.say("repnodes")
    peer.say("starting")
    assert peer.me.state.phase is Phase.STABLE
    assert peer.heard()[-2:] == [("starting", "", ""), ("resource", "local", "1")]
