"""`hafsm events`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click

from hafsm.cli.options import settings_option
from hafsm.cli.render import wall_time
from hafsm.config.settings_file import DaemonSettings
from journal.errors import JournalError
from journal.folder import latest, read_after
from journal.records import ActionRecord, EventRecord

BATCH = 500
POLL_S = 0.2
_STEADY = frozenset({"heartbeat_received", "ping_answered", "deadline_passed", "checks_reported", "kernel_observed"})
"""Kinds that say nothing new most of the time; shown with --all, or when something was decided."""


@click.command()
@settings_option
@click.option("--journal", type=click.Path(path_type=Path, file_okay=False), help="Folder to read instead.")
@click.option(
    "-n", "count", default=1000, show_default=True, help="How many of the newest events to look through first."
)
@click.option("--follow", "-f", is_flag=True, help="Go on as new events come.")
@click.option("--all", "everything", is_flag=True, help="Also events on which nothing remarkable was decided.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def events(
    settings: DaemonSettings, journal: Path | None, count: int, follow: bool, everything: bool, as_json: bool
) -> None:
    """List the newest events of this node's journal with what was decided on them, and why.

    Exit status: 0 listed, 2 the journal cannot be read.
    """
    folder = journal if journal is not None else settings.journal.folder
    try:
        last = max(0, latest(folder).last_seq - count)
        while True:
            batch = read_after(folder, last, BATCH)
            for event, actions in batch:
                if everything or event.reason or event.kind not in _STEADY:
                    click.echo(_as_json(event, actions) if as_json else _as_text(event, actions))
                last = event.seq
            if not batch:
                if not follow:
                    return
                sys.stdout.flush()
                time.sleep(POLL_S)
    except JournalError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        return


def _as_text(event: EventRecord, actions: tuple[ActionRecord, ...]) -> str:
    lines = [f"{_when(event)}  {event.seq}  {event.kind} {event.payload}"]
    if event.reason:
        lines.append(f"    because {event.reason}")
    lines += [f"    → {action.id} {action.kind} {action.payload}" for action in actions]
    # What peers and real servers said stands in it; it shall not command the terminal.
    return "\n".join("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line) for line in lines)


def _as_json(event: EventRecord, actions: tuple[ActionRecord, ...]) -> str:
    return json.dumps(
        {
            "seq": event.seq,
            "at": _when(event),
            "kind": event.kind,
            "event": _object(event.payload),
            "reason": event.reason,
            "actions": [{"id": a.id, "kind": a.kind, "action": _object(a.payload)} for a in actions],
        }
    )


def _when(event: EventRecord) -> str:
    try:
        return wall_time(event.at_wall_ns)
    except (OverflowError, ValueError, OSError):
        return f"{event.at_wall_ns} ns"


def _object(payload: str) -> object:
    """Following a journal verifies nothing: what is no JSON is shown as the text that it is."""
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        return payload
