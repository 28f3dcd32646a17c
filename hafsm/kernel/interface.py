"""What hafsm asks of a kernel: virtual IPs on a lease, their announcement, the IPVS table.

Two implementations keep the same contract, proved by the same tests: `linux` (netlink) and `memory` (embedded).
Every method is synchronous and may block on the kernel; the daemon calls them from one worker thread of its own, one at
a time, so an implementation needs no locks. Idempotent on purpose: asking for what is already so succeeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from hafsm.core.ipvs import Operation, ServiceEntry, TableEntry
from hafsm.core.settings import Address, SyncDaemon


class Connections(NamedTuple):
    """Of a destination, as ipvsadm shows them."""

    active: int
    """Established TCP connections."""
    inactive: int
    """In any other state; of UDP all."""


class Kernel(Protocol):
    """The operations; each raises `KernelError` with the errno when the kernel refuses."""

    def prepare(self, *, ipvs: bool) -> None:
        """Load what is needed and check that we may use it (CAP_NET_ADMIN).

        With `ipvs`: the IPVS modules, and `net.ipv4.vs.expire_nodest_conn=1`, without which a client that re-uses its
        source port is sent to a removed real server for up to 120 s.
        """

    def held_addresses(self, candidates: Sequence[Address]) -> tuple[Address, ...]:
        """Those of `candidates` that are on one of this machine's interfaces now, whoever put them there.

        An address counts as held only with its prefix length and interface as configured (`prefix` 0: any; `interface`
        empty: anywhere, for IPv6 but on lo); each is returned exactly as given.
        """

    def add_address(self, address: Address, lease_s: int) -> None:
        """Put a VIP on its interface with a valid lifetime of `lease_s` seconds (0: for ever).

        Already there: its lifetime is renewed. Interface empty: the one with the network that holds `address.ip` (for
        IPv6), or else the one that the kernel would use to reach it. Prefix 0: that of this network, EADDRNOTAVAIL
        without one. The machine's own connections do not begin at a VIP while the interface has another address: an
        IPv4 VIP is the last of its network, one of IPv6 is marked deprecated.
        """

    def renew_addresses(self, addresses: Sequence[Address], lease_s: int) -> tuple[Address, ...]:
        """Set the lifetimes anew; returns those that were no longer there (they are not added)."""

    def remove_address(self, address: Address) -> None:
        """Take a VIP away; absent is success. Other addresses of the interface must survive (`promote_secondaries`)."""

    def announce_address(self, address: Address) -> None:
        """One gratuitous ARP, request and reply form (RFC 5227 section 3, RFC 826).

        For IPv6 one unsolicited neighbour advertisement (RFC 4861 section 7.2.6). Nothing is sent on interfaces without
        ARP.
        """

    def read_table(self) -> tuple[TableEntry, ...]:
        """The whole IPVS table, including services that are not ours."""

    def read_connections(self, services: Sequence[ServiceEntry]) -> dict[tuple[str, str], Connections]:
        """(service key, destination key) → its connections, of every destination of these services. One that the kernel
        does not have is left out."""

    def apply_operations(self, operations: Sequence[Operation]) -> tuple[int, ...]:
        """Carry out IPVS operations in order; one errno each, 0 for success. Adding what exists edits it instead,
        deleting what is absent succeeds. A failure does not stop the rest."""

    def sync_daemons(self) -> tuple[SyncDaemon, ...]:
        """The IPVS sync daemons that run now, the master first; none where IPVS was never used."""

    def set_sync_daemon(self, daemon: SyncDaemon) -> None:
        """Run the IPVS sync daemon in this role, and not in the other.

        One that runs already with the same interface and id is left alone, with others it is started anew. Refused
        (ENODEV: no such interface), what ran before has ended all the same.
        """

    def close(self) -> None:
        """Release sockets; held addresses and table stay."""
