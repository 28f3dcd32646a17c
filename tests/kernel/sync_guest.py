"""The contract of the IPVS sync daemons as functions, like those of `contract_guest`.

The same functions run against the embedded kernel (tests/unit_kernel) and, as a program, against a real one:
`python -m tests.kernel.sync_guest` must be run as root in a kernel of its own, and prints one JSON object a line.
"""

from __future__ import annotations

import errno
import time

from hafsm.core.ipvs import ServiceEntry, TableEntry, Verb
from hafsm.core.settings import Forwarding, SyncDaemon, SyncRole
from hafsm.kernel.interface import Kernel
from tests.kernel.contract_guest import Bench, Case, do, error_of, lay_cables, real, report, run

MASTER = SyncDaemon(role=SyncRole.MASTER, interface="lan0", sync_id=7)
BACKUP = SyncDaemon(role=SyncRole.BACKUP, interface="lan0", sync_id=7)
ELSEWHERE = SyncDaemon(role=SyncRole.MASTER, interface="lan1", sync_id=9)
NOWHERE = SyncDaemon(role=SyncRole.MASTER, interface="nowhere0")


def a_daemon_runs_as_it_was_asked(bench: Bench) -> None:
    for daemon in (MASTER, BACKUP):
        bench.kernel.set_sync_daemon(daemon)
        assert bench.kernel.sync_daemons() == (daemon,), "the other role has ended"


def asking_again_changes_nothing(bench: Bench) -> None:
    for _ in range(2):
        bench.kernel.set_sync_daemon(MASTER)
        assert bench.kernel.sync_daemons() == (MASTER,)


def another_interface_or_id_starts_it_anew(bench: Bench) -> None:
    bench.kernel.set_sync_daemon(MASTER)
    bench.kernel.set_sync_daemon(ELSEWHERE)
    assert bench.kernel.sync_daemons() == (ELSEWHERE,)


def an_unknown_interface_is_refused_and_the_old_role_is_over(bench: Bench) -> None:
    bench.kernel.set_sync_daemon(BACKUP)
    error = error_of(lambda: bench.kernel.set_sync_daemon(NOWHERE))
    assert error.errno == errno.ENODEV
    assert error.operation == "run the IPVS sync daemon as master on nowhere0, id 0"
    assert bench.kernel.sync_daemons() == ()


def it_does_not_go_with_real_servers_of_the_other_family(bench: Bench) -> None:
    v6 = ServiceEntry(protocol="tcp", address="2001:db8::1", port=80)
    tunnelled = real(1, forwarding=Forwarding.IPIP)
    bench.fill(TableEntry(service=v6, destinations=(tunnelled,)))
    assert error_of(lambda: bench.kernel.set_sync_daemon(MASTER)).errno == errno.EINVAL
    assert bench.kernel.sync_daemons() == ()
    bench.fill(TableEntry(service=v6))
    bench.kernel.set_sync_daemon(MASTER)
    assert do(bench, Verb.ADD_DESTINATION, v6, tunnelled) == errno.EINVAL
    assert do(bench, Verb.DELETE_DESTINATION, v6, tunnelled) == 0
    bench.fill()


def both_roles_of_somebody_else_become_one(bench: Bench) -> None:
    """Real kernels only: two daemons may run at once, as ipvsadm starts them."""
    for state in ("master", "backup"):
        run("ipvsadm", "--start-daemon", state, "--mcast-interface", "lan0", "--syncid", "7")
    assert bench.kernel.sync_daemons() == (MASTER, BACKUP)
    bench.kernel.set_sync_daemon(BACKUP)
    assert bench.kernel.sync_daemons() == (BACKUP,)


def ipvsadm_sees_the_same(bench: Bench) -> None:
    bench.kernel.set_sync_daemon(BACKUP)
    assert "backup sync daemon (mcast=lan0, syncid=7" in run("ipvsadm", "-l", "--daemon")
    bench.kernel.set_sync_daemon(MASTER)
    shown = run("ipvsadm", "-l", "--daemon")
    assert "master sync daemon (mcast=lan0, syncid=7" in shown and "backup" not in shown


SYNC_CASES: tuple[Case, ...] = (
    a_daemon_runs_as_it_was_asked,
    asking_again_changes_nothing,
    another_interface_or_id_starts_it_anew,
    an_unknown_interface_is_refused_and_the_old_role_is_over,
    it_does_not_go_with_real_servers_of_the_other_family,
)
WITNESS_CASES: tuple[Case, ...] = (both_roles_of_somebody_else_become_one, ipvsadm_sees_the_same)


def clear_daemons(kernel: Kernel) -> None:
    for daemon in kernel.sync_daemons():
        run("ipvsadm", "--stop-daemon", daemon.role.value)
    assert kernel.sync_daemons() == ()


def main() -> None:
    from hafsm.kernel.linux import LinuxKernel  # not loaded where only the embedded kernel runs

    lay_cables()
    kernel = LinuxKernel()
    kernel.prepare(ipvs=True)
    bench = Bench(kernel, lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME), lambda: time.sleep(0.02))
    for case in (*SYNC_CASES, *WITNESS_CASES):
        clear_daemons(kernel)
        report(case.__name__, lambda case=case: case(bench))
    kernel.close()


if __name__ == "__main__":
    main()
