"""`respawn` programs of ha.cf: started when this node is active, started again when they end, stopped with the daemon.

Rules of heartbeat 3: exit code 100 means "not again", and so does an eleventh quick death in a row (within 30 s of its
start); stopped in reverse order. Here each also gets SIGTERM when the core dies: the next life starts the only one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence

from hafsm.config.model import Respawn

log = logging.getLogger("hafsm.respawn")

EXIT_ENOUGH = 100
QUICK_S = 30.0
QUICK_DEATHS = 10
STOP_LIMIT_S = 5.0
"""Between SIGTERM and SIGKILL."""
READ_BYTES = 4096
READ_PAUSE_S = 0.1
"""After each read: a program that prints more than 40 kB/s waits, and the loop does not."""
DRAIN_LIMIT_S = 1.0
"""For the last words of a program that has ended; one that it left behind may hold the pipe for ever."""
_DAEMON_ONLY = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS")
_TERM_WITH_PARENT = ("setpriv", "--pdeathsig", "TERM", "--")
"""A program of util-linux; Python could do it only with code between fork and exec."""


def missing(entry: Respawn) -> str:
    """What this host lacks to run it, one sentence; empty if nothing."""
    try:
        pwd.getpwnam(entry.user)
    except KeyError:
        return f"respawn {entry.command}: there is no user {entry.user} on this host"
    program = entry.command.split()[0]
    if shutil.which(program) is None:
        return f"respawn {entry.command}: {program} is no executable file on this host"
    return ""


class Programs:
    """All of them. The methods belong to one event loop."""

    def __init__(self, entries: Sequence[Respawn], env: Mapping[str, str]) -> None:
        """`env` without the prefix `HA_`. Nothing is started yet."""
        environment = {name: value for name, value in os.environ.items() if name not in _DAEMON_ONLY}
        environment |= {f"HA_{name}": value for name, value in env.items()}
        self._programs = [_Program(entry, environment) for entry in entries]
        self._started = False

    def start(self) -> None:
        """Start them in the order of the file; called again it does nothing."""
        if not self._started:
            self._started = True
            for program in self._programs:
                program.start()

    async def close(self) -> None:
        """Stop them one after the other, the last one first. Takes `STOP_LIMIT_S` for each that does not listen."""
        for program in reversed(self._programs):
            await program.stop()


class _Program:
    def __init__(self, entry: Respawn, environment: Mapping[str, str]) -> None:
        self._entry = entry
        self._environment = environment
        self._name = entry.command.split()[0].rsplit("/", 1)[-1]
        self._running: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    def start(self) -> None:
        self._running = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        self._stopping = True
        if self._running is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            self._signal(number)
            done, _ = await asyncio.wait([self._running], timeout=STOP_LIMIT_S)
            if done:
                return
            log.warning("%s did not end within %g s of %s", self._name, STOP_LIMIT_S, signal.Signals(number).name)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        quick_deaths = 0
        while not self._stopping:
            began = loop.time()
            how, again = await self._one_life()
            if self._stopping:
                return
            quick_deaths = quick_deaths + 1 if loop.time() - began < QUICK_S else 0
            if not again:
                log.info("%s ended with exit code %d: not started again", self._name, EXIT_ENOUGH)
                return
            if quick_deaths > QUICK_DEATHS:
                log.error("%s %s; %d quick deaths in a row: not started again", self._name, how, quick_deaths)
                return
            log.warning("%s %s: starting it again", self._name, how)

    async def _one_life(self) -> tuple[str, bool]:
        """How it ended, in words, and whether it wants to be started again."""
        try:
            user = pwd.getpwnam(self._entry.user)
            # Only root may set groups, and only root needs to: nobody else can become another user.
            groups = os.getgrouplist(user.pw_name, user.pw_gid) if os.geteuid() == 0 else None
            self._process = process = await asyncio.create_subprocess_exec(
                *_TERM_WITH_PARENT,
                *self._entry.command.split(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=self._environment,
                user=user.pw_uid,
                group=user.pw_gid,
                extra_groups=groups,
            )
        except (OSError, KeyError) as error:
            return f"cannot be started ({error})", True
        log.info("%s started as %s, pid %d", self._name, self._entry.user, process.pid)
        if self._stopping:
            self._signal(signal.SIGTERM)
        assert process.stdout is not None
        reading = asyncio.get_running_loop().create_task(self._log_output(process.stdout))
        code = await process.wait()
        await asyncio.wait([reading], timeout=DRAIN_LIMIT_S)
        reading.cancel()
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}", code != EXIT_ENOUGH

    async def _log_output(self, output: asyncio.StreamReader) -> None:
        rest = b""
        while data := await output.read(READ_BYTES):
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > READ_BYTES:
                lines, rest = [*lines, rest], b""
            for line in lines:
                log.info("%s: %s", self._name, line.decode(errors="backslashreplace"))
            await asyncio.sleep(READ_PAUSE_S)
        if rest:
            log.info("%s: %s", self._name, rest.decode(errors="backslashreplace"))
