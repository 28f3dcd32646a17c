"""What a health check costs in CPU, and how late it is, at rising rates, with keepalived and ldirectord on the same
targets; and what ten hung real servers do to the forty others.

CPU is that of all processes together, kernel time included, without the targets'. Lateness is seen from the target: how
much longer than the interval of 1 s it was between two requests, the check itself included.

Run alone: `make bench-checks`. As root it runs in namespaces of its own; otherwise without the peers.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from hafsm.checks.pool import CheckPool
from hafsm.core.events import CheckResult
from hafsm.core.settings import SECOND, CheckKind, CheckSpec
from tests.bench.check_peers import Skipped, start
from tests.bench.check_targets import serve

RATES = tuple(map(int, os.environ.get("HAFSM_BENCH_RATES", "100,1000,5000").split(",")))
"""Targets, each checked every second."""
PEERS = tuple(os.environ.get("HAFSM_BENCH_PEERS", "keepalived,ldirectord").split(","))
INTERVAL_NS = SECOND
TIMEOUT_NS = 3 * SECOND
SECONDS = 10
WARM_UP_S = 4
FLEET, HUNG = 50, 10
_TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")
Address = tuple[str, int]


class Targets:
    """The process with the targets."""

    def __init__(self, number: int) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=serve, args=(number, theirs))
        self._process.start()
        self.addresses: list[Address] = self._pipe.recv()

    def command(self, word: str, target: int) -> None:
        """`hang`, `heal`, `refuse` or `listen`."""
        self._pipe.send((word, target))

    def end(self) -> list[list[int]]:
        """When each target accepted a connection, in monotonic nanoseconds."""
        pipe: Connection = self._pipe
        pipe.send("enough")
        accepted: list[list[int]] = pipe.recv()
        self._process.join(5)
        self._process.kill()
        return accepted


@contextmanager
def targets(number: int) -> Iterator[Targets]:
    """So many targets, until the block ends."""
    made = Targets(number)
    try:
        yield made
    finally:
        made._process.kill()


def spec(address: Address) -> CheckSpec:
    """What is asked of a target."""
    return CheckSpec(
        kind=CheckKind.HTTP,
        address=address[0],
        port=address[1],
        interval_ns=INTERVAL_NS,
        timeout_ns=TIMEOUT_NS,
        receive="Test Page",
    )


def family(pid: int) -> list[int]:
    """A process and all below it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(below for child in children for below in family(int(child)))]


def cpu_us(pid: int) -> float:
    """CPU time of a process, in clock ticks only for children that have ended."""
    try:
        own = int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1000
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return own + (int(fields[13]) + int(fields[14])) * _TICK_US


def resident_mib(pids: list[int]) -> float:
    """Memory that the processes occupy, shared pages counted once (PSS)."""
    total_kib = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total_kib += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total_kib / 1024


def late_ms(accepted: list[list[int]], began_ns: int, ended_ns: int) -> list[float]:
    """How much later than the interval each request was."""
    return sorted(
        (second - first - INTERVAL_NS) / 1e6
        for times in accepted
        for first, second in itertools.pairwise(times)
        if began_ns < second < ended_ns
    )


def report(name: str, targets: int, accepted: list[list[int]], began: int, ended: int, cpu: float, rest: str) -> None:
    """One line."""
    done = sum(began < at < ended for times in accepted for at in times)
    late = late_ms(accepted, began, ended)
    if not done or not late:
        print(f"{name:11}{targets:6,} targets: no target was asked twice within {SECONDS} s")
        return
    p50, p99, worst = (late[int((len(late) - 1) * share)] for share in (0.5, 0.99, 1))
    print(
        f"{name:11}{targets:6,} targets {done * SECOND / (ended - began):7,.0f} checks/s"
        f"  CPU {cpu / done:7.1f} µs a check  late p50 {p50:.1f} p99 {p99:.1f} max {worst:.1f} ms  {rest}",
        flush=True,
    )


async def measure_hafsm(number: int) -> None:
    """One rate, and its line."""
    failed = lost = 0

    def on_batch(_plan: int, results: tuple[CheckResult, ...]) -> None:
        nonlocal failed
        failed += sum(not result.ok for result in results)

    def on_worker_lost(worker: int, detail: str) -> None:
        nonlocal lost
        lost += 1
        print(f"worker {worker} lost: {detail}")

    with targets(number) as servers:
        pool = CheckPool(0, on_batch, on_worker_lost)
        try:
            pool.set_plan(1, [spec(address) for address in servers.addresses])
            await pool.start()
            await asyncio.sleep(WARM_UP_S)
            began, began_cpu = time.monotonic_ns(), sum(map(cpu_us, pool.pids))
            began_pool = time.process_time()
            await asyncio.sleep(SECONDS)
            ended, worker_us = time.monotonic_ns(), sum(map(cpu_us, pool.pids)) - began_cpu
            pool_us = (time.process_time() - began_pool) * 1e6
            memory = resident_mib(list(pool.pids))
            workers = len(pool.pids)
        finally:
            await pool.close()
        accepted = servers.end()
    rest = f"{workers} workers, {memory:.0f} MiB; pool {pool_us / SECONDS / 10_000:.1f} % of a CPU; {failed} failed"
    report("hafsm", number, accepted, began, ended, worker_us + pool_us, rest + (f", {lost} lost" if lost else ""))


@contextmanager
def peer(name: str, addresses: list[Address]) -> Iterator[subprocess.Popen[bytes]]:
    """A peer at work, until the block ends. Raises Skipped."""
    with tempfile.TemporaryDirectory(prefix="hafsm-bench-") as folder:
        process = start(name, Path(folder), addresses)
        try:
            yield process
        finally:
            for pid in family(process.pid):
                os.kill(pid, signal.SIGKILL)
            process.wait()


