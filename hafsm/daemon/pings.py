"""ICMP echo to the ping nodes; an answer counts only if it carries our own signature.

Source: heartbeat 3 ping media: the payload is a whole signed message in the ping node's name; the echo is read as a
message from it. A group lives while any of its hosts answers.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hafsm.core.events import Event, PingAnswered
from hafsm.core.settings import PingNode
from hafsm.daemon.clock import wall_ns
from hafsm.errors import KernelError, PeerError
from hafsm.kernel.announce import checksum
from hafsm.wire.auth import KeyRing
from hafsm.wire.message import build, decode, encode, read_envelope

log = logging.getLogger("hafsm.pings")

_HEADER = struct.Struct("!BBHHH")
_IP_HEADER_MIN = 20
ANSWERS_AT_ONCE = 256
ANSWER_AGE = 16
"""Echoes of older requests (slow, or recorded by somebody and sent again) show nothing about now."""


class Version(NamedTuple):
    """ICMP over one version of IP."""

    family: socket.AddressFamily
    protocol: int
    request: int
    """Type of an echo request."""
    reply: int
    """Type of its answer."""
    only_replies: tuple[int, int, bytes]
    """Socket option that keeps everything else away."""
    remedy: str
    """When its socket is refused."""


V4 = Version(
    family=socket.AF_INET,
    protocol=socket.IPPROTO_ICMP,
    request=8,
    reply=0,
    only_replies=(255, 1, struct.pack("=I", ~(1 << 0) & 0xFFFFFFFF)),  # SOL_RAW, ICMP_FILTER: a bit set keeps away
    remedy="run as root, or with CAP_NET_RAW, or take the ping lines out of ha.cf",
)
"""RFC 792."""
V6 = Version(
    family=socket.AF_INET6,
    protocol=socket.IPPROTO_ICMPV6,
    request=128,
    reply=129,
    only_replies=(  # ICMP6_FILTER, the same with 256 bits in words of 32: type 129 is bit 1 of word 4
        socket.IPPROTO_ICMPV6,
        1,
        struct.pack("=8I", *(0xFFFFFFFF & ~((word == 4) << 1) for word in range(8))),
    ),
    remedy="run as root, or with CAP_NET_RAW, on a kernel with IPv6, or take the IPv6 ping hosts out of ha.cf",
)
"""RFC 4443."""


class Pings:
    """Sends when told to, reports answers."""

    def __init__(
        self,
        nodes: Sequence[PingNode],
        ring: KeyRing,
        *,
        submit: Callable[[Event], None],
        clock: Callable[[], int],
    ) -> None:
        self._nodes = tuple(nodes)
        self._ring = ring
        self._submit = submit
        self._clock = clock
        self._socks: dict[Version, socket.socket] = {}
        self._id = os.getpid() & 0xFFFF
        self._sequence = 0
        self._complained = False
        self._names = {(node.name, host) for node in nodes for host in node.hosts}

    def open(self) -> None:
        """Raises `KernelError` without CAP_NET_RAW. Only what is to be pinged needs a socket."""
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        for version in dict.fromkeys(_version(host) for node in self._nodes for host in node.hosts):
            try:
                sock = socket.socket(version.family, kind, version.protocol)
            except OSError as error:
                self.close()
                raise KernelError("open a raw socket for ping nodes", error.errno or 0, version.remedy) from error
            sock.setsockopt(*version.only_replies)
            self._socks[version] = sock
            asyncio.get_running_loop().add_reader(sock.fileno(), self._readable, version)

    def close(self) -> None:
        for sock in self._socks.values():
            asyncio.get_running_loop().remove_reader(sock.fileno())
            sock.close()
        self._socks.clear()

    def send(self) -> None:
        """One echo request to every host."""
        if not self._socks:
            return
        self._sequence = (self._sequence + 1) & 0xFFFF
        for node in self._nodes:
            for host in node.hosts:
                payload = encode(
                    build(
                        "NS_st",
                        node=node.name,
                        uuid=None,
                        generation=0,
                        sequence=0,
                        wall_s=wall_ns() // 1_000_000_000,
                        load="",
                        ttl=0,
                        fields=(("st", "ping"), ("info", host)),
                    ),
                    self._ring,
                )
                version = _version(host)
                try:
                    request = echo_request(version, self._id, self._sequence, payload)
                    self._socks[version].sendto(request, _target(host))
                    self._complained = False
                except OSError as error:
                    # No route is what an unplugged cable looks like; the silence is folded by the core.
                    if not self._complained:
                        log.warning("ping %s: %s", host, error.strerror)
                    self._complained = True

    def _readable(self, version: Version) -> None:
        for _ in range(ANSWERS_AT_ONCE):
            if version not in self._socks:
                return
            try:
                packet = self._socks[version].recv(65536)
            except (BlockingIOError, OSError):
                return
            answer = self._read(version, packet)
            if answer is not None:
                name, host = answer
                self._submit(PingAnswered(at=self._clock(), ping=name, host=host))

    def _read(self, version: Version, packet: bytes) -> tuple[str, str] | None:
        """(ping node, host) of an authentic echo of ours, else None. IPv4's header comes along, IPv6's does not."""
        start = 0
        if version is V4:
            if len(packet) < _IP_HEADER_MIN:
                return None
            start = (packet[0] & 0x0F) * 4
        if len(packet) < start + _HEADER.size:
            return None
        kind, _, _, identity, sequence = _HEADER.unpack_from(packet, start)
        age = (self._sequence - sequence) & 0xFFFF
        if kind != version.reply or identity != self._id or age > ANSWER_AGE:
            return None
        try:
            envelope = read_envelope(decode(packet[start + _HEADER.size :], self._ring))
        except PeerError:
            return None
        named = (envelope.node, envelope.info)
        return named if named in self._names else None


def echo_request(version: Version, identity: int, sequence: int, payload: bytes) -> bytes:
    """An echo request with its checksum (RFC 1071); that of ICMPv6 covers addresses and is left to the kernel."""
    blank = _HEADER.pack(version.request, 0, 0, identity, sequence) + payload
    if version is V6:
        return blank
    return _HEADER.pack(version.request, 0, checksum(blank), identity, sequence) + payload


def _version(host: str) -> Version:
    return V6 if ":" in host else V4


def _target(host: str) -> tuple[str, int] | tuple[str, int, int, int]:
    """Socket address of a host of ha.cf. Raises OSError when the interface of a link-local address is gone."""
    ip, percent, zone = host.partition("%")
    return (ip, 0, 0, socket.if_nametoindex(zone)) if percent else (ip, 0)
