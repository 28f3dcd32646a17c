"""The IPVS table as values: what is wanted, what is seen, and the operations that turn one into the other.

The words are ipvsadm's: a virtual *service* has *destinations* (real servers) with a forwarding method and a weight.
"""

from __future__ import annotations

import hashlib
from enum import Enum

import msgspec

from hafsm.core.settings import Forwarding, Value, VirtualService, host_port


class ServiceEntry(Value, frozen=True):
    """A virtual service as the kernel holds it, without its destinations."""

    protocol: str
    """`tcp`, `udp`, `sctp` or `fwm`; a number for a protocol without a name here."""
    address: str
    """For a firewall mark: empty, or `::` if it marks IPv6 packets."""
    port: int
    mark: int = 0
    scheduler: str = "wrr"
    scheduler_flags: tuple[str, ...] = ()
    """As `VirtualService.scheduler_flags`, sorted."""
    one_packet: bool = False
    persistent_s: int = 0
    netmask: str = ""
    """Empty: 255.255.255.255 (/128)."""

    @property
    def key(self) -> str:
        """As `VirtualService.key`."""
        if self.protocol == "fwm":
            return f"fwm6:{self.mark}" if self.address else f"fwm:{self.mark}"
        return f"{self.protocol}:{host_port(self.address, self.port)}"


class DestinationEntry(Value, frozen=True):
    """A real server as the kernel holds it."""

    address: str
    port: int
    forwarding: Forwarding
    weight: int
    upper_threshold: int = 0
    lower_threshold: int = 0

    @property
    def key(self) -> str:
        return host_port(self.address, self.port)


class TableEntry(Value, frozen=True):
    """One virtual service with its destinations, in the order of the kernel or of the configuration."""

    service: ServiceEntry
    destinations: tuple[DestinationEntry, ...] = ()


class Verb(Enum):
    """What is done, with ipvsadm's option beside it."""

    ADD_SERVICE = "add service"  # -A
    EDIT_SERVICE = "edit service"  # -E
    DELETE_SERVICE = "delete service"  # -D; takes its destinations with it
    ADD_DESTINATION = "add destination"  # -a
    EDIT_DESTINATION = "edit destination"  # -e
    DELETE_DESTINATION = "delete destination"  # -d


class Operation(Value, frozen=True):
    """One IPVS netlink request."""

    verb: Verb
    service: ServiceEntry
    destination: DestinationEntry | None = None
    """Set for the destination verbs."""

    def __str__(self) -> str:
        if self.destination is None:
            return f"{self.verb.value} {self.service.key}"
        return f"{self.verb.value} {self.destination.key} of {self.service.key}"


def service_entry(service: VirtualService) -> ServiceEntry:
    """The kernel's side of a configured service, without what it would not keep: a mask of all ones, or one that no
    persistence needs."""
    kept = service.persistent_s and service.netmask not in ("255.255.255.255", "128")
    return ServiceEntry(
        protocol=service.protocol,
        address=service.address,
        port=service.port,
        mark=service.mark,
        scheduler=service.scheduler,
        scheduler_flags=tuple(sorted(service.scheduler_flags)),
        one_packet=service.one_packet,
        persistent_s=service.persistent_s,
        netmask=service.netmask if kept else "",
    )


def difference(wanted: tuple[TableEntry, ...], seen: tuple[TableEntry, ...]) -> tuple[Operation, ...]:
    """The operations that turn `seen` into `wanted`.

    Within a service everything is added or edited before anything is deleted, so that a service that has a server
    before and after never has none in between (ldirectord adds the real server before it removes the fallback, for the
    same reason). Services nobody wants are deleted last. `seen` holds only services that are ours to touch.
    """
    operations: list[Operation] = []
    before = {entry.service.key: entry for entry in seen}
    for entry in wanted:
        service = entry.service
        old = before.pop(service.key, None)
        if old is None:
            operations.append(Operation(verb=Verb.ADD_SERVICE, service=service))
        elif old.service != service:
            operations.append(Operation(verb=Verb.EDIT_SERVICE, service=service))
        left = {d.key: d for d in old.destinations} if old is not None else {}
        for destination in entry.destinations:
            known = left.pop(destination.key, None)
            if known == destination:
                continue
            verb = Verb.ADD_DESTINATION if known is None else Verb.EDIT_DESTINATION
            operations.append(Operation(verb=verb, service=service, destination=destination))
        operations.extend(
            Operation(verb=Verb.DELETE_DESTINATION, service=service, destination=d) for d in left.values()
        )
    operations.extend(Operation(verb=Verb.DELETE_SERVICE, service=e.service) for e in before.values())
    return tuple(operations)


def apply(operations: tuple[Operation, ...], table: tuple[TableEntry, ...]) -> tuple[TableEntry, ...]:
    """The table after `operations` succeeded; what would fail in a kernel changes nothing here."""
    entries = {entry.service.key: entry for entry in table}
    for operation in operations:
        key = operation.service.key
        entry = entries.get(key)
        match operation.verb:
            case Verb.ADD_SERVICE | Verb.EDIT_SERVICE:
                kept = entry.destinations if entry is not None else ()
                entries[key] = TableEntry(service=operation.service, destinations=kept)
            case Verb.DELETE_SERVICE:
                entries.pop(key, None)
            case Verb.ADD_DESTINATION | Verb.EDIT_DESTINATION | Verb.DELETE_DESTINATION:
                if entry is None or operation.destination is None:
                    continue
                destinations = {d.key: d for d in entry.destinations}
                if operation.verb is Verb.DELETE_DESTINATION:
                    destinations.pop(operation.destination.key, None)
                else:
                    destinations[operation.destination.key] = operation.destination
                entries[key] = TableEntry(service=entry.service, destinations=tuple(destinations.values()))
    return tuple(entries.values())


def digest(table: tuple[TableEntry, ...]) -> str:
    """SHA-256 of the table's content, whatever its order: equal tables have equal digests on every machine."""
    canonical = sorted(
        (TableEntry(service=e.service, destinations=tuple(sorted(e.destinations, key=lambda d: d.key))) for e in table),
        key=lambda e: e.service.key,
    )
    return hashlib.sha256(msgspec.json.encode(canonical)).hexdigest()
