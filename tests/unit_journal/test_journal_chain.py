"""The chain: every cell counts, and the row that does not fit is named."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journal.chain import action_chain, action_chains, event_chain, event_chains
from journal.errors import ChainBroken
from journal.export import export
from journal.folder import segments
from journal.reader import Journal
from journal.records import ActionRecord, Decision, Entry, EventRecord, GapRecord, RunRecord, SnapshotRecord
from journal.store import Store
from journal.tables import TABLES
from journal.walk import PAGE_EVENTS, _Cursor, _Page
from tests.unit_journal.journal_support import (
    Watched,
    action_record,
    event_record,
    run_record,
    snapshot_record,
    tamper,
    write_journal,
)

text = st.text(max_size=20)
int64 = st.integers(-(2**63) + 1, 2**63 - 1)
short = st.integers(0, 100)


@st.composite
def decisions(draw: st.DrawFn) -> list[Decision]:
    """Growing numbers, anything else."""
    found: list[Decision] = []
    seq = action_id = 0
    for _ in range(draw(st.integers(0, 6))):
        seq += draw(st.integers(1, 2**40))
        actions = []
        for _ in range(draw(st.integers(0, 3))):
            action_id += draw(st.integers(1, 2**40))
            actions.append(ActionRecord(action_id, seq, draw(text), draw(short), draw(text)))
        event = EventRecord(
            seq,
            draw(int64),
            draw(int64),
            draw(text),
            draw(short),
            draw(text),
            draw(st.none() | int64),
            draw(st.none() | text),
            draw(text),
        )
        found.append((event, tuple(actions)))
    return found


@settings(max_examples=40, deadline=None)
@given(
    decisions(),
    st.builds(RunRecord, st.just(1), int64, int64, text, text, text, text, text, text),
    st.builds(SnapshotRecord, st.just(0), int64, text, text),
    st.builds(GapRecord, st.just(2**50), st.integers(1, 2**40), int64, int64, text),
)
def test_any_records_come_back_and_verify(
    found: list[Decision], run: RunRecord, snapshot: SnapshotRecord, gap: GapRecord
) -> None:
    """Encode and decode are inverse for every value SQLite can hold, NUL characters and odd planes included."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder), 2**30, 2**30)
        store.open()
        store.begin_segment(run, snapshot)
        store.write([*found, gap])
        store.close()
        with Journal(segments(Path(folder))[0]) as journal:
            assert list(journal.entries()) == [run, snapshot, *found, gap]


@settings(max_examples=40, deadline=None)
@given(decisions(), st.lists(st.binary(min_size=32, max_size=32), min_size=20, max_size=20), int64)
def test_many_rows_at_once_have_the_same_chains_as_row_by_row(
    found: list[Decision], previous: list[bytes], link: int
) -> None:
    events = [event for event, _ in found]
    actions = [action for _, caused in found for action in caused]
    rows = [(*event, link, b"") for event in events]
    caused = [(*action, link, b"") for action in actions]
    before, before_caused = previous[: len(rows)], previous[: len(caused)]
    assert event_chains(before, rows) == [
        event_chain(one, link, event) for one, event in zip(before, events, strict=True)
    ]
    assert action_chains(before_caused, caused) == [
        action_chain(one, link, action) for one, action in zip(before_caused, actions, strict=True)
    ]


