"""Fold a journal's events again and compare every decision with the recorded one.

Identical means: for every event the same actions, in the same order, with the same content and the same reason, and at
every snapshot the same state. A journal may hold several lives of the daemon; each begins with a snapshot of its own.
After a gap (events that a full or broken disk could not keep) folding goes on at the next snapshot.
"""

from __future__ import annotations

import contextlib
import gc
import json
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hafsm import codec
from hafsm.core.actions import Action
from hafsm.core.state import State
from hafsm.core.step import step
from journal.errors import Unreadable
from journal.reader import Journal
from journal.records import ActionRecord, EventRecord, GapRecord, RunRecord, SnapshotRecord


class FieldDifference(NamedTuple):
    """One field that is not the same."""

    name: str
    recorded: str
    computed: str


class Difference(NamedTuple):
    """The first decision that was not the same."""

    seq: int
    kind: str
    """Of the event."""
    payload: str
    fields: tuple[FieldDifference, ...]


class Result(NamedTuple):
    """What a replay found."""

    path: Path
    first: int
    """Number of the first event folded; 0: none."""
    last: int
    events: int
    actions: int
    runs: int
    snapshots: int
    """Snapshots compared with the folded state."""
    skipped: int
    """Events after a gap and before the next snapshot: read, not folded."""
    lost: int
    """Events that the journal says it could not keep."""
    difference: Difference | None
    state: State | None
    """After the last event folded."""
    wall_ns: int
    """When that event was recorded."""
    reasons: tuple[tuple[int, int, str], ...]
    """The last reasons: (wall ns, event number, sentence)."""

    @property
    def identical(self) -> bool:
        return self.difference is None


REASONS_KEPT = 20
PROGRESS_EVERY = 1000
"""Events between two reports of progress."""
COLLECT_EVERY = 200_000
"""Events between two looks for cyclic garbage; a fold makes next to none, so looking more often only costs time."""


