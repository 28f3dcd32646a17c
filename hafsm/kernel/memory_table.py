"""The embedded kernel's IPVS table: Linux's answers to each operation, errno by errno."""

from __future__ import annotations

import errno
import ipaddress

from hafsm.core.ipvs import DestinationEntry, Operation, ServiceEntry, TableEntry, Verb
from hafsm.kernel.rules import (
    SERVICE_VERBS,
    as_kept,
    destination_error,
    instead_of,
    mixed,
    service_error,
)

PROTOCOLS = frozenset({"tcp", "udp", "sctp", "fwm"})
"""Those with a name; any other is EPROTONOSUPPORT here."""

SCHEDULERS = frozenset(
    {"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos", "none"}
)
"""The schedulers of Linux 6.1 (`none`: every connection is refused); the kernel answers ENOENT for any other."""


class MemoryTable:
    """Virtual services with their destinations, in the order in which they were added."""

    def __init__(self) -> None:
        self._services: dict[tuple[str, str, int, int], _Service] = {}
        self.synchronising = False
        """A sync daemon runs, which real servers of the other address family do not go with."""

    @property
    def entries(self) -> tuple[TableEntry, ...]:
        """The whole table; what did not change since the last time is the same object."""
        return tuple(service.entry() for service in self._services.values())

    @property
    def mixed(self) -> bool:
        """Whether some real server has another address family than its service."""
        return any(mixed(s.service, d) for s in self._services.values() for d in s.destinations.values())

    def apply(self, operation: Operation) -> int:
        """Carry out one operation, or what stands in for it (`rules.INSTEAD`); its errno, 0 for success."""
        error = self._verdict(operation)
        if error:
            try:
                instead = instead_of(operation, error)
            except KeyError:
                return error
            if instead is None:
                return 0
        place, destination = operation.service.place, operation.destination
        if operation.verb is Verb.DELETE_SERVICE:
            del self._services[place]
        elif operation.verb in SERVICE_VERBS:
            kept = self._services[place].destinations if place in self._services else {}
            self._services[place] = _Service(as_kept(operation.service), kept)
        elif destination is not None:
            self._services[place].change(operation.verb, destination)
        return 0

    def _verdict(self, operation: Operation) -> int:
        """The errno with which Linux would answer the bare request."""
        service, destination, verb = operation.service, operation.destination, operation.verb
        if service.protocol not in PROTOCOLS:
            return errno.EPROTONOSUPPORT
        known = self._services.get(service.place)
        if verb in SERVICE_VERBS:
            if not _addressable(service):
                return errno.EINVAL
            if verb is Verb.DELETE_SERVICE:
                return errno.ESRCH if known is None else 0
            if error := service_error(service):
                return error
            if service.scheduler not in SCHEDULERS:
                return errno.ENOENT
            if verb is Verb.ADD_SERVICE:
                return errno.EEXIST if known is not None else 0
            return errno.ESRCH if known is None else 0
        if destination is None:
            return errno.EINVAL
        if known is None:
            return errno.ESRCH
        if verb is not Verb.DELETE_DESTINATION:
            error = destination_error(known.service, destination, synchronising=self.synchronising)
            if error:
                return error
        exists = (destination.address, destination.port) in known.destinations
        if verb is Verb.ADD_DESTINATION:
            return errno.EEXIST if exists else 0
        return 0 if exists else errno.ENOENT


class _Service:
    """A virtual service and its destinations by address and port."""

    __slots__ = ("_entry", "destinations", "service")

    def __init__(self, service: ServiceEntry, destinations: dict[tuple[str, int], DestinationEntry]) -> None:
        self.service = service
        self.destinations = destinations
        self._entry: TableEntry | None = None

    def change(self, verb: Verb, destination: DestinationEntry) -> None:
        place = destination.address, destination.port
        if verb is Verb.DELETE_DESTINATION:
            del self.destinations[place]
        else:
            self.destinations[place] = destination
        self._entry = None

    def entry(self) -> TableEntry:
        if self._entry is None:
            self._entry = TableEntry(service=self.service, destinations=tuple(self.destinations.values()))
        return self._entry


def _addressable(service: ServiceEntry) -> bool:
    if service.protocol == "fwm":
        return 0 < service.mark < 2**32
    try:
        ipaddress.ip_address(service.address)
    except ValueError:
        return False
    return True
