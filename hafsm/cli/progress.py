"""A progress bar for commands that read a long journal: on stderr, and only if that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from journal.reader import Journal
from replay.history import files_of


@contextmanager
def progress_bar(what: str, place: Path) -> Iterator[Callable[[int], None] | None]:
    """Gives a function to be told the event's number, or None where nobody would see it.

    Raises `journal.errors.JournalError` for what cannot be read.
    """
    if not sys.stderr.isatty():
        yield None
        return
    files = files_of(place)
    with Journal(files[0]) as journal:
        first = journal.first() or 0
    with Journal(files[-1]) as journal:
        last = journal.last()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=max(1, last - first + 1))
        yield lambda seq: bar.update(task, completed=seq - first)