def replay(
    path: Path,
    *,
    until: Callable[[EventRecord], bool] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Result:
    """Replay a file. Stops at the first difference, or before the first event for which `until` is true.

    `progress` is told the number of the event folded last, every thousand. Raises `journal.errors.JournalError` for a
    file that cannot be read or was altered, `codec.UnknownRecord` for records of another hafsm.
    """
    with Journal(path) as journal, rare_collection():
        return _Replay(journal, path).run(until, progress)


@contextlib.contextmanager
def rare_collection() -> Iterator[None]:
    """Without Python's cyclic collector: it would look through every page of the journal again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Replay:
    def __init__(self, journal: Journal, path: Path) -> None:
        self._journal = journal
        self._path = path
        self._run = 0
        self._runs = self._compared = 0
        self._reasons: deque[tuple[int, int, str]] = deque(maxlen=REASONS_KEPT)

    def run(self, until: Callable[[EventRecord], bool] | None, progress: Callable[[int], None] | None) -> Result:
        # Local names and few calls: this loop runs for every event of a journal.
        first = events = decided = skipped = lost = 0
        event: tuple[Any, ...] | None = None
        state: State | None = None
        """None: not known before the next snapshot."""
        last_state: State | None = None
        difference: Difference | None = None
        decode, are_records_of = codec.decode_event, codec.are_records_of
        for entry in self._journal.entries(verify=True, raw=True):
            if len(entry) == 2:
                row, actions = entry
                if until is not None and until(_record(row)):
                    break
                if state is None:
                    skipped += 1
                    continue
                event = row
                events += 1
                if events == 1:
                    first = event[0]
                value = decode(event[3], event[4], event[5], event[1])
                try:
                    after, computed, reason = step(state, value)
                except Exception as error:
                    difference = _crashed(_record(event), error)
                    state = None
                else:
                    if reason != event[8] or ((actions or computed) and not are_records_of(computed, actions)):
                        recorded = tuple(ActionRecord._make(action[:5]) for action in actions)
                        difference = _decided(_record(event), recorded, reason, computed)
                    if difference is None:
                        state = last_state = after
                        decided += len(actions)
                        if reason:
                            self._reasons.append((event[2], event[0], reason))
                if not events % PROGRESS_EVERY:
                    if progress is not None:
                        progress(event[0])
                    if not events % COLLECT_EVERY:
                        gc.collect()
            elif isinstance(entry, SnapshotRecord):
                if state is None:
                    state = restore(self._path, entry)
                else:
                    difference = self._compared_with(entry, state)
            elif isinstance(entry, RunRecord):
                if self._begins(entry):
                    state = None
            elif isinstance(entry, GapRecord):
                lost += entry.count
                state = None
            if difference is not None:
                break
        if not self._runs:
            raise Unreadable(self._path, "it records no life of a daemon")
        return Result(
            path=self._path,
            first=first,
            last=0 if event is None else event[0],
            events=events,
            actions=decided,
            runs=self._runs,
            snapshots=self._compared,
            skipped=skipped,
            lost=lost,
            difference=difference,
            state=last_state,
            wall_ns=0 if event is None else event[2],
            reasons=tuple(self._reasons),
        )

    def _begins(self, run: RunRecord) -> bool:
        """A new life starts from its own snapshot; at the head of a segment the same life goes on."""
        begins = run.run != self._run
        self._runs += begins
        self._run = run.run
        return begins

    def _compared_with(self, snapshot: SnapshotRecord, state: State) -> Difference | None:
        self._compared += 1
        # Equal text, or, when a later hafsm has added fields to the state, equal in all that was recorded.
        if codec.digest_state(state) == snapshot.digest or state == restore(self._path, snapshot):
            return None
        fields = tuple(_json_differences("state", snapshot.state, codec.encode_state(state)))
        return Difference(snapshot.seq, "snapshot", "", fields)


def _record(row: tuple[Any, ...]) -> EventRecord:
    return EventRecord._make(row[:9])


def _crashed(event: EventRecord, error: Exception) -> Difference | None:
    """None: it crashed when it was recorded too."""
    crash = f"crashed: {type(error).__name__}: {error}"
    if crash == event.reason:
        return None
    return _difference(event, [FieldDifference("decision", event.reason or "no crash", crash)])


def _decided(
    event: EventRecord, recorded: tuple[ActionRecord, ...], reason: str, actions: tuple[Action, ...]
) -> Difference | None:
    """What is not the same; None: only its text is not, which an older hafsm wrote."""
    fields = list(_compare(event, recorded, reason, actions))
    return _difference(event, fields) if fields else None


def restore(path: Path, snapshot: SnapshotRecord) -> State:
    """The state of a snapshot; raises `Unreadable` if it is not the one its digest was made of."""
    if codec.digest_text(snapshot.state) != snapshot.digest:
        raise Unreadable(path, f"snapshot after event {snapshot.seq} does not match its digest")
    return codec.decode_state(snapshot.state)


def _difference(event: EventRecord, fields: list[FieldDifference]) -> Difference:
    return Difference(event.seq, event.kind, event.payload, tuple(fields))


def _compare(
    event: EventRecord, recorded: tuple[ActionRecord, ...], reason: str, actions: tuple[Action, ...]
) -> Iterator[FieldDifference]:
    if reason != event.reason:
        yield FieldDifference("reason", event.reason, reason)
    if len(recorded) != len(actions):
        kinds = ", ".join(record.kind for record in recorded) or "none"
        computed = ", ".join(codec.kind_of(action) for action in actions) or "none"
        yield FieldDifference("actions", f"{len(recorded)} ({kinds})", f"{len(actions)} ({computed})")
        return
    for index, (record, action) in enumerate(zip(recorded, actions, strict=True)):
        kind, version, payload = codec.encode_action(action)
        if record.payload == payload and record.kind == kind and record.id == action.id and record.version == version:
            continue
        name = f"actions[{index}]"
        if record.kind != kind:
            yield FieldDifference(f"{name}.kind", record.kind, kind)
        elif record.version != version:
            # Written by an older hafsm: compare what it means.
            same = codec.decode_action(record.kind, record.version, record.payload, record.id) == action
            if not same:
                yield FieldDifference(name, record.payload, payload)
        else:
            if record.id != action.id:
                yield FieldDifference(f"{name}.id", str(record.id), str(action.id))
            yield from _json_differences(name, record.payload, payload)


def _json_differences(name: str, recorded: str, computed: str) -> Iterator[FieldDifference]:
    yield from _walk(name, json.loads(recorded), json.loads(computed))


def _walk(name: str, recorded: object, computed: object) -> Iterator[FieldDifference]:
    if recorded == computed:
        return
    if isinstance(recorded, dict) and isinstance(computed, dict):
        for key in sorted(recorded.keys() | computed.keys()):
            yield from _walk(f"{name}.{key}", recorded.get(key), computed.get(key))
    elif isinstance(recorded, list) and isinstance(computed, list) and len(recorded) == len(computed):
        for index, (left, right) in enumerate(zip(recorded, computed, strict=True)):
            yield from _walk(f"{name}[{index}]", left, right)
    else:
        yield FieldDifference(name, json.dumps(recorded), json.dumps(computed))
