"""Conversations of the mail and news services: SMTP, POP3, IMAP4, NNTP.

What a server says before it knows a password may reach the operator; what it says after one was sent may not, as it
could hold it (law L10).
"""

from __future__ import annotations

import re
from collections.abc import Generator

from hafsm.checks.connect import PASSED, Verdict
from hafsm.checks.conversation import LINE, Script, Step

_SHOWN = 60
_REPLY = re.compile(rb"([1-5]\d\d)(?:([ -])|$)")
_LITERAL = re.compile(rb"\{(\d{1,7})\+?\}$")
_GREETED = re.compile(rb"\* (?:OK|PREAUTH)(?: |$)", re.IGNORECASE)


def shown(line: bytes) -> str:
    """The beginning of what a server said, in ASCII and quotes."""
    return f"{line[:_SHOWN].decode('latin-1')!a}"


def reply() -> Generator[Step, bytes, tuple[int, bytes]]:
    """A reply of SMTP, NNTP or FTP: (code, its last line); the code is 0 for what is none."""
    while True:
        line = yield LINE
        found = _REPLY.match(line)
        if found is None:
            return 0, line
        if found[2] != b"-":
            return int(found[1]), line
        ending = found[1]
        while True:  # RFC 959: until a line that begins with the same code and a blank
            line = yield LINE
            if line[:3] == ending and line[3:4] in (b" ", b""):
                return int(ending), line


def smtp() -> Script:
    """Greeting, EHLO (HELO if that is refused), QUIT; up when one of the two is accepted. Source: ldirectord."""
    code, line = yield from reply()
    if code // 100 != 2:
        return Verdict(False, f"greeting: {shown(line)}")
    for word in (b"EHLO", b"HELO"):
        yield word + b" localhost.localdomain\r\n"
        code, line = yield from reply()
        if code // 100 == 2:
            yield b"QUIT\r\n"
            return PASSED
        if code == 421:
            break
    return Verdict(False, f"{word.decode()}: {shown(line)}")


def pop(login: bytes, password: bytes) -> Script:
    """Greeting, with a login USER and PASS, QUIT; up when all of it is accepted. ldirectord's check without a login
    cannot fail; here the greeting must be one."""
    line = yield LINE
    if not line.startswith(b"+OK"):
        return Verdict(False, f"greeting: {shown(line)}")
    if login:
        yield b"USER " + login + b"\r\n"
        line = yield LINE
        if not line.startswith(b"+OK"):
            return Verdict(False, f"USER: {shown(line)}")
        yield b"PASS " + password + b"\r\n"
        line = yield LINE
        if not line.startswith(b"+OK"):
            return Verdict(False, "login refused" if line.startswith(b"-ERR") else "not an answer to PASS")
    yield b"QUIT\r\n"
    return PASSED


def imap(login: bytes, password: bytes) -> Script:
    """Greeting, with a login LOGIN, LOGOUT; up when all of it is accepted. Never EXPUNGE, which ldirectord sends."""
    line = yield LINE
    if not _GREETED.match(line):
        return Verdict(False, f"greeting: {shown(line)}")
    if login:
        yield b"a1 LOGIN " + _quoted(login) + b" " + _quoted(password) + b"\r\n"
        while True:
            begin = line = yield LINE
            while literal := _LITERAL.search(line):  # the line goes on behind so many bytes
                yield int(literal[1])
                line = yield LINE
            if begin[:3].lower() == b"a1 ":
                break
            if begin[:2] != b"* ":
                return Verdict(False, "not an answer to LOGIN")
        if begin[3:5].upper() != b"OK":
            return Verdict(False, "login refused")
    yield b"a2 LOGOUT\r\n"
    return PASSED


def _quoted(text: bytes) -> bytes:
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def nntp() -> Script:
    """The greeting must be a 2xx code, as ldirectord has it; then QUIT."""
    line = yield LINE
    if not line.startswith(b"2"):
        return Verdict(False, f"greeting: {shown(line)}")
    yield b"QUIT\r\n"
    return PASSED
