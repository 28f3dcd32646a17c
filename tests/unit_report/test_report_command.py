"""`hafsm report`: exit status, and what it does to files."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hafsm.cli.main import main
from tests.unit_report.conftest import Recorded


def report(*words: object) -> Result:
    return CliRunner().invoke(main, ["report", *map(str, words)])


def test_both_journals_become_one_file(recorded: Recorded, tmp_path: Path) -> None:
    incident = recorded("power_cut")
    done = report(incident.a, incident.b, "-o", tmp_path / "incident.html")
    assert done.exit_code == 0, done.output
    assert " decisions\n" in done.stdout and "left out: " in done.stdout
    text = (tmp_path / "incident.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>") and "server19's is 3.500 ms ahead of server40's" in text
    assert [file.name for file in tmp_path.iterdir()] == ["incident.html"]


def test_a_folder_and_times_are_understood(recorded: Recorded, tmp_path: Path) -> None:
    folder = recorded("power_cut").b.with_suffix("")
    times = ("--from", "2023-11-14T22:14:00Z", "--until", "2023-11-14T22:14:15Z")
    done = report(folder, "-o", tmp_path / "r.html", *times)
    assert done.exit_code == 0, done.output
    assert "server40 is dead" in (tmp_path / "r.html").read_text()


def test_nothing_is_overwritten_without_force(recorded: Recorded, tmp_path: Path) -> None:
    output = tmp_path / "incident.html"
    output.write_text("precious")
    done = report(recorded("power_cut").a, "-o", output)
    assert done.exit_code == 1 and done.stderr == f"{output} exists; --force replaces it\n"
    assert output.read_text() == "precious"
    assert report(recorded("power_cut").a, "-o", output, "--force").exit_code == 0
    assert output.read_text().startswith("<!DOCTYPE html>")


def test_nothing_is_left_if_it_cannot_be_written(recorded: Recorded, tmp_path: Path) -> None:
    done = report(recorded("power_cut").a, "-o", tmp_path / "no" / "r.html")
    assert done.exit_code == 1 and "No such file or directory" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_time_without_events_writes_nothing(recorded: Recorded, tmp_path: Path) -> None:
    done = report(recorded("power_cut").a, "-o", tmp_path / "r.html", "--from", "2030-01-01")
    assert (done.exit_code, done.stderr) == (1, "nothing was recorded between these times\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["missing", "text", "empty", "altered", "same", "torn"])
def test_what_cannot_be_read_is_one_line_and_status_2(kind: str, recorded: Recorded, tmp_path: Path) -> None:
    incident = recorded("power_cut")
    file = tmp_path / "bad.db"
    files = [file]
    if kind == "text":
        file.write_text("<script>alert(1)</script>\n" * 1000)
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "torn":
        file.write_bytes(incident.a.read_bytes()[:20_000])
    elif kind == "altered":
        file.write_bytes(incident.a.read_bytes())
        database = sqlite3.connect(file)
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f"DROP TRIGGER {name}")
        database.execute("UPDATE event SET reason = 'all was well' WHERE reason LIKE '%starts%'")
        database.commit()
        database.close()
    elif kind == "same":
        files = [incident.a, incident.a]
    before = file.read_bytes() if file.exists() else None
    done = report(*files, "-o", tmp_path / "r.html")
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("unreadable: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "r.html").exists()
    assert (file.read_bytes() if file.exists() else None) == before


@pytest.mark.parametrize("words", [[], ["a.db"], ["a", "b", "c", "-o", "x"], ["a", "-o", "x", "--from", "noon"]])
def test_misuse_is_status_2(words: list[str]) -> None:
    done = report(*words)
    assert done.exit_code == 2 and "Usage: " in done.stderr
