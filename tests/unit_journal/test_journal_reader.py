"""Reading: live, sealed, copied, read-only, foreign and damaged files; views and triggers."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from pathlib import Path

import pytest

from journal.errors import JournalError, Unreadable
from journal.folder import latest, read_after, segments
from journal.header import APPLICATION_ID, SCHEMA_VERSION
from journal.reader import Journal
from journal.records import ActionRecord, Position
from journal.tables import TABLES
from tests.unit_journal.journal_support import Watched, event_record, run_record, snapshot_record, write_journal


def test_a_live_journal_is_read_while_it_is_written(tmp_path: Path) -> None:
    """What is durable is visible, through an already open reader too, and the writer is not disturbed."""
    with Watched(tmp_path / "j") as watched:
        watched.start()
        watched.append(10, actions=1)
        watched.wait_durable()
        with Journal(segments(tmp_path / "j")[0]) as journal:
            half_read = journal.events()
            assert next(half_read).seq == 1
            assert (journal.first(), journal.last()) == (1, 10)
            watched.append(5)
            watched.wait_durable()
            assert journal.last() == 15
            assert journal.verify().events == 15
        assert watched.troubles == []


def test_following_crosses_segments(tmp_path: Path) -> None:
    """`read_after` continues where it ended, over file borders, in bites of any size."""
    assert latest_of_empty(tmp_path) == Position(0, 0, 0)
    write_journal(tmp_path / "j", events=7, parts=3)
    seq, seqs = 0, []
    while found := read_after(tmp_path / "j", seq, 4):
        assert len(found) <= 4
        seqs += [event.seq for event, _ in found]
        assert all(len(actions) == 1 for _, actions in found)
        seq = seqs[-1]
    assert seqs == list(range(1, 22))


def latest_of_empty(folder: Path) -> Position:
    (folder / "empty").mkdir()
    assert read_after(folder / "empty", 0, 10) == []
    return latest(folder / "empty")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="No such file"):
        latest(tmp_path / "nowhere")


def test_ranges_of_events_and_actions(tmp_path: Path) -> None:
    """Both ends belong to a range."""
    write_journal(tmp_path / "j", events=20, actions=2)
    with Journal(segments(tmp_path / "j")[0]) as journal:
        assert [event.seq for event in journal.events(5, 8)] == [5, 6, 7, 8]
        assert [action.id for action in journal.actions(5, 6)] == [9, 10, 11, 12]
        assert [action.id for action in journal.actions(20)] == [39, 40]
        assert list(journal.actions(21)) == []
        found = journal.action(12)
        assert found is not None and found.cause == 6
        assert journal.action(41) is None


def test_reading_leaves_nothing_beside_a_copy(tmp_path: Path) -> None:
    """A copied file, in WAL mode but without its log, is opened as it is."""
    write_journal(tmp_path / "j")
    copy = tmp_path / "copy" / "incident.db"
    copy.parent.mkdir()
    (source,) = segments(tmp_path / "j")
    copy.write_bytes(source.read_bytes())
    assert copy.read_bytes()[18] == 2, "in WAL mode"
    with Journal(copy) as journal:
        assert journal.verify().events == 10
    assert [path.name for path in copy.parent.iterdir()] == ["incident.db"]
    assert copy.read_bytes() == source.read_bytes()


def test_a_copy_on_a_read_only_disk(tmp_path: Path) -> None:
    """Archive media: without a log it is read, with one the message says what to do."""
    if os.geteuid() != 0:
        pytest.skip("mounting a read-only tmpfs needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(disk)], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        with Watched(tmp_path / "j") as watched:
            watched.start()
            watched.append(3)
            watched.wait_durable()
            (live,) = segments(tmp_path / "j")
            (disk / "live.db").write_bytes(live.read_bytes())
            (disk / "live.db-wal").write_bytes(live.with_name(live.name + "-wal").read_bytes())
        (disk / "closed.db").write_bytes(live.read_bytes())
        (disk / "lock").touch()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with Journal(disk / "closed.db") as journal:
            assert journal.verify().events == 3
        with pytest.raises(Unreadable, match="copy both to a writable folder"):
            Journal(disk / "live.db")
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def changed_header(path: Path, pragma: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(pragma)
    connection.close()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is empty"),
        (b"SQLite", "is truncated: 6 bytes"),
        (b"#!/bin/sh\n" * 20, "is not an SQLite database"),
        (None, "No such file or directory"),
    ],
)
def test_files_that_are_no_database(tmp_path: Path, content: bytes | None, text: str) -> None:
    """Each says what it is."""
    path = tmp_path / "x.db"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Unreadable, match=f"{path}: {text}"):
        Journal(path)


def test_foreign_and_newer_databases(tmp_path: Path) -> None:
    """Somebody else's SQLite file, and a journal of the future."""
    foreign = tmp_path / "foreign.db"
    changed_header(foreign, "CREATE TABLE t (a)")
    with pytest.raises(Unreadable, match="not a journal"):
        Journal(foreign)
    write_journal(tmp_path / "j")
    (path,) = segments(tmp_path / "j")
    changed_header(path, "PRAGMA user_version = 3")
    with pytest.raises(Unreadable, match=r"made by a newer hafsm \(schema 3, this one reads up to 2\)"):
        Journal(path)
    assert (APPLICATION_ID, SCHEMA_VERSION) == (0x6861666A, 2)


