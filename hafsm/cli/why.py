"""`hafsm why VIP|REAL|NODE [FILE…]`."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

from hafsm.cli.options import settings_option
from hafsm.cli.progress import progress_bar
from hafsm.cli.render import wall_time
from hafsm.codec import UnknownRecord
from hafsm.config.settings_file import DaemonSettings
from journal.errors import JournalError
from replay import words
from replay.causes import Cause, Graph
from replay.finding import Finding
from replay.findings import about
from replay.history import Diverged, files_of
from replay.merge import MergeRefused, merge
from replay.subjects import UnknownSubject
from replay.why import FIRST_SCREEN, Answer, NoChange, beyond, search

ANSWERED, NOTHING, UNREADABLE = 0, 1, 2
EVIDENCE_SHOWN = 2
"""Of the chain's nodes with evidence, the newest so many on the first screen."""
_FOR_EVER = 2**63
BEYOND_SHOWN = 6
"""Lines of the other director's side on the first screen."""


def parse_time(option: str) -> Callable[[Any, Any, str | None], int | None]:
    """A callback: local time unless it says otherwise, as nanoseconds since 1970."""

    def parse(_context: Any, _parameter: Any, text: str | None) -> int | None:
        if text is None:
            return None
        try:
            moment = datetime.datetime.fromisoformat(text)
        except ValueError:
            raise click.BadParameter(f"{text!r} is no time such as 2026-11-24T03:00:00", param_hint=option) from None
        return int(moment.astimezone().timestamp() * 1_000_000) * 1000

    return parse


@click.command()
@click.argument("subject", metavar="VIP|REAL|NODE")
@click.argument("places", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--at", "at_ns", metavar="TIME", callback=parse_time("--at"), help="The last change at or before this time."
)
@click.option("--full", is_flag=True, help="Every cause and all evidence.")
@click.option("--json", "as_json", is_flag=True, help="The same for programs.")
@settings_option
def why(
    subject: str,
    places: tuple[Path, ...],
    at_ns: int | None,
    full: bool,
    as_json: bool,
    settings: DaemonSettings,
) -> None:
    """Say why a VIP, a real server or a director changed: the chain from the last change back to its evidence.

    Without FILE the journal of this node is read, whether the daemon runs or not. FILE is what `hafsm export` writes, a
    segment, or a journal folder; with one of each director, what only both sides show is told as well. A ping node, a
    link, and a real server's address alone are understood too. Exit status: 0 answered, 1 there is no such change, or
    nothing of that name, 2 a file cannot be read or was altered.
    """
    places = places or (settings.journal.folder,)
    if len(places) > 2:
        raise click.UsageError(f"{len(places)} files: a pair has two directors; a folder stands for all its segments")
    try:
        told = _answers(subject, places, at_ns)
        shared = _join(places, told) if len(places) > 1 else ()
    except (UnknownSubject, NoChange) as error:
        click.echo(str(error), err=True)
        sys.exit(NOTHING)
    except (JournalError, UnknownRecord, Diverged, MergeRefused) as error:
        click.echo(f"unreadable: {error}", err=True)
        sys.exit(UNREADABLE)
    if as_json:
        document = {"answers": [_as_json(one, full) for one in told], "both": msgspec.to_builtins(shared)}
        click.echo(json.dumps(document, indent=1, ensure_ascii=False))
        return
    for index, one in enumerate(told):
        if index:
            click.echo()
        _show(one, full)
    if shared:
        click.echo("\nwhat only both journals show")
        for finding in shared[: None if full else FIRST_SCREEN]:
            click.echo(f"  {wall_time(finding.wall_ns)[11:]}  {finding.text}")
        if not full and len(shared) > FIRST_SCREEN:
            click.echo(f"  … {len(shared) - FIRST_SCREEN} more: --full")


@dataclass
class _Told:
    """An answer, and what the other journal adds to it."""

    place: Path
    answer: Answer
    graph: Graph
    other: str = ""
    beyond: tuple[Cause, ...] = ()


