"""Gratuitous ARP: tells the segment that an address now lives behind this interface's hardware address.

Two frames an announcement: the request form, which RFC 5227 section 3 prescribes, and the reply form, because some
switches and hosts only learn from replies. Receivers that know the address update their entry (RFC 826).
"""

from __future__ import annotations

import socket
import struct

BROADCAST = b"\xff" * 6
ETHERTYPE_ARP = 0x0806
ETHERTYPE_IPV4 = 0x0800
HARDWARE_ETHERNET = 1
REQUEST = 1
REPLY = 2
FRAME_BYTES_MIN = 60
"""Shortest Ethernet frame without its checksum; a shorter one is padded by most, but not all, drivers."""

_HEADER = struct.Struct("!6s6sH")
_BODY = struct.Struct("!HHBBH6s4s6s4s")


def frame(operation: int, hardware: bytes, ip: str) -> bytes:
    """A broadcast Ethernet frame with a gratuitous ARP for `ip` at `hardware`.

    Args:
        operation: `REQUEST`, or `REPLY`.
        hardware: the interface's address, 6 bytes.
        ip: IPv4 address in dotted text; sender and target protocol address alike.
    """
    target = bytes(6) if operation == REQUEST else hardware
    protocol = socket.inet_aton(ip)
    header = _HEADER.pack(BROADCAST, hardware, ETHERTYPE_ARP)
    body = _BODY.pack(HARDWARE_ETHERNET, ETHERTYPE_IPV4, 6, 4, operation, hardware, protocol, target, protocol)
    return (header + body).ljust(FRAME_BYTES_MIN, b"\0")


class Announcer:
    """A socket for sending; it stays open, since closing one waits some 10 ms for the kernel's readers (RCU)."""

    def __init__(self) -> None:
        """Needs CAP_NET_RAW; raises `OSError` without it."""
        # Protocol 0: this socket only sends; with ETH_P_ARP the kernel would queue every ARP of the segment for it.
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)

    def announce(self, interface: str, hardware: bytes, ip: str) -> None:
        """Broadcast both forms once. Does not block.

        Raises:
            OSError: the interface is gone or down, or its queue is full.
        """
        for operation in (REQUEST, REPLY):
            self._socket.sendto(frame(operation, hardware, ip), (interface, ETHERTYPE_ARP))

    def close(self) -> None:
        self._socket.close()
