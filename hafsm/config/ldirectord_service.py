"""A section of ldirectord.cf becomes a virtual service: defaults, inheritance, ports, fallback, mail."""

from __future__ import annotations

import re
from dataclasses import dataclass

from msgspec.structs import replace

from hafsm.config.findings import Report, printable, quote
from hafsm.config.ldirectord_check import Place, SectionCheck, Virtual
from hafsm.config.ldirectord_grammar import Directive
from hafsm.config.ldirectord_scope import Gathered, Scope
from hafsm.config.ldirectord_values import (
    FallbackLine,
    Note,
    host_address,
    is_port_name,
    service_port,
    target,
    unquoted,
)
from hafsm.config.names import Misread
from hafsm.core.settings import SECOND, Forwarding, MailAlert, MailPhase, RealServer, VirtualService

_VIRTUAL_HOST = re.compile(r"[A-Za-z0-9._+-]+|\[[^\]]*\]")
_MARK_LIMIT = 2**32 - 1
_MARK_FAMILY_6 = "::"
"""The kernel interface's way to say that a mark is on IPv6 packets."""


@dataclass(frozen=True, slots=True)
class ServiceSection:
    """A `virtual` line and what stands below it."""

    head: Directive
    scope: Scope


def build_service(
    section: ServiceSection, globals_: Scope, gathered: Gathered, report: Report
) -> VirtualService | None:
    """The service, or None with errors in `report`. May block on the resolver."""
    head, scope = section.head, section.scope
    before = report.errors

    def note(found: str, expected: str, remedy: str) -> None:
        report.warn(head.line, f"{head.key}: {found}", expected, remedy)

    try:
        virtual = _virtual(head.value or "", head.key, scope, note)
    except Misread as error:
        found = error.found or f"{head.key}={printable(head.value or '')}"
        report.error(head.line, found, error.expected, error.remedy)
        return None
    place = Place(head.line, virtual, scope, globals_, gathered, report)
    check = SectionCheck(place)
    reals = _reals(place, check)
    if not scope.reals and place.sound("real", "real6"):
        report.warn(head.line, "a virtual service without a real server", "a real= line in its section")
    words, persistent = scope.words, scope.numbers.get("persistent", 0)
    service = VirtualService(
        protocol=virtual.protocol,
        address=virtual.address,
        port=virtual.port,
        mark=virtual.mark,
        scheduler=words.get("scheduler", "wrr"),
        scheduler_flags=_scheduler_flags(place),
        one_packet=_one_packet(place),
        persistent_s=persistent,
        netmask=_netmask(place) if persistent else "",
        quiescent=bool(place.number("quiescent", 0)),
        readd_quiescent=bool(globals_.numbers.get("readdquiescent", 0)),
        failurecount=place.number("failurecount", 1),
        clean_stop=bool(place.number("cleanstop", 1)),
        reals=reals,
        fallback=_fallback(place),
        fallback_command=_fallback_command(scope, globals_),
        alert=_alert(place),
        name=words.get("servicename", ""),
        comment=words.get("comment", ""),
        monitor_file=words.get("monitorfile", ""),
    )
    if persistent == 0 and "netmask" in words:
        report.warn(scope.lines["netmask"], "netmask without persistent", "persistent= too", "It has no effect")
    return service if report.errors == before else None


