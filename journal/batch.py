"""From records to rows: linked, chained, and written in as few statements as possible."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from journal.chain import (
    SegmentRow,
    action_chain,
    event_chain,
    gap_chain,
    run_chain,
    segment_chain,
    snapshot_chain,
)
from journal.records import ActionRecord, Decision, Entry, EventRecord, GapRecord, RunRecord, SnapshotRecord
from journal.tables import TABLES
from journal.walk import Head, Row

_STATEMENT_ROWS = (64, 32, 16, 8, 4, 2, 1)
"""Rows in one statement. Each statement gives up the interpreter's lock once; with a busy main thread, getting it back
takes up to 5 ms (`sys.getswitchinterval`): 20 single inserts took 85 ms, in one statement 21 ms."""

_LARGEST = 2**63 - 1


class Batch:
    """Rows for one transaction, each chained to the one before."""

    def __init__(self, head: Head) -> None:
        self.head = head
        """Where the journal ends when this batch is committed."""
        self.row_count = 0
        self.gaps: list[GapRecord] = []
        self._events: list[Row] = []
        self._actions: list[Row] = []
        self._rows: dict[str, list[Row]] = {"event": self._events, "action": self._actions}

    def begin_segment(self) -> None:
        """Add the first row of a file."""
        link, chain, last_seq, last_action_id, _ = self.head
        segment = SegmentRow(last_seq, last_action_id, chain)
        self._append("segment", segment, segment_chain(link + 1, segment))

    def add(self, entry: Entry) -> None:
        """Add a record. One that cannot be stored becomes a gap of one event.

        A text that is not Unicode is kept with its odd parts escaped: it may come from a file name or a script.
        """
        match entry:
            case (event, actions):
                self._add_whole(event, actions)
            case RunRecord():
                entry = RunRecord._make(map(_printable, entry))
                self._append("run", entry, run_chain(self.head.chain, self.head.link + 1, entry))
                self.head = self.head._replace(last_run=entry.run)
            case SnapshotRecord():
                entry = SnapshotRecord._make(map(_printable, entry))
                self._append("snapshot", entry, snapshot_chain(self.head.chain, self.head.link + 1, entry))
            case GapRecord():
                entry = GapRecord._make(map(_printable, entry))
                self.gaps.append(entry)
                self._append("gap", entry, gap_chain(self.head.chain, self.head.link + 1, entry))
                last_seq = max(self.head.last_seq, entry.after_seq + entry.count)
                self.head = self.head._replace(last_seq=last_seq)

    def _add_whole(self, event: EventRecord, actions: Sequence[ActionRecord]) -> None:
        try:
            self._add_decision(event, actions)
        except UnicodeEncodeError:
            self.add(_printable_decision(event, actions))
        # Whatever is wrong with it is a bug of the caller; it costs this record, not those after it.
        except Exception as error:
            self.add(_lost(event, error))

    def insert(self, connection: sqlite3.Connection) -> None:
        """Write everything in one transaction; nothing is written on an error.

        Raises:
            sqlite3.Error: the disk refuses.
        """
        with _transaction(connection):
            for table, rows in self._rows.items():
                start = 0
                while start < len(rows):
                    size = next(size for size in _STATEMENT_ROWS if size <= len(rows) - start)
                    cells = [cell for row in rows[start : start + size] for cell in row]
                    connection.execute(_INSERT[table, size], cells)
                    start += size

    def _add_decision(self, event: EventRecord, actions: Sequence[ActionRecord]) -> None:
        link, chain, last_seq, last_action_id, last_run = self.head
        seq = event.seq
        if seq <= last_seq:
            raise ValueError(f"its number does not grow: event {last_seq} was before")
        link += 1
        chain = event_chain(chain, link, event)
        event_row = (*event, link, chain)
        action_rows = []
        for action in actions:
            if action.id <= last_action_id or action.cause != seq:
                raise ValueError(f"its action {action.id} of event {action.cause} follows action {last_action_id}")
            link += 1
            chain = action_chain(chain, link, action)
            last_action_id = action.id
            action_rows.append((*action, link, chain))
        self._events.append(event_row)
        self._actions += action_rows
        self.row_count += 1 + len(action_rows)
        self.head = Head(link, chain, seq, last_action_id, last_run)

    def _append(self, table: str, record: Row, chain: bytes) -> None:
        link = self.head.link + 1
        self._rows.setdefault(table, []).append((link, *record, chain))
        self.row_count += 1
        self.head = self.head._replace(link=link, chain=chain)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A full disk may have ended the transaction already.
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _insert_statement(table: str, size: int) -> str:
    row = "(" + ", ".join("?" * len(TABLES[table])) + ")"
    return f"INSERT INTO {table} VALUES " + ", ".join([row] * size)


_INSERT = {(table, size): _insert_statement(table, size) for table in TABLES for size in _STATEMENT_ROWS}


def _printable(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _printable_decision(event: EventRecord, actions: Sequence[ActionRecord]) -> Decision:
    return (
        EventRecord._make(map(_printable, event)),
        tuple(ActionRecord._make(map(_printable, action)) for action in actions),
    )


def _lost(event: EventRecord, error: Exception) -> GapRecord:
    seq = _storable(event.seq)
    wall_ns = _storable(event.at_wall_ns)
    return GapRecord(seq - 1, 1, wall_ns, wall_ns, f"event {event.seq} could not be stored: {error}")


def _storable(number: int) -> int:
    return min(max(number, 1), _LARGEST)
