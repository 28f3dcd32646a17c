"""The checker process: runs its share of the plan and reports. Started and watched by `hafsm.checks.pool`.

One thread, one epoll, one heap of times; written by hand because a check costs its CPU thousands of times a second.
The rules: a check that ended starts again `interval_ns` later (ldirectord's checkinterval), so one target never has two
checks at once; a check has failed when its deadline passes, whatever has arrived. A hung target costs nobody else
anything.

The first round starts at once, at a steady pace; the second is spread over the interval, from a random beginning, so
that neither the checks of one worker nor those of two directors meet at a server in step. A new plan touches only what
it changes.

Standard input is the socket to the pool. When it closes, or the parent dies, this process ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import resource
import select
import signal
import socket
import sys
import time
from collections import deque
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

import msgspec

from hafsm.checks.connect import MOVED, AllBusy, Check, LocalTrouble, Verdict
from hafsm.checks.kinds import connects_of, make
from hafsm.checks.messages import Alive, FromWorker, GaveUp, Plan, Results, Unframer, frame
from hafsm.core.events import CheckResult
from hafsm.core.settings import MILLISECOND, SECOND, CheckSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from hafsm.checks.jobs import Helpers

BATCH_NS = 50 * MILLISECOND
"""How long an unremarkable result may wait for others (design section 6)."""
ALIVE_NS = SECOND
STARTS_AT_ONCE = 64
"""New checks between two looks at running ones, so that the first round of a large plan does not age its answers."""
FIRST_ROUND_PACE_NS = MILLISECOND // 2
"""Between the first starts of two new checks, unless the interval is too short for that."""
LATELY_NS = SECOND
"""The core may not have seen a failure that is not older than this when it sent a new plan."""
GOLDEN = 0.6180339887498949
"""Multiples of the golden ratio spread points evenly over an interval, however many there will be."""
RETRY_NS = 100 * MILLISECOND
"""Before a check is tried again that could not start for want of local resources."""
TROUBLE_LIMIT_NS = 10 * SECOND
"""A check that cannot start for so long ends the worker: silence would look like health."""
STALL_NS = 250 * MILLISECOND
"""A pause of the whole process beyond this (frozen machine, starved of CPU) is given back to the running checks."""
UNREAD_MAX_BYTES = 1024 * 1024
"""With so much waiting for the pool no new checks start."""
SPARE_FILES = 64
EVENTS_MAX = 512
_PR_SET_PDEATHSIG = 1

_EDGES = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
Identity = tuple[CheckSpec, bytes | None, bytes | None]
"""What a check asks: the spec and the secrets that it names."""


class _Run:
    """One check of the plan and where it stands."""

    __slots__ = (
        "began",
        "check",
        "connects",
        "due",
        "duration_us",
        "fresh",
        "identity",
        "index",
        "interval",
        "last_ok",
        "main",
        "number",
        "passed_in_row",
        "running",
        "shares_left",
        "timeout",
        "trouble_since",
    )

    def __init__(self, number: int, index: int, identity: Identity, check: Check, due: int) -> None:
        spec = identity[0]
        self.number = number
        """Names the run in the heap, for its whole life."""
        self.index = index
        """In the whole plan."""
        self.identity = identity
        self.check = self.main = check
        self.connects = connects_of(spec) if spec.connects else None
        """The other check of `checktype=N`."""
        self.passed_in_row = 0
        """Of `main` and `connects` together, since the last failure or full cycle."""
        self.interval = spec.interval_ns
        self.timeout = spec.timeout_ns
        self.running = False
        self.shares_left = 0
        self.began = 0
        self.fresh = True
        """The next interval is cut short, to a phase of its own."""
        self.due = due
        """The start of the next check, or the end of a share of the running one's deadline; other times in the heap are
        stale."""
        self.last_ok: bool | None = None
        self.duration_us = 0
        self.trouble_since = 0

    def take_turn(self) -> None:
        """Choose the check that comes next: of `checktype=N` one negotiate, then N connects; a failure begins anew."""
        if self.connects is not None:
            self.check = self.connects if 0 < self.passed_in_row <= self.identity[0].connects else self.main
            self.timeout = self.check.spec.timeout_ns

    def took_turn(self, ok: bool) -> None:
        """Count what was checked."""
        if self.connects is not None:
            self.passed_in_row = self.passed_in_row + 1 if ok else 0
            if self.passed_in_row > self.identity[0].connects:
                self.passed_in_row = 0


class Worker:
    """See the module."""

    def __init__(self, channel: socket.socket, *, user: str = "", clock: Callable[[], int] = time.monotonic_ns) -> None:
        """`channel` is connected to the pool and non-blocking. `user` runs what a helper process does."""
        self._channel = channel
        self._clock = clock
        self._unframer = Unframer(msgspec.msgpack.Decoder(Plan))
        self._unread = bytearray()
        self._epoll = select.epoll()
        self._epoll.register(channel, select.EPOLLIN)
        self._plan = 0
        self._user = user
        self._helpers: Helpers | None = None
        self._runs: dict[int, _Run] = {}
        self._numbered = 0
        self._phase = random.random()
        self._by_fd: dict[int, _Run] = {}
        self._times: list[tuple[int, int]] = []
        """Heap of (due, number of the run)."""
        self._results: list[CheckResult] = []
        self._flush_at = 0
        """When `_results` go out; 0: there are none."""
        self._alive_at = clock()
        self._files_max = max(_raise_file_limit() - SPARE_FILES, SPARE_FILES)

    def run(self) -> None:
        """Returns when the pool closes the channel."""
        looked = self._clock()
        while True:
            wait_ns = self._until_next() - self._clock()
            for fd, events in self._epoll.poll(max(wait_ns, 0) / 1e9, EVENTS_MAX):
                run = self._by_fd.get(fd)
                if run is not None:
                    try:
                        verdict = run.check.ready(events)
                    except LocalTrouble as trouble:
                        del self._by_fd[fd]
                        self._postpone(run, trouble)
                        continue
                    if verdict is None:
                        continue
                    del self._by_fd[fd]
                    if verdict is MOVED:
                        self._watch(run)
                    else:
                        self._ended(run, verdict)
                elif fd == self._channel.fileno() and not self._use_channel(events):
                    return
            now = self._clock()
            if now - looked - max(wait_ns, 0) > STALL_NS:
                self._give_back(now, now - looked - max(wait_ns, 0))
            looked = now
            self._pass_times(now)
            if self._flush_at and now >= self._flush_at:
                self._flush()
            if now >= self._alive_at:
                self._alive_at = now + ALIVE_NS
                if not self._unread:
                    self._send(Alive())

    # ---- the plan and its times

    def _until_next(self) -> int:
        until = self._alive_at
        if self._flush_at:
            until = min(until, self._flush_at)
        if self._times:
            until = min(until, self._times[0][0])
        return until

    def _set_plan(self, plan: Plan) -> None:
        self._flush()
        now = self._clock()
        before: dict[Identity, deque[_Run]] = {}
        for run in self._runs.values():
            before.setdefault(run.identity, deque()).append(run)
        runs: list[_Run] = []
        new: list[_Run] = []
        for index, spec in plan.checks:
            identity = spec, plan.secrets.get(spec.password), plan.secrets.get(spec.secret)
            kept = before.get(identity)
            if kept:
                run = kept.popleft()
                self._go_on(run, index, now)
            else:
                self._numbered += 1
                run = _Run(self._numbered, index, identity, make(spec, plan.secrets, self._helped), now)
                new.append(run)
            runs.append(run)
        for gone in before.values():
            for run in gone:
                self._stop(run)
        for place, run in enumerate(new):
            run.due = now + place * min(FIRST_ROUND_PACE_NS, run.interval // len(new))
        self._plan = plan.plan
        self._runs = {run.number: run for run in runs}
        self._rebuild_times()
        if self._results:
            self._flush_at = now

    def _helped(self) -> Helpers:
        """The helper process, for checks that need one."""
        if self._helpers is None:
            from hafsm.checks.jobs import Helpers

            self._helpers = Helpers(self._user)
        return self._helpers

    def _go_on(self, run: _Run, index: int, now: int) -> None:
        """A new plan has this check, too: keep its times. Repeat a success, which a virtual service that is new with
        this plan waits for; a failure must not count twice."""
        run.index = index
        if run.last_ok:
            self._results.append(CheckResult(check=index, ok=True, duration_us=run.duration_us))
        elif run.last_ok is not None:
            run.last_ok = None  # the next result is news to whoever hears it
            if not run.running and now < run.due and now - (run.due - run.interval) < LATELY_NS:
                run.due = now

    def _stop(self, run: _Run) -> None:
        sock = run.check.sock
        if sock is not None:
            self._by_fd.pop(sock.fileno(), None)
        run.check.close()

    def _pass_times(self, now: int) -> None:
        """Expire and start what is due."""
        times = self._times
        starts = 0
        while times and times[0][0] <= now and starts < STARTS_AT_ONCE:
            due, number = heappop(times)
            run = self._runs.get(number)
            if run is None or due != run.due:
                continue
            if run.running:
                self._share_passed(run)
            else:
                starts += 1
                self._start(run)
        if len(times) > 4 * len(self._runs) + 256:
            self._rebuild_times()

    def _share_passed(self, run: _Run) -> None:
        run.shares_left -= 1
        verdict = run.check.again() if run.shares_left else run.check.timed_out()
        if verdict is not None:
            self._ended(run, verdict)
        elif run.shares_left > 1:
            self._schedule(run, run.due + run.timeout // run.check.shares)
        else:
            self._schedule(run, run.began + run.timeout)

    def _rebuild_times(self) -> None:
        self._times = [(run.due, run.number) for run in self._runs.values()]
        heapify(self._times)

    def _next_phase(self) -> float:
        self._phase = (self._phase + GOLDEN) % 1.0
        return self._phase

    def _schedule(self, run: _Run, due: int) -> None:
        run.due = due
        heappush(self._times, (due, run.number))

    def _start(self, run: _Run) -> None:
        now = self._clock()
        if len(self._by_fd) >= self._files_max or len(self._unread) > UNREAD_MAX_BYTES:
            self._schedule(run, now + RETRY_NS)
            return
        run.take_turn()
        try:
            verdict = run.check.begin()
        except LocalTrouble as trouble:
            self._postpone(run, trouble)
            return
        run.trouble_since = 0
        run.began = now
        if verdict is not None:
            self._ended(run, verdict)
            return
        self._watch(run)
        run.running = True
        shares = run.shares_left = run.check.shares
        self._schedule(run, now + (run.timeout if shares == 1 else run.timeout // shares))

    def _postpone(self, run: _Run, trouble: LocalTrouble) -> None:
        """This machine cannot carry out the check at the moment. Raises `trouble` when that lasts."""
        run.check.close()
        run.running = False
        now = self._clock()
        run.trouble_since = 0 if isinstance(trouble, AllBusy) else run.trouble_since or now
        if run.trouble_since and now - run.trouble_since > TROUBLE_LIMIT_NS:
            raise trouble
        self._schedule(run, now + RETRY_NS)

    def _watch(self, run: _Run) -> None:
        assert run.check.sock is not None
        fd = run.check.sock.fileno()
        self._by_fd[fd] = run
        try:
            self._epoll.register(fd, _EDGES)
        except FileExistsError:  # a helper's socket is used for many checks
            self._epoll.modify(fd, _EDGES)

    def _ended(self, run: _Run, verdict: Verdict) -> None:
        sock = run.check.sock
        if sock is not None:
            self._by_fd.pop(sock.fileno(), None)
            run.check.close()  # which takes it out of epoll, too
        now = self._clock()
        run.running = False
        if run.fresh:
            run.fresh = False
            self._schedule(run, now + int(run.interval * self._next_phase()))
        else:
            self._schedule(run, now + run.interval)
        ok, detail = verdict
        run.took_turn(ok)
        run.duration_us = (now - run.began) // 1000
        self._results.append(CheckResult(check=run.index, ok=ok, detail=detail, duration_us=run.duration_us))
        if ok is not run.last_ok:
            run.last_ok = ok
            self._flush_at = now
        elif not self._flush_at:
            self._flush_at = now + BATCH_NS

    def _give_back(self, now: int, lost_ns: int) -> None:
        """The whole process stood still for so long: deadlines move, and what should have started meanwhile must not
        start all at once; but it is put off only once."""
        for run in self._runs.values():
            if run.running:
                run.began += lost_ns
                run.due += lost_ns
            elif run.due < now and not run.fresh:
                run.fresh = True
                run.due = now + int(min(run.interval, lost_ns) * self._next_phase())
        self._rebuild_times()

    # ---- the pool

    def _flush(self) -> None:
        self._flush_at = 0
        if self._results:
            self._send(Results(self._plan, tuple(self._results)))
            self._results = []

    def _send(self, message: FromWorker) -> None:
        waiting = bool(self._unread)
        self._unread += frame(message)
        if not waiting:
            self._write()
            if self._unread:
                self._epoll.modify(self._channel, select.EPOLLIN | select.EPOLLOUT)

    def _write(self) -> None:
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            del self._unread[: self._channel.send(self._unread)]

    def _use_channel(self, events: int) -> bool:
        """False: the pool is gone."""
        if events & select.EPOLLOUT:
            self._write()
            if not self._unread:
                self._epoll.modify(self._channel, select.EPOLLIN)
        if not events & ~select.EPOLLOUT:
            return True
        try:
            data = self._channel.recv(1024 * 1024)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        for plan in self._unframer.feed(data):
            self._set_plan(plan)
        return bool(data)

    def give_up(self, reason: str) -> None:
        """Say why, waiting at most a second for the pool to read it."""
        self._flush()
        self._send(GaveUp(reason))
        self._channel.settimeout(1.0)
        with contextlib.suppress(OSError):
            self._channel.sendall(self._unread)


def _raise_file_limit() -> int:
    """As many sockets as the administrator allows (systemd starts services with a soft limit of 1,024)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def main(parent: int, user: str) -> int:
    """`parent` is the process id of the pool, `user` runs external checks. Returns the exit code."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return 0
    # A stop of the whole service reaches the pool, which then closes the channel.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # The core's real-time priority is inherited; checks must never compete with its heartbeats.
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    channel = socket.socket(fileno=os.dup(0))
    channel.setblocking(False)
    worker = Worker(channel, user=user)
    try:
        worker.run()
    except LocalTrouble as trouble:
        worker.give_up(str(trouble))
        return os.EX_OSERR
    except Exception as error:
        worker.give_up(f"{type(error).__name__}: {error}")
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2]))
