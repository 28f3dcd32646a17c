"""A conversation with a server: a generator says what it sends and what it waits for, this class feeds it.

A script of a protocol reads like its specification: `yield b"QUIT\\r\\n"` sends, `line = yield LINE` waits for a line,
`return PASSED` ends it. It knows neither sockets nor time, so a test (or a fuzzer) plays the server with plain bytes.
What a server says is bounded: a line, and everything together.
"""

from __future__ import annotations

from collections.abc import Generator
from enum import Enum
from typing import NamedTuple

from hafsm.checks.connect import Verdict

LINE_MAX_BYTES = 8 * 1024
ANSWERS_MAX_BYTES = 64 * 1024
"""All that a server says in one check. Healthy conversations need some hundred bytes."""
DATA_MAX_BYTES = 1024 * 1024
"""Of a fetched file; what comes after is neither read nor searched."""


class Want(Enum):
    """What a script may wait for."""

    LINE = "line"
    """A line, without its line end (LF or CR LF)."""
    LINE_OR_END = "line or end"
    """A line with its LF; at the end of the stream what is left, then nothing."""
    SOME = "some"
    """Whatever has come, at least a byte: one datagram, for a datagram protocol. At the end of the stream nothing."""
    DATA = "data"
    """All that comes on the data connection until it is closed, at most `DATA_MAX_BYTES`."""
    FINISH = "finish"
    """Not awaited: close our direction of the stream (half-close) when all is sent."""


LINE, LINE_OR_END, SOME, DATA, FINISH = Want


class OpenData(NamedTuple):
    """A script's wish for a second connection to the same server."""

    port: int


Step = Want | OpenData | bytes | int
"""bytes: send them; int: wait for exactly so many bytes."""
Script = Generator[Step, bytes, Verdict]


class Conversation:
    """One run of a script."""

    __slots__ = ("_buffer", "_heard", "_room", "_scanned", "_script", "_want", "data_port", "finish", "unsent")

    def __init__(self, script: Script) -> None:
        self._script = script
        self._want: Want | int = LINE
        self._buffer = bytearray()
        self._scanned = 0
        """Up to here the buffer holds no line end."""
        self._room = ANSWERS_MAX_BYTES
        self._heard = False
        self.unsent = bytearray()
        """What is to be sent; whoever sends it takes it out."""
        self.finish = False
        """Half-close when all is sent."""
        self.data_port = 0
        """Not 0: the script wants a data connection to this port."""

    @property
    def on_data(self) -> bool:
        """What is fed from now on comes from the data connection."""
        return self._want is DATA

    @property
    def heard(self) -> bool:
        """The server has said something."""
        return self._heard

    def begin(self) -> Verdict | None:
        """Run the script until it waits for the first time."""
        return self._run(None)

    def feed(self, data: bytes) -> Verdict | None:
        """Take what the server said; None: the conversation goes on."""
        self._heard = True
        if self._want is DATA:
            self._buffer += data[: DATA_MAX_BYTES - len(self._buffer)]
            return self.end() if len(self._buffer) == DATA_MAX_BYTES else None
        self._room -= len(data)
        if self._room < 0:
            self._script.close()
            return Verdict(False, f"answers longer than {ANSWERS_MAX_BYTES // 1024} KiB")
        self._buffer += data
        return self._serve()

    def end(self) -> Verdict:
        """The server closed the connection and there was no verdict yet."""
        while self._want in (LINE_OR_END, SOME, DATA):
            rest = bytes(self._buffer)
            self._buffer.clear()
            self._scanned = 0
            verdict = self._run(rest)
            if verdict is not None:
                return verdict
            if not rest:
                break
        self._script.close()
        when = "before the answer was complete" if self._heard else "without an answer"
        return Verdict(False, f"connection closed {when}")

    def _serve(self) -> Verdict | None:
        while True:
            piece = self._piece()
            if piece is None:
                return None
            if len(piece) > LINE_MAX_BYTES and self._want in (LINE, LINE_OR_END):
                self._script.close()
                return Verdict(False, f"a line longer than {LINE_MAX_BYTES // 1024} KiB")
            verdict = self._run(piece)
            if verdict is not None or self._want is DATA:
                return verdict

    def _piece(self) -> bytes | None:
        """What the script waits for, out of the buffer; None: it is not there yet."""
        buffer, want = self._buffer, self._want
        if isinstance(want, int):
            length = want
            if len(buffer) < length:
                return None
        elif want is SOME:
            length = len(buffer)
            if not length:
                return None
        else:
            length = buffer.find(b"\n", self._scanned) + 1
            if not length:
                self._scanned = len(buffer)
                if len(buffer) <= LINE_MAX_BYTES:
                    return None
                length = len(buffer)
        piece = bytes(buffer[:length])
        del buffer[:length]
        self._scanned = 0
        return piece.rstrip(b"\r\n") if want is LINE and len(piece) <= LINE_MAX_BYTES else piece

    def _run(self, piece: bytes | None) -> Verdict | None:
        """Give the script what it waited for, and let it run until it waits again."""
        try:
            step = next(self._script) if piece is None else self._script.send(piece)
            while True:
                if isinstance(step, bytes):
                    self.unsent += step
                elif isinstance(step, OpenData):
                    self.data_port = step.port
                elif step is FINISH:
                    self.finish = True
                else:
                    self._want = step
                    return None
                step = next(self._script)
        except StopIteration as ended:
            verdict: Verdict = ended.value
            return verdict
