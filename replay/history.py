"""One director's history as a stream of moments: each event with the state before and after it.

A history comes from one file (an export or a segment) or from a journal folder, live or not, whose segments follow one
another. Every chain is checked on the way and every decision's sentence is compared with the recorded one; `hafsm
replay` compares the rest.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hafsm import codec
from hafsm.core.actions import Action
from hafsm.core.events import Event
from hafsm.core.state import State
from hafsm.core.step import step
from hafsm.errors import HafsmError
from journal.errors import Unreadable
from journal.folder import segments
from journal.reader import Journal
from journal.records import EventRecord, GapRecord, RunRecord, SnapshotRecord
from replay.engine import COLLECT_EVERY, rare_collection, restore


class Moment(NamedTuple):
    """One event and what came of it."""

    seq: int
    at: int
    """Nanoseconds of this machine's monotonic clock."""
    wall_ns: int
    life: int
    """Number of the daemon's life (`RunRecord.run`)."""
    event: Event
    before: State
    after: State
    actions: tuple[Action, ...]
    reason: str


class Beginning(NamedTuple):
    """A life begins; its first event follows."""

    life: int
    node: str
    wall_ns: int
    state: State
    """Of the snapshot."""


class Lost(NamedTuple):
    """Events that were not kept, or that cannot be folded for want of a snapshot after such a gap."""

    after_seq: int
    events: int
    cause: str
    wall_ns: int
    until_wall_ns: int


class Crashed(NamedTuple):
    """An event ended this life of the daemon: the core could not fold it."""

    seq: int
    at: int
    wall_ns: int
    life: int
    before: State
    reason: str


Item = Moment | Beginning | Lost | Crashed
"""Whatever a history holds."""


class Diverged(HafsmError):
    """A decision is not the recorded one: what is said about it would be said about another past."""

    def __init__(self, path: Path, seq: int) -> None:
        super().__init__(path, seq)
        self.path = path
        self.seq = seq

    def __str__(self) -> str:
        return (
            f"{self.path}: event {self.seq} is decided otherwise by this hafsm than it was recorded; "
            f"`hafsm replay {self.path}` shows the difference"
        )


def files_of(place: Path) -> tuple[Path, ...]:
    """The file itself, or a folder's segments, oldest first. Raises `journal.errors.JournalError`."""
    if not place.is_dir():
        return (place,)
    found = tuple(segments(place))
    if not found:
        raise Unreadable(place, "holds no segment of a journal")
    return found


def first_wall_ns(path: Path) -> int:
    """When the file's first event was recorded; 0: it has none."""
    with Journal(path) as journal:
        first = journal.first()
        if first is None:
            return 0
        return next(journal.events(first, first)).at_wall_ns


def moments(files: Sequence[Path]) -> Iterator[Item]:
    """Fold the files, which follow one another.

    Raises `journal.errors.JournalError` for a file that cannot be read or was altered, `codec.UnknownRecord` for
    records of another hafsm, `Diverged`.
    """
    with rare_collection():
        reader = _Reader()
        for path in files:
            with Journal(path) as journal:
                yield from reader.read(path, journal)
        if not reader.life:
            raise Unreadable(files[0], "it records no life of a daemon")


def counted(history: Iterator[Item], progress: Callable[[int], None] | None) -> Iterator[Item]:
    """The same history; `progress` is told every thousandth event's number."""
    for item in history:
        if progress is not None and isinstance(item, Moment) and item.seq % 1000 == 0:
            progress(item.seq)
        yield item


class _Reader:
    def __init__(self) -> None:
        self.life = 0
        self._run: RunRecord | None = None
        self._state: State | None = None
        self._begun = False
        self._folded = 0

    def read(self, path: Path, journal: Journal) -> Iterator[Item]:
        for entry in journal.entries(verify=True):
            if len(entry) == 2:
                event, records = entry
                if self._state is None:
                    yield Lost(event.seq - 1, 1, "no snapshot before it", event.at_wall_ns, event.at_wall_ns)
                    continue
                yield self._fold(path, self._state, event, len(records))
            elif isinstance(entry, SnapshotRecord):
                if self._state is None:
                    self._state = restore(path, entry)
                    run = self._run
                    if run is not None and not self._begun:
                        self._begun = True
                        yield Beginning(run.run, run.node, run.started_wall_ns, self._state)
            elif isinstance(entry, RunRecord):
                if entry.run != self.life:
                    self.life, self._run, self._state, self._begun = entry.run, entry, None, False
            elif isinstance(entry, GapRecord):
                self._state = None
                yield Lost(entry.after_seq, entry.count, entry.cause, entry.from_wall_ns, entry.to_wall_ns)

    def _fold(self, path: Path, state: State, record: EventRecord, actions: int) -> Moment | Crashed:
        self._folded += 1
        if self._folded % COLLECT_EVERY == 0:
            gc.collect()
        seq, at, wall_ns, kind, version, payload, _, _, reason = record
        event = codec.decode_event(kind, version, payload, at)
        try:
            after, computed, sentence = step(state, event)
        except Exception as error:
            if reason != f"crashed: {type(error).__name__}: {error}":
                raise Diverged(path, seq) from error
            self._state = None
            return Crashed(seq, at, wall_ns, self.life, state, reason)
        if sentence != reason or len(computed) != actions:
            raise Diverged(path, seq)
        self._state = after
        return Moment(seq, at, wall_ns, self.life, event, state, after, computed, reason)
