"""Two directors' histories in one order of cause and effect, and what their messages say about their clocks.

Every numbered message ties an event of its sender to the event of its arrival; heartbeats say the sender's number
themselves. Between such ties the order is that of the clocks, corrected. A message cannot arrive before it was sent:
each one bounds the difference of the two clocks from one side, and messages both ways bound it from both.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hafsm.core.settings import SECOND, Value
from hafsm.errors import HafsmError
from replay.history import moments
from replay.side import Key, Mark, Received, Sent, Side, collect

WINDOW_NS = 600 * SECOND
"""Bounds are taken over ten minutes: clocks that drift by 50 ppm part by 30 ms meanwhile, and that is seen."""
DRIFT_PPM = 100
"""How much two clocks may part where no message tells: twice what a cheap crystal does."""
DRIFTED_NS = WINDOW_NS * DRIFT_PPM // 1_000_000
"""So far bounds may contradict each other within one window: the clocks drifted, nobody set them."""

ONE_WAY_NS = SECOND
"""Uncertainty if messages came one way only: what a network may delay."""
UNKNOWN_NS = 10 * SECOND
"""If none came: what clocks that NTP forgot may differ by. Nothing can be tied together then anyway."""


class MergeRefused(HafsmError):
    """The files do not belong together; the text says why."""


class Bound(NamedTuple):
    """Where the second director's clock stands against the first's: `low_ns` to `high_ns` ahead."""

    at: int
    """Middle of the window, by the first one's clock."""
    low_ns: int | None
    high_ns: int | None


