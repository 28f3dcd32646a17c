"""Recorded journals, each named after what happened: what was decided is decided again. Some must fail.

How and when they are made anew stands in `record.py`; a difference found here is not a reason to do so.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from hafsm.cli.main import main
from hafsm.cli.redacting import redact_addresses
from journal.export import export
from journal.reader import Journal
from replay.check import check
from replay.engine import replay
from tests.golden.record import FAILING, FOLDER, INCIDENTS, make

FILES = sorted(FOLDER.glob("*.db"))


def test_the_corpus_is_what_the_recorder_names() -> None:
    assert {path.stem for path in FILES} == {*INCIDENTS, *FAILING}
    assert sum(path.stat().st_size for path in FILES) < 2**20, "small enough for a repository"


@pytest.mark.parametrize("name", sorted(INCIDENTS))
def test_it_is_decided_again(name: str) -> None:
    result = replay(FOLDER / f"{name}.db")
    assert result.identical, result.difference
    assert result.events > 30 and result.actions > 20
    assert list(check(FOLDER / f"{name}.db")) == [], "and every invariant held"


@pytest.mark.parametrize("name", sorted(FAILING))
def test_what_must_fail_fails(name: str) -> None:
    """The tampered ones are refused, the one that another code decided is shown."""
    answer = CliRunner().invoke(main, ["replay", str(FOLDER / f"{name}.db")])
    assert answer.exit_code == FAILING[name][2], answer.output
    assert "event 2" in answer.output or "event 30" in answer.output


@pytest.mark.parametrize("name", sorted(INCIDENTS))
def test_without_addresses_it_is_still_decided_again(name: str, tmp_path: Path) -> None:
    export(FOLDER / f"{name}.db", tmp_path / "redacted.db", rewrite=redact_addresses)
    result = replay(tmp_path / "redacted.db")
    assert result.identical, result.difference
    assert result.events == replay(FOLDER / f"{name}.db").events


def test_the_recorder_makes_the_same_rows_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the files hold comes from the code alone."""
    name = "graceful-stop-and-takeover"
    monkeypatch.setattr("tests.golden.record.FOLDER", tmp_path)
    with Journal(make(name)) as again, Journal(FOLDER / f"{name}.db") as kept:
        assert list(again.scan()) == list(kept.scan())
