"""One self-contained file out of a journal's folder: for a ticket, for another machine, for a test."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from journal.database import open_for_reading, reading_uri, sync_folder
from journal.errors import JournalError, Unreadable
from journal.folder import first_seq_of, segments
from journal.reader import Counts, Journal
from journal.schema import TABLES, create_database
from journal.walk import read_head


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


def export(folder: Path, target: Path, first_seq: int | None = None, overwrite: bool = False) -> ExportResult:
    """Copy whole segments into one file, rows and chain unchanged; the writer may be running.

    The file is verified before it gets its name, so what is at `target` is complete, or was there before.

    Args:
        first_seq: begin with the segment that holds this event; default: the oldest after which nothing is missing.

    Raises:
        JournalError: nothing to export, `first_seq` is not retained or does not connect to the end, or `target` exists.
        ChainBroken, Unreadable: the source is damaged.
    """
    if target.exists() and not overwrite:
        raise JournalError(f"{target} exists")
    paths = _chosen(folder, first_seq)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        _copy(paths, unfinished)
        with Journal(unfinished) as journal:
            counts = journal.verify()
            last_seq = journal.last()
        unfinished.replace(target)
        sync_folder(target.parent)
    except (OSError, sqlite3.Error) as error:
        raise JournalError(f"{target}: {error}") from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
    return ExportResult(
        path=target,
        first_seq=first_seq_of(paths[0]),
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
        previous, last_chain = _ends(path)
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


def _ends(path: Path) -> tuple[bytes, bytes]:
    """The chain before a segment's first row, and that of its last."""
    connection = open_for_reading(path)
    try:
        row = connection.execute("SELECT previous FROM segment ORDER BY link LIMIT 1").fetchone()
        head = read_head(connection, path)
    except sqlite3.Error as error:
        raise Unreadable(path, str(error)) from None
    finally:
        connection.close()
    return row[0], head.chain


def _copy(paths: list[Path], target: Path) -> None:
    target.unlink(missing_ok=True)
    connection = create_database(target)
    try:
        for path in paths:
            try:
                connection.execute("ATTACH ? AS source", (reading_uri(path),))
            except sqlite3.Error as error:
                raise Unreadable(path, str(error)) from None
            # One transaction: a live segment is copied as it stands at one moment.
            connection.execute("BEGIN")
            for table in TABLES:
                connection.execute(f"INSERT INTO main.{table} SELECT * FROM source.{table}")
            connection.execute("COMMIT")
            connection.execute("DETACH source")
    finally:
        connection.close()
