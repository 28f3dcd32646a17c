"""What replay costs: verifying, explaining and deciding again, against what SQLite alone can do on the same file.

Run alone: `python -m tests.bench.replay_bench [EVENTS|FOLDER]`. FOLDER is a journal's; five million events are made by
`hafsm simulate --seed 1 --hours 700 --journal FOLDER` in some ten minutes. Rates are of CPU time; a busy machine says
less all the same. Opening a packed segment is part of each.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hafsm.core.settings import SECOND
from journal.database import open_for_reading
from journal.folder import segments
from journal.reader import Journal
from replay.engine import replay
from replay.graph import build
from replay.history import moments
from replay.parameters import parse
from replay.whatif import compare
from tests.unit_core.pair import Pair
from tests.unit_replay.recording import record, true_clock

EVENTS = 150_000
FAILING_EVERY_S = 600
BUDGET = 100_000
"""Events a second (design section 10)."""
PAGE_KIB = 4


def quiet_pair(folder: Path, events: int) -> Path:
    """The journal of an active director: heartbeats, pings, a check a second, a real server that fails now and then."""
    pair = Pair().start()
    second = 0
    while len(pair.a.log) < events:
        pair.run(SECOND)
        second += 1
        for machine in (pair.a, pair.b):
            machine.report_checks(a31=True, a41=second % FAILING_EVERY_S > 3)
        pair.b.log.clear()
    record(folder, pair.a, clock=true_clock, segment_bytes=2**40)
    (path,) = segments(folder)
    return path


def rate(name: str, events: int, work: Callable[[], object], runs: int = 2) -> float:
    """Events for a second of CPU, the best of these runs."""
    best = 0.0
    for _ in range(runs):
        began = time.process_time()
        work()
        best = max(best, events / (time.process_time() - began))
    print(f"{name:26} {best:9,.0f} events/s")
    return best


def resident_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_KIB


def select(paths: list[Path]) -> None:
    for path in paths:
        connection = open_for_reading(path)
        for _ in connection.execute("SELECT * FROM event ORDER BY seq"):
            pass
        connection.close()


def read(paths: list[Path]) -> None:
    for path in paths:
        with Journal(path) as journal:
            for _ in journal.entries():
                pass


def measure(paths: list[Path], runs: int) -> None:
    """What all of them cost, and what memory they take."""
    results = [replay(path) for path in paths]
    assert all(result.identical for result in results)
    events = sum(result.events for result in results)
    size = sum(path.stat().st_size for path in paths)
    print(f"{events:,} events in {len(paths)} segments, {size / events:.0f} bytes each")
    bare = rate("bare SELECT", events, lambda: select(paths), runs)
    reading = rate("read and verify the chain", events, lambda: read(paths), runs)
    folding = rate("replay", events, lambda: [replay(path) for path in paths], runs)
    print(f"{'':26} {folding / bare:9.1%} of a bare SELECT, {folding / reading:.0%} of reading alone; ", end="")
    print(f"budget {BUDGET:,}: {'met' if folding >= BUDGET else 'MISSED'}")
    sizes: list[int] = []
    for path in paths:
        replay(path, progress=lambda _: sizes.append(resident_kib()))
    early, late = max(sizes[: len(sizes) // 10]), max(sizes[-len(sizes) // 10 :])
    print(f"{'memory at most':26} {early / 1024:9.1f} MiB in the first tenth, {late / 1024:.1f} MiB in the last")


def main() -> None:
    """Print all of it."""
    given = sys.argv[1] if len(sys.argv) > 1 else str(EVENTS)
    if not given.isdecimal():
        measure(segments(Path(given)), 1)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = quiet_pair(Path(folder), int(given))
        measure([path], 2)
        events = int(given)
        rate("why: graph of causes", events, lambda: build(moments([path])))
        rate("what if", events, lambda: compare(moments([path]), parse(["deadtime=60"])))


if __name__ == "__main__":
    main()
