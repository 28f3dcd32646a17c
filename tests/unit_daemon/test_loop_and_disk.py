"""Effects and the disk (laws L2 and L3): they wait for it, but not in vain, not twice, and never out of order."""

from __future__ import annotations

import asyncio
import time

from hafsm.core.actions import Action, AddAddress, RemoveAddress
from hafsm.core.events import DaemonStarted
from hafsm.core.settings import Address, NodeName
from hafsm.core.state import initial
from hafsm.daemon.clock import boottime_ns
from hafsm.daemon.loop import Loop
from journal.records import ActionRecord, EventRecord, SnapshotRecord
from tests.unit_core.pair import Pair

PATIENCE_NS = 20_000_000
ADDRESS = Address(ip="192.0.2.1", prefix=24, interface="eth0")


class Silent:
    """A journal whose disk never answers."""

    wants_snapshot = False

    def __init__(self) -> None:
        self.events: list[EventRecord] = []

    def append(self, event: EventRecord, actions: list[ActionRecord], urgent: bool) -> None:
        self.events.append(event)

    def snapshot(self, snapshot: SnapshotRecord) -> None:
        raise AssertionError("not asked for")


def make_loop() -> tuple[Loop, Silent, list[Action]]:
    journal, performed = Silent(), list[Action]()
    settings = Pair().a.config
    loop = Loop(initial(settings), journal, performed.append, patience_ns=PATIENCE_NS, on_crash=print)
    start = DaemonStarted(at=boottime_ns(), generation=1, wall_ns=0, boot_id="b", same_boot=True, version="0")
    loop.submit(start)
    loop.durable(loop.state.number)
    performed.clear()
    assert settings.me == NodeName("server40")
    return loop, journal, performed


def effect(number: int) -> Action:
    return AddAddress(id=number, address=ADDRESS, lease_s=1)


async def until(condition) -> None:
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit
        await asyncio.sleep(0.002)


async def test_a_disk_that_hangs_is_waited_for_once() -> None:
    """The first effect takes the patience; from then on nothing waits until the disk answers, and the order holds."""
    loop, journal, performed = make_loop()
    loop._hold(10, (effect(1),))
    loop._hold(11, (effect(2), effect(3)))
    assert performed == []
    await until(lambda: performed)
    assert [action.id for action in performed] == [1, 2, 3], "the younger ones went with the first"
    loop._hold(12, (RemoveAddress(id=4, address=ADDRESS),))
    assert performed[-1].id == 4
    lagged = [event for event in journal.events if event.kind == "journal_lagged"]
    assert len(lagged) == 1 and "did not wait for it" in lagged[0].reason
    loop._out_of_patience(11)  # the second timer
    assert len([event for event in journal.events if event.kind == "journal_lagged"]) == 1, "told once"
    loop.durable(loop.state.number)
    loop._hold(loop.state.number + 1, (effect(5),))
    assert performed[-1].id == 4, "it answers again: waited for again"
    loop.durable(loop.state.number + 1)
    assert performed[-1].id == 5


async def test_trouble_releases_what_waits_and_a_gap_is_told() -> None:
    loop, journal, performed = make_loop()
    loop._hold(10, (effect(1),))
    loop.troubled("disk I/O error")
    assert [action.id for action in performed] == [1] and loop.state.journal_trouble == "disk I/O error"
    loop.troubled(None)
    loop.gapped(5, 9, "disk I/O error")
    assert journal.events[-1].kind == "journal_gapped"
    assert journal.events[-1].reason == "the journal lost events 5 to 9: disk I/O error"
