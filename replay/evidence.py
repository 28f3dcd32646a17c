"""What did not come, and what came meanwhile: the facts beside a silence or a failed check.

Durations are nanoseconds before the moment that is explained. `watch` collects them, `words` tells them.
"""

from __future__ import annotations

from hafsm.core.settings import Value

LATE_NS = 100_000_000
"""A deadline that passes this late is worth a note: a quarter of the shortest deadtime that makes sense."""


class Absent(Value, frozen=True):
    """What was expected and did not come."""

    what: str
    """`heartbeat of director-a on eth0`, `answer of ping node 192.0.2.254`."""
    last_seq: int
    """Event of the last one; 0: never came."""
    last_wall_ns: int
    silent_ns: int
    period_ns: int
    """How often it came before: the median of the last intervals, or what the configuration says."""
    missed: int
    """How many had been due since."""


class Present(Value, frozen=True):
    """What went on coming meanwhile."""

    what: str
    count: int
    last_ns: int
    """How long before the moment the last one came."""


class Failure(Value, frozen=True):
    """One failed check."""

    seq: int
    wall_ns: int
    before_ns: int
    detail: str
    duration_us: int


class Note(Value, frozen=True):
    """Something unusual in the window: this director's loop or journal was late, a link could not send."""

    seq: int
    before_ns: int
    text: str


class Evidence(Value, frozen=True):
    """Facts beside a change, from `window_ns` before it on."""

    window_ns: int
    absent: tuple[Absent, ...] = ()
    present: tuple[Present, ...] = ()
    checks_passed: int = 0
    checks_failed: int = 0
    reals_up: int = 0
    reals: int = 0
    late_ns: int = 0
    """The latest that a deadline of this director's loop passed in the window."""
    refused: tuple[tuple[str, int], ...] = ()
    """Datagrams counted and not obeyed in the window: (reason, how many)."""
    notes: tuple[Note, ...] = ()
    failures: tuple[Failure, ...] = ()
    """Of a real server: the failed checks in a row, the last ones."""
    passed_seq: int = 0
    """Of a real server: the last check that passed before."""
    passed_ns: int = 0
    interval_ns: int = 0
    """Of a real server: between the last two results, as they arrived."""
    interval_set_ns: int = 0
    """Of a real server: `checkinterval`."""
