"""Starts the checker workers, gives each its share of the plan, hands on what they find, and replaces those that die.

Everything is asynchronous but the start of a process (a vfork: some milliseconds). A worker that has died, hangs or
talks nonsense is killed, reported, and started again after a pause; its checks have no results meanwhile, which changes
nobody's state.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from hafsm.checks.messages import FromWorker, GaveUp, Plan, Results, Unframer, frame
from hafsm.core.events import CheckResult
from hafsm.core.settings import SECOND, CheckKind, CheckSpec

TICK_S = 0.5
HUNG_AFTER_S = 5.0
"""A worker says every second that it is alive; its start on a busy machine may take longer than that."""
PAUSE_MIN_S = 0.1
PAUSE_MAX_S = 5.0
"""Before a lost worker is started again; doubles with each loss in a row."""
CALM_S = 10.0
"""A worker that lived this long ends a row of losses."""
END_LIMIT_S = 1.0
"""For a worker to end by itself, and for the kernel to bury one that was killed."""
DECIDED_KINDS = (CheckKind.ALWAYS_UP, CheckKind.ALWAYS_DOWN)
"""The core decides these alone."""
WORKER_CHECKS_PER_S = 2500
"""Plain HTTP checks a second that one worker is given before there is a second one: a quarter of what it can do."""
_WEIGHTS = {
    CheckKind.HTTPS: 10,
    CheckKind.IMAPS: 10,
    CheckKind.POPS: 10,
    CheckKind.LDAPS: 10,
    CheckKind.MYSQL: 10,
    CheckKind.PGSQL: 10,
    CheckKind.ORACLE: 10,
    CheckKind.EXTERNAL: 30,
    CheckKind.EXTERNAL_PERL: 50,
}
"""CPU in plain HTTP checks, roughly; others are 1."""
WORKERS_MAX = 64
UNEVEN = 1.25
"""A worker may have so many times its fair share of the checks before unchanged ones move to another."""
UNEVEN_FREE = 8
_READ_BYTES = 256 * 1024
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE")


class CheckPool:
    """The checks of one director. All methods belong to one event loop, run by the main thread."""

    def __init__(
        self,
        workers: int,
        on_batch: Callable[[int, tuple[CheckResult, ...]], None],
        on_worker_lost: Callable[[int, str], None],
        *,
        user: str = "",
        hung_after_s: float = HUNG_AFTER_S,
    ) -> None:
        """`on_batch(plan, results)` gets what was found, numbered with the plan it was found under;
        `on_worker_lost(worker, detail)` hears of each worker that has to be replaced. Nothing is started yet.

        `workers` 0: as many as the checks need, at most one a CPU. `user` runs external checks and libraries; empty:
        nobody if this is root, else whoever this is.
        """
        self._fixed_workers = workers > 0
        self._slots: list[_Worker | None] = [None] * (workers or 1)
        self._losses = [0] * len(self._slots)
        self._shares: list[list[int]] = [[] for _ in self._slots]
        """Slot → indices of its checks in the plan."""
        self._user = user
        self._secrets: Mapping[str, bytes] = {}
        self._started = False
        self._on_batch = on_batch
        self._on_worker_lost = on_worker_lost
        self._hung_ticks = hung_after_s / TICK_S
        self._plan = 0
        self._checks: Sequence[CheckSpec] = ()
        self._restarts: dict[int, asyncio.TimerHandle] = {}
        self._ticking: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers that run."""
        return tuple(worker.pid for worker in self._slots if worker is not None)

    async def start(self) -> None:
        """Start the workers; they take up the last plan set, or wait for one. Must come before `close`."""
        self._started = True
        for slot in range(len(self._slots)):
            self._spawn(slot)
        self._ticking = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def set_plan(self, plan: int, checks: Sequence[CheckSpec], secrets: Mapping[str, bytes] | None = None) -> None:
        """Check these from now on. What was checked before goes on as if nothing had happened, and what is known to be
        healthy is reported once more under the new number; the others start at once, then each in its interval.

        Kinds that the core decides alone (`on`, `off`) are left out. `secrets` maps the names in the specs to what they
        stand for; None: those of the last plan.
        """
        if secrets is not None:
            self._secrets = dict(secrets)
        before: dict[CheckSpec, deque[int]] = {}
        for slot, share in enumerate(self._shares):
            for index in share:
                before.setdefault(self._checks[index], deque()).append(slot)
        self._plan, self._checks = plan, checks
        self._grow()
        self._shares = _divide(checks, before, len(self._slots))
        for slot, worker in enumerate(self._slots):
            if worker is not None:
                worker.send(self._share(slot))
            elif self._started and slot not in self._restarts:
                self._spawn(slot)

    async def close(self) -> None:
        """End the workers; within two seconds even if they hang."""
        self._closed = True
        for timer in (*self._restarts.values(), self._ticking):
            if timer is not None:
                timer.cancel()
        workers = [worker for worker in self._slots if worker is not None]
        self._slots = [None] * len(self._slots)
        await asyncio.gather(*(worker.end() for worker in workers))

    def _grow(self) -> None:
        """Make room for the workers that the plan needs. There are never fewer than before."""
        if self._fixed_workers:
            return
        load_per_s = sum(
            _WEIGHTS.get(spec.kind, 1) * SECOND / max(spec.interval_ns, 1)
            for spec in self._checks
            if spec.kind not in DECIDED_KINDS
        )
        cpus = min(len(os.sched_getaffinity(0)), WORKERS_MAX)
        while len(self._slots) < min(math.ceil(load_per_s / WORKER_CHECKS_PER_S), cpus):
            self._slots.append(None)
            self._losses.append(0)

    def _share(self, slot: int) -> bytes:
        """The checks of a worker, as a message."""
        checks = tuple((index, self._checks[index]) for index in self._shares[slot])
        names = {name for _, spec in checks for name in (spec.password, spec.secret) if name}
        return frame(Plan(self._plan, checks, {name: self._secrets[name] for name in names if name in self._secrets}))

    def _spawn(self, slot: int) -> None:
        self._restarts.pop(slot, None)
        try:
            worker = _Worker(self._user, self._heard, lambda detail: self._lost(slot, detail))
        except OSError as error:
            self._lost(slot, f"cannot be started: {error}")
            return
        self._slots[slot] = worker
        worker.send(self._share(slot))

    def _heard(self, results: Results) -> None:
        if not self._closed:
            self._on_batch(results.plan, results.results)

    def _lost(self, slot: int, detail: str) -> None:
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        worker, self._slots[slot] = self._slots[slot], None
        if worker is not None and loop.time() - worker.started > CALM_S:
            self._losses[slot] = 0
        pause_s = min(PAUSE_MIN_S * 2 ** min(self._losses[slot], 16), PAUSE_MAX_S)
        self._losses[slot] += 1
        self._restarts[slot] = loop.call_later(pause_s, self._spawn, slot)
        self._on_worker_lost(slot, detail)

    def _tick(self) -> None:
        # Counted in ticks of this loop: a machine that was frozen has not proved that its workers hang.
        self._ticking = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        for worker in self._slots:
            if worker is not None:
                worker.silent_ticks += 1
                if worker.silent_ticks > self._hung_ticks:
                    worker.lose(f"no sign of life for {self._hung_ticks * TICK_S:.1f} s")


