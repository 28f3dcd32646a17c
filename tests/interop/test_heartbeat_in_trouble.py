"""hafsm and Debian's heartbeat 3 when something goes wrong between them: crashes, partitions, loss, a lost gateway."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.interop.lab import GATEWAY, Pair
from tests.interop.test_heartbeat_as_peer import MOVE_S, SETTLE_S, assert_moved, assert_stayed, give, moves_to, settled
from tests.kernel.site import wait_for

LOSSY_MOVE_S = 8.0
"""Each lost message of a hand-over is asked for again after at most 250 ms and a heartbeat."""
EXPECTED_AFTER_A_PARTITION = ("returning after partition", "Late heartbeat", "Both machines own")
"""heartbeat's own account of a partition; nothing else may be in its log."""


def start(pair: Pair) -> Pair:
    for director in pair.directors:
        director.start()
    wait_for(lambda: settled(pair), SETTLE_S, "both run and are settled")
    return pair


@pytest.fixture(params=[True, False], ids=["hafsm-primary", "hafsm-backup"])
def primary(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def made(**options: object) -> Iterator[Pair]:
    pair = Pair(**options)  # type: ignore[arg-type]
    try:
        yield start(pair)
    finally:
        pair.close()


@pytest.fixture
def pair(primary: bool) -> Iterator[Pair]:
    yield from made(hafsm_primary=primary, auto_failback="off")


def test_hafsm_crashes_while_it_holds_the_vip(pair: Pair) -> None:
    """It is back before deadtime, and heartbeat never takes what a restarted peer held."""
    give(pair, pair.hafsm)
    with pair.watch() as watch:
        pair.hafsm.crash()
        wait_for(lambda: len(watch.changes) > 1, SETTLE_S, "the supervisor releases the VIP", 0.01)
        moves_to(pair, pair.hafsm)
        wait_for(lambda: settled(pair), SETTLE_S, "settled")
    assert_moved(watch, pair.hafsm, MOVE_S)
    assert pair.heartbeat.complaints() == []


def test_hafsm_is_killed_with_its_supervisor_and_started_again(pair: Pair) -> None:
    give(pair, pair.hafsm)
    with pair.watch() as watch:
        pair.hafsm.kill()
        pair.hafsm.start()
        wait_for(lambda: settled(pair), SETTLE_S, "settled")
    assert_moved(watch, pair.hafsm, MOVE_S)
    assert pair.heartbeat.complaints() == []


def test_a_partition_heals(pair: Pair) -> None:
    """Both hold the VIP until it heals. heartbeat then restarts itself, some 10 s, and hafsm keeps the service."""
    pair.hafsm.plug(cable=False)
    wait_for(lambda: pair.heartbeat.holds() == "all" and len(pair.ownership.owners) == 2, SETTLE_S, "both hold it")
    with pair.watch() as watch:
        pair.hafsm.plug(cable=True)
        wait_for(lambda: "Restarting heartbeat" in pair.heartbeat.log, SETTLE_S, "heartbeat restarts itself")
        wait_for(lambda: settled(pair), SETTLE_S, "both settled")
    print(watch.story)
    assert pair.ownership.owners == {pair.hafsm.name}, watch.story
    assert watch.by_nobody_s < MOVE_S, watch.story
    assert watch.by_both_s < 4, watch.story
    others = [line for line in pair.heartbeat.complaints() if not any(e in line for e in EXPECTED_AFTER_A_PARTITION)]
    assert others == []
    pair.hafsm.stop()
    assert pair.hafsm.replay().rc == 0


@pytest.fixture
def lossy_pair() -> Iterator[Pair]:
    for pair in made(hafsm_primary=True, keepalive="50ms"):
        for director in pair.directors:
            director.lose_datagrams(one_in=5)
        yield pair


def test_every_fifth_datagram_is_lost(lossy_pair: Pair) -> None:
    """Both ask again for what they miss, both answer, and no hand-over stalls; heartbeat's clients stay awake."""
    pair = lossy_pair
    for director in (pair.heartbeat, pair.hafsm) * 3:
        with pair.watch() as watch:
            (pair.heartbeat.takeover if director is pair.heartbeat else pair.heartbeat.standby)()
            moves_to(pair, director)
            wait_for(lambda: settled(pair), SETTLE_S, "settled")
        assert_moved(watch, director, LOSSY_MOVE_S)
    wait_for(lambda: pair.hafsm.status().get("event", 0) > 1500, 60, "far more than 250 messages went each way")
    wait_for(lambda: settled(pair), SETTLE_S, "still settled")
    # heartbeat believes a repeated report, however old, until the next one.
    assert [line for line in pair.heartbeat.complaints() if not re.search("Both machines own|No one owns", line)] == []


@pytest.fixture
def pair_with_gateway(primary: bool) -> Iterator[Pair]:
    more = f"deadping 2\nping {GATEWAY}\nrespawn hacluster /usr/libexec/heartbeat/ipfail\n"
    yield from made(hafsm_primary=primary, more=more)


def test_the_director_that_sees_the_gateway_gets_the_vip(pair_with_gateway: Pair) -> None:
    pair = pair_with_gateway
    for director in (pair.primary, pair.other(pair.primary)):
        give(pair, director)
        other = pair.other(director)
        with pair.watch() as watch:
            director.sees_gateway(sees=False)
            moves_to(pair, other)
            wait_for(lambda: settled(pair), SETTLE_S, "settled")
        assert_moved(watch, other, MOVE_S)
        with pair.watch() as watch:
            director.sees_gateway(sees=True)
            moves_to(pair, pair.primary)
            wait_for(lambda: settled(pair), SETTLE_S, "settled at home")
        if other is pair.primary:
            assert_stayed(watch, other)
        else:
            assert_moved(watch, pair.primary, MOVE_S)
    assert [line for line in pair.heartbeat.complaints() if f"Late heartbeat: Node {GATEWAY}" not in line] == []


def test_nothing_moves_when_neither_sees_the_gateway(pair_with_gateway: Pair) -> None:
    pair = pair_with_gateway
    with pair.watch() as watch:
        pair.ground.run(["ip", "addr", "del", f"{GATEWAY}/24", "dev", "switch"])
        lost = "ping node 192.0.2.1 is dead"
        wait_for(lambda: lost in pair.hafsm.log, SETTLE_S, "hafsm lost it")
        wait_for(lambda: "Link 192.0.2.1:192.0.2.1 dead" in pair.heartbeat.log, SETTLE_S, "heartbeat lost it")
        seen = pair.hafsm.status()["event"]
        wait_for(
            lambda: pair.hafsm.status()["event"] > seen + 50, SETTLE_S, "several keepalives of both: both compared"
        )
    assert_stayed(watch, pair.primary)
