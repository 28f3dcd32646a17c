"""`hafsm export FILE.db`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hafsm.cli.options import settings_option
from hafsm.config.settings_file import DaemonSettings
from journal.errors import JournalError
from journal.export import export as export_journal


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@settings_option
@click.option("--journal", type=click.Path(path_type=Path, file_okay=False), help="Folder to read instead.")
@click.option("--from", "first", type=int, metavar="SEQ", help="Leave out what is older, as far as snapshots allow.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def export(file: Path, settings: DaemonSettings, journal: Path | None, first: int | None, force: bool) -> None:
    """Write the journal of this node into one incident file, FILE, whether the daemon runs or not.

    The file verifies and replays alone. Exit status: 0 written, 1 nothing was written.
    """
    folder = journal if journal is not None else settings.journal.folder
    try:
        result = export_journal(folder, file, first_seq=first, overwrite=force)
    except JournalError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    click.echo(f"{file}: {result.counts.events} events ({result.first_seq} to {result.last_seq})")
