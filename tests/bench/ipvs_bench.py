"""Loading, reloading and holding 5,000 real servers: hafsm beside ipvsadm and keepalived, in one kernel with IPVS.

    make bench-ipvs                                       1,000 and 5,000 real servers, some two minutes
    .venv/bin/python -m tests.bench.ipvs_bench --reals 5000 --services 1

The kernel is a user-mode one, in which system calls are slow: the ratios count, not the seconds. Real servers are not
checked (`checktype=on`; keepalived without a checker). Times are the least of several where several fit. Budgets: half
of `ipvsadm -R`; a changed line is in the kernel after 0.1 s, by one netlink operation; 80 MiB for 1,000 real servers.

Needs root and Debian's user-mode-linux and ipvsadm; keepalived is left out where it is not installed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COUNTS = (1000, 5000)
RELOADS = 3
LIMIT_S = 120
BUDGET_RELOAD_S = 0.1
BUDGET_MIB = 80
VIP = "192.0.2.1"
HA_CF = "keepalive 1\ndeadtime 10\ninitdead 10\nbcast eth0\nauto_failback on\nnode {node}\n"


def real(number: int) -> str:
    """Address of a real server."""
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def spread(reals: int, services: int) -> Iterator[tuple[int, range]]:
    """Port and real servers of each virtual service."""
    each = -(-reals // services)
    for number in range(services):
        yield 80 + number, range(number * each + 1, min(reals, (number + 1) * each) + 1)


# ---- inside the kernel


def report(what: str, **figures: object) -> None:
    """One line for the program outside."""
    print(json.dumps({"what": what, **figures}), flush=True)


def run(*argv: str, **options: object) -> str:
    return str(subprocess.run(argv, check=True, capture_output=True, text=True, **options).stdout)  # type: ignore[call-overload]


def weights() -> dict[str, str]:
    """Weight of each `address:port` in this kernel, in hexadecimal, as the kernel prints them."""
    found = {}
    for line in Path("/proc/net/ip_vs").read_text().splitlines():
        words = line.split()
        if words[0] == "->" and words[1] != "RemoteAddress:Port":
            found[words[1]] = words[3]
    return found


def shown(place: str) -> str:
    """`10.0.0.1:80` as /proc/net/ip_vs shows it."""
    address, port = place.split(":")
    return "".join(f"{int(octet):02X}" for octet in address.split(".")) + f":{int(port):04X}"


def until(condition: Callable[[], bool], what: str) -> float:
    """When it became true, in seconds of `time.monotonic`."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {LIMIT_S} s: {what}")
        time.sleep(0.01)
    return time.monotonic()


def memory_mib(first: int) -> list[float]:
    """Memory of a process and of each of its descendants, every page divided by the processes that share it."""
    pids = [first]
    for pid in pids:
        pids += children(pid)
    texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    return [int(re.findall(r"^Pss:\s+(\d+)", text, re.M)[0]) / 1024 for text in texts]


def measure_kernel_code(reals: int, services: int) -> None:
    """hafsm's netlink alone, then ipvsadm with the same table."""
    from hafsm.core.ipvs import DestinationEntry, ServiceEntry, TableEntry, difference
    from hafsm.core.settings import Forwarding
    from hafsm.kernel.linux import LinuxKernel

    table = tuple(
        TableEntry(
            service=ServiceEntry(protocol="tcp", address=VIP, port=port),
            destinations=tuple(
                DestinationEntry(address=real(n), port=80, forwarding=Forwarding.MASQ, weight=1) for n in numbers
            ),
        )
        for port, numbers in spread(reals, services)
    )
    kernel = LinuxKernel()
    kernel.prepare(ipvs=True)
    took = []
    for _ in range(3):
        run("ipvsadm", "-C")
        operations = difference(table, ())
        started = time.monotonic()
        errors = kernel.apply_operations(operations)
        took.append(time.monotonic() - started)
        assert not any(errors)
    started = time.monotonic()
    seen = kernel.read_table()
    report("hafsm's netlink alone", load_s=min(took), read_s=time.monotonic() - started)
    assert difference(table, seen) == ()
    kernel.close()
    content = run("ipvsadm", "-Sn")
    run("ipvsadm", "-C")
    started = time.monotonic()
    run("ipvsadm", "-R", input=content)
    report("ipvsadm -R", load_s=time.monotonic() - started)
    assert len(weights()) == reals
    run("ipvsadm", "-C")


