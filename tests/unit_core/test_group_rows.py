"""Every row of the group's table as an interaction: what the core is told, what it does, what it says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hafsm.core.machines import GROUP, GroupState
from hafsm.core.settings import SECOND
from tests.unit_core.pair import A, B, Machine, Pair, act, ev

STOPPED, STARTING, STARTED = GroupState.STOPPED, GroupState.STARTING, GroupState.STARTED
STOPPING, LENT, FAILED = GroupState.STOPPING, GroupState.LENT, GroupState.FAILED

Fired = list[tuple[GroupState, str, GroupState]]
Scenario = Callable[[Fired], None]


@pytest.fixture
def fired(monkeypatch: pytest.MonkeyPatch) -> Fired:
    """What the table was asked, and what it answered, on either director."""
    asked: Fired = []
    fire = GROUP.fire

    def spy(state: GroupState, trigger: str, facts: object = None) -> GroupState:
        asked.append((state, trigger, fire(state, trigger, facts)))
        return asked[-1][2]

    monkeypatch.setattr(GROUP, "fire", spy)
    return asked


def state_of(machine: Machine) -> GroupState:
    return machine.state.groups[0].state


def asks(verb: act.ScriptVerb) -> Callable[[act.Action], bool]:
    return lambda action: isinstance(action, act.RunScript) and action.verb is verb


starts, stops = asks(act.ScriptVerb.START), asks(act.ScriptVerb.STOP)


def done(machine: Machine, since: int = 0) -> list[str]:
    """What the director did about its group from entry `since` of its log on."""
    return [
        action.verb.value if isinstance(action, act.RunScript) else type(action).__name__
        for _, actions in machine.log[since:]
        for action in actions
        if isinstance(action, act.AddAddress | act.RemoveAddress | act.RunScript | act.ProgramIpvs)
    ]


def said(machine: Machine, sentence: str) -> bool:
    return any(sentence in reason for reason in machine.reasons)


def in_flight(machine: Machine) -> int:
    return machine.state.groups[0].action


def alone(**changes: object) -> Pair:
    """A with nobody else, from the moment at which it has joined."""
    pair = Pair(**changes)
    pair.a.start(same_boot=True)
    return pair


def nothing_follows(pair: Pair, machine: Machine, event: ev.Event) -> None:
    """The event leaves the group as it is and causes nothing."""
    before, since = machine.state.groups, len(machine.log)
    machine.fold(event)
    assert len(machine.log) == since + 1, "the event was folded"
    assert machine.state.groups == before
    assert done(machine, since) == []


def late(pair: Pair, outcome: ev.Outcome, action: int = 1) -> ev.ActionFinished:
    """The end of an action that nobody waits for any more."""
    return ev.ActionFinished(at=pair.now, action=action, outcome=outcome, detail="too late")


# ---- moves


def a_stopped_group_is_taken_from_the_left(fired: Fired) -> None:
    pair = alone()
    pair.until(lambda: state_of(pair.a) is STOPPED)
    since = len(pair.a.log)
    pair.until(lambda: state_of(pair.a) is STARTING)
    assert done(pair.a, since) == ["AddAddress"], "the script waits for the address"
    pair.until(lambda: state_of(pair.a) is STARTED)
    assert done(pair.a, since) == ["AddAddress", "status", "start", "ProgramIpvs"]


def a_failed_group_is_tried_again_after_30_s(fired: Fired) -> None:
    pair = alone()
    pair.a.refuse = starts
    pair.until(lambda: state_of(pair.a) is FAILED)
    pair.a.refuse = lambda action: False
    assert pair.until(lambda: state_of(pair.a) is STARTING) == 30 * SECOND
    pair.until(lambda: state_of(pair.a) is STARTED)
    assert pair.holders() == [A]


def a_started_group_is_dropped_from_the_right(fired: Fired) -> None:
    pair = Pair().start()
    pair.lend = False
    since = len(pair.a.log)
    pair.a.fold(ev.StandbyRequested(at=pair.now, hold="all", by="root"))
    pair.until(lambda: state_of(pair.a) is STOPPING)
    assert pair.holders() == [A] and state_of(pair.b) is STOPPED
    pair.until(lambda: state_of(pair.a) is STOPPED)
    assert done(pair.a, since) == ["ProgramIpvs", "stop", "RemoveAddress"]


def a_group_is_dropped_while_it_starts(fired: Fired) -> None:
    """The start in flight is waited for: then it is known what has to be stopped."""
    pair = alone()
    pair.a.silent = starts
    pair.until(lambda: "httpd" in pair.a.scripts)
    since = len(pair.a.log)
    pair.a.fold(ev.StopRequested(at=pair.now, by="SIGTERM"))
    assert state_of(pair.a) is STARTING and done(pair.a, since) == []
    pair.a.fold(ev.ActionFinished(at=pair.now, action=in_flight(pair.a), outcome=ev.Outcome.DONE))
    assert state_of(pair.a) is STOPPING
    pair.until(lambda: bool(pair.a.exits))
    assert done(pair.a, since) == ["stop", "RemoveAddress"]
    assert not pair.a.vips() and not pair.a.scripts


def a_failed_group_that_went_to_the_peer_is_stopped(fired: Fired) -> None:
    pair = Pair()
    pair.a.refuse = starts
    pair.a.start()
    pair.b.start()
    pair.until(lambda: state_of(pair.a) is FAILED)
    pair.until(lambda: state_of(pair.a) is STOPPED)
    group = pair.a.state.groups[0]
    assert (group.failure, group.retry_at) == ("", 0), "its failure is the peer's business no more"
    pair.until(lambda: pair.holders() == [B] and pair.settled())


def a_resource_that_does_not_start_stops_the_others(fired: Fired) -> None:
    pair = alone()
    pair.a.refuse = starts
    pair.until(lambda: state_of(pair.a) is STARTING)
    since = len(pair.a.log)
    pair.until(lambda: state_of(pair.a) is STOPPING)
    assert done(pair.a, since) == ["status", "start", "stop"], "it may have started half-way, so it is stopped too"
    assert said(pair.a, "httpd start: failed (refused by the test); stopping what was started, next try in 30.0 s")


def the_last_resource_makes_a_started_group(fired: Fired) -> None:
    pair = alone()
    pair.until(lambda: state_of(pair.a) is STARTED)
    assert said(pair.a, "group IPaddr::192.168.2.232/24/eth0:0 is started")
    assert pair.holders() == [A] and pair.a.scripts == {"httpd"} and pair.a.table


def a_group_that_did_not_start_ends_failed(fired: Fired) -> None:
    pair = alone()
    pair.a.refuse = starts
    pair.until(lambda: state_of(pair.a) is FAILED)
    assert not pair.a.vips() and not pair.a.scripts and not pair.a.table
    assert pair.a.state.groups[0].failure == "httpd start: failed (refused by the test)"


def a_heartbeat_takes_a_group_when_its_first_resource_was_stopped(fired: Fired) -> None:
    pair = Pair().start()
    pair.lend = False
    pair.a.fold(ev.StandbyRequested(at=pair.now, hold="all", by="root"))
    pair.until(lambda: state_of(pair.a) is STOPPED)
    assert pair.holders() == [] and state_of(pair.b) is STOPPED
    pair.until(lambda: state_of(pair.b) is STARTED)
    assert pair.holders() == [B]


def a_lent_group_serves_when_its_scripts_are_stopped(fired: Fired) -> None:
    pair = Pair().start()
    pair.a.report_checks(a31=True, a41=True)
    since = len(pair.a.log)
    pair.a.fold(ev.StandbyRequested(at=pair.now, hold="all", by="root"))
    pair.until(lambda: state_of(pair.a) is LENT)
    assert done(pair.a, since) == ["stop"] and pair.holders() == [A] and pair.a.table
    assert said(pair.a, "group IPaddr::192.168.2.232/24/eth0:0 is lent: it serves until server19 has it")
    assert done(pair.b)[-1] == "ProgramIpvs", "the virtual services are loaded before the VIP comes"


def a_lent_group_is_released_when_the_peer_serves(fired: Fired) -> None:
    """Scripts of the taker may take their time: its VIPs and virtual services are what the giver waits for."""
    pair = Pair().start()
    pair.b.silent = starts
    since = len(pair.a.log)
    pair.a.fold(ev.StandbyRequested(at=pair.now, hold="all", by="root"))
    pair.until(lambda: pair.holders() == [A, B])
    assert pair.b.table and state_of(pair.a) is LENT
    pair.until(lambda: pair.holders() == [B], limit=SECOND)
    assert done(pair.a, since) == ["stop", "ProgramIpvs", "RemoveAddress"]
    assert said(pair.a, "server19 has the VIPs of local resources")


def a_lent_group_starts_again_when_the_taker_dies(fired: Fired) -> None:
    pair = Pair().start()
    pair.b.silent = lambda action: isinstance(action, act.AddAddress)
    since = len(pair.a.log)
    pair.a.fold(ev.StandbyRequested(at=pair.now, hold="all", by="root"))
    pair.until(lambda: state_of(pair.a) is LENT)
    pair.b.power_cut()
    pair.until(lambda: state_of(pair.a) is STARTED)
    assert done(pair.a, since) == ["stop", "AddAddress", "status", "start"], "the VIP and the table never left"
    assert pair.holders() == [A] and pair.a.table and pair.a.scripts == {"httpd"}


# ---- what changes nothing


def asking_for_a_group_that_starts(fired: Fired) -> None:
    pair = Pair()
    pair.a.silent = starts
    pair.a.start()
    pair.b.start()
    pair.until(lambda: "httpd" in pair.a.scripts)
    assert state_of(pair.a) is STARTING
    nothing_follows(pair, pair.a, ev.TakeoverRequested(at=pair.now, hold="local", by="root"))
    assert said(pair.a, "takeover local asked by root")


def asking_for_a_group_that_is_started(fired: Fired) -> None:
    pair = Pair().start()
    nothing_follows(pair, pair.a, ev.TakeoverRequested(at=pair.now, hold="local", by="root"))
    assert state_of(pair.a) is STARTED and said(pair.a, "this director holds them already")


def a_group_that_is_wanted_again_while_it_stops(fired: Fired) -> None:
    pair = Pair().start()
    pair.lend = False
    pair.a.silent = stops
    pair.a.fold(ev.StandbyRequested(at=pair.now, hold="all", by="root"))
    pair.until(lambda: state_of(pair.a) is STOPPING and in_flight(pair.a) != 0)
    pair.b.fold(ev.StopRequested(at=pair.now, by="SIGTERM"))
    pair.until(lambda: bool(pair.b.exits))
    pair.run(SECOND)
    assert state_of(pair.a) is STOPPING, "stops to the end first"
    since = len(pair.a.log)
    pair.a.silent = lambda action: False
    pair.a.fold(ev.ActionFinished(at=pair.now, action=in_flight(pair.a), outcome=ev.Outcome.DONE))
    pair.until(lambda: state_of(pair.a) is STARTED)
    assert done(pair.a, since) == ["RemoveAddress", "AddAddress", "status", "start", "ProgramIpvs"]


def giving_away_a_group_that_is_stopped(fired: Fired) -> None:
    pair = Pair().start()
    nothing_follows(pair, pair.b, ev.StandbyRequested(at=pair.now, hold="foreign", by="root"))
    assert state_of(pair.b) is STOPPED and said(pair.b, "this director holds none of them")


def stopping_the_director_while_its_group_stops(fired: Fired) -> None:
    pair = Pair().start()
    pair.a.silent = stops
    pair.a.fold(ev.StandbyRequested(at=pair.now, hold="all", by="root"))
    pair.until(lambda: state_of(pair.a) is STOPPING and in_flight(pair.a) != 0)
    nothing_follows(pair, pair.a, ev.StopRequested(at=pair.now, by="SIGTERM"))
    pair.a.fold(ev.ActionFinished(at=pair.now, action=in_flight(pair.a), outcome=ev.Outcome.DONE))
    pair.until(lambda: bool(pair.a.exits))
    assert not pair.a.vips()


def a_failure_that_comes_when_the_group_is_stopped(fired: Fired) -> None:
    pair = Pair().start()
    nothing_follows(pair, pair.b, late(pair, ev.Outcome.FAILED))
    assert state_of(pair.b) is STOPPED and said(pair.b, "action 1 failed: too late")


def a_started_group_whose_address_goes_and_cannot_be_put_back(fired: Fired) -> None:
    """It stays started, and the address is tried again at every look."""
    pair = Pair().start()
    pair.a.refuse = lambda action: isinstance(action, act.AddAddress)
    pair.a.addresses.clear()
    pair.until(lambda: said(pair.a, "failed: refused by the test"))
    assert state_of(pair.a) is STARTED and pair.holders() == []
    pair.a.refuse = lambda action: False
    pair.until(lambda: pair.holders() == [A], limit=11 * SECOND)


def a_stop_that_fails_is_tried_again(fired: Fired) -> None:
    pair = Pair().start()
    pair.lend = False
    pair.a.refuse = stops
    since = len(pair.a.log)
    pair.a.fold(ev.StandbyRequested(at=pair.now, hold="all", by="root"))
    pair.until(lambda: done(pair.a, since).count("stop") == 3)
    pair.a.refuse = lambda action: False
    assert state_of(pair.a) is STOPPING
    assert said(pair.a, "httpd stop: failed (refused by the test); trying again in 1.0 s")
    pair.until(lambda: pair.holders() == [B])
    assert done(pair.a, since) == ["ProgramIpvs", "stop", "stop", "stop", "stop", "RemoveAddress"]


def a_failure_that_comes_when_the_group_has_failed(fired: Fired) -> None:
    pair, hung = _failed_by_a_hanging_start()
    nothing_follows(pair, pair.a, late(pair, ev.Outcome.FAILED, hung))
    assert state_of(pair.a) is FAILED


def a_success_that_comes_when_the_group_is_stopped(fired: Fired) -> None:
    pair = Pair().start()
    nothing_follows(pair, pair.b, late(pair, ev.Outcome.DONE))
    assert state_of(pair.b) is STOPPED


def a_success_that_comes_when_the_group_is_started(fired: Fired) -> None:
    pair = Pair().start()
    nothing_follows(pair, pair.a, late(pair, ev.Outcome.DONE))
    assert state_of(pair.a) is STARTED


def a_success_that_comes_when_the_group_has_failed(fired: Fired) -> None:
    """A hung start was given up; that it worked after all changes nothing: it was stopped since."""
    pair, hung = _failed_by_a_hanging_start()
    nothing_follows(pair, pair.a, late(pair, ev.Outcome.DONE, hung))
    assert state_of(pair.a) is FAILED


def a_late_failure_for_a_group_that_is_lent(fired: Fired) -> None:
    pair = _lent()
    nothing_follows(pair, pair.a, late(pair, ev.Outcome.FAILED))
    assert state_of(pair.a) is LENT


def a_late_success_for_a_group_that_is_lent(fired: Fired) -> None:
    pair = _lent()
    nothing_follows(pair, pair.a, late(pair, ev.Outcome.DONE))
    assert state_of(pair.a) is LENT


def _lent() -> Pair:
    pair = Pair().start()
    pair.a.fold(ev.StandbyRequested(at=pair.now, hold="all", by="root"))
    pair.until(lambda: state_of(pair.a) is LENT)
    return pair


def _failed_by_a_hanging_start() -> tuple[Pair, int]:
    pair = alone()
    pair.a.silent = starts
    pair.until(lambda: "httpd" in pair.a.scripts)
    hung = in_flight(pair.a)
    assert pair.until(lambda: state_of(pair.a) is FAILED) >= 65 * SECOND
    assert said(pair.a, "httpd start: timed out (no result came)")
    return pair, hung


SCENARIOS: dict[tuple[GroupState, str, GroupState | None], Scenario] = {
    (STOPPED, "take", STARTING): a_stopped_group_is_taken_from_the_left,
    (FAILED, "take", STARTING): a_failed_group_is_tried_again_after_30_s,
    (STARTING, "take", None): asking_for_a_group_that_starts,
    (STARTED, "take", None): asking_for_a_group_that_is_started,
    (STOPPING, "take", None): a_group_that_is_wanted_again_while_it_stops,
    (STARTED, "drop", STOPPING): a_started_group_is_dropped_from_the_right,
    (STARTING, "drop", STOPPING): a_group_is_dropped_while_it_starts,
    (FAILED, "drop", STOPPED): a_failed_group_that_went_to_the_peer_is_stopped,
    (STOPPED, "drop", None): giving_away_a_group_that_is_stopped,
    (STOPPING, "drop", None): stopping_the_director_while_its_group_stops,
    (STARTING, "failed", STOPPING): a_resource_that_does_not_start_stops_the_others,
    (STOPPED, "failed", None): a_failure_that_comes_when_the_group_is_stopped,
    (STARTED, "failed", None): a_started_group_whose_address_goes_and_cannot_be_put_back,
    (STOPPING, "failed", None): a_stop_that_fails_is_tried_again,
    (FAILED, "failed", None): a_failure_that_comes_when_the_group_has_failed,
    (STARTING, "finished", STARTED): the_last_resource_makes_a_started_group,
    (STOPPING, "finished", FAILED): a_group_that_did_not_start_ends_failed,
    (STOPPING, "finished", STOPPED): a_heartbeat_takes_a_group_when_its_first_resource_was_stopped,
    (STOPPING, "finished", LENT): a_lent_group_serves_when_its_scripts_are_stopped,
    (LENT, "drop", STOPPING): a_lent_group_is_released_when_the_peer_serves,
    (LENT, "take", STARTING): a_lent_group_starts_again_when_the_taker_dies,
    (LENT, "failed", None): a_late_failure_for_a_group_that_is_lent,
    (LENT, "finished", None): a_late_success_for_a_group_that_is_lent,
    (STOPPED, "finished", None): a_success_that_comes_when_the_group_is_stopped,
    (STARTED, "finished", None): a_success_that_comes_when_the_group_is_started,
    (FAILED, "finished", None): a_success_that_comes_when_the_group_has_failed,
}


def test_every_row_has_its_scenario() -> None:
    assert set(SCENARIOS) == {(row.source, row.trigger, row.dest) for row in GROUP.rows}
    assert len(set(SCENARIOS.values())) == len(GROUP.rows)


@pytest.mark.parametrize(
    "row", SCENARIOS, ids=lambda row: f"{row[0].value}-{row[1]}-{row[2].value if row[2] else 'ignored'}"
)
def test_row(row: tuple[GroupState, str, GroupState | None], fired: Fired) -> None:
    """A row that moves is really fired; one that ignores is never asked, because the core knows where it stands."""
    source, trigger, dest = row
    SCENARIOS[row](fired)
    if dest is None:
        assert not any(asked[:2] == (source, trigger) for asked in fired)
    else:
        assert (source, trigger, dest) in fired
