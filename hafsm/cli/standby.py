"""`hafsm standby` and `hafsm takeover`: ask the daemon, wait until the hand-over has ended, say what came of it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import click

from hafsm.cli.ask import NoAnswer, NotObeyed, ask
from hafsm.cli.options import F, settings_option
from hafsm.config.settings_file import DaemonSettings

WORDS = ("all", "local", "foreign", "failback")
POLL_S = 0.1
OFFER_LIMIT_S = 10.0
"""A peer that was asked to go standby and has not offered anything by then will not: heartbeat's own answer limit."""

_SETS = {"none": 0, "local": 1, "foreign": 2, "all": 3}


class Verdict(NamedTuple):
    """How a hand-over ended."""

    done: bool
    sentence: str


class Watch:
    """Follows one hand-over through the daemon's status. Pure: time and status are given."""

    def __init__(self, verb: str, hold: str, generation: int) -> None:
        self._takeover = verb == "takeover"
        self._hold = hold
        self._generation = generation
        self._moved = not self._takeover
        """The hand-over itself was seen (one shorter than a poll is not); a standby's begins with the answer."""

    def look(self, status: dict[str, Any], elapsed_s: float) -> Verdict | None:
        """None while it is under way."""
        me, hold = status["node"], self._hold
        if status["generation"] != self._generation or status["phase"] != "stable":
            return Verdict(False, f"the daemon of {me} ends or was started anew meanwhile")
        if status["handover"] != "idle":
            self._moved = True
            return None
        held = _SETS[status["holds"]] & _SETS[hold]
        if self._takeover and held == _SETS[hold]:
            return self._taken(status) if status["stable"] else None
        if not self._takeover and not held:
            return Verdict(True, f"{_other(status)} holds {hold} resources of {me} now") if status["stable"] else None
        if self._moved:
            return Verdict(
                False, f"the hand-over of {hold} resources ended without success; {me} holds {status['holds']}"
            )
        if elapsed_s < OFFER_LIMIT_S:
            return None
        return Verdict(False, f"{me} was not given {hold} resources within {OFFER_LIMIT_S:g} s, or could not keep them")

    def _taken(self, status: dict[str, Any]) -> Verdict:
        me = status["node"]
        failed = [
            f"group {group['key']} does not start: {group['failure']}"
            for group in status["groups"]
            if group["state"] == "failed" and _SETS[self._hold] & (1 if group["preferred"] == me else 2)
        ]
        return Verdict(not failed, "; ".join(failed) or f"{me} holds {self._hold} resources now")


def _other(status: dict[str, Any]) -> str:
    return next((node["name"] for node in status["nodes"] if node["name"] != status["node"]), "the other director")


def hand_over(settings: DaemonSettings, verb: str, hold: str, wait_s: float | None) -> int:
    """Ask for a `standby` or `takeover` and print what came of it; returns the exit status.

    `wait_s`: how long to wait for its end; None: not at all.
    """
    socket = settings.api.socket
    try:
        generation = ask(socket, "/v1/cluster")["generation"]
        asked_at = time.monotonic()
        answer = ask(socket, f"/v1/{verb}", {"hold": hold})
        click.echo(answer["reason"], err=answer["outcome"] == "refused")
        if answer["outcome"] != "begun" or wait_s is None:
            return int(answer["outcome"] == "refused")
        return _wait(socket, Watch(verb, answer["hold"], generation), answer["event"], asked_at, wait_s)
    except (NoAnswer, NotObeyed) as error:
        click.echo(str(error), err=True)
        return 1


def _wait(socket: Path, watch: Watch, event: int, asked_at: float, wait_s: float) -> int:
    while True:
        status = ask(socket, "/v1/cluster")
        elapsed_s = time.monotonic() - asked_at
        verdict = watch.look(status, elapsed_s)
        if verdict is not None:
            click.echo(f"{verdict.sentence} (after {elapsed_s:.1f} s)", err=not verdict.done)
        elif elapsed_s >= wait_s:
            click.echo(f"still under way after {wait_s:g} s; see `hafsm status`", err=True)
        else:
            time.sleep(POLL_S)
            continue
        if verdict is None or not verdict.done:
            for entry in status["reasons"]:
                if entry["event"] > event:
                    click.echo(f"  event {entry['event']}: {entry['reason']}", err=True)
            return 1
        return 0


def hold_and_wait(function: F) -> F:
    """The argument and options of both commands: `hold`, `wait_s`, `no_wait`, `settings`."""
    function = settings_option(function)
    function = click.option("--no-wait", is_flag=True, help="Return as soon as it has begun.")(function)
    function = click.option(
        "--wait",
        "wait_s",
        type=click.FloatRange(min=0),
        metavar="SECONDS",
        default=60.0,
        show_default=True,
        help="How long to wait until the hand-over has ended.",
    )(function)
    return click.argument("hold", metavar="[all|local|foreign|failback]", type=click.Choice(WORDS), default="all")(
        function
    )


@click.command()
@hold_and_wait
def standby(hold: str, wait_s: float, no_wait: bool, settings: DaemonSettings) -> None:
    """Give resource groups to the other director: all, those preferred here (local), or the other's own (foreign).

    `failback` means foreign. Exit status: 0 the other director holds them, 1 it does not; with --no-wait 0 begun, 1
    refused.
    """
    sys.exit(hand_over(settings, "standby", hold, None if no_wait else wait_s))


def drop_in(verb: str, name: str, words: tuple[str, ...], settings: DaemonSettings) -> int:
    """heartbeat's commands: no waiting, and exit status 0 whatever the daemon decided; 1 if it could not be asked."""
    if len(words) > 1 or (words and words[0] not in WORDS):
        click.echo(f"{name}: found {' '.join(words)}; expected at most one of {', '.join(WORDS)}", err=True)
        click.echo(f"usage: {name} [all|foreign|local|failback]", err=True)
        return 1
    try:
        answer = ask(settings.api.socket, f"/v1/{verb}", {"hold": words[0] if words else "all"})
    except (NoAnswer, NotObeyed) as error:
        click.echo(f"{name}: {error}", err=True)
        return 1
    click.echo(answer["reason"], err=True)
    return 0


@click.command()
@click.argument("words", metavar="[all|foreign|local|failback]", nargs=-1)
@settings_option
def hb_standby(words: tuple[str, ...], settings: DaemonSettings) -> None:
    """heartbeat's hb_standby: as `hafsm standby`, but returns at once, with 0 whatever the daemon decided."""
    sys.exit(drop_in("standby", "hb_standby", words, settings))
