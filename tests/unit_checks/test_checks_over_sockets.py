"""Workers and pool against real servers on loopback: verdicts, deadlines, plans, and workers that die or hang."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from hafsm.core.events import CheckResult
from hafsm.core.settings import CheckKind
from tests.unit_checks.servers import (
    HEALTHY,
    PATIENCE_S,
    Director,
    Servers,
    answering,
    dripping,
    endless,
    resetting,
    silent,
    spec,
)


@pytest.fixture
async def servers() -> AsyncIterator[Servers]:
    made = Servers()
    yield made
    made.close()


@pytest.fixture
async def director() -> AsyncIterator[Callable[..., Director]]:
    made: list[Director] = []

    def make(**options: object) -> Director:
        made.append(Director(**options))
        return made[-1]

    yield make
    for each in made:
        await each.pool.close()


def first_verdicts(results: list[CheckResult]) -> dict[int, tuple[bool, str]]:
    verdicts: dict[int, tuple[bool, str]] = {}
    for result in results:
        verdicts.setdefault(result.check, (result.ok, result.detail))
    return verdicts


async def test_every_kind_of_server_gets_its_verdict(servers: Servers, director: Callable[..., Director]) -> None:
    healthy = await servers.start(answering(HEALTHY))
    hung = await servers.start(silent)
    garbage = await servers.start(answering(b"\x00\xff nonsense"))
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nTest \r\n4\r\nPage\r\n0\r\n\r\n"
    redirect = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n"
    cases = [
        (spec(healthy, receive="Test Page"), (True, "")),
        (spec(healthy, receive="T.st"), (True, "")),
        (spec(healthy, receive="Other"), (False, "body does not match /Other/")),
        (spec(healthy, receive="+"), (False, "receive does not compile: nothing to repeat at position 0")),
        (spec(healthy, receive="(T+e*s*)+$", method="GET"), (False, "body does not match /(T+e*s*)+$/")),
        (spec(healthy, request=f"http://{healthy[0]}:{healthy[1]}/", receive="Page"), (True, "")),
        (spec(await servers.start(answering(b"HTTP/1.1 404 Not Found\r\n\r\n"))), (False, "HTTP 404")),
        (spec(await servers.start(answering(redirect))), (False, "HTTP 302")),
        (spec(await servers.start(answering(chunked)), receive="Test Page"), (True, "")),
        (spec(await servers.start(answering(b"HTTP/1.0 200 OK\r\n\r\nTest Page")), receive="Page$"), (True, "")),
        (spec(garbage), (False, "not an HTTP answer: '\\x00\\xff nonsense'")),
        (spec(await servers.start(answering(b""))), (False, "connection closed without an answer")),
        (spec(hung, timeout_ms=300), (False, "no answer within 0.3 s")),
        (spec(await servers.start(dripping), timeout_ms=1500), (False, "answer incomplete after 1.5 s")),
        (spec(await servers.start(endless), receive="Test"), (False, "body does not match /Test/")),
        (spec(await servers.start(endless)), (True, "")),
        (spec(await servers.start(resetting)), (False, "connection reset")),
        (spec(servers.refusing()), (False, "connection refused")),
        (spec(servers.filtered(), timeout_ms=300), (False, "no connection within 0.3 s")),
        (spec(("fe80::1%lo", 80)), (False, "'fe80::1%lo' is not an IP address")),
        (spec(healthy, CheckKind.CONNECT), (True, "")),
        (spec(hung, CheckKind.CONNECT), (True, "")),
        (spec(servers.refusing(), CheckKind.CONNECT), (False, "connection refused")),
        (spec(servers.filtered(), CheckKind.CONNECT, timeout_ms=300), (False, "no connection within 0.3 s")),
        (spec(("192.0.2.1", 0), CheckKind.CONNECT), (False, "0 is not a port")),
    ]  # fmt: skip
    watcher = director()
    await watcher.run([case for case, _ in cases])
    await watcher.until(lambda: len(first_verdicts(watcher.results())) == len(cases))
    assert first_verdicts(watcher.results()) == dict(enumerate(verdict for _, verdict in cases))
    assert watcher.lost == []


async def test_a_url_goes_to_the_host_in_it(servers: Servers, director: Callable[..., Director]) -> None:
    """Names are looked up anew each time; one that cannot be resolved needs no network here, its label is too long."""
    elsewhere = servers.refusing()
    _, port = await servers.start(answering(HEALTHY), "127.0.0.1")
    _, hung_port = await servers.start(silent, "127.0.0.1")
    watcher = director()
    await watcher.run(
        [
            spec(elsewhere, request=f"http://localhost:{port}/", receive="Test Page"),
            spec(elsewhere, request=f"http://localhost:{hung_port}/", timeout_ms=1500),
            spec(elsewhere, request=f"http://{'x' * 70}.example.com/"),
            spec(elsewhere, request="http://a b/"),
        ]
    )
    await watcher.until(lambda: all(watcher.count(check) > 2 for check in range(3)))
    verdicts = first_verdicts(watcher.results())
    assert verdicts[0] == (True, "")
    assert verdicts[1] == (False, "no answer within 1.5 s")
    assert verdicts[2][1].startswith("x" * 60 + " cannot be resolved: ")
    assert verdicts[3] == (False, "'a b' is not a host name")
    assert {result.ok for result in watcher.results() if result.check == 0} == {True}
    assert watcher.lost == []


async def test_a_hung_server_costs_nobody_else_anything(servers: Servers, director: Callable[..., Director]) -> None:
    hung, healthy = await servers.start(silent), await servers.start(answering(HEALTHY))
    watcher = director()
    await watcher.run([spec(hung, timeout_ms=3000)] * 3 + [spec(healthy, receive="Page")] * 5)
    await watcher.until(lambda: watcher.count(0) > 0)
    before = watcher.results()[: next(i for i, result in enumerate(watcher.results()) if result.check == 0)]
    for check in range(3, 8):
        assert sum(result.check == check and result.ok for result in before) >= 5
    assert [result.duration_us // 1_000_000 for result in watcher.results() if result.check == 0] == [3]


async def test_the_next_check_starts_an_interval_after_the_end(
    servers: Servers, director: Callable[..., Director]
) -> None:
    accepted: list[float] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(time.monotonic())
        await silent(reader, writer)

    watcher = director()
    await watcher.run([spec(await servers.start(talk), timeout_ms=400, interval_ms=300)])
    await watcher.until(lambda: watcher.count(0) == 4)
    assert len(accepted) == 4
    # 3 × (timeout + interval) = 2.1 s; a start after the interval alone would make it 0.9 s, after the timeout 1.2 s.
    assert accepted[-1] - accepted[0] > 1.8


async def test_a_change_of_outcome_is_not_kept_waiting(servers: Servers, director: Callable[..., Director]) -> None:
    answers = {True: HEALTHY, False: b"HTTP/1.1 503 Busy\r\n\r\n"}
    busy = False

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answering(answers[not busy])(reader, writer)

    watcher = director()
    await watcher.run([spec(await servers.start(talk), interval_ms=1)])
    await watcher.until(lambda: watcher.count(0) > 20)
    busy = True
    await watcher.until(lambda: any(not result.ok for result in watcher.results()))
    with_change = next(batch for _, batch in watcher.batches if any(not result.ok for result in batch))
    assert [result.ok for result in with_change].count(False) == 1, "it waited for a second failure"
    assert with_change[-1].detail == "HTTP 503"
    steady = [len(batch) for _, batch in watcher.batches[1:] if all(result.ok for result in batch)]
    assert max(steady, default=0) > 1, "unremarkable results travel together"


async def test_an_old_plan_keeps_its_number(servers: Servers, director: Callable[..., Director]) -> None:
    healthy = spec(await servers.start(answering(HEALTHY)), interval_ms=1)
    watcher = director(workers=2)
    await watcher.run([healthy] * 10)
    await watcher.until(lambda: watcher.count(9) > 1 and watcher.count(8) > 1)
    watcher.pool.set_plan(2, [healthy] * 2)
    heard = len(watcher.batches)
    await watcher.until(lambda: watcher.count(0, plan=2) > 1 and watcher.count(1, plan=2) > 1)
    assert all(result.check < 2 for result in watcher.results(plan=2))
    assert all(result.check in range(10) for result in watcher.results())
    parity = [(plan, batch[0].check % 2) for plan, batch in watcher.batches[heard:]]
    for worker in (0, 1):
        plans = [plan for plan, number in parity if number == worker]
        assert plans == sorted(plans), "a worker went back to the old plan"


async def test_kinds_that_the_core_decides_are_left_out(servers: Servers, director: Callable[..., Director]) -> None:
    target = await servers.start(answering(HEALTHY))
    watcher = director()
    await watcher.run([spec(target, CheckKind.ALWAYS_DOWN), spec(target), spec(target, CheckKind.ALWAYS_UP)])
    await watcher.until(lambda: watcher.count(1) > 3)
    assert {result.check for result in watcher.results()} == {1}


async def test_a_killed_worker_is_reported_and_replaced(servers: Servers, director: Callable[..., Director]) -> None:
    watcher = director()
    await watcher.run([spec(await servers.start(answering(HEALTHY)))])
    await watcher.until(lambda: watcher.count(0) > 1)
    (first,) = watcher.pool.pids
    os.kill(first, signal.SIGKILL)
    await watcher.until(lambda: bool(watcher.lost))
    assert watcher.lost == [(0, "killed by signal 9")]
    heard = watcher.count(0)
    await watcher.until(lambda: watcher.count(0) > heard + 1)
    assert watcher.pool.pids != (first,)
    assert all(result.ok for result in watcher.results())


async def test_a_stopped_worker_is_replaced_while_the_other_works(
    servers: Servers, director: Callable[..., Director]
) -> None:
    watcher = director(workers=2, hung_after_s=4.0)
    await watcher.run([spec(await servers.start(answering(HEALTHY)))] * 4)
    await watcher.until(lambda: watcher.count(0) > 0 and watcher.count(1) > 0)
    stopped = watcher.pool.pids[0]
    os.kill(stopped, signal.SIGSTOP)
    heard = len(watcher.batches)
    await watcher.until(lambda: bool(watcher.lost))
    assert watcher.lost == [(0, "no sign of life for 4.0 s")]
    meanwhile = [result.check for _, batch in watcher.batches[heard:] for result in batch]
    assert meanwhile.count(1) > 10
    assert meanwhile.count(3) > 10
    before = watcher.count(0)
    await watcher.until(lambda: watcher.count(0) > before)
    assert stopped not in watcher.pool.pids


async def test_a_worker_that_does_not_read_holds_two_plans_at_most(
    servers: Servers, director: Callable[..., Director]
) -> None:
    target = await servers.start(answering(HEALTHY))
    watcher = director()
    await watcher.run([spec(target)])
    await watcher.until(lambda: watcher.count(0) > 0)
    (pid,) = watcher.pool.pids
    os.kill(pid, signal.SIGSTOP)
    # A tenth of a plan fills the socket; what is checked in it is only the first, the others wait for an hour.
    large = [spec(target)] + [spec(target, interval_ms=3_600_000, receive="x" * 500)] * 3000
    for plan in range(2, 60):
        watcher.pool.set_plan(plan, large)
    watcher.pool.set_plan(60, [spec(target)])
    os.kill(pid, signal.SIGCONT)
    await watcher.until(lambda: watcher.count(0, plan=60) > 1)
    assert len({plan for plan, _ in watcher.batches}) <= 4
    assert watcher.lost == []


async def test_an_expression_without_end_harms_only_itself(servers: Servers, director: Callable[..., Director]) -> None:
    body = b"a" * 64 + b"!"
    target = await servers.start(answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)))
    watcher = director()
    await watcher.run([spec(target, receive="(a|aa)+$"), spec(target, receive="a!$")])
    await watcher.until(lambda: watcher.count(0) > 1 and watcher.count(1) > 1)
    assert first_verdicts(watcher.results())[1] == (True, "")
    assert first_verdicts(watcher.results())[0][1].startswith("searching the body for /(a|aa)+$/ takes longer")
    assert watcher.lost == []


async def test_closing_leaves_no_process_behind(servers: Servers, director: Callable[..., Director]) -> None:
    watcher = director(workers=3)
    await watcher.run([spec(await servers.start(silent))])
    stopped, *others = watcher.pool.pids
    os.kill(stopped, signal.SIGSTOP)
    await asyncio.wait_for(watcher.pool.close(), PATIENCE_S)
    assert watcher.pool.pids == ()
    assert watcher.lost == []
    for pid in (stopped, *others):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


PARENT = """
import asyncio
from hafsm.checks.pool import CheckPool
from hafsm.core.settings import CheckKind, CheckSpec
async def main():
    pool = CheckPool(1, lambda plan, results: print(pool.pids[0], flush=True), print)
    once = CheckSpec(kind=CheckKind.CONNECT, address="127.0.0.1", port=0, interval_ns=10**12, timeout_ns=10**9)
    pool.set_plan(1, [once])
    await pool.start()
    await asyncio.Event().wait()
asyncio.run(main())
"""
"""Prints the worker's pid as soon as the worker works."""


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, env=environment) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_a_worker_dies_with_its_parent(parent: subprocess.Popen[bytes], state: str) -> None:
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    pidfd = os.pidfd_open(pid)
    try:
        if state == "stopped":
            os.kill(pid, signal.SIGSTOP)
        parent.kill()
        assert select.select([pidfd], [], [], PATIENCE_S)[0], "the worker outlives its parent"
    finally:
        os.close(pidfd)
