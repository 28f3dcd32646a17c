"""Reading one segment in the order of writing, page by page, checking the chain on the way.

A page is read in one short transaction: what it holds is consistent while a writer runs, memory stays flat, and the
writer's log is never pinned by a slow reader.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import repeat
from operator import itemgetter, sub
from pathlib import Path
from typing import Any, NamedTuple

from journal.chain import (
    ORIGIN,
    SegmentRow,
    action_chain,
    action_chains,
    event_chain,
    event_chains,
    gap_chain,
    run_chain,
    segment_chain,
    snapshot_chain,
)
from journal.errors import SQLITE_ERRORS, ChainBroken, Unreadable
from journal.records import ActionRecord, Decision, Entry, EventRecord, GapRecord, RunRecord, SnapshotRecord
from journal.tables import NULLABLE, TABLES

PAGE_EVENTS = 256
"""Enough that the cost of a page's queries vanishes, little enough that what is made of a page is still in the
processor's cache when it is used: replay takes 6 % longer with 1024."""

_ALTERED = "does not match its chain: altered, or a record before it is missing"
_LAST_LINK = 2**63 - 1
_RARE_TABLES = ("segment", "run", "snapshot", "gap")

_WRONG_TYPES = (TypeError, AttributeError, ValueError, struct.error)
"""What comes of a cell that is NULL, text or a number where it must not be. STRICT tables refuse to store that; a
flipped bit in the file does not ask them."""

_CAUSE, _ACTION_PLACE, _EVENT_PLACE = itemgetter(1), itemgetter(5), itemgetter(9)
_LAST, _EVENT_COLUMNS, _ACTION_COLUMNS = itemgetter(-1), itemgetter(slice(9)), itemgetter(slice(5))
_make: Callable[[type[Any], Row], Any] = tuple.__new__
"""A named tuple of a row that is known to have as many cells."""

Row = tuple[Any, ...]
"""As SQLite returns it."""


class Head(NamedTuple):
    """A place between two rows: everything needed to append the next one or to check it."""

    link: int = 0
    chain: bytes = ORIGIN
    last_seq: int = 0
    last_action_id: int = 0
    last_run: int = 0


def read_head(connection: sqlite3.Connection, path: Path, before_seq: int | None = None) -> Head:
    """Where a segment ends, or where it stood before an event was written.

    Raises:
        Unreadable: not even the first row is there.
    """
    limit = _LAST_LINK
    seq_limit = _LAST_LINK if before_seq is None else before_seq
    try:
        if before_seq is not None:
            row = connection.execute(
                "SELECT link FROM event WHERE seq >= ? ORDER BY seq LIMIT 1", (before_seq,)
            ).fetchone()
            limit = row[0] if row else _LAST_LINK
        event = connection.execute(
            "SELECT link, chain, seq FROM event WHERE seq < ? ORDER BY seq DESC LIMIT 1", (seq_limit,)
        ).fetchone()
        action = connection.execute(
            "SELECT link, chain, id FROM action WHERE cause < ? ORDER BY cause DESC, id DESC LIMIT 1",
            (seq_limit,),
        ).fetchone()
        segment, run, snapshot, gap = (
            connection.execute(
                f"SELECT link, chain, {columns} FROM {table} WHERE link < ? ORDER BY link DESC LIMIT 1", (limit,)
            ).fetchone()
            for table, columns in (
                ("segment", "last_seq, last_action_id"),
                ("run", "run"),
                ("snapshot", "seq"),
                ("gap", "after_seq + count"),
            )
        )
    except SQLITE_ERRORS as error:
        raise Unreadable(path, str(error)) from None
    if segment is None:
        raise Unreadable(path, "has no first row")
    places = [(row[0], row[1]) for row in (event, action, segment, run, snapshot, gap) if row]
    seqs = [row[2] for row in (event, segment, snapshot, gap) if row]
    numbers = [segment[3], *seqs, *(row[2] for row in (action, run) if row), *(place[0] for place in places)]
    if not all(type(number) is int for number in numbers) or not all(type(chain) is bytes for _, chain in places):
        raise Unreadable(path, "is damaged: a number in its last rows is none")
    link, chain = max(places)
    return Head(link, chain, max(seqs), action[2] if action else segment[3], run[2] if run else 0)


