"""hafsm on one director, Debian's heartbeat 3 on the other: neither the peer nor a client notices.

Every pair tells who has the VIP from the kernel's own notifications. Both at once is never right. Nobody is right only
in the windows stated here.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.lab import Director, Hafsm, Heartbeat, Pair, Watch
from tests.kernel.site import wait_for

START_S = 8.0
"""Both starting together. heartbeat alone with its like takes 10.8 to 12.3 s."""
DEATH_S = 4.0
"""deadtime 2 s, and heartbeat's poll of 250 ms and its scripts."""
MOVE_S = 1.5
"""Both directors live and agree: scripts, and a tick of 200 ms on each side."""
SETTLE_S = 25.0
"""Until no side calls anything unfinished; far more than it takes."""

PAIRS = [
    pytest.param((True, "crc", "on"), id="hafsm-primary-crc-failback"),
    pytest.param((True, "md5", "off"), id="hafsm-primary-md5-stay"),
    pytest.param((True, "sha1", "on"), id="hafsm-primary-sha1-failback"),
    pytest.param((False, "crc", "off"), id="hafsm-backup-crc-stay"),
    pytest.param((False, "md5", "on"), id="hafsm-backup-md5-failback"),
    pytest.param((False, "sha1", "off"), id="hafsm-backup-sha1-stay"),
]


@pytest.fixture(scope="module", params=PAIRS)
def pair_of_module(request: pytest.FixtureRequest) -> Iterator[Pair]:
    hafsm_primary, method, auto_failback = request.param
    pair = Pair(hafsm_primary=hafsm_primary, method=method, auto_failback=auto_failback)
    yield pair
    pair.close()


@pytest.fixture
def pair(pair_of_module: Pair) -> Iterator[Pair]:
    """Both running and settled, before the test and after it; heartbeat has nothing to complain of."""
    pair = pair_of_module
    for director in pair.directors:
        if not director.running:
            director.start()
    wait_for(lambda: settled(pair), SETTLE_S, "both run and are settled")
    seen = len(pair.heartbeat.complaints())
    yield pair
    wait_for(lambda: settled(pair), SETTLE_S, "both are settled after the test")
    assert pair.heartbeat.complaints()[seen:] == []


@pytest.fixture(params=[Hafsm, Heartbeat], ids=["hafsm", "heartbeat"])
def holder(request: pytest.FixtureRequest, pair: Pair) -> Director:
    """The director of that kind, holding the VIP."""
    director = pair.hafsm if request.param is Hafsm else pair.heartbeat
    give(pair, director)
    return director


def settled(pair: Pair) -> bool:
    """Both stable, each says the same of what it holds, and the VIP is where they say."""
    status = pair.hafsm.status()
    if not status or not status["stable"] or status["handover"] != "idle":
        return False
    mirrored = {"none": "all", "all": "none", "local": "local", "foreign": "foreign"}
    nodes = {node["name"]: node["state"] for node in status["nodes"]}
    return (
        pair.heartbeat.holds() == mirrored[status["holds"]]
        and len(pair.ownership.owners) == 1
        and nodes[pair.heartbeat.name] in ("standby", "active")
    )


def give(pair: Pair, director: Director) -> None:
    """Move the VIP there by heartbeat's own commands."""
    if pair.ownership.owners != {director.name}:
        if director is pair.hafsm:
            pair.heartbeat.standby()
        else:
            pair.heartbeat.takeover()
    wait_for(lambda: pair.ownership.owners == {director.name} and settled(pair), SETTLE_S, f"{director.name} has it")


def moves_to(pair: Pair, director: Director) -> None:
    wait_for(lambda: pair.ownership.owners == {director.name}, SETTLE_S, f"the VIP is on {director.name}", 0.01)


def comes_back(pair: Pair, director: Director, survivor: Director) -> None:
    """Start it again: with auto_failback on the VIP goes home, otherwise it stays where it is."""
    with pair.watch() as watch:
        director.start()
        wait_for(lambda: settled(pair), SETTLE_S, f"{director.name} is back and settled")
        home = pair.primary if pair.auto_failback == "on" else survivor
        moves_to(pair, home)
        wait_for(lambda: settled(pair), SETTLE_S, "settled at home")
    if home is survivor:
        assert_stayed(watch, survivor)
    else:
        assert_moved(watch, home, MOVE_S)


