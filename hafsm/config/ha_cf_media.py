"""Where ha.cf sends heartbeats, and whom it pings: the words of the media lines, and the hosts of the ping lines."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from hafsm.config.model import Bcast, Mcast, Mcast6, Medium, Serial, Ucast, Ucast6
from hafsm.config.names import Misread, absolute_path, interface, ipv4, ipv6, whole


def one_word(directive: str, word: str) -> Medium:
    """A word of a `bcast`, `udp` or `serial` line; the speed of a serial line is set afterwards. Raises Misread."""
    if directive == "serial":
        return Serial(device=absolute_path(word), baud=0)
    return Bcast(interface=interface(word))


def many_words(directive: str, values: list[str]) -> Medium:
    """The words of a `ucast`, `ucast6`, `mcast` or `mcast6` line. Raises Misread."""
    if directive.startswith("ucast"):
        if len(values) != 2:
            raise Misread(f"{directive} INTERFACE HOST")
        device, host = interface(values[0]), values[1]
        if directive == "ucast6":
            return Ucast6(interface=device, host=ipv6(_without_zone(host, device)))
        return Ucast(interface=device, host=ipv4(host, "Use ucast6"))
    hops = "HOPS" if directive == "mcast6" else "TTL"
    if len(values) != 5:
        raise Misread(f"{directive} INTERFACE GROUP PORT {hops} LOOP, all five")
    device, group, port, ttl, loop = values
    # heartbeat 3 limits the hops of mcast6 like the TTL of mcast.
    return (Mcast6 if directive == "mcast6" else Mcast)(
        interface=interface(device),
        group=_group6(_without_zone(group, device)) if directive == "mcast6" else _class_d(group),
        port=_ranged("PORT", port, 1, 65535),
        ttl=_ranged(hops, ttl, 0, 4),
        loop=_ranged("LOOP", loop, 0, 1),
    )


def ping_host(text: str) -> str:
    """A host of a `ping` line. Raises Misread."""
    return ipv4(text, "Use ping6")


def ping6_host(text: str) -> str:
    """A host of a `ping6` line; a link-local address needs its interface, `fe80::1%eth0`. Raises Misread."""
    host, percent, zone = text.partition("%")
    found = ipv6(host)
    if IPv6Address(found).is_link_local != bool(percent):
        raise Misread(
            "no interface behind an address that is not link-local"
            if percent
            else "the interface behind a link-local address, such as fe80::1%eth0"
        )
    return f"{found}%{interface(zone)}" if percent else found


def ping_group_host(text: str) -> str:
    """A host of a `ping_group` line, of either family; a name means IPv4. Raises Misread.

    heartbeat reads IPv4 only and has no ping_group6. A group that the loss of one family does not empty is what an
    administrator with both wants, so that hafsm takes IPv6 here too.
    """
    return ping6_host(text) if ":" in text else ipv4(text)


def _without_zone(text: str, device: str) -> str:
    """heartbeat takes the line's own interface as a zone, and no other."""
    return text.removesuffix(f"%{device}")


def _class_d(text: str) -> str:
    return _multicast(text, IPv4Address, "from 224.0.0.0 to 239.255.255.255")


def _group6(text: str) -> str:
    return _multicast(text, IPv6Address, "of IPv6 such as ff12::1:2:3:4")


def _multicast(text: str, family: type[IPv4Address | IPv6Address], such_as: str) -> str:
    try:
        address = ip_address(text)
    except ValueError:
        address = family(0)
    if not isinstance(address, family) or not address.is_multicast or "%" in text:
        raise Misread(f"as GROUP a multicast address {such_as}")
    return str(address)


def _ranged(what: str, text: str, low: int, high: int) -> int:
    try:
        return whole(text, low, high)
    except Misread as error:
        raise Misread(f"as {what} {error.expected}") from None
