"""Real servers on 127.0.0.x that behave in all the ways a real server can, and a pool with an ear on it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence

from hafsm.checks.pool import CheckPool
from hafsm.core.events import CheckResult
from hafsm.core.settings import MILLISECOND, CheckKind, CheckSpec

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
PATIENCE_S = 60.0
"""For anything that must happen; only a failing test waits so long."""
HEALTHY = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nTest Page"


class Servers:
    """Listeners in the test's own loop, each on an address of its own."""

    def __init__(self) -> None:
        self._numbers = itertools.count(2)
        self._servers: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []
        self._talks: set[asyncio.Task[None]] = set()

    async def start(self, talk: Talk, address: str = "") -> tuple[str, int]:
        """Returns the address and port; the address is one of its own unless given."""

        async def polite(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._talks.add(task)
            task.add_done_callback(self._talks.discard)
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await talk(reader, writer)
            writer.transport.abort()

        server = await asyncio.start_server(polite, address or f"127.0.0.{next(self._numbers)}", 0)
        self._servers.append(server)
        return server.sockets[0].getsockname()[:2]

    def refusing(self) -> tuple[str, int]:
        """An address where nobody listens (the port is held, so that nobody can)."""
        return self._bound().getsockname()

    def filtered(self) -> tuple[str, int]:
        """An address that drops every SYN: its accept queue is full."""
        listener = self._bound()
        listener.listen(0)
        for _ in range(2):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
            self._sockets.append(client)
        return listener.getsockname()

    def _bound(self) -> socket.socket:
        bound = socket.socket()
        self._sockets.append(bound)
        bound.bind((f"127.0.0.{next(self._numbers)}", 0))
        return bound

    async def aclose(self) -> None:
        """End also those who talk for longer than anybody listens."""
        self.close()
        for task in self._talks:
            task.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    def close(self) -> None:
        for server in self._servers:
            server.close()
        for opened in self._sockets:
            opened.close()


def answering(answer: bytes) -> Talk:
    """Reads the request, says `answer`, closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.write_eof()
        await reader.read()

    return talk


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accepts and never says a word."""
    await reader.read(-1)


async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accepts and never says a word, not even when the other side has finished."""
    await asyncio.Event().wait()


async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One byte of a healthy answer at a time, for longer than anybody waits."""
    await reader.readuntil(b"\r\n\r\n")
    for byte in HEALTHY:
        writer.write(bytes([byte]))
        await writer.drain()
        with contextlib.suppress(TimeoutError):
            if not await asyncio.wait_for(reader.read(1), 0.2):
                return


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A body without end, as fast as it is taken."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def resetting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accepts, reads, and resets the connection in the middle of the answer."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\nTest")
    await writer.drain()
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def spec(
    target: tuple[str, int],
    kind: CheckKind = CheckKind.HTTP,
    *,
    interval_ms: int = 20,
    timeout_ms: int = 30_000,
    **changes: object,
) -> CheckSpec:
    """A check of `target`; its timeout is far away unless the test is about it."""
    address, port = target
    return CheckSpec(
        kind=kind,
        address=address,
        port=port,
        interval_ns=interval_ms * MILLISECOND,
        timeout_ns=timeout_ms * MILLISECOND,
        **changes,
    )


class Director:
    """Stands where the daemon stands: owns a pool and remembers all that it hears."""

    def __init__(self, *, workers: int = 1, user: str = "", hung_after_s: float = 30.0) -> None:
        self.batches: list[tuple[int, tuple[CheckResult, ...]]] = []
        self.lost: list[tuple[int, str]] = []
        self._news = asyncio.Event()
        self.pool = CheckPool(workers, self._batch, self._lost, user=user, hung_after_s=hung_after_s)

    def _batch(self, plan: int, results: tuple[CheckResult, ...]) -> None:
        self.batches.append((plan, results))
        self._news.set()

    def _lost(self, worker: int, detail: str) -> None:
        self.lost.append((worker, detail))
        self._news.set()

    async def run(self, checks: Sequence[CheckSpec], secrets: Mapping[str, bytes] | None = None) -> None:
        self.pool.set_plan(1, checks, secrets)
        await self.pool.start()

    async def until(self, happened: Callable[[], bool]) -> None:
        """Wait for a condition, looking whenever the pool reports something."""
        async with asyncio.timeout(PATIENCE_S):
            while not happened():
                self._news.clear()
                await self._news.wait()

    def first_verdicts(self) -> dict[int, tuple[bool, str]]:
        """Check → (ok, detail) of its first result."""
        verdicts: dict[int, tuple[bool, str]] = {}
        for result in self.results():
            verdicts.setdefault(result.check, (result.ok, result.detail))
        return verdicts

    async def judge(
        self, checks: Sequence[CheckSpec], secrets: Mapping[str, bytes] | None = None
    ) -> list[tuple[bool, str]]:
        """Run the checks until each has a verdict; returns these."""
        await self.run(checks, secrets)
        await self.until(lambda: len(self.first_verdicts()) == len(checks) or bool(self.lost))
        assert self.lost == []
        return [verdict for _, verdict in sorted(self.first_verdicts().items())]

    def results(self, plan: int = 1) -> list[CheckResult]:
        """All results of a plan, in the order heard."""
        return [result for number, batch in self.batches if number == plan for result in batch]

    def count(self, check: int, plan: int = 1) -> int:
        return sum(result.check == check for result in self.results(plan))
