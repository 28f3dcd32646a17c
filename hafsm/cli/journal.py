"""`hafsm journal`: what the recorded files are worth, hold, and may lose."""

from __future__ import annotations

import datetime
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from hafsm.cli.export import export
from hafsm.cli.journal_check import check
from hafsm.cli.options import settings_option
from hafsm.config.settings_file import DaemonSettings, parse_age, parse_size
from journal.errors import JournalError
from journal.survey import Survey, prunable, prune, surveys

UNREADABLE = 2
"""As `hafsm replay`: the file cannot be read or was altered."""


def _parsed(what: str, parse: Callable[[str], int | None], example: str) -> Callable[..., int | None]:
    def parsed(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
        if value is None:
            return None
        found = parse(value)
        if found is None:
            raise click.BadParameter(f"{value!r} is no {what}; expected one such as {example}")
        return found

    return parsed


_SIZE = _parsed("size", parse_size, "512MiB or 2GiB")
_AGE = _parsed("age", parse_age, "12h or 30d")


@click.group()
def journal() -> None:
    """Verify, describe, prune and export the journal."""


journal.add_command(export)
journal.add_command(check)


@journal.command()
@click.argument("source", metavar="[PATH]", required=False, type=click.Path(path_type=Path))
@settings_option
def verify(source: Path | None, settings: DaemonSettings) -> None:
    """Check the hash chain of PATH, a file or a folder; without it, of this node's journal.

    Names the first record that was altered, that is missing, or that stands where it does not belong. Exit status: 0
    all of it fits, 2 not, or it cannot be read.
    """
    for found in _read(source or settings.journal.folder):
        torn = f", {found.torn_bytes} bytes of a commit that was cut off left out" if found.torn_bytes else ""
        click.echo(f"{found.path}: {_events(found)}, chain intact{torn}")


@journal.command()
@click.argument("source", metavar="[PATH]", required=False, type=click.Path(path_type=Path))
@settings_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def info(source: Path | None, settings: DaemonSettings, as_json: bool) -> None:
    """Show segments, sizes, lives of the daemon, gaps, clock steps and counts of PATH; default: this node's journal.

    All of it is verified on the way; exit status as that of `verify`.
    """
    path = source or settings.journal.folder
    if as_json:
        click.echo(json.dumps(_as_json(list(_read(path))), indent=2))
        return
    found = []
    for segment in _read(path):
        found.append(segment)
        click.echo(_segment(segment))
    _show(found)


@journal.command("prune")
@settings_option
@click.option("--journal", "folder", type=click.Path(path_type=Path, file_okay=False), help="Folder to prune instead.")
@click.option("--keep", callback=_SIZE, metavar="SIZE", help="Delete the oldest until no more than this is left.")
@click.option("--older-than", callback=_AGE, metavar="AGE", help="Delete what was last written to longer ago.")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
def prune_command(
    settings: DaemonSettings, folder: Path | None, keep: int | None, older_than: int | None, dry_run: bool
) -> None:
    """Delete whole segments, oldest first; never the one that is being written. The daemon may be running.

    Exit status: 0 done, even if there was nothing to do; 2 the folder cannot be read or changed.
    """
    if keep is None and older_than is None:
        raise click.UsageError("nothing would be deleted: give --keep SIZE or --older-than AGE")
    try:
        paths = prunable(folder or settings.journal.folder, keep, older_than)
        for path in paths:
            click.echo(f"{'would delete' if dry_run else 'deleting'} {path} ({_size(path.stat().st_size)})")
        if not dry_run:
            click.echo(f"{len(paths)} segments deleted, {_size(prune(paths))} freed")
    except (OSError, JournalError) as error:
        click.echo(str(error), err=True)
        sys.exit(UNREADABLE)


def _read(path: Path) -> Iterable[Survey]:
    count = 0
    try:
        for found in surveys(path):
            count += 1
            yield found
    except JournalError as error:
        click.echo(str(error), err=True)
        sys.exit(UNREADABLE)
    if not count:
        click.echo(f"{path}: holds no segment", err=True)
        sys.exit(UNREADABLE)


def wall(at_ns: int) -> str:
    """UTC to the millisecond, as the views have it; the number itself where no calendar reaches."""
    try:
        moment = datetime.datetime.fromtimestamp(at_ns // 1_000_000_000, datetime.UTC)
    except (OverflowError, ValueError, OSError):
        return f"{at_ns} ns"
    return f"{moment:%Y-%m-%d %H:%M:%S}.{at_ns // 1_000_000 % 1000:03d}Z"


def _size(size_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} GiB"


def _events(found: Survey) -> str:
    count = found.events.total()
    return f"{count} events ({found.first_seq} to {found.last_seq})" if count else "no events"


def _segment(found: Survey) -> str:
    notes = [_size(found.size_bytes) + (", packed" if found.packed else ""), _events(found)]
    if found.events:
        notes.append(f"{wall(found.first_wall_ns)} to {wall(found.last_wall_ns)}")
    if found.torn_bytes:
        notes.append(f"{found.torn_bytes} bytes of a commit that was cut off left out")
    return f"{found.path.name}: " + ", ".join(notes)


def _show(found: list[Survey]) -> None:
    size_bytes = sum(segment.size_bytes for segment in found)
    events, actions = _counts(found)
    each = f", {size_bytes / events.total():.0f} bytes an event" if events else ""
    click.echo(f"\n{len(found)} segments, {_size(size_bytes)}{each}")
    for run in {run.run: run for segment in found for run in segment.runs}.values():
        flags = f", behaviour {run.flags}" if run.flags else ""
        click.echo(
            f"run {run.run} of {run.node} from event {run.first_seq}, {wall(run.started_wall_ns)}, "
            f"hafsm {run.code_version}, boot {run.boot_id}{flags}"
        )
    for segment in found:
        for gap in segment.gaps:
            click.echo(
                f"gap: events {gap.after_seq + 1} to {gap.after_seq + gap.count} were not kept, "
                f"{wall(gap.from_wall_ns)} to {wall(gap.to_wall_ns)}: {gap.cause}"
            )
        for step in segment.clock_steps:
            way = "forward" if step.by_ns > 0 else "back"
            click.echo(f"clock set {way} by {abs(step.by_ns) / 1e9:.1f} s before event {step.seq}")
    for title, counts in (("events", events), ("actions", actions)):
        click.echo(f"\n{counts.total()} {title}")
        for kind, count in counts.most_common():
            click.echo(f"{count:>12}  {kind}")


def _counts(found: list[Survey]) -> tuple[Counter[str], Counter[str]]:
    events: Counter[str] = Counter()
    actions: Counter[str] = Counter()
    for segment in found:
        events += segment.events
        actions += segment.actions
    return events, actions


def _as_json(found: list[Survey]) -> dict[str, Any]:
    events, actions = _counts(found)
    return {
        "segments": [
            {
                "path": str(segment.path),
                "size_bytes": segment.size_bytes,
                "packed": segment.packed,
                "torn_bytes": segment.torn_bytes,
                "first_seq": segment.first_seq,
                "last_seq": segment.last_seq,
                "first_wall_ns": segment.first_wall_ns,
                "last_wall_ns": segment.last_wall_ns,
                "events": segment.events.total(),
                "snapshots": segment.snapshots,
            }
            for segment in found
        ],
        "runs": [
            {key: value for key, value in run._asdict().items() if key != "configuration"}
            for run in {run.run: run for segment in found for run in segment.runs}.values()
        ],
        "gaps": [gap._asdict() for segment in found for gap in segment.gaps],
        "clock_steps": [step._asdict() for segment in found for step in segment.clock_steps],
        "events": dict(events.most_common()),
        "actions": dict(actions.most_common()),
    }
