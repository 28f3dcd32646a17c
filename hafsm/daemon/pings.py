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

from hafsm.core.events import Event, PingAnswered
from hafsm.core.settings import PingNode
from hafsm.daemon.clock import wall_ns
from hafsm.errors import KernelError, PeerError
from hafsm.wire.auth import KeyRing
from hafsm.wire.message import build, decode, encode, read_envelope

log = logging.getLogger("hafsm.pings")

ECHO_REQUEST = 8
ECHO_REPLY = 0
_HEADER = struct.Struct("!BBHHH")
_ICMP_FILTER = 1
_SOL_RAW = 255
ANSWERS_AT_ONCE = 256
ANSWER_AGE = 16
"""Echoes of older requests (slow, or recorded by somebody and sent again) show nothing about now."""


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
        self._sock: socket.socket | None = None
        self._id = os.getpid() & 0xFFFF
        self._sequence = 0
        self._complained = False
        self._names = {(node.name, host) for node in nodes for host in node.hosts}

    def open(self) -> None:
        """Raises `KernelError` without CAP_NET_RAW. Nothing is opened when nothing is to be pinged."""
        if not self._nodes:
            return
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        try:
            sock = socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP)
        except OSError as error:
            remedy = "run as root, or with CAP_NET_RAW, or take the ping lines out of ha.cf"
            raise KernelError("open a raw socket for ping nodes", error.errno or 0, remedy) from error
        sock.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", ~(1 << ECHO_REPLY) & 0xFFFFFFFF))
        self._sock = sock
        asyncio.get_running_loop().add_reader(sock.fileno(), self._readable)

    def close(self) -> None:
        if self._sock is not None:
            asyncio.get_running_loop().remove_reader(self._sock.fileno())
            self._sock.close()
            self._sock = None

    def send(self) -> None:
        """One echo request to every host."""
        if self._sock is None:
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
                try:
                    self._sock.sendto(echo_request(self._id, self._sequence, payload), (host, 0))
                    self._complained = False
                except OSError as error:
                    # No route is what an unplugged cable looks like; the silence is folded by the core.
                    if not self._complained:
                        log.warning("ping %s: %s", host, error.strerror)
                    self._complained = True

    def _readable(self) -> None:
        for _ in range(ANSWERS_AT_ONCE):
            if self._sock is None:
                return
            try:
                packet = self._sock.recv(65536)
            except (BlockingIOError, OSError):
                return
            answer = self._read(packet)
            if answer is not None:
                name, host = answer
                self._submit(PingAnswered(at=self._clock(), ping=name, host=host))

    def _read(self, packet: bytes) -> tuple[str, str] | None:
        """(ping node, host) of an authentic echo of ours, else None."""
        if len(packet) < 20:
            return None
        start = (packet[0] & 0x0F) * 4
        if len(packet) < start + _HEADER.size:
            return None
        kind, _, _, identity, sequence = _HEADER.unpack_from(packet, start)
        age = (self._sequence - sequence) & 0xFFFF
        if kind != ECHO_REPLY or identity != self._id or age > ANSWER_AGE:
            return None
        try:
            envelope = read_envelope(decode(packet[start + _HEADER.size :], self._ring))
        except PeerError:
            return None
        named = (envelope.node, envelope.info)
        return named if named in self._names else None


def echo_request(identity: int, sequence: int, payload: bytes) -> bytes:
    """An ICMP echo request (RFC 792) with its checksum (RFC 1071)."""
    blank = _HEADER.pack(ECHO_REQUEST, 0, 0, identity, sequence) + payload
    return _HEADER.pack(ECHO_REQUEST, 0, checksum(blank), identity, sequence) + payload


def checksum(data: bytes) -> int:
    """The internet checksum of RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)
