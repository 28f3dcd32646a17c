"""Check results, the wanted table, and repairs of what somebody else changed."""

from msgspec.structs import replace

from hafsm.core.ipvs import Verb
from hafsm.core.settings import SECOND, CheckKind, CheckSpec, Forwarding, RealServer
from tests.unit_core.pair import Pair, act, ev, service

UP = ["192.168.2.31:80 1", "192.168.2.41:80 1"]
FALLBACK = ["127.0.0.1:80 1"]


def operations(pair: Pair) -> list[str]:
    return [
        str(o) for _, actions in pair.a.log for a in actions if isinstance(a, act.ProgramIpvs) for o in a.operations
    ]


def test_reals_come_before_the_fallback_goes_and_the_reverse() -> None:
    pair = Pair().start()
    assert pair.a.routes() == FALLBACK
    before = len(operations(pair))
    pair.a.report_checks(a31=True)
    pair.run(SECOND)
    pair.a.report_checks(a31=False)
    pair.run(SECOND)
    assert operations(pair)[before:] == [
        "add destination 192.168.2.31:80 of tcp:192.168.2.232:80",
        "delete destination 127.0.0.1:80 of tcp:192.168.2.232:80",
        "add destination 127.0.0.1:80 of tcp:192.168.2.232:80",
        "delete destination 192.168.2.31:80 of tcp:192.168.2.232:80",
    ]


def test_a_standby_checks_and_programs_nothing() -> None:
    pair = Pair().start()
    for machine in (pair.a, pair.b):
        machine.report_checks(a31=True, a41=True)
    pair.run(SECOND)
    assert pair.a.routes() == UP and pair.b.table == ()
    pair.a.power_cut()
    pair.until(lambda: pair.b.routes() == UP)


def test_quiescent_servers_stay_with_weight_zero() -> None:
    pair = Pair(services=(service(quiescent=True),)).start()
    pair.a.report_checks(a31=True, a41=True)
    pair.run(SECOND)
    pair.a.report_checks(a41=False)
    pair.run(SECOND)
    assert pair.a.routes() == ["192.168.2.31:80 1", "192.168.2.41:80 0"]
    pair.a.report_checks(a31=False)
    pair.run(SECOND)
    assert sorted(pair.a.routes()) == ["127.0.0.1:80 1", "192.168.2.31:80 0", "192.168.2.41:80 0"]
    pair.a.report_checks(a31=True, a41=True)
    pair.run(SECOND)
    assert pair.a.routes() == UP


def test_failurecount_failures_in_a_row_are_needed() -> None:
    pair = Pair(services=(service(failurecount=3),)).start()
    pair.a.report_checks(a31=True, a41=True)
    for outcome in (False, False, True, False, False):
        pair.a.report_checks(a31=outcome)
        pair.run(SECOND)
        assert pair.a.routes() == UP
    pair.a.report_checks(a31=False)
    pair.run(SECOND)
    assert pair.a.routes() == UP[1:]
    assert pair.a.reasons[-1] == (
        "real server 192.168.2.31:80 of tcp:192.168.2.232:80 is removed: 3 checks in a row failed (connection refused)"
    )


def test_on_and_off_are_not_checked() -> None:
    def real(address: str, kind: CheckKind) -> RealServer:
        spec = CheckSpec(kind=kind, address=address, port=80, interval_ns=SECOND, timeout_ns=SECOND)
        return RealServer(address=address, port=80, forwarding=Forwarding.GATE, check=spec)

    reals = (real("192.0.2.1", CheckKind.ALWAYS_UP), real("192.0.2.2", CheckKind.ALWAYS_DOWN))
    pair = Pair(services=(service(reals=reals),)).start()
    assert pair.a.state.checks == ()
    assert pair.a.routes() == ["192.0.2.1:80 1"]


def test_one_check_serves_two_services_that_ask_the_same() -> None:
    pair = Pair(services=(service(), service(port=8080))).start()
    assert len(pair.a.state.checks) == 2
    pair.a.report_checks(a31=True, a41=True)
    pair.run(SECOND)
    assert [len(entry.destinations) for entry in pair.a.table] == [2, 2]


