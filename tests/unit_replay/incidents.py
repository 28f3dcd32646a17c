"""Incidents of the scripted pair, as journals of both directors. Times are seconds after both have settled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from hafsm.core import actions as act
from hafsm.core.settings import MILLISECOND, SECOND, RealVerb
from journal.export import export
from tests.unit_core.pair import Machine, Pair, ev, service
from tests.unit_replay.recording import record, true_clock

AHEAD_NS = 3_500_000
"""server19's wall clock is this much ahead."""
HALF_PAST_ELEVEN = 1_700_004_600 * SECOND
VIP = "192.168.2.232"
VIP_NAME = "192.168.2.232/24 (eth0:0)"


class Incident(NamedTuple):
    pair: Pair
    a: Path
    """server40's journal, the preferred director."""
    b: Path
    """server19's."""


def save(pair: Pair, folder: Path, ahead_ns: int = AHEAD_NS) -> Incident:
    files = []
    for machine, ahead in ((pair.a, 0), (pair.b, ahead_ns)):
        record(folder / machine.name, machine, clock=lambda at, number, ahead=ahead: true_clock(at, number) + ahead)
        files.append(folder / f"{machine.name}.db")
        export(folder / machine.name, files[-1])
    return Incident(pair, files[0], files[1])


def checks(pair: Pair, seconds: int, **outcomes: bool) -> None:
    """Let time pass; every second both directors hear of their checks."""
    for _ in range(seconds):
        pair.run(SECOND)
        for machine in (pair.a, pair.b):
            machine.report_checks(**(outcomes or {"a31": True, "a41": True}))


def quiet(**changes: object) -> Pair:
    """A settled pair with a quiet history of 20 s."""
    pair = Pair(**changes)
    for machine in (pair.a, pair.b):
        machine.first_checks = False
    pair.start()
    for machine in (pair.a, pair.b):
        machine.first_checks = True  # in later lives: what has just started agrees to nothing before
    checks(pair, 20)
    return pair


def power_cut(**changes: object) -> Pair:
    pair = quiet(**changes)
    pair.a.power_cut()
    checks(pair, 40)
    return pair


def power_cut_and_back() -> Pair:
    pair = power_cut()
    pair.a.start()
    pair.until(pair.settled)
    pair.run(5 * SECOND)
    return pair


def partition(seconds: int = 45, **changes: object) -> Pair:
    pair = quiet(**changes)
    pair.partition()
    checks(pair, seconds)
    pair.heal()
    checks(pair, 20)
    return pair


def lost_ping(**changes: object) -> Pair:
    """Ends before server40 has lost everything: its groups are on server19."""
    pair = quiet(**changes)
    pair.a.sees_gateway = False
    pair.until(lambda: pair.holders() == [pair.b.name])
    return pair


def failing_real(failurecount: int = 3, failures: int = 5, **changes: object) -> Pair:
    pair = quiet(services=(service(failurecount=failurecount),), **changes)
    checks(pair, failures, a31=False, a41=True)
    checks(pair, 3)
    return pair


def frozen_director() -> Pair:
    pair = quiet()
    pair.a.frozen = True
    pair.run(40 * SECOND)
    pair.a.thaw()
    pair.run(20 * SECOND)
    return pair


def operator_standby() -> Pair:
    pair = quiet()
    pair.a.fold(ev.StandbyRequested(at=pair.now, hold="all", by="alice"))
    pair.run(5 * SECOND)
    return pair


def slow_script() -> Pair:
    """A hand-over in which stopping httpd takes 8 s."""
    pair = quiet()
    finish = pair.a.finish

    def slow(action: act.Action, outcome: ev.Outcome = ev.Outcome.DONE, **fields: object) -> None:
        stops = isinstance(action, act.RunScript) and action.verb is act.ScriptVerb.STOP
        pair.after(8 * SECOND if stops else 0, lambda: finish(action, outcome, **fields))

    pair.a.finish = slow  # type: ignore[method-assign]
    pair.a.fold(ev.StandbyRequested(at=pair.now, hold="all", by="alice"))
    pair.run(15 * SECOND)
    return pair


def lost_offer() -> Pair:
    """An operator's hand-over whose offer never reaches the other director."""
    pair = quiet()
    pair.lose = lambda message: message.kind == "ask_resources"
    pair.a.fold(ev.StandbyRequested(at=pair.now, hold="all", by="alice"))
    pair.run(12 * SECOND)
    return pair


def slow_disk() -> Pair:
    """server19's journal is slow and its loop late while server40 is silent; some datagrams are refused."""
    pair = quiet()
    pair.a.power_cut()
    checks(pair, 10)
    pair.b.fold(ev.JournalLagged(at=pair.now, number=pair.b.state.number, waited_ns=250 * MILLISECOND))
    pair.b.fold(ev.DatagramsRefused(at=pair.now, counts=(("bad_digest", 7),)))
    pair.b.frozen = True
    pair.run(3 * SECOND)
    pair.b.thaw()
    checks(pair, 40)
    return pair