def test_truncated_and_overwritten_files(tmp_path: Path) -> None:
    """Half a file is refused at once, a page of rubbish when it is met."""
    write_journal(tmp_path / "j", events=400)
    (path,) = segments(tmp_path / "j")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Unreadable, match="is truncated"):
        Journal(path)
    page = whole.index(b"deadline_passed") // 4096
    path.write_bytes(whole[: page * 4096] + b"\xff" * 4096 + whole[(page + 1) * 4096 :])
    with pytest.raises(Unreadable, match="malformed"), Journal(path) as journal:
        journal.verify()


def test_triggers_refuse_every_change(tmp_path: Path) -> None:
    """By the `sqlite3` shell too."""
    write_journal(tmp_path / "j")
    connection = sqlite3.connect(segments(tmp_path / "j")[0], isolation_level=None)
    connection.execute("INSERT INTO gap VALUES (99, 1, 1, 1, 1, 'x', x'00')")
    for table, columns in TABLES.items():
        for sql in (f"UPDATE {table} SET {next(iter(columns))} = 5", f"DELETE FROM {table}"):
            with pytest.raises(sqlite3.IntegrityError, match="a journal is never changed"):
                connection.execute(sql)
    connection.close()


def test_views_for_people(tmp_path: Path) -> None:
    """Wall time in words, outcomes beside actions, batches of checks spread out."""
    results = '[{"check":3,"ok":true,"duration_us":812},{"check":7,"ok":false,"detail":"timeout"}]'
    with Watched(tmp_path / "j") as watched:
        watched.start()
        watched.append(actions=2, reason="director-b is dead")
        watched.append(action_id=1, outcome="done", at_mono_ns=3_501_000)
        watched.append(kind="checks_reported", payload=f'{{"at":1,"plan":2,"results":{results}}}')
        watched.wait_durable()
    connection = sqlite3.connect(segments(tmp_path / "j")[0])
    wall = "2026-09-21 14:13:20.000001Z"
    assert connection.execute("SELECT wall, reason FROM event_view").fetchone() == (wall, "director-b is dead")
    assert connection.execute("SELECT id, wall, cause, outcome, took_ms, reason FROM action_view").fetchall() == [
        (1, wall, 1, "done", 3.5, "director-b is dead"),
        (2, wall, 1, None, None, "director-b is dead"),
    ]
    assert connection.execute('SELECT seq, plan, "index", ok, detail, duration_us FROM check_result').fetchall() == [
        (3, 2, 3, 1, "", 812),
        (3, 2, 7, 0, "timeout", 0),
    ]
    connection.close()


def test_checks_are_spread_out_with_their_targets(tmp_path: Path) -> None:
    """By the plan that was in force: the one of the same number that was set last, in this file or before it began."""
    first = '[{"kind":"http","address":"192.0.2.1","port":80},{"kind":"ping","address":"2001:db8::1","port":0}]'
    second = '[{"kind":"connect","address":"192.0.2.3","port":25}]'
    with Watched(tmp_path / "j") as watched:
        run, snapshot = run_record(), snapshot_record()._replace(state=f'{{"checks_plan":1,"checks":{first}}}')
        watched.writer.start_run(run, snapshot)

        def report(plan: int, *checks: int) -> None:
            results = ",".join(f'{{"check":{check},"ok":true,"duration_us":{100 + check}}}' for check in checks)
            watched.append(kind="checks_reported", payload=f'{{"plan":{plan},"results":[{results}]}}')

        report(1, 1, 0)
        for plan, checks in ((2, second), (1, second)):
            watched.seq += 1
            payload = f'{{"plan":{plan},"checks":{checks}}}'
            watched.writer.append(
                event_record(watched.seq), [ActionRecord(watched.seq, watched.seq, "set_checks", 1, payload)], False
            )
            report(plan, 0)
        report(7, 0)
        watched.wait_durable()
    connection = sqlite3.connect(segments(tmp_path / "j")[0])
    assert connection.execute('SELECT seq, plan, "index", target, ok, duration_us FROM check_result').fetchall() == [
        (1, 1, 1, "ping [2001:db8::1]:0", 1, 101),
        (1, 1, 0, "http 192.0.2.1:80", 1, 100),
        (3, 2, 0, "connect 192.0.2.3:25", 1, 100),
        (5, 1, 0, "connect 192.0.2.3:25", 1, 100),
        (6, 7, 0, None, 1, 100),
    ]
    connection.close()
