"""A TCP forwarder in user space: makes the embedded kernel's VIPs answer without root and without IPVS, for the demo.

While the `MemoryKernel` holds a VIP, every tcp virtual service on it that has a destination with weight listens and
passes connections on; nothing listens otherwise, so a client is refused as IPVS would refuse it. What the kernel does
to connections is kept: weight 0 takes no new ones and lets the old finish; a removed destination or a lost VIP cuts
them (expire_nodest_conn). Not kept: persistence, thresholds, the client's address towards the real server, and
schedulers beyond rr and wrr (any other spreads like wrr).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections import Counter
from dataclasses import dataclass, field

from hafsm.core.ipvs import DestinationEntry, TableEntry
from hafsm.core.settings import SECOND
from hafsm.kernel.memory import MemoryKernel

log = logging.getLogger(__name__)

RETRY_S = 0.05
"""Pause before binding again where another process still holds the address."""
CHUNK_BYTES = 1 << 16
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on with no time: closing sends RST instead of FIN."""


class Scheduler:
    """Chooses destinations in turn; with `rr` each counts once, otherwise by weight, spread out evenly.

    Source: the smooth weighted round robin of nginx (each turn adds the weight, the chosen one pays the sum), which
    gives the shares of the kernel's wrr without its bursts.
    """

    def __init__(self) -> None:
        self._credit: dict[str, int] = {}

    def choose(self, entry: TableEntry) -> DestinationEntry | None:
        """The destination of the next connection; None if none has weight."""
        usable = {d.key: d for d in entry.destinations if d.weight > 0}
        if not usable:
            return None
        weights = {key: 1 if entry.service.scheduler == "rr" else d.weight for key, d in usable.items()}
        self._credit = {key: self._credit.get(key, 0) + weight for key, weight in weights.items()}
        chosen = max(self._credit, key=self._credit.__getitem__)
        self._credit[chosen] -= sum(weights.values())
        return usable[chosen]


@dataclass(eq=False, slots=True)
class _Listener:
    """A virtual service that listens."""

    entry: TableEntry
    server: asyncio.Server
    scheduler: Scheduler = field(default_factory=Scheduler)


@dataclass(eq=False, slots=True)
class _Connection:
    """A client's connection; ends when its task is cancelled."""

    service: str
    destination: str
    task: asyncio.Task[None]


