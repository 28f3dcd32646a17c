"""What operators say of real servers: obeyed, respected by checks and reloads, remembered, shared, ended."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hafsm.core import operators
from hafsm.core.describe import describe
from hafsm.core.settings import MILLISECOND, SECOND, NodeName, Override, RealVerb
from tests.unit_core.pair import A, B, Machine, Pair, act, ev, service
from tests.unit_core.test_restart_everywhere import PAUSE, End, tap, victim_of


@pytest.fixture(autouse=True)
def checks_end_when_the_test_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "first_checks", False)


KEY = "tcp:192.168.2.232:80"
R31, R41 = "192.168.2.31:80", "192.168.2.41:80"
UP = [f"{R31} 1", f"{R41} 1"]


def say(machine: Machine, verb: RealVerb, real: str = R31, weight: int = 0, reason: str = "") -> str:
    """An operator's command; returns the sentence of the decision."""
    machine.fold(
        ev.RealRequested(
            at=machine.pair.now,
            verb=verb,
            targets=((KEY, real),),
            by="alice",
            wall_ns=5 * SECOND,
            weight=weight,
            reason=reason,
        )
    )
    return machine.reasons[-1]


def serving(**changes: object) -> Pair:
    pair = Pair(services=(service(**changes),)).start()
    for machine in (pair.a, pair.b):
        machine.report_checks(a31=True, a41=True)
    pair.run(SECOND)
    assert sorted(pair.a.routes()) == UP
    return pair


def real(machine: Machine, key: str = R31) -> dict:
    status = describe(machine.state, (), now=machine.pair.now)
    return next(r for r in status["services"][0]["reals"] if r["real"] == key)


def test_a_drained_server_gets_weight_0_and_goes_when_its_last_connection_has_ended() -> None:
    pair = serving()
    pair.a.busy.add((KEY, R31))
    assert say(pair.a, RealVerb.DRAIN, reason="new kernel") == (
        f"real server {R31} of {KEY}: drain asked by alice (new kernel): quiesced"
    )
    pair.run(60 * SECOND)
    assert pair.a.routes() == [f"{R31} 0", f"{R41} 1"], "it stays while it has connections"
    assert real(pair.a)["why"] == "drained by alice (new kernel); its checks pass"
    pair.a.busy.clear()
    pair.until(lambda: pair.a.routes() == [f"{R41} 1"], limit=11 * SECOND)
    assert any("is drained: no connection is left, entry deleted" in r for r in pair.a.reasons)
    pair.a.report_checks(a31=False)
    pair.a.report_checks(a31=True)
    pair.run(SECOND)
    assert pair.a.routes() == [f"{R41} 1"], "no check brings it back"
    say(pair.a, RealVerb.ENABLE)
    pair.run(SECOND)
    assert sorted(pair.a.routes()) == UP, "its last check passed: back at once"


def test_a_quiesced_server_keeps_its_entry_with_or_without_connections() -> None:
    pair = serving()
    say(pair.a, RealVerb.QUIESCE)
    pair.run(60 * SECOND)
    pair.a.report_checks(a31=False)
    pair.a.report_checks(a31=True)
    pair.run(SECOND)
    assert pair.a.routes() == [f"{R31} 0", f"{R41} 1"]


def test_enabling_a_server_whose_checks_fail_puts_it_under_their_rule() -> None:
    for quiescent, left in ((True, [f"{R31} 0", f"{R41} 1"]), (False, [f"{R41} 1"])):
        pair = serving(quiescent=quiescent)
        say(pair.a, RealVerb.QUIESCE)
        pair.a.report_checks(a31=False)
        pair.run(SECOND)
        say(pair.a, RealVerb.ENABLE)
        pair.run(SECOND)
        assert pair.a.routes() == left
        pair.a.report_checks(a31=True)
        pair.run(SECOND)
        assert sorted(pair.a.routes()) == UP


def test_the_fallback_serves_when_every_server_is_drained_or_has_weight_0() -> None:
    pair = serving()
    say(pair.a, RealVerb.DRAIN)
    pair.run(11 * SECOND)
    say(pair.a, RealVerb.WEIGHT, R41, weight=0)
    pair.run(SECOND)
    assert sorted(pair.a.routes()) == ["127.0.0.1:80 1", f"{R41} 0"]
    say(pair.a, RealVerb.WEIGHT, R41, weight=3)
    pair.run(SECOND)
    assert pair.a.routes() == [f"{R41} 3"]


