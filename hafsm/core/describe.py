"""What the daemon says about itself, live or replayed: plain JSON values, made from the state alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hafsm.core.balance import wanted_table
from hafsm.core.machines import GroupState, NodeState, Phase
from hafsm.core.settings import NodeName, Override, RealServer, RealVerb
from hafsm.core.state import RealView, State, group_set, is_stable


def describe(state: State, reasons: Iterable[tuple[int, int, str]], *, now: int) -> dict[str, Any]:
    """`describe_cluster`, and the virtual services with real servers and weights."""
    return {**describe_cluster(state, reasons, now=now), "services": _services(state, now)}


def describe_cluster(state: State, reasons: Iterable[tuple[int, int, str]], *, now: int) -> dict[str, Any]:
    """Nodes, VIPs and who holds them, last reasons; does not grow with the number of real servers.

    Times are seconds; `reasons` are (wall ns, event number, sentence).
    """
    return {
        "node": state.settings.me,
        "event": state.number,
        "generation": state.generation,
        "phase": state.phase.value,
        "stable": is_stable(state),
        "holds": state.mine.value,
        "resources": resources(state),
        "handover": state.handover.value,
        "ipfail": state.settings.ipfail,
        "nodes": _nodes(state, now),
        "links": _links(state, now),
        "pings": [
            {"name": ping.name, "alive": ping.alive, "silent_s": _ago(now, ping.heard_at)} for ping in state.pings
        ],
        "vips": _vips(state),
        "groups": _groups(state),
        "refused_datagrams": dict(state.refused),
        "journal": state.journal_trouble or "written",
        "configuration": state.reload_trouble or "as read",
        "maintenance": state.maintenance_trouble or [entry.name for entry in state.maintenance],
        "memory": state.memory_trouble or "kept",
        "operators": [_override(override) for override in state.overrides if override.verb is not RealVerb.ENABLE],
        "reasons": [{"wall_ns": wall, "event": number, "reason": reason} for wall, number, reason in reasons],
    }


_OWN_STATUS = {Phase.WAITING: "up", Phase.GONE: "dead"}
"""heartbeat's word for a node's life (`st`); `active` in every other phase."""


def resources(state: State) -> str:
    """heartbeat's `rscstatus`: none, local, foreign or all; `transition` while either director expects changes."""
    peer = state.peer
    unsettled = peer is not None and peer.state is not NodeState.DEAD and not peer.stable
    return "transition" if unsettled or not is_stable(state) else state.mine.value


def _ago(now: int, at: int) -> float | None:
    return round((now - at) / 1e9, 1) if at else None


def _nodes(state: State, now: int) -> list[dict[str, Any]]:
    me: dict[str, Any] = {
        "name": state.settings.me,
        "state": state.node.value,
        "generation": state.generation,
        "silent_s": 0.0,
        "status": _OWN_STATUS.get(state.phase, "active"),
    }
    if state.peer is None:
        return [me]
    peer: dict[str, Any] = {
        "name": state.peer.name,
        "state": state.peer.state.value,
        "generation": state.peer.generation,
        "silent_s": _ago(now, state.peer.heard_at),
        "status": "dead" if state.peer.state is NodeState.DEAD else state.peer.status or "init",
    }
    both: dict[NodeName, dict[str, Any]] = {state.settings.me: me, state.peer.name: peer}
    return [both[name] for name in state.settings.nodes]


def _links(state: State, now: int) -> list[dict[str, Any]]:
    if state.peer is None:
        return []
    return [
        {"name": name, "up": view.up, "silent_s": _ago(now, view.heard_at)}
        for name, view in zip(state.settings.links, state.peer.links, strict=True)
    ]


def holder(state: State, index: int) -> NodeName | None:
    """Who holds a group, as far as this node knows."""
    which = group_set(state, index)
    if state.mine.covers(which):
        return state.settings.me
    peer = state.peer
    if peer is not None and peer.state is not NodeState.DEAD and peer.holds.covers(which):
        return peer.name
    return None


def _vips(state: State) -> list[dict[str, Any]]:
    vips = []
    for index, group in enumerate(state.settings.groups):
        for resource in group.resources:
            if resource.address is None:
                continue
            vips.append(
                {
                    "address": str(resource.address),
                    "ip": resource.address.ip,
                    "holder": holder(state, index),
                    "here": resource.address in state.held,
                    "preferred": group.preferred,
                }
            )
    return vips


def _groups(state: State) -> list[dict[str, Any]]:
    return [
        {
            "key": settings.key,
            "preferred": settings.preferred,
            "state": group.state.value,
            "resources": [resource.text for resource in settings.resources],
            "failure": group.failure if group.state is GroupState.FAILED else "",
        }
        for group, settings in zip(state.groups, state.settings.groups, strict=True)
    ]


def _override(override: Override) -> dict[str, Any]:
    return {
        "service": override.service,
        "real": override.real,
        "verb": override.verb.value,
        "weight": override.weight if override.verb is RealVerb.WEIGHT else None,
        "by": override.by,
        "reason": override.reason,
        "node": override.node,
        "wall_ns": override.wall_ns,
    }


def why(view: RealView, override: Override | None) -> str:
    """Why a real server is as it is: who keeps it out, else what its last check said."""
    parts = [str(override)] if override is not None and override.verb is not RealVerb.ENABLE else []
    if view.maintenance:
        parts.append("in maintenance")
    if not view.held or not view.known:
        parts.append(view.detail or "check passed")
    elif view.healthy:
        parts.append("its checks pass")
    else:
        parts.append(f"its checks fail: {view.detail}")
    return "; ".join(parts)


def _services(state: State, now: int) -> list[dict[str, Any]]:
    seen = {entry.service.key: {d.key: d.weight for d in entry.destinations} for entry in state.ipvs.seen}
    wanted = {entry.service.key for entry in wanted_table(state)}
    overrides = {(o.service, o.real): o for o in state.overrides}
    services: list[dict[str, Any]] = []
    position = 0
    for index, service in enumerate(state.settings.services):
        kernel = seen.get(service.key, {})
        views = state.reals[position : position + len(service.reals)]
        position += len(service.reals)
        fallback = service.fallback
        services.append(
            {
                "service": service.key,
                "name": service.name,
                "scheduler": service.scheduler,
                "in_kernel": service.key in seen,
                "wanted": service.key in wanted,
                "serving": state.serving[index],
                "reals": [
                    _real(service.reals[view.real], view, overrides.get((service.key, service.reals[view.real].key)))
                    | {"weight": kernel.get(service.reals[view.real].key), "since_s": _ago(now, view.since)}
                    for view in views
                ],
                "fallback": None
                if fallback is None
                else {
                    "real": fallback.key,
                    "forwarding": fallback.forwarding.value,
                    "weight": kernel.get(fallback.key) if not state.serving[index] else None,
                },
            }
        )
    return services


def _real(real: RealServer, view: RealView, override: Override | None) -> dict[str, Any]:
    return {
        "real": real.key,
        "forwarding": real.forwarding.value,
        "state": view.state.value,
        "configured_weight": real.weight,
        "operator_weight": view.weight if view.weight >= 0 else None,
        "hold": view.hold.value if view.hold is not None else "",
        "maintenance": view.maintenance,
        "healthy": view.healthy,
        "detail": view.detail,
        "why": why(view, override),
    }
