"""A journal's folder: which files it holds, in which order, and reading across them."""

from __future__ import annotations

import re
from contextlib import suppress
from itertools import islice
from pathlib import Path

from journal.database import open_for_reading, shm_path, wal_path
from journal.errors import JournalError, Unreadable
from journal.packed import PACKED_SUFFIX
from journal.records import Decision, Position
from journal.walk import read_head, walk_decisions

LISTINGS_MAX = 20
"""Until two in a row are the same."""
_SEGMENT_NAME = re.compile(r"journal-(\d{12,})\.db(\.gz)?")


def segment_name(first_seq: int) -> str:
    """`journal-000000000001.db` for the segment whose first event has number 1."""
    return f"journal-{first_seq:012d}.db"


def first_seq_of(path: Path) -> int:
    """The number in a segment's name: that of its first event, whether or not it was written yet; packed or not."""
    match = _SEGMENT_NAME.fullmatch(path.name)
    if match is None:
        raise JournalError(f"{path}: is not named like a segment (journal-<number>.db)")
    return int(match.group(1))


def segments(folder: Path) -> list[Path]:
    """The segments of a folder, plain or packed, oldest first; other files are not looked at.

    Raises:
        JournalError: the folder cannot be read.
    """
    found = _listed(folder)
    for _ in range(LISTINGS_MAX):
        again = _listed(folder)
        if again == found:
            break
        found = again
    # Of one that is there in both forms (its packing was cut off) the plain one counts.
    both = {first_seq_of(path): path for path in sorted(found, key=lambda path: path.suffix == PACKED_SUFFIX)[::-1]}
    return [both[seq] for seq in sorted(both)]


def _listed(folder: Path) -> set[Path]:
    """A folder is not read at one instant: a segment that changes its form meanwhile may be missed in both."""
    try:
        return {path for path in folder.iterdir() if _SEGMENT_NAME.fullmatch(path.name)}
    except OSError as error:
        raise JournalError(f"journal folder {folder}: {error.strerror}") from None


def size_of(path: Path) -> int:
    """Bytes on disk of a segment and its log; 0 when it is gone."""
    size = 0
    for part in (path, wal_path(path)):
        with suppress(OSError):
            size += part.stat().st_size
    return size


def remove(path: Path) -> None:
    """Delete a segment with everything beside it.

    Raises:
        OSError: the disk refuses.
    """
    plain = path.with_name(path.name.removesuffix(PACKED_SUFFIX))
    # The plain form first: a packer at work then notices at its end, and takes the packed form back.
    for part in (plain, wal_path(plain), shm_path(plain), plain.with_name(plain.name + PACKED_SUFFIX)):
        part.unlink(missing_ok=True)


def latest(folder: Path) -> Position:
    """Where the journal of a folder ends, as far as it is committed; all zero when nothing was written yet.

    Raises:
        JournalError: the folder or its newest segment cannot be read.
    """
    paths = segments(folder)
    if not paths:
        return Position(0, 0, 0)
    connection = open_for_reading(paths[-1])
    try:
        head = read_head(connection, paths[-1])
    finally:
        connection.close()
    return Position(head.last_seq, head.last_action_id, head.last_run)


def read_after(folder: Path, seq: int, limit: int) -> list[Decision]:
    """At most `limit` events numbered above `seq`, with their actions, across segments; unchecked.

    For following a live journal: call again with the last number received.

    Raises:
        JournalError: a segment cannot be read.
    """
    paths = segments(folder)
    newer = [path for path in paths if first_seq_of(path) > seq]
    older = paths[: len(paths) - len(newer)]
    if newer and first_seq_of(newer[0]) == seq + 1:
        older = []
    decisions: list[Decision] = []
    for path in older[-1:] + newer:
        try:
            connection = open_for_reading(path)
        except Unreadable:
            if size_of(path):
                raise
            continue  # retention was faster
        try:
            found = walk_decisions(connection, path, first_seq=seq + 1, verify=False)
            decisions.extend(islice(found, limit - len(decisions)))
        finally:
            connection.close()
        if len(decisions) == limit:
            break
    return decisions
