"""The real admin API before a core whose past was played by `tests.unit_core.pair`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import TypeVar

from hafsm.core.ipvs import TableEntry
from hafsm.daemon.access import access_of
from hafsm.daemon.api import Api
from hafsm.daemon.loop import Loop
from hafsm.kernel.interface import Connections
from tests.unit_core.pair import Machine

T = TypeVar("T")


class Served:
    """What asks it runs in a thread, as a command would in its own process."""

    def __init__(self, path: Path, core: Loop) -> None:
        self.path = path
        self.core = core
        self.crashes: list[BaseException] = []

    async def do(self, question: Callable[..., T], *arguments: object) -> T:
        return await asyncio.to_thread(question, self.path, *arguments)


async def looked(machine: Machine) -> tuple[tuple[TableEntry, ...], dict[tuple[str, str], Connections]]:
    """The machine's table; as many connections as `Machine.busy` says."""
    counts = {
        (entry.service.key, d.key): Connections(int((entry.service.key, d.key) in machine.busy), 0)
        for entry in machine.table
        for d in entry.destinations
    }
    return machine.table, counts


@contextlib.asynccontextmanager
async def serving(machine: Machine, folder: Path, parameters: Mapping[str, str] | None = None) -> AsyncIterator[Served]:
    crashes: list[BaseException] = []
    core = Loop(
        machine.state,
        None,
        lambda action: None,
        patience_ns=0,
        on_crash=crashes.append,
        clock=lambda: machine.pair.now,
    )
    served = Served(folder / "sock", core)
    served.crashes = crashes
    api = Api(served.path, access_of(None, ()), core, parameters or {}, lambda: looked(machine))
    await api.start()
    try:
        yield served
    finally:
        await api.close()
