"""Reads haresources: a line a resource group, the preferred node first.

A comment runs to the end of its line and a backslash at the end of a line continues it. heartbeat's ResourceManager
cuts comments only from the first line of a group and wants nothing at all behind the backslash; where a file falls into
that, it is read as it was meant, with a warning, because the other director may still run heartbeat. So is an IPv6
address with `::`, where ResourceManager begins another argument.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from hafsm.config.findings import Report, printable, quote, suggestion
from hafsm.config.names import Misread, interface, ipv6_address, whole
from hafsm.config.source import Line, Source, is_clean
from hafsm.core.settings import Address, Group, NodeName, Resource, ResourceKind, SyncDaemon, SyncRole

_ADDRESS_SCRIPTS = ("IPaddr", "IPaddr2")
_ADDRESS6_SCRIPTS = ("IPv6addr", "IPaddr2")
"""What also takes an IPv6 address: IPv6addr nothing else."""
_SYNC_ROLES = {"master": SyncRole.MASTER, "slave": SyncRole.BACKUP, "backup": SyncRole.BACKUP}
_MAILBOX = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=-]*(@[A-Za-z0-9][A-Za-z0-9.-]*)?")
"""What is safe as a word of sendmail's command line: never an option."""
_SCRIPT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*")
_DOTTED = re.compile(r"[0-9]+(\.[0-9]+){3}(/.*)?")
_DOTTED_START = re.compile(r"[0-9]+\.")


@dataclass(frozen=True, slots=True)
class PlacedGroup:
    """A group and where it stands."""

    line: int
    group: Group


def read_haresources(source: Source, report: Report, nodes: Collection[NodeName]) -> tuple[PlacedGroup, ...]:
    """Every group that could be read. `nodes` are those of ha.cf; empty when they are not known."""
    groups: list[PlacedGroup] = []
    for line in _joined(source, report):
        words = line.text.split()
        preferred = NodeName(words[0].lower())
        if nodes and preferred not in nodes:
            report.error(
                line.number,
                f"{quote(words[0])} is no node of ha.cf",
                f"a line to begin with {' or '.join(nodes)}",
                suggestion(preferred, nodes),
            )
        resources = tuple(r for word in words[1:] if (r := _reported(word, line.number, report)) is not None)
        if len(words) == 1:
            report.error(line.number, f"{quote(words[0])} stands alone", "a node followed by at least one resource")
        if resources and len(resources) == len(words) - 1:
            groups.append(PlacedGroup(line.number, Group(key=words[1], preferred=preferred, resources=resources)))
    _unique(groups, report)
    return tuple(groups)


def _joined(source: Source, report: Report) -> Iterator[Line]:
    """Logical lines without comments, numbered by their first line."""
    start, joined = 0, ""
    for line in source.lines:
        text, comment, _ = line.text.partition("#")
        text = text.rstrip(" \t")
        if not is_clean(line, text, report):
            continue
        _warn_of_traps(line, text, joined, bool(start and comment), report)
        start = start or line.number
        joined += text.removesuffix("\\")
        if text.endswith("\\"):
            continue
        if whole_line := joined.strip():
            yield Line(start, whole_line)
        start, joined = 0, ""
    if whole_line := joined.strip():
        report.warn(start, "the last line ends in a backslash", "a line after it", "Remove the backslash")
        yield Line(start, whole_line)


def _warn_of_traps(line: Line, text: str, joined: str, continues_with_comment: bool, report: Report) -> None:
    """Say where heartbeat reads this line otherwise; `text` is the line without comment and blanks at its end."""
    if continues_with_comment:
        report.warn(
            line.number,
            "a comment on a line that continues another",
            "comments on lines of their own between groups",
            "heartbeat takes each word of it for a resource, and the group does not start there",
        )
    if text.endswith("\\") and line.text != text:
        report.warn(
            line.number,
            "something stands behind the backslash",
            "the backslash as the last character of the line",
            "heartbeat does not continue such a line, and takes the backslash for a resource",
        )
    if joined.strip() and joined[-1] not in " \t" and text and text[0] not in " \t":
        before, after = joined.split()[-1], text.split()[0]
        report.warn(
            line.number,
            f"{quote(before)} and {quote(after)} are one word, since no blank parts them",
            "a blank before the backslash or at the beginning of the next line",
        )


