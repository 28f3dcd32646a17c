"""The fewest that still fail: delta debugging, for faults of a simulation and for events of a journal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def fewest(items: Sequence[T], fails: Callable[[list[T]], bool], *, tries: int = 2000) -> list[T]:
    """A subsequence that still fails and of which no single item can be left out (ddmin).

    Args:
        fails: whether a candidate, in the original order, still shows what is looked for; true for `items` itself.
        tries: at most so many calls of `fails`; the best found so far is returned when they are used up.
    """
    best = list(items)
    parts = 2
    while best and tries > 0:
        size = -(-len(best) // parts)
        for start in range(0, len(best), size):
            candidate = best[:start] + best[start + size :]
            tries -= 1
            if fails(candidate):
                best = candidate
                parts = max(parts - 1, 2)
                break
            if tries <= 0:
                return best
        else:
            if size == 1:
                return best
            parts = min(2 * parts, len(best))
    return best


def last_that_suffice(items: Sequence[T], fails: Callable[[list[T]], bool]) -> list[T]:
    """The shortest tail, in powers of two, that still fails: a cheap first cut of something long."""
    length = 1
    while length < len(items):
        candidate = list(items[-length:])
        if fails(candidate):
            return candidate
        length *= 2
    return list(items)
