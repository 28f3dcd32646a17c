"""Between two hafsm directors a set serves on at the giver until it serves at the taker: make before break."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hafsm.core.machines import GroupState, Phase
from hafsm.core.settings import SECOND, Group, Resource, ResourceKind
from hafsm.core.state import Holding
from tests.unit_core.pair import VIP, A, B, Machine, Pair, act, ev, group

OVERLAP = SECOND // 20
"""Both hold the VIP for the few messages in which the taker says so and the giver lets go."""


def at_b(pair: Pair) -> None:
    pair.start()
    pair.a.power_cut()
    pair.until(lambda: pair.b.state.groups[0].state is GroupState.STARTED)
    pair.b.report_checks(a31=True, a41=True)


def at_a(pair: Pair) -> None:
    pair.start()
    for machine in (pair.a, pair.b):
        machine.report_checks(a31=True, a41=True)


def failback(pair: Pair) -> None:
    """The first checks of the returning director take a while."""
    pair.a.first_checks = False
    pair.a.start()
    pair.after(2 * SECOND, lambda: pair.a.report_checks(a31=True, a41=True))


def standby(pair: Pair) -> None:
    pair.a.fold(ev.StandbyRequested(at=pair.now, hold="all", by="root"))


def takeover(pair: Pair) -> None:
    pair.b.fold(ev.TakeoverRequested(at=pair.now, hold="all", by="root"))


def stop(pair: Pair) -> None:
    pair.a.fold(ev.StopRequested(at=pair.now, by="SIGTERM"))


Step = Callable[[Pair], None]
MOVES: dict[str, tuple[Step, Step, str]] = {
    "failback": (at_b, failback, A),
    "standby": (at_a, standby, B),
    "takeover": (at_a, takeover, B),
    "graceful stop": (at_a, stop, B),
}


def serving(machine: Machine) -> bool:
    """A client that reaches this machine is forwarded to a real server."""
    return bool(machine.vips()) and "192.168.2.31:80 1" in machine.routes()


@pytest.mark.parametrize("name", MOVES)
def test_the_vip_is_served_at_every_moment(name: str) -> None:
    prepare, begin, taker = MOVES[name]
    pair = Pair()
    prepare(pair)
    moments: list[tuple[int, int]] = []
    for machine in (pair.a, pair.b):
        perform = machine.perform

        def watching(action: act.Action, perform: Callable[[act.Action], None] = perform) -> None:
            perform(action)
            moments.append((pair.now, sum(serving(m) for m in (pair.a, pair.b))))

        machine.perform = watching  # type: ignore[method-assign]
    begin(pair)
    pair.until(lambda: pair.holders() == [taker], limit=10 * SECOND)
    pair.run(SECOND)
    assert all(count for _, count in moments), moments
    both = [when for when, count in moments if count == 2]
    assert both and both[-1] - both[0] < OVERLAP
    giver = pair.a if taker == B else pair.b
    assert not giver.vips() and not giver.table and not giver.scripts


def test_a_stop_that_handed_over_says_so() -> None:
    pair = Pair()
    at_a(pair)
    stop(pair)
    pair.until(lambda: bool(pair.a.exits))
    said = "; ".join(pair.a.reasons)
    assert "SIGTERM: stopping: offering local resources to server19" in said
    assert "server19 has local resources now; SIGTERM: stopping" in said
    assert "is off" not in said and "none" not in said


def test_a_taker_that_cannot_check_its_real_servers_takes_the_vip_after_five_seconds() -> None:
    pair = Pair()
    at_b(pair)
    pair.a.first_checks = False
    pair.a.start()
    took = pair.until(lambda: pair.holders() == [A], limit=10 * SECOND)
    assert 5 * SECOND <= took < 8 * SECOND


def test_a_taker_has_the_virtual_services_before_the_vip() -> None:
    pair = Pair()
    at_a(pair)
    standby(pair)
    pair.until(lambda: bool(pair.b.vips()))
    assert [entry.service.key for entry in pair.b.table] == ["tcp:192.168.2.232:80"]


def test_a_group_with_a_script_before_its_vip_is_stopped_here_before_it_is_started_there() -> None:
    """It may be a file system that only one director may have."""
    mount = Resource(kind=ResourceKind.SCRIPT, text="data", script="data")
    whole = group(A)
    pair = Pair(groups=(Group(key="data", preferred=A, resources=(mount, *whole.resources)),)).start()
    standby(pair)
    pair.until(lambda: "data" in pair.b.scripts)
    assert pair.a.scripts == set() and pair.a.vips() == []


def test_both_directors_stopped_at_once_do_not_wait_for_each_other() -> None:
    pair = Pair()
    at_a(pair)
    for machine in (pair.a, pair.b):
        machine.fold(ev.StopRequested(at=pair.now, by="SIGTERM"))
    assert pair.until(lambda: bool(pair.a.exits) and bool(pair.b.exits)) < SECOND
    assert pair.holders() == [] and not pair.a.scripts and not pair.b.scripts


def test_the_second_director_is_stopped_while_the_first_hands_over() -> None:
    """At each moment of the hand-over; nothing is left, and nobody waits long."""
    at = 0
    while True:
        pair = Pair()
        at_a(pair)
        stop(pair)
        pair.run(at)
        if pair.a.exits:
            break
        pair.b.fold(ev.StopRequested(at=pair.now, by="SIGTERM"))
        assert pair.until(lambda p=pair: bool(p.a.exits) and bool(p.b.exits)) < 12 * SECOND, at
        assert pair.holders() == [] and not pair.a.scripts and not pair.b.scripts, at
        assert pair.a.table == () and pair.b.table == (), at
        at += SECOND // 1000
    assert at > 0


def test_a_second_request_to_stop_waits_for_nothing() -> None:
    pair = Pair()
    at_a(pair)
    pair.partition()
    stop(pair)
    pair.run(SECOND // 10)
    assert pair.a.state.phase is Phase.STABLE
    stop(pair)
    assert pair.a.state.phase is Phase.LEAVING


def test_a_peer_that_does_not_answer_delays_a_stop_by_two_seconds() -> None:
    pair = Pair()
    at_a(pair)
    pair.partition()
    stop(pair)
    took = pair.until(lambda: bool(pair.a.exits))
    assert 2 * SECOND <= took < 3 * SECOND
    assert pair.a.vips() == [] and pair.a.table == ()


def test_a_taker_that_never_serves_does_not_keep_a_stop_waiting() -> None:
    pair = Pair()
    at_a(pair)
    pair.b.silent = lambda action: isinstance(action, act.AddAddress)
    stop(pair)
    took = pair.until(lambda: bool(pair.a.exits))
    assert 10 * SECOND <= took < 12 * SECOND
    assert pair.a.vips() == []


def test_a_giver_that_is_killed_while_it_lends_leaves_the_set_to_the_taker() -> None:
    pair = Pair()
    at_a(pair)
    standby(pair)
    pair.until(lambda: pair.a.state.groups[0].state is GroupState.LENT)
    pair.a.power_cut()
    pair.until(lambda: pair.holders() == [B])
    pair.run(60 * SECOND)
    assert pair.b.state.mine is Holding.ALL


def test_a_refused_virtual_service_does_not_keep_the_vip_from_coming() -> None:
    pair = Pair()
    at_a(pair)
    pair.b.refuse = lambda action: isinstance(action, act.ProgramIpvs)
    standby(pair)
    pair.until(lambda: VIP in pair.b.addresses, limit=5 * SECOND)
