"""IPv6 VIPs in kernels of their own: each promise of the guest's cases, then a pair with all its heartbeats, pings and
the VIP over IPv6, through a power cut, a dead daemon and a stop. The pair is one story in order."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.ipv6_guest import SHARED_CASES, WITNESS_CASES
from tests.kernel.lab import Director, Lab
from tests.kernel.site import wait_for
from tests.kernel.uml import Process

ROOT = Path(__file__).parents[2]
GUEST_TIMEOUT_S = 300
SETTLE_S = 120
"""Generous: a command of hafsm's takes four seconds in there before it begins."""
VIP = "2001:db8::e8"
DEADTIME_S = 5
HA_CF = {
    "keepalive": "500ms",
    "deadtime": str(DEADTIME_S),
    "warntime": "2",
    "initdead": "30",
    "watchdog": None,
    "bcast": None,
    "ucast6": ["eth0 2001:db8::40", "eth0 2001:db8::19"],
    "ping": None,
    "ping6": "2001:db8::251",
}
HARESOURCES = "server40.example.com IPv6addr::2001:db8:0:0:0:0:0:e8/64/eth0\n"


@pytest.fixture(scope="module")
def verdicts(node) -> dict[str, str | None]:
    """Outcome of each case by its name."""
    program = shlex.join([sys.executable, "-B", "-W", "error", "-m", "tests.kernel.ipv6_guest"])
    done = node.run(f"cd {shlex.quote(str(ROOT))} && modprobe -a veth ipv6 && {program}", timeout=GUEST_TIMEOUT_S)
    assert done.stderr == ""
    return {verdict["name"]: verdict["error"] for verdict in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", [case.__name__ for case in (*SHARED_CASES, *WITNESS_CASES)])
def test_promise(name, verdicts):
    assert verdicts[name] is None, verdicts[name]


class Pair:
    """The laboratory with IPv6 addresses, and hafsm on both directors."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.primary, self.backup = lab.server40, lab.server19
        self.daemons: dict[str, Process] = {}
        for host, number in ((lab.client, 101), (lab.gateway, 251)):
            host.sh(f"ip addr add 2001:db8::{number}/64 dev eth0 nodad")
        for director in lab.directors:
            self.prepare(director)
            director.install(ha_cf=HA_CF, files={"haresources": HARESOURCES})

    def prepare(self, director: Director) -> None:
        number = director.ip.rsplit(".", 1)[1]
        director.run(f"modprobe ipv6; ip addr add 2001:db8::{number}/64 dev eth0 nodad")

    def start(self, director: Director) -> None:
        self.daemons[director.name] = director.start_hafsm()

    def vip(self, director: Director) -> dict[str, Any] | None:
        """The VIP as `ip` shows it."""
        links = json.loads(director.run(["ip", "-6", "-json", "addr", "show", "dev", "eth0"]).stdout)
        entries = (entry for link in links for entry in link.get("addr_info", ()))
        return next((entry for entry in entries if entry["local"] == VIP), None)

    def believed(self) -> str | None:
        """The hardware address that the client has for the VIP, without asking anybody."""
        entries = json.loads(self.lab.client.sh(f"ip -6 -json neigh show to {VIP} dev eth0") or "[]")
        return next((entry["lladdr"] for entry in entries if "lladdr" in entry), None)

    def answers(self) -> None:
        """The VIP answers the client's ping."""
        wait_for(
            lambda: self.lab.client.run(["ping", "-6", "-c", "1", "-W", "2", VIP], check=False).rc == 0,
            SETTLE_S,
            "the VIP answers",
        )


@pytest.fixture(scope="module")
def pair(lab_of_module: Lab) -> Iterator[Pair]:
    pair = Pair(lab_of_module)
    yield pair
    for name, daemon in pair.daemons.items():
        print(f"--- log of {name}\n{daemon.output() if daemon.node.is_on else 'is off'}")


def test_1_the_primary_holds_it_on_a_lease_and_it_is_usable_at_once(pair: Pair) -> None:
    for director in pair.lab.directors:
        pair.start(director)
    wait_for(lambda: pair.vip(pair.primary), SETTLE_S, "the VIP on the primary")
    entry = pair.vip(pair.primary)
    assert entry is not None and not entry.keys() & {"tentative", "dadfailed"}, entry
    assert entry["prefixlen"] == 64 and entry["valid_life_time"] <= DEADTIME_S, entry
    pair.answers()
    assert pair.believed() == pair.primary.mac
    assert pair.vip(pair.backup) is None


def test_2_after_a_power_cut_the_client_follows_the_announcement(pair: Pair) -> None:
    backup = pair.daemons[pair.backup.name]
    wait_for(lambda: "taking the local resources" in backup.output(), SETTLE_S, "the backup knows the primary")
    pair.primary.power_cut()
    wait_for(lambda: pair.vip(pair.backup), SETTLE_S, "the VIP on the backup")
    wait_for(lambda: pair.believed() == pair.backup.mac, SETTLE_S, "the client's entry is the backup's")
    pair.answers()


def test_3_a_dead_daemon_loses_it(pair: Pair) -> None:
    pair.daemons[pair.backup.name].signal(signal.SIGKILL)
    wait_for(lambda: pair.vip(pair.backup) is None, SETTLE_S, "the lease that nobody renews ends")


def test_4_a_stop_removes_it(pair: Pair) -> None:
    pair.start(pair.backup)
    wait_for(lambda: pair.vip(pair.backup), SETTLE_S, "the VIP on the backup")
    pair.daemons[pair.backup.name].signal(signal.SIGTERM)
    assert pair.daemons[pair.backup.name].wait(SETTLE_S) == 0
    assert pair.vip(pair.backup) is None, "not left to its lease"
