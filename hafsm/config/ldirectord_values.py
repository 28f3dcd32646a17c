"""The values of ldirectord.cf: numbers, quotes, hosts and ports, `real` and `fallback` lines, requests."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote as percent_encoded
from urllib.parse import unquote_to_bytes, urlsplit

from hafsm.config.findings import quote, suggestion
from hafsm.config.names import Misread, ipv4, ipv6, ipv6_address, port, whole
from hafsm.core.settings import Forwarding

Note = Callable[[str, str, str], None]
"""Reports something accepted but odd: found, expected, remedy."""

RANGE_LIMIT = 4096
"""Addresses in `A->B`; more real servers than any director feeds are a typing error."""
WEIGHT_LIMIT = 65535
PORT_LIMIT = 65535
PLAIN_KEPT = 16384
TEXT_LIMIT = 4096
"""Characters in any text of a directive."""
USERINFO = re.compile(r"://[^\s/]*@")
"""A user, and perhaps a password, in a URL."""
_REAL_HOST = re.compile(r"[A-Za-z0-9.-]+")
_TARGET = re.compile(r"(\[[^\]]*\]|[^][:>]*?)(?:->(\[[^\]]*\]|[^][:>]*?))?(?::(.*))?")
_PLAIN = re.compile(r"([0-9.]{7,15}):([0-9]{1,5}) (gate|masq|ipip)(?: ([0-9]{1,5}))?")
_TOKEN = re.compile(r'[ \t]*(?:"([^"]*)"|([^ \t",]+)|(,))')
_THRESHOLD = re.compile(r"([lu]):([0-9]{1,9})")
_KEPT_IN_A_URL = "!$%&'()*+,-./:;=?@[]_~|{}^`\\\"<>"
"""Printable ASCII but the blank and `#`: sent as written."""


@dataclass(frozen=True, slots=True)
class RealLine:
    """A `real=` line, understood but not yet joined with its section."""

    line: int
    addresses: tuple[str, ...]
    port: int
    """0: none was written."""
    forwarding: Forwarding
    weight: int = 1
    request: str = ""
    """As written; empty: the section's request and receive count."""
    receive: str = ""
    upper_threshold: int = 0
    lower_threshold: int = 0


@dataclass(frozen=True, slots=True)
class FallbackLine:
    """A `fallback=` line."""

    line: int
    address: str
    port: str
    """As written, looked up for each service's protocol; empty: the service's own."""
    forwarding: Forwarding


class HttpRequest(NamedTuple):
    """What is asked of a web server, and as whom."""

    request: str
    """Path with a leading slash, or an absolute URL without a user."""
    login: str = ""
    password: bytes = b""


def number(value: str, low: int, high: int, note: Note) -> int:
    """The first run of digits, as ldirectord reads it. Raises Misread."""
    found = re.search(r"[0-9]+", value)
    if found is None:
        raise Misread(f"a whole number from {low} to {high}")
    if found[0] != value:
        note(f"{quote(value)} is read as {found[0][:18]}", "digits alone", "")
    return whole(found[0], low, high)


def yes_no(value: str) -> bool:
    """Raises Misread."""
    if value not in ("yes", "no"):
        raise Misread("yes or no, in lower case")
    return value == "yes"


def quoted(value: str, note: Note, example: str = "") -> str:
    """What stands between the first and the last double quote; inner quotes stay. Raises Misread."""
    first, last = value.find('"'), value.rfind('"')
    if first != 0 or last - first < 2:
        raise Misread("text in double quotes, not empty" + (f', such as "{example}"' if example else ""))
    if value[last + 1 :].strip():
        note("text behind the last double quote", "nothing", "It is not looked at, as in ldirectord")
    return text(value[1:last])


def text(value: str) -> str:
    """Raises Misread when it is too long."""
    if len(value) > TEXT_LIMIT:
        raise Misread(f"at most {TEXT_LIMIT} characters")
    return value


def unquoted(value: str) -> str:
    """The text without one pair of double quotes round it, which ldirectord strips here. Raises Misread."""
    inner = value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
    if not inner:
        raise Misread("a value")
    return text(inner)


def bare(value: str, note: Note) -> str:
    """The same where ldirectord takes the quotes for part of the value. Raises Misread."""
    found = unquoted(value)
    if found != value:
        note("in quotes", "it without", "ldirectord takes the quotes for part of the value")
    return found