def stopped() -> Pair:
    pair = quiet()
    pair.a.fold(ev.StopRequested(at=pair.now, by="SIGTERM"))
    pair.until(lambda: bool(pair.a.exits))
    pair.run(5 * SECOND)
    return pair


def with_late_checks() -> Pair:
    """A checker that brings results only every 10 s while the real server fails."""
    pair = quiet()
    pair.run(10 * SECOND)
    for machine in (pair.a, pair.b):
        machine.report_checks(a31=False, a41=True)
    pair.run(SECOND)
    return pair


def say(machine: Machine, verb: RealVerb, real: str = "192.168.2.31:80", *, weight: int = 0, reason: str = "") -> None:
    """An operator's word on a real server, at half past eleven."""
    machine.fold(
        ev.RealRequested(
            at=machine.pair.now,
            verb=verb,
            targets=((service().key, real),),
            by="alice",
            wall_ns=HALF_PAST_ELEVEN,
            weight=weight,
            reason=reason,
        )
    )


def drained() -> Pair:
    """On the director that serves; its last connection ends later."""
    pair = quiet()
    pair.a.busy = {(service().key, "192.168.2.31:80")}
    say(pair.a, RealVerb.DRAIN, reason="new disk")
    checks(pair, 15)
    pair.a.busy = set()
    checks(pair, 15)
    return pair


def drained_on_the_other() -> Pair:
    pair = quiet()
    say(pair.b, RealVerb.DRAIN, reason="new disk")
    checks(pair, 5)
    return pair


def drained_before_a_restart() -> Pair:
    pair = drained_on_the_other()
    pair.a.power_cut()
    checks(pair, 40)
    pair.a.start()
    pair.until(pair.settled)
    checks(pair, 5)
    return pair


def every_word() -> Pair:
    """quiesce, enable, weight, enable."""
    pair = quiet()
    for verb, weight in ((RealVerb.QUIESCE, 0), (RealVerb.ENABLE, 0), (RealVerb.WEIGHT, 5), (RealVerb.ENABLE, 0)):
        say(pair.a, verb, weight=weight)
        checks(pair, 5)
    return pair


def in_maintenance() -> Pair:
    """A file for one real server, gone after 5 s."""
    pair = quiet()
    entry = ev.MaintenanceEntry(name="web1.example.com", addresses=("192.168.2.31",))
    for entries in ((entry,), ()):
        for machine in (pair.a, pair.b):
            machine.fold(ev.MaintenanceListed(at=pair.now, entries=entries))
        checks(pair, 5)
    return pair


def weight_set_by_hand() -> Pair:
    """With ipvsadm, on the director that serves."""
    pair = quiet()
    (entry,) = pair.a.table
    first, *others = entry.destinations
    pair.a.table = (replace(entry, destinations=(replace(first, weight=9), *others)),)
    checks(pair, 15)
    return pair


def lapsed() -> Pair:
    """server40's kernel refuses every renewal until the lease has run out."""
    pair = quiet(lease_ns=20 * SECOND)
    pair.a.refuse = lambda action: isinstance(action, act.RenewAddresses)
    pair.until(lambda: bool(pair.a.exits))
    pair.a.refuse = lambda action: False
    pair.until(lambda: pair.holders() == [pair.b.name])
    return pair


def reloaded() -> Pair:
    """The file loses one real server and gives the other another weight; then the last one fails."""
    pair = quiet(services=(service(fallback_command="/usr/local/sbin/sorry"),))
    left = replace(service().reals[1], weight=3)
    fewer = replace(service(fallback_command="/usr/local/sbin/sorry"), reals=(left,))
    for machine in (pair.a, pair.b):
        machine.fold(ev.ServicesReloaded(at=pair.now, services=(fewer,)))
    checks(pair, 5, a41=True)
    checks(pair, 5, a41=False)
    return pair


ALL: dict[str, Callable[[], Pair]] = {
    function.__name__: function
    for function in (
        power_cut,
        power_cut_and_back,
        partition,
        lost_ping,
        failing_real,
        frozen_director,
        operator_standby,
        slow_script,
        lost_offer,
        slow_disk,
        stopped,
        with_late_checks,
        drained,
        drained_on_the_other,
        drained_before_a_restart,
        every_word,
        in_maintenance,
        weight_set_by_hand,
        lapsed,
        reloaded,
    )
}


def machine_of(incident: Incident, name: str) -> Machine:
    return incident.pair.a if incident.pair.a.name == name else incident.pair.b


def recorder(folder: Callable[[str], Path]) -> Callable[[str], Incident]:
    """Records each of `ALL` once, when it is asked for first, into a folder of that name."""
    kept: dict[str, Incident] = {}

    def get(name: str) -> Incident:
        if name not in kept:
            kept[name] = save(ALL[name](), folder(name))
        return kept[name]

    return get
