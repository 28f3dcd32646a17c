"""What a journal holds, in numbers: for `hafsm journal info`, and what may be deleted: for `hafsm journal prune`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from journal.database import open_for_reading, torn_bytes
from journal.errors import ChainBroken, Unreadable
from journal.folder import first_seq_of, remove, segments, size_of
from journal.packed import PACKED_SUFFIX
from journal.records import GapRecord, RunRecord, SnapshotRecord
from journal.walk import Head, read_begin, read_head, walk

CLOCK_STEP_NS = 1_000_000_000
"""When wall and monotonic clock move apart by more than this from one event to the next, the wall clock was set: NTP
slews slower by orders of magnitude."""


class ClockStep(NamedTuple):
    """The wall clock was set."""

    seq: int
    """The first event after it."""
    by_ns: int
    """Positive: forward."""


@dataclass(slots=True)
class Survey:
    """What one segment holds; everything in it was verified."""

    path: Path
    size_bytes: int
    packed: bool
    torn_bytes: int
    """A commit that was cut off, left out at the end."""
    last_seq: int = 0
    """Of the last event, written or lost; of the one before the segment if it holds none."""
    first_seq: int = 0
    """Of the first event kept; 0: none."""
    first_wall_ns: int = 0
    last_wall_ns: int = 0
    events: Counter[str] = field(default_factory=Counter)
    """By kind."""
    actions: Counter[str] = field(default_factory=Counter)
    runs: list[RunRecord] = field(default_factory=list)
    gaps: list[GapRecord] = field(default_factory=list)
    snapshots: int = 0
    clock_steps: list[ClockStep] = field(default_factory=list)


def survey(path: Path) -> tuple[Survey, Head, Head]:
    """Verify a segment and count what it holds.

    Returns:
        The survey, where the journal stood before the segment's first row, and where it ends.

    Raises:
        ChainBroken: at the first row that does not fit.
        Unreadable: no segment, or damaged.
    """
    size, torn = size_of(path), torn_bytes(path)
    connection = open_for_reading(path)
    try:
        found = Survey(path, size, path.suffix == PACKED_SUFFIX, torn)
        offset_ns: int | None = None
        begins = read_begin(connection, path)
        found.last_seq = begins.last_seq
        for entry in walk(connection, path):
            match entry:
                case RunRecord():
                    if entry.run not in [run.run for run in found.runs]:
                        found.runs.append(entry)
                        offset_ns = None
                case SnapshotRecord():
                    found.snapshots += 1
                case GapRecord():
                    found.gaps.append(entry)
                    found.last_seq = max(found.last_seq, entry.after_seq + entry.count)
                case (event, actions):
                    before_ns, offset_ns = offset_ns, event.at_wall_ns - event.at_mono_ns
                    if before_ns is not None and abs(offset_ns - before_ns) > CLOCK_STEP_NS:
                        found.clock_steps.append(ClockStep(event.seq, offset_ns - before_ns))
                    found.first_seq = found.first_seq or event.seq
                    found.first_wall_ns = found.first_wall_ns or event.at_wall_ns
                    found.last_wall_ns = event.at_wall_ns
                    found.last_seq = event.seq
                    found.events[event.kind] += 1
                    found.actions.update(action.kind for action in actions)
        return found, begins, read_head(connection, path)
    finally:
        connection.close()


def surveys(source: Path) -> Iterator[Survey]:
    """Each segment of a folder, oldest first, or the one file; each must continue the one before.

    Raises:
        ChainBroken, Unreadable: as `survey`; also between two segments.
        JournalError: the folder cannot be read.
    """
    expected: Head | None = None
    for path in segments(source) if source.is_dir() else [source]:
        try:
            found, begins, ends = survey(path)
        except Unreadable:
            if expected is None and not path.exists() and source.is_dir():
                continue  # retention was faster
            raise
        if expected is not None and begins.chain != expected.chain:
            lost = (
                f"events {expected.last_seq + 1} to {begins.last_seq} are missing"
                if begins.last_seq > expected.last_seq
                else "records at its end are missing, or were altered with all that follow"
            )
            raise ChainBroken(path, "its first row", f"does not continue the segment before it: {lost}")
        expected = ends
        yield found


def prunable(folder: Path, keep_bytes: int | None, older_than_ns: int | None) -> list[Path]:
    """The oldest segments that may go: all but the newest, as far as either limit says.

    Args:
        keep_bytes: what shall remain at most; the segment in use counts and stays, whatever its size.
        older_than_ns: segments last written to longer ago than this; by the time of the file, which packing keeps.

    Raises:
        JournalError: the folder cannot be read.
    """
    paths = segments(folder)
    sizes = [size_of(path) for path in paths]
    excess = sum(sizes) - keep_bytes if keep_bytes is not None else 0
    limit_ns = time.time_ns() - older_than_ns if older_than_ns is not None else None
    chosen: list[Path] = []
    for path, size in zip(paths[:-1], sizes, strict=False):
        old = limit_ns is not None and _written_ns(path) < limit_ns
        # Only a beginning of the journal goes: a hole in its middle would be worse than no limit.
        if excess <= 0 and not old:
            break
        chosen.append(path)
        excess -= size
    return chosen


def prune(paths: Sequence[Path]) -> int:
    """Delete segments, oldest first; returns how many bytes became free.

    Raises:
        OSError: the disk refuses; the ones before are gone.
    """
    freed = 0
    for path in sorted(paths, key=first_seq_of):
        size = size_of(path)
        remove(path)
        freed += size
    return freed


def _written_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return time.time_ns()