def _reported(word: str, line: int, report: Report) -> Resource | None:
    try:
        resource = read_resource(word)
    except Misread as error:
        report.error(line, error.found or f"resource {quote(word)}", error.expected, error.remedy)
        return None
    if resource.address is not None and ":" in resource.address.ip:
        _warn_about_ipv6(word, resource.address, line, report)
    elif resource.address is not None and "/" not in word:
        report.warn(
            line,
            f"{quote(word)} has no prefix length",
            f"{resource.address.ip}/24 or what your network has",
            "hafsm uses /32, heartbeat that of the interface's network",
        )
    return resource


def _warn_about_ipv6(word: str, address: Address, line: int, report: Report) -> None:
    ip, *parts = word.partition("::")[2].split("/")
    if "::" in ip:
        report.warn(
            line,
            f'{quote(word)} has "::" in its address',
            f"it written out: {written_out(address.ip)}",
            "heartbeat begins another argument there, and the group does not start",
        )
    if ":" in "".join(parts):
        report.warn(
            line,
            f"{quote(word)} has a label",
            f"the interface alone: {address.interface}",
            "IPv6 addresses have no labels; heartbeat takes it for a part of the interface's name",
        )


def written_out(ip: str) -> str:
    """An IPv6 address without `::`, as heartbeat needs it: `2001:db8:0:0:0:0:0:1`."""
    return ":".join(f"{int(part, 16):x}" for part in ipaddress.IPv6Address(ip).exploded.split(":"))


def read_resource(word: str) -> Resource:
    """A word of a line: `script`, `script::arg::arg`, or a bare dotted address. Raises Misread."""
    if _DOTTED.fullmatch(word):
        return Resource(kind=ResourceKind.ADDRESS, text=word, address=read_address(word))
    ip, *parts = word.split("/")
    try:
        ip = written_out(ip)
    except ValueError:
        pass
    else:
        raise Misread("an IPv4 address or a script", remedy=f"Write IPv6addr::{printable('/'.join((ip, *parts)))}")
    script, _, rest = word.partition("::")
    arguments = word.split("::")[1:]
    if not _SCRIPT.fullmatch(script):
        raise Misread("script, script::argument::argument, or an IPv4 address")
    v6 = ":" in rest.partition("/")[0] and not _DOTTED_START.match(rest)
    if script == "IPv6addr" or (script in _ADDRESS6_SCRIPTS and v6):
        return Resource(kind=ResourceKind.ADDRESS, text=word, address=read_address6(rest, script))
    if script in _ADDRESS_SCRIPTS and v6:
        remedy = f"Write IPv6addr::{printable(rest)}"
        raise Misread(f"{script}::ADDRESS/BITS/INTERFACE:LABEL with an IPv4 address", remedy=remedy)
    if script in _ADDRESS_SCRIPTS:
        if len(arguments) != 1:
            raise Misread(f"{script}::ADDRESS/BITS/INTERFACE:LABEL with one argument")
        return Resource(kind=ResourceKind.ADDRESS, text=word, address=read_address(arguments[0]))
    if script == "ldirectord":
        if len(arguments) > 1 or arguments == [""]:
            raise Misread("ldirectord or ldirectord::FILE")
        return Resource(kind=ResourceKind.IPVS, text=word, arguments=tuple(arguments))
    if script == "SendArp":
        return Resource(kind=ResourceKind.ANNOUNCE, text=word, announced=_announced(rest))
    if script == "MailTo":
        return Resource(kind=ResourceKind.MAIL, text=word, arguments=_mail(arguments))
    if script == "LVSSyncDaemonSwap":
        return Resource(kind=ResourceKind.SYNC, text=word, sync=_sync_daemon(arguments))
    return Resource(kind=ResourceKind.SCRIPT, text=word, script=script, arguments=tuple(arguments))


def _announced(text: str) -> Address:
    """heartbeat's `SendArp::IP/INTERFACE`; with an IPv6 address it is ours."""
    expected = "SendArp::ADDRESS/INTERFACE such as SendArp::192.0.2.10/eth1"
    ip, slash, device = text.partition("/")
    if not slash or "::" in device:
        raise Misread(expected)
    try:
        device = interface(device)
    except Misread:
        raise Misread(expected, remedy="It takes neither a prefix length nor a label") from None
    if _DOTTED_START.match(ip) or ":" not in ip:
        return Address(ip=_ip(ip, expected), prefix=32, interface=device)
    return Address(ip=ipv6_address(ip, expected), prefix=128, interface=device)


def _mail(arguments: list[str]) -> tuple[str, ...]:
    """heartbeat's `MailTo::ADDRESS,ADDRESS::SUBJECT`."""
    if len(arguments) not in (1, 2) or arguments[1:] == [""]:
        raise Misread("MailTo::ADDRESS,ADDRESS or MailTo::ADDRESS,ADDRESS::SUBJECT")
    for mailbox in arguments[0].split(","):
        if not _MAILBOX.fullmatch(mailbox):
            raise Misread("mail addresses such as root or admin@example.com, with commas between them")
    return tuple(arguments)


