"""An HTTP answer, read as its bytes arrive, and the regular expression that must be found in its body.

Framing is that of RFC 9112. ldirectord was lenient where it misled people; here a body that ends early is a failure, a
redirect is judged as what it is (not by the server that it points to), and what is not HTTP is not healthy.

The bytes come from a machine that may be broken or hostile: everything read is bounded, and so is the time that a
regular expression may take.
"""

from __future__ import annotations

import re
import signal

from hafsm.checks.connect import PASSED, Verdict

STATUS_LINE_MAX_BYTES = 8 * 1024
HEAD_MAX_BYTES = 64 * 1024
"""Status line and headers, interim (1xx) answers included."""
BODY_MAX_BYTES = 1024 * 1024
"""What comes after is neither read nor searched; the answer counts as complete."""
ENCODED_MAX_BYTES = 4 * BODY_MAX_BYTES
"""A chunked body with its chunk lines: an answer in one-byte chunks must not cost seconds."""
CHUNK_LINE_MAX_BYTES = 4096
SEARCH_LIMIT_S = 0.1
"""CPU time for one search in one body. An honest expression needs some milliseconds for the whole MiB."""
_SHOWN = 40
_BODILESS = (101, 204, 304)

_HEAD_END = re.compile(rb"\n\r?\n")
_STATUS = re.compile(rb"HTTP/\d+(?:\.\d+)?[ \t]+([1-9]\d\d)(?:[ \t\r]|$)")
_FRAMING = re.compile(rb"\n(content-length|transfer-encoding)[ \t]*:([^\r\n]*)", re.IGNORECASE)
_CHUNK_SIZE = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,15})[ \t\r]*(?:;.*)?$")
_SPECIAL = re.compile(r"[\\.^$*+?{}\[\]|()]")


class _SearchTookTooLong(Exception):
    pass


class Pattern:
    """A `receive` expression, searched in bytes. For the main thread only: a signal limits the search.

    CPython's `re` looks for signals while it backtracks, so an expression that would run for ages can be stopped.
    """

    __slots__ = ("_compiled", "_literal", "_shown", "_what")
    _searching = False

    def __init__(self, text: str, what: str = "answer") -> None:
        """`what` is searched, in the words of a verdict. Raises ValueError when the expression does not compile."""
        self._what = what
        self._shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
        self._literal = b"" if _SPECIAL.search(text) else text.encode()
        try:
            self._compiled = re.compile(text.encode())
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"receive does not compile: {error}") from None
        if not self._literal:
            signal.signal(signal.SIGVTALRM, Pattern._stop)

    @staticmethod
    def _stop(_number: int, _frame: object) -> None:
        if Pattern._searching:
            Pattern._searching = False
            raise _SearchTookTooLong

    def judge(self, body: bytes | bytearray) -> Verdict:
        """Passed when it is found in the body."""
        if self._literal:
            found = self._literal in body
        else:
            try:
                Pattern._searching = True
                signal.setitimer(signal.ITIMER_VIRTUAL, SEARCH_LIMIT_S)
                found = self._compiled.search(body) is not None
                # In this order: a signal from here on finds nobody searching.
                Pattern._searching = False
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            except _SearchTookTooLong:
                took = f"takes longer than {SEARCH_LIMIT_S} s"
                return Verdict(False, f"searching the {self._what} for /{self._shown}/ {took}")
        return PASSED if found else Verdict(False, f"{self._what} does not match /{self._shown}/")


