"""Two directors on one cable: hafsm on one, Debian's heartbeat 3 on the other.

Each director has network, mount, host name and process namespaces of its own inside a `Site`, so its /etc/ha.d,
/var/lib/heartbeat, /run and /var/log are its own, nothing is made in the machine's network, and everything ends
with pytest, however it ends. Files stay over a power cut as far as a disk keeps them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp

from hafsm.cli.status import fetch
from tests.kernel.site import CommandFailed, LabError, Result, Site, children_of, descendant, wait_for

HEARTBEAT = Path("/usr/libexec/heartbeat/heartbeat")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
"""The hafsm of this checkout, whatever is installed."""
VIP = "192.0.2.100"
GATEWAY = "192.0.2.1"
RESOURCE = f"IPaddr2::{VIP}/24/eth0"

_START = """
hostname "$1"
mount -t tmpfs -o mode=755 tmpfs /run
for part in ccm crm dopd; do install -d -o hacluster -g haclient -m 750 "/run/heartbeat/$part"; done
mount --bind "$0/ha.d" /etc/ha.d
mount --bind "$0/lib" /var/lib/heartbeat
mount --bind "$0/log" /var/log
mount --bind "$0/boot_id" /proc/sys/kernel/random/boot_id
ip link set lo up
touch "$0/on"
sleep infinity &
wait
"""
"""First process of a director. It waits for all children: heartbeat takes one that nobody waited for as alive."""


def missing_prerequisite() -> str:
    """One plain phrase naming what this machine lacks for heartbeat as a peer; empty when it lacks nothing."""
    if os.geteuid() != 0:
        return "they need root (namespaces)"
    needed = {
        HEARTBEAT: "heartbeat",
        Path("/usr/lib/ocf/resource.d/heartbeat/IPaddr2"): "resource-agents",
        Path("/usr/bin/unshare"): "util-linux",
    }
    lacking = [package for program, package in needed.items() if not program.exists()]
    lacking += [package for program, package in (("ip", "iproute2"), ("nft", "nftables")) if not shutil.which(program)]
    if lacking:
        return f"they need Debian's {', '.join(lacking)}"
    tried = subprocess.run(
        ["unshare", "-n", "-m", "-p", "-u", "-f", "--mount-proc", "ip", "link", "add", "lab0", "type", "veth"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return f"no private namespace with a veth pair here: {tried.stderr.strip()}" if tried.returncode else ""


class Ground(Site):
    """A `Site` in which no kernel boots, so without a kernel's modules."""

    def _prepare_modules(self) -> None:
        pass


@dataclass(frozen=True)
class Change:
    """A moment at which the set of directors that have the VIP changed."""

    at: float
    """`time.time()`."""
    owners: frozenset[str]