def test_an_operators_weight_holds_through_failures_until_enable() -> None:
    pair = serving()
    assert say(pair.a, RealVerb.WEIGHT, weight=7).endswith("asked by alice: weight 7 instead of 1")
    pair.run(SECOND)
    assert f"{R31} 7" in pair.a.routes()
    for up in (False, True):
        pair.a.report_checks(a31=up)
        pair.run(SECOND)
    assert f"{R31} 7" in pair.a.routes()
    assert real(pair.a)["operator_weight"] == 7
    say(pair.a, RealVerb.ENABLE)
    pair.run(SECOND)
    assert sorted(pair.a.routes()) == UP


def test_an_operators_weight_ends_when_the_file_gives_another_and_not_before() -> None:
    pair = serving()
    say(pair.a, RealVerb.WEIGHT, weight=7)
    old = service()
    other = replace(old, reals=(old.reals[0], replace(old.reals[1], weight=2)))
    pair.a.fold(ev.ServicesReloaded(at=pair.now, services=(other,)))
    pair.run(SECOND)
    assert sorted(pair.a.routes()) == [f"{R31} 7", f"{R41} 2"]
    new = replace(old, reals=(replace(old.reals[0], weight=4), old.reals[1]))
    pair.a.fold(ev.ServicesReloaded(at=pair.now, services=(new,)))
    pair.run(SECOND)
    assert sorted(pair.a.routes()) == [f"{R31} 4", f"{R41} 1"]
    assert any("has weight 4 in the file now: the weight 7 that alice set ends" in r for r in pair.a.reasons)
    assert pair.b.state.overrides[0].verb is RealVerb.ENABLE, "the other director was told"


@pytest.mark.parametrize(
    ("before", "verb", "weight", "answer"),
    [
        (None, RealVerb.ENABLE, 0, "nothing to do, its checks and the file decide already"),
        (RealVerb.DRAIN, RealVerb.DRAIN, 0, "nothing to do, it is drained by alice already"),
        (RealVerb.DRAIN, RealVerb.WEIGHT, 3, "refused, it is drained by alice: enable it first"),
        (RealVerb.WEIGHT, RealVerb.WEIGHT, 0, "nothing to do, weight 0 set by alice"),
    ],
)
def test_what_changes_nothing_is_said(before: RealVerb | None, verb: RealVerb, weight: int, answer: str) -> None:
    pair = serving()
    if before is not None:
        say(pair.a, before)
    overrides = pair.a.state.overrides
    assert say(pair.a, verb, weight=weight).endswith(f"asked by alice: {answer}")
    assert pair.a.state.overrides == overrides


def test_a_server_that_is_not_configured_cannot_be_drained_but_its_old_drain_can_be_ended() -> None:
    pair = serving()
    assert say(pair.a, RealVerb.DRAIN, "192.168.2.99:80").endswith("refused, no such real server is configured")
    say(pair.a, RealVerb.DRAIN)
    old = service()
    pair.a.fold(ev.ServicesReloaded(at=pair.now, services=(replace(old, reals=old.reals[1:]),)))
    pair.run(SECOND)
    assert pair.a.routes() == [f"{R41} 1"]
    pair.a.fold(ev.ServicesReloaded(at=pair.now, services=(old,)))
    pair.a.report_checks(a31=True, a41=True)
    pair.run(SECOND)
    assert pair.a.routes() == [f"{R41} 1"], "the file's return is not an operator's"
    pair.a.fold(ev.ServicesReloaded(at=pair.now, services=(replace(old, reals=old.reals[1:]),)))
    assert say(pair.a, RealVerb.ENABLE).endswith("remembered, it is not configured now")


def test_a_drained_server_stays_drained_through_restarts_of_either_director_and_a_take_over() -> None:
    pair = serving()
    say(pair.a, RealVerb.DRAIN, reason="disk")
    pair.run(11 * SECOND)
    assert pair.b.state.overrides == pair.a.state.overrides
    pair.b.power_cut()
    pair.b.start()
    pair.until(pair.settled)
    assert any(f"remembered from before: {R31} of {KEY} drained by alice (disk)" in r for r in pair.b.reasons)
    pair.a.power_cut()
    pair.until(lambda: pair.holders() == [B])
    pair.b.report_checks(a31=True, a41=True)
    pair.run(SECOND)
    assert pair.b.routes() == [f"{R41} 1"]
    say(pair.b, RealVerb.ENABLE)
    pair.run(SECOND)
    assert sorted(pair.b.routes()) == UP
    pair.a.start()
    pair.until(lambda: pair.holders() == [A] and pair.settled())
    pair.a.report_checks(a31=True, a41=True)
    pair.run(SECOND)
    assert sorted(pair.a.routes()) == UP, "its own memory said drained; the newer word won"