class Forwarder:
    """`async with Forwarder(kernel):` forwards until the block is left."""

    def __init__(
        self,
        kernel: MemoryKernel,
        *,
        connections_max: int = 256,
        connect_timeout_s: float = 2.0,
        idle_timeout_s: float = 60.0,
    ) -> None:
        """
        Args:
            kernel: whose addresses and table count; its clock must run at the speed of real time.
            connections_max: open connections of all services together; further ones are reset.
            connect_timeout_s: how long a real server may take to accept.
            idle_timeout_s: connections on which nothing moves for so long are cut.
        """
        self._kernel = kernel
        self._connections_max = connections_max
        self._connect_timeout_s = connect_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._clock = kernel.clock
        self.refused: dict[tuple[str, int], str] = {}
        """Why an address that should listen does not; it is tried again every `RETRY_S`."""
        self._listeners: dict[tuple[str, int], _Listener] = {}
        self._connections: set[_Connection] = set()
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._follower: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Forwarder:
        self._loop = asyncio.get_running_loop()
        self._kernel.on_change(self._wake)
        self._kernel.count_connections = self._counts
        self._follower = asyncio.create_task(self._follow(), name="forwarder")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every socket; nothing of the forwarder runs afterwards."""
        loop, self._loop = self._loop, None
        if self._follower is None or loop is None:
            return
        self._follower.cancel()
        tasks = [self._follower, *(c.task for c in self._connections)]
        for connection in self._connections:
            connection.task.cancel()
        for listener in self._listeners.values():
            listener.server.close()
        self._listeners.clear()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def listening(self) -> tuple[tuple[str, int], ...]:
        """Address and port of every service that takes connections now."""
        return tuple(self._listeners)

    def _counts(self) -> Counter[tuple[str, str]]:
        """Called by the kernel, in any thread."""
        return Counter((c.service, c.destination) for c in tuple(self._connections))

    def _wake(self, *_: object) -> None:
        """Called by the kernel, in any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: there is nobody to tell
                self._loop.call_soon_threadsafe(self._changed.set)

    async def _follow(self) -> None:
        """Keep sockets and connections as the kernel's state wants them."""
        while True:
            self._changed.clear()
            next_expiry_ns = self._kernel.tick()
            pause_s = None if await self._reconcile() else RETRY_S
            if next_expiry_ns is not None:
                left_s = max(0, next_expiry_ns - self._clock()) / SECOND
                pause_s = left_s if pause_s is None else min(pause_s, left_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), pause_s)

    async def _reconcile(self) -> bool:
        """Returns False when an address could not be bound yet."""
        addresses, table = self._kernel.snapshot()
        held = {address.ip for address in addresses}
        wanted = {
            (e.service.address, e.service.port): e
            for e in table
            if e.service.protocol == "tcp" and e.service.address in held
        }
        alive = {(e.service.key, d.key) for e in wanted.values() for d in e.destinations}
        for connection in tuple(self._connections):
            if (connection.service, connection.destination) not in alive:
                connection.task.cancel()
        serving = {place: e for place, e in wanted.items() if any(d.weight > 0 for d in e.destinations)}
        for place in self._listeners.keys() - serving.keys():
            self._listeners.pop(place).server.close()
        for place in self.refused.keys() - serving.keys():
            del self.refused[place]
        everything = True
        for place, entry in serving.items():
            if place in self._listeners:
                self._listeners[place].entry = entry
            else:
                everything &= await self._listen(place, entry)
        return everything

    async def _listen(self, place: tuple[str, int], entry: TableEntry) -> bool:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve(place, reader, writer)

        try:
            server = await asyncio.start_server(accept, *place, reuse_address=True, reuse_port=True, backlog=128)
        except OSError as error:
            if place not in self.refused:
                log.warning("%s does not listen yet: %s", entry.service.key, error)
            self.refused[place] = str(error)
            return False
        self.refused.pop(place, None)
        self._listeners[place] = _Listener(entry, server)
        return True

    async def _serve(self, place: tuple[str, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, from accept to the end."""
        listener = self._listeners.get(place)
        destination = listener.scheduler.choose(listener.entry) if listener is not None else None
        task = asyncio.current_task()
        if listener is None or destination is None or task is None or len(self._connections) >= self._connections_max:
            _reset(writer)
            return
        connection = _Connection(listener.entry.service.key, destination.key, task)
        self._connections.add(connection)
        try:
            await self._forward(reader, writer, destination, listener.entry.service.port)
        except (OSError, TimeoutError):
            _reset(writer)
        except asyncio.CancelledError:
            # Only `_reconcile` and `__aexit__` cancel this task, to cut the connection: it ends here.
            _reset(writer)
        finally:
            self._connections.discard(connection)

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        destination: DestinationEntry,
        service_port: int,
    ) -> None:
        async with asyncio.timeout(self._connect_timeout_s):
            far_reader, far_writer = await asyncio.open_connection(
                destination.address, destination.port or service_port
            )
        try:
            async with asyncio.timeout(self._idle_timeout_s) as idle:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._copy(reader, far_writer, idle))
                    both.create_task(self._copy(far_reader, writer, idle))
                for end in (writer, far_writer):
                    end.close()
                    await end.wait_closed()
        except* OSError as errors:
            raise ConnectionResetError(str(errors.exceptions[0])) from None
        finally:
            far_writer.transport.abort()

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, idle: asyncio.Timeout) -> None:
        """One direction, until its end of file, which is passed on."""
        loop = asyncio.get_running_loop()
        while data := await source.read(CHUNK_BYTES):
            idle.reschedule(loop.time() + self._idle_timeout_s)
            sink.write(data)
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection the hard way, as a kernel without a destination does."""
    client = writer.get_extra_info("socket")
    if client is not None:
        with contextlib.suppress(OSError):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
