"""`tests.kernel.explain` can say no: to changes whose cause is missing, came later, or asked for something else."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from hafsm.core.actions import AddAddress
from hafsm.core.events import ActionFinished
from hafsm.core.settings import SECOND, Address
from journal.folder import segments
from journal.records import ActionRecord, EventRecord
from tests.kernel.explain import NEVER, Cause, Change, Life, Seen, Told, Why, explain
from tests.unit_core.pair import Pair
from tests.unit_replay.recording import record

BOOT = "0b5e6c1e-boot"
VIP = "192.168.2.232/24"
WEB = "tcp:192.168.2.232:80"
REAL = f"192.168.2.31:80 of {WEB}"
MILLISECOND = 1_000_000


def came(thing: str = VIP, value: str = "held", at_ms: int = 1000, **more: Any) -> Change:
    return Change(BOOT, (at_ms - 10) * MILLISECOND, at_ms * MILLISECOND, thing, value, **more)


def asked(thing: str = VIP, value: str | None = "held", from_ms: int = 990, until_ms: int = 1005, **more: Any) -> Cause:
    return Cause(BOOT, from_ms * MILLISECOND, until_ms * MILLISECOND, thing, value, "event 7 add_address", **more)


def at(change: Change, at_ms: int) -> Change:
    return replace(change, since=(at_ms - 10) * MILLISECOND, at=at_ms * MILLISECOND)


def unexplained(change: Change, *causes: Cause) -> str:
    """What is said of a change that must have no cause."""
    verdict = explain([change], causes)
    assert verdict.unexplained == [change] and not verdict.explained
    return verdict.text[0]


def test_a_change_that_was_asked_for_before() -> None:
    verdict = explain([came(), came(REAL, "Route 1")], [asked(), asked(REAL, "Route 1")])
    assert verdict.explained == {Why.JOURNAL: 2} and not verdict.unexplained


def test_a_change_that_nobody_asked_for() -> None:
    text = unexplained(came(), asked("192.168.2.233/24"))
    assert text.startswith(f"no cause: {VIP}: not there → held, seen at 1.000 s, not before 0.990 s")
    assert "nobody ever asked" in text


def test_a_cause_that_came_after_its_change() -> None:
    text = unexplained(came(at_ms=1000), asked(from_ms=1012, until_ms=1020))
    assert "event 7 add_address, 12.0 ms after it: 192.168.2.232/24 held; ended 8.0 ms later" in text


def test_a_cause_that_had_ended_before_its_change_began() -> None:
    assert "300.0 ms before it" in unexplained(came(), asked(from_ms=700, until_ms=705))


def test_a_cause_in_another_boot() -> None:
    other = Cause("another-boot", 0, NEVER, VIP, "held", "event 7 add_address")
    assert "nobody ever asked" in unexplained(came(), other)


def test_a_weight_that_was_not_the_one_asked_for() -> None:
    assert "Route 1" in unexplained(came(REAL, "Route 0", before="Route 1"), asked(REAL, "Route 1"))


def test_a_renewal_brings_no_address() -> None:
    unexplained(came(), asked(value="renewed"))


def test_a_service_takes_its_real_servers_along_and_brings_none() -> None:
    gone = came(REAL, "", before="Route 1")
    assert explain([gone], [asked(WEB, "")]).explained == {Why.JOURNAL: 1}
    unexplained(came(REAL, "Route 1"), asked(WEB, "rr"))
    unexplained(gone, asked("tcp:192.168.2.232:8", ""))


def test_a_lease_ends_when_it_ends_and_not_before() -> None:
    ended = came(value="", before="held", lease_ends=1000 * MILLISECOND)
    assert explain([ended], []).explained == {Why.LEASE: 1}
    unexplained(came(value="", before="held", lease_ends=1500 * MILLISECOND))


# ---- what is read


def seen(*lines: list[Any], wall_ns: int = 0) -> Seen:
    found, own = Seen(), ["127.0.0.1/8", "10.0.0.1/8"]
    found.read([["began", SECOND, BOOT, wall_ns, own, {}], *lines], own)
    return found


def test_an_onlookers_lines_become_changes() -> None:
    table = {WEB: ["rr", {"192.168.2.31:80": "Route 1"}]}
    changes = seen(
        ["held", 2 * SECOND, 3 * SECOND, VIP, 3],
        ["held", 4 * SECOND, 5 * SECOND, VIP, 3],
        ["alive", 6 * SECOND, 0],
        ["gone", 7 * SECOND, 8 * SECOND, VIP],
        ["table", 8 * SECOND, 9 * SECOND, table],
        ["table", 9 * SECOND, 10 * SECOND, {WEB: ["rr", {"192.168.2.31:80": "Route 0"}]}],
        ["table", 10 * SECOND, 11 * SECOND, {}],
    ).changes
    assert [(change.thing, change.value, change.before) for change in changes] == [
        (VIP, "held", ""),
        (VIP, "renewed", "held"),
        (VIP, "", "held"),
        (REAL, "Route 1", ""),
        (WEB, "rr", ""),
        (REAL, "Route 0", "Route 1"),
        (REAL, "", "Route 0"),
        (WEB, "", "rr"),
    ]
    assert changes[2].lease_ends == 7 * SECOND, "renewed after second 4, for 3"


def test_what_a_kernel_begins_with_is_a_change_too() -> None:
    found = Seen()
    found.read([["began", SECOND, BOOT, 0, [VIP], {WEB: ["rr", {}]}]], [])
    assert [(change.thing, change.value) for change in found.changes] == [(VIP, "held"), (WEB, "rr")]


def test_an_onlooker_that_was_deaf_is_told() -> None:
    assert seen(["deaf", 2 * SECOND]).deaf == 1


def with_outcome(event: EventRecord, actions: list[ActionRecord]) -> tuple[EventRecord, list[ActionRecord]]:
    """The columns that the daemon's loop fills in."""
    if event.kind != "action_finished":
        return event, actions
    result = json.loads(event.payload)
    return event._replace(action_id=result["action"], outcome=result["outcome"]), actions


