"""The demo's forwarder: real sockets on 127.0.0.x, an embedded kernel behind it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable

import pytest

from hafsm.core.ipvs import DestinationEntry, Operation, ServiceEntry, TableEntry, Verb, difference
from hafsm.core.settings import Address, Forwarding
from hafsm.kernel.forwarder import Forwarder, Scheduler
from hafsm.kernel.memory import MemoryKernel

VIP = "127.0.0.77"
PATIENCE_S = 10.0


def boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


async def until(condition: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110 - sockets tell nobody when they close
                await asyncio.sleep(0.005)
    except TimeoutError:
        pytest.fail(f"never happened: {what}")


class Real:
    """A real server: answers with its name, then echoes until the client is done."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self.open = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> Real:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            writer.write(self.name.encode() + b"\n")
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()
        except OSError:
            writer.transport.abort()
        finally:
            self.open -= 1

    def stop(self) -> None:
        assert self._server is not None
        self._server.close()


@pytest.fixture
async def reals() -> AsyncIterator[list[Real]]:
    servers = [await Real(name).start() for name in ("a", "b")]
    yield servers
    for server in servers:
        server.stop()
    await until(lambda: not any(s.open for s in servers), "the real servers' connections end")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((VIP, 0))
        return int(probe.getsockname()[1])


def destination(real: Real, weight: int = 1) -> DestinationEntry:
    return DestinationEntry(address="127.0.0.1", port=real.port, forwarding=Forwarding.MASQ, weight=weight)


