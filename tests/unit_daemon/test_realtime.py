"""Real-time priority and locked memory, asked of the kernel; what is refused is said, and nobody inherits it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hafsm.config.model import HaCf
from hafsm.daemon import realtime
from tests.daemon.process import Daemon

ROOT = Path(__file__).resolve().parents[2]
RESET = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK

PERMITTED = """
import os, sys
from hafsm.daemon.realtime import enter
sys.exit(bool(enter(1)))
"""

ENTERS = """
import os, subprocess, sys, threading
from hafsm.daemon.realtime import enter, raise_threads

def facts(path):
    locked = [line.split()[1] for line in open(f"{path}/status") if line.startswith("VmLck")]
    tid = int(path.rsplit("/", 1)[-1])
    return os.sched_getscheduler(tid), os.sched_getparam(tid).sched_priority, int(locked[0])

inside, outside = threading.Event(), threading.Event()
thread = threading.Thread(target=lambda: (inside.set(), outside.wait()))
thread.start()
inside.wait()
refused = enter(7)
mine, other = f"/proc/self/task/{os.getpid()}", f"/proc/self/task/{thread.native_id}"
before = facts(other)[:2]
raise_threads(7)
child = subprocess.Popen(["sleep", "60"])
print((refused, facts(mine)[:2], facts(mine)[2] > 1000, before, facts(other)[:2], facts(f"/proc/{child.pid}")))
child.kill()
child.wait()
outside.set()
"""

UNPRIVILEGED = """
import os, resource
from hafsm.daemon.realtime import enter
if os.geteuid() == 0:
    resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (8192 * 1024, 8192 * 1024))
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
print(enter(7))
print(os.sched_getscheduler(0) == os.SCHED_OTHER)
"""


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def permitted() -> bool:
    return subprocess.run([sys.executable, "-c", PERMITTED], cwd=ROOT, timeout=60).returncode == 0


needs_permission = pytest.mark.skipif(not permitted(), reason="real-time priority or locked memory is not permitted")


def ha_cf(**fields: object) -> HaCf:
    times = dict.fromkeys(("keepalive_ns", "deadtime_ns", "warntime_ns", "initdead_ns", "deadping_ns"), 10**9)
    return HaCf(**times, nodes=(), media=(), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "priority"),
    [
        ({}, 50),
        ({"rtprio": 1}, 1),
        ({"rtprio": 98}, 98),
        ({"rtprio": 99}, 98),
        ({"realtime": False}, None),
        ({"realtime": False, "rtprio": 9}, None),
    ],
)
def test_priority(fields: dict[str, object], priority: int | None) -> None:
    """The default is half-way of SCHED_FIFO's 1 to 99; the highest stays free for the supervisor."""
    assert realtime.core_priority(ha_cf(**fields)) == priority


@needs_permission
def test_a_process_its_threads_and_its_children() -> None:
    ordinary = (os.SCHED_OTHER, 0)
    assert run(ENTERS) == f"{('', (RESET, 7), True, ordinary, (RESET, 7), (*ordinary, 0))}\n"


def test_what_is_refused_is_said() -> None:
    said, ordinary, _ = run(UNPRIVILEGED).split("\n")
    assert said == "real-time priority 7 (Operation not permitted) and locked memory (limited to 8192 KiB)"
    assert ordinary == "True"


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@needs_permission
def test_core_and_supervisor_have_it_and_their_children_have_not(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "a", ha_cf="rtprio 20\ncoredumps off\nrespawn root /bin/sleep 60\n").start()
    try:
        daemon.waits_until(lambda status: status["stable"] and len(children(daemon.core_pid())) == 2)
        assert daemon.process is not None
        supervisor, core = daemon.process.pid, daemon.core_pid()
        assert [os.sched_getparam(pid).sched_priority for pid in (supervisor, core)] == [21, 20]
        assert [os.sched_getscheduler(pid) for pid in (supervisor, core)] == [RESET, RESET]
        assert all(int(status_of(pid)["VmLck"].split()[0]) > 1000 for pid in (supervisor, core))
        for child in children(core):
            assert os.sched_getscheduler(child) == os.SCHED_OTHER
            assert status_of(child)["VmLck"] == "0 kB"
        assert "Max core file size        0 " in Path(f"/proc/{core}/limits").read_text()
        threads = [int(task.name) for task in Path(f"/proc/{core}/task").iterdir()]
        assert sum(os.sched_getscheduler(thread) == RESET for thread in threads) >= 3, "loop, kernel, journal"
        assert "not permitted" not in daemon.log
        assert daemon.stop() == 0
    finally:
        daemon.power_cut()


def test_realtime_off_leaves_all_as_it_is(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "a", ha_cf=f"realtime off\ncoreroot {tmp_path}\n").start()
    try:
        daemon.waits_until(lambda status: status["stable"])
        core = daemon.core_pid()
        assert os.sched_getscheduler(core) == os.SCHED_OTHER and status_of(core)["VmLck"] == "0 kB"
        assert Path(f"/proc/{core}/cwd").readlink() == tmp_path
    finally:
        daemon.power_cut()
