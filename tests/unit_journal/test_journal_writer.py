"""The writer: order, durability, segments, retention, and whatever a disk can do to it."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from journal.errors import JournalError
from journal.folder import latest, read_after, segments
from journal.reader import Journal
from journal.records import GapRecord, Position, RunRecord, SnapshotRecord
from tests.unit_journal.journal_support import (
    PATIENCE_S,
    Watched,
    event_record,
    run_record,
    snapshot_record,
    write_journal,
)


def test_what_was_appended_is_read_back_in_order(tmp_path: Path) -> None:
    """Events, their actions, the run and the snapshots come back as they were handed over."""
    with Watched(tmp_path / "j") as watched:
        assert watched.position == Position(0, 0, 0)
        watched.start()
        watched.append(3, actions=2)
        watched.append(action_id=1, outcome="done", reason="director-b is dead")
        watched.wait_durable()
    with Journal(segments(tmp_path / "j")[0]) as journal:
        entries = list(journal.entries())
        assert entries[:2] == [run_record(), snapshot_record()]
        assert entries[2:] == list(journal.scan()) == read_after(tmp_path / "j", 0, 100)
        assert [(event.seq, [action.id for action in actions]) for event, actions in journal.scan()] == [
            (1, [1, 2]),
            (2, [3, 4]),
            (3, [5, 6]),
            (4, []),
        ]
        assert journal.result(1) == event_record(4, action_id=1, outcome="done", reason="director-b is dead")
        assert journal.result(2) is None
    assert latest(tmp_path / "j") == Position(4, 6, 1)


def test_an_urgent_event_does_not_wait_for_the_flush_interval(tmp_path: Path) -> None:
    """With an interval of an hour, only urgency can make it durable."""
    with Watched(tmp_path / "j", flush_interval_s=3600.0) as watched:
        watched.start()
        watched.wait_durable()
        watched.append(5)
        watched.append(urgent=True)
        watched.wait_durable(6)


def test_the_next_life_continues_numbers_and_chain(tmp_path: Path) -> None:
    """A second writer goes on where the first ended, in the same segment."""
    write_journal(tmp_path / "j", events=5)
    with Watched(tmp_path / "j") as watched:
        assert watched.position == Position(5, 5, 1)
        watched.start()
        watched.append(2)
        watched.wait_durable()
    (path,) = segments(tmp_path / "j")
    with Journal(path) as journal:
        assert journal.verify()[:3] == (7, 5, 2)
        assert [run.first_seq for run in journal.runs()] == [1, 6]


def test_the_folder_and_its_files_are_private(tmp_path: Path) -> None:
    """0700 and 0640 whatever the umask."""
    before = os.umask(0)
    try:
        write_journal(tmp_path / "j", parts=2)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "j").stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "j").iterdir()}
    assert set(modes.values()) == {0o640}, modes


def test_a_full_segment_asks_for_a_snapshot_and_the_next_one_begins_with_it(tmp_path: Path) -> None:
    """Rotation: run and snapshot first, chain continued, numbers contiguous, the old file sealed."""
    folder = tmp_path / "j"
    with Watched(folder, segment_bytes=1) as watched:
        watched.start()
        watched.wait_durable()
        assert not watched.writer.wants_snapshot, "an empty segment is never full"
        for _ in range(3):
            watched.append(4, actions=1)
            watched.wait_durable()
            watched.wait(lambda: watched.writer.wants_snapshot)
            watched.snapshot()
        watched.append()
        watched.wait_durable()
    assert list(folder.glob("*-wal")) == [], "a sealed or closed file has no log"
    paths = segments(folder)
    assert [path.name for path in paths] == [f"journal-{seq:012d}.db" for seq in (1, 5, 9, 13)]
    for path in paths[1:]:
        with Journal(path) as journal:
            first, second, *_ = journal.entries()
            assert isinstance(first, RunRecord) and first == run_record()
            assert isinstance(second, SnapshotRecord) and second.seq + 1 == journal.first()
    assert latest(folder).last_action_id == 12


def test_action_numbers_survive_segments_without_actions(tmp_path: Path) -> None:
    """The id to continue from is known although the newest file holds no action."""
    with Watched(tmp_path / "j", segment_bytes=1) as watched:
        watched.start()
        watched.append(3, actions=3)
        watched.snapshot()
        watched.append()
        watched.wait_durable()
    for path in segments(tmp_path / "j")[:-1]:
        path.unlink()
    assert latest(tmp_path / "j") == Position(4, 9, 1)


def test_retention_deletes_the_oldest_whole_files(tmp_path: Path) -> None:
    """The folder stays within its limit and never loses the file in use."""
    total = 400_000
    with Watched(tmp_path / "j", segment_bytes=1, total_bytes=total) as watched:
        watched.start()
        for _ in range(12):
            watched.append(20)
            watched.snapshot()
            watched.wait_durable()
        watched.append()
        watched.wait_durable()
    paths = segments(tmp_path / "j")
    assert 2 <= len(paths) < 12
    assert sum(path.stat().st_size for path in paths) <= total
    assert latest(tmp_path / "j").last_seq == watched.seq


def test_a_second_writer_is_refused_by_name_of_the_folder_and_process(tmp_path: Path) -> None:
    """One writer at a time, across processes."""
    program = (
        "import sys; from pathlib import Path; from journal.writer import Writer\n"
        "w = Writer(Path(sys.argv[1]), on_durable=print, on_trouble=print); w.open()\n"
        "print('open', flush=True); sys.stdin.read(); w.close(10)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, tmp_path / "j"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "open\n"
        with pytest.raises(JournalError, match=rf"{tmp_path}/j is in use by process {holder.pid}"):
            Watched(tmp_path / "j")
        holder.communicate(timeout=PATIENCE_S)
    with Watched(tmp_path / "j"):
        pass


def test_a_run_must_continue_the_journal(tmp_path: Path) -> None:
    """Numbers that do not follow are a bug that shows at once, as is a second run."""
    with Watched(tmp_path / "j") as watched:
        with pytest.raises(JournalError, match=r"begins with event 7 .* ends with event 0"):
            watched.writer.start_run(run_record(1, 7), snapshot_record(6))
        watched.start()
        with pytest.raises(JournalError, match="started a run already"):
            watched.start()


def test_a_hung_callback_or_disk_never_blocks_append(tmp_path: Path) -> None:
    """While the thread is stuck, append returns, close gives up in time, and nothing is lost once it goes on."""
    stuck, release = threading.Event(), threading.Event()

    def hang(seq: int) -> None:
        stuck.set()
        release.wait(PATIENCE_S)

    watched = Watched(tmp_path / "j", on_durable=hang)
    watched.start()
    assert stuck.wait(PATIENCE_S)
    watched.append(5000, urgent=True)
    assert watched.writer.close(0.01) is False
    release.set()
    watched.wait_durable()
    assert watched.writer.close(PATIENCE_S) is True


def test_a_callback_that_raises_does_not_end_the_writer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A closed event loop must not cost history."""

    def fail(seq: int) -> None:
        if seq == 1:
            raise RuntimeError("Event loop is closed")

    with Watched(tmp_path / "j", on_durable=fail) as watched:
        watched.start()
        watched.append()
        watched.wait(lambda: "Event loop is closed" in caplog.text)
        watched.append()
        watched.wait_durable(2)


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Watched, sqlite3.Connection]]:
    """A started writer with a small queue, and a foreign connection that holds its file's write lock."""
    with Watched(tmp_path / "j", queue_max_events=100) as watched:
        watched.start()
        watched.append(10, actions=1)
        watched.wait_durable()
        holder = sqlite3.connect(segments(tmp_path / "j")[0], isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        yield watched, holder
        holder.close()


def test_trouble_is_reported_once_and_nothing_is_lost_while_the_queue_holds(
    held: tuple[Watched, sqlite3.Connection], tmp_path: Path
) -> None:
    """A file locked by somebody: told with SQLite's name, kept, written later, told again."""
    watched, holder = held
    watched.append(50, actions=1, urgent=True)
    watched.wait(lambda: bool(watched.troubles))
    assert watched.durable == 10
    holder.rollback()
    watched.wait_durable()
    watched.wait(lambda: watched.troubles == ["database is locked (SQLITE_BUSY)", None])
    with Journal(segments(tmp_path / "j")[0]) as journal:
        assert journal.verify()[:2] == (60, 60)
        assert journal.gaps() == []


def test_an_overflow_becomes_a_gap_with_count_times_and_cause(
    held: tuple[Watched, sqlite3.Connection], tmp_path: Path
) -> None:
    """The oldest waiting events go, are counted, and a snapshot is wanted; the chain goes on over the gap."""
    watched, holder = held
    watched.append(urgent=True)
    watched.wait(lambda: bool(watched.troubles))
    watched.append(300, actions=1)
    holder.rollback()
    watched.wait_durable()
    watched.wait(lambda: watched.writer.wants_snapshot)
    watched.snapshot()
    watched.append()
    watched.wait_durable()
    assert watched.troubles[-1] is None
    with Journal(segments(tmp_path / "j")[0]) as journal:
        counts = journal.verify()
        assert (counts.events, counts.gaps, counts.lost_events) == (112, 1, 200)
        (gap,) = journal.gaps()
        wall = [event_record(seq).at_wall_ns for seq in (12, 211)]
        assert gap == GapRecord(11, 200, *wall, "database is locked (SQLITE_BUSY)")
        seqs = [event.seq for event in journal.events()]
        assert seqs == [*range(1, 12), *range(212, 313)]
        kinds = [type(entry).__name__ for entry in journal.entries()]
        assert kinds.index("GapRecord") == 2 + 11
        assert kinds[-2:] == ["SnapshotRecord", "tuple"]


def test_a_record_that_cannot_be_stored_costs_itself_alone(tmp_path: Path) -> None:
    """Too large, not growing or with foreign actions: a gap each, and the records around them are there."""
    with Watched(tmp_path / "j") as watched:
        watched.start()
        watched.append()
        watched.append(at_mono_ns=2**63)
        watched.append()
        watched.writer.append(event_record(3), [], False)
        watched.writer.append(event_record(4), [(9, 77, "send_message", 1, "{}")], False)  # type: ignore[list-item]
        watched.seq = 4
        watched.append(reason="from a script: \udcff")
        watched.wait_durable()
    with Journal(segments(tmp_path / "j")[0]) as journal:
        assert [event.seq for event in journal.events()] == [1, 3, 5]
        assert [event.reason for event in journal.events(5)] == ["from a script: \\udcff"]
        gaps = journal.gaps()
        assert [(gap.after_seq, gap.count) for gap in gaps] == [(1, 1), (2, 1), (3, 1)]
        assert "event 2 could not be stored" in gaps[0].cause
        assert "does not grow" in gaps[1].cause
        journal.verify()


def test_a_removed_file_is_noticed_and_a_new_one_begun(tmp_path: Path) -> None:
    """`rm` under a running writer costs what was in the file; the loss is counted."""
    folder = tmp_path / "j"
    with Watched(folder) as watched:
        watched.start()
        watched.append(5, actions=1)
        watched.wait_durable()
        for path in folder.glob("journal-*"):
            path.unlink()
        watched.append(actions=1, urgent=True)
        watched.wait_durable()
        watched.wait(lambda: watched.troubles[-1:] == [None])
        assert watched.writer.wants_snapshot
    assert "was removed" in str(watched.troubles[0])
    (path,) = segments(folder)
    with Journal(path) as journal:
        assert journal.verify()[:3] == (1, 1, 1)
        assert [(gap.after_seq, gap.count) for gap in journal.gaps()] == [(0, 5)]


def test_an_unfinished_segment_of_a_crash_is_removed(tmp_path: Path) -> None:
    """Rotation that was cut off leaves nothing in the way."""
    write_journal(tmp_path / "j")
    (tmp_path / "j" / "journal-000000000011.db.tmp").write_bytes(b"half")
    with Watched(tmp_path / "j", segment_bytes=1) as watched:
        watched.start()
        watched.append()
        watched.wait_durable()
    assert not list((tmp_path / "j").glob("*.tmp"))


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """A path below a plain file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match=f"journal folder {tmp_path}/file/j"):
        Watched(tmp_path / "file" / "j")


def test_a_damaged_newest_segment_is_refused_at_start(tmp_path: Path) -> None:
    """Appending behind damage would bury it."""
    write_journal(tmp_path / "j")
    with (tmp_path / "j" / "journal-000000000001.db").open("r+b") as file:
        file.truncate(5000)
    with pytest.raises(JournalError, match="is truncated: 5000 bytes"):
        Watched(tmp_path / "j")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of one megabyte."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_costs_nothing_once_there_is_room_again(small_disk: Path) -> None:
    """ENOSPC in the middle: reported, everything kept in memory, written when space returns."""
    with Watched(small_disk / "j") as watched:
        watched.start()
        watched.append(10)
        watched.wait_durable()
        free = os.statvfs(small_disk)
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(free.f_bavail * free.f_bsize))
        watched.append(500, payload='{"x":"' + "y" * 200 + '"}', urgent=True)
        watched.wait(lambda: bool(watched.troubles))
        assert watched.durable < watched.seq
        ballast.unlink()
        watched.wait_durable()
        watched.wait(lambda: watched.troubles[-1] is None)
    assert "SQLITE_FULL" in str(watched.troubles[0]) or "No space" in str(watched.troubles[0]), watched.troubles
    with Journal(segments(small_disk / "j")[0]) as journal:
        assert journal.verify()[:1] == (510,)
        assert journal.gaps() == []


def test_a_disk_full_from_the_start_delays_the_first_segment(small_disk: Path) -> None:
    """The run is kept until a file can be made."""
    with Watched(small_disk / "j", queue_max_events=20) as watched:
        free = os.statvfs(small_disk)
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(free.f_bavail * free.f_bsize))
        watched.start()
        watched.wait(lambda: bool(watched.troubles))
        watched.append(50)
        ballast.unlink()
        watched.wait_durable()
    with Journal(segments(small_disk / "j")[0]) as journal:
        counts = journal.verify()
        assert (counts.runs, counts.events, counts.lost_events) == (1, 20, 30)


def test_a_read_only_disk_is_an_error_at_start_only(small_disk: Path) -> None:
    """Nothing can be opened there, and the message says so."""
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(JournalError, match="Read-only file system"):
        Watched(small_disk / "j")
