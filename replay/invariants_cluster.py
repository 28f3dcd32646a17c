"""Who answers for a VIP: judged on both kernels at once, against what the network and the faults really were.

The other invariants stand in `replay.invariants`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hafsm.core.turn import seconds
from replay.simulator_site import Bounds


class Scene(NamedTuple):
    """The cluster at one moment; true times in nanoseconds, long ago for what never was."""

    now: int
    bounds: Bounds
    deaf_until: int
    """Until when the network kept one director's heartbeats from the other for deadtime, or next to everything."""
    resumed_at: int
    """When a machine whose clock stood still went on."""
    unreleased_until: int
    """Until when scripts or the kernel of a director did not do what they were asked."""
    lending_at: int
    """When a hand-over in which one serves until the other does was last under way."""
    healthy_since: int
    """Since when some director has been able to serve; -1: none is."""


class Owners(NamedTuple):
    """One VIP."""

    vip: str
    both_since: int
    """-1: not both directors answer for it."""
    none_since: int
    """-1: somebody does."""


def one_director_answers(scene: Scene, owners: Owners) -> str:
    """Two directors answer for one VIP only while or shortly after they could not hear each other, and
    in an agreed hand-over until the giver knows that the taker serves."""
    if owners.both_since < 0:
        return ""
    excused = max(scene.deaf_until, scene.resumed_at, scene.unreleased_until) + scene.bounds.heal_ns
    both = scene.now - max(owners.both_since, excused)
    lending = scene.now - scene.lending_at <= scene.bounds.overlap_ns
    if both <= (scene.bounds.handover_ns if lending else scene.bounds.overlap_ns):
        return ""
    return f"both directors answer for {owners.vip} for {seconds(scene.now - owners.both_since)}"


def some_director_answers(scene: Scene, owners: Owners) -> str:
    """A VIP is never without an owner for longer than a stated time while a healthy director is there, and the
    other does not cling to the group with scripts or a kernel that fail it."""
    if owners.none_since < 0 or scene.healthy_since < 0:
        return ""
    vacant = scene.now - max(owners.none_since, scene.healthy_since, scene.unreleased_until)
    if vacant <= scene.bounds.vacant_ns:
        return ""
    return f"nobody answers for {owners.vip} for {seconds(vacant)} although a director is healthy"


CLUSTER: tuple[Callable[[Scene, Owners], str], ...] = (one_director_answers, some_director_answers)
