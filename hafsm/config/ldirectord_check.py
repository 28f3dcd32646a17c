"""How a section of ldirectord.cf has its real servers checked: the kind, the question, the port, the deadline.

What a service uses, and what it cannot do without, is that of ldirectord 1.186.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from msgspec.structs import replace

from hafsm.config.findings import Report, quote
from hafsm.config.ldirectord_directives import PORT_SERVICES, receive
from hafsm.config.ldirectord_scope import Gathered, Scope
from hafsm.config.ldirectord_values import USERINFO, Note, RealLine, http_request, without_user
from hafsm.config.names import Misread
from hafsm.core.settings import SECOND, CheckKind, CheckSpec, Forwarding

_HTTP = frozenset({"http", "https", "http_proxy"})
_SQL = frozenset({"mysql", "pgsql", "oracle"})
_ASKING = _HTTP | _SQL | {"ftp", "ldap", "ldaps", "dns", "simpletcp"}
_WITH_PASSWORD = _SQL | {"pop", "pops", "imap", "imaps", "ftp", "ldap", "ldaps", "radius"}
_UNPORTED = frozenset({"ping", "external", "external-perl", "on", "off", "none"})
"""They need no port of a service."""
_QUICK = frozenset({"connect", "ping", "external", "external-perl", "ldap", "ldaps", "radius"})
"""Their deadline is `checktimeout`, that of the others `negotiatetimeout`."""
_ANY_TRANSPORT = frozenset({"dns", "sip", "simpletcp", "connect", "radius"}) | _UNPORTED
"""Not bound to TCP, or to no transport at all."""
USERS: dict[str, frozenset[str]] = {
    "request": _ASKING,
    "receive": _ASKING - _SQL,
    "httpmethod": _HTTP,
    "virtualhost": frozenset({"http", "https"}),
    "login": _WITH_PASSWORD | {"sip"},
    "passwd": _WITH_PASSWORD,
    "database": _SQL,
    "secret": frozenset({"radius"}),
    "checkcommand": frozenset({"external", "external-perl"}),
    "checkcount": frozenset({"ping"}),
    "checkport": (frozenset(PORT_SERVICES.values()) | {"simpletcp", "connect"}),
}
"""Directive → services of negotiate, or check types, that use it."""
_TYPES = ("connect", "ping", "external", "external-perl", "on", "off")
_DEFAULT_PORTS = {service: port for port, service in PORT_SERVICES.items()}
_DEFAULT_COMMAND = ("/bin/true",)


@dataclass(frozen=True, slots=True)
class Virtual:
    """What a `virtual` line names."""

    protocol: str
    address: str = ""
    port: int = 0
    mark: int = 0

    @property
    def six(self) -> bool:
        return ":" in self.address

    @property
    def shown(self) -> tuple[str, str]:
        """As external checks are told it."""
        if self.mark:
            return str(self.mark), "0"
        return (f"[{self.address}]" if self.six else self.address), str(self.port)


@dataclass(frozen=True, slots=True)
class Place:
    """A section with all that its meaning depends on."""

    line: int
    """Of its `virtual`."""
    virtual: Virtual
    scope: Scope
    globals_: Scope
    gathered: Gathered
    report: Report

    def at(self, *keys: str) -> int:
        """Line of the first of these directives that the section has, else of its `virtual`."""
        return next((self.scope.lines[key] for key in keys if key in self.scope.lines), self.line)

    def number(self, key: str, default: int) -> int:
        """The section's, else the global one."""
        return self.scope.numbers.get(key, self.globals_.numbers.get(key, default))

    def sound(self, *keys: str) -> bool:
        """Whether none of the directives is in error."""
        return not self.scope.broken.intersection(keys)


@dataclass(frozen=True, slots=True)
class Judge:
    """How the servers of a section are judged."""

    name: str
    """A service of negotiate, or a check type."""
    connects: int = 0
    """`checktype=N`."""

    @property
    def shown(self) -> str:
        return f"checktype={self.name}" if self.name in _TYPES else f"service={self.name}"


