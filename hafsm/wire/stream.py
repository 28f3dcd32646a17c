"""Classic messages out of a serial line: bytes may be lost, damaged, or come in any pieces."""

from __future__ import annotations

from hafsm.errors import PeerError
from hafsm.wire.auth import KeyRing
from hafsm.wire.framing import CLASSIC_END, CLASSIC_START, MAX_DATAGRAM, refuse
from hafsm.wire.message import Message, decode

_START = CLASSIC_START.rstrip(b"\n")
_END = CLASSIC_END.rstrip(b"\n")


class ClassicStream:
    """Cuts the stream at `>>>` and `<<<` and decodes what is between; holds at most MAX_DATAGRAM bytes.

    No field is written as a line `>>>`, so such a line always begins a message, and whatever was unfinished is
    given up. Between messages a line that ends in `>>>` begins one too: noise has no reason to end in a newline.
    """

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        self._line = bytearray()
        """Bytes since the last newline."""
        self._frame: bytearray | None = None
        """Whole lines of the unfinished message; None between messages."""
        self._lost = False
        """Garbage since the last message has been reported."""

    def feed(self, data: bytes) -> list[Message | PeerError]:
        """What these bytes complete, in order; a run of garbage is one error."""
        found: list[Message | PeerError] = []
        *ends, rest = data.split(b"\n")
        for end in ends:
            self._line += end
            self._take(bytes(self._line), found)
            self._line.clear()
        self._line += rest
        if len(self._line) + len(self._frame or b"") > MAX_DATAGRAM:
            self._line.clear()
            self._give_up(found, refuse("too_big", "no end of message"))
        return found

    def _take(self, line: bytes, found: list[Message | PeerError]) -> None:
        """One line without its newline."""
        line = line.lstrip(b"\0")
        if line == _START or (self._frame is None and line.endswith(_START)):
            if self._frame is not None:
                self._give_up(found, refuse("truncated", "another message begins"))
            elif line != _START:
                self._give_up(found, refuse("not_framed", "bytes between messages"))
            self._frame = bytearray(CLASSIC_START)
            self._lost = False
        elif self._frame is None:
            if line:
                self._give_up(found, refuse("not_framed", "bytes between messages"))
        elif line == _END:
            frame = bytes(self._frame + CLASSIC_END)
            self._frame = None
            try:
                found.append(decode(frame, self._ring))
            except PeerError as error:
                found.append(error)
        else:
            self._frame += line + b"\n"

    def _give_up(self, found: list[Message | PeerError], error: PeerError) -> None:
        """Drop what is unfinished; say so once until a message begins."""
        if not self._lost:
            found.append(error)
        self._lost = True
        self._frame = None