def read_begin(connection: sqlite3.Connection, path: Path) -> Head:
    """Where the journal stood before a segment's first row.

    Raises:
        Unreadable: there is none.
    """
    try:
        row = connection.execute(
            "SELECT link - 1, previous, last_seq, last_action_id FROM segment ORDER BY link LIMIT 1"
        ).fetchone()
    except SQLITE_ERRORS as error:
        raise Unreadable(path, str(error)) from None
    if row is None or not isinstance(row[1], bytes) or not all(type(row[n]) is int for n in (0, 2, 3)):
        raise Unreadable(path, "has no first row")
    return Head(*row)


def walk(
    connection: sqlite3.Connection,
    path: Path,
    *,
    first_seq: int | None = None,
    last_seq: int | None = None,
    verify: bool = True,
    raw: bool = False,
) -> Iterator[Entry]:
    """All records of a file, or those from event `first_seq` to event `last_seq` and its actions.

    With `raw`, an event or action may come as its row, a plain tuple that begins with the record's columns: that saves
    a twentieth of a replay.

    Raises:
        ChainBroken: at the first row that does not fit. Without `verify`, the rows are taken as they are.
        Unreadable: the file is damaged; the text says after which record.
    """
    if first_seq is None:
        cursor = _Cursor(connection, path, last_seq, seq=-1, action_id=-1)
    else:
        head = read_head(connection, path, first_seq)
        cursor = _Cursor(connection, path, last_seq, seq=first_seq - 1, action_id=head.last_action_id)
        cursor.link = cursor.rare_link = head.link
        cursor.chain = head.chain
    cursor.raw = raw
    while not cursor.finished:
        page = cursor.read_page()
        intact = cursor.verified(page) if verify else None
        if intact is not None:
            yield from intact
            continue
        try:
            yield from cursor.entries(page, verify)
        except _WRONG_TYPES:
            raise cursor.damaged(page) from None


def walk_decisions(
    connection: sqlite3.Connection,
    path: Path,
    *,
    first_seq: int | None = None,
    last_seq: int | None = None,
    verify: bool = True,
) -> Iterator[Decision]:
    """As `walk`, without the runs, snapshots and gaps; these are checked all the same."""
    for entry in walk(connection, path, first_seq=first_seq, last_seq=last_seq, verify=verify):
        if not isinstance(entry, RunRecord | SnapshotRecord | GapRecord):
            yield entry


class _Page(NamedTuple):
    events: list[Row]
    actions: list[Row]
    rare: list[tuple[int, str, Row]]
    """(link, table, row)"""