def assert_moved(watch: Watch, director: Director, limit_s: float) -> None:
    print(f"to {director.name} (limit {limit_s} s without): {watch.story}")
    assert not watch.by_both, watch.story
    assert watch.changes[-1].owners == {director.name}, watch.story
    assert watch.by_nobody_s < limit_s, watch.story


def assert_stayed(watch: Watch, director: Director) -> None:
    assert [change.owners for change in watch.changes] == [{director.name}], watch.story


def test_both_start_together(pair_of_module: Pair) -> None:
    pair = pair_of_module
    for director in pair.directors:
        if director.running:
            director.stop()
    with pair.watch() as watch:
        for director in pair.directors:
            director.start()
        moves_to(pair, pair.primary)
        wait_for(lambda: settled(pair), SETTLE_S, "both are settled")
    assert_moved(watch, pair.primary, START_S)
    assert pair.heartbeat.complaints() == []


def test_power_cut_of_the_holder_and_its_return(pair: Pair, holder: Director) -> None:
    survivor = pair.other(holder)
    with pair.watch() as watch:
        holder.power_cut()
        moves_to(pair, survivor)
        if survivor is pair.heartbeat:
            wait_for(lambda: pair.heartbeat.holds() == "all", SETTLE_S, "heartbeat holds all")
    assert_moved(watch, survivor, DEATH_S)
    holder.power_on()
    comes_back(pair, holder, survivor)


def test_graceful_stop_of_the_holder_and_its_return(pair: Pair, holder: Director) -> None:
    survivor = pair.other(holder)
    with pair.watch() as watch:
        holder.stop()
        moves_to(pair, survivor)
    assert_moved(watch, survivor, MOVE_S)
    comes_back(pair, holder, survivor)


def test_graceful_stop_of_the_one_without_the_vip(pair: Pair, holder: Director) -> None:
    idle = pair.other(holder)
    with pair.watch() as watch:
        idle.stop()
    assert_stayed(watch, holder)
    comes_back(pair, idle, holder)


def test_hb_standby_on_heartbeat(pair: Pair) -> None:
    give(pair, pair.heartbeat)
    with pair.watch() as watch:
        pair.heartbeat.standby()
        moves_to(pair, pair.hafsm)
        wait_for(lambda: settled(pair), SETTLE_S, "settled")
    assert_moved(watch, pair.hafsm, MOVE_S)


def test_hb_takeover_on_heartbeat(pair: Pair) -> None:
    give(pair, pair.hafsm)
    with pair.watch() as watch:
        pair.heartbeat.takeover()
        moves_to(pair, pair.heartbeat)
        wait_for(lambda: settled(pair), SETTLE_S, "settled")
    assert_moved(watch, pair.heartbeat, MOVE_S)


def test_standby_on_hafsm(pair: Pair) -> None:
    give(pair, pair.hafsm)
    with pair.watch() as watch:
        pair.hafsm.standby()
        moves_to(pair, pair.heartbeat)
        wait_for(lambda: settled(pair), SETTLE_S, "settled")
    assert_moved(watch, pair.heartbeat, MOVE_S)


def test_takeover_on_hafsm(pair: Pair) -> None:
    give(pair, pair.heartbeat)
    with pair.watch() as watch:
        pair.hafsm.takeover()
        moves_to(pair, pair.hafsm)
        wait_for(lambda: settled(pair), SETTLE_S, "settled")
    assert_moved(watch, pair.hafsm, MOVE_S)


def test_the_journal_of_all_that_replays_identically(pair_of_module: Pair) -> None:
    if pair_of_module.hafsm.running:
        pair_of_module.hafsm.stop()
    result = pair_of_module.hafsm.replay()
    assert result.rc == 0, result.describe()
    assert result.stdout.startswith("identical: "), result.describe()