def _sync_daemon(arguments: list[str]) -> SyncDaemon:
    """heartbeat's `LVSSyncDaemonSwap::ROLE`; interface and number behind it are ours, with ipvsadm's defaults."""
    expected = "LVSSyncDaemonSwap::master or LVSSyncDaemonSwap::slave, then ::INTERFACE and ::ID if need be"
    if not 1 <= len(arguments) <= 3 or arguments[0] not in _SYNC_ROLES:
        raise Misread(expected)
    try:
        return SyncDaemon(
            role=_SYNC_ROLES[arguments[0]],
            interface=interface(arguments[1]) if len(arguments) > 1 else "eth0",
            sync_id=whole(arguments[2], 0, 255) if len(arguments) > 2 else 0,
        )
    except Misread as error:
        raise Misread(f"{expected}; {error.expected}") from None


def read_address(text: str) -> Address:
    """`ip[/bits[/interface[:label]][/broadcast]]`; a second part that begins with a digit is the broadcast address.

    Raises Misread.
    """
    ip, *parts = text.split("/")
    expected = "ADDRESS/BITS/INTERFACE:LABEL such as 192.0.2.10/24/eth0:0"
    prefix = whole_or(parts.pop(0), expected) if parts else 32
    device = label = broadcast = ""
    if parts and not parts[0][:1].isdigit():
        device, colon, suffix = parts.pop(0).partition(":")
        interface(device)
        label = f"{device}:{suffix}" if colon else ""
        if colon and (not suffix or ":" in suffix or len(label) > 15):
            raise Misread("INTERFACE:LABEL of at most 15 characters together, such as eth0:0 (the kernel's IFNAMSIZ)")
    if parts:
        broadcast = _ip(parts.pop(0), expected)
    if parts:
        raise Misread(expected)
    return Address(ip=_ip(ip, expected), prefix=prefix, interface=device, label=label, broadcast=broadcast)


def read_address6(text: str, script: str) -> Address:
    """`ip[/[bits][/interface[:label]]]`; the label, which IPv6 does not have, is left out.

    Raises Misread. Without bits the address's prefix length is 0, as in heartbeat: the interface decides.
    """
    expected = f"{script}::ADDRESS/BITS/INTERFACE such as {script}::{written_out('2001:db8::10')}/64/eth0"
    ip, *parts = text.split("/")
    bits = parts.pop(0) if parts else ""
    device = parts.pop(0).partition(":")[0] if parts else ""
    if parts:
        raise Misread(expected)
    found = ipaddress.IPv6Address(ipv6_address(ip, expected))
    if found.is_multicast or found.is_unspecified:
        raise Misread(f"{expected}, ADDRESS that of one machine")
    if found.is_link_local and not device:
        raise Misread(f"{expected}, INTERFACE not left out for a link-local address")
    return Address(
        ip=str(found),
        prefix=whole_or(bits, expected, 128) if bits else 0,
        interface=interface(device) if device else "",
    )


def whole_or(text: str, expected: str, high: int = 32) -> int:
    """A prefix length. Raises Misread."""
    try:
        return whole(text, 1, high)
    except Misread:
        raise Misread(f"{expected}, BITS from 1 to {high}") from None


def _ip(text: str, expected: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise Misread(expected) from None


def _unique(groups: list[PlacedGroup], report: Report) -> None:
    """Keys name groups in messages between the nodes; an address in two groups would be taken away by one of them."""
    keys: dict[str, int] = {}
    addresses: dict[str, int] = {}
    for placed in groups:
        key = placed.group.key
        if key in keys:
            report.error(
                placed.line,
                f"a second group begins with {quote(key)}",
                f"the first resource to differ from that of line {keys[key]}",
                "Join the lines or begin with another resource",
            )
            continue
        keys[key] = placed.line
        for resource in placed.group.resources:
            if resource.address is None:
                continue
            first = addresses.setdefault(resource.address.ip, placed.line)
            if first != placed.line or _count(placed.group, resource.address.ip) > 1:
                report.error(
                    placed.line,
                    f"address {resource.address.ip} is a resource twice",
                    f"it once (line {first} has it too)",
                )
                break


def _count(group: Group, ip: str) -> int:
    return sum(1 for r in group.resources if r.address is not None and r.address.ip == ip)
