"""The IPVS table as values: what is wanted, what is seen, and the operations that turn one into the other.

The words are ipvsadm's: a virtual *service* has *destinations* (real servers) with a forwarding method and a weight.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from enum import Enum
from itertools import compress, count
from operator import itemgetter, ne

import msgspec
from msgspec.structs import astuple

from hafsm.core.settings import Forwarding, Value, VirtualService, host_port


class ServiceEntry(Value, frozen=True, omit_defaults=True):
    """A virtual service as the kernel holds it, without its destinations."""

    protocol: str
    """`tcp`, `udp`, `sctp` or `fwm`; a number for a protocol without a name here."""
    address: str
    """For a firewall mark: empty, or `::` if it marks IPv6 packets."""
    port: int
    mark: int = 0
    scheduler: str = "wrr"
    scheduler_flags: tuple[str, ...] = ()
    """As `VirtualService.scheduler_flags`, by the names of `kept_flags`."""
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

    @property
    def place(self) -> tuple[str, str, int, int]:
        """Tells services apart as `key` does, without making text: for programs."""
        return self.protocol, self.address, self.port, self.mark


class DestinationEntry(Value, frozen=True, omit_defaults=True):
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


class TableEntry(Value, frozen=True, omit_defaults=True):
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


class Operation(Value, frozen=True, omit_defaults=True):
    """One IPVS netlink request."""

    verb: Verb
    service: ServiceEntry
    destination: DestinationEntry | None = None
    """Set for the destination verbs."""

    def __str__(self) -> str:
        if self.destination is None:
            return f"{self.verb.value} {self.service.key}"
        return f"{self.verb.value} {self.destination.key} of {self.service.key}"


_GENERAL_FLAGS = {"sh-fallback": "flag-1", "sh-port": "flag-2", "mh-fallback": "flag-1", "mh-port": "flag-2"}
_OWN_FLAGS = {
    "sh": {"flag-1": "sh-fallback", "flag-2": "sh-port"},
    "mh": {"flag-1": "mh-fallback", "flag-2": "mh-port"},
}


def kept_flags(scheduler: str, flags: Iterable[str]) -> tuple[str, ...]:
    """Scheduler flags by the names that `ipvsadm -S` shows for this scheduler, sorted, each once.

    The kernel has three bits whose meaning is the scheduler's: `sh-port` given to mh is its `mh-port`, given to rr it
    is `flag-2`. A name that stands for no bit stays; the kernel's side refuses it.
    """
    own = _OWN_FLAGS.get(scheduler, {})
    general = (_GENERAL_FLAGS.get(flag, flag) for flag in flags)
    return tuple(sorted({own.get(flag, flag) for flag in general}))


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
        scheduler_flags=kept_flags(service.scheduler, service.scheduler_flags),
        one_packet=service.one_packet,
        persistent_s=service.persistent_s,
        netmask=service.netmask if kept else "",
    )


def difference(wanted: tuple[TableEntry, ...], seen: tuple[TableEntry, ...]) -> tuple[Operation, ...]:
    """The operations that turn `seen` into `wanted`.

    Within a service everything is added or edited before anything is deleted, so that a service that has a server
    before and after never has none in between (ldirectord adds the real server before it removes the fallback, for the
    same reason). Services nobody wants are deleted last. `seen` holds only services that are ours to touch.

    Several destinations of one address and port are one in the kernel: the one with most weight counts, of equals the
    first (two gate real servers that differ in the port alone; a fallback that is a real server, too).

    What is the same object on both sides is not looked at: callers that keep the entries that did not change pay for
    those that did.
    """
    if wanted is seen:
        return ()
    operations: list[Operation] = []
    before = {entry.service.place: entry for entry in seen}
    for entry in wanted:
        service = entry.service
        old = before.pop(service.place, None)
        if old is entry:
            continue
        if old is None:
            operations.append(Operation(verb=Verb.ADD_SERVICE, service=service))
        elif old.service != service:
            operations.append(Operation(verb=Verb.EDIT_SERVICE, service=service))
        operations.extend(_changes(service, entry.destinations, old.destinations if old is not None else ()))
    operations.extend(Operation(verb=Verb.DELETE_SERVICE, service=e.service) for e in before.values())
    return tuple(operations)


def _changes(
    service: ServiceEntry, wanted: tuple[DestinationEntry, ...], seen: tuple[DestinationEntry, ...]
) -> Iterator[Operation]:
    """What `difference` does within a service."""
    fresh, left = _unlike(wanted, seen)
    if not fresh and not left:
        return
    if len({(d.address, d.port) for d in wanted}) < len(wanted):
        fresh, left = _unlike(_merged(wanted), seen)
    before = {(d.address, d.port): d for d in left}
    for destination in fresh:
        known = before.pop((destination.address, destination.port), None)
        if known == destination:
            continue
        verb = Verb.ADD_DESTINATION if known is None else Verb.EDIT_DESTINATION
        yield Operation(verb=verb, service=service, destination=destination)
    for destination in before.values():
        yield Operation(verb=Verb.DELETE_DESTINATION, service=service, destination=destination)


def _unlike(
    wanted: tuple[DestinationEntry, ...], seen: tuple[DestinationEntry, ...]
) -> tuple[tuple[DestinationEntry, ...], tuple[DestinationEntry, ...]]:
    """Both without their common beginning and end. No loop here runs in Python over what is equal."""
    if wanted is seen:
        return (), ()
    start = _alike(wanted, seen)
    end = _alike(wanted[start:][::-1], seen[start:][::-1])
    return wanted[start : len(wanted) - end], seen[start : len(seen) - end]


def _alike(one: tuple[DestinationEntry, ...], other: tuple[DestinationEntry, ...]) -> int:
    """How many entries both begin with."""
    return next(compress(count(), map(ne, one, other)), min(len(one), len(other)))


def _merged(destinations: tuple[DestinationEntry, ...]) -> tuple[DestinationEntry, ...]:
    """One a place, at its first position."""
    chosen: dict[tuple[str, int], DestinationEntry] = {}
    for destination in destinations:
        place = (destination.address, destination.port)
        known = chosen.get(place)
        if known is None or destination.weight > known.weight:
            chosen[place] = destination
    return tuple(chosen.values())


def apply(operations: tuple[Operation, ...], table: tuple[TableEntry, ...]) -> tuple[TableEntry, ...]:
    """The table after `operations` succeeded; what would fail in a kernel changes nothing here.

    Entries that no operation names are the same objects afterwards.
    """
    entries = {entry.service.place: entry for entry in table}
    opened: dict[tuple[str, str, int, int], dict[tuple[str, int], DestinationEntry]] = {}
    for operation in operations:
        place = operation.service.place
        entry = entries.get(place)
        match operation.verb:
            case Verb.ADD_SERVICE | Verb.EDIT_SERVICE:
                kept = entry.destinations if entry is not None else ()
                entries[place] = TableEntry(service=operation.service, destinations=kept)
            case Verb.DELETE_SERVICE:
                entries.pop(place, None)
                opened.pop(place, None)
            case Verb.ADD_DESTINATION | Verb.EDIT_DESTINATION | Verb.DELETE_DESTINATION:
                destination = operation.destination
                if entry is None or destination is None:
                    continue
                if place not in opened:
                    opened[place] = {(d.address, d.port): d for d in entry.destinations}
                if operation.verb is Verb.DELETE_DESTINATION:
                    opened[place].pop((destination.address, destination.port), None)
                else:
                    opened[place][destination.address, destination.port] = destination
    for place, destinations in opened.items():
        entries[place] = TableEntry(service=entries[place].service, destinations=tuple(destinations.values()))
    return tuple(entries.values())


def digest(table: tuple[TableEntry, ...]) -> str:
    """SHA-256 of the table's content, whatever its order: equal tables have equal digests on every machine.

    Over plain rows and not over the entries' own encoding, which leaves a default out only if it is the very object.
    """
    rows = [(astuple(entry.service), sorted(map(astuple, entry.destinations), key=itemgetter(0, 1))) for entry in table]
    rows.sort(key=itemgetter(0))
    return hashlib.sha256(msgspec.json.encode(rows)).hexdigest()
