"""A real daemon as a process on loopback: embedded kernel, real UDP, real journal, no root."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp

from hafsm.cli.status import fetch
from hafsm.wire.auth import Key, KeyRing
from hafsm.wire.message import build, encode

KEY = "a-key-for-tests"
PEER = "director-b"
PEER_ADDRESS = "127.0.1.12"
ADDRESS = "127.0.1.11"


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((ADDRESS, 0))
        return int(sock.getsockname()[1])


class Daemon:
    """director-a; director-b is whoever holds the key, such as `Impostor`."""

    def __init__(self, folder: Path, *, ha_cf: str = "", ldirectord_cf: str | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        files = {
            "ha.cf": f"keepalive 100ms\ndeadtime 1\nwarntime 500ms\ninitdead 1\nudpport {self.port}\n"
            f"ucast lo {PEER_ADDRESS}\nauto_failback on\nnode director-a\nnode {PEER}\n{ha_cf}",
            "haresources": "director-a IPaddr::127.0.1.100/8/lo ldirectord\n",
            "authkeys": f"auth 1\n1 sha1 {KEY}\n",
            "ldirectord.cf": ldirectord_cf
            or "checkinterval=1\nchecktimeout=1\nautoreload=yes\n"
            "virtual=127.0.1.100:18080\n\treal=127.0.1.21:18080 masq\n"
            '\tservice=http\n\tscheduler=rr\n\trequest="index.html"\n',
        }
        (folder / "ha.d").mkdir(parents=True)
        for name, text in files.items():
            (folder / "ha.d" / name).write_text(text)
        (folder / "ha.d/authkeys").chmod(0o600)
        (folder / "hafsm.toml").write_text(
            f'node_name = "director-a"\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n'
            f'[heartbeat]\nlisten = "{ADDRESS}"\n[kernel]\nimplementation = "memory"\n'
        )

    @property
    def journal(self) -> Path:
        return self.folder / "state/journal"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def command(self) -> list[str]:
        settings = [f"--config-dir={self.folder / 'ha.d'}", f"--settings={self.folder / 'hafsm.toml'}"]
        return [sys.executable, "-m", "hafsm.cli.main", "run", *settings]

    def start(self) -> Daemon:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def core_pid(self) -> int:
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    def power_cut(self) -> None:
        """Every process of it at once."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(20)

    def status(self) -> dict[str, Any]:
        return asyncio.run(fetch(self.folder / "run/hafsm.sock"))

    def try_status(self) -> dict[str, Any] | None:
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            return self.status()
        return None

    def waits_until(self, condition: Callable[[dict[str, Any]], object], limit_s: float = 20) -> dict[str, Any]:
        end = time.monotonic() + limit_s
        while True:
            status = self.try_status()
            if status is not None and condition(status):
                return status
            assert self.process is not None and self.process.poll() is None, self.log
            assert time.monotonic() < end, f"{status}\n{self.log}"
            time.sleep(0.05)

    def reasons(self) -> list[str]:
        return [entry["reason"] for entry in self.status()["reasons"]]


class Impostor:
    """Speaks for director-b, with or without the right key."""

    def __init__(self, daemon: Daemon, key: str = KEY) -> None:
        self.target = (ADDRESS, daemon.port)
        self.ring = KeyRing([Key(1, "sha1", key.encode())], 1)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((PEER_ADDRESS, daemon.port))
        self.sock.settimeout(5)
        self.sequence = 0
        self.generation = 1000

    def message(self, kind: str, *fields: tuple[str, str]) -> bytes:
        sequence = 0
        if not kind.startswith("NS_"):
            self.sequence += 1
            sequence = self.sequence
        message = build(
            kind,
            node=PEER,
            uuid=b"P" * 16,
            generation=self.generation,
            sequence=sequence,
            wall_s=int(time.time()),
            load="0.00 0.00 0.00 1/1 1",
            ttl=3,
            fields=fields,
        )
        return encode(message, self.ring)

    def status(self) -> bytes:
        return self.message("status", ("st", "active"), ("dt", "2710"), ("protocol", "1"))

    def send(self, datagram: bytes) -> None:
        self.sock.sendto(datagram, self.target)

    def close(self) -> None:
        self.sock.close()
