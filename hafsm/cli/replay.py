"""`hafsm replay FILE…`."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from hafsm.cli.progress import progress_bar
from hafsm.cli.render import show_status, wall_time
from hafsm.cli.replay_pair import pair_document, pair_of, show_pair
from hafsm.cli.replay_to_test import write_test
from hafsm.cli.replay_whatif import show_whatif, whatif_document
from hafsm.codec import UnknownRecord
from hafsm.core.describe import describe
from journal.errors import JournalError
from journal.records import EventRecord
from replay.engine import Difference, Result
from replay.engine import replay as run_replay
from replay.history import Diverged, counted, files_of, moments
from replay.merge import MergeRefused
from replay.parameters import Unusable, parse
from replay.whatif import compare

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
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--until", metavar="SEQ|TIME", help="Stop after this event or at this time, and print the state then.")
@click.option("--set", "changes", metavar="NAME=VALUE", multiple=True, help="Decide again with another parameter.")
@click.option("--play", is_flag=True, help="Watch it in the terminal, forwards and backwards.")
@click.option("--speed", type=click.FloatRange(0.1, 1000), default=1.0, show_default=True, help="For --play.")
@click.option("--json", "as_json", is_flag=True, help="The result for programs.")
@click.option("--to-test", type=click.Path(path_type=Path), metavar="TARGET", help="Write a test of its last decision.")
@click.option("--event", type=int, metavar="SEQ", help="With --to-test: of the decision on this event instead.")
def replay(
    files: tuple[Path, ...],
    until: str | None,
    changes: tuple[str, ...],
    play: bool,
    speed: float,
    as_json: bool,
    to_test: Path | None,
    event: int | None,
) -> None:
    """Fold FILE's events again and compare every decision with the recorded one.

    FILE is what `hafsm export` writes, one segment of a journal, or a journal folder. With one of each director both
    are verified and put on one timeline of cause and effect, with what only both show.

    --set NAME=VALUE, such as deadtime=5s or checks.failurecount=3, may be given several times: what would have been
    decided is shown beside what was. The names are those of ha.cf and ldirectord.cf, the values as written there.

    Exit status: 0 identical (with --set and --play: done), 1 different (the first difference is shown field by field),
    2 a file cannot be read or was altered, or the options do not fit together.
    """
    if to_test is not None:
        if len(files) != 1:
            raise click.UsageError("--to-test takes one file")
        write_test(files[0], to_test, event)
        return
    condition = parse_until(until) if until is not None else None
    _check_options(files, until, changes, play, as_json)
    try:
        if play:
            from hafsm.cli.play import play as play_film

            play_film(files_of(files[0]), speed)
        elif changes:
            _whatif(files[0], changes, as_json)
        else:
            _verify(files, condition, as_json)
    except (JournalError, UnknownRecord, Diverged, MergeRefused) as error:
        click.echo(f"unreadable: {error}", err=True)
        sys.exit(UNREADABLE)


def _check_options(
    files: tuple[Path, ...], until: str | None, changes: tuple[str, ...], play: bool, as_json: bool
) -> None:
    single = [
        name for name, given in (("--until", until), ("--set", changes), ("--play", play)) if given and len(files) > 1
    ]
    if single:
        raise click.UsageError(f"{single[0]} takes one file, {len(files)} were given")
    if len(files) > 2:
        raise click.UsageError(f"{len(files)} files: a pair has two directors; a folder stands for all its segments")
    together = [name for name, given in (("--until", until), ("--set", changes), ("--play", play)) if given]
    if len(together) > 1:
        raise click.UsageError(f"{together[0]} and {together[1]} do not go together")
    if play and as_json:
        raise click.UsageError("--play is for people; --json is not")


def _verify(files: tuple[Path, ...], condition: Callable[[EventRecord], bool] | None, as_json: bool) -> None:
    results = [result for place in files for result in _run(place, condition)]
    different = next((result for result in results if result.difference is not None), None)
    merged = pair_of(files) if len(files) > 1 and different is None else None
    if as_json:
        document: dict[str, Any] = {"files": [_result_document(result, condition is not None) for result in results]}
        if merged is not None:
            document["pair"] = pair_document(merged)
        click.echo(json.dumps(document, indent=1, ensure_ascii=False))
    else:
        for result in results:
            name = f"{result.path}: " if len(results) > 1 else ""
            if result.difference is None:
                click.echo(f"{name}{summary(result)}")
            else:
                click.echo(name, nl=False)
                _show_difference(result.difference)
        if condition is not None and different is None:
            _show_state(results[-1])
        if merged is not None:
            show_pair(merged)
    sys.exit(IDENTICAL if different is None else DIFFERENT)


def _show_state(result: Result) -> None:
    if result.state is None:
        click.echo("no event was folded before that")
        return
    click.echo(f"\nstate after event {result.last} ({wall_time(result.wall_ns)}):\n")
    show_status(Console(), describe(result.state, result.reasons, now=result.state.now))


def _result_document(result: Result, with_state: bool) -> dict[str, Any]:
    document: dict[str, Any] = {
        "file": str(result.path),
        "identical": result.identical,
        "first": result.first,
        "last": result.last,
        "events": result.events,
        "actions": result.actions,
        "lives": result.runs,
        "snapshots": result.snapshots,
        "skipped": result.skipped,
        "lost": result.lost,
        "difference": None,
    }
    if result.difference is not None:
        difference = result.difference
        document["difference"] = {
            "event": difference.seq,
            "kind": difference.kind,
            "payload": difference.payload,
            "fields": [field._asdict() for field in difference.fields],
        }
    if with_state and result.state is not None:
        document["state"] = describe(result.state, result.reasons, now=result.state.now)
    return document


def _run(place: Path, until: Callable[[EventRecord], bool] | None) -> list[Result]:
    """Every file of a place: each segment is a file of its own. Stops at the first that differs."""
    results = []
    for file in files_of(place):
        with progress_bar("replaying", file) as tell:
            results.append(run_replay(file, until=until, progress=tell))
        if not results[-1].identical:
            break
    return results


def _whatif(file: Path, words: tuple[str, ...], as_json: bool) -> None:
    try:
        parameters = parse(words)
        with progress_bar("deciding again", file) as tell:
            result = compare(counted(moments(files_of(file)), tell), parameters)
    except Unusable as error:
        raise click.BadParameter(str(error), param_hint="--set") from None
    if as_json:
        click.echo(json.dumps(whatif_document(result), indent=1, ensure_ascii=False))
    else:
        show_whatif(result)


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
