"""The real kernel: addresses by rtnetlink, announcements by raw frames, the IPVS table by generic netlink.

Synchronous; every call takes well under a millisecond natively and none waits for the network. To be called from one
thread at a time, with CAP_NET_ADMIN (and CAP_NET_RAW to announce).

IPv6 VIPs are added without duplicate address detection: it would keep them from being used for a second, and fail
where real servers or the former owner still have them. They are deprecated from the start (preferred lifetime 0, RFC
6724 rule 3): of several equal addresses Linux takes the newest as the source, so that health checks would begin at the
VIP, which real servers of direct routing have themselves and never answer. A VIP beside an address of the same network
brings no route of its own, since the end of its lease would be the end of that route.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted, NetlinkError

from hafsm.core.ipvs import Operation, ServiceEntry, TableEntry
from hafsm.core.settings import SECOND, Address, Forwarding, SyncDaemon
from hafsm.errors import KernelError
from hafsm.kernel.announce import HARDWARE_ETHERNET, Announcer
from hafsm.kernel.interface import Connections
from hafsm.kernel.ipvs_netlink import IpvsSocket
from hafsm.kernel.rules import broadcast_of, is_v6, same_place

log = logging.getLogger("hafsm.kernel")

FOREVER_S = 0xFFFFFFFF
"""INFINITY_LIFE_TIME of IFA_CACHEINFO."""
LOOPBACK = "lo"
FLAG_NODAD = 0x02
FLAG_NOPREFIXROUTE = 0x200
FLAG_LINK_NOARP = 0x80
FLAG_LINK_LOOPBACK = 0x08
CAP_NET_ADMIN = 12
CAP_NET_RAW = 13
DUMP_ATTEMPTS = 10
"""Readings of the addresses before giving up because they change all the time."""
MODPROBE_TIMEOUT_S = 20
SYSCTL = Path("/proc/sys/net")


@dataclass(slots=True, frozen=True)
class _Found:
    """An address as the kernel lists it."""

    ip: str
    prefix: int
    index: int
    interface: str
    valid_s: int
    """Seconds left, rounded down; FOREVER_S: no end."""
    flags: int
    """IFA_F_…"""

    @property
    def leased(self) -> bool:
        """Whether it is a VIP of some director: nothing else has an end and no duplicate address detection."""
        return self.valid_s != FOREVER_S and bool(self.flags & FLAG_NODAD)


@dataclass(slots=True, frozen=True)
class _Place:
    """Where an address is, or belongs."""

    index: int
    interface: str
    prefix: int


class LinuxKernel:
    """`interface.Kernel` on Linux >= 4.4, in the network namespace in which it was made."""

    def __init__(self) -> None:
        """Make it in a thread without a running asyncio loop: pyroute2 runs one of its own in every call.

        Raises:
            KernelError: no netlink socket.
        """
        with _asking("open a netlink socket"):
            self._route = IPRoute()
        self._ipvs: IpvsSocket | None = None
        self._announcer: Announcer | None = None
        self._forwarding_seen: set[str] = set()
        """Settings that were looked at."""

    def prepare(self, *, ipvs: bool) -> None:
        """May take seconds when modules are loaded."""
        _check_capabilities()
        if not ipvs:
            return
        self._ipvs_socket()
        _set_sysctl("ipv4/vs/expire_nodest_conn", "1")

    def held_addresses(self, candidates: Sequence[Address]) -> tuple[Address, ...]:
        found = self._addresses("read the addresses")
        return tuple(c for c in candidates if _matching(c, found))

    def add_address(self, address: Address, lease_s: int) -> None:
        asked = f"add address {address}"
        place = self._place_for(address, asked)
        found = self._addresses(asked) if is_v6(address.ip) else ()
        if not is_v6(address.ip):
            # Otherwise removing, or losing, the first address of a subnet takes all others of it along.
            _set_sysctl(f"ipv4/conf/{place.interface}/promote_secondaries", "1")
        elif _sysctl(f"ipv6/conf/{place.interface}/disable_ipv6") == "1":
            raise KernelError(
                asked, errno.EACCES, f"net.ipv6.conf.{place.interface}.disable_ipv6 keeps IPv6 off {place.interface}"
            )
        with _asking(asked):
            for other in found:
                # Of IPv6 an interface has an address once: "replace" would leave it its old prefix length.
                if (other.ip, other.index) == (address.ip, place.index) and other.prefix != place.prefix:
                    self._delete(address, other)
            self._replace(address, place, lease_s, found)

    def renew_addresses(self, addresses: Sequence[Address], lease_s: int) -> tuple[Address, ...]:
        """Tries every address before it raises for the first that was refused."""
        looked_ns = _now_ns()
        found = self._addresses("read the addresses to renew them")
        missing: list[Address] = []
        refused: list[KernelError] = []
        for address in addresses:
            places = _matching(address, found)
            try:
                if not places or not self._renew(address, places[0], lease_s, found, looked_ns):
                    missing.append(address)
            except KernelError as error:
                refused.append(error)
        if refused:
            raise refused[0]
        return tuple(missing)

    def remove_address(self, address: Address) -> None:
        asked = f"remove address {address}"
        for place in _matching(address, self._addresses(asked)):
            with _asking(asked):
                self._delete(address, place)

    def announce_address(self, address: Address) -> None:
        """On Ethernet only."""
        asked = f"announce address {address}"
        place = self._place_for(address, asked)
        with _asking(asked):
            link = next(iter(self._route.get_links(place.index)))
        if link["flags"] & (FLAG_LINK_NOARP | FLAG_LINK_LOOPBACK) or link.get("ifi_type") != HARDWARE_ETHERNET:
            return
        hardware = bytes.fromhex(str(link.get("address")).replace(":", ""))
        with _asking(asked):
            if self._announcer is None:
                self._announcer = Announcer()
            if is_v6(address.ip):
                router = _sysctl(f"ipv6/conf/{place.interface}/forwarding") == "1"
                self._announcer.advertise(place.interface, hardware, address.ip, router=router)
            else:
                self._announcer.announce(place.interface, hardware, address.ip)

    def read_table(self) -> tuple[TableEntry, ...]:
        return self._ipvs_socket().read_table()

    def read_connections(self, services: Sequence[ServiceEntry]) -> dict[tuple[str, str], Connections]:
        return self._ipvs_socket().read_connections(services)

    def apply_operations(self, operations: Sequence[Operation]) -> tuple[int, ...]:
        """See the contract. Says once if answers of masq real servers would end here."""
        self._look_at_forwarding(operations)
        return self._ipvs_socket().apply_operations(operations)

    def sync_daemons(self) -> tuple[SyncDaemon, ...]:
        return self._ipvs_socket().sync_daemons()

    def set_sync_daemon(self, daemon: SyncDaemon) -> None:
        self._ipvs_socket().set_sync_daemon(daemon)

    def close(self) -> None:
        self._route.close()
        if self._ipvs is not None:
            self._ipvs.close()
            self._ipvs = None
        if self._announcer is not None:
            self._announcer.close()
            self._announcer = None

    def _addresses(self, asked: str) -> list[_Found]:
        names = dict(socket.if_nameindex())
        for _ in range(DUMP_ATTEMPTS):
            with _asking(asked):
                try:
                    return [_found(message, names) for message in self._route.get_addr()]
                except NetlinkDumpInterrupted:  # somebody changed addresses meanwhile
                    continue
        raise KernelError(asked, errno.EAGAIN, f"the addresses changed during each of {DUMP_ATTEMPTS} readings")

    def _place_for(self, address: Address, asked: str) -> _Place:
        """Where `address` is, or belongs."""
        if address.interface:
            try:
                index = socket.if_nametoindex(address.interface)
            except OSError as error:
                raise KernelError(asked, errno.ENODEV, f"there is no interface {address.interface}") from error
            if address.prefix:
                return _Place(index, address.interface, address.prefix)
        found = self._addresses(asked)
        # A route look-up for an address that this machine holds answers `lo`: look at what is held first.
        there = _matching(msgspec.structs.replace(address, prefix=0), found)
        if there or (there := _networks(address, found)):
            return _Place(there[0].index, there[0].interface, address.prefix or there[0].prefix)
        route = self._route_to(address.ip, asked) if address.prefix else None
        if route is None:
            nowhere = f"{address.interface} has no" if address.interface else "no interface has a"
            wanted = f"write prefix length and interface, such as {address.ip}/64/{address.interface or 'eth0'}"
            raise KernelError(asked, errno.EADDRNOTAVAIL, f"{nowhere} network that holds it; {wanted}")
        return _Place(*route, address.prefix)

    def _route_to(self, ip: str, asked: str) -> tuple[int, str] | None:
        """Index and name of the interface with the route; None: an IPv6 address of this machine's own, on lo."""
        with _asking(asked):
            index = int(next(iter(self._route.route("get", dst=ip))).get("oif"))
            interface = socket.if_indextoname(index)
        return None if is_v6(ip) and interface == LOOPBACK else (index, interface)

    def _renew(self, address: Address, at: _Found, lease_s: int, found: Sequence[_Found], looked_ns: int) -> bool:
        """Renew an address seen as `at`, among `found`, when it was `looked_ns`; False if it was lost since."""
        place = _Place(at.index, at.interface, at.prefix)
        with _asking(f"renew address {address}"):
            self._replace(address, place, lease_s, found)
            # The kernel has no "replace, but do not create". If this process was stopped since it looked, the lease may
            # have ended in between and the address be another node's by now: give back what was just taken.
            if at.valid_s != FOREVER_S and _now_ns() - looked_ns >= at.valid_s * SECOND:
                self._delete(address, at)
                return False
        return True

    def _replace(self, address: Address, place: _Place, lease_s: int, found: Sequence[_Found]) -> None:
        lifetime = lease_s or FOREVER_S
        v6 = is_v6(address.ip)
        request: dict[str, Any] = {
            "index": place.index,
            "address": address.ip,
            "prefixlen": place.prefix,
            "IFA_CACHEINFO": {"ifa_preferred": 0 if v6 else lifetime, "ifa_valid": lifetime},
        }
        if v6:
            routed = any(f.prefix == place.prefix and not f.leased for f in _networks(address, found, place.index))
            request["IFA_FLAGS"] = FLAG_NODAD | (FLAG_NOPREFIXROUTE if routed else 0)
        elif broadcast := broadcast_of(address):
            request["broadcast"] = broadcast
        if address.label:
            request["label"] = address.label
        self._route.addr("replace", **request)

    def _delete(self, address: Address, place: _Found | _Place) -> None:
        try:
            self._route.addr("del", index=place.index, address=address.ip, prefixlen=place.prefix)
        except NetlinkError as error:
            if error.code not in (errno.EADDRNOTAVAIL, errno.ENODEV):
                raise

    def _look_at_forwarding(self, operations: Sequence[Operation]) -> None:
        """A router is not made of a machine unasked: what is missing is told."""
        for operation in operations:
            destination = operation.destination
            if destination is None or destination.forwarding is not Forwarding.MASQ:
                continue
            name = "ipv6/conf/all/forwarding" if is_v6(destination.address) else "ipv4/ip_forward"
            if name in self._forwarding_seen or ipaddress.ip_address(destination.address).is_loopback:
                continue
            self._forwarding_seen.add(name)
            with contextlib.suppress(OSError):
                if (SYSCTL / name).read_text(encoding="ascii").strip() == "0":
                    log.warning(
                        "%s: its answers come back through this director, which forwards nothing; set net.%s=1",
                        operation,
                        name.replace("/", "."),
                    )

    def _ipvs_socket(self) -> IpvsSocket:
        """Opened at first use; loads the module when the kernel does not know IPVS yet."""
        if self._ipvs is None:
            try:
                self._ipvs = IpvsSocket()
            except KernelError as error:
                if error.errno != errno.ENOENT:
                    raise
                detail = _load_module("ip_vs")
                try:
                    self._ipvs = IpvsSocket()
                except KernelError:
                    raise KernelError(
                        "use IPVS", errno.ENOENT, f"the kernel does not offer it; load its module ip_vs ({detail})"
                    ) from error
        return self._ipvs


