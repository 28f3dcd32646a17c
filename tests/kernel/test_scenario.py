"""The scenario, steps 1 to 6, on real kernels with real IPVS; its four files unchanged, hafsm in heartbeat's place.

One story in order: each step begins where the last one ended. Both directors' journals are exported and replayed after
it, the one that went through a power cut included.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.lab import ROOT, VIP, Director, Lab
from tests.kernel.site import wait_for
from tests.kernel.uml import Process

BOTH = {"server31.example.com", "server41.example.com"}
SETTLE_S = 120
"""Generous: a command of hafsm's takes four seconds in there before it begins."""


class Story:
    """The cluster with hafsm on both directors."""

    def __init__(self, lab: Lab, out: Path) -> None:
        self.lab = lab
        self.out = out
        self.primary, self.backup = lab.server40, lab.server19
        self.daemons: dict[str, Process] = {}
        for director in lab.directors:
            director.install()
            director.share(out, "/mnt/out")

    def start(self, director: Director) -> None:
        self.daemons[director.name] = director.start_hafsm()

    def status(self, director: Director) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(director.hafsm("status", "--json").stdout)
        return status

    def has_vip(self, director: Director) -> bool:
        return f"inet {VIP}/24" in director.run(["ip", "-4", "addr", "show", "dev", "eth0"]).stdout

    def table(self, director: Director) -> list[str]:
        """`192.168.2.31:80 Route 1` for each destination, in any order."""
        lines = director.run(["ipvsadm", "-Ln"]).stdout.splitlines()
        return sorted(
            " ".join(line.split()[1:4]) for line in lines if line.lstrip().startswith("->") and "Route" in line
        )

    def httpd(self, director: Director) -> str:
        return director.run("/etc/ha.d/resource.d/httpd status", check=False).stdout.strip()

    def answers(self, count: int = 6) -> list[str]:
        return [self.lab.client.ask() for _ in range(count)]

    def log(self, director: Director) -> str:
        return self.daemons[director.name].output()

    def settles(self, holder: Director, other: Director | None) -> None:
        """The holder has VIP, httpd and table; the other one has nothing of it."""
        daemon = self.daemons[holder.name]
        wait_for(lambda: self.has_vip(holder) or daemon.poll() is not None, SETTLE_S, f"the VIP on {holder.name}")
        assert daemon.poll() is None, daemon.output()
        wait_for(lambda: self.httpd(holder) == "running", SETTLE_S, f"httpd on {holder.name}")
        wait_for(lambda: bool(self.table(holder)), SETTLE_S, f"a table on {holder.name}")
        if other is not None:
            wait_for(lambda: not self.has_vip(other), SETTLE_S, f"no VIP on {other.name}")
            wait_for(lambda: self.httpd(other) == "stopped", SETTLE_S, f"no httpd on {other.name}")
            wait_for(lambda: "->" not in self.only_entries(other), SETTLE_S, f"no table on {other.name}")

    def only_entries(self, director: Director) -> str:
        return "\n".join(director.run(["ipvsadm", "-Ln"]).stdout.splitlines()[3:])

    def balanced(self, director: Director) -> None:
        both = ["192.168.2.31:80 Route 1", "192.168.2.41:80 Route 1"]
        wait_for(lambda: self.table(director) == both, SETTLE_S, f"both real servers in the table of {director.name}")
        wait_for(lambda: set(self.answers()) == BOTH, SETTLE_S, "answers of both real servers")


