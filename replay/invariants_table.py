"""The IPVS table by the plain rule: what the last checks ask for, counted without the core.

The invariants that use it stand in `replay.invariants`.
"""

from __future__ import annotations

from hafsm.core.ipvs import TableEntry
from hafsm.core.machines import RealState
from hafsm.core.settings import CheckKind, CheckSpec, RealServer, Settings, VirtualService


class Health:
    """A real server of one service by the plain rule: failurecount failures in a row take it out, a success brings it
    back."""

    __slots__ = ("failures", "state")

    def __init__(self, state: RealState = RealState.REMOVED) -> None:
        self.failures = 0
        self.state = state

    def take(self, ok: bool, service: VirtualService) -> None:
        if ok:
            self.failures, self.state = 0, RealState.UP
            return
        self.failures += 1
        if self.state is RealState.UP and self.failures >= service.failurecount:
            self.state = RealState.QUIESCED if service.quiescent else RealState.REMOVED


def plain_table(settings: Settings, health: dict[tuple[str, str, CheckSpec], Health]) -> dict[str, dict[str, int]]:
    """Service → destination → weight, from check results alone."""
    table: dict[str, dict[str, int]] = {}
    for service in settings.services:
        destinations: dict[str, int] = {}
        any_up = False
        for real in service.reals:
            state = _state(service, real, health)
            if state is not RealState.REMOVED:
                destinations[real.key] = real.weight if state is RealState.UP else 0
            any_up = any_up or state is RealState.UP
        if not any_up and service.fallback is not None:
            destinations[service.fallback.key] = service.fallback.weight
        table[service.key] = destinations
    return table


def _state(service: VirtualService, real: RealServer, health: dict[tuple[str, str, CheckSpec], Health]) -> RealState:
    if real.check is None or real.check.kind is CheckKind.ALWAYS_DOWN:
        return RealState.REMOVED
    if real.check.kind is CheckKind.ALWAYS_UP:
        return RealState.UP
    known = health.get((service.key, real.key, real.check))
    return known.state if known is not None else RealState.REMOVED


def differs(plain: dict[str, dict[str, int]], seen: tuple[TableEntry, ...]) -> str:
    """How a kernel's table differs from the plain one."""
    real = {entry.service.key: {d.key: d.weight for d in entry.destinations} for entry in seen}
    for key in sorted(plain.keys() | real.keys()):
        if plain.get(key) != real.get(key):
            return f"{key} has {_routes(real.get(key))}, the last checks ask for {_routes(plain.get(key))}"
    return ""


def _routes(destinations: dict[str, int] | None) -> str:
    if destinations is None:
        return "no entry"
    return ", ".join(f"{key} weight {weight}" for key, weight in sorted(destinations.items())) or "no destination"