def http_request(value: str, scheme: str, note: Note) -> HttpRequest:
    """A path with its leading slash, or an absolute URL of `scheme`, which is asked as it is. Raises Misread."""
    start = value.find(f"{scheme}://")
    if start < 0:
        without_user(value)
    target = "/" + value.lstrip("/") if start < 0 else value[start:]
    encoded = percent_encoded(target.encode("utf-8", "surrogateescape"), safe=_KEPT_IN_A_URL)
    if encoded != target:
        note("blanks and letters beyond ASCII are sent as %20 and the like", "them written so", "")
    if start < 0:
        return HttpRequest(encoded)
    try:
        parts = urlsplit(encoded)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host:
        raise Misread(f"a URL such as {scheme}://192.0.2.1/index.html")
    userinfo, at, place = parts.netloc.rpartition("@")
    if at:
        encoded = encoded.replace(parts.netloc, place, 1)
    name, _, password = userinfo.partition(":")
    login = unquote_to_bytes(name).decode(errors="replace")
    if not login.isprintable():
        raise Misread("a URL whose user is text")
    return HttpRequest(encoded, login, unquote_to_bytes(password))


def without_user(value: str) -> str:
    """The value, which must not hold a URL with a user: it would stand in the journal. Raises Misread."""
    if USERINFO.search(value):
        raise Misread("a value without user and password in a URL")
    return value


def forwarding(word: str) -> Forwarding:
    """Raises Misread."""
    try:
        return Forwarding(word)
    except ValueError:
        near = suggestion(word, [f.value for f in Forwarding])
        raise Misread("gate, masq or ipip behind the server", found=f"forwarding {quote(word)}", remedy=near) from None


def host_address(host: str, key: str, note: Note) -> str:
    """The address of a host: `key` ends in 6 where ldirectord wants IPv6, and decides for a name. Raises Misread."""
    six = key.endswith("6")
    if host.startswith("["):
        if not six:
            note("an IPv6 address", f"{key}6=", "ldirectord refuses it here")
        return ipv6_address(host[1:-1], "an IPv6 address in brackets, such as [2001:db8::1]:80")
    if six and _is_ipv4(host):
        note("an IPv4 address", f"{key[:-1]}=", "ldirectord refuses it here")
        return host
    return ipv6(host) if six else ipv4(host)


def _is_ipv4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def target(value: str, expected: str) -> tuple[str, str, str | None]:
    """`HOST[->HOST2][:PORT]` as (HOST, HOST2 or empty, PORT or None). Raises Misread."""
    if value.count(":") > 1 and "[" not in value:
        raise Misread(expected, remedy="An IPv6 address stands in brackets: [2001:db8::1]:80")
    found = _TARGET.fullmatch(value)
    if found is None or not found[1]:
        raise Misread(expected)
    return found[1], found[2] or "", found[3]


def real_line(line: int, value: str, note: Note, key: str = "real") -> RealLine:
    """`HOST[->HOST2][:PORT] gate|masq|ipip [WEIGHT] ["REQUEST","RECEIVE"] [l:N] [u:N]`. Raises Misread."""
    plain = _plain_real(value) if key == "real" else None
    if plain is not None:
        address, number, how, weight = plain
        return RealLine(line=line, addresses=(address,), port=number, forwarding=how, weight=weight)
    server, *rest = value.split(None, 1) or [""]
    if not rest:
        raise Misread("HOST:PORT gate, masq or ipip, such as 192.0.2.31:80 gate")
    first, last, port_text = target(server, "a host of letters, digits, dots and hyphens, as HOST:PORT")
    for host in filter(None, (first, last)):
        if not host.startswith("[") and not _REAL_HOST.fullmatch(host):
            remedy = "ldirectord would take what stands behind the last other sign for the host" if "_" in host else ""
            raise Misread("a host of letters, digits, dots and hyphens, as HOST:PORT", remedy=remedy)
    start = host_address(first, key, note)
    addresses = _range(start, host_address(last, key, note), note) if "->" in server else (start,)
    method, *rest = rest[0].split(None, 1)
    options = _options(rest[0].strip() if rest else "", note)
    return RealLine(
        line=line,
        addresses=addresses,
        port=0 if port_text is None else any_port(port_text),
        forwarding=forwarding(method),
        weight=options.weight,
        request=options.request,
        receive=options.receive,
        upper_threshold=options.upper,
        lower_threshold=options.lower,
    )


@lru_cache(maxsize=PLAIN_KEPT)
def _plain_real(value: str) -> tuple[str, int, Forwarding, int] | None:
    """Address, port, method and weight of a line that has nothing else and nothing odd; None for any other.

    Thousands of such lines are read again whenever one of them was edited.
    """
    found = _PLAIN.fullmatch(value)
    if found is None or int(found[2]) > PORT_LIMIT or int(found[4] or 1) > WEIGHT_LIMIT:
        return None
    try:
        address = str(ipaddress.IPv4Address(found[1]))
    except ValueError:
        return None
    return address, int(found[2]), Forwarding(found[3]), int(found[4] or 1)


class _Options(NamedTuple):
    weight: int
    request: str
    receive: str
    upper: int
    lower: int


