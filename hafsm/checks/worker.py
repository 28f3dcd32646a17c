"""The checker process: runs its share of the plan and reports. Started and watched by `hafsm.checks.pool`.

One thread, one epoll, one heap of times; written by hand because a check costs its CPU thousands of times a second.
The rules: a check that ended starts again `interval_ns` later (ldirectord's checkinterval), so one target never has two
checks at once; the first round starts at once; a check has failed when its deadline passes, whatever has arrived. A
hung target costs nobody else anything.

Standard input is the socket to the pool. When it closes, or the parent dies, this process ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from heapq import heapify, heappop, heappush

import msgspec

from hafsm.checks.connect import MOVED, ConnectCheck, LocalTrouble, TcpCheck, UnusableCheck, Verdict
from hafsm.checks.http import HttpCheck
from hafsm.checks.messages import Alive, FromWorker, GaveUp, Plan, Results, Unframer, frame
from hafsm.core.events import CheckResult
from hafsm.core.settings import MILLISECOND, SECOND, CheckKind, CheckSpec

BATCH_NS = 50 * MILLISECOND
"""How long an unremarkable result may wait for others (design section 6)."""
ALIVE_NS = SECOND
STARTS_AT_ONCE = 64
"""New checks between two looks at running ones, so that the first round of a large plan does not age its answers."""
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
_KINDS: dict[CheckKind, Callable[[CheckSpec], TcpCheck]] = {
    CheckKind.HTTP: HttpCheck,
    CheckKind.CONNECT: ConnectCheck,
}


class _Run:
    """One check of the plan and where it stands."""

    __slots__ = (
        "began",
        "check",
        "due",
        "index",
        "interval",
        "last_ok",
        "place",
        "running",
        "timeout",
        "trouble_since",
    )

    def __init__(self, place: int, index: int, check: TcpCheck, now: int) -> None:
        self.place = place
        self.index = index
        self.check = check
        self.interval = check.spec.interval_ns
        self.timeout = check.spec.timeout_ns
        self.running = False
        self.began = 0
        self.due = now
        """The start of the next check, or the deadline of the running one; other times in the heap are stale."""
        self.last_ok: bool | None = None
        self.trouble_since = 0


class Worker:
    """See the module."""

    def __init__(self, channel: socket.socket, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """`channel` is connected to the pool and non-blocking."""
        self._channel = channel
        self._clock = clock
        self._unframer = Unframer(msgspec.msgpack.Decoder(Plan))
        self._unread = bytearray()
        self._epoll = select.epoll()
        self._epoll.register(channel, select.EPOLLIN)
        self._plan = 0
        self._runs: list[_Run] = []
        self._by_fd: dict[int, _Run] = {}
        self._times: list[tuple[int, int]] = []
        """Heap of (due, place in `_runs`)."""
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
                    verdict = run.check.ready(events)
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
                self._give_back(now - looked - max(wait_ns, 0))
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
        for run in self._by_fd.values():
            run.check.close()
        self._by_fd.clear()
        now = self._clock()
        self._plan = plan.plan
        self._runs = [_Run(place, index, _make(spec), now) for place, (index, spec) in enumerate(plan.checks)]
        self._times = [(now, run.place) for run in self._runs]

    def _pass_times(self, now: int) -> None:
        """Expire and start what is due."""
        times = self._times
        starts = 0
        while times and times[0][0] <= now and starts < STARTS_AT_ONCE:
            due, place = heappop(times)
            run = self._runs[place]
            if due != run.due:
                continue
            if run.running:
                self._ended(run, run.check.timed_out())
            else:
                starts += 1
                self._start(run)
        if len(times) > 4 * len(self._runs) + 256:
            self._times = [(run.due, run.place) for run in self._runs]
            heapify(self._times)

    def _schedule(self, run: _Run, due: int) -> None:
        run.due = due
        heappush(self._times, (due, run.place))

    def _start(self, run: _Run) -> None:
        now = self._clock()
        if len(self._by_fd) >= self._files_max or len(self._unread) > UNREAD_MAX_BYTES:
            self._schedule(run, now + RETRY_NS)
            return
        try:
            verdict = run.check.begin()
        except LocalTrouble:
            run.trouble_since = run.trouble_since or now
            if now - run.trouble_since > TROUBLE_LIMIT_NS:
                raise
            self._schedule(run, now + RETRY_NS)
            return
        run.trouble_since = 0
        run.began = now
        if verdict is not None:
            self._ended(run, verdict)
            return
        self._watch(run)
        run.running = True
        self._schedule(run, now + run.timeout)

    def _watch(self, run: _Run) -> None:
        assert run.check.sock is not None
        fd = run.check.sock.fileno()
        self._by_fd[fd] = run
        self._epoll.register(fd, _EDGES)

    def _ended(self, run: _Run, verdict: Verdict) -> None:
        sock = run.check.sock
        if sock is not None:
            self._by_fd.pop(sock.fileno(), None)
            run.check.close()  # which takes it out of epoll, too
        now = self._clock()
        run.running = False
        self._schedule(run, now + run.interval)
        ok, detail = verdict
        self._results.append(CheckResult(check=run.index, ok=ok, detail=detail, duration_us=(now - run.began) // 1000))
        if ok is not run.last_ok:
            run.last_ok = ok
            self._flush_at = now
        elif not self._flush_at:
            self._flush_at = now + BATCH_NS

    def _give_back(self, lost_ns: int) -> None:
        for run in self._by_fd.values():
            self._schedule(run, run.due + lost_ns)

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


def _make(spec: CheckSpec) -> TcpCheck:
    try:
        return _KINDS[spec.kind](spec)
    except ValueError as error:
        return UnusableCheck(spec, str(error))


def _raise_file_limit() -> int:
    """As many sockets as the administrator allows (systemd starts services with a soft limit of 1,024)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def main(parent: int) -> int:
    """`parent` is the process id of the pool. Returns the exit code."""
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
    worker = Worker(channel)
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
    sys.exit(main(int(sys.argv[1])))
