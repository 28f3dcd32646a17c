"""Announcements: tell the segment that an address now lives behind this interface's hardware address.

IPv4, gratuitous ARP: two frames an announcement, the request form, which RFC 5227 section 3 prescribes, and the reply
form, because some switches and hosts only learn from replies. Receivers that know the address update their entry
(RFC 826). IPv6, one unsolicited neighbour advertisement with the override flag (RFC 4861 section 7.2.6).
"""

from __future__ import annotations

import ipaddress
import socket
import struct

BROADCAST = b"\xff" * 6
ETHERTYPE_ARP = 0x0806
ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_IPV6 = 0x86DD
HARDWARE_ETHERNET = 1
REQUEST = 1
REPLY = 2
FRAME_BYTES_MIN = 60
"""Shortest Ethernet frame without its checksum; a shorter one is padded by most, but not all, drivers."""
ALL_NODES = "ff02::1"
ALL_NODES_HARDWARE = bytes.fromhex("333300000001")
"""RFC 2464 section 7: 33-33 and the last four bytes of the group."""
NEIGHBOUR_ADVERTISEMENT = 136
HOP_LIMIT = 255
"""A receiver drops any other: it proves that no router passed the packet on (RFC 4861 section 7.1.2)."""
FLAG_ROUTER = 0x80000000
FLAG_OVERRIDE = 0x20000000
TARGET_LINK_LAYER_ADDRESS = 2

_HEADER = struct.Struct("!6s6sH")
_BODY = struct.Struct("!HHBBH6s4s6s4s")
_IPV6_HEADER = struct.Struct("!IHBB16s16s")
_ADVERTISEMENT = struct.Struct("!BBHI16sBB6s")


def arp_frame(operation: int, hardware: bytes, ip: str) -> bytes:
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


def advertisement_frame(hardware: bytes, ip: str, *, router: bool) -> bytes:
    """A multicast Ethernet frame with an unsolicited neighbour advertisement for `ip` at `hardware`, from `ip` itself.

    Args:
        hardware: the interface's address, 6 bytes.
        ip: IPv6 address.
        router: whether this machine forwards. A neighbour that uses the address as its gateway gives the gateway up
            when the flag goes (RFC 4861 section 7.2.5).
    """
    source, everybody = (ipaddress.IPv6Address(text).packed for text in (ip, ALL_NODES))
    flags = FLAG_OVERRIDE | (FLAG_ROUTER if router else 0)

    def message(check: int) -> bytes:
        option = (TARGET_LINK_LAYER_ADDRESS, 1, hardware)
        return _ADVERTISEMENT.pack(NEIGHBOUR_ADVERTISEMENT, 0, check, flags, source, *option)

    length = _ADVERTISEMENT.size
    covered = source + everybody + struct.pack("!II", length, socket.IPPROTO_ICMPV6) + message(0)
    return (
        _HEADER.pack(ALL_NODES_HARDWARE, hardware, ETHERTYPE_IPV6)
        + _IPV6_HEADER.pack(6 << 28, length, socket.IPPROTO_ICMPV6, HOP_LIMIT, source, everybody)
        + message(checksum(covered))
    )


def checksum(data: bytes) -> int:
    """The internet checksum of RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)


class Announcer:
    """A socket for sending; it stays open, since closing one waits some 10 ms for the kernel's readers (RCU)."""

    def __init__(self) -> None:
        """Needs CAP_NET_RAW; raises `OSError` without it."""
        # Protocol 0: this socket only sends; with ETH_P_ARP the kernel would queue every ARP of the segment for it.
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)

    def announce(self, interface: str, hardware: bytes, ip: str) -> None:
        """Broadcast both forms of ARP once. Does not block.

        Raises:
            OSError: the interface is gone or down, or its queue is full.
        """
        for operation in (REQUEST, REPLY):
            self._socket.sendto(arp_frame(operation, hardware, ip), (interface, ETHERTYPE_ARP))

    def advertise(self, interface: str, hardware: bytes, ip: str, *, router: bool) -> None:
        """Multicast one neighbour advertisement. Does not block. Raises `OSError` as `announce` does."""
        self._socket.sendto(advertisement_frame(hardware, ip, router=router), (interface, ETHERTYPE_IPV6))

    def close(self) -> None:
        self._socket.close()
