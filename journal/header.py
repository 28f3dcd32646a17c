"""The first 100 bytes of a segment: what tells it from any other file, before SQLite sees it."""

from __future__ import annotations

from pathlib import Path

from journal.errors import Unreadable

APPLICATION_ID = 0x6861666A
"""`hafj` in ASCII; SQLite keeps it in the file's header."""

SCHEMA_VERSION = 2
"""`PRAGMA user_version`. Raise it with every change of tables, views or the chain's encoding, and note it here.

A file keeps the schema that it was made with: evidence is not rewritten. Readers understand every version; a writer
that finds an older one begins a new segment as soon as it can.

1: the tables and the chain. 2: views of runs, gaps, snapshots; `check_result` names what was checked.
"""

HEADER_BYTES = 100
_MAGIC = b"SQLite format 3\0"


def expected_bytes(path: Path, header: bytes, size: int) -> int:
    """The size in bytes that a segment has according to its header; raises `Unreadable`."""
    if not header:
        raise Unreadable(path, "is empty")
    if not header.startswith(_MAGIC[: len(header)]):
        raise Unreadable(path, "is not an SQLite database")
    if len(header) < HEADER_BYTES:
        raise Unreadable(path, f"is truncated: {size} bytes")
    application = int.from_bytes(header[68:72], "big")
    version = int.from_bytes(header[60:64], "big")
    if application != APPLICATION_ID:
        raise Unreadable(path, f"is an SQLite database but not a journal (application id {application:#010x})")
    if version > SCHEMA_VERSION:
        newest = SCHEMA_VERSION
        raise Unreadable(path, f"was made by a newer hafsm (schema {version}, this one reads up to {newest})")
    page_size = int.from_bytes(header[16:18], "big")
    return int.from_bytes(header[28:32], "big") * (65536 if page_size == 1 else page_size)
