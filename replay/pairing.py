"""What two folds of the same inputs saw, put side by side: pairings of troubles, and how far they can be trusted."""

from __future__ import annotations

from enum import Enum
from typing import Any

from msgspec.structs import replace

from hafsm.core.machines import Handover, NodeState, Phase
from hafsm.core.settings import Value
from hafsm.core.state import State, both_stable, is_stable
from replay.episodes import FAILOVERS, Episode, Trouble


class Stop(Enum):
    """Why a stretch ended."""

    END = "the journal ends"
    MESSAGE = "a message of the other director may answer what only happened in the recording"
    FENCE = "the other director would have been fenced, or would not have been"
    REFUSED = "the recorded input cannot be under these settings"
    GAP = "the journal lost events"


class Stretch(Value, frozen=True):
    """Events over which the recorded inputs were credible."""

    first: int
    last: int
    apart: int
    """Since this event the folds differed in what the other director is told or sees; 0: they did not at its end."""
    stop: Stop
    until_at: int


class Pairing(Value, frozen=True):
    """One trouble in both folds, or in one of them."""

    recorded: Episode | None
    computed: Episode | None
    undecided: bool = False
    """The stretch ended before the other fold could have seen it or been done with it."""

    @property
    def later_ns(self) -> int:
        """How much later it would have been detected; negative: earlier. 0 unless both saw it."""
        if self.recorded is None or self.computed is None:
            return 0
        return self.computed.at - self.recorded.at


def pair(was: list[Episode], would: list[Episode], until_at: int) -> list[Pairing]:
    """Join the episodes of both folds that overlap in time."""
    pairings = []
    left: list[Any] = list(would)
    for recorded in was:
        end = recorded.until or until_at + 1
        match = next(
            (
                e
                for e in left
                if e.trouble is recorded.trouble
                and e.name == recorded.name
                and e.at <= end
                and (e.until or until_at + 1) >= recorded.at
            ),
            None,
        )
        if match is not None:
            left.remove(match)
            pairings.append(Pairing(recorded=recorded, computed=match))
        else:
            pairings.append(Pairing(recorded=recorded, computed=None, undecided=not recorded.until))
    pairings += [Pairing(recorded=None, computed=computed) for computed in left]
    pairings = [_settled(pairing, pairings) for pairing in pairings]
    return sorted(pairings, key=lambda p: (p.recorded or p.computed).at)  # type: ignore[union-attr]


def _settled(pairing: Pairing, pairings: list[Pairing]) -> Pairing:
    """A failover whose cause was avoided is avoided too, even if the recording was not done with it."""
    recorded = pairing.recorded
    if not pairing.undecided or recorded is None or recorded.trouble not in FAILOVERS:
        return pairing
    for other in pairings:
        cause = other.recorded
        if cause is not None and cause.trouble is Trouble.DIRECTOR and cause.seq == recorded.seq:
            return pairing if other.undecided or other.computed else replace(pairing, undecided=False)
    return pairing


def told_apart(recorded: State, computed: State) -> bool:
    """Whether the folds differ in what the other director is told or sees."""
    if recorded.mine is not computed.mine or recorded.held != computed.held:
        return True
    if recorded.lending is not computed.lending or recorded.handover is not computed.handover:
        return True
    if recorded.phase is not computed.phase:
        return True
    if sum(ping.alive for ping in recorded.pings) != sum(ping.alive for ping in computed.pings):
        return True
    one, other = recorded.peer, computed.peer
    if one is None or other is None:
        return False
    return (one.state is NodeState.DEAD) != (other.state is NodeState.DEAD) or one.holds is not other.holds


def at_rest(state: State) -> bool:
    """Whether a comparison may begin here: nothing is under way, and the other director is well."""
    return (
        state.phase is Phase.STABLE
        and state.handover is Handover.IDLE
        and (both_stable(state) if state.peer is not None else is_stable(state))
        and state.giving_up.value == "none"
        and state.ipvs.known
        and not state.ipvs.pending
    )