class SectionCheck:
    """The check of one section, fitted to each of its real servers."""

    def __init__(self, place: Place) -> None:
        """Remarks about the section go to its report."""
        self._place = place
        self.judge = _judge(place)
        self._template = self._section_spec()
        _lint(place, self.judge)

    def for_real(self, line: RealLine) -> CheckSpec:
        """The check of the servers of a `real` line, without its address. Remarks go to the section's report."""
        place, name, spec = self._place, self.judge.name, self._template
        port = self._port(line)
        if not line.request:
            self._require_url(spec, place.at("request", "service", "checktype"))
            return replace(spec, port=port)
        if name not in _ASKING:
            place.report.warn(
                line.line, f"request and receive have no effect with {self.judge.shown}", "a line without them"
            )
            return replace(spec, port=port)

        def note(found: str, expected: str, remedy: str) -> None:
            place.report.warn(line.line, f"real: {found}", expected, remedy)

        try:
            spec = self._ask(spec, line.request, note)
            if name in USERS["receive"]:
                spec = replace(spec, receive=receive(line.receive, note))
        except Misread as error:
            place.report.error(line.line, "the request and receive of the server", error.expected, error.remedy)
        self._require_url(spec, line.line)
        return replace(spec, port=port)

    def _require_url(self, spec: CheckSpec, line: int) -> None:
        if self.judge.name == "http_proxy" and not spec.request.startswith("http://"):
            self._place.report.error(
                line,
                "service=http_proxy without a URL to ask the proxy for",
                'request="http://www.example.com/"',
                "ldirectord counts such servers as down",
            )

    def _section_spec(self) -> CheckSpec:
        place, name = self._place, self.judge.name
        words, lists = place.scope.words, place.scope.lists
        quick, patient = timeouts_s(place.scope.numbers, place.globals_.numbers)
        attempts = place.number("checkcount", 1) if name == "ping" else 1
        timeout = quick * attempts if name in _QUICK else patient
        spec = CheckSpec(
            kind=CheckKind.ALWAYS_UP if name == "none" else CheckKind(name),
            address="",
            port=0,
            interval_ns=_interval_s(place) * SECOND,
            timeout_ns=timeout * SECOND,
            protocol=_transport(name, place.virtual.protocol),
            attempts=attempts,
            connects=self.judge.connects,
            connect_timeout_ns=quick * SECOND if self.judge.connects and quick != timeout else 0,
        )

        def used(key: str) -> bool:
            return name in USERS[key]

        if used("checkcommand"):
            spec = replace(spec, command=lists.get("checkcommand", _DEFAULT_COMMAND), virtual=place.virtual.shown)
        if used("receive"):
            spec = replace(spec, receive=words.get("receive", ""))
        if used("httpmethod"):
            spec = replace(spec, method=words.get("httpmethod", "GET"))
        if used("virtualhost"):
            spec = replace(spec, virtualhost=words.get("virtualhost", ""))
        if used("login"):
            spec = replace(spec, login=words.get("login", _default_login(name)))
        if used("passwd"):
            written = words.get("passwd", f"ldirectord@{_host()}" if name == "ftp" else "")
            spec = replace(spec, password=place.gathered.keep(written.encode("utf-8", "surrogateescape")))
        if used("secret"):
            secret = words.get("secret", "").encode("utf-8", "surrogateescape")
            spec = replace(spec, secret=place.gathered.keep(secret))
        if used("database"):
            spec = replace(spec, database=words.get("database", ""))
        if used("request") and "request" in words:
            spec = self._section_request(spec, words["request"])
        return spec

    def _section_request(self, spec: CheckSpec, written: str) -> CheckSpec:
        line = self._place.at("request")

        def note(found: str, expected: str, remedy: str) -> None:
            self._place.report.warn(line, f"request: {found}", expected, remedy)

        try:
            return self._ask(spec, written, note)
        except Misread as error:
            shown = "" if USERINFO.search(written) else f"={quote(written)}"
            self._place.report.error(line, f"request{shown}", error.expected, error.remedy)
            return spec

    def _ask(self, spec: CheckSpec, written: str, note: Note) -> CheckSpec:
        """The check with this question. Raises Misread."""
        name = self.judge.name
        if name not in _HTTP:
            return replace(spec, request=without_user(written if written.startswith("/") else f"/{written}"))
        scheme = "https" if name == "https" else "http"
        asked = http_request(written, scheme, note)
        if name != "http_proxy" and not asked.request.startswith("/"):
            host = asked.request.split("/")[2]
            note(f"the request is a URL: {host} is asked instead of the real server", "a path", "")
        password = self._place.gathered.keep(asked.password)
        return replace(spec, request=asked.request, login=asked.login, password=password)

    def _port(self, line: RealLine) -> int:
        """checkport, else the real server's port, else the service's; behind a mark the usual one of what is asked."""
        place, name = self._place, self.judge.name
        virtual, scope = place.virtual, place.scope
        if line.port and virtual.port and line.port != virtual.port and line.forwarding is not Forwarding.MASQ:
            unchecked = "checkport" in scope.numbers or name in _UNPORTED
            place.report.warn(
                line.line,
                f"{line.forwarding.value} cannot change the port: traffic goes to port {virtual.port}",
                f"port {virtual.port}, or masq",
                "" if unchecked else f"Port {line.port} is only checked",
            )
        if not line.port and virtual.port:
            place.report.warn(
                line.line, f"no port: {virtual.port} is used", f"HOST:{virtual.port}", "ldirectord would use port 0"
            )
        if name in USERS["checkcommand"]:
            return line.port or virtual.port
        if name in _UNPORTED:
            return 0
        found = scope.numbers.get("checkport") or line.port or virtual.port
        found = found or _DEFAULT_PORTS.get(scope.words.get("service", name), 0)
        if not found:
            place.report.error(line.line, "no port to connect to", "checkport=, or a port behind the real server")
        return found


