"""Reads the recorded traffic of real heartbeat 3 daemons. The format is explained in the head of each file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from hafsm.wire.auth import Key, KeyRing

FOLDER = Path(__file__).parent / "captures"
FILES = sorted(path.name for path in FOLDER.glob("*.txt"))

_KEY = re.compile(r'index (\d+): (sha1|md5|crc)(?: key "([^"]*)")?')
_START = re.compile(r"@ \d+ t=\S+ (\S+) .* len=(\d+)")
_ESCAPE = re.compile(rb"\\(x[0-9a-f]{2}|\\)", re.IGNORECASE)


class Recorded(NamedTuple):
    protocol: str
    """`udp`, `icmp-echo-request` or `icmp-echo-reply`."""
    payload: bytes


class Capture(NamedTuple):
    keys: tuple[Key, ...]
    datagrams: tuple[Recorded, ...]

    def ring(self, active: int | None = None) -> KeyRing:
        """The ring of a node with this active line; the first one if None."""
        return KeyRing(self.keys, self.keys[0].index if active is None else active)


def read_capture(name: str) -> Capture:
    keys: tuple[Key, ...] = ()
    datagrams: list[Recorded] = []
    protocol, size, payload = "", 0, b""

    def finish() -> None:
        if protocol:
            assert len(payload) == size, f"{name}: datagram {len(datagrams) + 1}"
            datagrams.append(Recorded(protocol, payload))

    for line in (FOLDER / name).read_bytes().splitlines():
        if line.startswith(b"# Auth:"):
            found = _KEY.findall(line.decode())
            keys = tuple(Key(int(index), method, secret.encode()) for index, method, secret in found)
        elif start := _START.match(line.decode("latin-1")):
            finish()
            protocol, size, payload = start[1], int(start[2]), b""
        elif line[:1] in (b"|", b":"):
            payload += _ESCAPE.sub(_unescape, line[1:]) + (b"\n" if line[:1] == b"|" else b"")
    finish()
    return Capture(keys, tuple(datagrams))


def _unescape(match: re.Match[bytes]) -> bytes:
    return b"\\" if match[1] == b"\\" else bytes.fromhex(match[1][1:].decode())
