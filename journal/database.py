"""Opening a segment: SQLite connections for reading and for writing, and the checks before either.

A segment that is being written is in WAL mode; a sealed or exported one is in rollback mode, so that it opens anywhere.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from journal.errors import Unreadable

APPLICATION_ID = 0x6861666A
"""`hafj` in ASCII; SQLite keeps it in the file's header."""

SCHEMA_VERSION = 1
"""`PRAGMA user_version`. Raise it with every change of tables or of the chain's encoding."""

PAGE_BYTES = 4096
"""SQLite's page: what one small commit writes at least."""

LOCK_NAME = "lock"
"""File in a journal's folder that its writer holds locked."""

_HEADER_BYTES = 100
_MAGIC = b"SQLite format 3\0"
_BUSY_TIMEOUT_S = 0.25
"""Somebody's `sqlite3` shell may hold a lock; the writer retries by its own schedule."""


def wal_path(path: Path) -> Path:
    """The write-ahead log beside a segment."""
    return path.with_name(path.name + "-wal")


def shm_path(path: Path) -> Path:
    """The index of the write-ahead log."""
    return path.with_name(path.name + "-shm")


def _log_bytes(path: Path) -> int:
    try:
        return wal_path(path).stat().st_size
    except OSError:
        return 0


def check_header(path: Path) -> bytes:
    """Tell a segment from any other file without opening it as a database.

    Returns:
        The file's first 100 bytes.

    Raises:
        Unreadable: missing, empty, truncated, not SQLite, not a journal, or made by a newer version.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise Unreadable(path, error.strerror or str(error)) from None
    if not header:
        raise Unreadable(path, "is empty")
    if not header.startswith(_MAGIC[: len(header)]):
        raise Unreadable(path, "is not an SQLite database")
    if len(header) < _HEADER_BYTES:
        raise Unreadable(path, f"is truncated: {size} bytes")
    application = int.from_bytes(header[68:72], "big")
    version = int.from_bytes(header[60:64], "big")
    if application != APPLICATION_ID:
        raise Unreadable(path, f"is an SQLite database but not a journal (application id {application:#010x})")
    if version > SCHEMA_VERSION:
        newest = SCHEMA_VERSION
        raise Unreadable(path, f"was made by a newer hafsm (schema {version}, this one reads up to {newest})")
    page_size = int.from_bytes(header[16:18], "big")
    pages = int.from_bytes(header[28:32], "big")
    expected = pages * (65536 if page_size == 1 else page_size)
    # With a log, the missing pages may stand there: a checkpoint writes the first page before it grows the file.
    if size < expected and not _log_bytes(path):
        raise Unreadable(path, f"is truncated: {size} bytes of {expected}")
    return header


def reading_uri(path: Path) -> str:
    """The URI that reads a segment without ever writing to it.

    A file in WAL mode needs its index file, which SQLite creates on demand. Beside a writer's lock that is right. A
    copy elsewhere that came without a log cannot change, so it is opened as immutable and nothing is left beside it.

    Raises:
        Unreadable: see `check_header`; or the file's log cannot be used in a read-only folder.
    """
    header = check_header(path)
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    immutable = uri + "&immutable=1"
    in_wal_mode = header[18] == 2
    if not in_wal_mode:
        return uri
    log_bytes = _log_bytes(path)
    belongs_to_a_writer = log_bytes or path.with_name(LOCK_NAME).exists()
    if not belongs_to_a_writer:
        return immutable
    try:
        connection = sqlite3.connect(uri, uri=True)
        try:
            connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        if not log_bytes:
            return immutable
        raise Unreadable(
            path, f"cannot be read with its log {wal_path(path).name} here ({error}): copy both to a writable folder"
        ) from None
    except sqlite3.DatabaseError as error:
        raise Unreadable(path, str(error)) from None
    return uri


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A connection that cannot write; raises `Unreadable`."""
    try:
        return sqlite3.connect(
            reading_uri(path), uri=True, isolation_level=None, timeout=_BUSY_TIMEOUT_S, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise Unreadable(path, str(error)) from None


def open_for_writing(path: Path) -> sqlite3.Connection:
    """A connection in WAL mode whose commits are on disk when they return.

    Checkpoints are left to the caller, who reports a commit as durable before it starts one.

    Raises:
        Unreadable: see `check_header`.
        sqlite3.Error: the disk refuses.
    """
    check_header(path)
    connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_TIMEOUT_S, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("PRAGMA synchronous = full")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("PRAGMA recursive_triggers = on")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def sync_folder(folder: Path) -> None:
    """Make renames and new names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
