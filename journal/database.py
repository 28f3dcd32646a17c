"""Opening a segment: SQLite connections for reading and for writing, and the checks before either.

A segment that is being written is in WAL mode; a sealed or exported one is in rollback mode, so that it opens anywhere.
A packed one is a sealed one in gzip; it is read from memory, and nothing is ever unpacked onto a disk.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from journal.errors import SQLITE_ERRORS, Unreadable
from journal.header import HEADER_BYTES, expected_bytes
from journal.packed import PACKED_SUFFIX, is_packed, unpacked
from journal.tables import check_tables

PAGE_BYTES = 4096
"""SQLite's page: what one small commit writes at least."""

T = TypeVar("T")

LOCK_NAME = "lock"
"""File in a journal's folder that its writer holds locked."""

_LOG_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
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
    """Tell a plain segment from any other file without opening it as a database.

    Returns:
        The file's first 100 bytes.

    Raises:
        Unreadable: missing, empty, truncated, packed, not SQLite, not a journal, or made by a newer version.
    """
    try:
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise Unreadable(path, error.strerror or str(error)) from None
    expected = expected_bytes(path, header, size)
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
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise Unreadable(path, str(error)) from None
    return uri


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, to a plain or a packed segment.

    Raises:
        Unreadable: no segment, damaged, or its tables are not those of a journal.
    """
    connection = _whichever_form(path, _open)
    try:
        check_tables(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def attach(connection: sqlite3.Connection, path: Path, name: str) -> None:
    """Make a plain or packed segment readable as schema `name`, for copying out of it; raises `Unreadable`."""

    def attached(path: Path) -> None:
        if is_packed(path):
            connection.execute(f"ATTACH ':memory:' AS {name}")
            _deserialize(connection, path, name)
        else:
            connection.execute(f"ATTACH ? AS {name}", (reading_uri(path),))

    _whichever_form(path, attached)
    check_tables(connection, path, name)


def _whichever_form(path: Path, opened: Callable[[Path], T]) -> T:
    """Open a path or, as a segment may be packed between finding and opening it, its packed form."""
    packed = path.with_name(path.name + PACKED_SUFFIX)
    try:
        try:
            return opened(path)
        except Unreadable:
            if path.exists() or not packed.exists():
                raise
            return opened(packed)
    except SQLITE_ERRORS as error:
        raise Unreadable(path, str(error)) from None


def _open(path: Path) -> sqlite3.Connection:
    if not is_packed(path):
        return sqlite3.connect(
            reading_uri(path), uri=True, isolation_level=None, timeout=_BUSY_TIMEOUT_S, check_same_thread=False
        )
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    try:
        _deserialize(connection, path, "main")
        connection.execute("PRAGMA query_only = on")
    except BaseException:
        connection.close()
        raise
    return connection


def _deserialize(connection: sqlite3.Connection, path: Path, name: str) -> None:
    if not hasattr(connection, "deserialize"):
        raise Unreadable(path, "is packed, and this Python's SQLite cannot read from memory: unpack it with gunzip")
    connection.deserialize(unpacked(path), name=name)


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


def torn_bytes(path: Path) -> int:
    """How much of a commit that was cut off stands at the end of a segment's log; SQLite ignores it, rightly.

    Frames of the log's present round carry the salt of its header; a frame that ends a commit names the size of the
    database (https://sqlite.org/fileformat2.html#walformat). Checksums are not looked at.
    """
    frame_bytes = _FRAME_HEADER_BYTES + PAGE_BYTES
    torn = 0
    try:
        with wal_path(path).open("rb") as file:
            salt = file.read(_LOG_HEADER_BYTES)[16:24]
            while head := file.read(_FRAME_HEADER_BYTES):
                if head[8:16] != salt[: len(head[8:16])] or len(head) < 16:
                    break
                torn += len(head) + len(file.read(PAGE_BYTES))
                if int.from_bytes(head[4:8], "big") and torn % frame_bytes == 0:
                    torn = 0
    except OSError:
        return 0
    return torn