def _virtual(value: str, key: str, scope: Scope, note: Note) -> Virtual:
    """`ADDRESS:PORT` or a firewall mark, with the section's protocol. Raises Misread."""
    six = key.endswith("6")
    example = "[2001:db8::1]:80" if six else "192.0.2.1:80"
    expected = f"ADDRESS:PORT such as {example}, or a firewall mark such as 7"
    value, *behind = value.split(None, 1) or [""]
    if behind:
        note(f"{quote(behind[0])} behind the service", "nothing", "It is not looked at, as in ldirectord")
    written = scope.words.get("protocol")
    if value.isascii() and value.isdigit():
        if len(value) > 10 or not 1 <= int(value) <= _MARK_LIMIT:
            raise Misread(f"a firewall mark from 1 to {_MARK_LIMIT}")
        if written not in (None, "fwm"):
            raise Misread("protocol=fwm for a firewall mark", found=f"protocol={written} with firewall mark {value}")
        return Virtual("fwm", address=_MARK_FAMILY_6 if six else "", mark=int(value))
    host, last, port_text = target(value, expected)
    if last or port_text is None or not _VIRTUAL_HOST.fullmatch(host):
        remedy = "ldirectord would take its first digits for a firewall mark" if host[:1].isdigit() else ""
        raise Misread(expected, remedy="" if last or port_text is not None else remedy)
    if written == "fwm":
        raise Misread("protocol=tcp or udp for an address", found=f"protocol=fwm with address {quote(value)}")
    protocol = written or ("udp" if port_text in ("53", "domain") else "tcp")
    number = service_port(port_text, protocol)
    if number == 0:
        raise Misread("a port from 1 to 65535")
    return Virtual(protocol, address=host_address(host, key, note), port=number)


def _reals(place: Place, check: SectionCheck) -> tuple[RealServer, ...]:
    reals: dict[str, RealServer] = {}
    virtual = place.virtual
    for line in place.scope.reals:
        spec = check.for_real(line)
        if not _reachable(place, line.line, line.addresses[0], line.forwarding):
            continue
        for address in line.addresses:
            real = RealServer(
                address=address,
                port=_kernel_port(line.port, line.forwarding, virtual),
                forwarding=line.forwarding,
                weight=line.weight,
                check=replace(spec, address=address),
                upper_threshold=line.upper_threshold,
                lower_threshold=line.lower_threshold,
            )
            known = reals.setdefault(real.key, real)
            if known is not real:
                say = place.report.warn if known == real else place.report.error
                say(line.line, f"real server {real.key} is in this section already", "each real server once")
    return tuple(reals.values())


def _reachable(place: Place, line: int, address: str, forwarding: Forwarding) -> bool:
    """Only a tunnel carries one family in the other."""
    if (":" in address) == place.virtual.six or forwarding is Forwarding.IPIP:
        return True
    own, other = ("IPv6", "IPv4") if place.virtual.six else ("IPv4", "IPv6")
    place.report.error(
        line,
        f"the {other} address {address} for an {own} service with {forwarding.value}",
        f"an {own} address, or ipip",
    )
    return False


def _kernel_port(written: int, forwarding: Forwarding, virtual: Virtual) -> int:
    """Only masq translates ports: gate and ipip entries hold the service's own, as ipvsadm stores them."""
    return written or virtual.port if forwarding is Forwarding.MASQ else virtual.port


def _scheduler_flags(place: Place) -> tuple[str, ...]:
    flags = place.scope.lists.get("schedflags", ())
    scheduler = place.scope.words.get("scheduler", "wrr")
    for flag in flags:
        owner = flag.partition("-")[0]
        if owner != "flag" and owner != scheduler and place.sound("scheduler"):
            place.report.error(
                place.scope.lines["schedflags"],
                f"schedflags={flag} with scheduler={scheduler}",
                f"scheduler={owner}",
                "The kernel's other schedulers would take it for something else",
            )
    return flags


def _one_packet(place: Place) -> bool:
    if not place.scope.numbers.get("ops"):
        return False
    protocol = place.virtual.protocol
    if protocol in ("tcp", "sctp"):
        place.report.warn(place.scope.lines["ops"], f"ops with protocol={protocol}", "protocol=udp", "It has no effect")
    elif protocol == "fwm":
        place.report.warn(
            place.scope.lines["ops"],
            "ops with a firewall mark",
            "protocol=udp",
            "ldirectord leaves it out, hafsm does it",
        )
    return protocol in ("udp", "fwm")


