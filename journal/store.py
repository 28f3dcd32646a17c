"""The writer's files: the folder's lock, the segment in use, its chain's head, rotation and retention.

Everything here blocks on the disk and belongs to the writer's thread.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from errno import ENOENT
from pathlib import Path

from journal import pack
from journal.batch import Batch
from journal.database import (
    LOCK_NAME,
    PAGE_BYTES,
    open_for_reading,
    open_for_writing,
    sync_folder,
    torn_bytes,
    wal_path,
)
from journal.errors import JournalError
from journal.folder import first_seq_of, remove, segment_name, segments, size_of
from journal.header import SCHEMA_VERSION
from journal.packed import PACKED_SUFFIX, UNPACKED_MAX_BYTES
from journal.records import Entry, GapRecord, Position, RunRecord, SnapshotRecord
from journal.schema import create_database
from journal.walk import Head, read_head, walk

_FOLDER_MODE = 0o700
_FILE_MODE = 0o640
_CHECKED_AT_OPEN = 1000
"""Events at the end of the journal whose chain is verified before it is continued: some milliseconds."""

_CHECKPOINT_PAGES = 1000
"""SQLite's own default: 4 MiB of log between checkpoints."""

_PAGES_PER_COMMIT = 6
"""The leaves and inner pages that even a small commit writes: two tables and their indexes."""

_ROWS_PER_PAGE = 12
"""Rows of some 300 bytes in a page of 4096, to estimate the length of the log."""

_MEASURE_PAGES = 64
"""How much is written between two looks at the file's size: the look costs as much as writing ten events."""

_log = logging.getLogger(__name__)