class Site:
    """An embedded kernel with one VIP and one service on a free port."""

    def __init__(self, scheduler: str = "rr") -> None:
        self.kernel = MemoryKernel(boottime_ns)
        self.address = Address(ip=VIP, prefix=32, interface="lo")
        self.service = ServiceEntry(protocol="tcp", address=VIP, port=free_port(), scheduler=scheduler)

    def set(self, *destinations: DestinationEntry) -> None:
        wanted = (TableEntry(service=self.service, destinations=destinations),)
        assert not any(self.kernel.apply_operations(difference(wanted, self.kernel.read_table())))

    async def connect(self) -> tuple[str, asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(VIP, self.service.port)
        return (await reader.readline()).decode().strip(), reader, writer

    async def ask(self) -> str:
        """Name of the real server that answered a connection of its own."""
        name, reader, writer = await self.connect()
        writer.write(b"ping")
        writer.write_eof()
        assert await reader.read() == b"ping"
        writer.close()
        await writer.wait_closed()
        return name

    async def refused(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(VIP, self.service.port)
        except ConnectionRefusedError:
            return True
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return False


async def test_a_held_vip_answers_from_every_real_server_in_turn(reals):
    site = Site()
    site.set(*map(destination, reals))
    async with Forwarder(site.kernel) as forwarder:
        assert await site.refused()
        site.kernel.add_address(site.address, 0)
        await until(lambda: bool(forwarder.listening), "the VIP listens")
        assert [await site.ask() for _ in range(4)] in (["a", "b"] * 2, ["b", "a"] * 2)
        site.kernel.remove_address(site.address)
        await until(lambda: not forwarder.listening, "the VIP is let go")
        assert await site.refused()


async def test_an_ended_lease_closes_the_port_and_cuts_connections_without_any_call(reals):
    site = Site()
    site.set(destination(reals[0]))
    async with Forwarder(site.kernel) as forwarder:
        site.kernel.add_address(site.address, 1)
        await until(lambda: bool(forwarder.listening), "the VIP listens")
        _, reader, writer = await site.connect()
        with pytest.raises(ConnectionResetError):
            async with asyncio.timeout(PATIENCE_S):
                await reader.read()
        writer.close()
        assert await site.refused()
        assert not forwarder.listening


async def test_weight_zero_takes_nothing_new_and_lets_the_old_finish(reals):
    site = Site()
    site.set(destination(reals[0]))
    site.kernel.add_address(site.address, 0)
    async with Forwarder(site.kernel) as forwarder:
        await until(lambda: bool(forwarder.listening), "the VIP listens")
        _, reader, writer = await site.connect()
        site.set(destination(reals[0], weight=0))
        await until(lambda: not forwarder.listening, "nobody has weight, so nothing listens")
        assert await site.refused()
        site.set(destination(reals[0], weight=0), destination(reals[1]))
        await until(lambda: bool(forwarder.listening), "the other real server has weight")
        assert {await site.ask() for _ in range(3)} == {"b"}
        writer.write(b"still here")
        writer.write_eof()
        assert await reader.read() == b"still here"
        writer.close()
        await writer.wait_closed()


async def test_a_removed_real_server_loses_its_connections_and_no_other(reals):
    site = Site()
    site.set(*map(destination, reals))
    site.kernel.add_address(site.address, 0)
    async with Forwarder(site.kernel) as forwarder:
        await until(lambda: bool(forwarder.listening), "the VIP listens")
        connections = {name: (reader, writer) for name, reader, writer in [await site.connect() for _ in range(2)]}
        site.set(destination(reals[1]))
        with pytest.raises(ConnectionResetError):
            async with asyncio.timeout(PATIENCE_S):
                await connections["a"][0].read()
        reader, writer = connections["b"]
        writer.write(b"kept\n")
        assert await reader.readline() == b"kept\n"
        connections["a"][1].close()
        writer.close()


async def test_an_address_that_another_process_holds_is_taken_as_soon_as_it_is_free(reals):
    site = Site()
    site.set(destination(reals[0]))
    other = await asyncio.start_server(lambda r, w: w.close(), VIP, site.service.port)
    site.kernel.add_address(site.address, 0)
    async with Forwarder(site.kernel) as forwarder:
        await until(lambda: bool(forwarder.refused), "the bind is refused")
        assert not forwarder.listening
        other.close()
        await until(lambda: bool(forwarder.listening), "the VIP listens")
        assert not forwarder.refused
        assert await site.ask() == "a"


async def test_connections_beyond_the_limit_are_reset(reals):
    site = Site()
    site.set(destination(reals[0]))
    site.kernel.add_address(site.address, 0)
    async with Forwarder(site.kernel, connections_max=1) as forwarder:
        await until(lambda: bool(forwarder.listening), "the VIP listens")
        _, _, first = await site.connect()
        reader, second = await asyncio.open_connection(VIP, site.service.port)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        second.close()
        first.close()
        await until(lambda: reals[0].open == 0, "the first connection ends")
        assert await site.ask() == "a"


async def test_a_connection_on_which_nothing_moves_is_cut(reals):
    site = Site()
    site.set(destination(reals[0]))
    site.kernel.add_address(site.address, 0)
    async with Forwarder(site.kernel, idle_timeout_s=0.2) as forwarder:
        await until(lambda: bool(forwarder.listening), "the VIP listens")
        _, reader, writer = await site.connect()
        with pytest.raises(ConnectionResetError):
            async with asyncio.timeout(PATIENCE_S):
                await reader.read()
        writer.close()


async def test_a_dead_real_server_resets_the_client(reals):
    site = Site()
    reals[0].stop()
    site.set(destination(reals[0]))
    site.kernel.add_address(site.address, 0)
    async with Forwarder(site.kernel) as forwarder:
        await until(lambda: bool(forwarder.listening), "the VIP listens")
        reader, writer = await asyncio.open_connection(VIP, site.service.port)
        with pytest.raises(ConnectionResetError):
            async with asyncio.timeout(PATIENCE_S):
                await reader.read()
        writer.close()


async def test_a_large_answer_arrives_whole(reals):
    site = Site()
    site.set(destination(reals[0]))
    site.kernel.add_address(site.address, 0)
    body = bytes(range(256)) * 8192
    async with Forwarder(site.kernel) as forwarder:
        await until(lambda: bool(forwarder.listening), "the VIP listens")
        _, reader, writer = await site.connect()

        async def send() -> None:
            writer.write(body)
            await writer.drain()
            writer.write_eof()

        async with asyncio.TaskGroup() as both:
            both.create_task(send())
            answer = both.create_task(reader.read())
        assert answer.result() == body
        writer.close()
        await writer.wait_closed()


async def test_a_change_from_the_workers_thread_is_followed(reals):
    site = Site()
    site.set(destination(reals[0]))
    async with Forwarder(site.kernel) as forwarder:
        await asyncio.to_thread(site.kernel.add_address, site.address, 0)
        await until(lambda: bool(forwarder.listening), "the VIP listens")
        operation = Operation(verb=Verb.DELETE_SERVICE, service=site.service)
        await asyncio.to_thread(site.kernel.apply_operations, [operation])
        await until(lambda: not forwarder.listening, "a service that is gone does not listen")


@pytest.mark.parametrize(
    ("scheduler", "weights", "shares"),
    [
        ("rr", (1, 5, 3), (20, 20, 20)),
        ("rr", (1, 0, 3), (30, 0, 30)),
        ("wrr", (1, 2, 3), (10, 20, 30)),
        ("wlc", (0, 2, 1), (0, 40, 20)),
    ],
)
def test_shares_are_exact(scheduler, weights, shares):
    entry = TableEntry(
        service=ServiceEntry(protocol="tcp", address=VIP, port=80, scheduler=scheduler),
        destinations=tuple(
            DestinationEntry(address=f"10.0.0.{i}", port=80, forwarding=Forwarding.MASQ, weight=weight)
            for i, weight in enumerate(weights)
        ),
    )
    chooser = Scheduler()
    chosen = [chooser.choose(entry) for _ in range(60)]
    assert tuple(chosen.count(d) for d in entry.destinations) == shares


def test_nobody_with_weight_means_nobody():
    entry = TableEntry(service=ServiceEntry(protocol="tcp", address=VIP, port=80))
    assert Scheduler().choose(entry) is None