@dataclass(slots=True)
class _Cursor:
    connection: sqlite3.Connection
    path: Path
    last_seq: int | None
    seq: int
    """Last event read."""
    action_id: int
    """Last action read."""
    rare_link: int = 0
    """The small tables are read up to here."""
    link: int = 0
    """Last row checked."""
    chain: bytes = b""
    """Its chain value; empty before the first row."""
    finished: bool = field(default=False, init=False)
    raw: bool = field(default=False, init=False)

    def read_page(self) -> _Page:
        try:
            self.connection.execute("BEGIN")
            try:
                return self._read_page()
            finally:
                self.connection.execute("COMMIT")
        except (*SQLITE_ERRORS, OverflowError) as error:
            raise Unreadable(self.path, f"{error} (after event {self.seq})") from None
        except _WRONG_TYPES:
            raise Unreadable(self.path, f"is damaged after event {self.seq}") from None

    def damaged(self, page: _Page) -> ChainBroken | Unreadable:
        """The error for the first row of a page that holds a cell of another type than its column."""
        found = [("event", row) for row in page.events] + [("action", row) for row in page.actions]
        for table, row in [*found, *((table, row) for _, table, row in page.rare)]:
            for cell, (column, kind) in zip(row, TABLES[table].items(), strict=False):
                if type(cell) is not kind and not (cell is None and column in NULLABLE):
                    return ChainBroken(self.path, f"{table} {row[0]}", _ALTERED)
        return Unreadable(self.path, f"is damaged before event {self.seq}")

    def _read_page(self) -> _Page:
        seq_to = _LAST_LINK if self.last_seq is None else self.last_seq
        events = self._rows("event", f"seq > ? AND seq <= ? ORDER BY seq LIMIT {PAGE_EVENTS}", self.seq, seq_to)
        self.finished = len(events) < PAGE_EVENTS
        if events and events[-1][0] <= self.seq:
            raise Unreadable(self.path, f"is damaged: its events go in a circle after event {self.seq}")
        whole = self.finished and self.last_seq is None
        action_to = _LAST_LINK
        if not whole:
            bound = self.connection.execute(
                "SELECT id FROM action WHERE cause <= ? ORDER BY cause DESC, id DESC LIMIT 1",
                (events[-1][0] if events else 0,),
            ).fetchone()
            action_to = bound[0] if bound else 0
        actions = self._rows("action", "id > ? AND id <= ? ORDER BY id", self.action_id, action_to)
        link_to = _LAST_LINK if whole else max(row[-2] for row in (*events[-1:], *actions[-1:], (0, 0)))
        rare: list[tuple[int, str, Row]] = []
        if link_to - self.rare_link != len(events) + len(actions):  # else these are all the rows up to there
            rare = [
                (row[0], table, row)
                for table in _RARE_TABLES
                for row in self._rows(table, "link > ? AND link <= ? ORDER BY link", self.rare_link, link_to)
            ]
            rare.sort(key=itemgetter(0))
        self.rare_link = max(self.rare_link, link_to)
        if events:
            self.seq = events[-1][0]
        if actions:
            self.action_id = actions[-1][0]
        return _Page(events, actions, rare)

    def _rows(self, table: str, where: str, after: int, to: int) -> list[Row]:
        # The same text for every page: SQLite compiles it once.
        query = f"SELECT * FROM {table} WHERE {where}"
        try:
            return self.connection.execute(query, (after, to)).fetchall()
        except sqlite3.OperationalError as error:
            if "decode" not in str(error):
                raise
        # A text is not UTF-8: find the row whose cells cannot be read.
        keys = self.connection.execute(query.replace("*", "rowid", 1), (after, to)).fetchall()
        for (key,) in keys:
            try:
                self.connection.execute(f"SELECT * FROM {table} WHERE rowid = ?", (key,)).fetchone()
            except sqlite3.OperationalError:
                raise ChainBroken(self.path, f"{table} {key}", _ALTERED) from None
        raise Unreadable(self.path, "changes while it is read")

    def verified(self, page: _Page) -> list[Decision] | None:
        """All of a page at once, if it is intact and holds nothing but events and actions; None: go row by row.

        Asks the same as `entries` does: every chain value follows from the one before, and the order of reading (events
        by number, each with its actions by id) is the order of writing, without a hole.
        """
        events, actions, rare = page
        if rare or not events or not self.chain:
            return None
        try:
            return self._verified(events, actions)
        except (*_WRONG_TYPES, IndexError):
            return None

    def _verified(self, events: list[Row], actions: list[Row]) -> list[Decision] | None:
        places = list(map(_EVENT_PLACE, events))
        chains, caused_chains = list(map(_LAST, events)), list(map(_LAST, actions))
        end = self.link + len(events) + len(actions)
        records: list[Any] = events
        caused_records: tuple[Any, ...] = tuple(actions)
        if not self.raw:
            records = list(map(_make, repeat(EventRecord), map(_EVENT_COLUMNS, events)))
            caused_records = tuple(map(_make, repeat(ActionRecord), map(_ACTION_COLUMNS, actions)))
        decisions: list[Decision] = list(zip(records, repeat(())))
        # The chain before each row: of the event before, or of that one's last action.
        before = [self.chain, *chains]
        before_caused: list[bytes] = []
        caused_places: list[int] = []
        causes: list[int] = []
        first = 0
        if places[0] != self.link + 1:
            return None
        for index, distance in enumerate(map(sub, (*places[1:], end + 1), places)):
            if distance == 1:
                continue
            if distance < 1:
                return None
            last = first + distance - 1
            event = records[index]
            decisions[index] = event, caused_records[first:last]
            before_caused.append(chains[index])
            if distance > 2:
                before_caused += caused_chains[first : last - 1]
            caused_places += range(places[index] + 1, places[index] + distance)
            causes += repeat(event[0], distance - 1)
            before[index + 1] = caused_chains[last - 1]
            first = last
        if list(map(_ACTION_PLACE, actions)) != caused_places or list(map(_CAUSE, actions)) != causes:
            return None
        del before[-1]
        if event_chains(before, events) != chains or action_chains(before_caused, actions) != caused_chains:
            return None
        self.link, self.chain = end, caused_chains[-1] if distance > 1 else chains[-1]
        return decisions

    def entries(self, page: _Page, verify: bool) -> Iterator[Entry]:
        """The page's records in the order of writing; with `verify`, each after its chain value was recomputed."""
        events, actions, rare = page
        actions.append((0, _LAST_LINK))
        next_action = 0
        next_cause = actions[0][1]
        next_rare = 0
        rare_link = rare[0][0] if rare else _LAST_LINK
        if rare and not self.chain:
            self.link = rare_link - 1
        make_event = EventRecord._make
        for row in events:
            while row[9] > rare_link:
                record = self._rare(rare[next_rare], verify)
                if record is not None:
                    yield record
                next_rare += 1
                rare_link = rare[next_rare][0] if next_rare < len(rare) else _LAST_LINK
            event = make_event(row[:9])
            if verify:
                self.link += 1
                self.chain = event_chain(self.chain, row[9], event)
                if self.chain != row[10]:
                    raise self._broken(f"event {event.seq}", row[9])
            if next_cause > event.seq:
                yield event, ()
                continue
            start = next_action
            while next_cause <= event.seq:
                next_action += 1
                next_cause = actions[next_action][1]
            yield event, self._caused(event.seq, actions[start:next_action], verify)
        if verify and next_action < len(actions) - 1:
            raise ChainBroken(self.path, f"action {actions[next_action][0]}", _ALTERED)
        for item in rare[next_rare:]:
            record = self._rare(item, verify)
            if record is not None:
                yield record

    def _caused(self, seq: int, rows: list[Row], verify: bool) -> tuple[ActionRecord, ...]:
        actions = tuple(ActionRecord._make(row[:5]) for row in rows)
        if verify:
            for action, row in zip(actions, rows, strict=True):
                self.link += 1
                self.chain = action_chain(self.chain, row[5], action)
                if self.chain != row[6] or action.cause != seq:
                    raise self._broken(f"action {action.id}", row[5])
        return actions

    def _rare(self, item: tuple[int, str, Row], verify: bool) -> RunRecord | SnapshotRecord | GapRecord | None:
        """A row of a small table; None for the first row of a file, which is no record."""
        link, table, row = item
        record: RunRecord | SnapshotRecord | GapRecord | None = None
        previous = self.chain
        self.link += verify
        if table == "segment":
            name = f"segment {link}"
            segment = SegmentRow(*row[1:4])
            if verify and previous and previous != segment.previous:
                raise self._broken(name, link)
            chain = segment_chain(link, segment) if verify else b""
        elif table == "run":
            record = RunRecord(*row[1:10])
            name = f"run {record.run}"
            chain = run_chain(previous, link, record) if verify else b""
        elif table == "snapshot":
            record = SnapshotRecord(*row[1:5])
            name = f"snapshot after event {record.seq}"
            chain = snapshot_chain(previous, link, record) if verify else b""
        else:
            record = GapRecord(*row[1:6])
            name = f"gap after event {record.after_seq}"
            chain = gap_chain(previous, link, record) if verify else b""
        if verify:
            self.chain = chain
            if chain != row[-1]:
                raise self._broken(name, link)
        return record

    def _broken(self, name: str, link: int) -> ChainBroken:
        """The error for a row that does not fit. When another row has its place in the order, that one was moved."""
        if link != self.link:
            for table in ("event", "action"):
                moved = self.connection.execute(f"SELECT rowid FROM {table} WHERE link = ?", (self.link,)).fetchone()
                if moved:
                    name = f"{table} {moved[0]}"
        return ChainBroken(self.path, name, _ALTERED)
