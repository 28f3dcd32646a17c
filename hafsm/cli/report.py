"""`hafsm report FILE… -o incident.html`."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

import click

from hafsm.cli.progress import progress_bar
from hafsm.cli.replay_pair import clock_sentence
from hafsm.cli.why import parse_time
from hafsm.codec import UnknownRecord
from hafsm.web.report_page import page
from journal.errors import JournalError
from replay.history import Diverged, files_of
from replay.merge import MergeRefused
from replay.report import NothingThen, Report, make

NOTHING, UNREADABLE = 1, 2


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", metavar="HTML", required=True, type=click.Path(path_type=Path, dir_okay=False), help="Where to."
)
@click.option("--from", "from_ns", metavar="TIME", callback=parse_time("--from"), help="Leave out what was before.")
@click.option("--until", "until_ns", metavar="TIME", callback=parse_time("--until"), help="Leave out what came after.")
@click.option("--force", is_flag=True, help="Replace the output if it exists.")
def report(files: tuple[Path, ...], output: Path, from_ns: int | None, until_ns: int | None, force: bool) -> None:
    """Write what happened into one HTML file for a postmortem: it needs no network and no other file.

    FILE is what `hafsm export` writes, a segment, or a journal folder; with one of each director both are on one time
    axis. Causes older than --from are still told. Exit status: 0 written, 1 nothing was written: it exists already, or
    nothing was recorded then, 2 a file cannot be read or was altered, or is decided otherwise by this hafsm.
    """
    if len(files) > 2:
        raise click.UsageError(f"{len(files)} files: a pair has two directors; a folder stands for all its segments")
    if output.exists() and not force:
        click.echo(f"{output} exists; --force replaces it", err=True)
        sys.exit(NOTHING)
    try:
        with progress_bar("reading the journal", files[0]) as tell:
            made = make([files_of(file) for file in files], from_ns, until_ns, tell)
    except NothingThen as error:
        click.echo(str(error), err=True)
        sys.exit(NOTHING)
    except (JournalError, UnknownRecord, Diverged, MergeRefused) as error:
        click.echo(f"unreadable: {error}", err=True)
        sys.exit(UNREADABLE)
    text = page(made, _clock(made))
    try:
        _write(output, text)
    except OSError as error:
        click.echo(f"{output}: {error.strerror or error}", err=True)
        sys.exit(NOTHING)
    click.echo(f"{output}: {len(made.decisions)} decisions")
    for line in made.left_out:
        click.echo(f"left out: {line}")


def _clock(made: Report) -> str:
    if made.merged is None:
        return ""
    first, second = made.merged.sides
    return clock_sentence(made.merged.wall, first.node, second.node)


def _write(output: Path, text: str) -> None:
    """Whole or not at all."""
    unfinished = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(output)
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
