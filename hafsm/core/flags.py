"""Behaviour flags: what lets a journal of last year replay with last year's decisions (law L8).

A change that makes `step` decide otherwise on an event that old journals hold gets a flag here. New lives start with
all of them in `Settings.flags`, which every snapshot holds; the core asks `has(settings, NAME)` where the two
behaviours part. A journal of a time before the flag so keeps its old decisions. The old branch stays as long as
journals of that age are kept; a flag's name is never used again.
"""

from __future__ import annotations

from hafsm.core.settings import Settings

KNOWN: dict[str, str] = {}
"""Name → what is decided otherwise since, one sentence. The order is that of their introduction."""


def current() -> tuple[str, ...]:
    """What a new life starts with."""
    return tuple(KNOWN)


def has(settings: Settings, name: str) -> bool:
    """Whether decisions are those since the flag."""
    return name in settings.flags
