"""A section of ldirectord.cf becomes a virtual service: defaults, inheritance, ports, the check of each real server."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from msgspec.structs import replace

from hafsm.config.findings import Report, printable, quote
from hafsm.config.ldirectord_grammar import Directive
from hafsm.config.ldirectord_values import FallbackLine, RealLine, regular_expression, request
from hafsm.config.names import Misread, ipv4, port
from hafsm.core.settings import SECOND, CheckKind, CheckSpec, Forwarding, RealServer, VirtualService

_PORT_SERVICES = {
    21: "ftp",
    25: "smtp",
    53: "dns",
    80: "http",
    110: "pop",
    119: "nntp",
    143: "imap",
    389: "ldap",
    443: "https",
    587: "submission",
    636: "ldaps",
    993: "imaps",
    995: "pops",
    1521: "oracle",
    1812: "radius",
    3128: "http_proxy",
    3306: "mysql",
    5060: "sip",
    5432: "pgsql",
}
"""The port implies the service of a negotiate check; any other port and every mark imply `none`."""
_HTTP_PORT = 80
_VIRTUAL_HOST = re.compile(r"[A-Za-z0-9._+-]+")
_MARK_LIMIT = 2**32 - 1


@dataclass(slots=True)
class Scope:
    """The directives of one place: the global ones, or those of a section."""

    numbers: dict[str, int] = field(default_factory=dict)
    """Numbers as written, yes/no as 1 and 0."""
    words: dict[str, str] = field(default_factory=dict)
    reals: list[RealLine] = field(default_factory=list)
    fallback: FallbackLine | None = None
    lines: dict[str, int] = field(default_factory=dict)
    """Directive → line that counts."""
    broken: set[str] = field(default_factory=set)
    """Directives in error."""


@dataclass(frozen=True, slots=True)
class ServiceSection:
    """A `virtual` line and what stands below it."""

    head: Directive
    scope: Scope


@dataclass(frozen=True, slots=True)
class _Virtual:
    protocol: str
    address: str = ""
    port: int = 0
    mark: int = 0


def build_service(section: ServiceSection, globals_: Scope, report: Report) -> VirtualService | None:
    """The service, or None with errors in `report`."""
    head, scope = section.head, section.scope
    before = len(report.findings)
    try:
        virtual = _virtual(head.value or "", scope)
    except Misread as error:
        report.error(head.line, error.found or f"virtual={printable(head.value or '')}", error.expected, error.remedy)
        return None
    kind = _check_kind(head.line, virtual, scope, report)
    reals = _reals(virtual, kind, scope, globals_, report)
    if not scope.reals and "real" not in scope.broken:
        report.warn(head.line, "a virtual service without a real server", "a real= line in its section")
    if "netmask" in scope.words and not scope.numbers.get("persistent"):
        report.warn(scope.lines["netmask"], "netmask without persistent", "persistent= too", "It has no effect")
    fallback = scope.fallback or globals_.fallback
    service = VirtualService(
        protocol=virtual.protocol,
        address=virtual.address,
        port=virtual.port,
        mark=virtual.mark,
        scheduler=scope.words.get("scheduler", "wrr"),
        persistent_s=scope.numbers.get("persistent", 0),
        netmask=scope.words.get("netmask", "") if scope.numbers.get("persistent") else "",
        quiescent=bool(scope.numbers.get("quiescent", globals_.numbers.get("quiescent", 0))),
        failurecount=scope.numbers.get("failurecount", globals_.numbers.get("failurecount", 1)),
        reals=reals,
        fallback=_fallback(fallback, virtual, report) if fallback else None,
    )
    return None if any(finding.is_error for finding in report.findings[before:]) else service


def _virtual(value: str, scope: Scope) -> _Virtual:
    """`ADDRESS:PORT` or a firewall mark, with the section's protocol. Raises Misread."""
    expected = "ADDRESS:PORT such as 192.0.2.1:80, or a firewall mark such as 7"
    written = scope.words.get("protocol")
    if value.isascii() and value.isdigit():
        if len(value) > 10 or not 1 <= int(value) <= _MARK_LIMIT:
            raise Misread(f"a firewall mark from 1 to {_MARK_LIMIT}")
        if written not in (None, "fwm"):
            raise Misread("protocol=fwm for a firewall mark", found=f"protocol={written} with firewall mark {value}")
        return _Virtual("fwm", mark=int(value))
    host, colon, port_text = value.partition(":")
    if value.startswith("["):
        raise Misread(expected, remedy="IPv6 is not supported yet")
    if not colon or not _VIRTUAL_HOST.fullmatch(host):
        remedy = "" if colon or not host else "ldirectord would take its first digits for a firewall mark"
        raise Misread(expected, remedy=remedy)
    if written == "fwm":
        raise Misread("protocol=tcp or udp for an address", found=f"protocol=fwm with address {quote(value)}")
    protocol = written or ("udp" if port_text in ("53", "domain") else "tcp")
    number = port(port_text, protocol)
    if number == 0:
        raise Misread("a port from 1 to 65535")
    return _Virtual(protocol, address=ipv4(host), port=number)