@pytest.mark.parametrize("end", End, ids=lambda end: end.value)
@pytest.mark.parametrize("name", [A, B])
def test_a_drain_is_not_lost_whichever_action_is_followed_by_a_restart(name: NodeName, end: End) -> None:
    def after(number: int) -> tuple[Pair, int]:
        """The pair in which the director was restarted behind so many of its actions, 0: not at all."""
        pair = serving()
        victim = victim_of(pair, name)

        def restart() -> None:
            victim.power_cut() if end is End.POWER_CUT else victim.kill()
            victim.generation += 1  # what is under way no longer reports to anybody
            pair.after(PAUSE, lambda: victim.start(same_boot=end is End.KILLED))

        done = tap(victim, restart, number)
        say(pair.a, RealVerb.DRAIN)
        pair.run(3 * SECOND)
        return pair, len(done)

    _, total = after(0)
    assert total >= 2
    for number in range(1, total + 1):
        pair, _ = after(number)
        pair.until(lambda pair=pair: len(pair.holders()) == 1 and pair.settled(), limit=300 * SECOND)
        for machine in (pair.a, pair.b):
            machine.report_checks(a31=True, a41=True)
        pair.run(30 * SECOND)
        holder = victim_of(pair, pair.holders()[0])
        assert holder.routes() == [f"{R41} 1"], number
        assert [m.state.overrides[0].verb for m in (pair.a, pair.b)] == [RealVerb.DRAIN] * 2, number


def test_a_word_said_before_a_new_life_has_heard_the_other_director_reaches_it_all_the_same() -> None:
    """The other one has asked for all words when it heard of this life, and will not ask again."""
    pair = serving()
    pair.b.power_cut()
    pair.until(lambda: "server19 is dead" in pair.a.reasons[-1])
    pair.b.start()
    pair.run(200 * MILLISECOND)
    assert pair.b.state.peer is not None and not pair.b.state.peer.behaviour, "no heartbeat has come yet"
    say(pair.b, RealVerb.DRAIN)
    pair.until(pair.settled)
    pair.run(2 * SECOND)
    assert [str(word) for word in pair.a.state.overrides] == ["drained by alice"]
    assert pair.a.routes() == [f"{R31} 0", f"{R41} 1"]


def test_words_said_on_both_sides_of_a_partition_meet_and_the_newer_wins() -> None:
    pair = serving()
    say(pair.b, RealVerb.QUIESCE, R41)
    pair.run(SECOND)
    pair.partition()
    pair.run(40 * SECOND)
    say(pair.a, RealVerb.DRAIN)
    say(pair.b, RealVerb.WEIGHT, R31, weight=9)
    say(pair.b, RealVerb.ENABLE, R31)
    say(pair.a, RealVerb.ENABLE, R41)
    pair.heal()
    pair.until(pair.settled)
    pair.run(5 * SECOND)
    for machine in (pair.a, pair.b):
        words = {o.real: o.verb for o in machine.state.overrides}
        assert words == {R31: RealVerb.ENABLE, R41: RealVerb.ENABLE}, machine.name


def test_many_words_are_told_some_at_a_time_and_arrive_all() -> None:
    old = service()
    reals = tuple(replace(old.reals[0], address=f"10.0.0.{n}", check=None) for n in range(90))
    pair = Pair(services=(replace(old, reals=reals),)).start()
    pair.b.power_cut()
    pair.run(60 * SECOND)
    targets = tuple((KEY, one.key) for one in reals)
    pair.a.fold(ev.RealRequested(at=pair.now, verb=RealVerb.DRAIN, targets=targets, by="alice", wall_ns=0))
    most = 0

    def count(message: act.SendMessage) -> bool:
        nonlocal most
        told = [a for a in pair.a.log[-1][1] if isinstance(a, act.SendMessage) and a.kind == operators.KIND]
        most = max(most, len(told))
        return False

    pair.lose = count
    pair.b.start()
    pair.until(lambda: len(pair.b.state.overrides) == 90)
    assert most == operators.SHARED_AT_ONCE
    assert pair.a.state.share_at == 0 == pair.a.state.share_next


