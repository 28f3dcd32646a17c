"""One machine with a kernel of its own: Debian's user-mode-linux as a process, driven over its serial line.

    node = boot("ipvs")                  # two to three seconds; `node.close()` when done
    node.run("ipvsadm -A -t 192.0.2.1:80 -s rr")

A node's root is the host's file system under an overlay on a disk of the node's own, so every program installed
here is there, /etc and /var are its own, and they survive `power_cut` and `reboot` exactly as far as they were
synced. Commands travel over ttyS0 and need no network in the node. Every wait has a limit; a node that misses
it is an error with the end of its console. System calls are slow in there and a fork costs some 25 ms: compare
durations only within one kernel.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.kernel.site import CommandFailed, LabError, Result, Site, children_of, descendant, wait_for

GUEST = Path(__file__).parent / "guest"
BOOT_TIMEOUT_S = 90
"""Two to three seconds when nothing else runs; four at once on two busy cores were seen to need ten times
that."""
POKE_S = 0.5
"""After that long without an answer an empty line is sent: the kernel's line driver can miss input that arrived
while it was throttled, and looks again when something new arrives."""
TRANSFER_FILE = "/run/transfer/file"
SO_SNDBUFFORCE = 32
"""Linux, asm-generic/socket.h; the socket module has no name for it."""
LINE_BUFFER_BYTES = 32 << 20
FIRST_PROCESS = '"$@"; exit $?'
"""Script of the first process: the kernel must not be it, for after a panic it ends itself with SIGABRT, which
the first process of a PID namespace does not get."""


class Node:
    """A laboratory kernel. Made by `boot`; all methods block and raise `LabError` (or `CommandFailed`) on
    failure."""

    def __init__(
        self,
        site: Site,
        name: str,
        *,
        hostname: str = "",
        memory_mib: int = 192,
        disk_mib: int = 512,
        tap: str = "",
        mac: str = "",
        address: str = "",
    ) -> None:
        self.site = site
        self.name = name
        self.hostname = hostname or name
        self.memory_mib = memory_mib
        self.tap, self.mac, self.address = tap, mac, address
        self.owns_site = False
        self.boot_id = ""
        """The kernel's boot_id; another one after every boot."""
        self._disk = site.folder / f"{name}.ext4"
        self._disk_mib = disk_mib
        self._work = site.folder / name
        self._transfer = site.inside / name / "transfer"
        self._process: subprocess.Popen[bytes] | None = None
        self._first = 0  # of the PID namespace: its end is the end of all helpers of the kernel
        self._pid = 0
        self._line: socket.socket | None = None
        self._buffer = b""
        self._request_id = 0
        self._lock = threading.RLock()
        self._shares: list[tuple[Path, str]] = []

    # Power

    @property
    def is_on(self) -> bool:
        """Whether the kernel's process exists (frozen counts as on)."""
        return self._process is not None and self._process.poll() is None

    def power_on(self) -> None:
        """Start the kernel and return at once; `wait_until_up` waits for it. The disk is made at the first
        start."""
        if self.is_on:
            raise LabError(f"{self.name} is on already")
        work = self._transfer.parent
        shutil.rmtree(work, ignore_errors=True)
        self._transfer.mkdir(parents=True)
        if not (self.site.inside / self._disk.name).exists():
            self.site.sh(
                f"truncate -s {self._disk_mib}M {self._disk}; mkfs.ext4 -q -F -E lazy_itable_init=1 {self._disk}"
            )
        ours, theirs = socket.socketpair()
        # The kernel's line driver never wakes up from a full socket: room for the largest answer.
        theirs.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, LINE_BUFFER_BYTES)
        words = [
            str(GUEST / "kernel.sh"),
            "rootfstype=hostfs",
            "rootflags=/",
            "ro",
            f"mem={self.memory_mib}M",
            f"init={GUEST / 'init.sh'}",
            "con=null",
            "con0=null,fd:1",
            "ssl=null",
            f"ssl0=fd:{theirs.fileno()},fd:{theirs.fileno()}",
            "quiet",
            f"uml_dir={self._work}/",
            f"ubda={self._disk}",
            f"lab_host={self.hostname}",
            f"lab_modules={self.site.folder}",
            f"lab_python={Path(sys.executable).resolve()}",
            f"lab_agent={GUEST / 'agent.py'}",
            f"lab_transfer={self._work / 'transfer'}",
            f"lab_addr={self.address}",
        ]
        if self.tap:
            words.append(f"vec0:transport=tap,ifname={self.tap},depth=64,gro=0,mac={self.mac}")
        with (work / "console").open("wb") as console:
            self._process = self.site.popen(
                ["unshare", "-m", "-p", "-f", "--kill-child", "--mount-proc", "sh", "-c", FIRST_PROCESS, "sh", *words],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                env={"PATH": os.environ["PATH"], "TMPDIR": str(self._work), "HOME": str(self._work)}
                | {"lab_line": str(theirs.fileno())},
            )
        theirs.close()
        self._line, self._buffer = ours, b""
        self._first = descendant(self._process, 2)
        self._pid = descendant(self._process, 3)

    def wait_until_up(self, timeout: float = BOOT_TIMEOUT_S) -> None:
        """Wait until the node obeys commands; afterwards the folders of `share` are in place again."""
        with self._lock:
            self._read_until(lambda answer: "hello" in answer, time.monotonic() + timeout, "boot")
        self._mount_shares()

    def power_cut(self) -> None:
        """Kill the kernel at once, as if its plug were pulled: no sync, no goodbye. Already off is fine."""
        if self._process is not None:
            if self.is_on:
                os.kill(self._first, signal.SIGKILL)
            self._process.wait(30)
        if self._line is not None:
            self._line.close()
            self._line = None

    def shut_down(self) -> None:
        """Sync, then cut the power: the disk keeps all, and no process is asked. Already off is fine."""
        if self.is_on:
            self._ask({"op": "sync"}, 30)
            self.power_cut()

    def reboot(self, timeout: float = BOOT_TIMEOUT_S) -> None:
        """Boot with the same disk, after `shut_down` if it is on."""
        self.shut_down()
        self.power_on()
        self.wait_until_up(timeout)

    def wait_until_reset(self, before: str, timeout: float = BOOT_TIMEOUT_S) -> None:
        """Wait until the kernel whose `boot_id` was `before` has restarted by itself, as a watchdog makes it."""
        if self.boot_id == before:
            self.wait_until_up(timeout)
        else:  # a command met the reset and failed; its greeting is read already
            self._mount_shares()

    def use_softdog(self, margin_s: int) -> None:
        """Make /dev/watchdog the kernel's software watchdog, until the next boot.

        It resets the kernel unless it is written to every `margin_s` seconds after it was opened, or closed by its
        magic letter (which Debian's kernel else ignores). The watchdog that a user-mode kernel has by itself is a
        helper outside, which not every machine has. Harmless a second time.
        """
        self.run(
            f"modprobe softdog soft_margin={margin_s} nowayout=0; "
            "[ ! -e /dev/watchdog1 ] || mv /dev/watchdog1 /dev/watchdog"
        )

    def freeze(self) -> None:
        """Stop the machine between two instructions (SIGSTOP), as a hypervisor pauses a virtual one."""
        os.kill(self._pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen machine go on; its clock jumps forward. Harmless on one that runs or is off."""
        if self.is_on:
            os.kill(self._pid, signal.SIGCONT)

    def pids(self) -> list[int]:
        """Every process of the node as this machine sees it: its wrappers, its kernel, the kernel's helpers."""
        found = [self._process.pid] if self._process is not None else []
        for pid in found:
            found += children_of(pid)
        return found

    def close(self) -> None:
        """End the node, and its site if `boot` made that for it alone."""
        self.power_cut()
        if self.owns_site:
            self.site.close()

    # Commands

    def run(self, command: str | Sequence[str], *, timeout: float = 30, check: bool = True) -> Result:
        """Run a command to its end; a string goes to `sh -c`. Raises `CommandFailed` unless status 0 or `check`
        is off.

        A command that runs longer than `timeout` seconds is killed with its process group: `LabError`.
        """
        argv = ["sh", "-c", command] if isinstance(command, str) else [str(word) for word in command]
        answer = self._ask({"op": "run", "argv": argv, "timeout": timeout}, timeout + 30)
        out, err = (base64.b64decode(answer[key]).decode(errors="replace") for key in ("stdout", "stderr"))
        if answer["rc"] is None:
            raise LabError(f"{self.name}: {shlex.join(argv)}: not done in {timeout} s; it said\n{out}\n{err}")
        result = Result(answer["rc"], out, err)
        if check and result.rc:
            raise CommandFailed(self.name, argv, result)
        return result

    def start(self, command: str | Sequence[str], *, log: str = "", env: dict[str, str] | None = None) -> Process:
        """Start a command in the background, in a process group of its own; output goes to `log` (a path in the
        node)."""
        argv = ["sh", "-c", command] if isinstance(command, str) else [str(word) for word in command]
        log = log or f"/run/background-{self._request_id}.log"
        pid = self._ask({"op": "start", "argv": argv, "log": log, "env": env or {}}, 30)["pid"]
        return Process(self, pid, log, shlex.join(argv))

    def stop_background(self) -> list[int]:
        """Kill the process groups that `start` made and that still have their leader; returns its pids.

        A daemon's children in sessions of their own live on: only a reboot ends all.
        """
        killed: list[int] = self._ask({"op": "stop"}, 30)["pids"]
        return killed

    # Files

    def read(self, path: str) -> bytes:
        """The content of a file in the node."""
        with self._lock:
            self._ask({"op": "copy", "source": path, "path": TRANSFER_FILE}, 60)
            return (self._transfer / "file").read_bytes()

    def write(self, path: str, data: bytes | str, mode: int = 0o644) -> None:
        """Make or replace a file in the node, with its folders; it is synced to the node's disk."""
        with self._lock:
            (self._transfer / "file").write_bytes(data.encode() if isinstance(data, str) else data)
            self._ask({"op": "copy", "source": TRANSFER_FILE, "path": path, "mode": mode}, 60)

    def share(self, host_folder: Path, guest_path: str) -> None:
        """Show a folder of this machine, writable, at `guest_path` in the node; again after each boot.

        For bringing large files out. Not for what a test of durability writes: this folder loses nothing in a
        power cut.
        """
        self._shares.append((host_folder.resolve(), guest_path))
        self._mount_shares()

    def _mount_shares(self) -> None:
        for host_folder, guest_path in self._shares:
            script = 'mountpoint -q "$1" || { mkdir -p "$1" && mount -t hostfs none "$1" -o "$0"; }'
            self.run(["sh", "-c", script, str(host_folder), guest_path])

    def console(self) -> str:
        """What the kernel and its init printed since the last power-on."""
        try:
            return (self.site.inside / self.name / "console").read_text(errors="replace")
        except OSError:
            return ""

    # The serial line

    def _ask(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Send one request and wait for its answer; answers to requests given up earlier are skipped."""
        with self._lock:
            if self._line is None:
                raise LabError(f"{self.name} is off")
            deadline = time.monotonic() + timeout
            self._request_id += 1
            number = self._request_id
            what = f"{request['op']} {request.get('argv') or request.get('path') or ''}"
            self._line.settimeout(POKE_S)
            try:
                self._line.sendall(json.dumps({"id": number, **request}).encode() + b"\n")
            except OSError as problem:
                raise self._failure(f"{what}: {problem}") from problem
            answer = self._read_until(lambda answer: answer.get("id") == number, deadline, what)
        if "error" in answer:
            raise LabError(f"{self.name}: {what}: {answer['error']}")
        return answer

    def _read_until(self, wanted: Any, deadline: float, what: str) -> dict[str, Any]:
        """Read objects until `wanted` accepts one. A greeting in between means that the kernel was reset."""
        assert self._line is not None
        while True:
            raw, newline, rest = self._buffer.partition(b"\n")
            if not newline:
                self._receive(deadline, what)
                continue
            self._buffer = rest
            try:
                answer: dict[str, Any] = json.loads(raw) if raw else {}
            except ValueError:
                continue  # the torn answer of a kernel that was reset while it spoke
            if "hello" in answer:
                self.boot_id = answer["hello"]
                if not wanted(answer):
                    raise self._failure(f"{what}: the kernel was reset meanwhile")
            if wanted(answer):
                return answer

    def _receive(self, deadline: float, what: str) -> None:
        assert self._line is not None
        self._line.settimeout(POKE_S)
        try:
            chunk = self._line.recv(1 << 16)
        except TimeoutError:
            if time.monotonic() > deadline:
                raise self._failure(f"{what}: no answer in time") from None
            with contextlib.suppress(OSError):
                self._line.sendall(b"\n")
            return
        except ConnectionError:
            chunk = b""
        if not chunk:
            raise self._failure(f"{what}: the kernel is gone")
        self._buffer += chunk

    def _failure(self, what: str) -> LabError:
        return LabError(f"{self.name}: {what}\n--- end of its console\n{self.console()[-3000:]}")


class Process:
    """A command that runs in the background of a node, leader of a process group of its own."""

    def __init__(self, node: Node, pid: int, log: str, command: str) -> None:
        self.node, self.pid, self.log, self.command = node, pid, log, command

    def poll(self) -> int | None:
        """Its exit status (negative: the signal that killed it), None while it runs."""
        status: int | None = self.node._ask({"op": "poll", "pid": self.pid}, 30)["rc"]
        return status

    def signal(self, number: int) -> None:
        """Send a signal to its process group; it being gone already is fine."""
        self.node._ask({"op": "signal", "pid": self.pid, "signal": number}, 30)

    def wait(self, timeout: float = 30) -> int:
        """Wait for its end and return the exit status; `LabError` with its output after `timeout` seconds."""
        try:
            wait_for(lambda: self.poll() is not None, timeout, f"end of {self.command} on {self.node.name}")
        except LabError as problem:
            raise LabError(f"{problem}\n--- its output\n{self.output()}") from None
        status = self.poll()
        assert status is not None
        return status

    def output(self) -> str:
        """What it printed so far, both streams."""
        return self.node.read(self.log).decode(errors="replace")


def boot(name: str, *, site: Site | None = None, **options: Any) -> Node:
    """Boot one kernel and wait until it obeys; `options` as for `Node`.

    Without `site` it gets one of its own, which its `close` ends. To boot several at once: `Node(...)` and
    `power_on` each, then `wait_until_up` each.
    """
    node = Node(site or Site(), name, **options)
    node.owns_site = site is None
    try:
        node.power_on()
        node.wait_until_up()
    except BaseException:
        node.close()
        raise
    return node