def test_pages_of_events_and_actions_are_checked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row by row only where there are rare rows, and where something does not fit."""
    write_journal(tmp_path / "j", 3 * PAGE_EVENTS)
    slow: list[int] = []
    entries = _Cursor.entries

    def counted(cursor: _Cursor, page: _Page, verify: bool) -> Iterator[Entry]:
        slow.append(len(page.events))
        return entries(cursor, page, verify)

    monkeypatch.setattr(_Cursor, "entries", counted)
    with Journal(segments(tmp_path / "j")[0]) as journal:
        assert journal.verify().events == 3 * PAGE_EVENTS
    assert len(slow) == 2, "the page with the first row, and the empty one at the end"


@pytest.mark.parametrize("wrong", [-1, 1])
def test_an_action_that_stands_behind_another_event_than_its_cause_is_refused(tmp_path: Path, wrong: int) -> None:
    """In a page that is checked at once, and although every chain value is right."""
    last, odd = 2 * PAGE_EVENTS + 3, 2 * PAGE_EVENTS - 1
    with Watched(tmp_path / "j") as watched:
        watched.start()
        watched.append(last, actions=1)
        watched.wait_durable()
    (path,) = segments(tmp_path / "j")
    with Journal(path) as journal:
        assert journal.verify().actions == last
        (_, (action,)), *later = journal.scan(odd)
    chain, link = place_of(path, "SELECT chain, link FROM event WHERE seq = ?", odd)
    moved = action._replace(cause=odd + wrong)
    for record in (moved, *(record for event, actions in later for record in (event, *actions))):
        link += 1
        if isinstance(record, ActionRecord):
            chain = action_chain(chain, link, record)
            tamper(path, "UPDATE action SET cause = ?, chain = ? WHERE id = ?", record.cause, chain, record.id)
        else:
            chain = event_chain(chain, link, record)
            tamper(path, "UPDATE event SET chain = ? WHERE seq = ?", chain, record.seq)
    with Journal(path) as journal, pytest.raises(ChainBroken):
        journal.verify()


def place_of(path: Path, sql: str, *values: object) -> tuple[bytes, int]:
    with closing(sqlite3.connect(path)) as connection:
        found: tuple[bytes, int] = connection.execute(sql, values).fetchone()
    return found


def test_raw_entries_begin_with_the_columns_of_their_records(tmp_path: Path) -> None:
    write_journal(tmp_path / "j", 3 * PAGE_EVENTS)
    with Journal(segments(tmp_path / "j")[0]) as journal:
        raw = [entry for entry in journal.entries(raw=True) if len(entry) == 2]
        assert any(type(event) is tuple for event, _ in raw) and any(actions for _, actions in raw)
        cut = [
            (EventRecord._make(event[:9]), tuple(ActionRecord._make(a[:5]) for a in actions)) for event, actions in raw
        ]
        assert cut == list(journal.scan())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file with every kind of row: two merged segments, two snapshots, a gap."""
    folder = tmp_path_factory.mktemp("chain")
    store = Store(folder / "j", 1, 2**30)
    store.open()
    store.begin_segment(run_record(), snapshot_record())
    for seq in range(1, 4):
        store.write(
            [
                (
                    event_record(seq, action_id=seq, outcome="done"),
                    (action_record(2 * seq, seq), action_record(2 * seq + 1, seq)),
                )
            ]
        )
    store.write([GapRecord(3, 2, 5, 6, "full")])
    store.begin_segment(run_record(), snapshot_record(5))
    store.write([(event_record(6), (action_record(9, 6),)), (event_record(7), ())])
    store.close()
    export(folder / "j", folder / "whole.db")
    return folder / "whole.db"


def cells() -> list[tuple[str, str, type]]:
    return [(table, column, kind) for table, columns in TABLES.items() for column, kind in columns.items()]


