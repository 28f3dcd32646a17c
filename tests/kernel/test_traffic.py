"""Traffic through every forwarding method on a real kernel; the scenario's step 10 with hafsm doing the work.

One kernel is the whole site (see `traffic_guest`). The tests are one story, in order.
"""

from __future__ import annotations

import json
import shlex
import signal
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.kernel import traffic_guest
from tests.kernel.lab import SCENARIO, Director
from tests.kernel.site import Site, wait_for
from tests.kernel.uml import GUEST, Node, Process

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120
BOTH = {"server31.example.com", "server41.example.com"}
STRANGER, STRANGERS_SERVER = "-A -t 192.0.2.99:80 -s wlc", "-a -t 192.0.2.99:80 -r 10.9.9.9:80 -m -w 0"
"""Somebody else's service, as `ipvsadm -Sn` shows it."""
HARESOURCES = "server40.example.com IPaddr::192.168.2.232/24/eth0:0 IPaddr::192.168.2.254/24/eth0:1 httpd ldirectord\n"
"""The scenario's, and the address that NAT real servers have as their gateway."""


class Ground(Director):
    """A director whose switch, real servers and client are namespaces of its own kernel."""

    def __init__(self) -> None:
        Node.__init__(self, Site(), "server40", hostname="server40.example.com", memory_mib=256)
        self.owns_site = True
        self._httpds: dict[str, Process] = {}

    def serve(self, name: str) -> None:
        """A real server's web page."""
        words = [sys.executable, "-I", "-S", str(GUEST / "httpd.py"), "80", f"{name}.example.com"]
        self._httpds[name] = self.start(["ip", "netns", "exec", name, *words])

    def stop_serving(self, name: str) -> None:
        self._httpds[name].signal(signal.SIGKILL)

    def answers(self, count: int = 4) -> list[str]:
        """What the client gets, one question after the other; a failure is its error."""
        asker = shlex.join([sys.executable, "-I", "-S", str(GUEST / "asker.py"), traffic_guest.VIP, "80", "5", "0"])
        sources = " ".join(f"192.168.2.{101 + number % 4}" for number in range(count))
        said = self.run(f"for source in {sources}; do ip netns exec client {asker} $source; done", timeout=TIMEOUT_S)
        return [answer or error for _, _, answer, error in map(json.loads, said.stdout.splitlines())]

    def table(self) -> set[str]:
        """`192.168.2.31:80 Tunnel 1` for each destination, the stranger's excepted."""
        lines = self.run(["ipvsadm", "-Ln"]).stdout.splitlines()[3:]
        return {" ".join(line.split()[1:4]) for line in lines if line.split()[0] == "->" and "10.9.9.9" not in line}

    def forwards(self, method: str) -> None:
        """Both real servers are in the table by `method`, and answer in turn."""
        both = {f"192.168.2.{n}:80 {method} 1" for n in (31, 41)}
        wait_for(lambda: self.table() == both, TIMEOUT_S, f"both real servers by {method}")
        answers = self.answers()
        assert set(answers) == BOTH and all(one != other for one, other in pairwise(answers)), answers


def ldirectord_cf(word: str) -> str:
    """The scenario's file with another forwarding word for both real servers."""
    text = (SCENARIO / "ldirectord.cf").read_text()
    for number in (31, 41):
        line = f"real=192.168.2.{number}:80"
        assert f"{line} gate" in text
        text = text.replace(f"{line} gate", f"{line} {word}")
    return text


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    ground = Ground()
    try:
        ground.power_on()
        ground.wait_until_up()
        ground.run(traffic_guest.NETWORK, timeout=TIMEOUT_S)
        yield ground
    finally:
        ground.close()


@pytest.fixture(scope="module")
def verdicts(ground: Ground) -> dict[str, str | None]:
    """Outcome of each case by its name."""
    program = shlex.join([sys.executable, "-B", "-W", "error", "-m", "tests.kernel.traffic_guest"])
    done = ground.run(f"cd {shlex.quote(str(ROOT))} && {program}", timeout=TIMEOUT_S)
    assert done.stderr == ""
    return {verdict["name"]: verdict["error"] for verdict in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", [case.__name__ for case in traffic_guest.CASES])
def test_every_road(name, verdicts):
    assert verdicts[name] is None, verdicts[name]


@pytest.fixture(scope="module")
def daemon(ground: Ground, verdicts: object) -> Iterator[Process]:
    """hafsm on the scenario's files with `ipip` for `gate`; somebody else's service is in the table before."""
    for name in traffic_guest.REALS:
        ground.serve(name)
    ground.run(f"ipvsadm {STRANGER} && ipvsadm {STRANGERS_SERVER}")
    ground.install(
        ha_cf={"node": "server40.example.com", "watchdog": None},
        files={"haresources": HARESOURCES, "ldirectord.cf": ldirectord_cf("ipip")},
    )
    daemon = ground.start_hafsm()
    yield daemon
    print(f"--- log\n{daemon.output() if ground.is_on else 'is off'}")


def test_10_tunnels_carry_the_service(ground: Ground, daemon: Process) -> None:
    before = int(ground.run("ip -n server31 -s link show tunl0").stdout.splitlines()[3].split()[1])
    wait_for(lambda: "group" in daemon.output() or daemon.poll() is not None, TIMEOUT_S, "hafsm starts the group")
    assert daemon.poll() is None, daemon.output()
    ground.forwards("Tunnel")
    after = int(ground.run("ip -n server31 -s link show tunl0").stdout.splitlines()[3].split()[1])
    assert after > before, "nothing came out of the tunnel"
    ground.stop_serving("server31")
    wait_for(lambda: ground.table() == {"192.168.2.41:80 Tunnel 1"}, TIMEOUT_S, "the dead one leaves")
    assert set(ground.answers()) == {"server41.example.com"}
    ground.serve("server31")
    ground.forwards("Tunnel")


def test_10_network_address_translation_carries_the_service(ground: Ground, daemon: Process) -> None:
    """An edited word in the file is enough: the entries are changed in place."""
    ground.run(traffic_guest.BEHIND_THE_DIRECTOR)
    ground.write("/etc/ha.d/ldirectord.cf", ldirectord_cf("masq"))
    ground.forwards("Masq")
    ground.stop_serving("server31")
    ground.stop_serving("server41")
    wait_for(lambda: ground.table() == {"127.0.0.1:80 Route 1"}, TIMEOUT_S, "only the fallback is left")
    assert set(ground.answers()) == {"director server40.example.com"}
    for name in traffic_guest.REALS:
        ground.serve(name)
    ground.forwards("Masq")


def test_a_stop_leaves_what_others_made(ground: Ground, daemon: Process) -> None:
    daemon.signal(signal.SIGTERM)
    assert daemon.wait(TIMEOUT_S) == 0
    assert ground.run(["ipvsadm", "-Sn"]).stdout.splitlines() == [STRANGER, STRANGERS_SERVER]