class Clock:
    """Bounds over time."""

    def __init__(self, bounds: tuple[Bound, ...]) -> None:
        self.bounds = bounds
        self._ahead: dict[int, tuple[int, int]] = {}

    def ahead(self, at: int) -> tuple[int, int]:
        """(middle, uncertainty) in nanoseconds at a time of the first one's clock; the uncertainty is one-sided."""
        window = at // WINDOW_NS
        known = self._ahead.get(window)
        if known is None:
            known = self._ahead[window] = self._best(window * WINDOW_NS + WINDOW_NS // 2)
        return known

    def _best(self, at: int) -> tuple[int, int]:
        best: tuple[int, int] | None = None
        for window_at, middle, half in self.known:
            unsure = half + abs(at - window_at) * DRIFT_PPM // 1_000_000
            if best is None or unsure < best[0]:
                best = (unsure, middle)
        if best is not None:
            return best[1], best[0]
        one_way = [b for bound in self.bounds for b in (bound.low_ns, bound.high_ns) if b is not None]
        return (one_way[0], ONE_WAY_NS) if one_way else (0, UNKNOWN_NS)

    @property
    def known(self) -> list[tuple[int, int, int]]:
        """(at, middle, uncertainty) of the windows with messages both ways in which no clock was set."""
        both = [(b.at, b.low_ns, b.high_ns) for b in self.bounds if b.low_ns is not None and b.high_ns is not None]
        return [(at, (low + high) // 2, abs(high - low) // 2) for at, low, high in both if low - high <= DRIFTED_NS]

    @property
    def stepped(self) -> tuple[Bound, ...]:
        """Windows whose bounds contradict each other: one of the clocks was set meanwhile."""
        both = [b for b in self.bounds if b.low_ns is not None and b.high_ns is not None]
        return tuple(b for b in both if (b.low_ns or 0) - (b.high_ns or 0) > DRIFTED_NS)


class Tie(NamedTuple):
    """A message that arrived: cause and effect."""

    sender: int
    """0 or 1: index of the side."""
    sent: Sent
    received: Received


class Line(Value, frozen=True):
    """A decision in the common order."""

    node: str
    seq: int
    wall_ns: int
    """By the first director's wall clock."""
    reason: str
    follows: int
    """The other director's newest event that this one can have known of."""


class Merged(NamedTuple):
    """See the module."""

    sides: tuple[Side, Side]
    ties: tuple[Tie, ...]
    arrivals: tuple[dict[Key, list[Received]], dict[Key, list[Received]]]
    """By side: what it received, by message."""
    wall: Clock
    lines: tuple[Line, ...]

    def on_first(self, wall_ns: int, side: int) -> int:
        """A wall time of a side on the first director's clock."""
        return wall_ns if side == 0 else wall_ns - self.wall.ahead(wall_ns)[0]


def merge(places: Sequence[Sequence[Path]]) -> Merged:
    """Merge two directors' files.

    Raises `MergeRefused`, and what `history.moments` raises.
    """
    if len(places) != 2:
        raise MergeRefused(f"{len(places)} journals; a pair has two")
    sides = [collect(moments(files)) for files in places]
    return merge_sides(sides[0], sides[1], str(places[0][0]), str(places[1][0]))


def merge_sides(first: Side, second: Side, first_name: str = "", second_name: str = "") -> Merged:
    """Raises `MergeRefused`."""
    if first.node == second.node:
        raise MergeRefused(f"{first_name} and {second_name} are both journals of {first.node}")
    sides = (first, second)
    arrivals = (_by_key(first.received), _by_key(second.received))
    ties: list[Tie] = []
    for index, sender in enumerate(sides):
        receiver = sides[1 - index]
        for sent in sender.sent:
            copies = arrivals[1 - index].get(sent.key)
            if not copies:
                continue
            claimed = next((copy.journal for copy in copies if copy.journal), sent.seq)
            if claimed != sent.seq:
                raise MergeRefused(
                    f"event {copies[0].seq} of {receiver.node} is a heartbeat that {sender.node} sent in its event "
                    f"{claimed}; in the given journal of {sender.node} that was event {sent.seq}: they are no pair"
                )
            ties.append(Tie(index, sent, copies[0]))
    wall = _clock([(t.sender, t.sent.wall_ns, t.received.wall_ns) for t in ties])
    merged = Merged(sides, tuple(ties), arrivals, wall, ())
    return merged._replace(lines=tuple(_order(merged)))


def _by_key(received: list[Received]) -> dict[Key, list[Received]]:
    found: dict[Key, list[Received]] = {}
    for copy in received:
        found.setdefault(copy.key, []).append(copy)
    return found


def _clock(messages: list[tuple[int, int, int]]) -> Clock:
    """From (sender, sent, received), each by its own clock."""
    windows: dict[int, tuple[int | None, int | None]] = {}
    for sender, sent, received in messages:
        first, second = (sent, received) if sender == 0 else (received, sent)
        ahead = second - first
        low, high = windows.get(first // WINDOW_NS, (None, None))
        if sender == 0:
            high = ahead if high is None else min(high, ahead)
        else:
            low = ahead if low is None else max(low, ahead)
        windows[first // WINDOW_NS] = (low, high)
    return Clock(tuple(Bound(w * WINDOW_NS + WINDOW_NS // 2, *windows[w]) for w in sorted(windows)))


def _order(merged: Merged) -> list[Line]:
    """Decisions of both sides; none before what it can have known of."""
    known: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
    for tie in merged.ties:
        known[1 - tie.sender].append((tie.received.seq, tie.sent.seq))
    newest: tuple[list[int], list[int]] = ([], [])
    for index in (0, 1):
        best = 0
        known[index].sort()
        for _, seq in known[index]:
            best = max(best, seq)
            newest[index].append(best)

    def follows(index: int, mark: Mark) -> int:
        place = bisect_left(known[index], (mark.seq + 1, 0))
        return newest[index][place - 1] if place else 0

    lines: list[Line] = []
    marks = (merged.sides[0].marks, merged.sides[1].marks)
    at = [0, 0]
    while at[0] < len(marks[0]) or at[1] < len(marks[1]):
        ready = []
        for index in (0, 1):
            if at[index] < len(marks[index]):
                mark = marks[index][at[index]]
                other = marks[1 - index]
                free = at[1 - index] >= len(other) or other[at[1 - index]].seq > follows(index, mark)
                ready.append((not free, merged.on_first(mark.wall_ns, index), index))
        _, wall_ns, index = min(ready)
        mark = marks[index][at[index]]
        at[index] += 1
        lines.append(
            Line(node=mark.node, seq=mark.seq, wall_ns=wall_ns, reason=mark.reason, follows=follows(index, mark))
        )
    return lines