class Ownership:
    """Who has the VIP, by the kernel's own notifications of all directors, in the kernel's own order."""

    def __init__(self, ground: Site, directors: Sequence[str]) -> None:
        self._names = {str(number): name for number, name in enumerate(directors)}
        for number, name in self._names.items():
            ground.run(["ip", "netns", "set", name, number])
        self.changes = [Change(time.time(), frozenset())]
        self._process = ground.popen(
            ["ip", "-ts", "-o", "monitor", "all-nsid", "address"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._take(line.decode())

    def _take(self, line: str) -> None:
        found = re.match(r"\[([^]]+)] *\[nsid (\w+)]\s*(Deleted )?.* inet ([0-9.]+)/", line)
        if found is None or found[4] != VIP or found[2] not in self._names:
            return
        name = {self._names[found[2]]}
        before = self.changes[-1].owners
        after = before - name if found[3] else before | name
        if after != before:
            self.changes.append(Change(datetime.fromisoformat(found[1]).timestamp(), after))

    def close(self) -> None:
        """After the ground was closed: the notifications have ended with it."""
        self._reader.join(10)

    @property
    def owners(self) -> frozenset[str]:
        return self.changes[-1].owners

    def since(self, start: float) -> list[Change]:
        """The state at `start` and all changes after it."""
        changes = list(self.changes)
        before = [change for change in changes if change.at <= start]
        return [Change(start, before[-1].owners), *(change for change in changes if change.at > start)]


class Director:
    """One side of the pair. `start` and `stop` are its cluster software's; `power_on` and `power_cut` the machine's."""

    more_ha_cf = ""

    def __init__(self, ground: Site, name: str, number: int) -> None:
        self.ground = ground
        self.name = name
        self.address = f"192.0.2.{10 + number}"
        self.folder = ground.inside / name
        self._cable = f"cable{number}"
        self._holder: subprocess.Popen[bytes] | None = None
        self._first = 0
        self.running = False
        """The cluster software was started and not stopped."""
        for part in ("ha.d", "lib", "log", "state"):
            (self.folder / part).mkdir(parents=True)
        ground.run(["ip", "netns", "add", name])

    def install(self, files: dict[str, str]) -> None:
        """Put files into /etc/ha.d beside those of Debian's package."""
        shutil.copytree("/etc/ha.d", self.folder / "ha.d", dirs_exist_ok=True)
        for name, text in files.items():
            (self.folder / "ha.d" / name).write_text(text)
        (self.folder / "ha.d/authkeys").chmod(0o600)

    def power_on(self) -> None:
        """Plug the cable in and boot; the cluster software is not started."""
        (self.folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
        (self.folder / "on").unlink(missing_ok=True)
        self.ground.sh(
            f"ip link add {self._cable} type veth peer name eth0 netns {self.name}\n"
            f"ip link set {self._cable} master switch up\n"
            f"ip -n {self.name} addr add {self.address}/24 brd + dev eth0\n"
            f"ip -n {self.name} link set eth0 up"
        )
        folder = str(self.ground.folder / self.name)
        self._holder = self.ground.popen(
            [
                *("unshare", "-u", "-m", "-p", "-f", "--kill-child", "--mount-proc"),
                *("sh", "-e", "-c", _START, folder, self.name),
            ],
            netns=self.name,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # at a power cut unshare cannot end as its child did, and says so
        )
        self._first = descendant(self._holder, 2)
        wait_for((self.folder / "on").exists, 20, f"{self.name} is on")

    def plug(self, *, cable: bool) -> None:
        """Pull the cable out, or plug it in again. The interface keeps its carrier and its addresses."""
        self.ground.run(["ip", "link", "set", self._cable, *(("master", "switch") if cable else ("nomaster",))])

    def sees_gateway(self, *, sees: bool) -> None:
        """Let this director lose the gateway's answers, and nothing else, or find it again."""
        if sees:
            self.ground.run(["nft", "delete table netdev lost"], netns=self.name)
        else:
            self._lose(f"ip saddr {GATEWAY} icmp type echo-reply drop")

    def lose_datagrams(self, one_in: int) -> None:
        """Drop heartbeats that arrive here at random."""
        self._lose(f"udp dport 694 numgen random mod {one_in} 0 drop")

    def _lose(self, rule: str) -> None:
        chain = f"chain arriving {{ type filter hook ingress device eth0 priority 0; {rule}; }}"
        self.ground.run(["nft", f"table netdev lost {{ {chain}; }}"], netns=self.name)

    def power_cut(self) -> None:
        """End every process and the link at once."""
        assert self._holder is not None
        os.kill(self._first, signal.SIGKILL)  # first, or heartbeat finds the time to complain of the lost interface
        self.ground.run(["ip", "link", "del", self._cable])
        self._holder.wait(30)
        self.running = False

    def start(self) -> None:
        """Start the cluster software, as after a boot."""
        raise NotImplementedError

    def stop(self) -> None:
        """End the cluster software gracefully; returns when it has ended."""
        raise NotImplementedError

    def enter(self) -> list[str]:
        return ["nsenter", "-t", str(self._first), "-n", "-m", "-p", "-u"]

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self.enter(), *argv], stdin=subprocess.DEVNULL, start_new_session=True, env=ENVIRONMENT, **options
        )

    def run(self, argv: Sequence[str], *, timeout: float = 30, check: bool = True) -> Result:
        done = subprocess.run(
            [*self.enter(), *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env=ENVIRONMENT,
        )
        result = Result(done.returncode, done.stdout, done.stderr)
        if check and result.rc:
            raise CommandFailed(self.name, argv, result)
        return result

    @property
    def log(self) -> str:
        file = self.folder / "log/ha-log"
        return file.read_text(errors="replace") if file.exists() else ""


class Heartbeat(Director):
    """Debian's heartbeat 3."""

    more_ha_cf = "realtime off\n"
    """Containers seldom may lock memory, and heartbeat calls that an ERROR."""

    def __init__(self, ground: Site, name: str, number: int) -> None:
        super().__init__(ground, name, number)
        shutil.copytree("/var/lib/heartbeat", self.folder / "lib", dirs_exist_ok=True, copy_function=shutil.copy2)
        ground.sh(f"chown -R hacluster:haclient '{ground.folder / name / 'lib'}'")

    def start(self) -> None:
        self.run([str(HEARTBEAT)])
        self.running = True

    def stop(self) -> None:
        self.run([str(HEARTBEAT), "-k"], timeout=60)
        self.running = False

    def holds(self) -> str:
        """`none`, `local`, `foreign`, `all` or `transition`; empty while it does not answer."""
        return self.run(["cl_status", "rscstatus"], check=False).stdout.strip()

    def standby(self, what: str = "all") -> None:
        self.run(["/usr/share/heartbeat/hb_standby", what])

    def takeover(self, what: str = "all") -> None:
        self.run(["/usr/share/heartbeat/hb_takeover", what])

    def complaints(self) -> list[str]:
        """Lines of its log that a healthy peer never causes."""
        return [line for line in self.log.splitlines() if _COMPLAINT.search(line)]


_COMPLAINT = re.compile(
    r"ERROR|CRIT|EMERG|lost a lot of packets|replay attack|authentication|authtoken|Irretrievably|corrupted|Ignored"
    r"|bad node|missing seqno|No one owns|Both machines own|cancelled|hist queue"
)


class Hafsm(Director):
    """The daemon of this checkout, started as an administrator would."""

    def __init__(self, ground: Site, name: str, number: int) -> None:
        super().__init__(ground, name, number)
        self.process: subprocess.Popen[bytes] | None = None
        state = ground.folder / name / "state"
        (self.folder / "hafsm.toml").write_text(f'state_dir = "{state}"\n')
        self._settings = f"--settings={ground.folder / name / 'hafsm.toml'}"

    def hafsm(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "hafsm.cli.main", *words]

    def start(self) -> None:
        with (self.folder / "log/hafsm.log").open("ab") as log:
            self.process = self.popen(self.hafsm("run", self._settings), stdout=log, stderr=log)
        self.running = True

    def stop(self) -> None:
        assert self.process is not None
        os.kill(descendant(self.process, 1), signal.SIGTERM)
        status = self.process.wait(60)
        self.running = False
        if status:
            raise LabError(f"hafsm ended with status {status}\n{self.log}")

    def power_cut(self) -> None:
        super().power_cut()
        if self.process is not None:
            self.process.wait(30)

    def crash(self) -> None:
        """Kill the daemon's core process; its supervisor lives."""
        assert self.process is not None
        supervisor = descendant(self.process, 1)
        os.kill(children_of(supervisor)[0], signal.SIGKILL)

    def kill(self) -> None:
        """Kill the daemon with its supervisor; the machine lives."""
        assert self.process is not None
        supervisor = descendant(self.process, 1)
        core = children_of(supervisor)
        for process in (supervisor, *core):
            os.kill(process, signal.SIGKILL)
        self.process.wait(30)
        self.running = False

    def standby(self, what: str = "all") -> Result:
        return self.run(self.hafsm("standby", self._settings, what))

    def takeover(self, what: str = "all") -> Result:
        return self.run(self.hafsm("takeover", self._settings, what))

    def close(self) -> None:
        """After the ground was closed: the daemon has ended with it."""
        if self.process is not None:
            self.process.wait(30)

    def status(self) -> dict[str, Any]:
        """What `hafsm status` knows; empty while it does not answer."""
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            return asyncio.run(fetch(Path(f"/proc/{self._first}/root/run/hafsm/hafsm.sock")))
        return {}

    def replay(self) -> Result:
        """Export the journal of all its lives and fold it again."""
        incident = str(self.ground.folder / self.name / "incident.db")
        self.run(self.hafsm("export", "--force", self._settings, incident), timeout=60)
        return self.run(self.hafsm("replay", incident), timeout=120, check=False)

    @property
    def log(self) -> str:
        file = self.folder / "log/hafsm.log"
        return file.read_text(errors="replace") if file.exists() else ""


class Pair:
    """hafsm and heartbeat 3 with one VIP, both switched on, neither started.

    `hafsm_primary` says whose the VIP is in haresources. `medium` and `more` are lines of ha.cf. A gateway
    answers pings.
    """

    def __init__(
        self,
        *,
        hafsm_primary: bool,
        method: str = "sha1",
        auto_failback: str = "on",
        medium: str = "bcast eth0",
        keepalive: str = "200ms",
        more: str = "",
    ) -> None:
        self.auto_failback = auto_failback
        self.ground = Ground()
        try:
            self.ground.sh(
                f"ip link add switch type bridge\nip addr add {GATEWAY}/24 dev switch\nip link set switch up"
            )
            names = ("director-a", "director-b")
            self.hafsm = Hafsm(self.ground, names[not hafsm_primary], 1)
            self.heartbeat = Heartbeat(self.ground, names[hafsm_primary], 2)
            self.directors = (self.hafsm, self.heartbeat)
            self.primary = self.hafsm if hafsm_primary else self.heartbeat
            self.ownership = Ownership(self.ground, [director.name for director in self.directors])
            ha_cf = (
                f"keepalive {keepalive}\ndeadtime 2\nwarntime 1\ninitdead 5\n{medium}\n"
                f"auto_failback {auto_failback}\nnode director-a\nnode director-b\n"
                f"logfile /var/log/ha-log\nuse_logd off\n{more}"
            )
            key = "" if method == "crc" else " one-key-for-both"
            for director in self.directors:
                director.install(
                    {
                        "ha.cf": ha_cf + director.more_ha_cf,
                        "haresources": f"{self.primary.name} {RESOURCE}\n",
                        "authkeys": f"auth 1\n1 {method}{key}\n",
                    }
                )
                director.power_on()
        except BaseException:
            self.ground.close()
            raise

    def other(self, director: Director) -> Director:
        return self.heartbeat if director is self.hafsm else self.hafsm

    @contextlib.contextmanager
    def watch(self) -> Iterator[Watch]:
        watch = Watch(self.ownership, time.time())
        yield watch
        watch.end = time.time()

    def close(self) -> None:
        self.ground.close()
        self.ownership.close()
        self.hafsm.close()


class Watch:
    """What happened to the VIP between `start` and `end`."""

    def __init__(self, ownership: Ownership, start: float) -> None:
        self._ownership = ownership
        self.start = start
        self.end = 0.0

    @property
    def changes(self) -> list[Change]:
        """The state at the start, and each change until the end."""
        return [change for change in self._ownership.since(self.start) if not self.end or change.at <= self.end]

    @property
    def by_both(self) -> bool:
        """Both had it, if only for an instant: the order of the kernel's notifications decides, not their times."""
        return any(len(change.owners) > 1 for change in self.changes)

    def _seconds_with(self, owners: int) -> float:
        changes = self.changes
        ends = [*(change.at for change in changes[1:]), self.end or time.time()]
        return sum(end - change.at for change, end in zip(changes, ends, strict=True) if len(change.owners) == owners)

    @property
    def by_nobody_s(self) -> float:
        """How long nobody had it, all together."""
        return self._seconds_with(0)

    @property
    def by_both_s(self) -> float:
        """How long both had it, all together."""
        return self._seconds_with(2)

    @property
    def story(self) -> str:
        """For the message of a failed assertion."""
        return "; ".join(
            f"{change.at - self.start:+.3f} s {' and '.join(sorted(change.owners)) or 'nobody'}"
            for change in self.changes
        )
