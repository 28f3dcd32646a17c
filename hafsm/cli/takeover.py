"""`hafsm takeover`; see `hafsm.cli.standby`."""

from __future__ import annotations

import sys

import click

from hafsm.cli.options import settings_option
from hafsm.cli.standby import drop_in, hand_over, hold_and_wait
from hafsm.config.settings_file import DaemonSettings


@click.command()
@hold_and_wait
def takeover(hold: str, wait_s: float, no_wait: bool, settings: DaemonSettings) -> None:
    """Get resource groups from the other director: all, those preferred here (local), or the other's own (foreign).

    `failback` means local. Exit status: 0 this director holds them, 1 it does not; with --no-wait 0 begun, 1 refused.
    """
    sys.exit(hand_over(settings, "takeover", hold, None if no_wait else wait_s))


@click.command()
@click.argument("words", metavar="[all|foreign|local|failback]", nargs=-1)
@settings_option
def hb_takeover(words: tuple[str, ...], settings: DaemonSettings) -> None:
    """heartbeat's hb_takeover: as `hafsm takeover`, but returns at once, with 0 whatever the daemon decided."""
    sys.exit(drop_in("takeover", "hb_takeover", words, settings))