def _check_kind(line: int, virtual: _Virtual, scope: Scope, report: Report) -> CheckKind:
    """checktype and service together; what hafsm cannot check yet is an error at the directive, or at `virtual`."""
    checktype = scope.words.get("checktype", "negotiate")
    at = scope.lines.get("checktype", line)
    if checktype == "on":
        return CheckKind.ALWAYS_UP
    if checktype == "off":
        return CheckKind.ALWAYS_DOWN
    if checktype == "connect":
        if virtual.protocol == "udp":
            report.error(
                at,
                "checktype=connect with protocol=udp is not supported yet",
                "checktype=on",
                "ldirectord pings instead",
            )
        return CheckKind.CONNECT
    implied = "none" if virtual.protocol == "fwm" else _PORT_SERVICES.get(virtual.port, "none")
    service = scope.words.get("service", implied)
    at = scope.lines.get("service", at)
    if service == "none":
        if "service" not in scope.broken and "checktype" not in scope.broken:
            report.warn(
                at,
                "checktype=negotiate without a service checks nothing: every real server counts as up",
                "service=http, or checktype=connect",
            )
        return CheckKind.ALWAYS_UP
    if service != "http":
        if "service" not in scope.broken and "checktype" not in scope.broken:
            report.error(
                at,
                f"port {virtual.port} implies service={service}, which is not supported yet",
                "service=http or none",
                "checktype=connect works for any port",
            )
    elif virtual.protocol == "udp":
        report.error(at, "service=http with protocol=udp", "protocol=tcp")
    return CheckKind.HTTP


def _reals(virtual: _Virtual, kind: CheckKind, scope: Scope, globals_: Scope, report: Report) -> tuple[RealServer, ...]:
    reals: dict[str, RealServer] = {}
    template = _template(kind, scope, globals_, report)
    for line in scope.reals:
        check_port = _check_port(line, virtual, kind, scope, report)
        spec = _own_request(line, template, report)
        for address in line.addresses:
            real = RealServer(
                address=address,
                port=_kernel_port(line.port, line.forwarding, virtual),
                forwarding=line.forwarding,
                weight=line.weight,
                check=replace(spec, address=address, port=check_port),
                upper_threshold=line.upper_threshold,
                lower_threshold=line.lower_threshold,
            )
            known = reals.setdefault(real.key, real)
            if known is not real:
                say = report.warn if known == real else report.error
                say(line.line, f"real server {real.key} is in this section already", "each real server once")
    return tuple(reals.values())


def _kernel_port(written: int, forwarding: Forwarding, virtual: _Virtual) -> int:
    """Only masq translates ports: gate and ipip entries hold the service's own, as ipvsadm stores them."""
    return written or virtual.port if forwarding is Forwarding.MASQ else virtual.port


