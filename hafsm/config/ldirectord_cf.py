"""Reads ldirectord.cf: which directive may stand where, and what its value is.

How the directives of a section become a virtual service is decided in `ldirectord_service`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass

from hafsm.config.findings import Report, printable, quote, suggestion
from hafsm.config.ldirectord_grammar import Directive, Section, split
from hafsm.config.ldirectord_service import Scope, ServiceSection, build_service
from hafsm.config.ldirectord_values import Note, fallback_line, number, quoted, real_line, regular_expression, request
from hafsm.config.ldirectord_values import yes_no as read_yes_no
from hafsm.config.model import LdirectordCf
from hafsm.config.names import Misread, word_set
from hafsm.config.redact import without_userinfo
from hafsm.config.source import Source
from hafsm.core.settings import VirtualService

SECONDS_LIMIT = 86_400
PERSISTENT_LIMIT_S = 31 * 86_400
"""ipvsadm's limit: 31 days."""
_SCHEDULERS = ("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos")
_SERVICES_NOT_YET = (
    *("ftp", "smtp", "dns", "pop", "nntp", "imap", "ldap", "https", "submission", "ldaps", "imaps", "pops", "oracle"),
    *("radius", "http_proxy", "mysql", "sip", "pgsql", "simpletcp"),
)
_CHECKTYPES = ("negotiate", "connect", "on", "off")
_CHECKTYPES_NOT_YET = ("ping", "external", "external-perl")
_VIRTUALHOST = re.compile(r"[A-Za-z0-9._-]+(:[0-9]+)?")

NUMBERS: dict[str, tuple[int, int]] = {
    "checktimeout": (1, SECONDS_LIMIT),
    "negotiatetimeout": (1, SECONDS_LIMIT),
    "checkinterval": (1, SECONDS_LIMIT),
    "checkcount": (1, 1000),
    "failurecount": (1, 1000),
    "persistent": (0, PERSISTENT_LIMIT_S),
    "checkport": (1, 65535),
}
YES_NO = ("quiescent", "autoreload", "fork")
ONLY_DEFAULT = {"cleanstop": True, "readdquiescent": True, "ops": False}
"""yes/no directives accepted with the value that hafsm has anyway."""

GLOBAL_KEYS = word_set(
    "checktimeout negotiatetimeout checkinterval checkcount failurecount quiescent autoreload fork fallback "
    "cleanstop readdquiescent"
)
SECTION_KEYS = word_set(
    "checktimeout negotiatetimeout checkinterval checkcount failurecount quiescent fallback cleanstop ops real "
    "persistent checkport protocol scheduler netmask checktype service request receive virtualhost httpmethod"
)
NOT_YET = word_set(
    "callback checkcommand comment database emailalert emailalertfrom emailalertfreq emailalertstatus execute "
    "fallback6 fallbackcommand load logfile login maintenancedir monitorfile passwd real6 schedflags secret "
    "servicename smtp supervised virtual6"
)
"""ldirectord's other directives: recognised, refused."""
_KNOWN = GLOBAL_KEYS | SECTION_KEYS | NOT_YET | {"virtual"}


@dataclass(frozen=True, slots=True)
class ReadLdirectordCf:
    """What a ldirectord configuration says."""

    value: LdirectordCf
    lines: dict[str, int]
    """Key of a virtual service → line of its `virtual`."""


def read_ldirectord_cf(source: Source, report: Report) -> ReadLdirectordCf:
    """Every service that could be read; errors go to `report`. Blocks on the resolver when the file has host names."""
    globals_, sections = split(source, report)
    scope = Scope()
    for directive in globals_:
        _read(directive, scope, report, allowed=GLOBAL_KEYS, elsewhere="a virtual section")
    services: list[VirtualService] = []
    seen: dict[str, int] = {}
    for section in sections:
        service = _service(section, scope, report)
        if service is None:
            continue
        line = section.head.line
        if service.key in seen:
            report.error(
                line,
                f"virtual service {service.key} is here again",
                f"it once (line {seen[service.key]} has it)",
                "Join the two sections",
            )
            continue
        seen[service.key] = line
        services.append(service)
    autoreload = bool(scope.numbers.get("autoreload", 0))
    value = LdirectordCf(file=str(source.path.absolute()), autoreload=autoreload, services=tuple(services))
    return ReadLdirectordCf(value, seen)


def _service(section: Section, global_scope: Scope, report: Report) -> VirtualService | None:
    head = section.head
    if head.key == "virtual6":
        report.error(head.line, '"virtual6" is not supported yet', "virtual=ADDRESS:PORT with an IPv4 address")
        return None
    errors = len(report.findings)
    scope = Scope()
    for directive in section.body:
        _read(directive, scope, report, allowed=SECTION_KEYS, elsewhere="column 0")
    sound = not any(finding.is_error for finding in report.findings[errors:])
    built = build_service(ServiceSection(head, scope), global_scope, report)
    return built if sound else None


