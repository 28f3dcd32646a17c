"""Which check carries out a spec. What a kind needs is imported when a plan first has it: plain HTTP needs little."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from msgspec.structs import replace

from hafsm.checks.answer import Pattern
from hafsm.checks.connect import Check, ConnectCheck, UnusableCheck
from hafsm.core.settings import CheckKind, CheckSpec

if TYPE_CHECKING:
    from hafsm.checks.jobs import Helpers

Secrets = Mapping[str, bytes]
"""Name of a secret → the secret. Only in memory, and in messages to workers and their children."""


GetHelpers = Callable[[], "Helpers"]
"""The helper process, for the checks that need it."""


def make(spec: CheckSpec, secrets: Secrets, helpers: GetHelpers) -> Check:
    """The check for a spec; one that cannot be carried out says why each time it is due."""
    try:
        return _MAKERS[spec.kind](spec, secrets, helpers)
    except ValueError as error:
        return UnusableCheck(spec, str(error))


def connect(spec: CheckSpec) -> Check:
    """checktype=connect. UDP knows no connections: the server is pinged, as ldirectord does. Raises ValueError."""
    if spec.protocol != "udp":
        return ConnectCheck(spec)
    from hafsm.checks.ping import PingCheck

    return PingCheck(spec)


def connects_of(spec: CheckSpec) -> Check:
    """The connect checks between two others of `checktype=N`."""
    try:
        timeout_ns = spec.connect_timeout_ns or spec.timeout_ns
        return connect(replace(spec, kind=CheckKind.CONNECT, timeout_ns=timeout_ns))
    except ValueError as error:
        return UnusableCheck(spec, str(error))


def _secret(name: str, what: str, secrets: Secrets) -> bytes:
    if not name:
        return b""
    found = secrets.get(name)
    if found is None:
        raise ValueError(f"the {what} is not known to this process")
    return found


def _credentials(spec: CheckSpec, secrets: Secrets) -> tuple[bytes, bytes]:
    """Login and password, fit for a line. Raises ValueError."""
    return (
        fit(spec.login.encode(), "login"),
        fit(_secret(spec.password, "password", secrets), "password"),
    )


def fit(text: bytes, what: str) -> bytes:
    """`text`, when it can stand in one line of a conversation. Raises ValueError; never shows the text."""
    if any(byte < 0x20 or byte == 0x7F for byte in text):
        raise ValueError(f"a control character in the {what}")
    return text


def _pattern(spec: CheckSpec) -> Pattern | None:
    return Pattern(spec.receive) if spec.receive else None


def _ping(spec: CheckSpec, _secrets: Secrets, _helpers: GetHelpers) -> Check:
    from hafsm.checks.ping import PingCheck

    return PingCheck(spec)


def _connect(spec: CheckSpec, _secrets: Secrets, _helpers: GetHelpers) -> Check:
    return connect(spec)


def _http(spec: CheckSpec, secrets: Secrets, _helpers: GetHelpers) -> Check:
    from hafsm.checks.http import HttpCheck

    return HttpCheck(spec, _basic(spec, secrets))


def _https(spec: CheckSpec, secrets: Secrets, _helpers: GetHelpers) -> Check:
    from hafsm.checks.https import HttpsCheck

    return HttpsCheck(spec, _basic(spec, secrets))


def _basic(spec: CheckSpec, secrets: Secrets) -> bytes:
    """What a request's URL with a user in it says: `user:password` (RFC 7617), empty without."""
    login, password = _credentials(spec, secrets)
    return login + b":" + password if login else b""


def _smtp(spec: CheckSpec, _secrets: Secrets, _helpers: GetHelpers) -> Check:
    from hafsm.checks.mail import smtp
    from hafsm.checks.stream import StreamCheck

    return StreamCheck(spec, lambda _: smtp())


def _nntp(spec: CheckSpec, _secrets: Secrets, _helpers: GetHelpers) -> Check:
    from hafsm.checks.mail import nntp
    from hafsm.checks.stream import StreamCheck

    return StreamCheck(spec, lambda _: nntp())


def _pop(spec: CheckSpec, secrets: Secrets, _helpers: GetHelpers) -> Check:
    from hafsm.checks.mail import pop
    from hafsm.checks.stream import StreamCheck

    login, password = _credentials(spec, secrets)
    return StreamCheck(spec, lambda _: pop(login, password), tls=spec.kind is CheckKind.POPS)


def _imap(spec: CheckSpec, secrets: Secrets, _helpers: GetHelpers) -> Check:
    from hafsm.checks.mail import imap
    from hafsm.checks.stream import StreamCheck

    login, password = _credentials(spec, secrets)
    return StreamCheck(spec, lambda _: imap(login, password), tls=spec.kind is CheckKind.IMAPS)


