"""The scenario, steps 7 to 9, and a director that stands still and wakes, on real kernels with real IPVS.

The scenario's files with shorter timers. One story in order, as in `test_scenario`: each test begins where the last one
ended, with the primary holding everything.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.kernel.lab import GATEWAY, ROOT, Director, Lab, NativeHost
from tests.kernel.owners import Owners
from tests.kernel.site import wait_for
from tests.kernel.test_scenario import SETTLE_S, Story

TIMERS = {"keepalive": "500ms", "deadtime": "5", "warntime": "2", "initdead": "30"}
FREEZE_S = 10
WATCHDOG_S = 6
"""deadtime + 10 ms in whole seconds."""
SECOND_ADDRESS = "192.168.2.252"
"""The other member of the ping group; the gateway has it too."""
LISTEN = """
import socket
heard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
heard.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
heard.bind(("", 694))
heard.settimeout(20)
while True:
    datagram, (address, _) = heard.recvfrom(65536)
    if address == "ADDRESS":
        print(datagram.decode(errors="replace"))
        break
"""


class Faults(Story):
    """The story with what these steps do to it."""

    def __init__(self, lab: Lab, out: Path) -> None:
        super().__init__(lab, out)
        self.owners = Owners(NativeHost(lab.site, "witness", ["192.168.2.120"]))

    def begin(
        self,
        *,
        ha_cf: Mapping[str, str | Sequence[str] | None] | None = None,
        files: Mapping[str, str] | None = None,
    ) -> None:
        """Start both directors with these changes to the scenario's files."""
        for director in self.lab.directors:
            director.install(ha_cf={**TIMERS, **(ha_cf or {})}, files=files)
            self.start(director)
        self.settles(self.primary, self.backup)
        self.balanced(self.primary)

    def end(self, *directors: Director) -> None:
        for director in directors:
            self.daemons[director.name].signal(signal.SIGTERM)
        for director in directors:
            assert self.daemons[director.name].wait(SETTLE_S) == 0

    def block_pings(self, address: str) -> None:
        """The primary gets no answer from `address` any more; everybody else does, and heartbeats pass."""
        self.lab.gateway.sh(f"ip rule add from {address} to {self.primary.ip} blackhole")

    def let_pings(self, address: str) -> None:
        self.lab.gateway.sh(f"ip rule del from {address} to {self.primary.ip} blackhole")

    def says(self, director: Director, sentence: str, after: int = 0) -> None:
        """Waits until the director's log has `sentence` behind its first `after` characters."""
        wait_for(
            lambda: sentence in self.log(director)[after:], SETTLE_S, f"{sentence!r} in the log of {director.name}"
        )

    def trailer(self, director: Director) -> str:
        """Key index and digest behind the next heartbeat of the director, as anybody on the network reads it."""
        program = [sys.executable, "-I", "-S", "-c", LISTEN.replace("ADDRESS", director.ip)]
        return self.lab.gateway.run(program, timeout=30).stdout.rsplit("%%%\n", 1)[1].strip()

    def uptime(self, director: Director) -> float:
        return float(director.read("/proc/uptime").split()[0])

    def core(self, director: Director) -> int:
        """pid of the core: the supervisor's first child."""
        supervisor = self.daemons[director.name].pid
        return int(director.run(f"cat /proc/{supervisor}/task/*/children").stdout.split()[0])

    def survives_the_watchdog(self, director: Director, booted: str) -> None:
        """Waits until an unfed watchdog would have reset the director twice over, and sees that none did."""
        began = self.uptime(director)
        wait_for(lambda: self.uptime(director) > began + 2 * WATCHDOG_S, SETTLE_S, "the watchdog had its time")
        assert director.boot_id == booted