def _check_port(line: RealLine, virtual: _Virtual, kind: CheckKind, scope: Scope, report: Report) -> int:
    """checkport, else the real server's port, else the service's (80 for http behind a firewall mark)."""
    if line.port and virtual.port and line.port != virtual.port and line.forwarding is not Forwarding.MASQ:
        report.warn(
            line.line,
            f"{line.forwarding.value} cannot change the port: traffic goes to port {virtual.port}",
            f"port {virtual.port}, or masq",
            f"Port {line.port} is only checked" if "checkport" not in scope.numbers else "",
        )
    if not line.port and virtual.port:
        report.warn(
            line.line, f"no port: {virtual.port} is used", f"HOST:{virtual.port}", "ldirectord would use port 0"
        )
    found = scope.numbers.get("checkport") or line.port or virtual.port
    if found or kind in (CheckKind.ALWAYS_UP, CheckKind.ALWAYS_DOWN):
        return found
    if kind is CheckKind.CONNECT:
        report.error(line.line, "no port to connect to", "checkport=, or a port behind the real server")
    return _HTTP_PORT


def _template(kind: CheckKind, scope: Scope, globals_: Scope, report: Report) -> CheckSpec:
    """The section's check, still without address and port."""
    connect, negotiate = timeouts_s(scope.numbers, globals_.numbers)
    interval = globals_.numbers.get("checkinterval", 10)
    if "checkinterval" in scope.numbers:
        if globals_.numbers.get("fork"):
            interval = scope.numbers["checkinterval"]
        else:
            report.warn(
                scope.lines["checkinterval"],
                "checkinterval in a section without fork=yes",
                f"fork=yes above (the global one, {interval} s, counts)",
            )
    spec = CheckSpec(
        kind=kind,
        address="",
        port=0,
        interval_ns=interval * SECOND,
        timeout_ns=(negotiate if kind is CheckKind.HTTP else connect) * SECOND,
    )
    if kind is not CheckKind.HTTP:
        return spec
    method, receive = scope.words.get("httpmethod", "GET"), scope.words.get("receive", "")
    if method == "HEAD" and receive:
        report.error(
            scope.lines["receive"],
            "receive with httpmethod=HEAD never matches: the answer has no body",
            "one of the two",
        )
    return replace(
        spec,
        request=scope.words.get("request", "/"),
        receive=receive,
        method=method,
        virtualhost=scope.words.get("virtualhost", ""),
    )


def timeouts_s(section: dict[str, int], globals_: dict[str, int]) -> tuple[int, int]:
    """(for connect checks, for negotiate checks): each timeout is the other's default, the section first."""
    order = [scope.get(key) for scope in (section, globals_) for key in ("checktimeout", "negotiatetimeout")]
    connect = next((value for value in order if value is not None), 5)
    order = [scope.get(key) for scope in (section, globals_) for key in ("negotiatetimeout", "checktimeout")]
    return connect, next((value for value in order if value is not None), 30)


def _own_request(line: RealLine, template: CheckSpec, report: Report) -> CheckSpec:
    """The section's check with the request and receive of the real line, if it has them."""
    if template.kind is not CheckKind.HTTP or not line.request:
        return template

    def note(found: str, expected: str, remedy: str) -> None:
        report.warn(line.line, f"real: {found}", expected, remedy)

    try:
        return replace(template, request=request(line.request, note), receive=regular_expression(line.receive))
    except Misread as error:
        report.error(
            line.line,
            error.found or f"real with {quote(line.request)}, {quote(line.receive)}",
            error.expected,
            error.remedy,
        )
        return template


def _fallback(line: FallbackLine, virtual: _Virtual, report: Report) -> RealServer | None:
    protocol = "tcp" if virtual.protocol == "fwm" else virtual.protocol
    try:
        number = port(line.port, protocol) if line.port else virtual.port
    except Misread as error:
        report.error(line.line, f"fallback port {quote(line.port)}", error.expected, error.remedy)
        return None
    if number != virtual.port and virtual.port and line.forwarding is not Forwarding.MASQ:
        report.warn(
            line.line,
            f"{line.forwarding.value} cannot change the port: the fallback is reached at port {virtual.port}",
            f"port {virtual.port}, or masq",
        )
    return RealServer(
        address=line.address, port=_kernel_port(number, line.forwarding, virtual), forwarding=line.forwarding
    )
