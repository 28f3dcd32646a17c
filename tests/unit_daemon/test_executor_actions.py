"""The executor's part of what operators and ldirectord.cf ask for, on the embedded kernel."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest
from msgspec.structs import replace

from hafsm.checks.pool import CheckPool
from hafsm.core import actions as act
from hafsm.core import events as ev
from hafsm.core.ipvs import DestinationEntry, Operation, ServiceEntry, Verb, service_entry
from hafsm.core.settings import SECOND, Forwarding
from hafsm.core.state import State
from hafsm.daemon import executor as executor_module
from hafsm.daemon import memory
from hafsm.daemon.executor import Executor, release_everything
from hafsm.daemon.ldirectord_lines import lines_of
from hafsm.daemon.links import Links
from hafsm.daemon.pings import Pings
from hafsm.kernel.memory import MemoryKernel
from tests.unit_core.pair import Pair, service

LIMIT_S = 20.0
KEY = "tcp:192.168.2.232:80"
R31, R41 = "192.168.2.31:80", "192.168.2.41:80"


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0.01)


def ended(pid: int) -> bool:
    """A zombie counts: who buries it is not the point."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


def destination(address: str, weight: int) -> DestinationEntry:
    return DestinationEntry(address=address, port=80, forwarding=Forwarding.GATE, weight=weight)


