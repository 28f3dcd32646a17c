"""`hafsm ipvs`: the kernel's table in ipvsadm's form, with what hafsm knows of each real server behind it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import click

from hafsm.cli.ask import NoAnswer, NotObeyed, ask
from hafsm.cli.options import settings_option
from hafsm.cli.render import ago
from hafsm.config.settings_file import DaemonSettings

FORWARDING = {"gate": "Route", "masq": "Masq", "ipip": "Tunnel"}
"""ipvsadm's words."""


@click.command()
@settings_option
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def ipvs(settings: DaemonSettings, as_json: bool) -> None:
    """Show the kernel's IPVS table as `ipvsadm -Ln` does; behind each entry its health, since when, and why.

    Services of others are shown too, without the last three columns. Exit status: 0 the kernel answered, 1 not.
    """
    try:
        answer = ask(settings.api.socket, "/v1/ipvs")
    except (NoAnswer, NotObeyed) as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        for line in lines(answer["services"]):
            click.echo(line)
    if answer["trouble"]:
        click.echo(answer["trouble"], err=True)
        sys.exit(1)


def lines(services: list[dict[str, Any]]) -> Iterator[str]:
    """The columns stand where ipvsadm has them, so that programs that read its output read this."""
    yield "IP Virtual Server"
    yield "Prot LocalAddress:Port Scheduler Flags"
    yield "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn  Health"
    for service in services:
        yield _service(service)
        for real in service["reals"]:
            yield _real(real)


def _service(service: dict[str, Any]) -> str:
    if service["protocol"] == "fwm":
        head = f"FWM  {service['mark']}" + (" IPv6" if service["address"] else "")
    else:
        address = f"[{service['address']}]" if ":" in service["address"] else service["address"]
        head = f"{service['protocol'].upper():<4} {address}:{service['port']}"
    line = f"{head} {service['scheduler']}"
    if service["scheduler_flags"]:
        line += f" ({','.join(service['scheduler_flags'])})"
    if service["persistent_s"]:
        line += f" persistent {service['persistent_s']}"
        if service["netmask"]:
            line += f" mask {service['netmask']}"
    return line + (" ops" if service["one_packet"] else "")


def _real(real: dict[str, Any]) -> str:
    active, inactive = ("-" if real[key] is None else real[key] for key in ("active", "inactive"))
    forwarding = FORWARDING[real["forwarding"]]
    line = f"  -> {real['real']:<28} {forwarding:<7} {real['weight']:<6} {active:<10} {inactive:<10}"
    if real["health"]:
        since = f" {ago(real['since_s'])}" if real["since_s"] is not None else ""
        line += f" {real['health']}{since}, {real['why']}"
    return line.rstrip()
