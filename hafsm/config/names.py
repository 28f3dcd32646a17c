"""Names that become values: hosts, ports, interfaces. Host names are resolved when a file is read, and only then."""

from __future__ import annotations

import ipaddress
import re
import socket

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._+-]*[A-Za-z0-9])?\.?")
_PORT_NAME = re.compile(r"[A-Za-z0-9_-]+")
_INTERFACE = re.compile(r"[!-.0-9;-~]{1,15}")  # printable ASCII without "/" and ":" (IFNAMSIZ less its NUL)


class Misread(ValueError):
    """A value that cannot be used; the text says what was expected."""

    def __init__(self, expected: str, *, found: str = "", remedy: str = "") -> None:
        super().__init__(expected)
        self.expected = expected
        self.found = found
        """Replaces the usual quotation when it says more."""
        self.remedy = remedy


def ipv4(text: str, instead: str = "") -> str:
    """Canonical dotted quad of an address or a host name. `instead`: what to do with an IPv6 address.

    Blocks on the system's resolver for a name. Raises Misread. A last label that begins with a digit is taken for an
    address that was mistyped: the C library would read `10.1` as 10.0.0.1.
    """
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        pass
    if text.startswith("[") or text.count(":") > 1:
        raise Misread("an IPv4 address or host name", remedy=instead)
    return _resolved(text, socket.AF_INET, "IPv4", "an IPv4 address such as 192.0.2.1, or a host name")


def ipv6(text: str) -> str:
    """Canonical text (RFC 5952) of an address or a host name, without brackets and without a zone.

    Blocks on the system's resolver for a name. Raises Misread.
    """
    expected = "an IPv6 address such as 2001:db8::1, or a host name"
    if ":" in text:
        return ipv6_address(text, expected)
    return _resolved(text, socket.AF_INET6, "IPv6", expected)


def ipv6_address(text: str, expected: str) -> str:
    """Canonical text (RFC 5952) of an address. Raises Misread with `expected`.

    Of ::/80 only `::` and `::1` are accepted: what else is there embeds an IPv4 address, never stands on a wire (RFC
    4291 section 2.5.5), and is written differently by Python's versions.
    """
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise Misread(expected) from None
    if address.scope_id is not None:
        raise Misread(expected, remedy=f'Remove "%{address.scope_id}"')
    if 1 < int(address) < 1 << 48:
        raise Misread(expected, remedy="This one stands for an IPv4 address: write that")
    return str(address)


def address(text: str) -> str:
    """Canonical text of an IPv4 or IPv6 address; a host name means IPv4. Blocks as `ipv4` does. Raises Misread."""
    return ipv6(text) if ":" in text else ipv4(text)


def _resolved(name: str, family: socket.AddressFamily, kind: str, expected: str) -> str:
    """The first address of a host name, without a zone. Raises Misread, with `expected` when it is no name at all."""
    if not _HOST.fullmatch(name) or name.rstrip(".").rsplit(".", 1)[-1][0].isdigit():
        raise Misread(expected)
    try:
        answers = socket.getaddrinfo(name, None, family, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "no valid name"
        raise Misread(
            f"a host name that resolves to an {kind} address",
            remedy=f"The resolver said: {reason}; write the address, or add the name to /etc/hosts",
        ) from error
    return str(ipaddress.ip_address(str(answers[0][4][0]).partition("%")[0]))


def port(text: str, protocol: str = "tcp") -> int:
    """A port number 0 to 65535, or its name in /etc/services for `protocol`. Raises Misread."""
    if text.isascii() and text.isdigit():
        if len(text) <= 5 and int(text) <= 65535:
            return int(text)
        raise Misread("a port from 0 to 65535")
    if _PORT_NAME.fullmatch(text):
        try:
            return socket.getservbyname(text, protocol)
        except OSError:
            pass
    raise Misread(f"a port number, or a {protocol} name of /etc/services")


def interface(text: str) -> str:
    """A network interface's name. Raises Misread. Whether it exists is another question."""
    if not _INTERFACE.fullmatch(text) or text in (".", ".."):
        raise Misread("an interface name of at most 15 characters such as eth0")
    return text


def absolute_path(text: str) -> str:
    """Raises Misread."""
    if not text.startswith("/"):
        raise Misread("an absolute path")
    return text


def whole(text: str, low: int, high: int) -> int:
    """A whole number in a range. Raises Misread."""
    if text.isascii() and text.isdigit() and len(text) <= 18 and low <= int(text) <= high:
        return int(text)
    raise Misread(f"a whole number from {low} to {high}")


def word_set(text: str) -> frozenset[str]:
    """A set of words written with blanks between them."""
    return frozenset(text.split())