def test_a_journals_actions_are_causes_until_their_results(tmp_path: Path) -> None:
    machine = Pair().start().a
    record(tmp_path, machine, change=with_outcome)
    told = Told()
    told.read(segments(tmp_path))
    decided, action = next((e.at, a) for e, actions in machine.log for a in actions if isinstance(a, AddAddress))
    ended = next(e.at for e, _ in machine.log if isinstance(e, ActionFinished) and e.action == action.id)
    thing = f"{action.address.ip}/{action.address.prefix}"
    mine = [cause for cause in told.causes if (cause.thing, cause.value) == (thing, "held")]
    assert [(cause.boot, cause.decided, cause.ended, cause.why) for cause in mine] == [
        ("boot", decided, ended, Why.JOURNAL)
    ]
    assert any(" of " in cause.thing and cause.value == "Route 1" for cause in told.causes), "and of the table"
    change = Change("boot", decided, ended, thing, "held")
    assert explain([change], told.causes).explained == {Why.JOURNAL: 1}
    without = [cause for cause in told.causes if cause not in mine]
    assert explain([change], without).unexplained == [change]


def test_an_action_without_result_may_be_done_until_the_next_life_in_this_boot() -> None:
    action = AddAddress(id=5, address=Address(ip="192.168.2.232", prefix=24, interface="eth0"), lease_s=3)
    cut = Life(BOOT, SECOND, 9, {5: (7, 2 * SECOND, action)})
    elsewhere, following = Life("another-boot", 1, 10), Life(BOOT, 60 * SECOND, 11)
    for lives, ended in (([cut], NEVER), ([cut, elsewhere], NEVER), ([cut, elsewhere, following], 60 * SECOND)):
        told = Told(lives=[Life(life.boot, life.first_at, life.last_seq, dict(life.open)) for life in lives])
        told.read([])
        assert [cause.ended for cause in told.causes if cause.value == "held"] == [ended]


# ---- what only the log says


START_NS = 1_795_565_656 * SECOND


def line(at_s: float, text: str) -> str:
    """As the daemon writes it; monotonic second 1 is START_NS."""
    wall_s = START_NS / SECOND + at_s - 1
    shown = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(wall_s))
    return f"{shown},{round(wall_s % 1 * 1000):03d} {text}"


def told(*lines: str, last_seq: int) -> list[Cause]:
    """With a life that began at second 2 and whose journal ends with `last_seq`, and one that began at second 60."""
    found = Told(lives=[Life(BOOT, 2 * SECOND, last_seq), Life(BOOT, 60 * SECOND, last_seq + 50)])
    found.hear(lines, seen(wall_ns=START_NS), 25 * MILLISECOND)
    return found.causes


def test_a_release_after_a_crash_takes_and_gives_nothing() -> None:
    said = line(10, "ERROR hafsm.supervisor: the core ended with signal 9: releasing what it held")
    causes = told(said, last_seq=7)
    gone = came(value="", before="held", at_ms=10_050)
    assert explain([gone], causes).explained == {Why.RELEASE: 1}
    unexplained(came(at_ms=10_050), *causes)
    unexplained(at(gone, 9_900), *causes)
    unexplained(at(gone, 61_000), *causes)


def test_a_decision_that_the_cut_took_may_be_carried_out_when_patience_is_over() -> None:
    causes = told(line(10, "INFO hafsm: 8: taking the local resources"), last_seq=7)
    assert explain([came(at_ms=10_040)], causes).explained == {Why.LATE_DISK: 1}
    unexplained(came(at_ms=10_015), *causes)
    unexplained(came(at_ms=61_000), *causes)


def test_a_late_disk_excuses_what_follows_until_it_answers() -> None:
    said = line(10, "INFO hafsm: 9: the journal took 30 ms: event 8 did not wait for it")
    assert explain([came(at_ms=10_001)], told(said, last_seq=7)).explained == {Why.LATE_DISK: 1}
    unexplained(came(at_ms=9_900), *told(said, last_seq=7))
    assert told(said, last_seq=8) == [], "event 8 is on disk: the journal itself must have what was done"
