"""Memory of a whole daemon that checks 1,000 real servers by HTTP. Budget: 80 MiB, all processes together.

`hafsm run` as in production but for the kernel, which is embedded; the real servers are listeners on loopback in a
process of their own, which is not counted. Shared pages are divided among those who share them (PSS), so that the sum
is what the machine gets back when the daemon ends. Run alone: `python -m tests.bench.memory_bench [SECONDS]`.
"""

from __future__ import annotations

import multiprocessing
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.check_targets import serve
from tests.daemon.process import Daemon

REAL_SERVERS = 1000
A_SERVICE = 50
"""Real servers in one virtual service."""
SECONDS = 30
BUDGET_MIB = 80


def services(addresses: Sequence[tuple[str, int]]) -> str:
    """An ldirectord.cf: every address is a real server."""
    lines = ["checkinterval=2", "checktimeout=5"]
    for index in range(0, len(addresses), A_SERVICE):
        lines.append(f"virtual=127.0.1.100:{20_000 + index // A_SERVICE}")
        lines += [f"\treal={host}:{port} masq" for host, port in addresses[index : index + A_SERVICE]]
        lines += ["\tservice=http", "\tscheduler=rr", '\trequest="index.html"', '\treceive="Test Page"']
    return "\n".join(lines) + "\n"


def up(status: dict[str, Any]) -> int:
    return sum(real["state"] == "up" for service in status["services"] for real in service["reals"])


def family(pid: int) -> dict[int, str]:
    """The process and all that came of it: pid → what it is."""
    found = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found |= family(int(child))
    return found


def memory(pid: int) -> tuple[float, float]:
    """(RSS, PSS) in MiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    rss, pss = (re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE) for name in ("Rss", "Pss"))
    assert rss is not None and pss is not None, "the kernel tells both"
    return int(rss[1]) / 1024, int(pss[1]) / 1024


def main(seconds: int = SECONDS) -> None:
    """Print each process and the sum."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    targets = context.Process(target=serve, args=(REAL_SERVERS, there))
    targets.start()
    addresses = here.recv()
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(Path(folder) / "a", ldirectord_cf=services(addresses)).start()
        assert daemon.process is not None
        try:
            daemon.waits_until(lambda status: up(status) == REAL_SERVERS, 60)
            time.sleep(seconds)
            total = 0.0
            core = daemon.core_pid()
            for pid, command in family(daemon.process.pid).items():
                rss, pss = memory(pid)
                total += pss
                name = {daemon.process.pid: "supervisor", core: "core"}.get(pid, command.split()[-1][:24])
                print(f"{name:26} {rss:6.1f} MiB resident, {pss:6.1f} MiB as its share")
            verdict = "met" if total <= BUDGET_MIB else "MISSED"
            print(f"{REAL_SERVERS:,} real servers up, all processes: {total:.1f} MiB; budget {BUDGET_MIB}: {verdict}")
            daemon.stop()
        finally:
            daemon.power_cut()
            here.send("enough")
            here.recv()
            targets.join(10)
            targets.kill()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else SECONDS)