def _answers(subject: str, places: tuple[Path, ...], at_ns: int | None) -> list[_Told]:
    """One of each journal that knows a change; the newest change first."""
    found: list[_Told] = []
    failure: NoChange | None = None
    for place in places:
        try:
            with progress_bar("reading the journal", place) as tell:
                found.append(_Told(place, *search(files_of(place), subject, at_ns, tell)))
        except NoChange as error:
            failure = error
    if not found and failure is not None:
        raise failure
    return sorted(found, key=lambda told: told.answer.change.wall_ns, reverse=True)


def _join(places: tuple[Path, ...], told: list[_Told]) -> tuple[Finding, ...]:
    """What both journals add: the sender's side of each message, and findings from the oldest cause to the change."""
    merged = merge([files_of(place) for place in places])
    graphs = {one.answer.node: one.graph for one in told}
    for one in told:
        index = [side.node for side in merged.sides].index(one.answer.node)
        one.other = merged.sides[1 - index].node
        if one.other in graphs:
            sent_in = {tie.received.seq: tie.sent.seq for tie in merged.ties if tie.sender != index}
            one.beyond = beyond(one.answer, graphs[one.other], sent_in)
    return about(merged, min(cause.wall_ns for one in told for cause in one.answer.chain), _FOR_EVER)


def _show(told: _Told, full: bool) -> None:
    answer = told.answer
    change = answer.change
    subject = str(answer.subject)
    click.echo(change.text if change.text.startswith(subject) else f"{subject}: {change.text}")
    click.echo(f"at {wall_time(change.wall_ns)}, event {change.seq} of {answer.node}'s journal, because")
    shown = answer.everything if full else answer.chain[:FIRST_SCREEN]
    for cause in shown:
        click.echo(f"  {wall_time(cause.wall_ns)[11:]}  {cause.seq:>8}  {cause.text}")
        if full and cause.reason:
            click.echo(f"  {'':12}  {'':>8}  recorded: {cause.reason}")
        if full:
            _show_evidence(cause, f"  {'':12}  {'':>8}  ")
    if not full:
        if len(answer.chain) > len(shown):
            click.echo(f"  … {len(answer.chain) - len(shown)} older causes: --full")
        for cause in [cause for cause in answer.chain if cause.evidence is not None][:EVIDENCE_SHOWN]:
            _show_evidence(cause, "  ")
    if told.beyond:
        click.echo(f"and on {told.other}, by its own clock, because")
        for cause in told.beyond[: None if full else BEYOND_SHOWN]:
            click.echo(f"  {wall_time(cause.wall_ns)[11:]}  {cause.seq:>8}  {cause.text}")
            if full:
                _show_evidence(cause, f"  {'':12}  {'':>8}  ")
    if answer.lost:
        click.echo(f"  {answer.lost} events of this journal were lost; what is said above may miss a cause")


def _show_evidence(cause: Cause, indent: str) -> None:
    evidence = cause.evidence
    if evidence is None:
        return
    for title, lines in (
        ("missing", words.missing(evidence)),
        ("meanwhile", words.meanwhile(evidence)),
        ("itself", words.own(evidence)),
    ):
        for line in lines:
            click.echo(f"{indent}{title:9}  {line}")


def _as_json(told: _Told, full: bool) -> dict[str, Any]:
    answer = told.answer
    return {
        "director": answer.node,
        "subject": msgspec.to_builtins(answer.subject),
        "change": _cause(answer.change),
        "chain": [_cause(cause) for cause in (answer.everything if full else answer.chain)],
        "beyond": [_cause(cause) for cause in told.beyond],
        "events": {"first": answer.first, "last": answer.last, "lost": answer.lost},
    }


def _cause(cause: Cause) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(cause)
    document["time"] = wall_time(cause.wall_ns)
    if cause.evidence is not None:
        document["missing"] = list(words.missing(cause.evidence))
        document["meanwhile"] = list(words.meanwhile(cause.evidence))
        document["itself"] = list(words.own(cause.evidence))
    return document
