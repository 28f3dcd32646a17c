"""One thing that only two journals together show; `findings` and `findings_vips` make them."""

from __future__ import annotations

from enum import Enum

from hafsm.core.settings import MILLISECOND, Value

SHORT_NS = 50 * MILLISECOND
"""A VIP that changes hands has no owner for as long as the kernel takes; less is not worth a line."""


class FindingKind(Enum):
    """What was found."""

    LOST = "lost messages"
    DOUBLE = "two holders"
    SHARED = "shared in a hand-over"
    NOBODY = "no holder"
    HANDOVER = "hand-over"
    CLOCK = "clock step"


class Finding(Value, frozen=True):
    """One thing that only both journals show."""

    kind: FindingKind
    wall_ns: int
    until_wall_ns: int
    text: str
    sure: bool = True
    """False: it may have been so; the journals cannot tell."""
    uncertainty_ns: int = 0
    """One-sided, of the clocks' difference; 0 where it does not matter."""
    events: tuple[tuple[str, int], ...] = ()
    """(director, event) that it rests on."""
