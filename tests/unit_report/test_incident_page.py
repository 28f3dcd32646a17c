"""docs/incident.md is true: its journals replay here, and its commands print what it shows.

If a change of the core is meant, record the incident anew: python -m tests.kernel.record_incident, then
python -m tests.unit_report.incident_page, and look at the picture.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from journal.reader import Journal
from tests.unit_report.incident_page import FOLDER, INCIDENTS, MADE, PAGE, SCREENSHOT, Shown, blocks, copy_journals, run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("incident")
    copy_journals(made)
    return made


@pytest.fixture(scope="module")
def printed(folder: Path) -> dict[str, str]:
    """By command: what it prints, or how it fails; run in the order of the page."""
    outputs: dict[str, str] = {}
    for block in blocks():
        try:
            outputs[block.command] = run(block.command, folder)
        except (AssertionError, OSError) as error:
            outputs[block.command] = f"failed: {error}"
    return outputs


def test_the_page_shows_the_whole_way() -> None:
    shown = [block.command for block in blocks()]
    for wanted in ("hafsm why", "hafsm replay server19.db server40.db", "--set deadtime=", "hafsm report", "--to-test"):
        assert any(wanted in command for command in shown), wanted
    assert PAGE.read_text().count("\n$ ") == len(shown), "every command stands in a block of its own"
    assert "(incident/report.png)" in PAGE.read_text()


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.command)
def test_a_command_prints_what_the_page_shows(block: Shown, printed: dict[str, str]) -> None:
    assert printed[block.command] == block.output


def test_the_test_that_the_page_makes_is_the_one_that_runs(printed: dict[str, str], folder: Path) -> None:
    assert printed
    assert (folder / MADE[0]).read_text() == (INCIDENTS / MADE[0]).read_text()


def test_what_is_kept_is_small() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 600_000
    assert SCREENSHOT.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.db")), ids=lambda file: file.name)
def test_the_journals_hold_no_key(file: Path) -> None:
    with Journal(file) as journal:
        for run_of in journal.runs():
            assert "sha1 HI!" not in run_of.configuration and "md5 Hello!" not in run_of.configuration
            assert "sha256:" in run_of.configuration
