"""Packed segments: sealed ones in gzip, read into memory; nothing is ever unpacked onto a disk.

`journal.pack` makes them. `zcat` turns one into an ordinary segment.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import BinaryIO

from journal.errors import Unreadable
from journal.header import HEADER_BYTES, expected_bytes

PACKED_SUFFIX = ".gz"
"""Of a packed segment: `zcat` makes an ordinary segment of it."""

UNPACKED_MAX_BYTES = 2**30
"""What is packed fits into memory with certainty; a file that claims more is hostile."""

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP = 16 + zlib.MAX_WBITS
_CHUNK_BYTES = 2**20


def is_packed(path: Path) -> bool:
    """Whether the file is in gzip, whatever its name."""
    try:
        with path.open("rb") as file:
            return file.read(2) == _GZIP_MAGIC
    except OSError:
        return False


def unpacked(path: Path) -> bytearray:
    """The segment in a packed file, checked against gzip's checksum and its own header.

    Raises:
        Unreadable: damaged, truncated, too large, or not a segment.
    """
    try:
        with path.open("rb") as file:
            return _unpack(path, file)
    except OSError as error:
        raise Unreadable(path, error.strerror or str(error)) from None
    except zlib.error as error:
        raise Unreadable(path, f"cannot be unpacked ({error})") from None


def _unpack(path: Path, file: BinaryIO) -> bytearray:
    stream = zlib.decompressobj(_GZIP)
    data = bytearray()
    limit = HEADER_BYTES
    while not stream.eof:
        chunk = stream.unconsumed_tail or file.read(_CHUNK_BYTES)
        if not chunk:
            raise Unreadable(path, f"is truncated: {len(data)} bytes unpacked")
        data += stream.decompress(chunk, min(_CHUNK_BYTES, limit + 1 - len(data)))
        if limit == HEADER_BYTES and (len(data) >= HEADER_BYTES or stream.eof):
            # A few kilobytes can claim to be gigabytes: the header says first how much there must be.
            limit = expected_bytes(path, bytes(data[:HEADER_BYTES]), len(data))
            if limit > UNPACKED_MAX_BYTES:
                raise Unreadable(path, f"would unpack to {limit} bytes, more than {UNPACKED_MAX_BYTES}")
        if len(data) > limit:
            raise Unreadable(path, f"unpacks to more than the {limit} bytes that its header names")
    if len(data) < limit:
        raise Unreadable(path, f"is truncated: {len(data)} bytes of {limit} unpacked")
    if stream.unused_data or file.read(1):
        raise Unreadable(path, "has something behind its end")
    # A file whose log was emptied but that nobody could seal says "with a log"; there is none in memory.
    data[18] = data[19] = 1
    return data