def _netmask(place: Place) -> str:
    netmask = place.scope.words.get("netmask", "")
    if netmask and ("." in netmask) == place.virtual.six:
        place.report.error(
            place.scope.lines["netmask"],
            f"netmask={netmask} for an {'IPv6' if place.virtual.six else 'IPv4'} service",
            "a prefix length from 1 to 128" if place.virtual.six else "a netmask such as 255.255.255.0",
        )
    return netmask


def _fallback(place: Place) -> RealServer | None:
    """The section's own, else the global one of the family."""
    key, other = ("fallback6", "fallback") if place.virtual.six else ("fallback", "fallback6")
    own = place.scope.fallbacks
    line = own.get(key)
    if other in own:
        if line is None:
            line = own[other]
        place.report.warn(
            own[other].line,
            f"{other} for an {'IPv6' if place.virtual.six else 'IPv4'} service",
            f"{key}=",
            "ldirectord refuses it" if line is own[other] else f"{key}= counts",
        )
    if line is None:
        line = place.globals_.fallbacks.get(key)
        if line is not None and place.virtual.mark:
            place.report.warn(
                place.line,
                f"the global fallback serves firewall mark {place.virtual.mark} too",
                f"{key}= in the section",
                "ldirectord makes a useless entry of it",
            )
    return _fallback_server(place, line) if line else None


def _fallback_server(place: Place, line: FallbackLine) -> RealServer | None:
    virtual = place.virtual
    try:
        number = service_port(line.port, virtual.protocol) if line.port else virtual.port
    except Misread as error:
        place.report.error(line.line, f"fallback port {quote(line.port)}", error.expected, error.remedy)
        return None
    if not _reachable(place, line.line, line.address, line.forwarding):
        return None
    if number != virtual.port and virtual.port and line.forwarding is not Forwarding.MASQ:
        common = line is place.globals_.fallbacks.get("fallback6" if virtual.six else "fallback")
        reached = "the port of each service" if common else f"port {virtual.port}"
        place.report.warn(
            line.line,
            f"{line.forwarding.value} cannot change the port: the fallback is reached at {reached}",
            "no port, or masq" if common else f"port {virtual.port}, or masq",
        )
    return RealServer(
        address=line.address, port=_kernel_port(number, line.forwarding, virtual), forwarding=line.forwarding
    )


def lint_global_fallbacks(globals_: Scope, report: Report) -> None:
    """Names of ports that ldirectord does not accept there."""
    for key, line in globals_.fallbacks.items():
        if line.port and not line.port.isdigit() and not all(is_port_name(line.port, p) for p in ("tcp", "udp")):
            report.warn(
                line.line,
                f"{key}: port {quote(line.port)} is not known for both tcp and udp",
                "the port's number",
                "ldirectord refuses it",
            )


def _fallback_command(scope: Scope, globals_: Scope) -> str:
    """ldirectord strips quotes round the whole in a section only; the global one reaches the shell with them."""
    own = scope.words.get("fallbackcommand")
    return globals_.words.get("fallbackcommand", "") if own is None else unquoted(own)


def _alert(place: Place) -> MailAlert | None:
    scope, globals_ = place.scope, place.globals_

    def texts(key: str) -> tuple[str, ...] | None:
        return scope.lists.get(key, globals_.lists.get(key))

    to = texts("emailalert")
    if to is None:
        for key in ("emailalertfreq", "emailalertstatus", "smtp"):
            if key in scope.lines and place.sound("emailalert"):
                place.report.warn(scope.lines[key], f"{key} without emailalert", "emailalert= too", "It has no effect")
        return None
    phases = texts("emailalertstatus")
    return MailAlert(
        to=to,
        sender=globals_.words.get("emailalertfrom", ""),
        again_ns=place.number("emailalertfreq", 0) * SECOND,
        phases=tuple(MailPhase) if phases is None else tuple(map(MailPhase, phases)),
        smtp=scope.words.get("smtp", globals_.words.get("smtp", "")),
    )