def test_of_equal_counters_the_first_director_of_ha_cf_wins_on_both() -> None:
    pair = serving()
    pair.partition()
    pair.run(40 * SECOND)
    say(pair.a, RealVerb.DRAIN)
    say(pair.b, RealVerb.QUIESCE)
    pair.heal()
    pair.until(pair.settled)
    pair.run(5 * SECOND)
    assert [m.state.overrides[0].verb for m in (pair.a, pair.b)] == [RealVerb.DRAIN, RealVerb.DRAIN]


def test_a_memory_that_cannot_be_written_is_said_and_tried_again() -> None:
    pair = serving()
    pair.a.refuse = lambda action: isinstance(action, act.RememberOverrides)
    say(pair.a, RealVerb.DRAIN)
    pair.run(SECOND)
    assert pair.a.reasons[-1] == "what operators decided would not survive a restart: refused by the test"
    assert pair.a.state.memory_trouble
    pair.a.refuse = lambda action: False
    pair.until(lambda: bool(pair.a.remembered.overrides), limit=11 * SECOND)
    pair.run(SECOND)
    assert not pair.a.state.memory_trouble
    pair.a.silent = lambda action: isinstance(action, act.RememberOverrides)
    say(pair.a, RealVerb.ENABLE)
    pair.run(11 * SECOND)
    pair.a.silent = lambda action: False
    pair.until(lambda: pair.a.remembered.overrides[0].verb is RealVerb.ENABLE, limit=21 * SECOND)


def test_a_lost_memory_is_said() -> None:
    pair = Pair()
    pair.a.running = True
    pair.a.fold(
        ev.DaemonStarted(
            at=pair.now, generation=1, wall_ns=0, boot_id="b", same_boot=False, version="0", memory_trouble="it is gone"
        )
    )
    assert "what operators decided before is not known: it is gone" in pair.a.reasons[0]
    assert describe(pair.a.state, (), now=0)["memory"] == "it is gone"


def test_a_word_fits_a_message_and_comes_out_as_it_went_in() -> None:
    nodes = (A, B)
    word = Override(
        service="tcp:[2001:db8:1111:2222:3333:4444:5555:6666]:65535",
        real="[2001:db8:1111:2222:3333:4444:5555:6667]:65535",
        verb=RealVerb.QUIESCE,
        counter=10**9,
        node=B,
        wall_ns=1_700_000_000 * SECOND,
        by="alice|bob",
        reason="ü" * 200,
        weight=65535,
    )
    text = operators.packed(word, nodes)
    assert len(text.encode()) <= operators.INFO_BYTES
    again = operators.unpacked(text, nodes)
    assert again is not None and again.reason and word.reason.startswith(again.reason)
    assert replace(again, reason="") == replace(word, reason="", by="alice/bob")


@pytest.mark.parametrize(
    "info",
    [
        "",
        "x",
        "1|0|drain|0|5|me|a",
        "0|0|drain|0|5|me|s|r|",
        "1|7|drain|0|5|me|s|r|",
        "1|0|melt|0|5|me|s|r|",
        "1|0|drain|-1|5|me|s|r|",
        "1|0|drain|0|5|me||r|",
    ],
)
def test_what_is_no_word_is_told_and_changes_nothing(info: str) -> None:
    pair = serving()
    peer = pair.a.state.peer
    assert peer is not None
    pair.a.fold(
        ev.MessageReceived(
            at=pair.now,
            link=0,
            node=NodeName("server19"),
            kind=operators.KIND,
            generation=peer.generation,
            sequence=peer.sequence + 1,
            info=info,
        )
    )
    assert "says something of a real server that is not understood" in pair.a.reasons[-1]
    assert pair.a.state.overrides == ()


def test_a_weight_set_by_hand_is_reported_and_put_back_but_one_set_through_hafsm_stays() -> None:
    pair = serving()
    say(pair.a, RealVerb.WEIGHT, weight=7)
    pair.run(SECOND)
    entry = pair.a.table[0]
    pair.a.table = (replace(entry, destinations=tuple(replace(d, weight=50) for d in entry.destinations)),)
    pair.until(lambda: sorted(pair.a.routes()) == [f"{R31} 7", f"{R41} 1"], limit=11 * SECOND)
    said = next(r for r in pair.a.reasons if "changed by somebody else" in r)
    assert f"{R31} of {KEY} had weight 50 instead of 7" in said and "hafsm real weight" in said