@pytest.fixture(scope="module")
def story(lab_of_module: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    lab_of_module.gateway.sh(f"ip addr add {SECOND_ADDRESS}/24 dev eth0")
    story = Faults(lab_of_module, tmp_path_factory.mktemp("journals"))
    yield story
    story.owners.stop()
    for name, daemon in story.daemons.items():
        print(f"--- log of {name}\n{daemon.output() if daemon.node.is_on else 'is off'}")


def test_9_authkeys_that_others_may_read_are_refused(story: Faults) -> None:
    director = story.primary
    director.install()
    director.run("chmod 644 /etc/ha.d/authkeys")
    refused = director.start_hafsm()
    assert refused.wait(SETTLE_S) == 6
    said = refused.output()
    assert "readable by group or others (mode 0644)" in said
    assert "chmod 600 /etc/ha.d/authkeys" in said
    assert "hafsm was not started" in said
    assert not story.has_vip(director)


def test_9_a_pair_with_sha1(story: Faults) -> None:
    """Without the watchdog: it would reset a machine that the next steps stop for longer than its time-out."""
    story.begin(ha_cf={"watchdog": None}, files={"authkeys": "auth 2\n1 crc\n2 sha1 HI!\n3 md5 Hello!\n"})
    assert re.fullmatch(r"\d+:2 [0-9a-f]{40},", story.trailer(story.primary))


def test_7_ipfail_moves_the_resources_to_the_director_that_sees_the_gateway(story: Faults) -> None:
    primary, backup = story.primary, story.backup
    began = len(story.log(primary)), len(story.log(backup))
    story.block_pings(GATEWAY)
    story.settles(backup, primary)
    story.balanced(backup)
    assert story.lab.client.arp_entry() == backup.mac
    log = story.log(primary)[began[0] :]
    assert "ping node 192.168.2.251 is dead: no answer for 5." in log
    assert "giving local resources away in two keepalives" in log
    assert "ipfail, 0 ping nodes answer here: offering local resources to server19.example.com" in log
    assert "is dead" not in story.log(backup)[began[1] :], "heartbeats pass all the time"
    story.let_pings(GATEWAY)
    story.settles(primary, backup)
    story.balanced(primary)


def test_a_director_that_stood_still_lets_go_at_once_when_it_wakes(story: Faults) -> None:
    """The active one stands still for longer than deadtime: the backup takes over; both own the VIP only as long as
    waking takes, and from then on somebody always does."""
    primary, backup, owners = story.primary, story.backup, story.owners
    began = len(story.log(primary))
    primary.freeze()
    frozen = time.monotonic()
    wait_for(lambda: owners.now() == {backup.mac}, SETTLE_S, "the backup owns the VIP")
    wait_for(lambda: bool(owners.moments(since=frozen + FREEZE_S)), SETTLE_S, "the freeze has lasted")
    thawed = time.monotonic()
    primary.thaw()
    story.says(primary, "releasing local resources and starting anew", began)
    story.settles(primary, backup)
    story.balanced(primary)
    wait_for(lambda: owners.now() == {primary.mac}, SETTLE_S, "only the primary owns the VIP")
    settled = time.monotonic()
    both, nobody = owners.both(thawed, settled), owners.nobody(thawed, settled)
    print(f"after waking: both for {both * 1000:.0f} ms, nobody for {nobody * 1000:.0f} ms")
    assert both < 1, "it kept the VIP after waking"
    assert nobody < 2, "the failback left the VIP alone"
    assert owners.nobody(frozen, thawed) < 10, "deadtime is 5 s"


def test_8_the_watchdog_spares_a_director_whose_core_crashes(story: Faults) -> None:
    """The supervisor feeds on, starts the core anew, and gets everything back."""
    primary = story.primary
    story.end(primary, story.backup)
    booted = primary.boot_id
    story.begin()
    assert "busy" in primary.run("exec 3>/dev/watchdog", check=False).stderr, "the supervisor has it open"
    began = len(story.log(primary))
    primary.run(["kill", "-KILL", str(story.core(primary))])
    story.says(primary, "the core ended with signal 9: releasing what it held", began)
    story.settles(primary, story.backup)
    story.survives_the_watchdog(primary, booted)
    assert story.has_vip(primary)


def test_8_a_clean_stop_quiets_the_watchdog(story: Faults) -> None:
    primary = story.primary
    booted = primary.boot_id
    story.end(primary)
    assert "did not stop" not in primary.run("dmesg").stdout, "closed by the magic letter"
    story.settles(story.backup, primary)
    story.survives_the_watchdog(primary, booted)
    story.start(primary)
    story.settles(primary, story.backup)


def test_8_a_director_whose_daemon_hangs_is_reset_by_the_kernel(story: Faults) -> None:
    """Core and supervisor stand still: nobody feeds, the kernel restarts the machine; the backup has taken over."""
    primary, backup = story.primary, story.backup
    booted = primary.boot_id
    began = len(primary.console())
    story.daemons[primary.name].signal(signal.SIGSTOP)
    wait_for(
        lambda: "softdog: Initiating system reboot" in primary.console()[began:], SETTLE_S, "the watchdog resets it"
    )
    primary.power_cut()  # a user-mode kernel does not always survive its own reset out of a timer
    story.lab.boot()
    assert primary.boot_id != booted
    assert not story.has_vip(primary)
    story.settles(backup, primary)
    story.balanced(backup)
    story.start(primary)
    story.settles(primary, backup)
    story.balanced(primary)


def test_9_and_7_a_pair_with_md5_and_a_ping_group(story: Faults) -> None:
    """One address of a ping group that answers is enough; without any the resources move."""
    primary, backup = story.primary, story.backup
    story.end(primary, backup)
    group = {"ping": None, "ping_group": f"group1 {GATEWAY} {SECOND_ADDRESS}"}
    story.begin(ha_cf=group, files={"authkeys": "auth 3\n3 md5 Hello!\n"})
    assert re.fullmatch(r"\d+:3 [0-9a-f]{32},", story.trailer(primary))
    began = len(story.log(primary))
    story.block_pings(GATEWAY)
    blocked = story.uptime(primary)
    deadping = float(TIMERS["deadtime"])
    wait_for(lambda: story.uptime(primary) > blocked + 2 * deadping, SETTLE_S, "deadping has passed twice")
    assert "ping nodes" not in story.log(primary)[began:]
    assert story.has_vip(primary)
    story.block_pings(SECOND_ADDRESS)
    story.settles(backup, primary)
    story.balanced(backup)
    assert (
        "ipfail, 0 ping nodes answer here: offering local resources to server19.example.com"
        in story.log(primary)[began:]
    )
    story.let_pings(GATEWAY)
    story.settles(primary, backup)
    story.let_pings(SECOND_ADDRESS)
    story.balanced(primary)


def test_both_journals_replay_identically(story: Faults) -> None:
    """Freeze, crash, reset and all."""
    story.end(story.backup, story.primary)
    for director in story.lab.directors:
        director.hafsm("export", f"/mnt/out/{director.name}.db")
        done = subprocess.run(
            [sys.executable, "-m", "hafsm.cli.main", "replay", str(story.out / f"{director.name}.db")],
            cwd=ROOT,
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.startswith(b"identical: ")
