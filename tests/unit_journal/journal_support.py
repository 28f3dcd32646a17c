"""What the journal's tests share: records, and a writer whose callbacks can be waited for."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from journal.records import ActionRecord, EventRecord, GapRecord, RunRecord, SnapshotRecord
from journal.writer import Writer

PATIENCE_S = 30.0
"""Upper bound of a wait for a condition; only a failing test waits that long."""


def run_record(run: int = 1, first_seq: int = 1) -> RunRecord:
    return RunRecord(run, first_seq, 1_790_000_000_000_000_000, "director-a", "boot", "0.1", "{}", "sha", "[]")


def snapshot_record(seq: int = 0) -> SnapshotRecord:
    return SnapshotRecord(seq, 1_790_000_000_000_000_000 + seq, f'{{"after":{seq}}}', f"digest-{seq}")


def event_record(seq: int, **changes: Any) -> EventRecord:
    event = EventRecord(
        seq, seq * 1000, 1_790_000_000_000_000_000 + seq * 1000, "deadline_passed", 1, "{}", None, None, ""
    )
    return event._replace(**changes)


def action_record(id: int, cause: int) -> ActionRecord:
    return ActionRecord(id, cause, "send_message", 1, '{"kind":"status"}')


class Watched:
    """A writer, what it reported, and a way to wait for a report."""

    def __init__(self, folder: Path, on_durable: Callable[[int], None] = lambda seq: None, **options: Any):
        self.changed = threading.Condition()
        self.durable = -1
        self.troubles: list[str | None] = []
        self.gaps: list[GapRecord] = []
        self._also = on_durable
        options.setdefault("pack_sealed", False)
        self.writer = Writer(
            folder, on_durable=self._durable, on_trouble=self._trouble, on_gap=self.gaps.append, **options
        )
        self.position = self.writer.open()
        self.seq = self.position.last_seq
        self.action_id = self.position.last_action_id

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *error: object) -> None:
        self.writer.close(PATIENCE_S)

    def start(self) -> None:
        run = self.position.last_run + 1
        self.writer.start_run(run_record(run, self.seq + 1), snapshot_record(self.seq))

    def append(self, count: int = 1, *, actions: int = 0, urgent: bool = False, **changes: Any) -> None:
        for _ in range(count):
            self.seq += 1
            caused: Sequence[ActionRecord] = [action_record(self.action_id + n + 1, self.seq) for n in range(actions)]
            self.action_id += actions
            self.writer.append(event_record(self.seq, **changes), caused, urgent)

    def snapshot(self) -> None:
        self.writer.snapshot(snapshot_record(self.seq))

    def wait_durable(self, seq: int | None = None) -> None:
        self.wait(lambda: self.durable >= (self.seq if seq is None else seq))

    def wait(self, condition: Callable[[], bool]) -> None:
        """Until the condition holds; looked at with every report, and often, as not every change is reported."""
        deadline = time.monotonic() + PATIENCE_S
        with self.changed:
            while not condition():
                assert time.monotonic() < deadline, (self.durable, self.troubles)
                self.changed.wait(0.005)

    def _durable(self, seq: int) -> None:
        self._also(seq)
        with self.changed:
            self.durable = seq
            self.changed.notify_all()

    def _trouble(self, text: str | None) -> None:
        with self.changed:
            self.troubles.append(text)
            self.changed.notify_all()


def write_journal(folder: Path, events: int = 10, *, actions: int = 1, parts: int = 1) -> None:
    """A closed journal of `parts` segments with `events` events each."""
    with Watched(folder, segment_bytes=1) as watched:
        watched.start()
        for part in range(parts):
            if part:
                watched.snapshot()
            watched.append(events, actions=actions)
            watched.wait_durable()


def tamper(path: Path, sql: str, *values: object) -> None:
    """Change a segment as somebody with the `sqlite3` shell would, triggers out of the way."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        changed = connection.execute(sql, values).rowcount
        assert changed > 0, f"{sql} changed nothing"
        for _, create in triggers:
            connection.execute(create)
    finally:
        connection.close()
