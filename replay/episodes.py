"""Times in which something was wrong, as a fold saw them: failovers, silent directors and links, real servers out.

Two folds of the same inputs under different settings are compared by these: what one saw and the other did not was
avoided, or would have come on top; where both saw it, the difference of the beginnings is detection time.
"""

from __future__ import annotations

from enum import Enum

from msgspec.structs import replace

from hafsm.core.machines import NodeState, Phase, RealState
from hafsm.core.settings import Value
from hafsm.core.state import Holding, State, has_groups

Key = tuple["Trouble", str]


class Trouble(Enum):
    """What was wrong."""

    TAKEN = "holds the other director's resources"
    """A failover, seen from the one that took over."""
    AWAY = "its own resources are with the other director"
    """A failover, seen from the one that lost them."""
    DIRECTOR = "director dead"
    PING = "ping node silent"
    LINK = "link silent"
    REAL = "real server out"


FAILOVERS = (Trouble.TAKEN, Trouble.AWAY)


class Episode(Value, frozen=True):
    """One trouble from its detection to its end."""

    trouble: Trouble
    name: str
    seq: int
    """Recorded event at or before which it was detected."""
    at: int
    wall_ns: int
    until: int = 0
    """0: not over where the fold ends."""


class Episodes:
    """Fold states; see the module."""

    def __init__(self) -> None:
        self._done: list[Episode] = []
        self._open: dict[Key, Episode] = {}
        self._carried: set[Key] = set()
        """Open since before the comparison began: not counted."""

    def begin(self, state: State) -> None:
        """Start anew from a state: what is wrong already is not counted."""
        self._done = []
        self._open.clear()
        self._carried = {*_of_cluster(state), *_of_pings(state), *_of_reals(state)}

    def fold(self, before: State, after: State, seq: int, wall_ns: int) -> None:
        """Note what began and ended."""
        if before.peer is not after.peer or before.mine is not after.mine or before.phase is not after.phase:
            self._compare(_of_cluster(before), _of_cluster(after), after.now, seq, wall_ns)
        if before.pings is not after.pings:
            self._compare(_of_pings(before), _of_pings(after), after.now, seq, wall_ns)
        if before.reals is not after.reals:
            self._compare(_of_reals(before), _of_reals(after), after.now, seq, wall_ns)

    def _compare(self, was: list[Key], now: list[Key], at: int, seq: int, wall_ns: int) -> None:
        if was == now:
            return
        for key in was:
            if key not in now:
                self._end(key, at)
        for key in now:
            if key not in was:
                self._open[key] = Episode(trouble=key[0], name=key[1], seq=seq, at=at, wall_ns=wall_ns)

    def _end(self, key: Key, at: int) -> None:
        if key in self._carried:
            self._carried.discard(key)
            return
        episode = self._open.pop(key, None)
        if episode is not None:
            self._done.append(replace(episode, until=max(at, episode.at + 1)))

    def finish(self) -> list[Episode]:
        """All that began since `begin`, in order; those still open have no end."""
        found = [*self._done, *self._open.values()]
        self._done = []
        self._open.clear()
        return sorted(found, key=lambda episode: (episode.at, episode.trouble.value, episode.name))


def _of_cluster(state: State) -> list[Key]:
    found: list[Key] = []
    me = state.settings.me
    peer = state.peer
    if state.mine.covers(Holding.FOREIGN) and has_groups(state, Holding.FOREIGN):
        found.append((Trouble.TAKEN, me))
    if state.phase is Phase.STABLE and not state.mine.covers(Holding.LOCAL) and has_groups(state, Holding.LOCAL):
        found.append((Trouble.AWAY, me))
    if peer is None:
        return found
    if peer.state is NodeState.DEAD:
        if not peer.farewell:
            found.append((Trouble.DIRECTOR, peer.name))
    else:
        for link, view in zip(state.settings.links, peer.links, strict=True):
            if view.heard_at and not view.up:
                found.append((Trouble.LINK, link))
    return found


def _of_pings(state: State) -> list[Key]:
    return [(Trouble.PING, ping.name) for ping in state.pings if ping.heard_at and not ping.alive]


def _of_reals(state: State) -> list[Key]:
    found: list[Key] = []
    for view in state.reals:
        if view.state is not RealState.UP and view.failures:
            service = state.settings.services[view.service]
            found.append((Trouble.REAL, f"{service.reals[view.real].key} of {service.key}"))
    return found
