"""Conversations of simpletcp and SIP, over TCP and UDP."""

from __future__ import annotations

import re
import secrets

from hafsm.checks.answer import Pattern
from hafsm.checks.connect import PASSED, Verdict
from hafsm.checks.conversation import FINISH, LINE, LINE_OR_END, SOME, Script
from hafsm.checks.mail import shown

LINES_MAX = 1000
"""Searched in one simpletcp check."""
_CSEQ = 63104
_STATUS = re.compile(rb"SIP/2\.0 ([1-6]\d\d)(?: |$)")
_SIP_LOGIN = re.compile(r"[A-Za-z0-9_.!~*'()&=+$,;?/%:\[\]-]+(@[A-Za-z0-9_.:\[\]-]+)?")


def question(request: str) -> bytes:
    """A simpletcp request as bytes: without its first slash, and with `\\n` as a line end (`\\r` is not translated, as
    in ldirectord)."""
    return request.removeprefix("/").replace("\\n", "\n").encode()


def simple_stream(request: bytes, pattern: Pattern | None) -> Script:
    """Send, half-close, then read line by line until one matches; a line without its end counts at the end of the
    stream. Without a pattern anything will do. Source: ldirectord's simpletcp."""
    if request:
        yield request
    yield FINISH
    if pattern is None:
        data = yield SOME
        return PASSED if data else Verdict(False, "connection closed without an answer")
    verdict = Verdict(False, "connection closed without an answer")
    for _ in range(LINES_MAX):
        line = yield LINE_OR_END
        if not line:
            return verdict
        verdict = pattern.judge(line)
        if verdict.ok:
            return verdict
    return Verdict(False, f"{verdict.detail} within {LINES_MAX} lines")


def simple_datagram(request: bytes, pattern: Pattern | None) -> Script:
    """The same in datagrams, each of them a text of lines; goes on listening until a line matches."""
    yield request
    searched = 0
    while True:
        data = yield SOME
        if pattern is None:
            return PASSED
        for line in data.splitlines(keepends=True):
            searched += 1
            verdict = pattern.judge(line)
            if verdict.ok or searched == LINES_MAX:
                return verdict


def sip_login(login: str, address: str) -> str:
    """Who is asked for: the login, else hafsm at the server's address. Raises ValueError when it cannot be one."""
    host = f"[{address}]" if ":" in address else address
    login = login or f"hafsm@{host}"
    if not _SIP_LOGIN.fullmatch(login):
        raise ValueError(f"login {login!r} cannot stand in a SIP address")
    return login


def _options(login: str, transport: str, local: str, branch: str) -> bytes:
    """RFC 3261 section 11.1."""
    return (
        f"OPTIONS sip:{login} SIP/2.0\r\n"
        f"Via: SIP/2.0/{transport} {local};branch=z9hG4bK{branch};rport\r\n"
        "Max-Forwards: 70\r\n"
        f"From: <sip:{login}>;tag={branch}\r\n"
        f"To: <sip:{login}>\r\n"
        f"Call-ID: {branch}@{local}\r\n"
        f"CSeq: {_CSEQ} OPTIONS\r\n"
        f"Contact: <sip:{login}>\r\n"
        "Accept: application/sdp\r\n"
        "Content-Length: 0\r\n\r\n"
    ).encode()


def sip_stream(login: str, local: str) -> Script:
    """OPTIONS over TCP; provisional answers are passed over, a final one must be 200 and complete to the empty line.

    ldirectord takes `100 Trying` for a failure and always claims to use UDP.
    """
    yield _options(login, "TCP", local, secrets.token_hex(8))
    while True:
        line = yield LINE
        if not line:
            continue  # RFC 3261 section 7.5: empty lines before a message, keep-alives
        found = _STATUS.match(line)
        if found is None:
            return Verdict(False, f"not a SIP answer: {shown(line)}")
        length = 0
        while True:
            header = yield LINE
            if not header:
                break
            name, _, value = header.partition(b":")
            if name.strip().lower() in (b"content-length", b"l") and value.strip().isdigit():
                length = min(int(value.strip()[:9]), 2**20)
        if found[1][:1] != b"1":
            return _sip_verdict(line, found[1])
        if length:
            yield length


def sip_datagram(login: str, local: str) -> Script:
    """OPTIONS over UDP; only answers to this very request count."""
    branch = secrets.token_hex(8)
    yield _options(login, "UDP", local, branch)
    while True:
        data = yield SOME
        head, end, _ = data.replace(b"\r\n", b"\n").partition(b"\n\n")
        line, _, headers = head.partition(b"\n")
        found = _STATUS.match(line)
        if found is None:
            return Verdict(False, f"not a SIP answer: {shown(line)}")
        if end and found[1][:1] != b"1" and branch.encode() in headers:
            return _sip_verdict(line, found[1])


def _sip_verdict(line: bytes, status: bytes) -> Verdict:
    return PASSED if status == b"200" else Verdict(False, f"answered {shown(line)}")
