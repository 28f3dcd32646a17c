"""`hafsm real`: an operator's word on a real server, and waiting until a drained one has no connection left."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from hafsm.cli.ask import NoAnswer, NotObeyed, ask
from hafsm.cli.options import F, settings_option
from hafsm.config.settings_file import DaemonSettings

POLL_S = 0.5


@click.group()
def real() -> None:
    """Take a real server out of service, or back in, whatever its checks say.

    VIRTUAL is VIP:PORT, a firewall mark, tcp:VIP:PORT, a servicename, or `all` for every service that has the server.
    REAL is ADDRESS:PORT, or ADDRESS alone. The daemon remembers it, and tells the other director.
    """


def _common(function: F) -> F:
    """VIRTUAL, REAL, --reason and --settings."""
    function = settings_option(function)
    function = click.option("--reason", default="", metavar="TEXT", help="Shown wherever the server is.")(function)
    function = click.argument("real_server", metavar="REAL")(function)
    return click.argument("virtual", metavar="VIRTUAL")(function)


@real.command()
@_common
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Return when no connection is left; 1 if some are after so long.",
)
def drain(virtual: str, real_server: str, reason: str, settings: DaemonSettings, wait_s: float | None) -> None:
    """Weight 0 now; the entry goes when no connection is left, also those of persistent clients.

    Exit status: 0 it is drained (with --wait: and empty), 1 it is not.
    """
    answer = _ask(settings, "drain", virtual, real_server, reason)
    if wait_s is None:
        return
    end = time.monotonic() + wait_s
    while left := _left(settings, answer["targets"]):
        if time.monotonic() >= end:
            click.echo(f"still in the table after {wait_s:g} s: {', '.join(left)}", err=True)
            sys.exit(1)
        time.sleep(POLL_S)
    click.echo("no connection is left")


@real.command()
@_common
def quiesce(virtual: str, real_server: str, reason: str, settings: DaemonSettings) -> None:
    """Weight 0, and the entry stays: connections and persistent clients go on.

    Exit status: 0 it is quiesced, 1 it is not.
    """
    _ask(settings, "quiesce", virtual, real_server, reason)


@real.command()
@_common
def enable(virtual: str, real_server: str, reason: str, settings: DaemonSettings) -> None:
    """Back to what its checks and the file say.

    Exit status: 0 they decide, 1 they do not.
    """
    _ask(settings, "enable", virtual, real_server, reason)


@real.command()
@click.argument("virtual", metavar="VIRTUAL")
@click.argument("real_server", metavar="REAL")
@click.argument("number", metavar="N", type=click.IntRange(0, 65535))
@click.option("--reason", default="", metavar="TEXT", help="Shown wherever the server is.")
@settings_option
def weight(virtual: str, real_server: str, number: int, reason: str, settings: DaemonSettings) -> None:
    """Weight N instead of the file's, until `enable` or until the file gives the server another one.

    Exit status: 0 it has the weight, 1 it has not.
    """
    _ask(settings, "weight", virtual, real_server, reason, weight=number)


def _ask(
    settings: DaemonSettings, verb: str, virtual: str, real_server: str, reason: str, **more: int
) -> dict[str, Any]:
    """The answer; ends the command with 1 if the daemon does not obey."""
    body: dict[str, Any] = {"verb": verb, "virtual": virtual, "real": real_server, "reason": reason, **more}
    try:
        answer = ask(settings.api.socket, "/v1/real", body)
    except (NoAnswer, NotObeyed) as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    refused = answer["outcome"] == "refused"
    click.echo(answer["reason"], err=refused)
    if refused:
        sys.exit(1)
    return answer


def _left(settings: DaemonSettings, wanted: list[dict[str, str]]) -> list[str]:
    """Those of the drained servers that still have an entry in the kernel's table."""
    try:
        table = ask(settings.api.socket, "/v1/ipvs")
    except (NoAnswer, NotObeyed) as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    places = {(target["service"], target["real"]) for target in wanted}
    return [
        f"{real['real']} of {service['service']} ({real['active']} active, {real['inactive']} inactive)"
        for service in table["services"]
        for real in service["reals"]
        if (service["service"], real["real"]) in places
    ]
