"""What the pool and its workers say to each other on a socket pair: four bytes of length (big-endian), then msgpack."""

from __future__ import annotations

import struct
from typing import Generic, TypeVar

import msgspec

from hafsm.core.events import CheckResult
from hafsm.core.settings import CheckSpec

FRAME_MAX_BYTES = 64 * 1024 * 1024
"""Far above the plan of 100,000 checks; a larger length is not ours."""
_LENGTH = struct.Struct(">I")


class Plan(msgspec.Struct, frozen=True, tag="plan"):
    """To a worker: from now on check these and nothing else. Its text never shows the secrets."""

    plan: int
    checks: tuple[tuple[int, CheckSpec], ...]
    """(index in the whole plan, what to check)."""
    secrets: dict[str, bytes] = {}
    """Name → secret, for the names that stand in `checks`."""

    def __repr__(self) -> str:
        return f"Plan({self.plan}, {len(self.checks)} checks)"


class Results(msgspec.Struct, frozen=True, tag="results"):
    """From a worker: checks that ended, in the order in which they did."""

    plan: int
    results: tuple[CheckResult, ...]


class Alive(msgspec.Struct, frozen=True, tag="alive"):
    """From a worker, every second: its loop turns."""


class GaveUp(msgspec.Struct, frozen=True, tag="gave up"):
    """From a worker, its last word: why it cannot go on."""

    reason: str


FromWorker = Results | Alive | GaveUp
M = TypeVar("M")

_encoder = msgspec.msgpack.Encoder()


def frame(message: Plan | FromWorker) -> bytes:
    """The bytes of one message."""
    payload = _encoder.encode(message)
    return _LENGTH.pack(len(payload)) + payload


class Unframer(Generic[M]):
    """Cuts a stream into messages of one type."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[M]) -> None:
        self._decoder = decoder
        self._pending = b""

    def feed(self, data: bytes) -> list[M]:
        """The messages that `data` completes. Raises `msgspec.DecodeError` for what is no message."""
        pending = self._pending + data if self._pending else data
        messages: list[M] = []
        position = 0
        while len(pending) - position >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(pending, position)
            if length > FRAME_MAX_BYTES:
                raise msgspec.DecodeError(f"a message of {length} bytes")
            begin = position + _LENGTH.size
            if len(pending) - begin < length:
                break
            position = begin + length
            messages.append(self._decoder.decode(pending[begin:position]))
        self._pending = pending[position:]
        return messages
