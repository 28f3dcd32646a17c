"""The writer: records are queued by the daemon's loop and committed in groups by a thread of its own.

A disk decides nothing (law L3): `append` never waits for it. When it fails, records are kept and written later; when
too many wait, the oldest are dropped, counted, and named by a `GapRecord` as soon as writing works again.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from journal.errors import JournalError
from journal.records import (
    ActionRecord,
    Decision,
    Entry,
    EventRecord,
    GapRecord,
    Position,
    RunRecord,
    SnapshotRecord,
)
from journal.store import Store

SEGMENT_BYTES = 64 * 2**20
TOTAL_BYTES = 2**30

_BATCH_ENTRIES = 2000
"""Bounds one transaction (some 600 kB), so that a backlog is worked off in commits of tens of milliseconds."""

_RETRY_FIRST_S = 0.02
_RETRY_MAX_S = 1.0

_log = logging.getLogger(__name__)


class _Start(NamedTuple):
    """The run and its first snapshot: never dropped, as nothing after them can be understood without them."""

    run: RunRecord
    snapshot: SnapshotRecord
    opens: None = None
    """Three fields, so that no decision has this shape."""


_Queued = SnapshotRecord | Decision


class Writer:
    """Appends to the journal of a folder.

    `open`, `start_run`, then any number of `append` and `snapshot`, then `close`; all from one thread. The callbacks
    run in the writer's thread: `on_durable(seq)` when every event up to `seq` is on disk (or counted in a gap that is),
    `on_trouble(text)` when writing fails or fails differently, `on_trouble(None)` when it works again, `on_gap(gap)`
    when a gap is on disk.
    """

    def __init__(
        self,
        folder: Path,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        segment_age_s: float = float("inf"),
        total_bytes: int = TOTAL_BYTES,
        pack_sealed: bool = True,
        flush_interval_s: float = 0.010,
        queue_max_events: int = 100_000,
        on_durable: Callable[[int], None],
        on_trouble: Callable[[str | None], None],
        on_gap: Callable[[GapRecord], None] = lambda gap: None,
    ) -> None:
        self._store = Store(folder, segment_bytes, total_bytes, segment_age_s, pack_sealed)
        self._on_gap = on_gap
        self._flush_interval_s = flush_interval_s
        self._queue_max = queue_max_events
        self._on_durable = on_durable
        self._on_trouble = on_trouble
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)

        # Shared, under the condition's lock, which is never held during I/O.
        self._condition = threading.Condition()
        self._queue: deque[_Queued] = deque()
        self._start: _Start | None = None
        self._dropped: GapRecord | None = None
        """What was dropped from the queue's front; its `after_seq` is one below the first event dropped."""
        self._urgent = False
        self._closing = False
        self._snapshots_queued = 0
        self._snapshot_due = False

        # The thread's own.
        self._backlog: deque[_Start | Entry] = deque()
        self._run: RunRecord | None = None
        self._state: SnapshotRecord | None = None
        """The last snapshot written: starts a new file if the one in use is taken away."""
        self._state_unknown = False
        """A gap was written since: events after it make no sense until the next snapshot."""
        self._durable_seq = 0
        self._trouble: str | None = None

    def open(self) -> Position:
        """Lock the folder, find the journal's end, start the thread. Blocks on the disk.

        Raises:
            JournalError: in use by another process, not writable, or the newest segment is damaged.
        """
        position = self._store.open()
        self._thread.start()
        return position

    def start_run(self, run: RunRecord, snapshot: SnapshotRecord) -> None:
        """Record the beginning of a life of the daemon, once, before its first event.

        Raises:
            JournalError: called twice, or its numbers do not continue the journal.
        """
        last_seq = self._store.head.last_seq
        if self._start is not None or self._run is not None:
            raise JournalError(f"run {run.run}: this writer has started a run already")
        if snapshot.seq != last_seq or run.first_seq != last_seq + 1:
            raise JournalError(
                f"run {run.run} begins with event {run.first_seq} after a snapshot of {snapshot.seq}, "
                f"but the journal ends with event {last_seq}"
            )
        with self._condition:
            self._start = _Start(run, snapshot)
            self._urgent = True
            self._condition.notify()

    def append(self, event: EventRecord, actions: Sequence[ActionRecord], urgent: bool) -> None:
        """Queue an event and the actions it caused; never blocks.

        Args:
            urgent: commit at once; otherwise within the flush interval, together with what else comes.
        """
        decision = (event, tuple(actions))
        with self._condition:
            queue = self._queue
            queue.append(decision)
            if len(queue) > self._queue_max:
                self._drop_oldest()
            if urgent:
                self._urgent = True
                self._condition.notify()
            elif len(queue) == 1:
                self._condition.notify()

    def snapshot(self, snapshot: SnapshotRecord) -> None:
        """Queue the state after the event appended last; never blocks. Begins a new segment if this one is full."""
        with self._condition:
            self._queue.append(snapshot)
            self._snapshots_queued += 1
            self._condition.notify()

    @property
    def wants_snapshot(self) -> bool:
        """The segment is full, or records were lost: call `snapshot` after the next event."""
        return self._snapshot_due and not self._snapshots_queued

    def close(self, timeout_s: float) -> bool:
        """Write what waits and release the folder.

        Returns:
            False if the disk failed or did not answer in time: records were lost, and a hung thread is left behind.
        """
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive() and not self._backlog and not self._queue

    def _drop_oldest(self) -> None:
        oldest = self._queue.popleft()
        if isinstance(oldest, SnapshotRecord):
            self._snapshots_queued -= 1
            return
        event = oldest[0]
        gap = self._dropped
        if gap is None:
            cause = self._trouble or "the disk did not answer in time"
            gap = GapRecord(event.seq - 1, 0, event.at_wall_ns, event.at_wall_ns, cause)
        self._dropped = gap._replace(count=event.seq - gap.after_seq, to_wall_ns=event.at_wall_ns)

    # What follows runs in the writer's thread.

    def _work(self) -> None:
        pause_s = 0.0
        while True:
            closing = self._wait(pause_s)
            self._take()
            try:
                if not self._store.connected and self._run is not None:
                    self._recover(self._run)
                self._write_backlog()
            except (OSError, sqlite3.Error, JournalError) as error:
                self._store.release()
                self._report(_describe(error))
                if closing:
                    break
                pause_s = min(max(2 * pause_s, _RETRY_FIRST_S), _RETRY_MAX_S)
                continue
            self._report(None)
            pause_s = 0.0
            if closing and not self._queue:
                break
        self._store.close()

    def _wait(self, pause_s: float) -> bool:
        """Until there is something to write and, unless urgent, the flush interval has passed. True when closing."""
        with self._condition:
            if pause_s:
                self._condition.wait_for(lambda: self._closing, pause_s)
                return self._closing
            self._condition.wait_for(lambda: self._queue or self._start or self._closing)
            self._condition.wait_for(lambda: self._urgent or self._closing, self._flush_interval_s)
            self._urgent = False
            return self._closing

    def _take(self) -> None:
        """Move a batch from the queue, unless one waits to be written again."""
        if self._backlog:
            return
        with self._condition:
            if self._start is not None:
                self._backlog.append(self._start)
                self._start = None
            if self._dropped is not None:
                self._backlog.append(self._dropped)
                self._dropped = None
            for _ in range(min(len(self._queue), _BATCH_ENTRIES)):
                self._backlog.append(self._queue.popleft())
            self._urgent = bool(self._queue)

    def _write_backlog(self) -> None:
        backlog = self._backlog
        while backlog:
            first = backlog[0]
            if isinstance(first, _Start):
                self._run = first.run
                self._write_state(first.run, first.snapshot, [first.run, first.snapshot])
                backlog.popleft()
            elif isinstance(first, SnapshotRecord) and self._run and first.seq == self._store.head.last_seq:
                self._write_state(self._run, first, [first])
                backlog.popleft()
                self._count_snapshots(1)
            else:
                self._write_leading()
            self._durable_seq = self._store.head.last_seq
            self._call(self._on_durable, self._durable_seq)
            self._store.tidy()
            self._snapshot_due = self._state_unknown or self._store.full

    def _write_state(self, run: RunRecord, snapshot: SnapshotRecord, entries: Sequence[Entry]) -> None:
        if self._store.connected and not self._store.full:
            self._store.write(entries)
        else:
            self._store.begin_segment(run, snapshot)
        self._state = snapshot
        self._state_unknown = False

    def _write_leading(self) -> None:
        """Commit everything before the next snapshot."""
        entries: list[Entry] = []
        for entry in self._backlog:
            if isinstance(entry, _Start) or (entries and isinstance(entry, SnapshotRecord)):
                break
            entries.append(entry)
        gaps = self._store.write(entries)
        if len(entries) == len(self._backlog):
            self._backlog.clear()
        else:
            for _ in entries:
                self._backlog.popleft()
        if isinstance(entries[0], SnapshotRecord):
            self._count_snapshots(1)
        for gap in gaps:
            self._state_unknown = True
            self._call(self._on_gap, gap)

    def _count_snapshots(self, written: int) -> None:
        if written:
            with self._condition:
                self._snapshots_queued -= written

    def _recover(self, run: RunRecord) -> None:
        """Continue after a failure from what the disk holds: a failed commit may be there, a good one may be gone."""
        store = self._store
        backlog = self._backlog
        store.reopen()
        if not store.connected:
            if self._state is None:
                return
            store.begin_segment(run, self._state)
        last_seq = store.head.last_seq
        first = backlog[0] if backlog else None
        announced = isinstance(first, GapRecord) and first.after_seq == last_seq
        if last_seq < self._durable_seq and not announced:
            now_ns = time.time_ns()
            lost = self._durable_seq - last_seq
            cause = "a file was removed while it was written"
            backlog.appendleft(GapRecord(last_seq, lost, now_ns, now_ns, cause))
        while backlog and self._is_written(backlog[0]):
            written = backlog.popleft()
            if isinstance(written, _Start):
                self._state = written.snapshot

    def _is_written(self, entry: _Start | Entry) -> bool:
        head = self._store.head
        match entry:
            case _Start():
                return head.last_run >= entry.run.run
            case GapRecord():
                return entry.after_seq + entry.count <= head.last_seq
            case SnapshotRecord() | RunRecord():
                return False
            case (event, _):
                return event.seq <= head.last_seq

    def _report(self, trouble: str | None) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            self._call(self._on_trouble, trouble)

    def _call(self, callback: Callable[[Any], None], value: int | str | GapRecord | None) -> None:
        # A callback that fails (its loop was closed) must not end the thread that keeps the history.
        try:
            callback(value)
        except Exception:
            _log.exception("a callback of the journal failed")


def _describe(error: Exception) -> str:
    name = getattr(error, "sqlite_errorname", "")
    return f"{error} ({name})" if name else str(error)
