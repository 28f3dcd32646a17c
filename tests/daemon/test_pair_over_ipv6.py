"""Two daemons on this machine's own kernel that have IPv6 only: heartbeats, pings, a VIP, and a client that follows it.

segment: a bridge, the client 2001:db8::50
director-a 2001:db8::1, fe80::1                  director-b 2001:db8::2, fe80::2          a network namespace each
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hafsm.cli.status import fetch
from journal.export import export
from journal.reader import Journal
from replay.engine import replay

ROOT = Path(__file__).parents[2]
VIP = "2001:db8::10"
LIMIT_S = 60
HA_CF = """keepalive 100ms
deadtime 2
warntime 1
initdead 3
udpport 6940
ucast6 eth0 fe80::1
ucast6 eth0 2001:db8::2
mcast6 eth0 ff12::1:2:3:4 6941 1 0
realtime off
auto_failback on
ping6 2001:db8::50
respawn hacluster /usr/lib/heartbeat/ipfail
node director-a director-b
"""


class Machine:
    """A network namespace that ends with this process, and the words that run something in it."""

    def __init__(self) -> None:
        self.holder = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", "unshare", "-n", "-m", "-p", "-f", "--kill-child", "--mount-proc"),
                *("sh", "-c", "echo ready; exec sleep infinity"),
            ],
            stdout=subprocess.PIPE,
        )
        assert self.holder.stdout is not None
        if self.holder.stdout.readline() != b"ready\n":
            raise OSError("no namespaces here")
        self.pid = Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children").read_text().split()[0]

    def enter(self, *namespaces: str) -> list[str]:
        return ["nsenter", "-t", self.pid, *namespaces]

    def run(self, *argv: str) -> str:
        done = subprocess.run([*self.enter("-n"), *argv], capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, f"{argv}: {done.stderr}"
        return done.stdout

    def close(self) -> None:
        self.holder.kill()
        self.holder.wait(30)
        if self.holder.stdout is not None:
            self.holder.stdout.close()


class Director(Machine):
    """A machine with hafsm on it."""

    def __init__(self, segment: Machine, name: str, number: int, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.daemon: subprocess.Popen[bytes] | None = None
        self.mac = f"02:00:00:00:00:0{number}"
        segment.run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", self.pid)
        segment.run("ip", "link", "set", name, "master", "lan", "up")
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "link", "set", "eth0", "addrgenmode", "none", "address", self.mac)
        for ip in (f"2001:db8::{number}/64", f"fe80::{number}/64"):
            self.run("ip", "addr", "add", ip, "dev", "eth0", "nodad")
        self.run("ip", "link", "set", "eth0", "up")
        (folder / "ha.d").mkdir(parents=True)
        for file, text in (
            ("ha.cf", HA_CF),
            ("haresources", "director-a IPv6addr::2001:db8:0:0:0:0:0:10\n"),
            ("authkeys", "auth 1\n1 sha1 a-key-for-tests\n"),
        ):
            (folder / "ha.d" / file).write_text(text)
        (folder / "ha.d/authkeys").chmod(0o600)
        (folder / "hafsm.toml").write_text(
            f'node_name = "{name}"\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n'
        )

    def start(self) -> None:
        settings = [f"--config-dir={self.folder / 'ha.d'}", f"--settings={self.folder / 'hafsm.toml'}"]
        with (self.folder / "log").open("ab") as log:
            # In the PID namespace too, so that it ends with the machine. nsenter forks, so that a signal goes to both.
            self.daemon = subprocess.Popen(
                [*self.enter("-n", "-m", "-p"), sys.executable, "-m", "hafsm.cli.main", "run", *settings],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def signal(self, which: signal.Signals) -> int:
        """To the daemon's whole process group for SIGKILL, else to its supervisor; waits for its end."""
        assert self.daemon is not None
        if which is signal.SIGKILL:
            os.killpg(self.daemon.pid, which)
        else:
            (supervisor,) = Path(f"/proc/{self.daemon.pid}/task/{self.daemon.pid}/children").read_text().split()
            os.kill(int(supervisor), which)
        return self.daemon.wait(30)

    def vip(self) -> dict[str, Any] | None:
        """The VIP as `ip` shows it."""
        for link in json.loads(self.run("ip", "-6", "-j", "addr", "show", "dev", "eth0")):
            for entry in link.get("addr_info", ()):
                if entry["local"] == VIP:
                    return dict(entry)
        return None

    def status(self) -> dict[str, Any] | None:
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            return asyncio.run(fetch(self.folder / "run/hafsm.sock"))
        return None

    def log(self) -> str:
        return (self.folder / "log").read_text() if (self.folder / "log").exists() else ""


@pytest.fixture
def segment() -> Iterator[Machine]:
    """The bridge with the client on it."""
    lacking = [program for program in ("ip", "unshare", "nsenter", "setpriv", "ping") if shutil.which(program) is None]
    if os.geteuid() != 0 or lacking:
        pytest.skip(f"a pair over IPv6 needs root and programs ({', '.join(lacking) or 'all there'})")
    machine = Machine()
    try:
        machine.run(
            "ip", "link", "add", "lan", "type", "bridge", "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0"
        )
        machine.run("ip", "addr", "add", "2001:db8::50/64", "dev", "lan", "nodad")
        machine.run("ip", "link", "set", "lan", "up")
        yield machine
    finally:
        machine.close()


@pytest.fixture
def pair(segment: Machine, tmp_path: Path) -> Iterator[tuple[Director, Director]]:
    directors: list[Director] = []
    try:
        for number, name in enumerate(("director-a", "director-b"), 1):
            directors.append(Director(segment, name, number, tmp_path / name))
        yield directors[0], directors[1]
    finally:
        for director in directors:
            director.close()
            print(director.log())


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.05)


def test_a_vip_moves_with_heartbeats_over_ipv6_alone(
    segment: Machine, pair: tuple[Director, Director], tmp_path: Path
) -> None:
    a, b = pair

    def believed() -> str | None:
        """The hardware address that the client has for the VIP, without asking anybody."""
        entries = json.loads(segment.run("ip", "-6", "-j", "neigh", "show", VIP, "dev", "lan") or "[]")
        return next((entry["lladdr"] for entry in entries if "lladdr" in entry), None)

    for director in pair:
        director.start()
    wait_for(a.vip, "director-a has the VIP")
    entry = a.vip()
    assert entry is not None and entry["prefixlen"] == 64 and not entry.keys() & {"tentative", "dadfailed"}, entry
    assert entry["valid_life_time"] <= 2 and b.vip() is None
    segment.run("ping", "-6", "-c", "1", "-W", "10", VIP)
    assert believed() == a.mac

    wait_for(lambda: (b.status() or {}).get("stable"), "director-b hears director-a")
    status = b.status()
    assert status is not None
    assert {(ping["name"], ping["alive"]) for ping in status["pings"]} == {("2001:db8::50", True)}, status["pings"]

    a.signal(signal.SIGKILL)
    wait_for(b.vip, "director-b takes over")
    wait_for(lambda: a.vip() is None, "the lease of a dead owner ends")
    wait_for(lambda: believed() == b.mac, "the client follows the announcement")
    segment.run("ping", "-6", "-c", "1", "-W", "10", VIP)

    assert b.signal(signal.SIGTERM) == 0
    assert b.vip() is None, "removed at a stop, not left to its lease"
    for director in pair:
        target = tmp_path / f"{director.mac[-1]}.db"
        export(director.folder / "state/journal", target)
        with Journal(target) as journal:
            assert journal.verify().events > 0
        result = replay(target)
        assert result.identical, result.difference
