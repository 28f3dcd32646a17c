"""Packs one sealed segment: `python -I journal/pack.py FILE` makes FILE.gz and removes FILE.

Run by the writer as a process of its own: half a second of computing in one of the daemon's threads would hold up its
loop, and a thread of low priority that owns the interpreter's lock even more so. Imports nothing of the project, so
that it starts in milliseconds. What it leaves when it is killed (`FILE.PID.gz.tmp`) is removed at the journal's next
start. A writer that was killed leaves its packer at work; the lock on the file makes the next one's wait for it.
"""

from __future__ import annotations

import fcntl
import os
import sys
import zlib
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

UNFINISHED_SUFFIX = ".gz.tmp"

_LEVEL = 1
"""Half of what is left is hashes, which no level shrinks: 59.9 bytes an event at level 1, 59.5 at 6, in a third of the
time."""

_CHUNK_BYTES = 2**20
_GZIP = 16 + zlib.MAX_WBITS


def pack(path: Path) -> Path:
    """Replace a file by its gzip form, which is read back and compared before the file goes.

    Returns:
        The path of the packed file. It keeps the file's time, mode and owner.

    Raises:
        OSError: the disk refuses; the file is untouched.
    """
    packed = path.with_name(path.name + ".gz")
    with path.open("rb") as source:
        fcntl.flock(source, fcntl.LOCK_EX)
        if not path.exists() and packed.exists():
            return packed  # somebody else was at it
        unfinished = path.with_name(f"{path.name}.{os.getpid()}{UNFINISHED_SUFFIX}")
        try:
            written = _write(source, unfinished)
            if _content(unfinished) != written:
                raise OSError(f"{unfinished} does not hold what was written to it")
            unfinished.rename(packed)
        except OSError:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise
        _sync(path.parent)
        try:
            path.unlink()
        except FileNotFoundError:  # deleted meanwhile: it shall not come back in another form
            packed.unlink()
            raise
    return packed


def _write(source: BinaryIO, target: Path) -> tuple[int, int]:
    stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    status = os.fstat(source.fileno())
    length = checksum = 0
    with target.open("xb") as file:
        os.fchmod(file.fileno(), status.st_mode & 0o777)
        with suppress(PermissionError):
            os.fchown(file.fileno(), status.st_uid, status.st_gid)
        while chunk := source.read(_CHUNK_BYTES):
            length += len(chunk)
            checksum = zlib.crc32(chunk, checksum)
            file.write(stream.compress(chunk))
            # Little by little: at one go, the journal's own commits would wait behind all of it.
            file.flush()
            os.fdatasync(file.fileno())
        file.write(stream.flush())
        file.flush()
        os.utime(file.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
        os.fsync(file.fileno())
    return length, checksum


def _content(path: Path) -> tuple[int, int]:
    stream = zlib.decompressobj(_GZIP)
    length = checksum = 0
    with path.open("rb") as file:
        while chunk := stream.unconsumed_tail or file.read(_CHUNK_BYTES):
            data = stream.decompress(chunk, _CHUNK_BYTES)
            length += len(data)
            checksum = zlib.crc32(data, checksum)
    return length, checksum


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def main() -> None:
    """With the lowest claim on the processor, whatever the daemon has; one line on stderr if it cannot be done."""
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, 19)
    try:
        pack(Path(sys.argv[1]))
    except OSError as error:
        sys.exit(f"{sys.argv[1]} stays unpacked: {error}")


if __name__ == "__main__":
    main()
