"""One self-contained file out of a journal's folder: for a ticket, for another machine, for a test."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from journal.batch import Batch
from journal.chain import ORIGIN
from journal.database import attach, open_for_reading, sync_folder
from journal.errors import SQLITE_ERRORS, JournalError, Unreadable
from journal.folder import first_seq_of, segments
from journal.reader import Counts, Journal
from journal.records import Entry
from journal.schema import create_database
from journal.tables import TABLES
from journal.walk import Head, read_begin, read_head, walk

Rewrite = Callable[[Callable[[], Iterator[Entry]]], Iterator[Entry]]
"""Changes what records hold, not their numbers: leaves out what others shall not see. It may read more than once."""

_REWRITTEN_ROWS = 2000
"""Rows of a rewritten export in one transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """What an export holds."""

    path: Path
    first_seq: int
    """Number of the first event the file can hold: it begins with the state before it."""
    last_seq: int
    segments: int
    counts: Counts
    size_bytes: int


def export(
    source: Path,
    target: Path,
    first_seq: int | None = None,
    overwrite: bool = False,
    rewrite: Rewrite | None = None,
) -> ExportResult:
    """Copy whole segments into one file; the writer may be running.

    Rows and chain are copied unchanged, or with `rewrite` verified, rewritten and chained anew. The file is verified
    before it gets its name, so what is at `target` is complete, or was there before.

    Args:
        source: a journal's folder, or one file.
        first_seq: begin with the segment that holds this event; default: the oldest after which nothing is missing.

    Raises:
        JournalError: nothing to export, `first_seq` is not retained or does not connect to the end, or `target` exists.
        ChainBroken, Unreadable: the source is damaged.
    """
    if target.exists() and not overwrite:
        raise JournalError(f"{target} exists")
    paths = _chosen(source, first_seq) if source.is_dir() or not source.exists() else [source]
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        if rewrite is None:
            _copy(paths, unfinished)
        else:
            _rewritten(paths, unfinished, rewrite)
        with Journal(unfinished) as journal:
            counts = journal.verify()
            last_seq = journal.last()
        begins = _begins(unfinished)
        unfinished.replace(target)
        sync_folder(target.parent)
    except (OSError, *SQLITE_ERRORS) as error:
        raise JournalError(f"{target}: {error}") from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
    return ExportResult(
        path=target,
        first_seq=begins.last_seq + 1,
        last_seq=last_seq,
        segments=len(paths),
        counts=counts,
        size_bytes=target.stat().st_size,
    )


def _chosen(folder: Path, first_seq: int | None) -> list[Path]:
    """The newest segments that follow one another without a hole, from the one that holds `first_seq` on."""
    paths = segments(folder)
    if not paths:
        raise JournalError(f"journal folder {folder}: holds no segment")
    chosen: list[Path] = []
    needed_chain: bytes | None = None
    for path in reversed(paths):
        previous, last_chain = _begins(path).chain, _ends(path)
        if needed_chain is not None and last_chain != needed_chain:
            break
        chosen.insert(0, path)
        needed_chain = previous
        if first_seq is not None and first_seq_of(path) <= first_seq:
            return chosen
    oldest = first_seq_of(chosen[0])
    if first_seq is None:
        return chosen
    if len(chosen) == len(paths):
        raise JournalError(f"event {first_seq} is not kept any more; the oldest is {oldest}")
    raise JournalError(f"event {first_seq} cannot be exported: records right before event {oldest} are missing")


def _begins(path: Path) -> Head:
    """Where the journal stood before a file's first row."""
    connection = open_for_reading(path)
    try:
        return read_begin(connection, path)
    finally:
        connection.close()


def _ends(path: Path) -> bytes:
    """The chain of a file's last row."""
    connection = open_for_reading(path)
    try:
        return read_head(connection, path).chain
    finally:
        connection.close()


def _copy(paths: list[Path], target: Path) -> None:
    target.unlink(missing_ok=True)
    connection = create_database(target)
    try:
        for path in paths:
            attach(connection, path, "source")
            # One transaction: a live segment is copied as it stands at one moment.
            connection.execute("BEGIN")
            try:
                for table in TABLES:
                    connection.execute(f"INSERT INTO main.{table} SELECT * FROM source.{table}")
            except SQLITE_ERRORS as error:
                raise _blame(connection, path, error) from None
            connection.execute("COMMIT")
            connection.execute("DETACH source")
    finally:
        connection.close()


def _blame(connection: sqlite3.Connection, path: Path, error: Exception) -> Exception:
    """Whether the source cannot be read or the target cannot be written."""
    try:
        (found,) = connection.execute("PRAGMA source.integrity_check(1)").fetchone()
    except SQLITE_ERRORS as damage:
        found = str(damage)
    return error if found == "ok" else Unreadable(path, f"{error}: {' '.join(found.split())}")


def _rewritten(paths: list[Path], target: Path, rewrite: Rewrite) -> None:
    target.unlink(missing_ok=True)
    connection = create_database(target)
    try:
        batch = Batch(_begins(paths[0])._replace(chain=ORIGIN))
        batch.begin_segment()
        for entry in rewrite(lambda: _entries(paths)):
            batch.add(entry)
            if batch.row_count >= _REWRITTEN_ROWS:
                batch.insert(connection)
                batch = Batch(batch.head)
        batch.insert(connection)
    finally:
        connection.close()


def _entries(paths: list[Path]) -> Iterator[Entry]:
    for path in paths:
        connection = open_for_reading(path)
        try:
            yield from walk(connection, path)
        finally:
            connection.close()
