"""Other names for addresses and names, the same for the same, in values and within text.

For journals that leave the house. What is replaced stays what it was: IPv4 stays IPv4, IPv6 IPv6, addresses of one /24
(IPv6: /64) stay together, and canonical text stays canonical. Two different addresses or names never become one.

Kept, as they say nothing about a site: loopback, multicast, unspecified addresses, netmasks, interfaces, ports, paths.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address

_COLON_TOKEN = re.compile(r"[0-9A-Za-z_.@-]*:[0-9A-Za-z_.@:-]*")
"""All that may be an IPv6 address or a MAC, with whatever hangs on it: `IPv6addr::2001:db8::1`, `tcp:192.0.2.1:80`."""

_MAC = re.compile(r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}")
_SECRET = re.compile(r"sha256:[0-9a-f]{8,64}")
"""What stands in a journal for a key or a password: enough to try guesses on."""

_HEX = re.compile(r"[0-9A-Fa-f:]*")
_MAIL = r"(?P<mail>[A-Za-z0-9_.+-]+@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)"
_V4 = r"(?P<v4>(?<![0-9A-Za-z_.-])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![0-9A-Za-z_]|\.[0-9]))"
_DOTTED = (
    r"(?P<dotted>(?<![0-9A-Za-z_.-])(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+"
    r"[A-Za-z][A-Za-z0-9-]*(?![0-9A-Za-z_-]))"
)
_FILE_SUFFIXES = frozenset(
    re.findall(
        r"\w+",
        "asp aspx cf cgi cnf conf crt css d db gif gz htm html ini jpg js json jsp key log mount pem php pid pl png py "
        "rb service sh so sock socket target timer tmp toml txt xml yaml yml",
    )
)
"""`index.html` is no host."""

_COMMENT = re.compile(r"(^|(?<=\s))#.*$", re.MULTILINE)


class Pseudonyms:
    """What was replaced by what, so far."""

    def __init__(self, reserved: Collection[str] = ()) -> None:
        """`reserved`: words of the protocol and the state machines; a node that is called `active` is only replaced
        where nothing but a name can stand."""
        self._reserved = frozenset(reserved)
        self._names: dict[str, str] = {}
        """In lower case → pseudonym."""
        self._counts: dict[str, int] = {}
        self._addresses: dict[IPv4Address | IPv6Address, str] = {}
        self._networks: dict[IPv4Address | IPv6Address, int] = {}
        self._hosts: dict[IPv4Address | IPv6Address, int] = {}
        self._leaf: re.Pattern[str] | None = None

    def name(self, kind: str, text: str) -> str:
        """The pseudonym of a whole value that is a name; an address in its place is replaced as one.

        Args:
            kind: what the pseudonym shall say: `node`, `host`, `user`, …
        """
        address = _address(text)
        if address is not None:
            return self._address(address)
        return self._named(kind, text) if text else text

    def text(self, text: str) -> str:
        """A sentence, a URL, a line of configuration, with everything in it replaced."""
        parts: list[str] = []
        end = 0
        for token in _COLON_TOKEN.finditer(text):
            parts += (self._plain(text[end : token.start()]), self._token(token[0]))
            end = token.end()
        return "".join(parts) + self._plain(text[end:])

    def configuration(self, text: str) -> str:
        """Configuration files without their comments, which may hold anything."""
        return self.text(_COMMENT.sub("#", text))

    def _token(self, token: str) -> str:
        if _MAC.fullmatch(token):
            number = self._named("mac", token)
            return ":".join(("02", *(f"{int(number[4:]):010x}"[i : i + 2] for i in range(0, 10, 2))))
        if _SECRET.fullmatch(token):
            return self._named("secret", token)
        bare = token.rstrip(":.-") if not token.endswith("::") else token
        address = _address(bare) if bare.count(":") >= 2 else None
        if address is not None:
            return self._address(address) + token[len(bare) :]
        # `WORD::ADDRESS` of haresources, `tcp:ADDRESS:PORT`: look behind the first colon that no address begins with.
        head, colon, tail = token.partition(":")
        if tail.startswith(":") and not (_HEX.fullmatch(head) and head):
            colon, tail = "::", tail[1:]
        return self._plain(head) + colon + (self._token(tail) if ":" in tail else self._plain(tail))

    def _plain(self, text: str) -> str:
        """Text in which no IPv6 address stands."""
        if not text:
            return text
        if self._leaf is None:
            known = [re.escape(name) for name in self._names if name not in self._reserved and _has_letter(name)]
            known.sort(key=lambda name: (-len(name), name))
            words = rf"|(?P<name>(?<![0-9A-Za-z_-])(?:{'|'.join(known)})(?![0-9A-Za-z_-]))" if known else ""
            self._leaf = re.compile(f"{_MAIL}|{_V4}|{_DOTTED}{words}", re.IGNORECASE)
        return self._leaf.sub(self._found, text)

    def _found(self, found: re.Match[str]) -> str:
        text = found[0]
        match found.lastgroup:
            case "v4":
                address = _address(text)
                return self._address(address) if address is not None else text
            case "mail":
                return self._named("mail", text)
            case "dotted":
                if text.lower() not in self._names and text.lower().rpartition(".")[2] in _FILE_SUFFIXES:
                    return text
                return self._named("host", text)
            case _:
                return self._names[text.lower()]

    def _named(self, kind: str, text: str) -> str:
        key = text.lower()
        known = self._names.get(key)
        if known is not None:
            return known
        number = self._counts[kind] = self._counts.get(kind, 0) + 1
        form = {"host": "host-{}.example", "mail": "mail-{}@example", "mac": "mac-{}"}.get(kind, kind + "-{}")
        self._names[key] = form.format(number)
        self._leaf = None
        return self._names[key]

    def _address(self, address: IPv4Address | IPv6Address) -> str:
        known = self._addresses.get(address)
        if known is None:
            known = self._addresses[address] = str(address if _is_public_knowledge(address) else self._moved(address))
        return known

    def _moved(self, address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
        if isinstance(address, IPv6Address):
            network = IPv6Address("fe80::" if address.is_link_local else int(address) >> 64 << 64)
            host = self._hosts[network] = self._hosts.get(network, 0) + 1
            if address.is_link_local:
                return IPv6Address((0xFE80 << 112) + host)
            number = self._networks.setdefault(network, sum(isinstance(n, IPv6Address) for n in self._networks) + 1)
            return IPv6Address((0x20010DB8 << 96) + (number << 64) + host)
        network4 = IPv4Address(int(address) >> 8 << 8)
        number = self._networks.setdefault(network4, sum(isinstance(n, IPv4Address) for n in self._networks))
        # 198.18.0.0/15 is for benchmarks (RFC 2544): nobody takes it for a real site. 10.0.0.0/8 when it is used up.
        base = (198 << 24) + (18 << 16) + (number << 8) if number < 512 else (10 << 24) + (number - 512 << 8)
        host = int(address) & 255
        if host not in (0, 255):  # a network's own address and its broadcast stay what they are
            host = self._hosts[network4] = self._hosts.get(network4, 0) + 1
        return IPv4Address(base + host)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _is_public_knowledge(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv4Address) and address.packed[0] == 255:
        return True
    return address.is_loopback or address.is_multicast or address.is_unspecified


def _has_letter(name: str) -> bool:
    return len(name) > 1 and any(character.isalpha() for character in name)