def _judge(place: Place) -> Judge:
    checktype = place.scope.words.get("checktype", "negotiate")
    if checktype in _TYPES:
        return Judge(checktype)
    connects = int(checktype) if checktype.isdigit() else 0
    virtual = place.virtual
    implied = "none" if virtual.protocol == "fwm" else PORT_SERVICES.get(virtual.port, "none")
    service = place.scope.words.get("service", implied)
    if service != "none":
        return Judge(service, connects)
    sound = place.sound("service", "checktype")
    if connects:
        if sound:
            place.report.warn(
                place.at("service", "checktype"),
                f"checktype={connects} without a service: every check is a connect",
                "service=, or checktype=connect",
            )
        return Judge("connect")
    if sound:
        place.report.warn(
            place.at("service", "checktype"),
            "checktype=negotiate without a service checks nothing: every real server counts as up",
            "service=http or the like, or checktype=connect",
        )
    return Judge("none")


def _transport(name: str, protocol: str) -> str:
    """What connect, dns, sip and simpletcp are carried by; tcp for all others. Behind a mark sip means UDP, its usual
    transport."""
    if name == "dns":
        return "tcp" if protocol == "tcp" else "udp"
    if name in ("connect", "sip", "simpletcp") and protocol != "fwm":
        return protocol
    return "udp" if name == "sip" else "tcp"


def _interval_s(place: Place) -> int:
    interval = place.globals_.numbers.get("checkinterval", 10)
    if "checkinterval" not in place.scope.numbers:
        return interval
    if place.globals_.numbers.get("fork"):
        return place.scope.numbers["checkinterval"]
    place.report.warn(
        place.at("checkinterval"),
        "checkinterval in a section without fork=yes",
        f"fork=yes above (the global one, {interval} s, counts)",
    )
    return interval


