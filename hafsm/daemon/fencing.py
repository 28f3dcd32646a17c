"""Fencing: makes sure that the other director is off before its groups are taken over.

Two families: plug-ins of cluster-glue, run by its program `stonith`, and fence agents, which read lines `name=value`
from their standard input (FenceAgentAPI of ClusterLabs). Parameters hold passwords, so both get them as standard input,
which no list of processes shows.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from hafsm.config.model import FenceDevice
from hafsm.daemon import scripts

Fence: TypeAlias = Callable[[str, float], Awaitable[scripts.Ended]]
"""Called with the node to fence and the seconds that it may take."""

STONITH = "stonith"
_PLACES = os.pathsep.join(("/usr/sbin", "/sbin"))
"""Searched behind PATH, which often lacks them."""
_LIST_LIMIT_S = 10
_OWN_TARGET = ("plug", "port")
"""Names under which agents know their victim; a configured one is left alone."""


def fencer(device: FenceDevice | None) -> Fence | None:
    """How the daemon fences; None without a device."""
    if device is None:
        return None

    async def fence(node: str, timeout_s: float) -> scripts.Ended:
        words, text = command(device, node)
        with scripts.memory_file(text) as parameters:
            ended, _ = await scripts.execute(words, timeout_s, stdin=parameters)
        return ended

    return fence


def command(device: FenceDevice, node: str) -> tuple[list[str], bytes]:
    """The words to execute to reset `node`, and what they read from their standard input."""
    if not device.is_agent:
        file = device.file or "/dev/stdin"
        words = [_find(STONITH) or STONITH, "-t", device.kind, "-F", file, "-T", "reset", node]
        return words, device.parameters.reveal()
    options = {"action": "reboot", "nodename": node}
    options |= dict(word.split("=", 1) for word in device.parameters.reveal().decode().split())
    if not any(name in options for name in _OWN_TARGET):
        options["plug"] = node
    lines = "".join(f"{name}={value}\n" for name, value in options.items())
    return [_find(device.kind) or device.kind], lines.encode()


def missing(device: FenceDevice) -> str:
    """What this host lacks to fence with `device`, one sentence; empty if nothing. Asks `stonith` for its plug-ins."""
    if device.is_agent:
        return "" if _find(device.kind) else f"fence agent {device.kind} is not installed (packages fence-agents…)"
    program = _find(STONITH)
    if program is None:
        return f"the program {STONITH} is not installed (package cluster-glue)"
    if device.file and not os.access(device.file, os.R_OK):
        return f"the file of stonith {device.kind}, {device.file}, cannot be read"
    listed = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=_LIST_LIMIT_S, check=False)
    if device.kind not in listed.stdout.split():
        return f"{STONITH} has no plug-in {device.kind} (`{STONITH} -L` lists those it has)"
    return ""


def _find(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=_PLACES)
