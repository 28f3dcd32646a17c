"""Refuses what was recorded on a link and sent again (law L9). One window for each node and link.

heartbeat 3 sends every message on every link, and again on all of them when it was asked to, so a copy on another
link is no replay; joining the copies is the core's work. Here only the same link counts.
"""

from __future__ import annotations

from enum import Enum

WINDOW = 1024
"""Sequence numbers remembered behind the newest; heartbeat keeps 500 messages for retransmission."""
_MASK = (1 << WINDOW) - 1


class Verdict(Enum):
    """Only ACCEPTED is true."""

    ACCEPTED = "accepted"
    OLD_GENERATION = "old_generation"
    """The sender has had a later life since."""
    UNOPENED_GENERATION = "unopened_generation"
    """Of a life that no status message has opened on this link yet."""
    REPEATED = "repeated"
    """Seen on this link; also what a retransmission looks like on a link that lost nothing."""
    TOO_OLD = "too_old"
    """Further back than the window remembers."""

    def __bool__(self) -> bool:
        return self is Verdict.ACCEPTED


class ReplayWindow:
    """What one node has sent over one link in its present life."""

    __slots__ = ("_floor", "_generation", "_newest", "_seen")

    def __init__(self, floor: int = 0) -> None:
        """`floor`: a generation of this node that was heard in an earlier life of ours; older ones are refused."""
        self._floor = floor
        self._generation = -1
        self._newest = 0
        self._seen = 0
        """Bit n: sequence number `_newest - n` was accepted."""

    def accept(self, generation: int, sequence: int, *, status: bool) -> Verdict:
        """Judge an authentic message and remember it.

        Args:
            generation: heartbeat's `hg`.
            sequence: 0 for kinds beginning with `NS_`: only the generation is judged.
            status: a status message; nothing else opens a generation (heartbeat's rule).
        """
        if generation < self._generation or generation < self._floor:
            return Verdict.OLD_GENERATION
        if generation > self._generation:
            if not status:
                return Verdict.UNOPENED_GENERATION
            self._generation = generation
            self._newest = sequence
            self._seen = 1
            return Verdict.ACCEPTED
        if sequence == 0:
            return Verdict.ACCEPTED
        ahead = sequence - self._newest
        if ahead > 0:
            self._seen = (self._seen << ahead & _MASK) | 1 if ahead < WINDOW else 1
            self._newest = sequence
            return Verdict.ACCEPTED
        if -ahead >= WINDOW:
            return Verdict.TOO_OLD
        bit = 1 << -ahead
        if self._seen & bit:
            return Verdict.REPEATED
        self._seen |= bit
        return Verdict.ACCEPTED