def timeouts_s(section: dict[str, int], globals_: dict[str, int]) -> tuple[int, int]:
    """(`checktimeout`, `negotiatetimeout`): each is the other's default, the section first."""
    order = [scope.get(key) for scope in (section, globals_) for key in ("checktimeout", "negotiatetimeout")]
    connect = next((value for value in order if value is not None), 5)
    order = [scope.get(key) for scope in (section, globals_) for key in ("negotiatetimeout", "checktimeout")]
    return connect, next((value for value in order if value is not None), 30)


def _host() -> str:
    return os.environ.get("HOSTNAME") or os.uname().nodename


def _default_login(name: str) -> str:
    return {"ftp": "anonymous", "sip": f"ldirectord@{_host()}"}.get(name, "")


def _lint(place: Place, judge: Judge) -> None:
    """What has no effect, and what makes a check that cannot succeed or cannot fail."""
    scope, name, report = place.scope, judge.name, place.report
    if not place.sound("service", "checktype"):
        return
    for key, users in USERS.items():
        if key in scope.lines and key not in scope.broken and name not in users and name != "none":
            only = "negotiate or connect" if key == "checkport" else _list(users)
            report.warn(scope.lines[key], f"{key} has no effect with {judge.shown}", f"it only with {only}")
    uses_port = name == "connect" and place.virtual.mark
    idle = scope.words.get("checktype") in _TYPES and scope.words.get("service", "none") != "none"
    if idle and not uses_port:
        report.warn(
            scope.lines["service"], f"service has no effect with {judge.shown}", "it only with negotiate or a number"
        )
    if name not in _ANY_TRANSPORT and place.virtual.protocol in ("udp", "sctp") and "checkport" not in scope.lines:
        report.warn(
            place.at("service", "checktype"),
            f"{judge.shown} with protocol={place.virtual.protocol}: a TCP port of the same number is checked",
            "checkport= with the port that is meant",
        )

    def needs(key: str, why: str, *, error: bool = True) -> None:
        if key not in scope.lines:
            (report.error if error else report.warn)(
                place.at("service", "checktype"), f"service={name} without {key}: {why}", f'{key}="…"'
            )

    never = "no server would ever be up"
    own_requests = bool(scope.reals) and all(line.request for line in scope.reals)
    if name in _SQL:
        needs("login", never)
    if name in _SQL | {"dns"} and not own_requests:
        needs("request", never)
    if name == "oracle":
        needs("database", never)
    elif name == "pgsql":
        needs("database", "the login's is used, and ldirectord asks the director itself", error=False)
    elif name == "radius":
        needs("login", never)
        needs("secret", never)
    elif name in ("pop", "pops"):
        needs("login", "only the greeting is checked, and in ldirectord nothing", error=False)
    elif name == "ftp":
        needs("receive", "only the login is checked, and in ldirectord nothing", error=False)
    elif name == "dns":
        needs("receive", "any answer will do, and in ldirectord none", error=False)
    elif name in ("ldap", "ldaps") and ("login" in scope.lines) != ("passwd" in scope.lines):
        report.warn(
            place.at("login", "passwd"), "login and passwd are used together only: the bind is anonymous", "both"
        )
    elif name in USERS["checkcommand"] and "checkcommand" not in scope.lines:
        report.warn(place.at("checktype"), f"{judge.shown} without checkcommand checks nothing", "checkcommand=PATH")
    if scope.words.get("httpmethod") == "HEAD" and name in _HTTP and scope.words.get("receive"):
        report.error(
            scope.lines["receive"],
            "receive with httpmethod=HEAD never matches: the answer has no body",
            "one of the two",
        )


def _list(words: frozenset[str]) -> str:
    *others, last = sorted(words)
    return f"{', '.join(others)} or {last}" if others else last