def _range(first: str, last: str, note: Note) -> tuple[str, ...]:
    start, end = ipaddress.ip_address(first), ipaddress.ip_address(last)
    if start.version != end.version or not int(start) <= int(end) < int(start) + RANGE_LIMIT:
        raise Misread(f"a range A->B that rises and has at most {RANGE_LIMIT} addresses")
    if start.version == 6:
        note("a range of IPv6 addresses", "a line for each", "ldirectord refuses it")
    elif len(str(int(start))) != len(str(int(end))):
        note("a range that crosses a power of ten", "a line for each", "ldirectord finds no server in it, hafsm all")
    make = type(start)
    return tuple(str(make(number)) for number in range(int(start), int(end) + 1))


def _options(text: str, note: Note) -> _Options:
    """What stands behind the forwarding word: weight, the two strings, thresholds in any order. Raises Misread."""
    weight: int | None = None
    strings: list[str] = []
    thresholds: dict[str, int] = {}
    for string, word, comma in _tokens(text):
        limit = _THRESHOLD.fullmatch(word if string is None else string)
        if limit:
            if string is not None:
                note(f"threshold {quote(string)} stands in quotes", "it without", "ldirectord takes it for a request")
            if limit[1] == "l" and "u" in thresholds:
                note("u:N stands before l:N", "l:N before it", "ldirectord loses u:N")
            thresholds[limit[1]] = int(limit[2])
        elif string is not None and len(strings) < 2:
            strings.append(string)
        elif word and weight is None and not strings and not thresholds:
            weight = _weight(word)
        elif not comma or len(strings) != 1:
            shown = word or comma or "a third string"
            raise Misread('nothing but [WEIGHT] ["REQUEST","RECEIVE"] [l:N] [u:N]', found=quote(shown))
    if len(strings) == 1:
        raise Misread('both "REQUEST","RECEIVE" in double quotes, or none')
    lower, upper = thresholds.get("l", 0), thresholds.get("u", 0)
    if lower > upper:
        raise Misread("l:N not above u:N (the kernel refuses it)", found=f"thresholds l:{lower} u:{upper}")
    request, receive = strings or ("", "")
    if request.startswith("/"):
        note("a request with a leading slash", "it without", "ldirectord loses it and all that follows")
    return _Options(weight if weight is not None else 1, request, receive, upper, lower)


def _tokens(text: str) -> Iterator[tuple[str | None, str, str]]:
    """(string, "", "") for text in quotes, (None, word, "") or (None, "", comma). Raises Misread."""
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            raise Misread('both "REQUEST","RECEIVE" in double quotes, or none')
        position = token.end()
        yield token[1], token[2] or "", token[3] or ""


def _weight(word: str) -> int:
    try:
        return whole(word, 0, WEIGHT_LIMIT)
    except Misread as error:
        raise Misread(f"as weight {error.expected}", found=f"{quote(word)} behind the forwarding word") from None


def fallback_line(line: int, value: str, note: Note, key: str = "fallback") -> FallbackLine:
    """`HOST[:PORT] [gate|masq|ipip]`; empty means 127.0.0.1, as in ldirectord, or ::1. Raises Misread."""
    words = value.split() or ["[::1]" if key.endswith("6") else "127.0.0.1"]
    if len(words) > 2:
        raise Misread("HOST:PORT and at most one of gate, masq, ipip")
    expected = "an address or host name, such as 127.0.0.1:80"
    host, last, port_text = target(words[0], expected)
    if last or not (host.startswith("[") or _REAL_HOST.fullmatch(host)):
        raise Misread(expected)
    if port_text:
        any_port(port_text)
    return FallbackLine(
        line=line,
        address=host_address(host, key, note),
        port=port_text or "",
        forwarding=forwarding(words[1]) if len(words) == 2 else Forwarding.GATE,
    )


def service_port(text: str, protocol: str) -> int:
    """A port for a service of `protocol`; behind a mark, and for SCTP, whose names are few, tcp names do. Raises
    Misread."""
    if protocol == "sctp" and is_port_name(text, "sctp"):
        return port(text, "sctp")
    return port(text, protocol if protocol in ("tcp", "udp") else "tcp")


def any_port(text: str) -> int:
    """A number, or a name that some protocol has. Raises Misread."""
    protocol = "tcp"
    if not text.isdigit():  # looking up a name reads a file
        protocol = next((p for p in ("tcp", "udp", "sctp") if is_port_name(text, p)), "tcp")
    try:
        return port(text, protocol)
    except Misread:
        raise Misread("a port from 0 to 65535, or a name of /etc/services") from None


def is_port_name(text: str, protocol: str) -> bool:
    """Whether /etc/services has the name for the protocol."""
    try:
        socket.getservbyname(text, protocol)
    except (OSError, UnicodeError, ValueError):
        return False
    return True
