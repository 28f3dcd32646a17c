"""`hafsm journal check FILE…`."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import click

from hafsm.codec import UnknownRecord
from journal.errors import JournalError
from replay.check import check as violations_of

HELD, BROKEN, UNREADABLE = 0, 1, 2
SHOWN = 5
"""Of each invariant in each file; the others are counted."""


@click.command(name="check")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def check(files: tuple[Path, ...]) -> None:
    """Judge every step of each FILE by the invariants that a simulation is judged by.

    FILE is what `hafsm export` writes, or one segment of a journal folder. Exit status: 0 every invariant held, 1 some
    did not (each is named with its event), 2 a file cannot be read or was altered.
    """
    worst = HELD
    for file in files:
        worst = max(worst, _check(file))
    sys.exit(worst)


def _check(file: Path) -> int:
    counts: Counter[str] = Counter()
    try:
        for violation in violations_of(file):
            counts[violation.invariant] += 1
            if counts[violation.invariant] <= SHOWN:
                click.echo(f"{file}: {violation}")
    except (JournalError, UnknownRecord) as error:
        click.echo(f"unreadable: {error}", err=True)
        return UNREADABLE
    for name, count in sorted(counts.items()):
        if count > SHOWN:
            click.echo(f"{file}: {name}: {count - SHOWN} more")
    if not counts:
        click.echo(f"{file}: every invariant held")
    return BROKEN if counts else HELD