def _divide(checks: Sequence[CheckSpec], before: dict[CheckSpec, deque[int]], slots: int) -> list[list[int]]:
    """Slot → indices of its checks. A check stays with the worker that it had, unless that one has far too many."""
    indices = [index for index, spec in enumerate(checks) if spec.kind not in DECIDED_KINDS]
    limit = len(indices) / slots * UNEVEN + UNEVEN_FREE
    shares: list[list[int]] = [[] for _ in range(slots)]
    rest = []
    for index in indices:
        had = before.get(checks[index])
        if had and len(shares[had[0]]) < limit:
            shares[had.popleft()].append(index)
        else:
            rest.append(index)
    for index in rest:
        min(shares, key=len).append(index)
    return shares


class _Worker:
    """One process and the socket to it."""

    def __init__(self, user: str, on_results: Callable[[Results], None], on_lost: Callable[[str], None]) -> None:
        """Starts the process. `on_lost(why)` is called once, unless `end` was. Raises OSError."""
        self._loop = loop = asyncio.get_running_loop()
        self._on_results = on_results
        self._on_lost = on_lost
        self._unframer: Unframer[FromWorker] = Unframer(msgspec.msgpack.Decoder(FromWorker))
        self._sending = memoryview(b"")
        self._next = b""
        """The plan behind the one being sent. A newer one takes its place, so no more than two ever wait."""
        self._open = True
        self._reason = ""
        self._reported = False
        self._report_timer: asyncio.TimerHandle | None = None
        self.started = loop.time()
        self.silent_ticks = 0
        self._channel, theirs = socket.socketpair()
        self._channel.setblocking(False)
        with theirs:
            try:
                self._process = _start_process(theirs, user)
            except OSError:
                self._channel.close()
                raise
        self.pid = self._process.pid
        self._pidfd = os.pidfd_open(self.pid)
        self._buried: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._pidfd, self._bury)
        loop.add_reader(self._channel, self._read)

    def send(self, message: bytes) -> None:
        """Send a frame as fast as the worker takes it. Never blocks."""
        if not self._open:
            return
        if self._sending:
            self._next = message
            return
        self._sending = memoryview(message)
        self._write()
        if self._open and self._sending:
            self._loop.add_writer(self._channel, self._write)

    def lose(self, reason: str) -> None:
        """Kill it. `reason` empty: its last words or its exit status say it all."""
        if self._open:
            self._reason = self._reason or reason
            self._hang_up()
            self._process.kill()
            self._report_timer = self._loop.call_later(END_LIMIT_S, self._report)

    async def end(self) -> None:
        """Let it end by itself, else kill it. What it says meanwhile is not heard."""
        self._reported = True
        if self._open:
            self._hang_up()
        try:
            await asyncio.wait([self._buried], timeout=END_LIMIT_S)
        finally:
            if not self._buried.done():
                self._process.kill()
        await asyncio.wait([self._buried], timeout=END_LIMIT_S)

    def _hang_up(self) -> None:
        self._open = False
        self._loop.remove_reader(self._channel)
        self._loop.remove_writer(self._channel)
        self._channel.close()

    def _read(self) -> None:
        try:
            data = self._channel.recv(_READ_BYTES)
        except ConnectionResetError:
            data = b""
        if not data:
            self.lose("")
            return
        self.silent_ticks = 0
        try:
            messages = self._unframer.feed(data)
        except msgspec.DecodeError as error:
            self.lose(f"talked nonsense: {error}")
            return
        for message in messages:
            if isinstance(message, Results):
                self._on_results(message)
            elif isinstance(message, GaveUp):
                self._reason = message.reason

    def _write(self) -> None:
        try:
            while self._sending:
                self._sending = self._sending[self._channel.send(self._sending) :]
                if not self._sending:
                    self._sending, self._next = memoryview(self._next), b""
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            self.lose("")
            return
        self._loop.remove_writer(self._channel)

    def _bury(self) -> None:
        """The process has ended."""
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        code = self._process.wait()
        self._buried.set_result(None)
        with contextlib.suppress(BlockingIOError):
            while self._open:  # what it wrote before it ended, up to the end of the stream
                self._read()
        if self._open:
            self._hang_up()
        if not self._reason:
            self._reason = f"killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        self._report()

    def _report(self) -> None:
        if self._report_timer is not None:
            self._report_timer.cancel()
        if not self._reported:
            self._reported = True
            self._on_lost(self._reason or "its socket closed")


def _start_process(channel: socket.socket, user: str) -> subprocess.Popen[bytes]:
    """A worker finds its modules where this process finds them, also in a source checkout; never in the folder it
    happens to stand in (-P). Its own session keeps a terminal's Ctrl-C away from it."""
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "hafsm.checks.worker", str(os.getpid()), user],
        stdin=channel.fileno(),
        stdout=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
