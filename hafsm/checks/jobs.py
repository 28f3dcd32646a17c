"""Checks that are done by a helper process: what a worker asks it, and the worker's side of it."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import subprocess
from typing import NoReturn

import msgspec

from hafsm.checks.connect import AllBusy, Check, LocalTrouble, UnusableCheck, Verdict, target
from hafsm.core.settings import CheckKind, CheckSpec, host_port

JOB_MAX_BYTES = 64 * 1024
PROGRAM, LIBRARY = b"program", b"library:"
"""What a child is for; a library's first module stands behind the colon."""
MODULES = {
    CheckKind.MYSQL: "pymysql",
    CheckKind.PGSQL: "pg8000.dbapi",
    CheckKind.ORACLE: "oracledb",
}
"""Of the packages that `hafsm[checks]` installs."""
CHILDREN_MAX = 512
"""Of one worker, busy and idle; a check beyond them waits for the next one that ends."""
IDLE_MAX = 16


class Job(msgspec.Struct, frozen=True):
    """One check for a child. Its text never shows the password."""

    spec: CheckSpec
    command: tuple[str, ...] = ()
    """Program and arguments of an external check."""
    password: bytes = b""

    def __repr__(self) -> str:
        return f"Job({self.spec})"


class Helpers:
    """The helper process of one worker and its children. Nothing is started before it is needed."""

    def __init__(self, user: str) -> None:
        """`user` runs programs and libraries; empty: nobody for root, else whoever we are."""
        self._user = user
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._idle: dict[bytes, list[socket.socket]] = {}
        self._children = 0

    def ask(self, family: bytes, job: bytes) -> socket.socket:
        """Give a child the job; its answer will arrive on the socket. Raises LocalTrouble."""
        idle = self._idle.setdefault(family, [])
        while idle:
            channel = idle.pop()
            try:
                channel.send(job)
            except OSError:  # it has ended
                self.lose(channel)
                continue
            return channel
        if self._children >= CHILDREN_MAX:
            raise AllBusy(f"{CHILDREN_MAX} checks in helper processes run already")
        try:
            channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            raise LocalTrouble(f"no socket for a helper: {error.strerror}") from None
        channel.setblocking(False)
        with theirs:
            try:
                channel.send(job)  # which waits there for the child
                socket.send_fds(self._started(), [family], [theirs.fileno()])
            except OSError as error:
                channel.close()
                self._restart(error)
        self._children += 1
        return channel

    def give_back(self, family: bytes, channel: socket.socket) -> None:
        """The child has answered and waits for the next job."""
        idle = self._idle.setdefault(family, [])
        if len(idle) < IDLE_MAX:
            idle.append(channel)
        else:
            self.lose(channel)

    def lose(self, channel: socket.socket) -> None:
        """Hang up: the child kills what it runs and ends, at its deadline at the latest."""
        self._children -= 1
        channel.close()

    def close(self) -> None:
        """End all of it."""
        for idle in self._idle.values():
            for channel in idle:
                self.lose(channel)
        self._idle.clear()
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _started(self) -> socket.socket:
        """The socket to the helper. Raises OSError."""
        from hafsm.checks import helper

        if self._control is None:
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._control.setblocking(False)
            with theirs:
                self._process = subprocess.Popen(
                    helper.command(self._user),
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    env=helper.environment(),
                    start_new_session=True,
                )
        return self._control

    def _restart(self, error: OSError) -> NoReturn:
        """Forget a helper that does not take jobs; the next check starts another. Raises LocalTrouble."""
        if not isinstance(error, BlockingIOError):  # else it only has much to do
            control, self._control = self._control, None
            process, self._process = self._process, None
            if control is not None:
                control.close()
            if process is not None:
                process.kill()
                process.wait()
        raise LocalTrouble(f"the helper process takes no jobs: {error.strerror}") from None


class HelpedCheck(Check):
    """A check that a child does; the worker waits for its answer as for a server's."""

    __slots__ = ("_answered", "_family", "_helpers", "_job", "sock")
    sock: socket.socket | None

    def __init__(self, spec: CheckSpec, helpers: Helpers, family: bytes, job: Job) -> None:
        """Raises ValueError when the job is too large."""
        super().__init__(spec)
        self._helpers = helpers
        self._family = family
        self._job = msgspec.msgpack.encode(job)
        self._answered = False
        if len(self._job) > JOB_MAX_BYTES:
            raise ValueError("the check's arguments are too long")

    def begin(self) -> Verdict | None:
        self._answered = False
        self.sock = self._helpers.ask(self._family, self._job)
        return None

    def ready(self, events: int) -> Verdict | None:
        assert self.sock is not None
        try:
            answer = self.sock.recv(JOB_MAX_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            answer = b""
        if not answer:
            return Verdict(False, "the process of this check ended without an answer")
        self._answered = True
        return msgspec.msgpack.decode(answer, type=Verdict)

    def close(self) -> None:
        channel, self.sock = self.sock, None
        if channel is None:
            return
        if self._answered:
            self._helpers.give_back(self._family, channel)
        else:
            self._helpers.lose(channel)


def external(spec: CheckSpec, helpers: Helpers) -> Check:
    """ldirectord's external check: `COMMAND… VIP PORT REAL PORT`, never through a shell. For external-perl the command
    is a file for perl, run as a program. Raises ValueError."""
    program: tuple[str, ...] = spec.command
    if not program or not program[0].startswith("/"):
        raise ValueError(f"checkcommand {' '.join(program)!r} is not an absolute path")
    if spec.kind is CheckKind.EXTERNAL_PERL:
        perl = shutil.which("perl")
        if perl is None:
            return UnusableCheck(spec, "external-perl needs the program perl, which is not installed")
        program = (perl, *program)
    real = host_port(spec.address, spec.port).rpartition(":")
    arguments = (*program, *spec.virtual, real[0], real[2])
    if any("\0" in word for word in arguments):
        raise ValueError("a NUL byte in checkcommand")
    return HelpedCheck(spec, helpers, PROGRAM, Job(spec, command=arguments))


def by_library(spec: CheckSpec, helpers: Helpers, password: bytes) -> Check:
    """A check that a Python library does. Raises ValueError."""
    target(spec.address, spec.port)
    module = MODULES[spec.kind]
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        return UnusableCheck(
            spec,
            f"{spec.kind.value} checks need the Python package {module}: install hafsm with its extra, hafsm[checks]",
        )
    missing = [name for name, value in (("login", spec.login), ("request", spec.request.strip("/"))) if not value]
    if missing:
        raise ValueError(f"{spec.kind.value} checks need {' and '.join(missing)}")
    return HelpedCheck(spec, helpers, LIBRARY + module.encode(), Job(spec, password=password))