@pytest.fixture(scope="module")
def story(lab_of_module: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    story = Story(lab_of_module, tmp_path_factory.mktemp("journals"))
    yield story
    for name, daemon in story.daemons.items():
        print(f"--- log of {name}\n{daemon.output() if daemon.node.is_on else 'is off'}")


def test_1_the_primary_takes_the_resources_in_the_order_written(story: Story) -> None:
    for director in story.lab.directors:
        story.start(director)
    story.settles(story.primary, story.backup)
    assert "label" not in story.log(story.primary)
    shown = story.primary.run(["ip", "-4", "addr", "show", "dev", "eth0"]).stdout
    line = next(line for line in shown.splitlines() if VIP in line)
    assert line.split()[-1] == "eth0:0", line
    status = story.status(story.primary)
    assert [vip["holder"] for vip in status["vips"]] == ["server40.example.com"]
    assert status["groups"][0]["resources"] == ["IPaddr::192.168.2.232/24/eth0:0", "httpd", "ldirectord"]


def test_2_the_real_servers_answer_in_turn(story: Story) -> None:
    story.balanced(story.primary)
    assert "TCP  192.168.2.232:80 rr" in story.primary.run(["ipvsadm", "-Ln"]).stdout
    answers = story.answers(8)
    assert all(one != following for one, following in pairwise(answers))
    assert story.lab.client.arp_entry() == story.primary.mac


def test_3_dead_real_servers_leave_and_the_fallback_answers(story: Story) -> None:
    lab = story.lab
    lab.server31.stop_httpd()
    wait_for(lambda: story.table(story.primary) == ["192.168.2.41:80 Route 1"], SETTLE_S, "only server41 in the table")
    assert set(story.answers()) == {"server41.example.com"}
    lab.server41.stop_httpd()
    wait_for(lambda: story.table(story.primary) == ["127.0.0.1:80 Route 1"], SETTLE_S, "the fallback in the table")
    assert set(story.answers()) == {"director server40.example.com"}
    for real in lab.reals:
        real.start_httpd()
    story.balanced(story.primary)


def test_4_a_graceful_stop_hands_over_at_once(story: Story) -> None:
    client = story.lab.client
    assert client.arp_entry() == story.primary.mac
    with client.watch(interval=0.02) as watch:
        wait_for(lambda: len(watch.asked()) > 10, 30, "questions")
        story.daemons[story.primary.name].signal(signal.SIGTERM)
        assert story.daemons[story.primary.name].wait(SETTLE_S) == 0
        story.settles(story.backup, story.primary)
        stopped = time.monotonic()
        wait_for(lambda: {a.answer for a in watch.since(stopped)} >= BOTH, SETTLE_S, "answers through the backup")
    assert client.arp_entry() == story.backup.mac
    assert watch.longest_outage() < 25, "the hand-over waited for deadtime"
    log = story.log(story.backup)
    assert "server40.example.com gives foreign resources to this node" in log, "handed over before the end"
    assert "server40.example.com said goodbye and has released everything" in log


def test_5_auto_failback_brings_everything_back(story: Story) -> None:
    story.start(story.primary)
    story.settles(story.primary, story.backup)
    story.balanced(story.primary)
    assert story.lab.client.arp_entry() == story.primary.mac


def test_6_after_a_power_cut_the_backup_takes_over(story: Story) -> None:
    with story.lab.client.watch() as watch:
        wait_for(lambda: len(watch.asked()) > 5, 30, "questions")
        story.primary.power_cut()
        cut = time.monotonic()
        story.settles(story.backup, None)
        wait_for(lambda: {a.answer for a in watch.since(cut + 20)} >= BOTH, SETTLE_S, "answers through the backup")
    assert story.lab.client.arp_entry() == story.backup.mac
    assert 20 < watch.longest_outage() < 60, "deadtime is 30 s"
    assert "server40.example.com is dead: nothing on eth0 for 30." in story.log(story.backup)


def test_7_the_cut_primary_returns_with_its_journal_and_gets_everything_back(story: Story) -> None:
    story.lab.boot()
    story.start(story.primary)
    story.settles(story.primary, story.backup)
    story.balanced(story.primary)


def test_8_a_killed_daemon_is_repaired_by_its_next_life(story: Story) -> None:
    """Supervisor and core killed at once: VIP and table stay until the lease ends or the next life comes."""
    story.daemons[story.primary.name].signal(signal.SIGKILL)
    story.daemons[story.primary.name].wait(SETTLE_S)
    assert story.has_vip(story.primary) and story.table(story.primary)
    story.start(story.primary)
    wait_for(lambda: "an earlier life left" in story.log(story.primary), SETTLE_S, "what the last life left is found")
    story.settles(story.primary, story.backup)
    story.balanced(story.primary)


def test_9_a_stop_leaves_the_kernel_clean(story: Story) -> None:
    for director in (story.backup, story.primary):
        story.daemons[director.name].signal(signal.SIGTERM)
        assert story.daemons[director.name].wait(SETTLE_S) == 0
    for director in story.lab.directors:
        assert not story.has_vip(director)
        assert story.only_entries(director) == ""
        assert story.httpd(director) == "stopped"


def test_both_journals_replay_identically_whatever_the_hash_seed(story: Story) -> None:
    for director in story.lab.directors:
        director.hafsm("export", f"/mnt/out/{director.name}.db")
        outputs = []
        for seed in ("1", "2"):
            done = subprocess.run(
                [sys.executable, "-m", "hafsm.cli.main", "replay", str(story.out / f"{director.name}.db")],
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
                capture_output=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            outputs.append(done.stdout)
        assert outputs[0] == outputs[1]
        assert outputs[0].startswith(b"identical: ")
