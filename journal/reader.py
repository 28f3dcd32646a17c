"""Reading one segment, be it live, sealed, exported or copied to a read-only place. Never writes to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from journal.database import open_for_reading
from journal.errors import SQLITE_ERRORS, Unreadable
from journal.records import ActionRecord, Decision, Entry, EventRecord, GapRecord, RunRecord, SnapshotRecord
from journal.walk import Row, read_head, walk, walk_decisions

_PAGE_ROWS = 4096


class Counts(NamedTuple):
    """How much was found intact."""

    events: int
    actions: int
    runs: int
    snapshots: int
    gaps: int
    lost_events: int
    """Sum of the gaps' counts."""


class Journal:
    """One segment, opened for reading.

    Iterators read in pages: what is committed while one runs is given out too, and an iterator may be left unfinished.

    Raises:
        Unreadable: empty, truncated, not a journal, made by a newer version, or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = open_for_reading(path)
        try:
            read_head(self._connection, path)
        except Unreadable:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file; iterators of this journal end with an error afterwards."""
        self._connection.close()

    def runs(self) -> list[RunRecord]:
        """The lives of the daemon in this segment, oldest first, each once."""
        runs: dict[int, RunRecord] = {}
        for row in self._pages("SELECT * FROM run WHERE link > ? ORDER BY link", 0):
            runs.setdefault(row[1], RunRecord(*row[1:10]))
        return list(runs.values())

    def snapshots(self) -> Iterator[SnapshotRecord]:
        """Oldest first; states may be large, so they come one by one."""
        link = 0
        while row := self._one("SELECT * FROM snapshot WHERE link > ? ORDER BY link LIMIT 1", link):
            link = row[0]
            yield SnapshotRecord(*row[1:5])

    def gaps(self) -> list[GapRecord]:
        """What could not be kept."""
        return [GapRecord(*row[1:6]) for row in self._pages("SELECT * FROM gap WHERE link > ? ORDER BY link", 0)]

    def events(self, first: int | None = None, last: int | None = None) -> Iterator[EventRecord]:
        """Events numbered `first` to `last`, both included."""
        after = -1 if first is None else first - 1
        limit = "" if last is None else f"AND seq <= {last}"
        for row in self._pages(f"SELECT * FROM event WHERE seq > ? {limit} ORDER BY seq", after):
            yield EventRecord._make(row[:9])

    def actions(self, first_cause: int | None = None, last_cause: int | None = None) -> Iterator[ActionRecord]:
        """Actions whose cause is numbered `first_cause` to `last_cause`, both included, by id."""
        first = self._one(
            "SELECT id FROM action WHERE cause >= ? ORDER BY cause, id LIMIT 1",
            -1 if first_cause is None else first_cause,
        )
        if first is None:
            return
        for row in self._pages("SELECT * FROM action WHERE id > ? ORDER BY id", first[0] - 1):
            if last_cause is not None and row[1] > last_cause:
                return
            yield ActionRecord._make(row[:5])

    def action(self, id: int) -> ActionRecord | None:
        """One action by its id."""
        row = self._one("SELECT * FROM action WHERE id = ?", id)
        return ActionRecord._make(row[:5]) if row else None

    def result(self, action_id: int) -> EventRecord | None:
        """The event that told how an action ended; None while it runs or when it has none."""
        row = self._one("SELECT * FROM event WHERE action_id = ? ORDER BY seq LIMIT 1", action_id)
        return EventRecord._make(row[:9]) if row else None

    def scan(self, first: int | None = None, last: int | None = None, *, verify: bool = True) -> Iterator[Decision]:
        """Events `first` to `last` with their actions, in order.

        Raises:
            ChainBroken: with `verify`, at the first row that does not fit.
        """
        return walk_decisions(self._connection, self.path, first_seq=first, last_seq=last, verify=verify)

    def entries(self, *, verify: bool = True, raw: bool = False) -> Iterator[Entry]:
        """Everything in the order of writing: runs, snapshots and gaps between the decisions.

        With `raw`, events and actions may be plain tuples that begin with the columns of their records. A run whose
        number came before is the same life going on in the next segment.

        Raises:
            ChainBroken: with `verify`, at the first row that does not fit.
        """
        return walk(self._connection, self.path, verify=verify, raw=raw)

    def verify(self) -> Counts:
        """Check the whole chain.

        Raises:
            ChainBroken: at the first row that does not fit.
        """
        events = actions = snapshots = gaps = lost = 0
        runs = set()
        for entry in self.entries():
            match entry:
                case RunRecord():
                    runs.add(entry.run)
                case SnapshotRecord():
                    snapshots += 1
                case GapRecord():
                    gaps += 1
                    lost += entry.count
                case (_, caused):
                    events += 1
                    actions += len(caused)
        return Counts(events, actions, len(runs), snapshots, gaps, lost)

    def first(self) -> int | None:
        """Number of the first event; None when there is none yet."""
        row = self._one("SELECT seq FROM event WHERE seq > ? ORDER BY seq LIMIT 1", -1)
        return None if row is None else int(row[0])

    def last(self) -> int:
        """Number of the last event, written or lost; for a segment without events, of the one before its start."""
        return read_head(self._connection, self.path).last_seq

    def _pages(self, query: str, after: int) -> Iterator[Row]:
        # Rows in pages by their key, the first column, so that no read transaction outlives a page.
        while True:
            try:
                rows = self._connection.execute(f"{query} LIMIT {_PAGE_ROWS}", (after,)).fetchall()
            except SQLITE_ERRORS as error:
                raise Unreadable(self.path, str(error)) from None
            yield from rows
            if len(rows) < _PAGE_ROWS:
                return
            if rows[-1][0] <= after:
                raise Unreadable(self.path, f"is damaged: its rows go in a circle after {after}")
            after = rows[-1][0]

    def _one(self, query: str, parameter: int) -> Row | None:
        try:
            row: Row | None = self._connection.execute(query, (parameter,)).fetchone()
        except SQLITE_ERRORS as error:
            raise Unreadable(self.path, str(error)) from None
        return row
