"""Addresses and host names as the files write them: what they become, and every refusal word for word."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from hafsm.config.names import Misread, address, ipv4, ipv6

V6 = "an IPv6 address such as 2001:db8::1, or a host name"
V4 = "an IPv4 address such as 192.0.2.1, or a host name"
EMBEDDED = "This one stands for an IPv4 address: write that"
UNKNOWN = "The resolver said: Name or service not known; write the address, or add the name to /etc/hosts"


@pytest.mark.parametrize(
    ("read", "text", "canonical"),
    [
        (ipv6, "2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        (ipv6, "2001:db8::0.0.0.7", "2001:db8::7"),
        (ipv6, "fe80::1", "fe80::1"),
        (ipv6, "::", "::"),
        (ipv6, "::1", "::1"),
        (address, "2001:db8:0::1", "2001:db8::1"),
        (address, "192.0.2.1", "192.0.2.1"),
        (address, "web1.example", "10.0.0.31"),
        (ipv4, "192.0.2.1", "192.0.2.1"),
    ],
)
def test_an_address_becomes_canonical_text(read: Callable[[str], str], text: str, canonical: str) -> None:
    assert read(text) == canonical


@pytest.mark.parametrize(
    ("read", "text", "expected", "remedy"),
    [
        (ipv6, "2001:db8::1::2", V6, ""),
        (ipv6, "2001:db8::g", V6, ""),
        (ipv6, "[2001:db8::1]", V6, ""),
        (ipv6, "2001:db8::1/64", V6, ""),
        (ipv6, "192.0.2.1", V6, ""),
        (ipv6, "", V6, ""),
        (ipv6, "fe80::1%eth0", V6, 'Remove "%eth0"'),
        (ipv6, "::ffff:192.0.2.1", V6, EMBEDDED),
        (ipv6, "::192.0.2.1", V6, EMBEDDED),
        (ipv6, "nowhere.example", "a host name that resolves to an IPv6 address", UNKNOWN),
        (address, "2001:db8::g", V6, ""),
        (address, "192.0.2.300", V4, ""),
        (ipv4, "2001:db8::1", "an IPv4 address or host name", ""),
        (lambda text: ipv4(text, "Use ping6"), "::1", "an IPv4 address or host name", "Use ping6"),
        (ipv4, "nowhere.example", "a host name that resolves to an IPv4 address", UNKNOWN),
    ],
)
def test_a_refusal_says_what_was_expected(read: Callable[[str], str], text: str, expected: str, remedy: str) -> None:
    with pytest.raises(Misread) as refused:
        read(text)
    assert (refused.value.expected, refused.value.remedy) == (expected, remedy)


def test_a_name_is_asked_for_ipv6_and_loses_its_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, port: None, family: int, *_: object) -> list[tuple[object, ...]]:
        assert (host, family) == ("gateway.example", socket.AF_INET6)
        return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80:0::1%eth0", 0, 0, 2))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert ipv6("gateway.example") == "fe80::1"