def _found(message: Any, names: dict[int, str]) -> _Found:
    """One RTM_NEWADDR. IFA_LOCAL is the address itself where the two differ (point to point)."""
    cache = message.get_attr("IFA_CACHEINFO") or {}
    return _Found(
        ip=str(message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")),
        prefix=int(message["prefixlen"]),
        index=int(message["index"]),
        interface=names.get(int(message["index"]), ""),
        valid_s=int(cache.get("ifa_valid", FOREVER_S)),
        flags=int(message.get_attr("IFA_FLAGS") or message["flags"]),
    )


def _matching(address: Address, found: Sequence[_Found]) -> list[_Found]:
    """Where it is. A director that is a real server too has the VIP on lo for good: that one is no lease of ours.

    This holds for IPv6, where the interface is usually left out, unless lo itself is named.
    """
    places = [f for f in found if same_place(address, f.ip, f.prefix, f.interface)]
    if is_v6(address.ip) and not address.interface:
        places = [f for f in places if f.interface != LOOPBACK]
    return places


def _networks(address: Address, found: Sequence[_Found], index: int = 0) -> list[_Found]:
    """What is `found` (on the interface of `index`, unless 0) of other addresses whose network holds an IPv6 address.

    The longest prefix first; a network of one address, or of all, holds none. This is how heartbeat's IPv6addr finds an
    interface, but for the order.
    """
    if not is_v6(address.ip):
        return []
    ip = ipaddress.IPv6Address(address.ip)
    networks = [
        f
        for f in found
        if is_v6(f.ip)
        and f.ip != address.ip
        and 0 < f.prefix < 128
        and index in (0, f.index)
        and (address.interface == f.interface or (not address.interface and f.interface != LOOPBACK))
        and ip in ipaddress.IPv6Network((f.ip, f.prefix), strict=False)
    ]
    return sorted(networks, key=lambda f: (-f.prefix, f.index))


def _now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """Turn what netlink and sockets raise into `KernelError`, with what was asked."""
    try:
        yield
    except NetlinkError as error:
        raise KernelError(what, int(error.code), str(error.args[1]) if len(error.args) > 1 else "") from error
    except OSError as error:
        raise KernelError(what, error.errno or errno.EIO, error.strerror or str(error)) from error


def _check_capabilities() -> None:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
            for bit, name in ((CAP_NET_ADMIN, "CAP_NET_ADMIN"), (CAP_NET_RAW, "CAP_NET_RAW")):
                if not effective >> bit & 1:
                    raise KernelError(
                        "use the network as an administrator", errno.EPERM, f"{name} is missing; run as root"
                    )


def _load_module(name: str) -> str:
    """Run modprobe; returns what a person should know about how it went."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    try:
        done = subprocess.run(
            ["modprobe", "--", name],
            capture_output=True,
            text=True,
            timeout=MODPROBE_TIMEOUT_S,
            env={**os.environ, "PATH": path},
            check=False,
        )
    except FileNotFoundError:
        return "there is no modprobe on this machine"
    except subprocess.TimeoutExpired:
        return f"modprobe did not end within {MODPROBE_TIMEOUT_S} s"
    return done.stderr.strip() or "modprobe succeeded"


def _sysctl(name: str) -> str:
    """A setting below net; empty where the kernel does not have it."""
    try:
        return (SYSCTL / name).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""


def _set_sysctl(name: str, value: str) -> None:
    """Write a setting below net, unless it has that value already (containers mount /proc/sys read-only)."""
    path = SYSCTL / name
    with _asking(f"set net/{name} to {value}"):
        if path.read_text(encoding="ascii").strip() != value:
            path.write_text(f"{value}\n", encoding="ascii")