def _ftp(spec: CheckSpec, secrets: Secrets, _helpers: GetHelpers) -> Check:
    from hafsm.checks.ftp import FtpCheck, ftp

    login, password = _credentials(spec, secrets)
    if not login:
        login, password = b"anonymous", b"hafsm@localhost"
    path = fit(spec.request.encode(), "request")
    pattern = _pattern(spec)
    if path == b"/" and pattern is None:
        path = b""
    return FtpCheck(spec, lambda _: ftp(login, password, path, pattern, ipv6=":" in spec.address))


def _simpletcp(spec: CheckSpec, _secrets: Secrets, _helpers: GetHelpers) -> Check:
    from hafsm.checks import simple
    from hafsm.checks.stream import DatagramCheck, StreamCheck

    question, pattern = simple.question(spec.request), _pattern(spec)
    if spec.protocol == "udp":
        return DatagramCheck(spec, lambda _: simple.simple_datagram(question, pattern))
    return StreamCheck(spec, lambda _: simple.simple_stream(question, pattern))


def _sip(spec: CheckSpec, _secrets: Secrets, _helpers: GetHelpers) -> Check:
    from hafsm.checks import simple
    from hafsm.checks.stream import DatagramCheck, StreamCheck

    login = simple.sip_login(spec.login, spec.address)
    if spec.protocol == "udp":
        return DatagramCheck(spec, lambda local: simple.sip_datagram(login, local))
    return StreamCheck(spec, lambda local: simple.sip_stream(login, local))


def _dns(spec: CheckSpec, _secrets: Secrets, _helpers: GetHelpers) -> Check:
    from hafsm.checks import dns
    from hafsm.checks.stream import DatagramCheck, StreamCheck

    (name, kind), pattern = dns.parse_request(spec.request), _pattern(spec)
    if spec.protocol == "tcp":
        return StreamCheck(spec, lambda _: dns.dns_stream(name, kind, pattern))
    return DatagramCheck(spec, lambda _: dns.dns_datagram(name, kind, pattern))


def _ldap(spec: CheckSpec, secrets: Secrets, _helpers: GetHelpers) -> Check:
    from hafsm.checks.ldap import ldap
    from hafsm.checks.stream import StreamCheck

    base, login = spec.request.removeprefix("/").encode(), spec.login.encode()
    password, pattern = _secret(spec.password, "password", secrets), _pattern(spec)
    return StreamCheck(spec, lambda _: ldap(base, login, password, pattern), tls=spec.kind is CheckKind.LDAPS)


def _radius(spec: CheckSpec, secrets: Secrets, _helpers: GetHelpers) -> Check:
    from hafsm.checks import radius
    from hafsm.checks.stream import DatagramCheck

    login = spec.login.encode()
    password = _secret(spec.password, "password", secrets)
    secret = _secret(spec.secret, "secret", secrets)
    if not login or not secret:
        raise ValueError("radius checks need login and secret")
    if len(login) > radius.TEXT_MAX_BYTES or len(password) > radius.PASSWORD_MAX_BYTES:
        raise ValueError("login or password is too long for RADIUS")
    return DatagramCheck(spec, lambda local: radius.radius(login, password, secret, local))


def _library(spec: CheckSpec, secrets: Secrets, helpers: GetHelpers) -> Check:
    from hafsm.checks.jobs import by_library

    return by_library(spec, helpers(), _secret(spec.password, "password", secrets))


def _external(spec: CheckSpec, _secrets: Secrets, helpers: GetHelpers) -> Check:
    from hafsm.checks.jobs import external

    return external(spec, helpers())


_MAKERS: dict[CheckKind, Callable[[CheckSpec, Secrets, GetHelpers], Check]] = {
    CheckKind.HTTP: _http,
    CheckKind.HTTPS: _https,
    CheckKind.HTTP_PROXY: _http,
    CheckKind.FTP: _ftp,
    CheckKind.SMTP: _smtp,
    CheckKind.SUBMISSION: _smtp,
    CheckKind.POP: _pop,
    CheckKind.POPS: _pop,
    CheckKind.IMAP: _imap,
    CheckKind.IMAPS: _imap,
    CheckKind.NNTP: _nntp,
    CheckKind.LDAP: _ldap,
    CheckKind.LDAPS: _ldap,
    CheckKind.DNS: _dns,
    CheckKind.MYSQL: _library,
    CheckKind.PGSQL: _library,
    CheckKind.ORACLE: _library,
    CheckKind.RADIUS: _radius,
    CheckKind.SIP: _sip,
    CheckKind.SIMPLETCP: _simpletcp,
    CheckKind.CONNECT: _connect,
    CheckKind.PING: _ping,
    CheckKind.EXTERNAL: _external,
    CheckKind.EXTERNAL_PERL: _external,
}
"""All but `on` and `off`, which the core decides alone."""
