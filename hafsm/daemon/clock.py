"""The two clocks: one for the core, one for people."""

from __future__ import annotations

import time


def boottime_ns() -> int:
    """Monotonic and counting suspend (CLOCK_BOOTTIME): what the core's events are stamped with."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


wall_ns = time.time_ns