@contextmanager
def process(argv: list[str], log: str) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon in the foreground, ended and waited for."""
    with Path(log).open("wb") as output:
        started = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield started
    except TimeoutError as error:
        raise TimeoutError(f"{error}\n{Path(log).read_text()[-2000:]}") from None
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            started.kill()


def children(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def measure_daemon(
    what: str, argv: list[str], config: Path, text: Callable[[int], str], reals: int, obeys: Callable[[int], int]
) -> None:
    """From its start until all real servers are in, memory, and from a changed line until the kernel has it.

    `obeys`: which process takes the signal to read its file again, told the first one.
    """
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(text(1))
    place = shown(f"{real(reals)}:80")
    started = time.monotonic()
    with process(argv, "/tmp/daemon.log") as daemon:
        loaded = (
            until(lambda: daemon.poll() is not None or len(weights()) == reals, f"{what}: all real servers") - started
        )
        if daemon.poll() is not None:
            raise TimeoutError(f"{what} ended with status {daemon.returncode}")
        time.sleep(3)
        memory = memory_mib(daemon.pid)
        reloads = []
        for weight in range(2, RELOADS + 2):
            config.write_text(text(weight))
            asked = time.monotonic()
            os.kill(obeys(daemon.pid), signal.SIGHUP)
            wanted = str(weight)
            there = until(lambda wanted=wanted: weights().get(place) == wanted, f"{what}: the change")
            reloads.append(there - asked)
            until(lambda: len(weights()) == reals, f"{what}: all real servers are in again")
            time.sleep(1)
        report(what, load_s=loaded, reload_s=min(reloads), mib=memory)
    run("ipvsadm", "-C")


def keepalived_conf(reals: int, services: int, weight: int) -> str:
    lines = ["global_defs {\n}"]
    for port, numbers in spread(reals, services):
        lines.append(f"virtual_server {VIP} {port} {{\ndelay_loop 10\nlb_algo wrr\nlb_kind NAT\nprotocol TCP")
        lines += [f"real_server {real(n)} 80 {{\nweight {weight if n == reals else 1}\n}}" for n in numbers]
        lines.append("}")
    return "\n".join(lines) + "\n"


def ldirectord_cf(reals: int, services: int, weight: int) -> str:
    lines = ["checkinterval=1"]
    for port, numbers in spread(reals, services):
        lines.append(f"virtual={VIP}:{port}\n\tscheduler=wrr\n\tprotocol=tcp\n\tchecktype=on")
        lines += [f"\treal={real(n)}:80 masq {weight if n == reals else 1}" for n in numbers]
    return "\n".join(lines) + "\n"


def measure_hafsm(reals: int, services: int, python: str) -> None:
    """The whole daemon on the files that an administrator writes; then what its journal says it did."""
    from journal.export import export
    from journal.reader import Journal

    folder = Path("/etc/ha.d")
    folder.mkdir(parents=True, exist_ok=True)
    node = os.uname().nodename
    (folder / "ha.cf").write_text(HA_CF.format(node=node))
    (folder / "haresources").write_text(f"{node} IPaddr::{VIP}/24/eth0 ldirectord\n")
    (folder / "authkeys").write_text("auth 1\n1 sha1 key-of-the-benchmark\n")
    (folder / "authkeys").chmod(0o600)
    state = Path("/run/hafsm-state")
    settings = Path("/run/hafsm.toml")
    settings.write_text(f'state_dir = "{state}"\nrun_dir = "/run/hafsm"\n')
    argv = [python, "-m", "hafsm.cli.main", "run", f"--config-dir={folder}", f"--settings={settings}"]
    measure_daemon(
        "hafsm",
        argv,
        folder / "ldirectord.cf",
        lambda weight: ldirectord_cf(reals, services, weight),
        reals,
        lambda pid: children(pid)[0],
    )
    export(state / "journal", state / "x.db")
    with Journal(state / "x.db") as journal:
        for action in journal.actions():
            cause = next(journal.events(action.cause, action.cause))
            result = journal.result(action.id)
            if action.kind == "program_ipvs" and result is not None:
                report(
                    "programmed",
                    cause=cause.kind,
                    operations=len(json.loads(action.payload)["operations"]),
                    took_s=(result.at_mono_ns - cause.at_mono_ns) / 1e9,
                )
    shutil.rmtree(state)


def inside(reals: int, services: int, python: str) -> None:
    """Everything for one number of real servers."""
    measure_kernel_code(reals, services)
    if shutil.which("keepalived"):
        measure_daemon(
            "keepalived",
            ["keepalived", "-n", "-C", "-l", "-f", "/run/keepalived.conf"],
            Path("/run/keepalived.conf"),
            lambda weight: keepalived_conf(reals, services, weight),
            reals,
            lambda pid: pid,
        )
    measure_hafsm(reals, services, python)


# ---- outside


def main(arguments: tuple[str, ...] = ()) -> None:
    """`make bench` gives no arguments."""
    from tests.kernel.site import missing_prerequisite
    from tests.kernel.uml import boot

    parser = argparse.ArgumentParser(description="5,000 real servers: hafsm beside ipvsadm and keepalived.")
    parser.add_argument("--reals", type=int, nargs="*", default=list(COUNTS))
    parser.add_argument("--services", type=int, default=50, help="virtual services they are spread over (default: 50)")
    parser.add_argument("--inside", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.inside:
        inside(options.reals[0], options.services, options.inside)
        return
    lacks = missing_prerequisite()
    if lacks:
        print(f"IPVS: skipped, {lacks}")
        return
    for reals in options.reals:
        node = boot("bench", memory_mib=768)
        try:
            node.run("modprobe dummy && ip link add eth0 type dummy && ip addr add 192.0.2.9/24 brd + dev eth0")
            node.run("ip link set eth0 up")
            words = [sys.executable, "-m", "tests.bench.ipvs_bench", "--reals", str(reals)]
            words += ["--services", str(options.services), "--inside", sys.executable]
            done = node.run(f"cd {shlex.quote(str(ROOT))} && {shlex.join(words)}", timeout=900, check=False)
        finally:
            node.close()
        if done.rc:
            raise SystemExit(f"{done.stdout}\n{done.stderr}")
        show(reals, options.services, [json.loads(line) for line in done.stdout.splitlines()])


def show(reals: int, services: int, lines: list[dict[str, Any]]) -> None:
    """What was measured, beside the budgets."""
    found = {line["what"]: line for line in lines}
    theirs = found["ipvsadm -R"]["load_s"]
    print(f"\n{reals:,} real servers in {services} virtual services")
    print("                          all in     a changed line   memory, all processes")
    alone = found["hafsm's netlink alone"]
    print(f"ipvsadm -R            {theirs:8.3f} s")
    print(
        f"hafsm's netlink alone {alone['load_s']:8.3f} s  ({alone['load_s'] / theirs:.3f} of ipvsadm's, budget 0.5;"
        f" read back in {alone['read_s']:.3f} s)"
    )
    for what in ("keepalived", "hafsm"):
        if what in found:
            line = found[what]
            parts = " + ".join(f"{mib:.0f}" for mib in line["mib"])
            times = f"{line['load_s']:8.3f} s  {line['reload_s']:10.3f} s"
            print(f"{what:21} {times}      {sum(line['mib']):5.1f} MiB ({parts})")
    print(f"budgets of hafsm{BUDGET_RELOAD_S:24.3f} s{BUDGET_MIB:13.1f} MiB (1,000 real servers)")
    for line in lines:
        if line["what"] == "programmed":
            cause = line["cause"].replace("_", " ")
            print(
                f"  {cause}: {line['operations']:,} operations, {line['took_s']:.3f} s to the result, journal included"
            )


if __name__ == "__main__":
    main(tuple(sys.argv[1:]))
