"""The real kernel: addresses by rtnetlink, announcements by raw ARP, the IPVS table by generic netlink.

Synchronous; every call takes well under a millisecond natively and none waits for the network. To be called from one
thread at a time, with CAP_NET_ADMIN (and CAP_NET_RAW to announce).

IPv6: addresses work, without duplicate address detection, since a VIP moves by being taken over. They are not announced
yet: neighbours find the new owner by their own reachability probes, which takes some seconds (RFC 4861 section 7.3).
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

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted, NetlinkError

from hafsm.core.ipvs import Operation, TableEntry
from hafsm.core.settings import SECOND, Address, Forwarding, SyncDaemon
from hafsm.errors import KernelError
from hafsm.kernel import arp
from hafsm.kernel.ipvs_netlink import IpvsSocket
from hafsm.kernel.rules import broadcast_of, is_v6, same_place

log = logging.getLogger("hafsm.kernel")

FOREVER_S = 0xFFFFFFFF
"""INFINITY_LIFE_TIME of IFA_CACHEINFO."""
FLAG_NODAD = 0x02
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
        self._announcer: arp.Announcer | None = None
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
        index, interface = self._place_for(address, asked)
        if not is_v6(address.ip):
            # Otherwise removing, or losing, the first address of a subnet takes all others of it along.
            _set_sysctl(f"ipv4/conf/{interface}/promote_secondaries", "1")
        with _asking(asked):
            self._replace(address, index, lease_s)

    def renew_addresses(self, addresses: Sequence[Address], lease_s: int) -> tuple[Address, ...]:
        """Tries every address before it raises for the first that was refused."""
        looked_ns = _now_ns()
        found = self._addresses("read the addresses to renew them")
        missing: list[Address] = []
        refused: list[KernelError] = []
        for address in addresses:
            places = _matching(address, found)
            try:
                if not places or not self._renew(address, places[0], lease_s, looked_ns):
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
                self._delete(address, place.index)

    def announce_address(self, address: Address) -> None:
        """IPv4 on Ethernet only; for IPv6 nothing is sent (see the module)."""
        if is_v6(address.ip):
            return
        asked = f"announce address {address}"
        index, interface = self._place_for(address, asked)
        with _asking(asked):
            link = next(iter(self._route.get_links(index)))
        hardware = link.get("ifi_type")
        if link["flags"] & (FLAG_LINK_NOARP | FLAG_LINK_LOOPBACK) or hardware != arp.HARDWARE_ETHERNET:
            return
        with _asking(asked):
            if self._announcer is None:
                self._announcer = arp.Announcer()
            self._announcer.announce(interface, bytes.fromhex(str(link.get("address")).replace(":", "")), address.ip)

    def read_table(self) -> tuple[TableEntry, ...]:
        return self._ipvs_socket().read_table()

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

    def _place_for(self, address: Address, asked: str) -> tuple[int, str]:
        """Index and name of the interface on which `address` is, or belongs."""
        if address.interface:
            try:
                return socket.if_nametoindex(address.interface), address.interface
            except OSError as error:
                raise KernelError(asked, errno.ENODEV, f"there is no interface {address.interface}") from error
        with _asking(asked):
            # A route look-up for an address that this machine holds answers `lo`: look at what is held first.
            held = [f for f in self._addresses(asked) if f.ip == address.ip]
            if held:
                return held[0].index, held[0].interface
            route = next(iter(self._route.route("get", dst=address.ip)))
            index = int(route.get("oif"))
            return index, socket.if_indextoname(index)

    def _renew(self, address: Address, place: _Found, lease_s: int, looked_ns: int) -> bool:
        """Renew an address seen at `place` when it was `looked_ns`; False if it was lost since."""
        with _asking(f"renew address {address}"):
            self._replace(address, place.index, lease_s)
            # The kernel has no "replace, but do not create". If this process was stopped since it looked, the lease may
            # have ended in between and the address be another node's by now: give back what was just taken.
            if place.valid_s != FOREVER_S and _now_ns() - looked_ns >= place.valid_s * SECOND:
                self._delete(address, place.index)
                return False
        return True

    def _replace(self, address: Address, index: int, lease_s: int) -> None:
        lifetime = lease_s or FOREVER_S
        request: dict[str, Any] = {
            "index": index,
            "address": address.ip,
            "prefixlen": address.prefix,
            "IFA_CACHEINFO": {"ifa_preferred": lifetime, "ifa_valid": lifetime},
        }
        if is_v6(address.ip):
            request["IFA_FLAGS"] = FLAG_NODAD
        elif broadcast := broadcast_of(address):
            request["broadcast"] = broadcast
        if address.label:
            request["label"] = address.label
        self._route.addr("replace", **request)

    def _delete(self, address: Address, index: int) -> None:
        try:
            self._route.addr("del", index=index, address=address.ip, prefixlen=address.prefix)
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
    )


def _matching(address: Address, found: Sequence[_Found]) -> list[_Found]:
    return [f for f in found if same_place(address, f.ip, f.prefix, f.interface)]


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


def _set_sysctl(name: str, value: str) -> None:
    """Write a setting below net, unless it has that value already (containers mount /proc/sys read-only)."""
    path = SYSCTL / name
    with _asking(f"set net/{name} to {value}"):
        if path.read_text(encoding="ascii").strip() != value:
            path.write_text(f"{value}\n", encoding="ascii")
