"""`hafsm replay FILE --set NAME=VALUE`: what was and what would have been, side by side."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from hafsm.cli.render import wall_time
from hafsm.core.turn import seconds
from replay.episodes import FAILOVERS, Episode, Trouble
from replay.pairing import Pairing, Stop
from replay.whatif import WhatIf

PAIRINGS_SHOWN = 40


def show_whatif(result: WhatIf) -> None:
    """Table, totals, and how far it can be trusted."""
    asked = ", ".join(f"{change.name} {change.was} → {change.now}" for change in result.changes)
    click.echo(f"{result.node} with {asked}\n")
    for pairing in result.pairings[:PAIRINGS_SHOWN]:
        either = pairing.recorded or pairing.computed
        assert either is not None, "a pairing has one at least"
        click.echo(f"{either.name}: {either.trouble.value}: {verdict(pairing)}")
        click.echo(f"    was       {_when(pairing.recorded)}")
        click.echo(f"    would be  {_when(pairing.computed)}")
    if len(result.pairings) > PAIRINGS_SHOWN:
        click.echo(f"… {len(result.pairings) - PAIRINGS_SHOWN} more; --json has all")
    if result.pairings:
        click.echo()
    for line in totals(result):
        click.echo(line)
    for line in trust(result):
        click.echo(line)


def whatif_document(result: WhatIf) -> dict[str, Any]:
    """The same for programs."""
    document: dict[str, Any] = msgspec.to_builtins(result)
    for pairing, made in zip(result.pairings, document["pairings"], strict=True):
        made["verdict"] = verdict(pairing)
        made["later_ns"] = pairing.later_ns
    document["totals"] = list(totals(result))
    document["trust"] = list(trust(result))
    return document


def _when(episode: Episode | None) -> str:
    if episode is None:
        return "-"
    end = f"for {seconds(episode.until - episode.at)}" if episode.until else "to the end"
    return f"{wall_time(episode.wall_ns)} {end} (event {episode.seq})"


def verdict(pairing: Pairing) -> str:
    """`25.0 s earlier`, `avoided`, …"""
    if pairing.recorded is None:
        return "would have come on top"
    if pairing.computed is None:
        return "not within the recorded input" if pairing.undecided else "avoided"
    later = pairing.later_ns
    if not later:
        return "the same"
    return f"{seconds(abs(later))} {'later' if later > 0 else 'earlier'}"


def totals(result: WhatIf) -> list[str]:
    """One line a kind of trouble; failovers first."""
    by_trouble = {trouble: [p for p in result.pairings if _trouble(p) is trouble] for trouble in Trouble}
    lines = [_total("failovers", [pairing for trouble in FAILOVERS for pairing in by_trouble[trouble]])]
    lines += [
        _total(trouble.value, pairings)
        for trouble, pairings in by_trouble.items()
        if pairings and trouble not in FAILOVERS
    ]
    return lines


def _trouble(pairing: Pairing) -> Trouble:
    either = pairing.recorded or pairing.computed
    assert either is not None, "a pairing has one at least"
    return either.trouble


def _total(name: str, pairings: list[Pairing]) -> str:
    both = [p for p in pairings if p.recorded and p.computed]
    open_ones = sum(p.undecided for p in pairings)
    avoided = sum(p.computed is None and not p.undecided for p in pairings)
    more = sum(p.recorded is None for p in pairings)
    gained = sum(p.later_ns for p in both)
    text = f"{name}: {len(both)} in both, {avoided} avoided, {more} more"
    if open_ones:
        text += f", {open_ones} not decided within the recorded input"
    if both:
        change = f"{seconds(abs(gained))} {'lost' if gained > 0 else 'gained'}" if gained else "unchanged"
        text += f"; detection time {change} over the whole file"
    return text


def trust(result: WhatIf) -> list[str]:
    """What the numbers rest on."""
    lines = [f"counted over {result.counted} of {result.events} events"]
    for stretch in result.stretches:
        if stretch.stop is Stop.END:
            continue
        since = f"; since event {stretch.apart} the two had differed" if stretch.apart else ""
        lines.append(f"after event {stretch.last} the recorded input is not trusted: {stretch.stop.value}{since}")
    if any(stretch.stop is not Stop.END for stretch in result.stretches):
        lines.append("counting goes on, from the recorded state, where the recording has come to rest")
    if result.assumed:
        lines.append(f"results assumed to be good, of actions that were never done: {result.assumed}")
    return lines
