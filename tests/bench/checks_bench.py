"""What a health check costs in CPU, and how late it starts, at rising rates.

CPU is that of the worker and the pool together, kernel time included, without the server's. Lateness is seen from the
server: the time between two requests to one target, less the interval and the time that the check itself took.

Run alone: `python -m tests.bench.checks_bench`.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import select
import socket
import time
from collections import defaultdict
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from hafsm.checks.pool import CheckPool
from hafsm.core.events import CheckResult
from hafsm.core.settings import SECOND, CheckKind, CheckSpec

RATES_PER_S = (100, 1000, 5000)
TARGETS_MAX = 1000
"""Higher rates come from shorter intervals."""
SECONDS = 10
ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Sun, 22 Nov 2026 16:04:44 GMT\r\nContent-Type: text/html\r\n"
    b"Content-Length: 180\r\nConnection: close\r\n\r\n" + b"<p>Test Page</p>\n".ljust(180)
)


def serve(targets: int, pipe: Connection) -> None:
    """Answers on as many sockets as asked; then sends the times of each accept, by target."""
    epoll = select.epoll()
    listeners: dict[int, tuple[int, socket.socket]] = {}
    clients: dict[int, socket.socket] = {}
    accepted: list[list[int]] = [[] for _ in range(targets)]
    addresses = []
    for target in range(targets):
        listener = socket.create_server((f"127.0.1.{target % 250 + 1}", 0), backlog=64)
        listener.setblocking(False)
        listeners[listener.fileno()] = target, listener
        addresses.append(listener.getsockname())
        epoll.register(listener, select.EPOLLIN)
    epoll.register(pipe, select.EPOLLIN)
    pipe.send(addresses)
    while True:
        for fd, _ in epoll.poll():
            if fd in listeners:
                target, listener = listeners[fd]
                client, _ = listener.accept()
                accepted[target].append(time.monotonic_ns())
                client.setblocking(False)
                clients[client.fileno()] = client
                epoll.register(client, select.EPOLLIN)
            elif fd in clients:
                client = clients[fd]
                try:
                    if client.recv(4096):
                        client.send(ANSWER)
                        continue
                except ConnectionResetError:
                    pass
                del clients[fd]
                client.close()
            else:
                pipe.send(accepted)
                return


def cpu_ns(pid: int) -> int:
    """CPU time that the kernel has accounted to a process with one thread."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def resident_mib(pid: int) -> float:
    """Memory that a process occupies."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


async def measure(kind: CheckKind, rate: int) -> None:
    """Run one rate and print it."""
    targets = min(rate, TARGETS_MAX)
    interval_ns = SECOND * targets // rate
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(targets, theirs))
    server.start()
    try:
        addresses: Sequence[tuple[str, int]] = await asyncio.to_thread(ours.recv)
        durations_us: dict[int, list[int]] = defaultdict(list)
        failed: list[CheckResult] = []

        def on_batch(_plan: int, results: tuple[CheckResult, ...]) -> None:
            for result in results:
                durations_us[result.check].append(result.duration_us)
                if not result.ok:
                    failed.append(result)

        def on_worker_lost(worker: int, detail: str) -> None:
            raise RuntimeError(f"worker {worker}: {detail}")

        pool = CheckPool(1, on_batch, on_worker_lost)
        pool.set_plan(
            1,
            [
                CheckSpec(
                    kind=kind,
                    address=address,
                    port=port,
                    interval_ns=interval_ns,
                    timeout_ns=3 * SECOND,
                    receive="Test Page" if kind is CheckKind.HTTP else "",
                )
                for address, port in addresses
            ],
        )
        await pool.start()
        await asyncio.sleep(2)  # the first round
        (worker,) = pool.pids
        done = sum(map(len, durations_us.values()))
        began, began_worker, began_pool = time.monotonic(), cpu_ns(worker), time.process_time_ns()
        await asyncio.sleep(SECONDS)
        done = sum(map(len, durations_us.values())) - done
        worker_us = (cpu_ns(worker) - began_worker) / 1000
        pool_us = (time.process_time_ns() - began_pool) / 1000
        per_s = done / (time.monotonic() - began)
        memory_mib = resident_mib(worker)
        await pool.close()
        ours.send("enough")
        accepted: list[list[int]] = await asyncio.to_thread(ours.recv)
    finally:
        server.join(5)
        server.kill()
    late_us = sorted(
        (second - first) // 1000 - interval_ns // 1000 - duration
        for target, times in enumerate(accepted)
        for first, second, duration in zip(times, times[1:], durations_us[target], strict=False)
        if first / 1e9 > began
    )
    p50, p99, worst = (late_us[int((len(late_us) - 1) * share)] / 1000 for share in (0.5, 0.99, 1))
    print(
        f"{kind.value:8}{per_s:7,.0f} checks/s  CPU {(worker_us + pool_us) / done:5.1f} µs a check"
        f" (worker {worker_us / done:.1f}, pool {pool_us / done:.1f})  late p50 {p50:.1f} p99 {p99:.1f}"
        f" max {worst:.1f} ms  {len(failed)} failed  {memory_mib:.0f} MiB"
    )


def main() -> None:
    """Print all of it."""
    for kind in (CheckKind.HTTP, CheckKind.CONNECT):
        for rate in RATES_PER_S:
            asyncio.run(measure(kind, rate))


if __name__ == "__main__":
    main()
