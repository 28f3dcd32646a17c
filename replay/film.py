"""A history that can be stepped through, both ways, without keeping every state.

One pass remembers a state every so many events and where something was decided; any other state is folded again from
the one before it. Memory: some kilobytes for each of the kept states, and the sentences of all decisions.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from hafsm import codec
from hafsm.core.state import State
from hafsm.core.step import step
from journal.errors import Unreadable
from journal.reader import Journal
from replay.engine import rare_collection
from replay.history import Moment, moments

KEPT_EVERY = 500
"""Events between two kept states: a step back folds at most so many, some milliseconds."""


class Frame(NamedTuple):
    """One event, and everything that is shown with it."""

    place: int
    """0 for the first event."""
    seq: int
    at: int
    wall_ns: int
    kind: str
    reason: str
    state: State
    """After the event."""


class _Kept(NamedTuple):
    place: int
    file: Path
    seq: int
    state: State


class Film:
    """Every event of the files, in order; `frame(place)` for 0 ≤ place < `length`."""

    def __init__(self, files: Sequence[Path], progress: Callable[[int], None] | None = None) -> None:
        """Reads everything once. Raises what `history.moments` raises."""
        self.length = 0
        self.decisions: list[int] = []
        """Places where something was decided, in order."""
        self._reasons: list[str] = []
        self._kept: list[_Kept] = []
        self._frames: dict[int, Frame] = {}
        for file in files:
            self._read(file, progress)
        if not self.length:
            raise Unreadable(files[0], "has no event that can be shown")

    def _read(self, file: Path, progress: Callable[[int], None] | None) -> None:
        fresh = True
        for item in moments([file]):
            if not isinstance(item, Moment):
                fresh = True
                continue
            if fresh or self.length % KEPT_EVERY == 0:
                self._kept.append(_Kept(self.length, file, item.seq, item.before))
                fresh = False
            if item.reason:
                self.decisions.append(self.length)
                self._reasons.append(item.reason)
            self.length += 1
            if progress is not None and item.seq % 1000 == 0:
                progress(item.seq)

    def frame(self, place: int) -> Frame:
        """Raises `IndexError` outside of the film."""
        if not 0 <= place < self.length:
            raise IndexError(place)
        found = self._frames.get(place)
        if found is None:
            self._develop(place)
            found = self._frames[place]
        return found

    def _develop(self, place: int) -> None:
        """Fold the stretch around a place; only that stretch is kept."""
        index = bisect_right(self._kept, place, key=lambda kept: kept.place) - 1
        kept = self._kept[index]
        last = self._kept[index + 1].place if index + 1 < len(self._kept) else self.length
        self._frames.clear()
        state = kept.state
        with Journal(kept.file) as journal, rare_collection():
            for record in journal.events(kept.seq, kept.seq + (last - kept.place) - 1):
                event = codec.decode_event(record.kind, record.version, record.payload, record.at_mono_ns)
                state = step(state, event).state
                at = kept.place + len(self._frames)
                self._frames[at] = Frame(
                    at, record.seq, record.at_mono_ns, record.at_wall_ns, record.kind, record.reason, state
                )

    def next_decision(self, place: int) -> int:
        """The next place where something was decided; the last place if there is none."""
        index = bisect_right(self.decisions, place)
        return self.decisions[index] if index < len(self.decisions) else self.length - 1

    def previous_decision(self, place: int) -> int:
        """The place before where something was decided; the first place if there is none."""
        index = bisect_left(self.decisions, place) - 1
        return self.decisions[index] if index >= 0 else 0

    def reason_before(self, place: int) -> str:
        """The sentence decided last before a place; empty if there is none."""
        index = bisect_left(self.decisions, place) - 1
        return self._reasons[index] if index >= 0 else ""
