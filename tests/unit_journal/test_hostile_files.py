"""Whatever bytes a command is given: one clear line, exit 2, no traceback, and not a byte of the file changed."""

from __future__ import annotations

import gzip
import shutil
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hafsm.cli.main import main
from hafsm.core.settings import SECOND
from journal.export import export
from tests.unit_core.pair import Pair
from tests.unit_journal.journal_support import tamper
from tests.unit_replay.recording import record

COMMANDS = ("replay", "verify", "info", "export", "redact", "events")
BOUNDED = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
"""Some 10 ms an example and command."""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small incident: two lives, checks, snapshots."""
    folder = tmp_path_factory.mktemp("hostile")
    pair = Pair().start()
    pair.a.report_checks(a31=True, a41=False)
    pair.run(15 * SECOND)
    pair.a.power_cut()
    pair.run(5 * SECOND)
    pair.a.start()
    pair.run(5 * SECOND)
    record(folder / "j", pair.a, snapshots=20)
    export(folder / "j", folder / "good.db")
    return (folder / "good.db").read_bytes()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place")


def words(command: str, file: Path) -> list[str]:
    out = str(file.parent / "out/x.db")
    match command:
        case "replay":
            return ["replay", str(file)]
        case "verify" | "info":
            return ["journal", command, str(file)]
        case "export":
            return ["export", "--force", "--journal", str(file), out]
        case "redact":
            return [
                "export",
                "--force",
                "--redact-addresses",
                "--journal",
                str(file),
                str(file.parent / "out" / "x.db"),
            ]
        case _:
            return ["events", "--all", "--journal", str(file.parent)]


def survives(place: Path, content: bytes, name: str = "journal-000000000001.db") -> dict[str, int]:
    """Every command on this content; returns how each ended."""
    shutil.rmtree(place, ignore_errors=True)
    (place / "out").mkdir(parents=True)
    file = place / name
    file.write_bytes(content)
    codes = {}
    for command in COMMANDS:
        answer = CliRunner().invoke(main, words(command, file))
        assert answer.exception is None or isinstance(answer.exception, SystemExit), (command, answer.exc_info)
        assert answer.exit_code in (0, 2), (command, answer.output)
        if answer.exit_code:
            assert answer.stderr.count("\n") == 1 and str(place) in answer.stderr, (command, answer.stderr)
        codes[command] = answer.exit_code
        assert file.read_bytes() == content, f"{command} wrote to the file"
        assert {path.name for path in place.iterdir()} == {name, "out"}, f"{command} left something beside it"
    return codes


def test_the_good_file_is_good(good: bytes, place: Path) -> None:
    assert set(survives(place, good).values()) == {0}
    assert set(survives(place, gzip.compress(good), "journal-000000000001.db.gz").values()) == {0}


@BOUNDED
@given(
    st.lists(
        st.tuples(st.sampled_from([100, 4096, 2**31]), st.integers(0, 2**31), st.integers(0, 7)), min_size=1, max_size=3
    )
)
def test_flipped_bits(good: bytes, place: Path, flips: list[tuple[int, int, int]]) -> None:
    """In the header, the schema, or anywhere; most are found, those in unused space are none of ours."""
    content = bytearray(good)
    for below, where, bit in flips:
        content[where % min(below, len(good))] ^= 1 << bit
    survives(place, bytes(content))


@settings(BOUNDED, max_examples=15)
@given(st.integers(0, 2**31))
@example(0)
@example(1)
@example(99)
@example(100)
@example(4096)
def test_truncated(good: bytes, place: Path, size: int) -> None:
    content = good[: size % len(good)]
    assert set(survives(place, content).values()) == {2}


@settings(BOUNDED, max_examples=20)
@given(st.booleans(), st.integers(0, 2**31), st.integers(0, 7))
def test_packed_and_then_damaged(good: bytes, place: Path, cut: bool, where: int, bit: int) -> None:
    packed = bytearray(gzip.compress(good, mtime=0))
    if cut:
        del packed[where % len(packed) :]
    else:
        # Bytes 4 to 9 of gzip's header say when and where it was made: nobody reads them.
        packed[10 + where % (len(packed) - 10)] ^= 1 << bit
    codes = survives(place, bytes(packed), "journal-000000000001.db.gz")
    assert set(codes.values()) == {2}


@settings(BOUNDED, max_examples=20)
@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda tail: b"SQLite format 3\0" + tail))
def test_foreign_bytes(place: Path, content: bytes) -> None:
    assert set(survives(place, content).values()) == {2}


def evil(good: bytes, place: Path, sql: str) -> bytes:
    file = place / "evil.db"
    file.write_bytes(good)
    with sqlite3.connect(file, isolation_level=None) as connection:
        connection.executescript(sql)
    connection.close()
    return file.read_bytes()


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"


@pytest.mark.parametrize(
    "sql",
    [
        f"DROP TABLE event; CREATE VIEW event AS {ENDLESS} SELECT i AS seq FROM n",
        "DROP TABLE event; CREATE TABLE event (seq INTEGER PRIMARY KEY, x INTEGER AS (zeroblob(1000000000)))",
        "ALTER TABLE event ADD COLUMN more TEXT",
        "ALTER TABLE action RENAME TO deeds",
        "DROP TABLE gap",
        "PRAGMA user_version = 99",
        "PRAGMA application_id = 7",
    ],
)
def test_files_whose_tables_are_traps(good: bytes, place: Path, tmp_path: Path, sql: str) -> None:
    """A view that computes forever, a generated column, another or a future journal."""
    assert set(survives(place, evil(good, tmp_path, sql)).values()) == {2}


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE event SET payload = '{' WHERE seq = 5",
        "UPDATE event SET payload = replace(hex(zeroblob(50000)), '0', '[') WHERE seq = 5",
        "UPDATE event SET kind = 'rain_fell' WHERE seq = 5",
        "UPDATE event SET version = 77 WHERE seq = 5",
        "UPDATE event SET at_wall_ns = 9223372036854775807 WHERE seq = 5",
        "UPDATE snapshot SET state = '{}' WHERE seq = 0",
        "UPDATE snapshot SET state = replace(hex(zeroblob(50000)), '0', '[') WHERE seq = 0",
    ],
)
def test_records_that_were_forged(good: bytes, place: Path, tmp_path: Path, sql: str) -> None:
    """Readers that verify say which; the one that does not (`events` follows a live journal) shows what is there."""
    file = tmp_path / "forged.db"
    file.write_bytes(good)
    tamper(file, sql)
    codes = survives(place, file.read_bytes())
    assert codes.pop("events") == 0
    assert set(codes.values()) == {2}


@pytest.mark.parametrize("name", [".", "nowhere.db"], ids=["folder", "missing"])
def test_what_is_no_file(tmp_path: Path, name: str) -> None:
    for command in ("replay", "verify", "info"):
        answer = CliRunner().invoke(main, words(command, tmp_path / name))
        assert answer.exit_code == 2 and answer.stderr.count("\n") == 1, (command, answer.output)
