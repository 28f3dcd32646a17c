"""The values of ldirectord.cf: numbers, quotes, `real` and `fallback` lines, regular expressions."""

from __future__ import annotations

import ipaddress
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from hafsm.config.findings import quote, suggestion
from hafsm.config.names import Misread, ipv4, port, whole
from hafsm.core.settings import Forwarding

Note = Callable[[str, str, str], None]
"""Reports something accepted but odd: found, expected, remedy."""

RANGE_LIMIT = 4096
"""Addresses in `A->B`; more real servers than any director feeds are a typing error."""
WEIGHT_LIMIT = 65535
_HOST = re.compile(r"[A-Za-z0-9.-]+")
_TOKEN = re.compile(r'[ \t]*(?:"([^"]*)"|([^ \t",]+)|(,))')
_THRESHOLD = re.compile(r"([lu]):([0-9]{1,9})")
_PERL_ONLY = re.compile(r"(?<!\\)(?:\\\\)*(\\[zhHRKQEGX]|\(\?[|R&0-9]|\(\?<[A-Za-z_]|\[\[:)")


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


def quoted(value: str) -> str:
    """What stands between the first and the last double quote; inner quotes stay. Raises Misread."""
    first, last = value.find('"'), value.rfind('"')
    if first != 0 or last - first < 2:
        raise Misread('text in double quotes, not empty, such as "index.html"')
    return value[1:last]


def regular_expression(value: str) -> str:
    """A Perl regular expression that Python's `re` understands the same way, on bytes. Raises Misread."""
    expected = "a regular expression that Perl and Python share"
    if found := _PERL_ONLY.search(value):
        raise Misread(expected, remedy=f"{quote(found[1])} means something in Perl only")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(value.encode())
    except (re.error, Warning, OverflowError, RecursionError, ValueError) as error:
        raise Misread(expected, remedy=f"It does not compile: {error}") from None
    return value


def request(value: str, note: Note) -> str:
    """A path with its leading slash, or an absolute http URL, which ldirectord takes as it is. Raises Misread."""
    if any(character <= " " or character > "~" for character in value):
        raise Misread("a path without blanks, in ASCII; write %20 for a blank")
    start = value.find("http://")
    if start < 0:
        return "/" + value.lstrip("/")
    url = value[start:]
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host:
        raise Misread("a URL such as http://192.0.2.1/index.html")
    if "@" in parts.netloc:
        raise Misread("a URL without user and password", found="a user in a URL is not supported yet")
    note(f"the request is a URL: {host} is asked instead of the real server", "a path", "")
    return url


def forwarding(word: str) -> Forwarding:
    """Raises Misread."""
    try:
        return Forwarding(word)
    except ValueError:
        near = suggestion(word, [f.value for f in Forwarding])
        raise Misread("gate, masq or ipip behind the server", found=f"forwarding {quote(word)}", remedy=near) from None


def real_line(line: int, value: str, note: Note) -> RealLine:
    """`HOST[->HOST2][:PORT] gate|masq|ipip [WEIGHT] ["REQUEST","RECEIVE"] [l:N] [u:N]`. Raises Misread."""
    target, *rest = value.split(None, 1)
    if not rest:
        raise Misread("HOST:PORT gate, masq or ipip, such as 192.0.2.31:80 gate")
    if target.startswith("["):
        raise Misread("an IPv4 address or host name", remedy=_ipv6(target))
    hosts, colon, port_text = target.partition(":")
    addresses = _addresses(hosts)
    method, *rest = rest[0].split(None, 1)
    options = _options(rest[0].strip() if rest else "", note)
    return RealLine(
        line=line,
        addresses=addresses,
        port=port(port_text) if colon else 0,
        forwarding=forwarding(method),
        weight=options.weight,
        request=options.request,
        receive=options.receive,
        upper_threshold=options.upper,
        lower_threshold=options.lower,
    )


class _Options(NamedTuple):
    weight: int
    request: str
    receive: str
    upper: int
    lower: int


def _addresses(hosts: str) -> tuple[str, ...]:
    first, arrow, last = hosts.partition("->")
    for host in (first, last) if arrow else (first,):
        if not _HOST.fullmatch(host):
            raise Misread("a host of letters, digits, dots and hyphens, as HOST:PORT")
    if not arrow:
        return (ipv4(first),)
    start, end = (int(ipaddress.IPv4Address(ipv4(host))) for host in (first, last))
    if not start <= end < start + RANGE_LIMIT:
        raise Misread(f"a range A->B that rises and has at most {RANGE_LIMIT} addresses")
    return tuple(str(ipaddress.IPv4Address(address)) for address in range(start, end + 1))


def _options(text: str, note: Note) -> _Options:
    """What stands behind the forwarding word: weight, the two strings, thresholds in any order. Raises Misread."""
    weight: int | None = None
    strings: list[str] = []
    thresholds: dict[str, int] = {}
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            break
        position = token.end()
        string, word, comma = token.groups()
        limit = _THRESHOLD.fullmatch(string if string is not None else word or "")
        if limit:
            if string is not None:
                note(f"threshold {quote(string)} stands in quotes", "it without", "ldirectord takes it for a request")
            thresholds[limit[1]] = int(limit[2])
        elif string is not None and len(strings) < 2:
            strings.append(string)
        elif word is not None and weight is None and not strings and not thresholds:
            weight = _weight(word)
        elif comma is None or len(strings) != 1:
            raise Misread('nothing but [WEIGHT] ["REQUEST","RECEIVE"] [l:N] [u:N]', found=f"{quote(token[0].strip())}")
    if text[position:].strip() or len(strings) == 1:
        raise Misread('both "REQUEST","RECEIVE" in double quotes, or none')
    lower, upper = thresholds.get("l", 0), thresholds.get("u", 0)
    if lower > upper:
        raise Misread("l:N not above u:N (the kernel refuses it)", found=f"thresholds l:{lower} u:{upper}")
    request_text, receive = strings or ("", "")
    return _Options(weight if weight is not None else 1, request_text, receive, upper, lower)


def _weight(word: str) -> int:
    try:
        return whole(word, 0, WEIGHT_LIMIT)
    except Misread as error:
        raise Misread(f"as weight {error.expected}", found=f"{quote(word)} behind the forwarding word") from None


def fallback_line(line: int, value: str) -> FallbackLine:
    """`HOST[:PORT] [gate|masq|ipip]`; empty means 127.0.0.1, as in ldirectord. Raises Misread."""
    words = value.split() or ["127.0.0.1"]
    if len(words) > 2:
        raise Misread("HOST:PORT and at most one of gate, masq, ipip")
    host, _, port_text = words[0].partition(":")
    if not _HOST.fullmatch(host):
        raise Misread("an IPv4 address or host name, such as 127.0.0.1:80", remedy=_ipv6(host))
    if port_text:
        _any_port(port_text)
    return FallbackLine(
        line=line,
        address=ipv4(host),
        port=port_text,
        forwarding=forwarding(words[1]) if len(words) == 2 else Forwarding.GATE,
    )


def _any_port(text: str) -> None:
    """A name must exist for tcp or udp; which one counts is known with the service. Raises Misread."""
    for protocol in ("tcp", "udp"):
        try:
            port(text, protocol)
        except Misread:
            continue
        return
    raise Misread("a port from 0 to 65535, or a name of /etc/services")


def _ipv6(host: str) -> str:
    return "IPv6 is not supported yet" if host.startswith("[") else ""
