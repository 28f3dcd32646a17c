"""`hafsm status`."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import aiohttp
import click
from rich.console import Console

from hafsm.cli.options import settings_option
from hafsm.cli.render import show_status
from hafsm.config.settings_file import DaemonSettings

ANSWER_LIMIT_S = 5.0


async def fetch(socket: Path) -> dict[str, Any]:
    """The daemon's status; raises `aiohttp.ClientError`, `OSError` or `TimeoutError`."""
    connector = aiohttp.UnixConnector(str(socket))
    timeout = aiohttp.ClientTimeout(total=ANSWER_LIMIT_S)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
        session.get("http://hafsm/v1/status") as answer,
    ):
        answer.raise_for_status()
        content: dict[str, Any] = await answer.json()
        return content


@click.command()
@settings_option
@click.option("--json", "as_json", is_flag=True, help="Print the whole status as JSON.")
def status(settings: DaemonSettings, as_json: bool) -> None:
    """Show nodes, VIPs and who holds them, virtual services with real servers and weights, and the last decisions.

    Exit status: 0 the daemon answered, 1 it did not.
    """
    try:
        content = asyncio.run(fetch(settings.api.socket))
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        reason = str(error) or type(error).__name__
        click.echo(f"no answer from the daemon at {settings.api.socket}: {reason}. Is `hafsm run` running?", err=True)
        sys.exit(1)
    if as_json:
        click.echo(json.dumps(content, indent=2))
    else:
        show_status(Console(), content)
