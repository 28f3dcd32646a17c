"""The laboratory itself, with nothing of hafsm in it: IPVS by hand on two directors, seen from a client."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tests.kernel.lab import GATEWAY, ROOT, VIP, AskFailed, Director, Lab, vary
from tests.kernel.site import CommandFailed, LabError, wait_for
from tests.kernel.uml import Node

TABLE = """\
ipvsadm -A -t {vip}:80 -s rr
ipvsadm -a -t {vip}:80 -r 192.168.2.31:80 -g
ipvsadm -a -t {vip}:80 -r 192.168.2.41:80 -g
"""
NAMES = {"server31.example.com", "server41.example.com"}


def take_vip(director: Director) -> None:
    director.run(f"ip addr add {VIP}/24 brd + dev eth0 label eth0:0")


def serve_by_hand(director: Director) -> None:
    take_vip(director)
    director.run("set -e\n" + TABLE.format(vip=VIP))


def sees(director: Director, address: str) -> Callable[[], bool]:
    return lambda: director.run(["ping", "-c1", "-W1", address], check=False).rc == 0


def test_the_directors_are_two_machines_on_one_lan(lab: Lab) -> None:
    """Each has its own name and kernel, and reaches the other and the gateway."""
    for director, other in (lab.directors, lab.directors[::-1]):
        assert director.run("uname -n").stdout.strip() == director.hostname
        director.run(["ping", "-c1", "-W5", other.ip])
        director.run(["ping", "-c1", "-W5", GATEWAY])
    assert lab.server40.boot_id != lab.server19.boot_id


def test_a_served_vip_gives_both_real_servers_in_turn(lab: Lab) -> None:
    """Round robin through direct routing; a real server with its httpd stopped refuses."""
    serve_by_hand(lab.server40)
    answers = [lab.client.ask() for _ in range(6)]
    assert set(answers) == NAMES
    assert all(answer != following for answer, following in pairwise(answers))
    assert lab.client.arp_entry() == lab.server40.mac
    lab.server31.stop_httpd()
    lab.server41.stop_httpd()
    with pytest.raises(AskFailed, match="ConnectionRefusedError"):
        lab.client.ask()
    lab.server31.start_httpd()
    assert lab.client.ask(lab.server31.address) == lab.server31.page


def test_a_hanging_real_server_accepts_and_never_answers(lab: Lab) -> None:
    lab.server31.hang_httpd()
    with pytest.raises(AskFailed, match="TimeoutError"):
        lab.client.ask("192.168.2.31", timeout=0.5)
    lab.server31.start_httpd()
    assert lab.client.ask("192.168.2.31") == lab.server31.page


def test_the_fallback_is_the_directors_own_httpd(lab: Lab) -> None:
    """What IPVS delivers to 127.0.0.1:80 with the VIP as destination is answered; the resource script follows
    the LSB."""
    director = lab.server40
    director.install()
    script = "/etc/ha.d/resource.d/httpd"
    stopped = director.run([script, "status"], check=False)
    assert (stopped.rc, stopped.stdout) == (3, "stopped\n")
    director.run([script, "start"])
    director.run([script, "start"])
    assert director.run([script, "status"]).stdout == "running\n"
    take_vip(director)
    director.run(f"ipvsadm -A -t {VIP}:80 -s rr && ipvsadm -a -t {VIP}:80 -r 127.0.0.1:80 -g")
    assert lab.client.ask() == f"director {director.hostname}"
    director.run([script, "stop"])
    director.run([script, "stop"])
    with pytest.raises(AskFailed):
        lab.client.ask()


def test_a_power_cut_keeps_what_was_synced_and_only_that(lab: Lab) -> None:
    director = lab.server40
    director.write("/var/lib/lab/synced", "kept")
    director.run("echo lost >/var/lib/lab/in-memory")
    before = director.boot_id
    director.power_cut()
    with pytest.raises(LabError, match="is off"):
        director.run("true")
    assert not sees(lab.server19, director.ip)()
    lab.boot()
    assert director.boot_id != before
    assert director.read("/var/lib/lab/synced") == b"kept"
    assert director.run("cat /var/lib/lab/in-memory", check=False).stdout == ""
    director.run("echo orderly >/var/lib/lab/orderly")
    director.reboot()
    assert director.read("/var/lib/lab/orderly") == b"orderly\n"
    assert not lab.server19.run("ls /var/lib/lab", check=False).stdout


def test_a_frozen_director_is_silent_and_its_clock_jumps(lab: Lab) -> None:
    director = lab.server40
    before = _uptime(director)
    frozen_at = time.monotonic()
    director.freeze()
    for _ in range(2):
        assert not sees(lab.server19, director.ip)()
    director.thaw()
    wait_for(sees(lab.server19, director.ip), 30, "the thawed director answers")
    assert _uptime(director) - before > time.monotonic() - frozen_at - 0.5
    director.freeze()
    director.power_cut()
    assert not director.is_on


def _uptime(node: Node) -> float:
    return float(node.run("cat /proc/uptime").stdout.split()[0])


def test_a_pulled_cable_cuts_off_one_host(lab: Lab) -> None:
    lab.server40.unplug()
    assert not sees(lab.server19, lab.server40.ip)()
    assert sees(lab.server19, GATEWAY)()
    lab.server40.plug()
    wait_for(sees(lab.server19, lab.server40.ip), 30, "the director is back on the network")


def test_the_client_follows_an_announcement_and_its_watch_shows_the_outage(lab: Lab) -> None:
    """The VIP moves with a power cut; a gratuitous ARP tells the client, and the watch measured what it
    lost."""
    serve_by_hand(lab.server40)
    with lab.client.watch() as watch:
        wait_for(lambda: {asked.answer for asked in watch.asked()} >= NAMES, 30, "answers of both real servers")
        assert watch.longest_outage() == 0
        lab.server40.power_cut()
        cut_at = time.monotonic()
        wait_for(lambda: any(asked.error for asked in watch.since(cut_at)), 30, "questions that fail")
        serve_by_hand(lab.server19)
        lab.server19.run(["arping", "-U", "-c", "2", "-i", "eth0", "-S", VIP, VIP], check=False)
        wait_for(lambda: any(asked.answer for asked in watch.since(cut_at + 1)), 30, "answers again")
    assert lab.client.arp_entry() == lab.server19.mac
    assert 0.5 < watch.longest_outage() < 30


def test_a_starved_watchdog_resets_the_kernel(lab: Lab) -> None:
    """A daemon that opens /dev/watchdog and hangs takes its machine down, which comes back by itself."""
    director = lab.server19
    before = director.boot_id
    director.use_softdog(margin_s=2)
    director.start("exec 3>/dev/watchdog; exec sleep 600")
    director.wait_until_reset(before)
    assert director.boot_id != before
    director.run(["ping", "-c1", "-W5", GATEWAY])


def test_commands_have_limits_and_outputs_have_none(lab: Lab) -> None:
    director = lab.server40
    with pytest.raises(LabError, match="not done in 1 s"):
        director.run("echo said; sleep 60", timeout=1)
    with pytest.raises(CommandFailed) as failed:
        director.run("echo out; echo err >&2; exit 3")
    assert (failed.value.result.rc, failed.value.result.stdout, failed.value.result.stderr) == (3, "out\n", "err\n")
    assert len(director.run("head -c 1000000 /dev/zero").stdout) == 1_000_000
    blob = bytes(range(256)) * 4000
    director.write("/var/lib/lab/blob", blob, mode=0o600)
    assert director.read("/var/lib/lab/blob") == blob
    assert director.run("stat -c %a /var/lib/lab/blob").stdout == "600\n"


def test_background_commands_can_be_followed_and_ended(lab: Lab) -> None:
    director = lab.server40
    sleeper = director.start("echo begun; exec sleep 600", log="/run/sleeper.log")
    wait_for(lambda: sleeper.output() == "begun\n", 20, "its first line")
    assert sleeper.poll() is None
    sleeper.signal(15)
    assert sleeper.wait(20) == -15
    director.start("setsid sleep 12345 & exec sleep 600")
    wait_for(lambda: _detached_sleepers(director), 20, "a child in a session of its own")
    lab.restore()
    assert not _detached_sleepers(director)


def _detached_sleepers(node: Node) -> str:
    return node.run("pgrep -f 'sleep 1234[5]'", check=False).stdout


def test_a_shared_folder_brings_files_out_and_survives_a_reboot(lab: Lab, tmp_path: Path) -> None:
    director = lab.server40
    director.share(tmp_path, "/mnt/out")
    director.run("echo one >/mnt/out/file")
    director.reboot()
    director.run("echo two >>/mnt/out/file")
    assert (tmp_path / "file").read_text() == "one\ntwo\n"


def test_the_scenario_is_installed_unchanged_or_varied(lab: Lab) -> None:
    director = lab.server40
    director.install(ha_cf={"deadtime": "5", "watchdog": None, "ucast": ["eth0 192.168.2.19", "eth0 192.168.2.40"]})
    lines = director.read("/etc/ha.d/ha.cf").decode().splitlines()
    assert "deadtime 5" in lines
    assert "deadtime 30" not in lines
    assert not [line for line in lines if line.startswith("watchdog")]
    assert lines[-2:] == ["ucast eth0 192.168.2.19", "ucast eth0 192.168.2.40"]
    assert director.run("stat -c %a /etc/ha.d/authkeys").stdout == "600\n"
    assert vary("node a\nnode b\n#node c\n", {"node": "x"}) == "node x\n#node c\n"


VICTIM = """
import sys, time
from tests.kernel.uml import boot
node = boot("victim")
print(node.site.folder, *node.pids(), flush=True)
time.sleep(600)
"""


def test_nothing_outlives_a_killed_test_run() -> None:
    """A run that is killed, and so cannot clean up, leaves no process; only an empty folder."""
    victim = subprocess.Popen([sys.executable, "-c", VICTIM], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert victim.stdout is not None
        folder, *pids = victim.stdout.readline().split()
        assert len(pids) >= 4
        assert all(Path("/proc", pid).exists() for pid in pids)
    finally:
        victim.kill()
        victim.communicate(timeout=30)
    wait_for(lambda: not any(_runs(pid) for pid in pids), 30, "the end of every process")
    Path(folder).rmdir()


def _runs(pid: str) -> bool:
    try:
        return ") Z " not in Path("/proc", pid, "stat").read_text()
    except OSError:
        return False
