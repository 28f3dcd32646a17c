"""Makes the golden journals anew: `python -m tests.golden.record [NAME…]`.

A golden journal is a promise that what was decided once is decided again (law L8). Make one anew only

- when it is new, or
- before the first release that can have written it, when the shape of events, states or decisions changes.

After a release, never: a difference then is a bug, or a change that needs a behaviour flag (`hafsm.core.flags`) or an
upcaster (`hafsm.codec`). A change of these files belongs into a commit that says why the old decisions were given up.

The recorder drives the scripted pair of the core's tests, so no clock, network or chance is in the files: the same code
makes the same rows, and the files differ only in what the code does.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from hafsm.core import events as ev
from hafsm.core.settings import SECOND
from journal.export import export
from journal.records import ActionRecord, EventRecord
from tests.unit_core.pair import Machine, Pair
from tests.unit_journal.journal_support import tamper
from tests.unit_replay.recording import Change, record

FOLDER = Path(__file__).parent
LEASE_NS = 28 * SECOND
"""What `hafsm.config.build.lease_ns` makes of the scenario's deadtime of 30 s."""


def quiet_hour_with_one_flapping_real_server() -> Machine:
    """A real server fails and recovers; nobody else moves."""
    pair = Pair(lease_ns=LEASE_NS).start()
    for number in range(30):
        pair.a.report_checks(a31=number % 10 < 7, a41=True)
        pair.run(2 * SECOND)
    return pair.a


def power_cut_of_the_active_seen_by_the_survivor() -> Machine:
    """The active director vanishes; the standby waits out deadtime and takes over."""
    pair = Pair(lease_ns=LEASE_NS).start()
    pair.run(5 * SECOND)
    pair.a.power_cut()
    pair.run(45 * SECOND)
    return pair.b


def power_cut_and_failback_seen_by_the_victim() -> Machine:
    """Two lives of the one that vanished: its groups come home."""
    pair = Pair(lease_ns=LEASE_NS).start()
    pair.run(5 * SECOND)
    pair.a.power_cut()
    pair.run(45 * SECOND)
    pair.a.start()
    pair.until(pair.settled)
    pair.run(5 * SECOND)
    return pair.a


def graceful_stop_and_takeover() -> Machine:
    """SIGTERM: everything is given up first, and the other takes it at once."""
    pair = Pair(lease_ns=LEASE_NS).start()
    pair.a.report_checks(a31=True, a41=True)
    pair.run(5 * SECOND)
    pair.a.fold(ev.StopRequested(at=pair.now, by="SIGTERM"))
    pair.until(lambda: bool(pair.a.exits))
    pair.run(5 * SECOND)
    return pair.b


def standby_by_an_operator_and_back() -> Machine:
    """hb_standby, then hb_takeover."""
    pair = Pair(lease_ns=LEASE_NS).start()
    pair.run(5 * SECOND)
    pair.a.fold(ev.StandbyRequested(at=pair.now, hold="all", by="alice"))
    pair.run(20 * SECOND)
    pair.a.fold(ev.TakeoverRequested(at=pair.now, hold="all", by="alice"))
    pair.run(20 * SECOND)
    return pair.a


INCIDENTS: dict[str, Callable[[], Machine]] = {
    story.__name__.replace("_", "-"): story
    for story in (
        quiet_hour_with_one_flapping_real_server,
        power_cut_of_the_active_seen_by_the_survivor,
        power_cut_and_failback_seen_by_the_victim,
        graceful_stop_and_takeover,
        standby_by_an_operator_and_back,
    )
}
"""Name → what happened. Every one of these replays as identical."""


def _decided_otherwise(event: EventRecord, actions: list[ActionRecord]) -> tuple[EventRecord, list[ActionRecord]]:
    """As if the code had asked something that is not in the journal."""
    if event.seq == 30:
        return event._replace(reason="the moon is full"), actions
    return event, actions


def _one_byte(path: Path) -> None:
    tamper(path, "UPDATE event SET at_mono_ns = at_mono_ns + 1 WHERE seq = 20")


def _one_missing(path: Path) -> None:
    tamper(path, "DELETE FROM event WHERE seq = 20")


FAILING: dict[str, tuple[Change | None, Callable[[Path], None] | None, int]] = {
    "must-fail-one-decision-that-is-not-deterministic": (_decided_otherwise, None, 1),
    "must-fail-one-byte-altered": (None, _one_byte, 2),
    "must-fail-one-event-missing": (None, _one_missing, 2),
}
"""Name → falsified while it was written, or after, and the exit status of `hafsm replay`."""


def make(name: str) -> Path:
    """Write one file of the corpus; returns its path."""
    target = FOLDER / f"{name}.db"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "journal"
        if name in INCIDENTS:
            record(folder, INCIDENTS[name](), snapshots=40)
            export(folder, target, overwrite=True)
            return target
        change, spoil, _ = FAILING[name]
        machine = power_cut_of_the_active_seen_by_the_survivor()
        if change is None:
            record(folder, machine)
        else:
            record(folder, machine, change=change)
        export(folder, target, overwrite=True)
    if spoil is not None:
        spoil(target)
    return target


def main(names: list[str]) -> None:
    """Make the named files, or all."""
    for name in names or [*INCIDENTS, *FAILING]:
        path = make(name)
        print(f"{path.relative_to(FOLDER.parents[1])}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
