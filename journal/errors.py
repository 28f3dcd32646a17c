"""The exception tree.

    JournalError             the journal cannot be used as asked; the text says what to do
    ├── Unreadable           a file is not a journal segment, or is damaged
    └── ChainBroken          a row was altered, or a record before it is missing

A disk that fails while the writer runs is not an exception: it is reported through `on_trouble` and counted.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path


class JournalError(Exception):
    """Base of everything this package raises on purpose."""


class Unreadable(JournalError):
    """The file cannot be read as a segment."""

    def __init__(self, path: Path, detail: str) -> None:
        super().__init__(path, detail)
        self.path = path
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.path}: {self.detail}"


class ChainBroken(JournalError):
    """The row is not the one that was written, or does not follow the one before it."""

    def __init__(self, path: Path, row: str, detail: str) -> None:
        super().__init__(path, row, detail)
        self.path = path
        self.row = row
        """The first row that does not fit: `event 1234`, `action 77`, `snapshot after event 12`."""
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.path}: {self.row} {self.detail}"


SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What reading a damaged file raises: Python decodes SQLite's own message, which may quote the damage."""
