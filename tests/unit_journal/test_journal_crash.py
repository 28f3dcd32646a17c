"""Killed in the middle of writing, again and again: nothing that was reported durable is ever lost."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from journal.export import export
from journal.folder import latest, segments
from journal.reader import Journal
from tests.unit_journal.journal_support import PATIENCE_S, Watched

ROUNDS = 6

WRITING = """
import sys
from pathlib import Path
from tests.unit_journal.journal_support import Watched

def report(seq):
    sys.stdout.write(f"{seq}\\n")
    sys.stdout.flush()

watched = Watched(Path(sys.argv[1]), report, segment_bytes=150_000, flush_interval_s=0.001)
watched.start()
while True:
    watched.append(20, actions=1, payload='{"x":"' + "y" * 100 + '"}')
    if watched.writer.wants_snapshot:
        watched.snapshot()
    with watched.changed:
        watched.changed.wait_for(lambda: watched.durable > watched.seq - 500)
"""


def test_a_killed_writer_leaves_everything_it_reported(tmp_path: Path) -> None:
    """kill -9 after a random number of reports: the folder opens, verifies, continues, and holds what was durable."""
    folder = tmp_path / "j"
    chance = random.Random(20240229)
    known = 0
    for round_number in range(ROUNDS):
        with subprocess.Popen(
            [sys.executable, "-c", WRITING, folder],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            text=True,
        ) as process:
            assert process.stdout is not None
            for _ in range(chance.randrange(1, 60)):
                known = int(process.stdout.readline())
            process.kill()
            reported = process.stdout.read().split("\n")
            process.wait(PATIENCE_S)
        # The last line may be cut off by the kill; what stands before a line's end was written whole.
        known = max([known, *(int(line) for line in reported[:-1])])
        position = latest(folder)
        assert position.last_seq >= known, f"round {round_number}: {known} was durable"
        assert position.last_run == round_number + 1
    with Watched(folder) as watched:
        assert watched.position.last_seq >= known
        watched.start()
        watched.append()
        watched.wait_durable()
    result = export(folder, tmp_path / "all.db")
    assert result.segments == len(segments(folder)) > 2, "rotation was hit as well"
    assert result.counts.events == result.last_seq == watched.seq, "no hole and nothing twice"
    assert result.counts.runs == ROUNDS + 1
    assert not list(folder.glob("*.tmp*"))


def test_a_log_cut_short_by_a_power_cut_loses_only_its_end(tmp_path: Path) -> None:
    """A torn tail is normal: whole commits before it stay, and the writer goes on behind them."""
    folder = tmp_path / "j"
    watched = Watched(folder)
    watched.start()
    for _ in range(20):
        watched.append(5, actions=1)
        watched.wait_durable()
    (path,) = segments(folder)
    torn = tmp_path / "torn"
    torn.mkdir()
    (torn / path.name).write_bytes(path.read_bytes())
    log = path.with_name(path.name + "-wal").read_bytes()
    (torn / (path.name + "-wal")).write_bytes(log[: len(log) - 3000])
    watched.writer.close(PATIENCE_S)
    with Watched(torn) as after:
        assert 0 < after.position.last_seq < 100
        kept = after.position.last_seq
        after.start()
        after.append()
        after.wait_durable()
    with Journal(torn / path.name) as journal:
        assert journal.verify()[:3] == (kept + 1, kept, 2)
