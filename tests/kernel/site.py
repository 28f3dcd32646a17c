"""The ground on which laboratory machines stand: one set of private namespaces that takes everything with it.

A `Site` is a mount, network and PID namespace whose first process dies when pytest does, however pytest dies;
with it go all kernels, programs, taps, bridges and the tmpfs that holds the disks. Nothing is ever created in
the host's own network.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

MODULES = Path("/usr/lib/uml/modules")
"""Where Debian's user-mode-linux package keeps its kernel modules."""

T = TypeVar("T")


class LabError(Exception):
    """The laboratory did not do what a test relies on; the message says what was asked and what came
    instead."""


class CommandFailed(LabError):
    """A command ended with a status that its caller did not expect."""

    def __init__(self, where: str, argv: Sequence[str], result: Result) -> None:
        super().__init__(f"{where}: {' '.join(argv)}: {result.describe()}")
        self.result = result


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    rc: int
    """Exit status; negative: killed by that signal."""
    stdout: str
    stderr: str

    def describe(self) -> str:
        """Status and both outputs, for an error message."""
        return f"status {self.rc}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


def missing_prerequisite() -> str:
    """One plain phrase naming what this machine lacks for real kernels; empty when it lacks nothing."""
    if os.geteuid() != 0:
        return "they need root (network namespaces and tap devices)"
    if not Path("/dev/net/tun").exists():
        return "they need /dev/net/tun"
    packages = {
        "linux.uml": "user-mode-linux",
        "depmod": "kmod",
        "ipvsadm": "ipvsadm",
        "ip": "iproute2",
        "arping": "arping",
        "ping": "iputils-ping",
        "sysctl": "procps",
        "mkfs.ext4": "e2fsprogs",
        "unshare": "util-linux",
    }
    lacking = [package for program, package in packages.items() if shutil.which(program) is None]
    if lacking:
        return f"they need Debian's {', '.join(lacking)}"
    tried = subprocess.run(
        ["unshare", "-n", "-m", "-p", "-f", "--mount-proc", "ip", "tuntap", "add", "lab0", "mode", "tap"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return f"no private namespace with a tap device here: {tried.stderr.strip()}" if tried.returncode else ""


def wait_for(condition: Callable[[], T], timeout: float, what: str, interval: float = 0.05) -> T:
    """Ask `condition` until its answer is true, and return that answer.

    Raises `LabError` naming `what` and the last answer after `timeout` seconds. Limits should be generous: a
    waiting test ends as soon as it may, and two slow kernels share the machine with everything else.
    """
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise LabError(f"not within {timeout} s: {what}; last answer: {answer!r}")
        time.sleep(interval)


def children_of(pid: int) -> list[int]:
    """The processes that `pid` started and that still exist."""
    try:
        return [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []


def descendant(process: subprocess.Popen[bytes], generations: int) -> int:
    """The pid of the program that `process`, a chain of `generations` wrappers, ends in."""
    pid = process.pid
    deadline = time.monotonic() + 20
    for _ in range(generations):
        while not (children := children_of(pid)):
            if process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"{process.args!r} did not start its program; status {process.returncode}")
            time.sleep(0.002)
        pid = children[0]
    return pid


class Site:
    """Private namespaces with a tmpfs at `folder`; `inside` shows that tmpfs to this process."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[bytes]] = []
        self.folder = Path(tempfile.mkdtemp(prefix="hafsm-lab-"))
        # /proc/sys is read-only in some containers; the one mounted here is ours to write.
        prepare = (
            'mount -t tmpfs -o mode=755 tmpfs "$0" && mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns'
            ' && touch "$0/ready" && exec sleep infinity'
        )
        self._holder = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL"),
                *("unshare", "-n", "-m", "-p", "-f", "--kill-child", "--mount-proc"),
                *("sh", "-c", prepare, str(self.folder)),
            ],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
        )
        self._first = descendant(self._holder, 1)
        self._first_fd = os.pidfd_open(self._first)
        self.inside = Path(f"/proc/{self._first}/root{self.folder}")
        wait_for((self.inside / "ready").exists, 20, "the laboratory's namespaces")
        self._prepare_modules()
        self.sh("ip link set lo up")

    def _prepare_modules(self) -> None:
        """A modules folder with an index of our own: the package's has none until somebody runs depmod in
        it."""
        for version in MODULES.iterdir():
            tree = self.inside / "lib/modules" / version.name
            tree.mkdir(parents=True)
            (tree / "kernel").symlink_to(version / "kernel")
            for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
                shutil.copy(version / name, tree / name)
            self.run(["depmod", "-b", str(self.folder), version.name])

    def enter(self, *, netns: str = "") -> list[str]:
        """The words that run a command in this site: in its own network, or in the named one."""
        words = ["nsenter", "-t", str(self._first), "-n", "-m", "-p"]
        return [*words, "ip", "netns", "exec", netns] if netns else words

    def popen(self, argv: Sequence[str], *, netns: str = "", **options: Any) -> subprocess.Popen[bytes]:
        """Start a command in the site; it dies with the site."""
        process: subprocess.Popen[bytes] = subprocess.Popen(
            [*self.enter(netns=netns), *argv], start_new_session=True, **options
        )
        self._started.append(process)
        return process

    def run(self, argv: Sequence[str], *, netns: str = "", timeout: float = 30, check: bool = True) -> Result:
        """Run a command in the site to its end; raises `CommandFailed` unless it succeeds or `check` is off."""
        done = subprocess.run(
            [*self.enter(netns=netns), *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        result = Result(done.returncode, done.stdout, done.stderr)
        if check and result.rc:
            raise CommandFailed(netns or "site", argv, result)
        return result

    def sh(self, script: str, *, netns: str = "") -> str:
        """Run shell lines, stop at the first that fails, return what they printed."""
        return self.run(["sh", "-e", "-c", script], netns=netns).stdout

    def close(self) -> None:
        """End everything in the site. May be called twice."""
        if self._holder.poll() is not None:
            return
        self._holder.kill()  # which kills the PID namespace's first process, whose end is reported after all others'
        self._holder.wait(30)
        ended, _, _ = select.select([self._first_fd], [], [], 30)
        if not ended:
            raise LabError(f"the processes in the namespace of {self._first} did not end in 30 s")
        os.close(self._first_fd)
        for process in self._started:
            process.send_signal(signal.SIGCONT)  # one whose child was stopped is stopped itself
            process.wait(30)
        self.folder.rmdir()
