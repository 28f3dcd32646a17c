"""`hafsm export FILE.db`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import click

from hafsm.cli.options import settings_option
from hafsm.config.settings_file import DaemonSettings
from hafsm.errors import HafsmError
from journal.errors import ChainBroken, JournalError, Unreadable
from journal.export import export as export_journal


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@settings_option
@click.option("--journal", type=click.Path(path_type=Path), help="Folder, or file, to read instead.")
@click.option("--from", "first", type=int, metavar="SEQ", help="Leave out what is older, as far as snapshots allow.")
@click.option("--redact-addresses", is_flag=True, help="Replace addresses and names; the file replays all the same.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def export(
    file: Path, settings: DaemonSettings, journal: Path | None, first: int | None, redact_addresses: bool, force: bool
) -> None:
    """Write the journal of this node into one incident file, FILE, whether the daemon runs or not.

    The file verifies and replays alone. It never holds keys or passwords. Exit status: 0 written, 1 nothing was
    written, 2 the journal cannot be read or was altered.
    """
    folder = journal if journal is not None else settings.journal.folder
    rewrite = importlib.import_module("hafsm.cli.redacting").redact_addresses if redact_addresses else None
    try:
        result = export_journal(folder, file, first_seq=first, overwrite=force, rewrite=rewrite)
    except (Unreadable, ChainBroken) as error:
        click.echo(f"unreadable: {error}", err=True)
        sys.exit(2)
    except (JournalError, HafsmError) as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    click.echo(f"{file}: {result.counts.events} events ({result.first_seq} to {result.last_seq})")