@pytest.mark.parametrize(("table", "column", "kind"), cells(), ids=lambda value: str(value))
def test_one_changed_cell_is_refused_and_its_row_named(
    written: Path, tmp_path: Path, table: str, column: str, kind: type
) -> None:
    """Whatever is altered, wherever: verification fails, and at the altered row."""
    path = tmp_path / "altered.db"
    path.write_bytes(written.read_bytes())
    with Journal(path) as journal:
        journal.verify()
    key = next(iter(TABLES[table]))
    target = f"(SELECT {key} FROM {table} LIMIT 1 OFFSET (SELECT count(*) FROM {table}) / 2)"
    changed = {
        int: f"{column} + 1000" if column == key else f"coalesce({column}, 0) + 1",
        str: f"coalesce({column}, '') || 'x'",
        bytes: f"CAST(x'55' || substr({column}, 2) AS BLOB)",
    }[kind]
    tamper(path, f"UPDATE {table} SET {column} = {changed} WHERE {key} = {target}")
    with Journal(path) as journal, pytest.raises(ChainBroken) as raised:
        journal.verify()
    assert "altered, or a record before it is missing" in str(raised.value)
    if column != key or table in ("event", "action"):
        assert raised.value.row.split()[0] == table, raised.value
    # The key of the other tables is the row's place in the order: a row put elsewhere is missing where it was.


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("DELETE FROM event WHERE seq = 2", "event 3"),
        ("DELETE FROM action WHERE id = 4", "action 5"),
        ("DELETE FROM snapshot WHERE seq = 5", "event 6"),
        ("DELETE FROM gap", "segment 14"),
        ("UPDATE event SET payload = '{\"a\":1}' WHERE seq = 3", "event 3"),
        ("INSERT INTO action SELECT 8, 3, kind, version, payload, link, chain FROM action WHERE id = 7", "action 8"),
        ("UPDATE action SET cause = 3 WHERE id = 4", "action 4"),
        ("UPDATE event SET seq = 5000 WHERE seq = 2", "event 5000"),
    ],
)
def test_missing_added_and_moved_rows_are_named(written: Path, tmp_path: Path, sql: str, named: str) -> None:
    """The first row that does not fit, or the one that stands where it does not belong."""
    path = tmp_path / "altered.db"
    path.write_bytes(written.read_bytes())
    tamper(path, sql)
    with Journal(path) as journal, pytest.raises(ChainBroken) as raised:
        journal.verify()
    assert raised.value.row == named
    assert str(raised.value).startswith(f"{path}: {named} does not match its chain")


def test_text_that_is_not_unicode_any_more_is_named(tmp_path: Path) -> None:
    """A flipped bit in the file itself, not through SQLite."""
    write_journal(tmp_path / "j", events=50, parts=2)
    path = segments(tmp_path / "j")[0]
    raw = path.read_bytes()
    place = raw.index(b"deadline_passed")
    path.write_bytes(raw[:place] + bytes([raw[place] | 0x80]) + raw[place + 1 :])
    with Journal(path) as journal, pytest.raises(ChainBroken, match=r"event \d+ does not match"):
        journal.verify()


def test_verification_spans_pages_and_may_begin_anywhere(tmp_path: Path) -> None:
    """Page boundaries fall between an event and its actions as well; a scan from the middle checks from there."""
    count = 2 * PAGE_EVENTS + 5
    with Watched(tmp_path / "j") as watched:
        watched.start()
        for part in range(5):
            watched.append(count // 5, actions=part % 3)
            watched.snapshot()
        watched.append(count - watched.seq, actions=1)
        watched.wait_durable()
    (path,) = segments(tmp_path / "j")
    with Journal(path) as journal:
        counts = journal.verify()
        assert (counts.events, counts.actions, counts.snapshots) == (count, watched.action_id, 6)
        whole = list(journal.scan())
        assert whole == list(journal.scan(verify=False))
        for first in (1, PAGE_EVENTS, PAGE_EVENTS + 1, count // 5 + 1, count):
            assert list(journal.scan(first)) == whole[first - 1 :]
        assert list(journal.scan(7, PAGE_EVENTS)) == whole[6:PAGE_EVENTS]
        assert list(journal.scan(count + 1)) == []
        assert [action for _, actions in whole for action in actions] == list(journal.actions())
    tamper(path, "UPDATE event SET reason = 'x' WHERE seq = ?", PAGE_EVENTS + 9)
    with Journal(path) as journal:
        assert len(list(journal.scan(PAGE_EVENTS + 10))) == count - PAGE_EVENTS - 9
        with pytest.raises(ChainBroken, match=f"event {PAGE_EVENTS + 9} "):
            list(journal.scan(PAGE_EVENTS - 1))