class Answer:
    """Reads one answer as its bytes arrive, however they are cut. Memory is bounded by the limits above."""

    __slots__ = (
        "_after_chunk",
        "_bodiless",
        "_body",
        "_chunked",
        "_encoded_room",
        "_head_room",
        "_in_head",
        "_left",
        "_pattern",
        "_pending",
        "_scanned",
        "_statuses",
        "_until_close",
    )

    def __init__(
        self, pattern: Pattern | None, *, head_request: bool = False, statuses: tuple[tuple[int, int], ...] = ()
    ) -> None:
        """`pattern` must be found in the body; None: the answer will do once it is complete. `statuses` are the healthy
        ones, as closed ranges; empty: 2xx. Interim answers (1xx but 101) are passed over."""
        self._pattern = pattern
        self._statuses = statuses
        self._bodiless = head_request
        self._in_head = True
        self._pending = b""
        """The head so far, later an unfinished chunk line."""
        self._scanned = 0
        """Up to here `_pending` holds no end of the head."""
        self._head_room = HEAD_MAX_BYTES
        self._chunked = False
        self._until_close = False
        self._left = 0
        """Bytes of the body, or of this chunk, that are still wanted."""
        self._after_chunk = False
        """The line end behind a chunk comes next."""
        self._encoded_room = ENCODED_MAX_BYTES
        self._body = bytearray()

    def feed(self, data: bytes) -> Verdict | None:
        """Take bytes; None: the answer is not complete."""
        if self._in_head:
            self._pending = self._pending + data if self._pending else data
            verdict = self._read_head()
            if verdict is not None or self._in_head:
                return verdict
            data, self._pending = self._pending, b""
        return self._read_chunks(data) if self._chunked else self._read_body(data)

    def end(self) -> Verdict:
        """The server closed the connection and `feed` had no verdict."""
        if self._until_close:
            return self._judge(self._body)
        if not self._in_head:
            return Verdict(False, "connection closed before the answer was complete")
        if not self._pending and self._head_room == HEAD_MAX_BYTES:
            return Verdict(False, "connection closed without an answer")
        if self._pending and b"\n" not in self._pending and _STATUS.match(self._pending) is None:
            return _not_http(self._pending)
        return Verdict(False, "connection closed within the headers")

    def _read_head(self) -> Verdict | None:
        while True:
            pending = self._pending
            line_end = pending.find(b"\n", 0, STATUS_LINE_MAX_BYTES)
            if line_end < 0:
                return _not_http(pending) if len(pending) >= STATUS_LINE_MAX_BYTES else None
            status = _STATUS.match(pending, 0, line_end)
            if status is None:
                return _not_http(pending[:line_end])
            code = int(status[1])
            if self._unhealthy(code) if self._statuses else code >= 300 or code == 101:
                return Verdict(False, f"HTTP {code}")
            end = _HEAD_END.search(pending, max(line_end, self._scanned), self._head_room)
            if end is None:
                self._scanned = len(pending) - 2
                if len(pending) >= self._head_room:
                    return Verdict(False, f"headers longer than {HEAD_MAX_BYTES // 1024} KiB")
                return None
            self._pending = pending[end.end() :]
            self._head_room -= end.end()
            self._scanned = 0
            if code >= 200 or code == 101:
                return self._begin_body(code, pending[line_end : end.end()])

    def _unhealthy(self, code: int) -> bool:
        """By the configured statuses; an interim answer is never the last word."""
        return (code >= 200 or code == 101) and not any(low <= code <= high for low, high in self._statuses)

    def _begin_body(self, code: int, headers: bytes) -> Verdict | None:
        """How long the body will be (RFC 9112 section 6.3)."""
        self._in_head = False
        if self._bodiless or code in _BODILESS:
            return self._judge(b"")
        lengths: list[bytes] = []
        codings: list[bytes] = []
        for name, value in _FRAMING.findall(headers):
            words = codings if name[0] in b"tT" else lengths
            words += [word.strip(b" \t").lower() for word in value.split(b",")]
        if codings:
            self._chunked = codings[-1] == b"chunked"
            self._until_close = not self._chunked
            self._left = 0 if self._chunked else BODY_MAX_BYTES
        elif lengths:
            length = lengths[0]
            if not length.isdigit() or len(length) > 18 or lengths.count(length) != len(lengths):
                return Verdict(False, "unusable Content-Length")
            self._left = min(int(length), BODY_MAX_BYTES)
        else:
            self._until_close = True
            self._left = BODY_MAX_BYTES
        return None

    def _read_body(self, data: bytes) -> Verdict | None:
        left = self._left
        if len(data) < left:
            self._left = left - len(data)
            if self._pattern is not None:
                self._body += data
            return None
        if not self._body:
            return self._judge(data[:left])
        self._body += data[:left]
        return self._judge(self._body)

    def _read_chunks(self, data: bytes) -> Verdict | None:
        data = data[: self._encoded_room]
        self._encoded_room -= len(data)
        pending = self._pending + data
        position = 0
        while True:
            if self._left:
                part = pending[position : position + min(self._left, BODY_MAX_BYTES - len(self._body))]
                self._body += part
                position += len(part)
                self._left -= len(part)
                if len(self._body) == BODY_MAX_BYTES:
                    return self._judge(self._body)
                if self._left:
                    break
                self._after_chunk = True
            line_end = pending.find(b"\n", position, position + CHUNK_LINE_MAX_BYTES)
            if line_end < 0:
                if len(pending) - position >= CHUNK_LINE_MAX_BYTES:
                    return _BROKEN_CHUNKS
                break
            line = pending[position:line_end]
            position = line_end + 1
            if self._after_chunk:
                if line not in (b"", b"\r"):
                    return _BROKEN_CHUNKS
                self._after_chunk = False
                continue
            size = _CHUNK_SIZE.match(line)
            if size is None:
                return _BROKEN_CHUNKS
            self._left = int(size[1], 16)
            if not self._left:
                return self._judge(self._body)
        self._pending = pending[position:]
        return None if self._encoded_room else _BROKEN_CHUNKS

    def _judge(self, body: bytes | bytearray) -> Verdict:
        return PASSED if self._pattern is None else self._pattern.judge(body)


_BROKEN_CHUNKS = Verdict(False, "broken chunked body")


def _not_http(line: bytes) -> Verdict:
    shown = line[:_SHOWN].rstrip(b"\r").decode("latin-1")
    return Verdict(False, f"not an HTTP answer: {shown!a}")