def test_results_of_an_older_plan_are_ignored() -> None:
    pair = Pair().start()
    result = ev.CheckResult(check=0, ok=True)
    pair.a.fold(ev.ChecksReported(at=pair.now, plan=pair.a.state.checks_plan - 1, results=(result,)))
    pair.a.fold(ev.ChecksReported(at=pair.now, plan=pair.a.state.checks_plan, results=(replace(result, check=77),)))
    pair.run(SECOND)
    assert pair.a.routes() == FALLBACK


def test_what_ipvsadm_C_took_away_is_put_back() -> None:
    pair = Pair().start()
    pair.a.report_checks(a31=True, a41=True)
    pair.run(SECOND)
    pair.a.table = ()
    pair.until(lambda: pair.a.routes() == UP, limit=11 * SECOND)
    assert any("changed by somebody else: 3 operations repair it" in r for r in pair.a.reasons)


def test_a_vip_that_somebody_removed_is_put_back() -> None:
    pair = Pair().start()
    pair.a.addresses.clear()
    pair.until(lambda: bool(pair.a.vips()), limit=11 * SECOND)
    assert any("was gone although this node holds it: added again" in r for r in pair.a.reasons)


def test_a_vip_that_somebody_added_to_the_standby_is_taken_away() -> None:
    pair = Pair().start()
    address = pair.a.state.held[0]
    pair.b.addresses[address] = 2**62
    pair.until(lambda: not pair.b.vips(), limit=11 * SECOND)
    assert any("was there although this node does not hold it: removed" in r for r in pair.b.reasons)


def test_what_the_kernel_refuses_is_said_and_tried_again() -> None:
    pair = Pair().start()
    pair.a.refuse = lambda action: isinstance(action, act.ProgramIpvs)
    pair.a.report_checks(a31=True, a41=True)
    pair.run(3 * SECOND)
    assert pair.a.routes() == FALLBACK
    assert any(r.startswith("IPVS refused add destination 192.168.2.31:80") for r in pair.a.reasons)
    pair.a.refuse = lambda action: False
    pair.until(lambda: pair.a.routes() == UP, limit=3 * SECOND)


def test_a_kernel_that_never_answers_is_asked_again() -> None:
    pair = Pair().start()
    pair.a.silent = lambda action: isinstance(action, act.ProgramIpvs)
    pair.a.report_checks(a31=True, a41=True)
    pair.run(9 * SECOND)
    pair.a.silent = lambda action: False
    pair.a.table = pair.a.table[:0]
    pair.until(lambda: pair.a.routes() == UP, limit=15 * SECOND)


def test_a_changed_file_reaches_the_kernel_as_the_difference_only() -> None:
    pair = Pair().start()
    pair.a.report_checks(a31=True, a41=True)
    pair.run(SECOND)
    before = len(operations(pair))
    old = service()
    heavier = replace(old, reals=(replace(old.reals[0], weight=5), old.reals[1]))
    pair.a.fold(ev.ServicesReloaded(at=pair.now, services=(heavier,)))
    pair.run(SECOND)
    assert operations(pair)[before:] == ["edit destination 192.168.2.31:80 of tcp:192.168.2.232:80"]
    assert pair.a.routes() == ["192.168.2.31:80 5", "192.168.2.41:80 1"]


def test_a_service_that_is_gone_from_the_file_is_gone_from_the_kernel() -> None:
    pair = Pair(services=(service(), service(port=8080))).start()
    pair.a.fold(ev.ServicesReloaded(at=pair.now, services=(service(port=8080),)))
    pair.run(SECOND)
    assert [entry.service.port for entry in pair.a.table] == [8080]


def test_a_broken_file_changes_nothing_and_is_said() -> None:
    pair = Pair().start()
    pair.a.fold(ev.ReloadRefused(at=pair.now, detail="ldirectord.cf:3: x"))
    assert pair.a.state.reload_trouble == "ldirectord.cf:3: x"
    assert pair.a.routes() == FALLBACK


def test_a_refused_service_fails_the_group_and_a_refused_real_does_not() -> None:
    pair = Pair()
    pair.a.refuse = lambda action: (
        isinstance(action, act.ProgramIpvs) and any(o.verb is Verb.ADD_SERVICE for o in action.operations)
    )
    pair.a.start()
    pair.b.start()
    pair.until(lambda: pair.holders() == ["server19"] and pair.settled())
    assert any("ldirectord did not start: add service tcp:192.168.2.232:80" in r for r in pair.a.reasons)
