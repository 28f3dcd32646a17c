"""The small parent: starts the core, notices at once when it crashes or hangs, releases what it held, tells the peer.

It forks before anything is opened, so a new core is running within milliseconds and shares its memory. It holds the
watchdog device and feeds it only on a sign of life of the core's loop.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

log = logging.getLogger("hafsm.supervisor")

EXIT_RESTART = 75
"""A core that ended itself on purpose and wants a new life (sysexits EX_TEMPFAIL)."""
EXIT_REFUSED = 78
"""A core that cannot do what its configuration asks (EX_CONFIG): starting it again would not help."""
ALIVE_EVERY_S = 0.1
HANG_LIMIT_S = 2.0
"""A loop that gives no sign for so long is killed, or for a third of deadtime if that is longer: above any honest pause
of the machine, and before the peer takes over."""
PAUSES_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Before the next life after 1, 2, … crashes in a row; the last one repeats."""
CALM_S = 60.0
"""A life that lasted this long ends a row of crashes."""
_PR_SET_PDEATHSIG = 1


class Supervisor:
    """Runs lives of the core until one ends in peace."""

    def __init__(
        self,
        live: Callable[[int], int],
        *,
        on_crash: Callable[[str], None],
        feed: Callable[[], None],
        hang_limit_s: float,
    ) -> None:
        """`live(alive_fd)` runs one life in the child and returns its exit code; it writes a byte to `alive_fd` every
        `ALIVE_EVERY_S`. `on_crash(why)` releases everything and tells the peer; `feed()` feeds the watchdog."""
        self._live = live
        self._on_crash = on_crash
        self._feed = feed
        self._hang_limit_s = hang_limit_s
        self._child = 0
        self._stopping = False

    def run(self) -> int:
        """Returns the exit code of the daemon."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._reload)
        crashes = 0
        while True:
            began = time.monotonic()
            code, why = self._one_life()
            if not why:
                if code != EXIT_RESTART:
                    return code
                log.warning("the core asked for a new life")
                continue
            self._release(why)
            if self._stopping:
                return 1
            crashes = 1 if time.monotonic() - began > CALM_S else crashes + 1
            self._rest(PAUSES_S[min(crashes, len(PAUSES_S)) - 1])
            if self._stopping:
                return 0

    def _stop(self, _number: int, _frame: object) -> None:
        self._stopping = True
        if self._child:
            os.kill(self._child, signal.SIGTERM)

    def _reload(self, _number: int, _frame: object) -> None:
        """A core that is not there, or not ready, reads the files when it starts."""
        if self._child:
            os.kill(self._child, signal.SIGHUP)

    def _one_life(self) -> tuple[int, str]:
        """(exit code, why it counts as a crash or empty)."""
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        parent = os.getpid()
        signals = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        # The core's collector would write into every object made so far, and so copy the pages both share.
        gc.collect()
        gc.freeze()
        child = os.fork()
        if child == 0:
            os.close(reading)
            self._be_child(parent, writing, signals)
        self._child = child
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        os.close(writing)
        if self._stopping:
            os.kill(child, signal.SIGTERM)
        try:
            return self._watch(child, reading)
        finally:
            self._child = 0
            os.close(reading)

    def _be_child(self, parent: int, writing: int, signals: set[signal.Signals]) -> NoReturn:
        code = 70
        try:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            for number in signals:
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the loop handles it
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
            if os.getppid() == parent:
                code = self._live(writing)
        except BaseException:
            log.exception("the core crashed")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _watch(self, child: int, reading: int) -> tuple[int, str]:
        pidfd = os.pidfd_open(child)
        killed = ""
        sources = [reading, pidfd]
        silent_polls = 0  # not a clock: a machine that stood still has not watched the core hang
        limit_s = 10 * self._hang_limit_s
        try:
            while True:
                ready, _, _ = select.select(sources, [], [], ALIVE_EVERY_S)
                if pidfd in ready:
                    break
                if reading not in ready:
                    silent_polls += 1
                elif os.read(reading, 4096):
                    silent_polls = 0
                    limit_s = self._hang_limit_s
                    self._feed()
                else:
                    sources = [pidfd]
                if not killed and silent_polls * ALIVE_EVERY_S > limit_s:
                    killed = f"the core's loop gave no sign of life for {limit_s:g} s"
                    os.kill(child, signal.SIGKILL)
        finally:
            os.close(pidfd)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if killed:
            return code, killed
        if code in (0, EXIT_RESTART, EXIT_REFUSED):
            return code, ""
        return code, f"the core ended with signal {-code}" if code < 0 else f"the core ended with exit code {code}"

    def _release(self, why: str) -> None:
        log.error("%s: releasing what it held", why)
        try:
            self._on_crash(why)
        except Exception:
            log.exception("releasing after a crash failed; the leases will end by themselves")

    def _rest(self, duration_s: float) -> None:
        end = time.monotonic() + duration_s
        while not self._stopping and time.monotonic() < end:
            time.sleep(0.05)
            self._feed()
