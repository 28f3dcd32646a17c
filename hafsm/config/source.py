"""Configuration files as lines with their numbers, read once, bounded in size.

Bytes that are not UTF-8 survive as surrogates, so that a key may hold any byte; everywhere else they are an error.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from hafsm.config.findings import Report, quote

SIZE_LIMIT_BYTES = 16 * 1024 * 1024
"""Some 200,000 `real=` lines; more is a mistake such as a log file in the wrong place."""


class Line(NamedTuple):
    """A line of a file."""

    number: int
    """1-based."""
    text: str
    """Without its line end; a carriage return before it is gone too."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was read. Its text may hold secrets and is never shown in a repr."""

    path: Path
    mode: int
    """Permission bits."""
    lines: tuple[Line, ...] = field(repr=False)
    carriage_returns: bool = False
    """Some line ends in CR LF."""


def read_source(path: Path, report: Report, *, purpose: str) -> Source | None:
    """The file's lines, or None with an error in `report`; `purpose` says what the file is for. Blocks on the disk."""
    try:
        # Non-blocking so that a FIFO by that name cannot hang the reader.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                report.error(0, "not a regular file", f"a text file with {purpose}")
                return None
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(SIZE_LIMIT_BYTES + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        report.error(0, "there is no such file", purpose, "Create the file; it must be the same on both nodes")
        return None
    except (OSError, ValueError) as error:
        report.error(0, f"cannot be read ({getattr(error, 'strerror', None) or error})", f"a text file with {purpose}")
        return None
    if len(data) > SIZE_LIMIT_BYTES:
        report.error(0, f"larger than {SIZE_LIMIT_BYTES >> 20} MiB", f"a text file with {purpose}")
        return None
    return Source(
        path=path,
        mode=stat.S_IMODE(status.st_mode),
        lines=tuple(split_lines(data)),
        carriage_returns=b"\r\n" in data,
    )


def split_lines(data: bytes) -> Iterator[Line]:
    """Lines end at LF only: a form feed or U+2028 inside a value is an ordinary character."""
    texts = data.decode("utf-8", "surrogateescape").split("\n")
    if texts[-1] == "":
        texts.pop()
    for number, text in enumerate(texts, 1):
        yield Line(number, text.removesuffix("\r"))


def is_clean(line: Line, text: str, report: Report) -> bool:
    """Whether `text`, the part of `line` that counts, is free of control characters, exotic blanks, undecodable bytes.

    A no-break space pasted from a web page looks like a blank and is none.
    """
    if text.replace("\t", " ").isprintable():
        return True
    for character in text:
        if character != "\t" and not character.isprintable():
            report.error(
                line.number,
                f"the line holds {quote(character)}, which is neither a letter nor a blank",
                "UTF-8 text with ordinary blanks",
                "Retype the line",
            )
            return False
    return True


def exists(path: Path) -> bool:
    """Whether there is something by that name that this process can see; a name too long for a file is none."""
    try:
        return path.exists()
    except OSError:
        return False