def measure_peer(name: str, number: int) -> None:
    """One rate of a peer, and its line."""
    with targets(number) as servers, peer(name, servers.addresses) as process:
        # ldirectord runs ipvsadm nine times for each real server before it checks the first one.
        time.sleep(WARM_UP_S + number / (100 if name == "ldirectord" else 500))
        pids = family(process.pid)
        began, began_cpu = time.monotonic_ns(), sum(map(cpu_us, pids))
        time.sleep(SECONDS)
        ended, used = time.monotonic_ns(), sum(map(cpu_us, pids)) - began_cpu
        memory = resident_mib(pids)
        accepted = servers.end()
    report(name, number, accepted, began, ended, used, f"{memory:.0f} MiB")


class Watch:
    """What the pool says about the fleet."""

    def __init__(self) -> None:
        self.changed: dict[int, tuple[bool, float]] = {}
        """Target → (healthy, since)."""

    def __call__(self, _plan: int, results: tuple[CheckResult, ...]) -> None:
        for result in results:
            known = self.changed.get(result.check)
            if known is None or known[0] is not result.ok:
                self.changed[result.check] = result.ok, time.monotonic()

    async def until(self, target: int, healthy: bool) -> float:
        """When it was found to be so."""
        async with asyncio.timeout(30):
            while self.changed.get(target, (not healthy,))[0] is not healthy:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        return self.changed[target][1]


async def hung_servers_hafsm() -> None:
    """Every fifth of the fleet hangs: are the others on time, and how soon is a change seen?"""
    hung = range(0, FLEET, FLEET // HUNG)
    watch = Watch()
    with targets(FLEET) as servers:
        for target in hung:
            servers.command("hang", target)
        pool = CheckPool(0, watch, lambda worker, detail: print(f"worker {worker} lost: {detail}"))
        try:
            pool.set_plan(1, [spec(address) for address in servers.addresses])
            started = time.monotonic()
            await pool.start()
            healthy = [target for target in range(FLEET) if target not in hung]
            first = max([await watch.until(target, True) for target in healthy]) - started
            await asyncio.sleep(WARM_UP_S)
            began = time.monotonic_ns()
            await asyncio.sleep(SECONDS)
            ended = time.monotonic_ns()
            seen: dict[str, list[float]] = {}
            for target in healthy[::8]:
                for what, word, state in (
                    ("crash", "refuse", False),
                    ("return", "listen", True),
                    ("hang", "hang", False),
                    ("return from a hang", "heal", True),
                ):
                    await asyncio.sleep(0.37)  # another phase each time
                    changed = time.monotonic()
                    servers.command(word, target)
                    seen.setdefault(what, []).append(await watch.until(target, state) - changed)
        finally:
            await pool.close()
        accepted = servers.end()
    fleet_report("hafsm", accepted, began, ended)
    print(f"{'':11}all {len(healthy)} healthy ones in use {first:.2f} s after the start")
    for what, times in seen.items():
        print(f"{'':11}{what} seen after {min(times):.2f} to {max(times):.2f} s")


def hung_servers_peer(name: str) -> None:
    """The same fleet, as far as its targets see it."""
    hung = range(0, FLEET, FLEET // HUNG)
    cycle_s = HUNG * TIMEOUT_NS // SECOND + 2 if name == "ldirectord" else 0  # it asks one after the other
    with targets(FLEET) as servers:
        for target in hung:
            servers.command("hang", target)
        with peer(name, servers.addresses):
            time.sleep(WARM_UP_S + cycle_s)
            began = time.monotonic_ns()
            time.sleep(SECONDS + cycle_s)
            ended = time.monotonic_ns()
        accepted = servers.end()
    fleet_report(name, accepted, began, ended)


def fleet_report(name: str, accepted: list[list[int]], began: int, ended: int) -> None:
    """One line."""
    healthy = [times for target, times in enumerate(accepted) if target % (FLEET // HUNG)]
    gaps = late_ms(healthy, began, ended)
    if gaps:
        text = f"p50 {gaps[len(gaps) // 2] / 1000 + 1:.2f} max {gaps[-1] / 1000 + 1:.2f} s"
        print(f"{name:11}{HUNG} of {FLEET} hung: a healthy one is asked every {text}", flush=True)
    else:
        print(f"{name:11}{HUNG} of {FLEET} hung: no healthy one was asked twice in {(ended - began) / 1e9:.0f} s")


def main() -> None:
    """Print all of it."""
    if os.geteuid() == 0 and "--inside" not in sys.argv and shutil.which("unshare"):
        command = ["unshare", "-n", "-m", "-p", "--fork", "--kill-child", "--mount-proc"]
        subprocess.run([*command, sys.executable, "-m", "tests.bench.checks_bench", "--inside"], check=True)
        return
    inside = "--inside" in sys.argv
    if inside:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; the targets need CPU, too", flush=True)
    for number in RATES:
        asyncio.run(measure_hafsm(number))
        for name in PEERS:
            with_peer(name, inside, lambda name=name, number=number: measure_peer(name, number))
    asyncio.run(hung_servers_hafsm())
    for name in PEERS:
        with_peer(name, inside, lambda name=name: hung_servers_peer(name))


def with_peer(name: str, inside: bool, run: object) -> None:
    """Run it, or say in one line why not."""
    try:
        if not inside:
            raise Skipped("without root there is no namespace for it")
        assert callable(run)
        run()
    except Skipped as skipped:
        print(f"{name:11}skipped: {skipped}", flush=True)


if __name__ == "__main__":
    main()
