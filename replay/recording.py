"""Journals written by the replay package itself: of simulated directors, and of incidents cut down to a test.

The design's map gives this package the journal's reader only. An incident file must be what a daemon would have
written, to the last byte of its chain, so it is written by the daemon's writer.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hafsm import codec
from hafsm.core.events import ActionFinished, DaemonStarted, Event, KernelObserved
from hafsm.core.state import State, initial
from hafsm.core.step import step as core_step
from hafsm.core.turn import Decision
from journal.errors import JournalError
from journal.records import ActionRecord, EventRecord, RunRecord, SnapshotRecord
from journal.writer import Writer

if TYPE_CHECKING:
    from replay.simulator import Step
    from replay.simulator_machine import Machine

CLOSE_S = 300.0
BACKLOG_EVENTS = 50_000
"""What is decided faster than a disk writes waits here."""


class Recording:
    """A journal folder that grows by decisions."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Writer | None = None
        self._troubles: list[str] = []
        self._progress = threading.Condition()
        self._on_disk = 0

    def begin(self, state: State, *, wall_ns: int, boot_id: str, version: str) -> None:
        """A life begins in this state, numbered as the journal goes on; `wall_ns` is its wall time minus its stamps."""
        self.close()
        self._troubles.clear()
        self._wall_ns = wall_ns
        writer = Writer(
            self._folder,
            on_durable=self._durable,
            on_trouble=lambda text: self._troubles.append(text) if text else None,
            queue_max_events=10**9,
            total_bytes=2**50,
        )
        position = writer.open()
        self._on_disk = position.last_seq
        settings = msgspec.json.encode(state.settings).decode()
        run = RunRecord(
            position.last_run + 1,
            state.number + 1,
            state.now + wall_ns,
            state.settings.me,
            boot_id,
            version,
            settings,
            codec.digest_text(settings),
            " ".join(state.settings.flags),
        )
        writer.start_run(run, self._snapshot(state))
        self._writer = writer

    def _snapshot(self, state: State) -> SnapshotRecord:
        text = codec.encode_state(state)
        return SnapshotRecord(state.number, state.now + self._wall_ns, text, codec.digest_text(text))

    def append(self, event: Event, decision: Decision) -> None:
        """One event and what was decided."""
        writer = self._writer
        if writer is None:
            raise JournalError("no life was begun")
        state = decision.state
        action_id = outcome = None
        if isinstance(event, ActionFinished):
            action_id, outcome = event.action, event.outcome.value
        elif isinstance(event, KernelObserved):
            action_id, outcome = event.action, "done"
        record = EventRecord(
            state.number,
            event.at,
            event.at + self._wall_ns,
            *codec.encode_event(event),
            action_id,
            outcome,
            decision.reason,
        )
        actions = [ActionRecord(a.id, state.number, *codec.encode_action(a)) for a in decision.actions]
        writer.append(record, actions, urgent=False)
        if writer.wants_snapshot:
            writer.snapshot(self._snapshot(state))
        if state.number - self._on_disk > BACKLOG_EVENTS:
            with self._progress:
                self._progress.wait_for(lambda: state.number - self._on_disk < BACKLOG_EVENTS // 2, CLOSE_S)

    def _durable(self, seq: int) -> None:
        with self._progress:
            self._on_disk = seq
            self._progress.notify()

    def close(self) -> None:
        """Raises `JournalError` if not everything was written."""
        writer, self._writer = self._writer, None
        if writer is not None and (not writer.close(CLOSE_S) or self._troubles):
            raise JournalError(f"{self._folder}: {self._troubles[-1] if self._troubles else 'not written to its end'}")


def record_machine(folder: Path, machine: Machine, step: Step = core_step) -> None:
    """Every life of a simulated director, as its journal has it. Raises `JournalError`."""
    recording = Recording(folder)
    for life in machine.lives:
        if not life.events:
            continue
        state = initial(life.settings)
        state.number, state.next_action = life.number, life.next_action
        recording.begin(state, wall_ns=life.wall_ns, boot_id=life.boot_id, version=_version(life.events))
        for event in life.events:
            decision = step(state, event)
            state = decision.state
            recording.append(event, decision)
    recording.close()


def _version(events: Iterable[Event]) -> str:
    return next((event.version for event in events if isinstance(event, DaemonStarted)), "")
