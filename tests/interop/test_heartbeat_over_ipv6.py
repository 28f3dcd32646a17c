"""hafsm on one director, Debian's heartbeat 3 on the other, and every heartbeat and ping between them over IPv6."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.lab import Pair
from tests.interop.test_heartbeat_as_peer import SETTLE_S, settled
from tests.kernel.site import wait_for

MEDIA = {
    "ucast6": "ucast6 eth0 fd00::11\nucast6 eth0 fd00::12",
    "ucast6-link-local": "ucast6 eth0 fe80::11\nucast6 eth0 fe80::12%eth0",
    "mcast6": "mcast6 eth0 ff12::1:2:3:4 694 1 0",
}


@pytest.fixture(params=MEDIA.values(), ids=MEDIA)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Both switched on and with addresses; neither is started."""
    pair = Pair(hafsm_primary=True, medium=request.param, more="ping6 fd00::1\n")
    try:
        pair.ground.run(["ip", "addr", "add", "fd00::1/64", "dev", "switch", "nodad"])
        for number, director in enumerate(pair.directors, 11):
            for network in ("fd00::", "fe80::"):
                address = f"{network}{number}/64"
                pair.ground.run(["ip", "-n", director.name, "addr", "add", address, "dev", "eth0", "nodad"])
        yield pair
    finally:
        pair.close()


def test_they_hear_each_other_and_hand_over(pair: Pair) -> None:
    for director in pair.directors:
        director.start()
    wait_for(lambda: settled(pair), SETTLE_S, "both run and are settled")
    seen = len(pair.heartbeat.complaints())  # two that start together may surprise each other, over any medium
    assert pair.ownership.owners == {pair.hafsm.name}
    status = pair.hafsm.status()
    assert status is not None
    assert [(ping["name"], ping["alive"]) for ping in status["pings"]] == [("fd00::1", True)]
    assert pair.heartbeat.run(["cl_status", "nodestatus", "fd00::1"]).stdout.strip() == "ping"
    with pair.watch() as watch:
        pair.hafsm.stop()
        wait_for(lambda: pair.ownership.owners == {pair.heartbeat.name}, SETTLE_S, "the VIP is on heartbeat's side")
    assert not watch.by_both, watch.story
    pair.hafsm.start()
    wait_for(lambda: settled(pair), SETTLE_S, "hafsm is back and settled")
    wait_for(lambda: pair.ownership.owners == {pair.hafsm.name}, SETTLE_S, "the VIP is home")
    assert pair.heartbeat.complaints()[seen:] == []
