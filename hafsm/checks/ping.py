"""Ping: an ICMP or ICMPv6 echo must come back; `attempts` requests, each with its share of the deadline.

A raw socket hears every ICMP message of the machine unless it is told not to: this one is connected to the server, and
a filter lets echo replies alone pass. What comes back must carry the random bytes that were sent.

Source: ldirectord's `checktype=ping` (64 data bytes, `checkcount`), which knows no IPv6; also its meaning of
`checktype=connect` with `protocol=udp`.
"""

from __future__ import annotations

import os
import secrets
import socket
import struct

from hafsm.checks.connect import LOCAL_TROUBLE, PASSED, Check, LocalTrouble, Verdict, explain, is_address
from hafsm.core.settings import CheckSpec

DATA_BYTES = 64
ANSWERS_AT_ONCE = 64
_NONCE_BYTES = 16
_HEADER = struct.Struct("!BBHHH")
_FLAGS = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
_ICMP_FILTER = 1
_SOL_RAW = 255
_ICMP6_FILTER = 1
_ECHO, _ECHO_REPLY, _ECHO6, _ECHO6_REPLY = 8, 0, 128, 129


class PingCheck(Check):
    """See the module."""

    __slots__ = ("_ipv6", "_nonce", "_sequence", "sock")
    sock: socket.socket | None

    def __init__(self, spec: CheckSpec) -> None:
        """Raises ValueError when the spec cannot be carried out."""
        super().__init__(spec)
        if not is_address(spec.address):
            raise ValueError(f"{spec.address!r} is not an IP address")
        self.shares = max(spec.attempts, 1)
        self._ipv6 = ":" in spec.address
        self._nonce = b""
        self._sequence = 0

    def begin(self) -> Verdict | None:
        self._nonce = secrets.token_bytes(_NONCE_BYTES)
        self._sequence = 0
        try:
            self.sock = sock = self._open()
        except PermissionError:
            return Verdict(False, "this director may not ping: it lacks CAP_NET_RAW")
        except OSError as error:
            raise LocalTrouble(f"no socket for {self.spec}: {error.strerror}") from None
        error_number = sock.connect_ex((self.spec.address, 0))
        if error_number in LOCAL_TROUBLE:
            self.close()
            raise LocalTrouble(f"no socket for {self.spec}: {os.strerror(error_number)}")
        return Verdict(False, explain(error_number)) if error_number else self._send()

    def ready(self, events: int) -> Verdict | None:
        assert self.sock is not None
        try:
            for _ in range(ANSWERS_AT_ONCE):
                if self.is_answer(self.sock.recv(2048)):
                    return PASSED
            return Verdict(False, f"{ANSWERS_AT_ONCE} answers at once and none of them ours")
        except BlockingIOError:
            return None
        except OSError as error:
            return Verdict(False, explain(error.errno or 0))

    def again(self) -> Verdict | None:
        self._sequence += 1
        return self._send()

    def close(self) -> None:
        sock, self.sock = self.sock, None
        if sock is not None:
            sock.close()

    def is_answer(self, packet: bytes) -> bool:
        """An echo reply with our own bytes; from a raw IPv4 socket with its IP header."""
        if self._ipv6:
            kind = _ECHO6_REPLY
        else:
            kind = _ECHO_REPLY
            if packet[:1] and packet[0] >> 4 == 4 and len(packet) >= 20:
                packet = packet[(packet[0] & 15) * 4 :]
        return len(packet) >= _HEADER.size + _NONCE_BYTES and (
            packet[0] == kind and packet[_HEADER.size : _HEADER.size + _NONCE_BYTES] == self._nonce
        )

    def _open(self) -> socket.socket:
        """A raw socket, else the kernel's own ping socket, which it may allow to everybody (ping_group_range)."""
        family = socket.AF_INET6 if self._ipv6 else socket.AF_INET
        protocol = socket.IPPROTO_ICMPV6 if self._ipv6 else socket.IPPROTO_ICMP
        try:
            sock = socket.socket(family, socket.SOCK_RAW | _FLAGS, protocol)
        except PermissionError:
            return socket.socket(family, socket.SOCK_DGRAM | _FLAGS, protocol)
        if self._ipv6:
            blocked = bytearray(b"\xff" * 32)
            blocked[_ECHO6_REPLY // 32 * 4 : _ECHO6_REPLY // 32 * 4 + 4] = struct.pack(
                "I", 0xFFFFFFFF & ~(1 << _ECHO6_REPLY % 32)
            )
            sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, bytes(blocked))
        else:
            sock.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("I", 0xFFFFFFFF & ~(1 << _ECHO_REPLY)))
        return sock

    def _send(self) -> Verdict | None:
        assert self.sock is not None
        kind = _ECHO6 if self._ipv6 else _ECHO
        identifier = int.from_bytes(self._nonce[:2], "big")
        data = self._nonce.ljust(DATA_BYTES, b"\0")
        checksum = 0 if self._ipv6 else _checksum(_HEADER.pack(kind, 0, 0, identifier, self._sequence) + data)
        try:
            self.sock.send(_HEADER.pack(kind, 0, checksum, identifier, self._sequence) + data)
        except OSError as error:
            return None if error.errno in LOCAL_TROUBLE else Verdict(False, explain(error.errno or 0))
        return None


def _checksum(message: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(message) // 2}H", message))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
