"""What replay costs: verifying, explaining and deciding again, against what SQLite alone can do on the same file.

Run alone: `python -m tests.bench.replay_bench [EVENTS]`. Rates are of CPU time, so that a busy machine says the same.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hafsm.core.settings import SECOND
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


def rate(name: str, events: int, work: Callable[[], object]) -> float:
    """Events for a second of CPU, the better of two runs."""
    best = 0.0
    for _ in range(2):
        began = time.process_time()
        work()
        best = max(best, events / (time.process_time() - began))
    print(f"{name:26} {best:9,.0f} events/s")
    return best


def resident_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_KIB


def select(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        for _ in connection.execute("SELECT * FROM event ORDER BY seq"):
            pass
    connection.close()


def read(path: Path) -> None:
    with Journal(path) as journal:
        for _ in journal.entries():
            pass


def main() -> None:
    """Print all of it."""
    events = int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS
    with tempfile.TemporaryDirectory() as folder:
        path = quiet_pair(Path(folder), events)
        result = replay(path)
        assert result.identical
        events = result.events
        bare = rate("bare SELECT", events, lambda: select(path))
        reading = rate("read and verify the chain", events, lambda: read(path))
        folding = rate("replay", events, lambda: replay(path))
        print(f"{'':26} {folding / bare:9.1%} of a bare SELECT, {folding / reading:.0%} of reading alone; ", end="")
        print(f"budget {BUDGET:,}: {'met' if folding >= BUDGET else 'MISSED'}")
        rate("why: graph of causes", events, lambda: build(moments([path])))
        rate("what if", events, lambda: compare(moments([path]), parse(["deadtime=60"])))
        sizes: list[int] = []
        replay(path, progress=lambda _: sizes.append(resident_kib()))
        early, late = sizes[len(sizes) // 10], sizes[-1]
        print(f"{'memory':26} {early / 1024:9.1f} MiB after a tenth, {late / 1024:.1f} MiB at the end")


if __name__ == "__main__":
    main()
