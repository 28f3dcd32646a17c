"""The invariants of one director, on a journal that a daemon or a simulation wrote.

What a journal cannot show (what the other director's kernel held) is not judged here; `replay.simulator` does that.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hafsm import codec
from hafsm.core.state import State
from hafsm.core.step import step
from journal.reader import Journal
from journal.records import EventRecord, GapRecord, RunRecord, SnapshotRecord
from replay.engine import replay, restore
from replay.invariants import History, Step, Violation, judge


def check(path: Path) -> Iterator[Violation]:
    """Every step of the journal that breaks an invariant, the first that it breaks; none: all is well.

    A decision that is not the recorded one comes first, and is the last: what follows it was never decided. Raises
    `journal.errors.JournalError` for a file that cannot be read, `codec.UnknownRecord` for records of another hafsm.
    """
    result = replay(path)
    if result.difference is not None:
        fields = "; ".join(f"{f.name} was {f.recorded}, is {f.computed}" for f in result.difference.fields)
        node = result.state.settings.me if result.state is not None else ""
        yield Violation("the_same_past_decides_the_same", node, result.difference.seq, fields)
        return
    with Journal(path) as journal:
        yield from _walk(path, journal)


def _walk(path: Path, journal: Journal) -> Iterator[Violation]:
    state: State | None = None
    history = History()
    run = 0
    for entry in journal.entries(verify=False):
        if isinstance(entry, RunRecord):
            if entry.run != run:
                run, state = entry.run, None
        elif isinstance(entry, GapRecord):
            state = None
        elif isinstance(entry, SnapshotRecord):
            if state is None:
                state = restore(path, entry)
                history = History()
                history.complete = not state.generation
        elif state is not None:
            state, violation = _judge(state, entry[0], history)
            if violation is not None:
                yield violation


def _judge(state: State, record: EventRecord, history: History) -> tuple[State | None, Violation | None]:
    event = codec.decode_event(record.kind, record.version, record.payload, record.at_mono_ns)
    try:
        decision = step(state, event)
    except Exception as error:
        sentence = f"the core crashed: {type(error).__name__}: {error}"
        return None, Violation("the_core_never_crashes", state.settings.me, record.seq, sentence)
    history.take(event, state, decision.state, decision.actions)
    seen = Step(state, event, decision.state, decision.actions, decision.reason, history)
    return decision.state, judge(seen)
