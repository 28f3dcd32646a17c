"""`hafsm replay FILE.db`."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from hafsm.cli.render import show_status, wall_time
from hafsm.codec import UnknownRecord
from hafsm.core.describe import describe
from journal.errors import JournalError
from journal.records import EventRecord
from replay.engine import Difference, Result
from replay.engine import replay as run_replay

IDENTICAL, DIFFERENT, UNREADABLE = 0, 1, 2


def parse_until(text: str) -> Callable[[EventRecord], bool]:
    """A number is the last event to fold; anything else is a time, local unless it says otherwise."""
    if text.isdecimal():
        last = int(text)
        return lambda event: event.seq > last
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is neither an event number nor a time such as 2026-11-24T03:00:00", param_hint="--until"
        ) from None
    limit = int(moment.astimezone().timestamp() * 1_000_000) * 1000
    return lambda event: event.at_wall_ns > limit


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--until", metavar="SEQ|TIME", help="Stop after this event or at this time, and print the state then.")
def replay(file: Path, until: str | None) -> None:
    """Fold FILE's events again and compare every decision with the recorded one.

    FILE is what `hafsm export` writes, or one segment of a journal folder. Exit status: 0 identical, 1 different (the
    first difference is shown field by field), 2 the file cannot be read or was altered.
    """
    condition = parse_until(until) if until is not None else None
    try:
        result = _run(file, condition)
    except (JournalError, UnknownRecord) as error:
        click.echo(f"unreadable: {error}", err=True)
        sys.exit(UNREADABLE)
    if result.difference is not None:
        _show_difference(result.difference)
        sys.exit(DIFFERENT)
    click.echo(summary(result))
    if until is not None:
        if result.state is None:
            click.echo("no event was folded before that")
        else:
            click.echo(f"\nstate after event {result.last} ({wall_time(result.wall_ns)}):\n")
            show_status(Console(), describe(result.state, result.reasons, now=result.state.now))
    sys.exit(IDENTICAL)


def _run(file: Path, until: Callable[[EventRecord], bool] | None) -> Result:
    if not sys.stderr.isatty():
        return run_replay(file, until=until)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("replaying", total=None)
        return run_replay(file, until=until, progress=lambda events: bar.update(task, completed=events))


def summary(result: Result) -> str:
    """One line; the same bytes for the same file, always."""
    parts = [
        f"{result.events} events ({result.first} to {result.last})",
        f"{result.actions} actions",
        f"{result.runs} {'life' if result.runs == 1 else 'lives'} of the daemon",
        f"{result.snapshots} snapshots compared",
    ]
    if result.lost or result.skipped:
        parts.append(f"{result.lost} events lost in gaps, {result.skipped} after them not folded")
    return "identical: " + ", ".join(parts)


def _show_difference(difference: Difference) -> None:
    click.echo(f"different: event {difference.seq} ({difference.kind} {difference.payload})")
    for field in difference.fields:
        click.echo(f"  {field.name}")
        click.echo(f"    recorded: {field.recorded}")
        click.echo(f"    computed: {field.computed}")
