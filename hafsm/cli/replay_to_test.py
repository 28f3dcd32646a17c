"""`hafsm replay FILE --to-test TARGET`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hafsm.codec import UnknownRecord
from journal.errors import JournalError
from replay.to_test import NothingDecided, to_test


def write_test(file: Path, target: Path, event: int | None) -> None:
    """Exits with 2 if there is nothing to write a test of, or it cannot be written."""
    try:
        test, line = to_test(file, target, event=event)
    except (JournalError, UnknownRecord, NothingDecided) as error:
        click.echo(f"no test was written: {error}", err=True)
        sys.exit(2)
    click.echo(f"{test}: {line}")
