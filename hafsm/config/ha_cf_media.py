"""The media lines of ha.cf: where heartbeats go."""

from __future__ import annotations

from ipaddress import IPv4Address

from hafsm.config.model import Bcast, Mcast, Medium, Serial, Ucast
from hafsm.config.names import Misread, absolute_path, interface, ipv4, whole


def one_word(directive: str, word: str) -> Medium:
    """A word of a `bcast`, `udp` or `serial` line; the speed of a serial line is set afterwards. Raises Misread."""
    if directive == "serial":
        return Serial(device=absolute_path(word), baud=0)
    return Bcast(interface=interface(word))


def many_words(directive: str, values: list[str]) -> Medium:
    """The words of a `ucast` or `mcast` line. Raises Misread."""
    if directive == "ucast":
        if len(values) != 2:
            raise Misread("ucast INTERFACE HOST")
        return Ucast(interface=interface(values[0]), host=ipv4(values[1]))
    if len(values) != 5:
        raise Misread("mcast INTERFACE GROUP PORT TTL LOOP, all five")
    device, group, port, ttl, loop = values
    return Mcast(
        interface=interface(device),
        group=_class_d(group),
        port=_ranged("PORT", port, 1, 65535),
        ttl=_ranged("TTL", ttl, 0, 4),
        loop=_ranged("LOOP", loop, 0, 1),
    )


def _class_d(text: str) -> str:
    try:
        address = IPv4Address(text)
    except ValueError:
        address = IPv4Address(0)
    if not address.is_multicast:
        raise Misread("as GROUP a multicast address from 224.0.0.0 to 239.255.255.255")
    return str(address)


def _ranged(what: str, text: str, low: int, high: int) -> int:
    try:
        return whole(text, low, high)
    except Misread as error:
        raise Misread(f"as {what} {error.expected}") from None