class Store:
    """The files of one journal, held under an exclusive lock from `open` to `close`."""

    def __init__(
        self,
        folder: Path,
        segment_bytes: int,
        total_bytes: int,
        segment_age_s: float = float("inf"),
        packs: bool = False,
    ) -> None:
        self.folder = folder
        self.head = Head()
        self.path: Path | None = None
        """The segment in use; None before the first one."""
        self._segment_bytes = segment_bytes
        self._total_bytes = total_bytes
        self._segment_age_s = segment_age_s
        self._packs = packs
        self._packing: tuple[subprocess.Popen[bytes], Path] | None = None
        self._unpackable: set[Path] = set()
        """Segments whose packing failed in this life; tried again in the next."""
        self._first_seq = 0
        self._old_schema = False
        self._ends_at_s = 0.0
        """`time.monotonic` at which the segment in use has its age."""
        self._connection: sqlite3.Connection | None = None
        self._identity = (0, 0)
        self._lock: int | None = None
        self._log_pages = 0
        self._measure_pages = min(_MEASURE_PAGES, segment_bytes // PAGE_BYTES // 16)
        self._unmeasured_pages = 0
        self._bytes = 0
        self._sealed_bytes = 0

    def open(self) -> Position:
        """Lock the folder (made if missing), finish what a crash left unfinished and find the end of the journal.

        Raises:
            JournalError: in use by another process, not writable, or the newest segment is damaged.
        """
        try:
            self.folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            self._take_lock()
            for unfinished in self.folder.glob("journal-*" + pack.UNFINISHED_SUFFIX):
                unfinished.unlink(missing_ok=True)  # a packer of the last life may be at its end just now
            self._tell_torn()
            self.reopen()
            self._seal_leftovers()
            self._check_tail()
        except (OSError, sqlite3.Error) as error:
            self.close()
            raise JournalError(f"journal folder {self.folder}: {error}") from error
        except JournalError:
            self.close()
            raise
        return Position(self.head.last_seq, self.head.last_action_id, self.head.last_run)

    def reopen(self) -> None:
        """Open the newest segment afresh and read its end; after a failure the file, not memory, says what was kept.

        Raises:
            OSError, sqlite3.Error, JournalError: not possible now.
        """
        self.release()
        self.folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        for unfinished in self.folder.glob("journal-*.db.tmp*"):
            unfinished.unlink()
        paths = segments(self.folder)
        if paths and paths[-1].suffix == PACKED_SUFFIX:
            # Somebody removed the one that was written; the journal goes on after this one, in a file of its own.
            self.path = None
            self.head = _end_of(paths[-1])
        elif paths:
            self._use(paths[-1])
        else:
            self.path = None
            self.head = Head(last_action_id=self.head.last_action_id)
        self._sealed_bytes = sum(size_of(path) for path in paths if path != self.path)

    @property
    def connected(self) -> bool:
        """False before the first segment and after `release`."""
        return self._connection is not None

    @property
    def full(self) -> bool:
        """The segment in use has reached its size or age, or has an older schema, and holds at least one event."""
        if self.path is None or self.head.last_seq < self._first_seq:
            return False
        return self._bytes > self._segment_bytes or self._old_schema or time.monotonic() > self._ends_at_s

    def write(self, entries: Sequence[Entry]) -> list[GapRecord]:
        """Append in one transaction; on disk when this returns. On an error nothing was appended.

        An entry that cannot be stored (a number too large, a number that does not grow) is replaced by a gap: that is
        a bug of the caller and must not stop the records after it.

        Returns:
            The gaps among what was written.

        Raises:
            OSError, sqlite3.Error: the disk refuses.
        """
        connection = self._require_connection()
        batch = Batch(self.head)
        for entry in entries:
            batch.add(entry)
        batch.insert(connection)
        self.head = batch.head
        pages = _PAGES_PER_COMMIT + batch.row_count // _ROWS_PER_PAGE
        self._log_pages += pages
        self._unmeasured_pages += pages
        return batch.gaps

    def begin_segment(self, run: RunRecord, snapshot: SnapshotRecord) -> None:
        """Make the next file, with run and snapshot as its first records, and seal the one before.

        The file gets its name when it is complete: a crash leaves either no segment or a whole one.

        Raises:
            OSError, sqlite3.Error: the disk refuses; the segment in use stays.
        """
        path = self.folder / segment_name(snapshot.seq + 1)
        unfinished = path.with_name(path.name + ".tmp")
        unfinished.unlink(missing_ok=True)
        batch = Batch(self.head._replace(last_seq=snapshot.seq))
        batch.begin_segment()
        batch.add(run)
        batch.add(snapshot)
        try:
            connection = create_database(unfinished)
            try:
                unfinished.chmod(_FILE_MODE)
                batch.insert(connection)
            finally:
                connection.close()
        except (OSError, sqlite3.Error):
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise
        unfinished.rename(path)
        sync_folder(self.folder)
        before, before_path = self._connection, self.path
        self._connection = None
        if before is not None and before_path is not None:
            _seal(before)
            self._sealed_bytes += size_of(before_path)
        self._use(path)

    def tidy(self) -> None:
        """Checkpoint a long log, delete the oldest files beyond the limit. Call after telling what is durable.

        Raises:
            OSError, sqlite3.Error: the disk refuses; nothing that was committed is lost.
        """
        if self._connection is None or self.path is None:
            return
        if self._log_pages >= _CHECKPOINT_PAGES:
            self._log_pages = 0
            self._connection.execute("PRAGMA wal_checkpoint(passive)").fetchall()
        if self._unmeasured_pages < self._measure_pages:
            return
        self._measure(self._connection, self.path)
        if self._sealed_bytes + self._bytes > self._total_bytes:
            self._delete_oldest()
        if self._packs:
            self._pack_next()

    def release(self) -> None:
        """Give the segment back; the lock stays."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        """Release everything. The last connection's end moves the log into the file."""
        self.release()
        if self._packing is not None:
            process, _ = self._packing
            process.kill()
            process.communicate()
            self._packing = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _require_connection(self) -> sqlite3.Connection:
        if self._connection is None or self.path is None:
            raise OSError(ENOENT, "no segment is open")
        # SQLite would go on writing into a file that has no name any more.
        if _identity(self.path) != self._identity:
            raise OSError(ENOENT, f"{self.path.name} was removed or replaced while it was written")
        return self._connection

    def _use(self, path: Path) -> None:
        connection = open_for_writing(path)
        try:
            self.head = read_head(connection, path)
            self._identity = _identity(path)
            (schema,) = connection.execute("PRAGMA user_version").fetchone()
            begun = connection.execute("SELECT at_wall_ns FROM snapshot ORDER BY link LIMIT 1").fetchone()
        except (OSError, sqlite3.Error, JournalError):
            connection.close()
            raise
        self._connection = connection
        self.path = path
        self._first_seq = first_seq_of(path)
        self._old_schema = schema != SCHEMA_VERSION
        # How old a file is when it is found again only wall time can tell; a clock that was set back makes it young.
        age_s = max(0.0, time.time() - begun[0] / 1e9) if begun else 0.0
        self._ends_at_s = time.monotonic() + self._segment_age_s - age_s
        self._log_pages = 0
        self._measure(connection, path)

    def _take_lock(self) -> None:
        path = self.folder / LOCK_NAME
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, _FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise JournalError(
                f"journal folder {self.folder} is in use by process {holder}; one writer at a time"
            ) from None
        self._lock = descriptor
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)

    def _seal_leftovers(self) -> None:
        for path in segments(self.folder)[:-1]:
            if path.suffix != PACKED_SUFFIX and wal_path(path).exists():
                _seal(open_for_writing(path))

    def _tell_torn(self) -> None:
        paths = segments(self.folder)
        torn = torn_bytes(paths[-1]) if paths else 0
        if torn:
            _log.info("journal: %d bytes of a commit that was cut off are left out of %s", torn, paths[-1].name)

    def _pack_next(self) -> None:
        """Begin to pack the oldest sealed segment that is not; one at a time."""
        if self._packing is not None:
            process, path = self._packing
            if process.poll() is None:
                return
            _, complaint = process.communicate()
            self._packing = None
            if process.returncode:
                self._unpackable.add(path)
                _log.warning("journal: %s", complaint.decode(errors="replace").strip())
            self._sealed_bytes = sum(map(size_of, segments(self.folder)[:-1]))
        for path in segments(self.folder)[:-1]:
            if path.suffix == PACKED_SUFFIX or path in self._unpackable:
                continue
            # One that somebody read while it was sealed still has a log; the next start seals it.
            if wal_path(path).exists() or not 0 < size_of(path) <= UNPACKED_MAX_BYTES:
                continue
            command = [sys.executable, "-I", "-S", pack.__file__, str(path)]
            try:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
                )
            except OSError as error:  # no memory or no process left: not the disk's fault
                self._unpackable.add(path)
                _log.warning("journal: %s stays unpacked: %s", path.name, error)
                return
            self._packing = (process, path)
            return

    def _check_tail(self) -> None:
        if self._connection is None or self.path is None:
            return
        first = max(first_seq_of(self.path), self.head.last_seq - _CHECKED_AT_OPEN)
        for _ in walk(self._connection, self.path, first_seq=first):
            pass

    def _measure(self, connection: sqlite3.Connection, path: Path) -> None:
        self._unmeasured_pages = 0
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        # A reader that holds the log makes it grow beyond the pages it stands for.
        self._bytes = max(pages * PAGE_BYTES, _log_bytes(path))

    def _delete_oldest(self) -> None:
        paths = segments(self.folder)
        sizes = [size_of(path) for path in paths]
        excess = sum(sizes) - self._total_bytes
        for path, size in zip(paths[:-1], sizes[:-1], strict=True):
            if excess <= 0:
                break
            remove(path)
            excess -= size
        self._sealed_bytes = sum(map(size_of, segments(self.folder)[:-1]))


def _end_of(path: Path) -> Head:
    connection = open_for_reading(path)
    try:
        return read_head(connection, path)
    finally:
        connection.close()


def _log_bytes(path: Path) -> int:
    try:
        return wal_path(path).stat().st_size
    except FileNotFoundError:
        return 0


def _identity(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return (status.st_dev, status.st_ino)


def _seal(connection: sqlite3.Connection) -> None:
    """Turn a segment into a plain file without a log. While somebody reads it that must wait for the next start."""
    try:
        with suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA wal_checkpoint(truncate)").fetchall()
            connection.execute("PRAGMA journal_mode = delete").fetchall()
    finally:
        connection.close()
