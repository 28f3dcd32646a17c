"""ms from the decision to take over to the VIP set and announced, by real netlink; ms from start to first heartbeat.

The daemon runs in a network namespace of its own; both figures come from real runs: the first out of its journal (the
event that decided, and the result of its `add_address`, which includes the first gratuitous ARP), the second from the
peer's socket. Needs root. Budgets: 10 ms (p99), 500 ms.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from journal.export import export
from journal.reader import Journal
from tests.daemon.process import Daemon, Impostor

STARTS = 15
INSIDE = "HAFSM_BENCH_INSIDE"


def main() -> None:
    if os.geteuid() != 0:
        print("take-over: needs root for a network namespace; skipped")
        return
    if INSIDE in os.environ:
        inside()
        return
    subprocess.run(
        ["unshare", "-n", sys.executable, "-m", "tests.bench.takeover_bench"],
        env={**os.environ, INSIDE: "1"},
        check=True,
        timeout=300,
    )


def inside() -> None:
    """In the namespace: a veth pair, a daemon on one end."""
    for command in (
        "ip link set lo up",
        "ip link add lab0 type veth peer name lab1",
        "ip addr add 192.0.2.1/24 brd + dev lab0",
        "ip link set lab0 up",
        "ip link set lab1 up",
    ):
        subprocess.run(command.split(), check=True)
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(Path(folder) / "a")
        (daemon.folder / "ha.d/haresources").write_text("director-a IPaddr::192.0.2.100/24/lab0\n")
        (daemon.folder / "ha.d/ldirectord.cf").unlink()
        settings = daemon.folder / "hafsm.toml"
        settings.write_text(settings.read_text().replace('"memory"', '"linux"'))
        heartbeats = []
        for _ in range(STARTS):
            peer = Impostor(daemon)
            began = time.perf_counter()
            daemon.start()
            peer.sock.recv(65536)
            heartbeats.append((time.perf_counter() - began) * 1000)
            peer.close()
            daemon.waits_until(lambda status: status["stable"] and status["holds"] == "all")
            daemon.stop()
        export(daemon.journal, daemon.folder / "x.db")
        report("decision to VIP set and announced", takeovers(daemon.folder / "x.db"), 10)
        report("start of `hafsm run` to first heartbeat", heartbeats, 500)


def takeovers(file: Path) -> list[float]:
    """ms between the event that caused each add_address and its result."""
    found = []
    with Journal(file) as journal:
        for action in journal.actions():
            if action.kind != "add_address":
                continue
            result = journal.result(action.id)
            cause = next(journal.events(action.cause, action.cause))
            if result is not None and result.outcome == "done":
                found.append((result.at_mono_ns - cause.at_mono_ns) / 1e6)
    return found


def report(what: str, samples: list[float], budget: float) -> None:
    samples.sort()
    middle, worst = samples[len(samples) // 2], samples[-1]
    print(f"{what}: median {middle:.1f} ms, max {worst:.1f} ms of {len(samples)} (budget {budget:g} ms)")


if __name__ == "__main__":
    main()
