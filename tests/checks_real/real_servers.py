"""Debian's servers on loopback, each with a configuration of its own in a temporary folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

PATIENCE_S = 60.0
V4, V6 = "127.0.0.1", "::1"
NAME = "www.example.com"
USER, PASSWORD = "monitor", 'se cret"\\1'


PLACES = os.pathsep.join(
    (*map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"))), "/usr/sbin", "/usr/bin", "/sbin", "/bin")
)
"""Where Debian's packages put their programs."""


class Missing(Exception):
    """A program that no package has brought."""


def program(*candidates: str) -> str:
    """The path of the first that is installed. Raises Missing."""
    for candidate in candidates:
        found = shutil.which(candidate, path=PLACES)
        if found:
            return found
    raise Missing(candidates[0])


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port that is free on both loopback addresses, for TCP and UDP alike."""
    for _ in range(100):
        with socket.socket(socket.AF_INET6, kind) as first:
            first.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            first.bind(("::", 0))
            port: int = first.getsockname()[1]
            other = socket.SOCK_DGRAM if kind is socket.SOCK_STREAM else socket.SOCK_STREAM
            with socket.socket(socket.AF_INET6, other) as second, contextlib.suppress(OSError):
                second.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                second.bind(("::", port))
                return port
    raise RuntimeError("no free port")


def accepts(port: int, address: str = V4) -> Callable[[], bool]:
    """Somebody accepts connections there."""

    def look() -> bool:
        with contextlib.suppress(OSError), socket.create_connection((address, port), 1):
            return True
        return False

    return look


def holds_udp(port: int) -> Callable[[], bool]:
    """Somebody has the UDP port."""

    def look() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            try:
                sock.bind((V4, port))
            except OSError:
                return True
        return False

    return look


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process with all of its session."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
    process.wait()


@contextlib.contextmanager
def running(folder: Path, command: Sequence[str], *ready: Callable[[], bool], **options: object) -> Iterator[Path]:
    """The command in a session of its own until the block ends; yields its log."""
    log = folder / "output.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
            **options,
        )
    try:
        until = time.monotonic() + PATIENCE_S
        while not all(look() for look in ready):
            if process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"{command[0]} does not run: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)
        yield log
    finally:
        end(process)


def run(command: Sequence[str], **options: object) -> None:
    """Run to its end; what it says is only seen when it fails."""
    done = subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE_S, **options)
    assert done.returncode == 0, f"{command}: {done.stdout.decode()[-1500:]} {done.stderr.decode()[-1500:]}"


class Certificates:
    """An authority, and certificates for `NAME`: one good, one expired, one for another name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._openssl = program("openssl")
        self.authority = folder / "authority.pem"
        run(
            [
                self._openssl,
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-keyout",
                str(folder / "authority.key"),
                "-out",
                str(self.authority),
                "-days",
                "2",
                "-subj",
                "/CN=test authority",
                "-addext",
                "keyUsage=critical,keyCertSign,cRLSign",
            ]
        )
        self.key, self.good = self._certificate("good", NAME, V4)
        _, self.elsewhere = self._certificate("elsewhere", "other.example.com", "192.0.2.1")

    def _certificate(self, file: str, name: str, address: str) -> tuple[Path, Path]:
        key, request, made = self._folder / "server.key", self._folder / f"{file}.csr", self._folder / f"{file}.pem"
        if not key.exists():
            run([self._openssl, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(key)])
        run([self._openssl, "req", "-new", "-key", str(key), "-out", str(request), "-subj", f"/CN={name}"])
        extensions = self._folder / f"{file}.ext"
        extensions.write_text(f"subjectAltName=DNS:{name},IP:{address}\n")
        run(
            [
                self._openssl,
                "x509",
                "-req",
                "-in",
                str(request),
                "-CA",
                str(self.authority),
                "-days",
                "1",
                "-CAkey",
                str(self._folder / "authority.key"),
                "-CAcreateserial",
                "-out",
                str(made),
                "-extfile",
                str(extensions),
            ]
        )
        return key, made
