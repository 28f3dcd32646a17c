"""FTP: log in, and fetch a file over a passive data connection.

ldirectord opens an active one, which no firewall lets through, and without `receive` its check cannot fail. Here the
login must be accepted, a file that is asked for must be there, and `receive` must be found in it.
"""

from __future__ import annotations

import contextlib
import re
import socket

from hafsm.checks.answer import Pattern
from hafsm.checks.connect import MOVED, PASSED, TcpCheck, Verdict
from hafsm.checks.conversation import DATA, OpenData, Script
from hafsm.checks.mail import reply, shown
from hafsm.checks.stream import MakeScript, StreamCheck
from hafsm.core.settings import CheckSpec

_PASV = re.compile(rb"\D(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3})(?:\D|$)")
_EPSV = re.compile(rb"\(([!-~])\1\1(\d{1,5})\1\)")


def ftp(login: bytes, password: bytes, path: bytes, pattern: Pattern | None, *, ipv6: bool) -> Script:
    """`path` empty: logging in is all. The address in a PASV answer is not looked at: data come from the server that
    is checked."""
    code, line = yield from reply()
    while code == 120:  # ready in a while
        code, line = yield from reply()
    if code != 220:
        return Verdict(False, f"greeting: {shown(line)}")
    yield b"USER " + login + b"\r\n"
    code, line = yield from reply()
    if code == 331:
        yield b"PASS " + password + b"\r\n"
        code, _ = yield from reply()
    if code not in (202, 230):
        return Verdict(False, f"login refused: {code}" if code else "not an answer to a login")
    if not path:
        yield b"QUIT\r\n"
        return PASSED
    yield b"TYPE I\r\n"
    code, _ = yield from reply()
    if code != 200:
        return Verdict(False, f"TYPE I: {code}")
    yield b"EPSV\r\n" if ipv6 else b"PASV\r\n"
    code, line = yield from reply()
    port = _port(line, code)
    if not 0 < port < 65536:
        return Verdict(False, f"no passive data connection: {code}")
    yield OpenData(port)
    yield b"RETR " + path + b"\r\n"
    code, _ = yield from reply()
    if code not in (125, 150):
        return Verdict(False, f"file refused: {code}")
    body = yield DATA
    yield b"QUIT\r\n"
    return PASSED if pattern is None else pattern.judge(body)


def _port(line: bytes, code: int) -> int:
    """The data port in an answer to PASV (227) or EPSV (229); 0: there is none."""
    if code == 229:
        found = _EPSV.search(line)
        return int(found[2]) if found else 0
    found = _PASV.search(line[3:]) if code == 227 else None
    return int(found[5]) * 256 + int(found[6]) if found else 0


class FtpCheck(StreamCheck):
    """A `StreamCheck` with a second connection for the file."""

    __slots__ = ("_control", "_data")

    def __init__(self, spec: CheckSpec, make: MakeScript) -> None:
        """Raises ValueError when the spec cannot be carried out."""
        super().__init__(spec, make)
        self._data: TcpCheck | None = None
        self._control: socket.SocketType | None = None

    def ready(self, events: int) -> Verdict | None:
        data = self._data
        if self._control is not None and data is not None and not data.connected:
            verdict = data.came_about(events)
            if verdict is not None or not data.connected:
                return verdict if verdict is None else Verdict(False, f"data connection: {verdict.detail}")
        return super().ready(events)

    def close(self) -> None:
        control, self._control = self._control, None
        if control is not None:
            with contextlib.suppress(OSError):
                control.send(b"QUIT\r\n")
            control.close()
        data, self._data = self._data, None
        if data is not None:
            data.close()
            if self.sock is not None and self.sock.fileno() < 0:
                self.sock = None
        super().close()

    def _take(self, raw: bytes) -> Verdict | None:
        talk = self._talk
        assert talk is not None
        verdict = super()._take(raw)
        if verdict is not None or self._control is not None:
            return verdict
        if talk.data_port and self._data is None:
            self._data = TcpCheck(self.spec, self.spec.address, talk.data_port)
            verdict = self._data.begin()
            if verdict is not None:
                return Verdict(False, f"data connection: {verdict.detail}")
        if talk.on_data:
            assert self._data is not None
            self._control, self.sock = self.sock, self._data.sock
            return MOVED
        return None

    def _flush(self) -> None:
        """On the data connection nothing is sent."""
        if self._control is None:
            super()._flush()
