"""False deaths and late heartbeats with every CPU taken by other processes: keepalive 50 ms, deadtime 200 ms.

Two whole daemons in a network namespace of their own, heartbeats over loopback, beside processes that never pause. The
figures come out of both journals: when each heartbeat of the peer was taken in. Needs root. Budget: no false death.

`python -m tests.bench.realtime_bench --seconds 600`; `--without` the same with `realtime off`; `--busy 20` a CPU.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from journal.export import export
from journal.reader import Journal
from tests.daemon.process import Daemon

INSIDE = "HAFSM_BENCH_INSIDE"
KEEPALIVE_MS = 50
DEADTIME_MS = 200
LATE_MS = 2 * KEEPALIVE_MS
NODES = {"director-a": "127.0.1.11", "director-b": "127.0.1.12"}


def main(arguments: tuple[str, ...] = ()) -> None:
    """`make bench` gives no arguments and so gets 20 s."""
    parser = argparse.ArgumentParser(description="False deaths and late heartbeats under load.")
    parser.add_argument("--seconds", type=int, default=20, help="of load (default: 20)")
    parser.add_argument("--without", action="store_true", help="with `realtime off` in ha.cf")
    parser.add_argument("--busy", type=int, default=2, help="busy processes a CPU (default: 2)")
    options = parser.parse_args(arguments)
    if os.geteuid() != 0:
        print("real time: needs root for a network namespace and for priority; skipped")
        return
    if INSIDE in os.environ:
        measure(options.seconds, options.busy * (os.cpu_count() or 1), "off" if options.without else "on")
        return
    subprocess.run(
        ["unshare", "-n", sys.executable, "-m", "tests.bench.realtime_bench", *arguments],
        env={**os.environ, INSIDE: "1"},
        check=True,
        timeout=options.seconds + 120,
    )


def measure(load_s: int, number: int, realtime: str) -> None:
    """In the namespace."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        pair = [director(Path(folder), node, realtime) for node in NODES]
        try:
            for daemon in pair:
                daemon.start()
            for daemon in pair:
                daemon.waits_until(lambda status: status["stable"])
            with busy(number):
                began = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
                time.sleep(load_s)
                ended = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            for daemon in pair:
                daemon.stop()
        finally:
            for daemon in pair:
                daemon.power_cut()
        deaths, gaps = 0, list[float]()
        for daemon in pair:
            found, between = heard(daemon, began, ended)
            deaths += found
            gaps += between
    gaps.sort()
    late = sum(gap > LATE_MS for gap in gaps)
    print(
        f"realtime {realtime}, {number} busy processes on {os.cpu_count()} CPUs for {load_s} s, "
        f"keepalive {KEEPALIVE_MS} ms, deadtime {DEADTIME_MS} ms: {deaths} false deaths; of {len(gaps)} heartbeats "
        f"{late} later than {LATE_MS} ms; between two: median {gaps[len(gaps) // 2]:.1f} ms, "
        f"p99.9 {gaps[len(gaps) * 999 // 1000]:.1f} ms, longest {gaps[-1]:.1f} ms (budget: no false death)"
    )


def director(folder: Path, node: str, realtime: str) -> Daemon:
    daemon = Daemon(folder / node)
    (peer,) = (address for other, address in NODES.items() if other != node)
    (daemon.folder / "ha.d/ha.cf").write_text(
        f"keepalive {KEEPALIVE_MS}ms\ndeadtime {DEADTIME_MS}ms\nwarntime {LATE_MS}ms\ninitdead 2\nudpport 694\n"
        f"ucast lo {peer}\nauto_failback on\nnode {' '.join(NODES)}\nrealtime {realtime}\n"
    )
    (daemon.folder / "ha.d/haresources").write_text("director-a IPaddr::127.0.1.100/8/lo\n")
    (daemon.folder / "ha.d/ldirectord.cf").unlink()
    settings = daemon.folder / "hafsm.toml"
    settings.write_text(
        settings.read_text().replace('"director-a"', f'"{node}"').replace(NODES["director-a"], NODES[node])
    )
    return daemon


@contextmanager
def busy(number: int) -> Iterator[None]:
    """Processes that use whatever CPU they get."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def heard(daemon: Daemon, began: int, ended: int) -> tuple[int, list[float]]:
    """(decisions that the peer is dead, ms between one heartbeat and the next) while the load was on."""
    (peer,) = (node for node in NODES if node != daemon.folder.name)
    file = daemon.folder / "x.db"
    export(daemon.journal, file)
    deaths, gaps, last = 0, list[float](), began
    with Journal(file) as journal:
        for event in journal.events():
            if not began <= event.at_mono_ns <= ended:
                continue
            deaths += f"{peer} is dead" in event.reason
            if event.kind == "heartbeat_received" and msgspec.json.decode(event.payload)["node"] == peer:
                gaps.append((event.at_mono_ns - last) / 1e6)
                last = event.at_mono_ns
    gaps.append((ended - last) / 1e6)
    return deaths, gaps


if __name__ == "__main__":
    main(tuple(sys.argv[1:]))
