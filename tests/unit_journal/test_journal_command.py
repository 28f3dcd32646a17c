"""`hafsm journal`: verify, info, prune, export, on folders and files, whole, broken and hostile."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hafsm.cli.main import main
from journal import pack
from journal.folder import segments
from journal.reader import Journal
from journal.records import GapRecord
from journal.store import Store
from tests.unit_journal.journal_support import (
    Watched,
    action_record,
    event_record,
    run_record,
    snapshot_record,
    tamper,
    write_journal,
)


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["journal", *map(str, words)])


def test_verify_names_every_file_and_what_is_in_it(tmp_path: Path) -> None:
    write_journal(tmp_path / "j", events=6, parts=3)
    pack.pack(segments(tmp_path / "j")[0])
    answer = run("verify", tmp_path / "j")
    first, second, third = segments(tmp_path / "j")
    assert answer.output.splitlines() == [
        f"{first}: 6 events (1 to 6), chain intact",
        f"{second}: 6 events (7 to 12), chain intact",
        f"{third}: 6 events (13 to 18), chain intact",
    ]
    assert answer.exit_code == 0
    assert run("verify", first).output == f"{first}: 6 events (1 to 6), chain intact\n"


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("UPDATE event SET payload = '{\"x\":1}' WHERE seq = 8", "event 8"),
        ("DELETE FROM event WHERE seq = 8", "event 9"),
        ("UPDATE event SET seq = 100 WHERE seq = 8", "event 100"),
    ],
)
def test_verify_names_the_record(tmp_path: Path, sql: str, named: str) -> None:
    write_journal(tmp_path / "j", events=6, parts=3)
    path = segments(tmp_path / "j")[1]
    tamper(path, sql)
    answer = run("verify", tmp_path / "j")
    assert answer.exit_code == 2
    assert answer.output.splitlines()[1:] == [
        f"{path}: {named} does not match its chain: altered, or a record before it is missing"
    ]


def test_verify_names_what_is_missing_between_two_files(tmp_path: Path) -> None:
    write_journal(tmp_path / "j", events=6, parts=4)
    first, second, third, _ = segments(tmp_path / "j")
    second.unlink()
    answer = run("verify", tmp_path / "j")
    assert answer.exit_code == 2
    assert answer.output.splitlines()[1:] == [
        f"{third}: its first row does not continue the segment before it: events 7 to 12 are missing"
    ]
    tamper(first, "DELETE FROM action WHERE id = 6")
    first.unlink()
    assert run("verify", tmp_path / "j").exit_code == 0, "retention takes the beginning"


def test_info_shows_lives_gaps_sizes_and_counts(tmp_path: Path) -> None:
    store = Store(tmp_path / "j", 1, 2**30)
    store.open()
    store.begin_segment(run_record(), snapshot_record())
    store.write([(event_record(1), (action_record(1, 1),)), GapRecord(1, 3, 10**18, 2 * 10**18, "disk full")])
    store.begin_segment(run_record(), snapshot_record(4))
    store.write([run_record(2, 5)._replace(flags="new-thing"), snapshot_record(4)])
    store.write([(event_record(5), ()), (event_record(6, kind="checks_reported"), ())])
    store.close()
    pack.pack(segments(tmp_path / "j")[0])
    answer = run("info", tmp_path / "j")
    assert answer.exit_code == 0
    for line in (
        "journal-000000000001.db.gz: ",
        "packed, 1 events (1 to 4), 2026-09-21 14:13:20.000Z to 2026-09-21 14:13:20.000Z",
        "run 1 of director-a from event 1, 2026-09-21 14:13:20.000Z, hafsm 0.1, boot boot",
        "run 2 of director-a from event 5, 2026-09-21 14:13:20.000Z, hafsm 0.1, boot boot, behaviour new-thing",
        "gap: events 2 to 4 were not kept, 2001-09-09 01:46:40.000Z to 2033-05-18 03:33:20.000Z: disk full",
        "3 events\n           2  deadline_passed\n           1  checks_reported",
        "1 actions\n           1  send_message",
    ):
        assert line in answer.output, answer.output
    found = json.loads(run("info", "--json", tmp_path / "j").output)
    assert [segment["packed"] for segment in found["segments"]] == [True, False]
    assert found["gaps"][0]["count"] == 3 and [run["run"] for run in found["runs"]] == [1, 2]
    assert found["events"] == {"deadline_passed": 2, "checks_reported": 1}
    assert "configuration" not in found["runs"][0]


def test_prune_deletes_the_oldest_and_never_the_open_one(tmp_path: Path) -> None:
    folder = tmp_path / "j"
    write_journal(folder, events=6, parts=4)
    pack.pack(segments(folder)[0])
    first, second, _, last = segments(folder)
    size = last.stat().st_size

    def prune(*words: object) -> Result:
        return run("prune", "--journal", folder, *words)

    nothing = prune()
    assert nothing.exit_code == 2 and "give --keep SIZE or --older-than AGE" in nothing.output
    assert "'7 parsecs' is no age; expected one such as 12h or 30d" in prune("--older-than", "7 parsecs").output
    assert prune("--older-than", "1h").output == "0 segments deleted, 0 B freed\n"
    os.utime(first, (0, time.time() - 7200))
    os.utime(last, (0, time.time() - 7200))
    dry = prune("--older-than", "1h", "--dry-run")
    assert dry.output.startswith(f"would delete {first} (") and dry.output.count("\n") == 1
    assert first.exists()
    assert "1 segments deleted" in prune("--older-than", "1h").output
    assert not first.exists() and second.exists()
    with Watched(folder) as watched:
        watched.start()
        assert "2 segments deleted" in prune("--keep", "1B").output, "though the rest is larger still"
        watched.append(5)
        watched.wait_durable()
    assert segments(folder) == [last] and last.stat().st_size >= size
    assert run("verify", folder).exit_code == 0


def test_prune_leaves_no_hole(tmp_path: Path) -> None:
    """A file in the middle that is old by its time stays while an older one does."""
    write_journal(tmp_path / "j", parts=4)
    os.utime(segments(tmp_path / "j")[1], (0, 0))
    assert run("prune", "--journal", tmp_path / "j", "--older-than", "1h").output == "0 segments deleted, 0 B freed\n"


def test_export_is_one_command_under_two_names(tmp_path: Path) -> None:
    write_journal(tmp_path / "j", parts=2)
    answer = run("export", "--journal", tmp_path / "j", tmp_path / "a.db")
    assert answer.exit_code == 0 and answer.output == f"{tmp_path / 'a.db'}: 20 events (1 to 20)\n"
    again = CliRunner().invoke(main, ["export", "--journal", str(tmp_path / "a.db"), str(tmp_path / "b.db")])
    assert again.output == f"{tmp_path / 'b.db'}: 20 events (1 to 20)\n", "a file is exported as a folder is"
    with Journal(tmp_path / "a.db") as first, Journal(tmp_path / "b.db") as second:
        assert list(first.entries()) == list(second.entries())


def test_a_folder_without_segments_and_one_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        for command in ("verify", "info"):
            answer = run(command, path)
            assert answer.exit_code == 2 and answer.output.count("\n") == 1 and str(path) in answer.output
