"""What `hafsm ipvs` shows: the kernel's table, and beside each entry what is known of the real server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hafsm.core.describe import why
from hafsm.core.ipvs import DestinationEntry, TableEntry
from hafsm.core.settings import VirtualService
from hafsm.core.state import RealView, State
from hafsm.kernel.interface import Connections

Counts = Mapping[tuple[str, str], Connections]


def view_of(state: State, table: tuple[TableEntry, ...], counts: Counts, *, now: int) -> list[dict[str, Any]]:
    """Plain values, a service each, in the kernel's order; those of others are shown too, and marked."""
    firsts: dict[str, tuple[VirtualService, int]] = {}
    position = 0
    for service in state.settings.services:
        firsts[service.key] = (service, position)
        position += len(service.reals)
    return [_service(state, entry, firsts.get(entry.service.key), counts, now) for entry in table]


def _service(
    state: State, entry: TableEntry, ours: tuple[VirtualService, int] | None, counts: Counts, now: int
) -> dict[str, Any]:
    views: dict[str, RealView] = {}
    fallback = ""
    if ours is not None:
        service, first = ours
        for view in state.reals[first : first + len(service.reals)]:
            views.setdefault(service.reals[view.real].key, view)
        fallback = service.fallback.key if service.fallback is not None else ""
    overrides = {o.real: o for o in state.overrides if o.service == entry.service.key}
    reals = []
    for destination in entry.destinations:
        shown = _destination(destination, counts.get((entry.service.key, destination.key)))
        known = views.get(destination.key)
        if known is not None:
            shown |= {
                "health": known.state.value,
                "since_s": round((now - known.since) / 1e9, 1),
                "why": why(known, overrides.get(destination.key)),
            }
        elif destination.key == fallback:
            shown |= {"health": "fallback", "why": "no real server is up"}
        reals.append(shown)
    kernel = entry.service
    return {
        "service": kernel.key,
        "protocol": kernel.protocol,
        "address": kernel.address,
        "port": kernel.port,
        "mark": kernel.mark,
        "scheduler": kernel.scheduler,
        "scheduler_flags": list(kernel.scheduler_flags),
        "persistent_s": kernel.persistent_s,
        "netmask": kernel.netmask,
        "one_packet": kernel.one_packet,
        "ours": ours is not None,
        "reals": reals,
    }


def _destination(destination: DestinationEntry, count: Connections | None) -> dict[str, Any]:
    return {
        "real": destination.key,
        "forwarding": destination.forwarding.value,
        "weight": destination.weight,
        "active": None if count is None else count.active,
        "inactive": None if count is None else count.inactive,
        "health": "",
        "since_s": None,
        "why": "",
    }