class Bench:
    """An executor, the kernel it works on, and the events that it reported."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kernel = MemoryKernel(time.monotonic_ns)
        self.events: list[ev.Event] = []
        self.exits: list[act.Exit] = []
        self.pair = Pair(services=(service(), service(port=81, clean_stop=False))).start()
        self.pair.a.report_checks(a31=True, a41=True)
        self.pair.run(SECOND)
        for entry in self.pair.a.table:
            operations = [Operation(verb=Verb.ADD_SERVICE, service=entry.service)]
            operations += [
                Operation(verb=Verb.ADD_DESTINATION, service=entry.service, destination=d) for d in entry.destinations
            ]
            self.kernel.apply_operations(operations)
        self.executor = Executor(
            lambda: self.kernel,
            ThreadPoolExecutor(1),
            cast(Links, None),
            cast(Pings, None),
            cast(CheckPool, None),
            fence=None,
            script_folders=(),
            state_dir=folder,
            secrets={},
            state=self.state,
            submit=self.events.append,
            clock=time.monotonic_ns,
            on_exit=self.exits.append,
        )

    def state(self) -> State:
        return self.pair.a.state

    async def done(self, action: act.Action) -> ev.Event:
        """Perform it; its result."""
        self.events.clear()
        self.executor.perform(action)
        async with asyncio.timeout(LIMIT_S):
            while True:
                for event in self.events:
                    if isinstance(event, ev.ActionFinished | ev.KernelObserved) and event.action == action.id:
                        return event
                await asyncio.sleep(0.01)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.executor.close()


def command(line: str, timeout_ns: int = 10 * SECOND) -> act.RunFallbackCommand:
    return act.RunFallbackCommand(
        id=5, command=line, verb=act.FallbackVerb.START, virtual="192.0.2.1:80", protocol="tcp", timeout_ns=timeout_ns
    )


async def test_a_fallback_command_is_the_administrators_own_shell_line(bench: Bench) -> None:
    told = bench.folder / "told"
    result = await bench.done(command(f"A=1; echo $A \"it's\" >> {told}; printf '%s,' x y z >> {told}; echo"))
    assert (result.outcome, result.detail) == (ev.Outcome.DONE, "")
    assert told.read_text() == "1 it's\nx,y,z,"
    program = bench.folder / "f"
    program.write_text(f'#!/bin/sh\necho "$@" >> {told}\n')
    program.chmod(0o755)
    told.unlink()
    await bench.done(command(f"{program} own"))
    assert told.read_text() == "own start 192.0.2.1:80 tcp\n"


async def test_a_fallback_command_that_fails_or_hangs_ends_with_all_that_it_started(bench: Bench) -> None:
    failed = await bench.done(command("echo no mail >&2; false"))
    assert (failed.outcome, failed.detail) == (ev.Outcome.FAILED, "exit 1: no mail")
    pid = bench.folder / "pid"
    hung = await bench.done(command(f"(echo $BASHPID; exec sleep 77) & echo $! > {pid}; wait; :", 300_000_000))
    assert hung.outcome is ev.Outcome.TIMED_OUT
    await until(lambda: ended(int(pid.read_text())))


async def test_hundreds_of_commands_run_some_at_a_time_and_each_ends_within_its_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.executor, "_command_slots", asyncio.Semaphore(1))
    bench.executor.perform(replace(command("sleep 60; :", 400_000_000), id=1))
    bench.executor.perform(replace(command("sleep 60; :", 200_000_000), id=2))
    await until(lambda: len(bench.events) == 2)
    first, second = sorted(bench.events, key=lambda event: event.action)
    assert first.outcome is second.outcome is ev.Outcome.TIMED_OUT
    assert second.detail == "not run: 16 others took all of its 0.2 s"


async def test_a_daemon_that_ends_waits_for_its_last_command_a_little(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = bench.folder / "told"
    bench.executor.perform(command(f"sleep 0.2; echo > {told}; :"))
    bench.executor.perform(act.Exit(id=6, reason="x"))
    await until(lambda: bench.exits)
    assert told.exists()
    monkeypatch.setattr(executor_module, "LAST_GRACE_S", 0.1)
    bench.executor.perform(command("sleep 60; :"))
    began = time.monotonic()
    bench.executor.perform(act.Exit(id=7, reason="x"))
    await until(lambda: len(bench.exits) == 2)
    assert time.monotonic() - began < 10


async def test_what_is_remembered_is_on_the_disk_when_it_is_reported(bench: Bench) -> None:
    action = act.RememberOverrides(id=8, overrides=(), fallbacks=("a",))
    result = await bench.done(action)
    assert result.outcome is ev.Outcome.DONE
    assert memory.recall(bench.folder, first_life=False).fallbacks == ("a",)
    (bench.folder / memory.NAME).unlink()
    (bench.folder / memory.NAME).mkdir()
    failed = await bench.done(action)
    assert failed.outcome is ev.Outcome.FAILED and failed.detail.startswith(f"{bench.folder / memory.NAME}: ")


async def test_a_drained_server_is_empty_when_the_kernel_counts_no_connection_and_not_when_it_is_not_there(
    bench: Bench,
) -> None:
    counts = {(KEY, R31): 1}
    bench.kernel.count_connections = lambda: counts
    asked = ((KEY, R31), (KEY, R41), (KEY, "192.168.2.99:80"))
    first = await bench.done(act.ObserveKernel(id=9, draining=asked))
    assert first.empty == ((KEY, R41),)
    counts.clear()
    second = await bench.done(act.ObserveKernel(id=10, draining=asked[:1]))
    assert second.empty == ((KEY, R31),)
    bench.kernel.fail_next("read_connections", 5)
    third = await bench.done(act.ObserveKernel(id=11, draining=asked[:1]))
    assert third.outcome is ev.Outcome.FAILED


async def test_a_look_gives_the_table_and_its_connections(bench: Bench) -> None:
    bench.kernel.count_connections = lambda: {(KEY, R31): 3}
    table, counts = await bench.executor.look()
    assert len(table) == 2 and counts[KEY, R31] == (3, 0) and counts[KEY, R41] == (0, 0)


async def test_the_log_has_ldirectords_lines_when_the_kernel_has_done_it(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(executor_module, "LINES_LOGGED", 2)
    entry = service_entry(service())
    gone = Operation(verb=Verb.DELETE_DESTINATION, service=entry, destination=destination("192.168.2.31", 1))
    quiet = Operation(verb=Verb.EDIT_DESTINATION, service=entry, destination=destination("192.168.2.41", 0))
    bench.kernel.fail_next(Verb.DELETE_DESTINATION, 5)
    await bench.done(act.ProgramIpvs(id=12, operations=(gone, quiet, quiet, quiet)))
    assert caplog.messages == [
        f"Quiescent real server: {R41} (192.168.2.232:80) (Weight set to 0)",
        f"Quiescent real server: {R41} (192.168.2.232:80) (Weight set to 0)",
        "and 1 more changes of the IPVS table",
    ]


def test_each_operation_has_its_line() -> None:
    mark = ServiceEntry(protocol="fwm", address="", port=0, mark=7)
    web = service_entry(service())
    one, two = destination("10.0.0.1", 5), destination("2001:db8::1", 1)
    operations = [
        Operation(verb=Verb.ADD_SERVICE, service=web),
        Operation(verb=Verb.EDIT_SERVICE, service=mark),
        Operation(verb=Verb.ADD_DESTINATION, service=web, destination=one),
        Operation(verb=Verb.EDIT_DESTINATION, service=mark, destination=two),
        Operation(verb=Verb.DELETE_DESTINATION, service=web, destination=one),
        Operation(verb=Verb.DELETE_SERVICE, service=web),
    ]
    assert list(lines_of(operations, reload=False)) == [
        "Added virtual server: 192.168.2.232:80",
        "Changed virtual server: 7",
        "Added real server: 10.0.0.1:80 (192.168.2.232:80) (Weight set to 5)",
        "Restored real server: [2001:db8::1]:80 (7) (Weight set to 1)",
        "Deleted real server: 10.0.0.1:80 (192.168.2.232:80)",
        "Purged virtual server (stop): 192.168.2.232:80",
    ]
    assert list(lines_of(operations[-1:], reload=True)) == ["Purged virtual server (start): 192.168.2.232:80"]


async def test_after_a_crash_the_supervisor_leaves_what_stays_in_the_kernel(bench: Bench) -> None:
    assert release_everything(bench.kernel, bench.pair.a.config) == []
    assert [entry.service.port for entry in bench.kernel.read_table()] == [81]
