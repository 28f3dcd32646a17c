"""The helper process: runs what blocks. Programs (external checks), and libraries that know no epoll (SQL).

A worker starts one of these when it first needs it, and asks it for children over standard input. Each child does one
job after the other on a socket of its own: one `Job`, one answer. A job that hangs costs a child and nobody else
anything: a library's child is ended by the kernel's own alarm at the deadline, whatever it is stuck in, and a program
is killed with its whole process group as soon as the worker closes the socket, which it also does by dying.

Nothing here runs as root for longer than it takes to become `user`: a library reads what a stranger says.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pwd
import resource
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec

from hafsm.checks.connect import PASSED, Verdict
from hafsm.checks.jobs import JOB_MAX_BYTES, LIBRARY, PROGRAM, Job

DEFAULT_USER = "nobody"
MEMORY_MAX_BYTES = 1024 * 1024 * 1024
"""Address space of a library's child: a server that announces a gigantic answer gets a failed check."""
JOBS_PER_CHILD = 1000
"""A library that leaks gets a fresh process now and then."""
PROGRAM_FILES = 1024
"""Open files of a program, as it expects them (select knows no more)."""
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ")
_decoder = msgspec.msgpack.Decoder(Job)


class NoSuchUser(Exception):
    """The configured user does not exist, or this process may not become it."""


def identity(user: str) -> tuple[int, int] | None:
    """(uid, gid) to become; None: stay who we are. Empty: nobody for root, else ourselves. Raises NoSuchUser."""
    if not user:
        if os.geteuid() != 0:
            return None
        user = DEFAULT_USER
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise NoSuchUser(f"there is no user {user!r} to run checks as") from None
    if found.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise NoSuchUser(f"checks cannot run as {user!r}: the daemon does not run as root")
    return found.pw_uid, found.pw_gid


def become(user: str) -> None:
    """Give up root for good. Raises NoSuchUser."""
    ids = identity(user)
    if ids is not None:
        os.setgroups([])
        os.setgid(ids[1])
        os.setuid(ids[0])


def run_program(job: Job, channel: socket.socket, user: str) -> Verdict | None:
    """Exit status 0 is up. None: the worker hung up, and the program was killed."""
    try:
        ids = identity(user)
        process = subprocess.Popen(
            job.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            user=ids[0] if ids else None,
            group=ids[1] if ids else None,
            extra_groups=[] if ids else None,
            start_new_session=True,
            preexec_fn=_as_a_program_expects,
        )
    except NoSuchUser as error:
        return Verdict(False, str(error))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return Verdict(False, f"cannot be run: {(getattr(error, 'strerror', None) or str(error)).lower()}")
    pidfd = os.pidfd_open(process.pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(channel, select.POLLIN)
    ended = any(fd == pidfd for fd, _ in poll.poll())
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # also what it left behind; its own number is not free before the wait
    os.close(pidfd)
    code = process.wait()
    if not ended:
        return None
    if code < 0:
        return Verdict(False, f"killed by signal {-code}")
    return Verdict(False, f"exit status {code}") if code else PASSED


def _as_a_program_expects() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = PROGRAM_FILES if hard == resource.RLIM_INFINITY else min(PROGRAM_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))


def run_library(job: Job) -> Verdict:
    """Ends this process when the job's deadline passes."""
    from hafsm.checks import libraries

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, job.spec.timeout_ns / 1e9)
    verdict = libraries.run(job)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return verdict


def serve(channel: socket.socket, family: bytes, user: str) -> None:
    """One child: job after job until the worker hangs up."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    refused = ""
    if family == LIBRARY:
        try:
            become(user)
        except NoSuchUser as error:
            refused = str(error)
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX_BYTES, hard))
    for _ in range(JOBS_PER_CHILD):
        message = channel.recv(JOB_MAX_BYTES)
        if not message:
            return
        job = _decoder.decode(message)
        verdict: Verdict | None
        if refused:
            verdict = Verdict(False, refused)
        else:
            verdict = run_program(job, channel, user) if family == PROGRAM else run_library(job)
        if verdict is None:
            return
        channel.send(msgspec.msgpack.encode(verdict))


def _load(module: str) -> None:
    """Once, before the fork: the children share it, and need not be able to read files as whom they become."""
    with contextlib.suppress(ImportError):
        importlib.import_module(module)
    importlib.import_module("hafsm.checks.libraries")
    importlib.import_module("encodings.idna")


def main(user: str) -> int:
    """Fork a child for each socket that arrives; ends with the worker."""
    control = socket.socket(fileno=os.dup(0))
    # A stop of the whole service reaches the worker, which then closes the channel.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children need no burial
    while True:
        family, fds, _, _ = socket.recv_fds(control, 64, 1)
        if not family:
            return 0
        if not fds:
            continue
        if family.startswith(LIBRARY):
            _load(family.removeprefix(LIBRARY).decode())
            family = LIBRARY
        try:
            child = os.fork()
        except OSError:
            os.close(fds[0])
            continue
        if child:
            os.close(fds[0])
            continue
        status = 1
        try:
            control.close()
            os.close(0)
            os.open("/dev/null", os.O_RDONLY)
            with socket.socket(fileno=fds[0]) as channel:
                serve(channel, family, user)
            status = 0
        except (BrokenPipeError, ConnectionResetError):
            status = 0
        finally:
            os._exit(status)


def command(user: str) -> list[str]:
    """How a worker starts it."""
    return [sys.executable, "-P", "-m", "hafsm.checks.helper", user]


def environment() -> dict[str, str]:
    """The worker's own, which finds hafsm's modules where this process finds them."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
