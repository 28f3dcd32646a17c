"""Age, clocks that are set, older schemas, torn tails: what happens to a journal over the years."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from journal.database import torn_bytes, wal_path
from journal.export import export
from journal.folder import segments
from journal.header import SCHEMA_VERSION
from journal.reader import Journal
from journal.records import RunRecord, SnapshotRecord
from journal.store import Store
from journal.survey import surveys
from tests.unit_journal.journal_support import Watched, event_record, run_record, snapshot_record

OLD = Path(__file__).with_name("schema-1.db")
"""Written by the first hafsm: one life, 20 events with an action each, closed."""


def test_a_segment_ends_at_its_age(tmp_path: Path) -> None:
    """By the monotonic clock; an empty one never."""
    with Watched(tmp_path / "j", segment_age_s=1e-6) as watched:
        watched.start()
        watched.wait_durable()
        assert not watched.writer.wants_snapshot
        watched.append()
        watched.wait_durable()
        watched.wait(lambda: watched.writer.wants_snapshot)
        watched.snapshot()
        watched.append()
        watched.wait_durable()
    assert len(segments(tmp_path / "j")) == 2


@pytest.mark.parametrize(("began_s", "full"), [(-3600.0, True), (-10.0, False), (+86_400.0 * 365, False)])
def test_the_age_of_a_file_found_again(tmp_path: Path, began_s: float, full: bool) -> None:
    """Wall time tells; a clock that was set back since makes it young, never a file that cannot be used."""
    began_ns = time.time_ns() + int(began_s * 1e9)
    store = Store(tmp_path / "j", 2**30, 2**30)
    store.open()
    store.begin_segment(run_record(), snapshot_record()._replace(at_wall_ns=began_ns))
    store.write([(event_record(1), ())])
    store.close()
    again = Store(tmp_path / "j", 2**30, 2**30, segment_age_s=1800)
    again.open()
    assert again.full is full
    again.close()


def test_clocks_that_were_set_are_told_and_disturb_nothing(tmp_path: Path) -> None:
    """An hour back, a day forward: order, chain and reading go by number."""
    hour_ns = 3600 * 10**9
    start_ns = event_record(0).at_wall_ns
    with Watched(tmp_path / "j") as watched:
        watched.start()
        for offset_ns in (0, -hour_ns, 23 * hour_ns):
            for _ in range(3):
                seq = watched.seq + 1
                watched.append(at_mono_ns=seq * 10**9, at_wall_ns=start_ns + seq * 10**9 + offset_ns)
        watched.wait_durable()
    (found,) = surveys(tmp_path / "j")
    assert found.clock_steps == [(4, -hour_ns), (7, 24 * hour_ns)]
    with Journal(found.path) as journal:
        assert [event.seq for event in journal.events()] == list(range(1, 10))


def test_a_file_of_the_first_schema_is_read_and_exported(tmp_path: Path) -> None:
    shutil.copy(OLD, tmp_path / "journal-000000000001.db")
    (found,) = surveys(tmp_path)
    assert (found.events.total(), found.actions.total(), len(found.runs)) == (20, 20, 1)
    assert export(tmp_path, tmp_path / "out.db").counts.events == 20
    with sqlite3.connect(tmp_path / "out.db") as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert connection.execute("SELECT count(*) FROM run_view").fetchone() == (1,)
    connection.close()


def test_an_upgrade_begins_a_new_segment_and_leaves_the_old_one_as_it_was(tmp_path: Path) -> None:
    """Evidence is not rewritten: the old file keeps its schema; chain and numbers go on."""
    folder = tmp_path / "j"
    folder.mkdir()
    shutil.copy(OLD, folder / "journal-000000000001.db")
    with Watched(folder) as watched:
        assert watched.position == (20, 20, 1)
        watched.start()
        watched.append(5, actions=1)
        watched.wait_durable()
    old, new = segments(folder)
    versions = []
    for path in (old, new):
        with sqlite3.connect(path) as connection:
            versions += connection.execute("PRAGMA user_version").fetchone()
        connection.close()
    assert versions == [1, SCHEMA_VERSION]
    assert [(found.first_seq, found.last_seq) for found in surveys(folder)] == [(1, 20), (21, 25)]
    with Journal(new) as journal:
        run, snapshot, *_ = journal.entries()
        assert isinstance(run, RunRecord) and run.run == 2
        assert isinstance(snapshot, SnapshotRecord) and snapshot.seq == 20


def test_a_torn_commit_is_told_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What a power cut leaves at the log's end: frames without the one that ends their commit, and half a frame."""
    folder, copy = tmp_path / "j", tmp_path / "copy"
    with Watched(folder) as watched:
        watched.start()
        watched.append(3)
        watched.wait_durable()
        path = segments(folder)[0]
        whole = wal_path(path).stat().st_size
        watched.append(200, payload='{"x":"' + "y" * 300 + '"}', urgent=False)
        watched.wait_durable()
        shutil.copytree(folder, copy)
    path = segments(copy)[0]
    assert torn_bytes(path) == 0
    frame = 24 + 4096
    with wal_path(path).open("r+b") as file:
        file.truncate(whole + 3 * frame + 100)
    assert torn_bytes(path) == 3 * frame + 100
    (found,) = surveys(copy)
    assert found.torn_bytes == 3 * frame + 100 and found.events.total() == 3
    with caplog.at_level(logging.INFO), Watched(copy) as watched:
        assert watched.position.last_seq == 3
    assert f"{3 * frame + 100} bytes of a commit that was cut off are left out of {path.name}" in caplog.text
