"""Which real servers an operator's words mean."""

from __future__ import annotations

import ipaddress

from hafsm.core.settings import RealVerb, VirtualService, host_port
from hafsm.core.state import State


class Unclear(Exception):
    """No server, or several, answer to what was said; says which."""


def targets(state: State, verb: RealVerb, virtual: str, real: str) -> tuple[tuple[str, str], ...]:
    """(service key, real server key) of each. Raises Unclear.

    `virtual`: `VIP:PORT`, a mark's number, `tcp:VIP:PORT`, `fwm:7`, a `servicename`; `all`: every service that has the
    server. `real`: `ADDR:PORT`, or `ADDR` for all its ports there.
    """
    real = _canonical(real)
    services = state.settings.services
    chosen = list(services) if virtual == "all" else _named(services, virtual)
    found = tuple((s.key, r.key) for s in chosen for r in s.reals if real in (r.key, r.address, f"[{r.address}]"))
    if found:
        return tuple(dict.fromkeys(found))
    if verb is RealVerb.ENABLE:
        # What is not configured any more may still be remembered as drained.
        keys = {service.key for service in chosen}
        for override in state.overrides:
            ours = virtual == "all" or override.service in keys or _answers(override.service, virtual)
            if override.real == real and ours:
                found = (*found, (override.service, override.real))
        if found:
            return found
    if not chosen:
        raise Unclear(f"no virtual service {virtual}; there are {_some([s.key for s in services])}")
    where = chosen[0].key if len(chosen) == 1 else "any of the services"
    names = [r.key for s in chosen for r in s.reals]
    raise Unclear(f"no real server {real} in {where}; there are {_some(list(dict.fromkeys(names)))}")


def _named(services: tuple[VirtualService, ...], virtual: str) -> list[VirtualService]:
    found = [s for s in services if s.key == virtual]
    if not found:
        place = _canonical(virtual)
        found = [s for s in services if place == s.place or (s.name and s.name == virtual)]
    if len(found) > 1:
        raise Unclear(f"{virtual} may be {' or '.join(s.key for s in found)}: say which")
    return found


def _answers(key: str, virtual: str) -> bool:
    """`tcp:192.0.2.1:80` answers to `192.0.2.1:80`."""
    return virtual == key or key.partition(":")[2] == _canonical(virtual)


def _canonical(text: str) -> str:
    """An address as keys have it; everything else as it is."""
    address, port = text, ""
    if text.startswith("["):
        address, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    try:
        canonical = str(ipaddress.ip_address(address))
    except ValueError:
        return text
    if not port:
        return canonical
    return host_port(canonical, int(port)) if port.isascii() and port.isdigit() else text


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:8]) or "none"
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")