def _read(directive: Directive, scope: Scope, report: Report, *, allowed: frozenset[str], elsewhere: str) -> None:
    """Put one directive into its scope, or say why not."""
    key, line = directive.key, directive.line

    def note(found: str, expected: str, remedy: str) -> None:
        report.warn(line, f"{key}: {found}", expected, remedy)

    if key in NOT_YET:
        report.error(line, f'"{key}" is not supported yet', "only directives that hafsm carries out", "Remove the line")
    elif key not in _KNOWN:
        report.error(line, f"unknown directive {quote(key)}", "a directive of ldirectord.cf", suggestion(key, _KNOWN))
    elif key not in allowed:
        report.error(line, f'"{key}" stands in the wrong place', f"it in {elsewhere}")
    elif directive.value is None:
        report.error(line, f'"{key}" without "="', f"{key} = value")
    else:
        try:
            _value(key, directive.value, line, scope, note)
        except Misread as error:
            scope.broken.add(key)
            report.error(
                line,
                error.found or f"{key}={printable(without_userinfo(directive.value))}",
                error.expected,
                error.remedy,
            )
        scope.lines[key] = line


def _value(key: str, value: str, line: int, scope: Scope, note: Note) -> None:
    """Raises Misread."""
    if key in scope.lines and key != "real":
        note(f"given in line {scope.lines[key]} already", "it once", "The last one counts")
    if key in NUMBERS:
        scope.numbers[key] = number(value, *NUMBERS[key], note)
        if key == "checkcount":
            note("only ping checks use it", "nothing", "Remove the line")
    elif key in YES_NO:
        scope.numbers[key] = int(read_yes_no(value))
    elif key in ONLY_DEFAULT:
        if read_yes_no(value) is not ONLY_DEFAULT[key]:
            raise Misread(
                f"{key}={'yes' if ONLY_DEFAULT[key] else 'no'}", remedy="The other value is not supported yet"
            )
    elif key == "real":
        scope.reals.append(real_line(line, value, note))
    elif key == "fallback":
        scope.fallback = fallback_line(line, value)
    else:
        scope.words[key] = _WORDS[key](value, note)


def _protocol(value: str, _: Note) -> str:
    return _one_of(value, ("tcp", "udp", "fwm"))


def _scheduler(value: str, _: Note) -> str:
    if value not in _SCHEDULERS:
        raise Misread(
            f"a scheduler of the kernel: {', '.join(_SCHEDULERS)}",
            remedy=suggestion(value, _SCHEDULERS) if len(value) > 2 else "",
        )
    return value


def _netmask(value: str, _: Note) -> str:
    expected = "a netmask such as 255.255.255.0"
    try:
        mask = int(ipaddress.IPv4Address(value))
    except ValueError:
        raise Misread(expected) from None
    inverted = mask ^ 0xFFFFFFFF
    if not mask or inverted & (inverted + 1):
        raise Misread(expected)
    return value


def _checktype(value: str, note: Note) -> str:
    word = value.strip('"')
    if word != value:
        note("in quotes", "it without quotes", "")
    if word in _CHECKTYPES_NOT_YET or re.search(r"[0-9]", word):
        raise Misread(f"one of {', '.join(_CHECKTYPES)}", found=f"checktype {quote(word)} is not supported yet")
    return _one_of(word, _CHECKTYPES)


def _service_word(value: str, _: Note) -> str:
    if value in _SERVICES_NOT_YET:
        raise Misread(
            "http or none",
            found=f"service {quote(value)} is not supported yet",
            remedy="checktype=connect works for any port",
        )
    return _one_of(value, ("http", "none"))


def _virtualhost(value: str, note: Note) -> str:
    host = value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
    if not host:
        note("no host", "a host name", "The real server's address is sent as Host, as without the line")
        return ""
    if not _VIRTUALHOST.fullmatch(host):
        raise Misread("a host name such as www.example.com")
    return host


def _httpmethod(value: str, _: Note) -> str:
    return _one_of(value.upper(), ("GET", "HEAD"))


def _one_of(value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise Misread(f"one of {', '.join(known)}", remedy=suggestion(value, known))
    return value


_WORDS: dict[str, Callable[[str, Note], str]] = {
    "protocol": _protocol,
    "scheduler": _scheduler,
    "netmask": _netmask,
    "checktype": _checktype,
    "service": _service_word,
    "request": lambda value, note: request(quoted(value), note),
    "receive": lambda value, _: regular_expression(quoted(value)),
    "virtualhost": _virtualhost,
    "httpmethod": _httpmethod,
}
