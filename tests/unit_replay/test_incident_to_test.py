"""`hafsm replay FILE --to-test`: the fewest events that lead to the same decision, and a test that runs."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from hafsm.cli.replay import replay as replay_command
from hafsm.testing import incident
from journal.errors import JournalError
from journal.export import export
from replay.engine import replay
from replay.to_test import NothingDecided, find, shrink, to_test
from tests.unit_core.pair import SECOND, Pair
from tests.unit_replay.recording import record


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """server19's journal of a busy minute that ends with the death of server40, and a while after it."""
    folder = tmp_path_factory.mktemp("incident")
    pair = Pair().start()
    pair.b.report_checks(a31=True, a41=True)
    pair.run(20 * SECOND)
    pair.b.report_checks(a31=False, a41=True)
    pair.run(20 * SECOND)
    pair.a.power_cut()
    pair.run(45 * SECOND)
    record(folder / "journal", pair.b)
    export(folder / "journal", folder / "night.db")
    return folder / "night.db"


def test_few_events_are_left(file: Path) -> None:
    whole = find(file, None)
    small = shrink(whole)
    assert len(whole.events) > 80
    assert len(small.events) <= 8
    assert small.events[-1] == whole.events[-1]


def test_the_written_test_passes_and_its_journal_replays(file: Path, tmp_path: Path) -> None:
    test, line = to_test(file, tmp_path / "the night")
    assert test == tmp_path / "test_the_night.py"
    assert "cut down to" in line and "server40 is dead: nothing on eth0 for 30.0 s" in line
    assert replay(tmp_path / "the_night.db").identical
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
    decision = incident(tmp_path / "the_night.db")
    assert decision.effects == ["add_address"] and decision.state.mine.value == "all"


def test_the_written_test_fails_when_the_decision_changes(file: Path, tmp_path: Path) -> None:
    test, _ = to_test(file, tmp_path / "night")
    text = test.read_text()
    test.write_text(text.replace('"add_address"', '"remove_address"'))
    assert test.read_text() != text
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1


def test_another_event_can_be_asked_for(file: Path, tmp_path: Path) -> None:
    """Results stay joined to their actions although fewer actions were decided before them."""
    for entry in _decisions(file):
        if entry[1].startswith("group ") and entry[1].endswith("is started"):
            number = entry[0]
    _, line = to_test(file, tmp_path / "started", event=number)
    assert line.endswith("group IPaddr::192.168.2.232/24/eth0:0 is started")
    assert incident(tmp_path / "started.db").reason == line.split(": ", 1)[1]


def _decisions(file: Path) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    replay(file, until=lambda event: bool(event.reason and found.append((event.seq, event.reason))))  # type: ignore[func-returns-value]
    return found


def test_what_cannot_be_made(file: Path, tmp_path: Path) -> None:
    with pytest.raises(NothingDecided, match="event 99999 is not there or decided nothing"):
        to_test(file, tmp_path / "none", event=99999)
    to_test(file, tmp_path / "twice")
    with pytest.raises(JournalError, match="exists"):
        to_test(file, tmp_path / "twice")
    with pytest.raises(NothingDecided, match="cannot be part"):
        to_test(file, tmp_path / "class")


def test_the_command(file: Path, tmp_path: Path) -> None:
    answer = CliRunner().invoke(replay_command, [str(file), "--to-test", str(tmp_path / "night")])
    assert answer.exit_code == 0, answer.output
    assert "test_night.py" in answer.output and "events cut down to" in answer.output
    again = CliRunner().invoke(replay_command, [str(file), "--to-test", str(tmp_path / "night")])
    assert again.exit_code == 2 and "exists" in again.output
