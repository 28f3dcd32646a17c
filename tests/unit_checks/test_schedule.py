"""When checks run: paced at first, then spread; undisturbed by a new plan; negotiate and connect by turns."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable

import pytest
from msgspec.structs import replace

from hafsm.checks.kinds import make
from hafsm.checks.pool import CheckPool, _divide
from hafsm.checks.worker import _Run
from hafsm.core.settings import SECOND, CheckKind
from tests.unit_checks.servers import HEALTHY, Director, Servers, Talk, answering, mute, spec


@pytest.fixture
async def servers() -> AsyncIterator[Servers]:
    made = Servers()
    yield made
    await made.aclose()


@pytest.fixture
async def director() -> AsyncIterator[Callable[..., Director]]:
    made: list[Director] = []

    def make(**options: object) -> Director:
        made.append(Director(**options))
        return made[-1]

    yield make
    for each in made:
        await each.pool.close()


def recording(times: list[float], talk: Talk) -> Talk:
    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        times.append(time.monotonic())
        await talk(reader, writer)

    return record


async def test_checks_spread_over_the_interval(servers: Servers, director: Callable[..., Director]) -> None:
    """32 checks every 2 s: after the first round no half of the interval holds nearly all of them."""
    times: list[float] = []
    target = await servers.start(recording(times, answering(HEALTHY)))
    watcher = director()
    await watcher.run([spec(target, interval_ms=2000, receive=f"Test Page|{i}") for i in range(32)])
    await watcher.until(lambda: all(watcher.count(i) >= 3 for i in range(32)))
    third = sorted(times)[64:96]
    phases: dict[int, int] = defaultdict(int)
    for at in third:
        phases[int(at % 2.0 / 0.5)] += 1
    assert len(phases) == 4, "a quarter of the interval is empty"
    assert max(phases.values()) < 24


async def test_a_new_plan_leaves_running_and_waiting_checks_alone(
    servers: Servers, director: Callable[..., Director]
) -> None:
    """Their connection lives on, their time does not change, and they have their new numbers."""
    hung_times: list[float] = []
    waiting_times: list[float] = []
    hung = spec(await servers.start(recording(hung_times, mute)), timeout_ms=4000, interval_ms=3_600_000)
    waiting = spec(await servers.start(recording(waiting_times, answering(HEALTHY))), interval_ms=3_600_000)
    others = [spec(await servers.start(answering(HEALTHY)), interval_ms=50) for _ in range(3)]
    watcher = director(workers=2)
    await watcher.run([hung, waiting, *others])
    await watcher.until(lambda: watcher.count(1) == 1 and len(hung_times) == 1)
    for plan in range(2, 12):
        checks = [others[plan % 3], hung, waiting] if plan % 2 else [waiting, *others, hung]
        watcher.pool.set_plan(plan, checks)
        await watcher.until(lambda plan=plan: watcher.count(2 if plan % 2 else 0, plan) > 0)
    await watcher.until(lambda: watcher.count(1, 11) > 0)
    (ended,) = [result for result in watcher.results(11) if result.check == 1]
    assert (ended.ok, ended.detail) == (False, "no answer within 4.0 s")
    assert len(hung_times) == 1, "a running check was given up and begun anew"
    assert len(waiting_times) == 1, "a waiting check was started by a new plan"
    assert {result.ok for plan in range(2, 12) for result in watcher.results(plan)} == {True, False}


async def test_a_failure_is_not_repeated_under_a_new_plan(servers: Servers, director: Callable[..., Director]) -> None:
    """It would count twice. But one that the core may have missed is checked again at once."""
    refusing = spec(servers.refusing(), interval_ms=3_600_000)
    lately = spec(servers.refusing(), interval_ms=3_600_000)
    watcher = director()
    await watcher.run([refusing])
    await watcher.until(lambda: watcher.count(0) == 1)
    watcher.pool.set_plan(2, [lately, refusing])
    await watcher.until(lambda: watcher.count(0, 2) == 1)
    assert all(result.duration_us < 1_000_000 for result in watcher.results(2))
    assert watcher.count(1, 2) <= 1


async def test_a_changed_secret_is_a_changed_check(servers: Servers, director: Callable[..., Director]) -> None:
    said: list[bytes] = []

    async def pop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"+OK\r\n+OK\r\n+OK\r\n")
        said.extend([await reader.readline() for _ in range(2)])

    target = await servers.start(pop)
    login = spec(target, CheckKind.POP, login="u", password="name", interval_ms=3_600_000)
    watcher = director()
    await watcher.run([login], {"name": b"first", "unused": b"x"})
    await watcher.until(lambda: watcher.count(0) == 1)
    watcher.pool.set_plan(2, [login])
    await watcher.until(lambda: watcher.count(0, 2) == 1)
    watcher.pool.set_plan(3, [login], {"name": b"second"})
    await watcher.until(lambda: b"PASS second\r\n" in said)
    assert said == [b"USER u\r\n", b"PASS first\r\n", b"USER u\r\n", b"PASS second\r\n"]


async def test_negotiate_and_connect_by_turns(servers: Servers, director: Callable[..., Director]) -> None:
    """`checktype=2`: one request, two bare connections, and again; a failed negotiate is repeated every time."""
    heard: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heard.append(await reader.read(4))
        except ConnectionResetError:
            heard.append(b"")
        writer.write(HEALTHY)

    watcher = director()
    await watcher.run([spec(await servers.start(talk), connects=2, receive="Test")])
    await watcher.until(lambda: len(heard) >= 9 and watcher.count(0) >= 9)
    assert heard[:9] == [b"GET ", b"", b""] * 3
    await watcher.pool.close()
    heard.clear()
    failing = director()
    await failing.run([spec(await servers.start(talk), connects=2, receive="Other")])
    await failing.until(lambda: len(heard) >= 5)
    assert set(heard[:5]) == {b"GET "}


def test_connects_between_two_others_have_a_deadline_of_their_own() -> None:
    """Negotiate 30 s, connect 5 s: ldirectord's two timeouts."""
    whole = spec(("127.0.0.1", 80), connects=2, connect_timeout_ns=5 * SECOND)
    run = _Run(0, 0, (whole, None, None), make(whole, {}, lambda: pytest.fail("no helper is needed")), 0)
    limits = []
    for _ in range(4):
        run.take_turn()
        limits.append(run.timeout // SECOND)
        run.took_turn(True)
    assert limits == [30, 5, 5, 30]


def test_a_check_stays_with_its_worker() -> None:
    checks = [spec((f"192.0.2.{i}", 80)) for i in range(100)]
    first = _divide(checks, {}, 4)
    assert sorted(map(len, first)) == [25] * 4

    def before(shares: list[list[int]], of: list[object]) -> dict[object, object]:
        from collections import deque

        found: dict[object, deque[int]] = {}
        for slot, share in enumerate(shares):
            for index in share:
                found.setdefault(of[index], deque()).append(slot)
        return found

    fewer = [checks[i] for i in range(100) if i not in (3, 50)]
    second = _divide(fewer, before(first, checks), 4)
    owner = {checks[i]: slot for slot, share in enumerate(first) for i in share}
    assert all(owner[fewer[i]] == slot for slot, share in enumerate(second) for i in share)
    only_first = [check for check in checks if owner[check] == 0] * 4
    third = _divide(only_first, before(first, checks), 4)
    assert max(map(len, third)) <= 25 * 1.25 + 9


def test_as_many_workers_as_the_checks_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(8)))

    def workers(kind: CheckKind, number: int) -> int:
        pool = CheckPool(0, lambda _plan, _results: None, lambda _worker, _detail: None)
        one = replace(spec(("192.0.2.1", 80), kind), interval_ns=SECOND)
        pool.set_plan(1, [replace(one, port=1 + i) for i in range(number)])
        return len(pool._slots)

    assert workers(CheckKind.HTTP, 0) == 1
    assert workers(CheckKind.HTTP, 2500) == 1
    assert workers(CheckKind.HTTP, 5000) == 2
    assert workers(CheckKind.HTTPS, 1000) == 4
    assert workers(CheckKind.HTTP, 60_000) == 8
    assert workers(CheckKind.ALWAYS_UP, 60_000) == 1
