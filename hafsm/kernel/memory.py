"""The embedded kernel: the whole contract of `interface.Kernel` inside the process, for demo, simulator and tests.

Leases end by the clock that it was given: what has run out is gone at the next access, or at `tick`. Nothing outlives
the process, which is what makes a killed director of the demo lose its VIPs.
"""

from __future__ import annotations

import errno
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hafsm.core.ipvs import Operation, ServiceEntry, TableEntry, Verb
from hafsm.core.settings import SECOND, Address, SyncDaemon
from hafsm.errors import KernelError
from hafsm.kernel.interface import Connections
from hafsm.kernel.memory_table import MemoryTable
from hafsm.kernel.rules import same_place

Watcher = Callable[[tuple[Address, ...], tuple[TableEntry, ...]], None]
"""Called with the held addresses and the table after either changed, in the thread that changed them."""


@dataclass(slots=True)
class _Held:
    """An address on an interface."""

    address: Address
    interface: str
    expires_ns: int | None
    """By the kernel's clock; None: for ever."""


class MemoryKernel:
    """Addresses on leases and an IPVS table, held in memory.

    Safe to call from several threads: the forwarder calls `tick` beside the daemon's worker thread.
    """

    def __init__(self, clock: Callable[[], int], *, interfaces: Sequence[str] | None = None) -> None:
        """
        Args:
            clock: monotonic nanoseconds, read at every call.
            interfaces: the interfaces that exist, the first being the one with the route to everywhere; others are
                ENODEV. None: every name is accepted, and addresses without an interface are on `lo`.
        """
        self.announced: list[Address] = []
        """Every address announced so far, in order."""
        self.clock = clock
        """Monotonic nanoseconds."""
        self.count_connections: Callable[[], Mapping[tuple[str, str], int]] = dict
        """(service key, destination key) → open connections; who forwards them knows."""
        self._interfaces = None if interfaces is None else tuple(interfaces)
        self._held: list[_Held] = []
        self._table = MemoryTable()
        self._sync: SyncDaemon | None = None
        self._failures: defaultdict[str, deque[int]] = defaultdict(deque)
        self._watchers: list[Watcher] = []
        self._lock = threading.RLock()

    def on_change(self, watcher: Watcher) -> None:
        """Call `watcher` after every change of the held addresses or of the table; it must not block."""
        with self._lock:
            self._watchers.append(watcher)

    def fail_next(self, operation: str | Verb, error: int) -> None:
        """Refuse the next call of a method of the contract (by its name) with `error`, once; it then changes nothing.

        With a `Verb`: refuse the next IPVS operation of that kind; `apply_operations` then reports the errno for it.
        """
        with self._lock:
            self._failures[operation.value if isinstance(operation, Verb) else operation].append(error)

    def tick(self) -> int | None:
        """Drop what has run out; returns when the next lease ends (clock nanoseconds), None if none does."""
        with self._lock:
            now = self.clock()
            left = [h for h in self._held if h.expires_ns is None or h.expires_ns > now]
            if len(left) != len(self._held):
                self._held = left
                self._changed()
            return min((h.expires_ns for h in self._held if h.expires_ns is not None), default=None)

    def snapshot(self) -> tuple[tuple[Address, ...], tuple[TableEntry, ...]]:
        """The addresses held now and the table."""
        with self._lock:
            self.tick()
            return tuple(h.address for h in self._held), self._table.entries

    def prepare(self, *, ipvs: bool) -> None:
        with self._lock:
            self._refuse("prepare", "prepare the kernel" + (" for IPVS" if ipvs else ""))

    def held_addresses(self, candidates: Sequence[Address]) -> tuple[Address, ...]:
        with self._lock:
            self.tick()
            self._refuse("held_addresses", "read the addresses")
            return tuple(c for c in candidates if self._find(c) is not None)

    def add_address(self, address: Address, lease_s: int) -> None:
        with self._lock:
            self.tick()
            asked = f"add address {address}"
            self._refuse("add_address", asked)
            interface = self._interface_for(address, asked)
            if (held := self._find(address)) is not None:
                held.expires_ns = self._expiry(lease_s)
                return
            self._held.append(_Held(address, interface, self._expiry(lease_s)))
            self._changed()

    def renew_addresses(self, addresses: Sequence[Address], lease_s: int) -> tuple[Address, ...]:
        with self._lock:
            self.tick()
            self._refuse("renew_addresses", "renew " + ", ".join(map(str, addresses)))
            missing = []
            for address in addresses:
                if (held := self._find(address)) is None:
                    missing.append(address)
                else:
                    held.expires_ns = self._expiry(lease_s)
            return tuple(missing)

    def remove_address(self, address: Address) -> None:
        with self._lock:
            self.tick()
            self._refuse("remove_address", f"remove address {address}")
            left = [h for h in self._held if not same_place(address, h.address.ip, h.address.prefix, h.interface)]
            if len(left) != len(self._held):
                self._held = left
                self._changed()

    def announce_address(self, address: Address) -> None:
        with self._lock:
            asked = f"announce address {address}"
            self._refuse("announce_address", asked)
            self._interface_for(address, asked)
            self.announced.append(address)

    def read_table(self) -> tuple[TableEntry, ...]:
        with self._lock:
            self._refuse("read_table", "read the IPVS table")
            return self._table.entries

    def read_connections(self, services: Sequence[ServiceEntry]) -> dict[tuple[str, str], Connections]:
        with self._lock:
            self._refuse("read_connections", "count the IPVS connections")
            keys = {service.key for service in services}
            places = [
                (e.service.key, d.key) for e in self._table.entries if e.service.key in keys for d in e.destinations
            ]
        counts = self.count_connections()
        return {place: Connections(counts.get(place, 0), 0) for place in places}

    def apply_operations(self, operations: Sequence[Operation]) -> tuple[int, ...]:
        with self._lock:
            self._refuse("apply_operations", "change the IPVS table")
            before = self._table.entries
            errors = tuple(map(self._apply, operations))
            if self._table.entries != before:
                self._changed()
            return errors

    def sync_daemons(self) -> tuple[SyncDaemon, ...]:
        with self._lock:
            self._refuse("sync_daemons", "read the IPVS sync daemons")
            return (self._sync,) if self._sync is not None else ()

    def set_sync_daemon(self, daemon: SyncDaemon) -> None:
        with self._lock:
            self._refuse("set_sync_daemon", f"run the {daemon}")
            if self._sync != daemon:
                self._sync = None
                self._table.synchronising = False
            if self._table.mixed:
                raise KernelError(f"run the {daemon}", errno.EINVAL, "some real server is of the other address family")
            if self._interfaces is not None and daemon.interface not in self._interfaces:
                raise KernelError(f"run the {daemon}", errno.ENODEV, f"there is no interface {daemon.interface}")
            self._sync = daemon
            self._table.synchronising = True

    def close(self) -> None:
        """Nothing to release; addresses and table stay for whoever holds this object."""

    def _apply(self, operation: Operation) -> int:
        if failures := self._failures[operation.verb.value]:
            return failures.popleft()
        return self._table.apply(operation)

    def _find(self, address: Address) -> _Held | None:
        return next((h for h in self._held if same_place(address, h.address.ip, h.address.prefix, h.interface)), None)

    def _interface_for(self, address: Address, asked: str) -> str:
        if self._interfaces is None:
            return address.interface or "lo"
        interface = address.interface or next(iter(self._interfaces), "")
        if interface not in self._interfaces:
            raise KernelError(asked, errno.ENODEV, f"there is no interface {interface or 'at all'}")
        return interface

    def _expiry(self, lease_s: int) -> int | None:
        return self.clock() + lease_s * SECOND if lease_s else None

    def _refuse(self, method: str, asked: str) -> None:
        if failures := self._failures[method]:
            raise KernelError(asked, failures.popleft(), "refused on purpose")

    def _changed(self) -> None:
        addresses = tuple(h.address for h in self._held)
        for watcher in self._watchers:
            watcher(addresses, self._table.entries)
