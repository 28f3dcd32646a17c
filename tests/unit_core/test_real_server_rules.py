"""quiescent, readdquiescent, failurecount, cleanstop, maintenance files, reloads: what each makes of a real server."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from hafsm.core import reals
from hafsm.core.events import MaintenanceEntry
from hafsm.core.ipvs import digest
from hafsm.core.settings import SECOND, CheckKind, RealVerb, VirtualService
from tests.unit_core.pair import B, Machine, Pair, act, ev, service


@pytest.fixture(autouse=True)
def checks_end_when_the_test_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "first_checks", False)


KEY = "tcp:192.168.2.232:80"
R31, R41 = "192.168.2.31:80", "192.168.2.41:80"
UP = [f"{R31} 1", f"{R41} 1"]
FALLBACK = ["127.0.0.1:80 1"]


def serving(*services: VirtualService, **changes: object) -> Pair:
    pair = Pair(services=services or (service(**changes),)).start()
    for machine in (pair.a, pair.b):
        machine.report_checks(a31=True, a41=True)
    pair.run(SECOND)
    return pair


def operations(pair: Pair, since: int = 0) -> list[str]:
    return [
        str(o)
        for _, actions in pair.a.log[since:]
        for a in actions
        if isinstance(a, act.ProgramIpvs)
        for o in a.operations
    ]


def plans(machine: Machine) -> int:
    return sum(isinstance(a, act.SetChecks) for _, actions in machine.log for a in actions)


def reload(pair: Pair, *services: VirtualService) -> list[str]:
    since = len(pair.a.log)
    pair.a.fold(ev.ServicesReloaded(at=pair.now, services=services))
    pair.run(SECOND)
    return operations(pair, since)


def listed(pair: Pair, *entries: MaintenanceEntry, trouble: str = "") -> None:
    pair.a.fold(ev.MaintenanceListed(at=pair.now, entries=entries, trouble=trouble))
    pair.run(SECOND)


def place(address: str, port: int = 0) -> MaintenanceEntry:
    return MaintenanceEntry(name=address, addresses=(address,), port=port)


def test_a_server_whose_check_is_another_now_is_known_by_the_first_that_passes() -> None:
    """Before that a single failure decides; after it failurecount does, as ever."""
    pair = serving(failurecount=2)
    (old,) = pair.a.state.settings.services
    slower = [replace(real, check=replace(real.check, interval_ns=2 * SECOND)) for real in old.reals if real.check]
    reload(pair, replace(old, reals=tuple(slower)))
    assert not pair.a.state.reals[0].known
    pair.a.report_checks(a31=True, a41=True)
    assert pair.a.state.reals[0].known
    pair.a.report_checks(a31=False, a41=True)
    pair.run(SECOND)
    assert pair.a.routes() == UP
    pair.a.report_checks(a31=False, a41=True)
    pair.run(SECOND)
    assert pair.a.routes() == [f"{R41} 1"]


# ---- not known yet


def test_with_readdquiescent_who_is_not_known_up_has_weight_0() -> None:
    pair = Pair(services=(service(quiescent=True, readd_quiescent=True),)).start()
    assert sorted(pair.a.routes()) == sorted([*FALLBACK, f"{R31} 0", f"{R41} 0"])
    pair.a.report_checks(a31=True)
    pair.run(SECOND)
    assert sorted(pair.a.routes()) == [f"{R31} 1", f"{R41} 0"]


@pytest.mark.parametrize(("quiescent", "readd"), [(True, False), (False, True), (False, False)])
def test_otherwise_who_is_not_known_up_is_absent(quiescent: bool, readd: bool) -> None:
    pair = Pair(services=(service(quiescent=quiescent, readd_quiescent=readd),)).start()
    assert pair.a.routes() == FALLBACK
    pair.a.report_checks(a31=False)
    pair.run(SECOND)
    assert pair.a.routes() == FALLBACK, "nothing flashes through the table"


def test_each_service_counts_failures_for_itself() -> None:
    pair = serving(service(failurecount=3), service(port=81, failurecount=1))
    other = replace(service(port=81, failurecount=1), reals=service().reals)
    pair = serving(service(failurecount=3), other)
    assert len(pair.a.state.checks) == 2, "one check serves both"
    pair.a.report_checks(a31=False)
    pair.run(SECOND)
    assert [len(entry.destinations) for entry in pair.a.table] == [2, 1]
    pair.a.report_checks(a31=False)
    pair.a.report_checks(a31=False)
    pair.run(SECOND)
    assert [len(entry.destinations) for entry in pair.a.table] == [1, 1]


# ---- cleanstop=no


def test_a_service_with_cleanstop_no_stays_and_the_next_life_finds_it_without_a_change() -> None:
    pair = serving(clean_stop=False, quiescent=True)
    pair.a.report_checks(a41=False)
    pair.run(SECOND)
    left = pair.a.table
    pair.a.fold(ev.StopRequested(at=pair.now, by="SIGTERM"))
    pair.until(lambda: bool(pair.a.exits))
    assert pair.a.table == left and not pair.a.vips()
    since = len(pair.a.log)
    pair.a.start(same_boot=True)
    pair.until(lambda: pair.holders() == [pair.a.name] and pair.settled())
    assert operations(pair, since) == [] and pair.a.table == left
    assert any("an earlier life left 2 real servers in the table" in r for r in pair.a.reasons)
    pair.a.report_checks(a31=False, a41=True)
    pair.run(SECOND)
    assert sorted(pair.a.routes()) == [f"{R31} 0", f"{R41} 1"], "the first result decides, in either direction"


def test_a_server_left_serving_goes_at_its_first_failure_whatever_failurecount_says() -> None:
    pair = serving(clean_stop=False, failurecount=5)
    pair.a.kill()
    pair.run(SECOND)
    pair.a.start(same_boot=True)
    pair.until(lambda: pair.holders() == [pair.a.name] and pair.settled())
    assert pair.a.routes() == UP
    pair.a.report_checks(a31=False)
    pair.run(SECOND)
    assert pair.a.routes() == [f"{R41} 1"]
    pair.a.report_checks(a41=True)
    pair.a.report_checks(a41=False)
    pair.run(SECOND)
    assert pair.a.routes() == [f"{R41} 1"], "known now: four more are needed"


def test_a_strangers_entry_in_a_service_left_behind_is_cleaned_and_an_unconfigured_service_too() -> None:
    pair = serving(clean_stop=False)
    pair.a.kill()
    entry = pair.a.table[0]
    stranger = replace(entry.destinations[0], address="192.168.2.99")
    gone = replace(entry, service=replace(entry.service, port=81))
    pair.a.table = (replace(entry, destinations=(*entry.destinations, stranger)), gone)
    pair.a.config = replace(pair.a.config, services=(service(clean_stop=False),))
    pair.a.start(same_boot=True)
    pair.until(lambda: pair.a.routes() == UP)


def test_a_service_with_cleanstop_no_goes_when_the_file_drops_it() -> None:
    pair = serving(service(clean_stop=False), service(port=81))
    assert reload(pair, service(port=81)) == [f"delete service {KEY}"]


def test_a_standby_keeps_what_stays_in_its_table_right() -> None:
    pair = serving(clean_stop=False)
    pair.a.fold(ev.StandbyRequested(at=pair.now, hold="all", by="root"))
    pair.until(lambda: pair.holders() == [B] and pair.settled())
    assert sorted(pair.a.routes()) == UP == sorted(pair.b.routes())
    pair.a.report_checks(a31=False)
    pair.run(SECOND)
    assert pair.a.routes() == [f"{R41} 1"]


# ---- maintenance files


@pytest.mark.parametrize(("quiescent", "left"), [(True, [f"{R31} 0", f"{R41} 1"]), (False, [f"{R41} 1"])])
@pytest.mark.parametrize("port", [0, 80])
def test_a_maintenance_file_takes_out_at_once_and_the_next_passed_check_brings_back(
    quiescent: bool, left: list[str], port: int
) -> None:
    pair = serving(quiescent=quiescent, failurecount=9)
    listed(pair, place("192.168.2.31", port))
    assert pair.a.routes() == left
    pair.a.report_checks(a31=True)
    pair.run(SECOND)
    assert pair.a.routes() == left
    listed(pair)
    assert pair.a.routes() == left, "not before a check has passed"
    pair.a.report_checks(a31=True)
    pair.run(SECOND)
    assert sorted(pair.a.routes()) == UP


def test_another_port_and_a_name_that_resolves_to_nobody_mean_nobody() -> None:
    pair = serving()
    listed(pair, place("192.168.2.31", 81), MaintenanceEntry(name="README", addresses=()))
    assert pair.a.routes() == UP
    assert "maintenance file README names nobody: it does not resolve to an address" in pair.a.reasons[-1]


def test_a_folder_that_cannot_be_read_changes_nobodys_state() -> None:
    pair = serving()
    listed(pair, place("192.168.2.31"))
    listed(pair, trouble="/m cannot be read: stale file handle")
    pair.a.report_checks(a31=True)
    pair.run(SECOND)
    assert pair.a.routes() == [f"{R41} 1"]
    assert "who was in maintenance stays there" in "".join(pair.a.reasons)
    listed(pair)
    pair.a.report_checks(a31=True)
    pair.run(SECOND)
    assert sorted(pair.a.routes()) == UP


def test_maintenance_and_an_operator_both_have_to_let_go() -> None:
    pair = serving()

    def say(verb: RealVerb) -> None:
        pair.a.fold(ev.RealRequested(at=pair.now, verb=verb, targets=((KEY, R31),), by="alice", wall_ns=0))

    say(RealVerb.DRAIN)
    listed(pair, place("192.168.2.31"))
    say(RealVerb.ENABLE)
    pair.a.report_checks(a31=True)
    pair.run(SECOND)
    assert f"{R31} 1" not in pair.a.routes()
    listed(pair)
    pair.a.report_checks(a31=True)
    pair.run(SECOND)
    assert sorted(pair.a.routes()) == UP
    say(RealVerb.DRAIN)
    listed(pair, place("192.168.2.31"))
    listed(pair)
    pair.a.report_checks(a31=True)
    pair.run(SECOND)
    assert f"{R31} 1" not in pair.a.routes()


def test_a_server_that_is_never_checked_is_back_as_soon_as_its_file_is_gone() -> None:
    spec = replace(service().reals[0].check, kind=CheckKind.ALWAYS_UP)
    pair = serving(reals=(replace(service().reals[0], check=spec),))
    assert pair.a.routes() == UP[:1]
    listed(pair, place("192.168.2.31"))
    assert pair.a.routes() == FALLBACK
    listed(pair)
    assert pair.a.routes() == UP[:1]


def test_maintenance_survives_a_reload_and_covers_a_server_that_it_brings() -> None:
    pair = serving()
    listed(pair, place("192.168.2.31"), place("192.168.2.51"))
    old = service()
    new = replace(old.reals[0], address="192.168.2.51", check=replace(old.reals[0].check, address="192.168.2.51"))
    reload(pair, replace(old, reals=(*old.reals, new)))
    pair.a.report_checks(a31=True, a41=True, a51=True)
    pair.run(SECOND)
    assert pair.a.routes() == [f"{R41} 1"]


# ---- reloads


def test_a_reload_without_a_difference_asks_the_kernel_and_the_checkers_nothing() -> None:
    pair = serving()
    before = plans(pair.a)
    assert reload(pair, service()) == []
    assert plans(pair.a) == before


def test_one_changed_line_is_one_operation_and_no_new_plan_unless_checks_change() -> None:
    pair = serving(service(), service(port=81))
    before = plans(pair.a)
    old = service(port=81)
    heavier = replace(old, reals=(old.reals[0], replace(old.reals[1], weight=5)))
    assert reload(pair, service(), heavier) == [f"edit destination {R41} of tcp:192.168.2.232:81"]
    assert plans(pair.a) == before
    assert reload(pair, replace(service(), scheduler="wlc"), heavier) == [f"edit service {KEY}"]
    assert reload(pair, service(port=82), replace(service(), scheduler="wlc"), heavier) == [
        "add service tcp:192.168.2.232:82",
        f"add destination {FALLBACK[0][:-2]} of tcp:192.168.2.232:82",
    ], "a service put above the others, with the same servers, moves nobody"


def test_a_changed_check_keeps_the_server_serving_until_its_first_result() -> None:
    pair = serving(failurecount=4)
    old = service(failurecount=4)
    asked = replace(old.reals[0], check=replace(old.reals[0].check, request="/other"))
    assert reload(pair, replace(old, reals=(asked, old.reals[1]))) == []
    pair.a.report_checks(a31=False)
    pair.run(SECOND)
    assert pair.a.routes() == [f"{R41} 1"], "the new question was answered wrongly: that decides"


def test_quiescent_turned_off_deletes_who_is_down_and_turned_on_adds_nobody() -> None:
    pair = serving(quiescent=True)
    pair.a.report_checks(a31=False)
    pair.run(SECOND)
    assert reload(pair, service()) == [f"delete destination {R31} of {KEY}"]
    assert reload(pair, service(quiescent=True)) == []
    assert reload(pair, service(quiescent=True, readd_quiescent=True)) == [f"add destination {R31} of {KEY}"]


def test_on_and_off_take_effect_at_the_reload() -> None:
    pair = serving()
    old = service()

    def fixed(kind: CheckKind) -> VirtualService:
        first = replace(old.reals[0], check=replace(old.reals[0].check, kind=kind))
        return replace(old, reals=(first, old.reals[1]))

    assert reload(pair, fixed(CheckKind.ALWAYS_DOWN)) == [f"delete destination {R31} of {KEY}"]
    assert reload(pair, fixed(CheckKind.ALWAYS_UP)) == [f"add destination {R31} of {KEY}"]
    assert reload(pair, old) == [], "checked again: it serves until the first result"


def test_a_server_named_twice_in_a_section_is_one_entry() -> None:
    old = service()
    pair = serving(replace(old, reals=(*old.reals, old.reals[0])))
    assert sorted(pair.a.routes()) == UP
    pair.run(30 * SECOND)
    assert len(operations(pair)) < 10, "nothing goes back and forth"


# ---- the naive twin


def test_the_table_kept_step_by_step_is_the_one_made_anew() -> None:
    for seed in range(12):
        dice = random.Random(seed)
        services = tuple(
            service(port=80 + n, quiescent=dice.random() < 0.5, readd_quiescent=dice.random() < 0.5, failurecount=n + 1)
            for n in range(3)
        )
        pair = serving(*services)
        for _ in range(40):
            match dice.randrange(6):
                case 0:
                    address = f"192.168.2.{dice.choice((31, 41))}"
                    listed(pair, *([place(address)] if dice.random() < 0.5 else []))
                case 1:
                    services = tuple(
                        replace(s, reals=tuple(replace(r, weight=dice.randrange(3)) for r in s.reals))
                        if dice.random() < 0.5
                        else s
                        for s in services
                    )
                    reload(pair, *services)
                case 2:
                    verb = dice.choice(list(RealVerb))
                    target = (services[dice.randrange(3)].key, dice.choice((R31, R41)))
                    weight = dice.randrange(3)
                    pair.a.fold(
                        ev.RealRequested(at=pair.now, verb=verb, targets=(target,), by="x", wall_ns=0, weight=weight)
                    )
                case _:
                    pair.a.report_checks(a31=dice.random() < 0.6, a41=dice.random() < 0.6)
            pair.run(dice.choice((1, 1, 12)) * SECOND)
            state = pair.a.state
            position = 0
            anew = []
            for index, one in enumerate(state.settings.services):
                entry, count = reals.entry_of(one, state.reals[position : position + len(one.reals)])
                position += len(one.reals)
                anew.append(entry)
                assert state.serving[index] == count, seed
            assert digest(tuple(anew)) == digest(state.table) == digest(pair.a.table), seed
