"""`hafsm replay A B`: each side verified, then both on one timeline with what only both show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from hafsm.cli.render import wall_time
from replay.findings import find
from replay.history import files_of
from replay.merge import Clock, Merged, merge


def pair_of(places: Sequence[Path]) -> Merged:
    """Raises `MergeRefused` and what reading raises."""
    return merge([files_of(place) for place in places])


def show_pair(merged: Merged) -> None:
    """Clocks, the common order of decisions, findings."""
    first, second = merged.sides
    click.echo(f"\nclocks: {clock_sentence(merged.wall, first.node, second.node)}")
    click.echo(f"        {len(merged.ties)} messages tie the two journals together")
    for side in merged.sides:
        if side.lost:
            click.echo(f"        {side.lost} events of {side.node} are lost: what came meanwhile is not known")
    click.echo(f"\none timeline, by {first.node}'s clock; ← the other director's newest event that could be known")
    width = max(len(first.node), len(second.node))
    for line in merged.lines:
        known = f"← {line.follows}" if line.follows else ""
        click.echo(f"{wall_time(line.wall_ns)}  {line.node:{width}}  {line.seq:>8}  {known:>10}  {line.reason}")
    findings = find(merged)
    click.echo("\nwhat only both journals show")
    for finding in findings:
        click.echo(f"{wall_time(finding.wall_ns)}  {finding.text}")
    if not findings:
        click.echo("nothing: every message arrived, one director held each VIP, nothing was handed over")


def pair_document(merged: Merged) -> dict[str, Any]:
    """The same for programs."""
    first, second = merged.sides
    ahead, unsure = merged.wall.ahead(first.lives[-1].last_wall_ns if first.lives else 0)
    return {
        "directors": [first.node, second.node],
        "clock": {
            "second_ahead_ns": ahead,
            "uncertainty_ns": unsure,
            "windows": msgspec.to_builtins(merged.wall.bounds),
        },
        "messages": len(merged.ties),
        "timeline": msgspec.to_builtins(merged.lines),
        "findings": msgspec.to_builtins(find(merged)),
    }


def clock_sentence(clock: Clock, first: str, second: str) -> str:
    """How far apart the clocks are, and how sure that is."""
    known = clock.known
    if not known:
        return f"no messages both ways: how {first}'s and {second}'s clocks differ is not known"
    middles = [middle for _, middle, _ in known]
    unsure = max(unsure for _, _, unsure in known)
    low, high = min(middles), max(middles)
    if high - low <= 2 * unsure or len(known) == 1:
        return f"{second}'s is {_ms(middles[-1])} {first}'s, ± {unsure / 1e6:.3f} ms"
    span = f"{_ms(low)} to {_ms(high)}"
    if low >= 0 or high < 0:
        near, far = sorted((abs(low), abs(high)))
        span = f"{near / 1e6:.3f} to {_ms(far if low >= 0 else -far)}"
    return f"{second}'s is {span} {first}'s (it drifts or was set), ± {unsure / 1e6:.3f} ms"


def _ms(nanoseconds: int) -> str:
    return f"{abs(nanoseconds) / 1e6:.3f} ms {'ahead of' if nanoseconds >= 0 else 'behind'}"
