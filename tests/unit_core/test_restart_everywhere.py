"""A node that is restarted after any single action of a hand-over: the pair settles all the same, with one holder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import pytest
from msgspec.structs import replace

from hafsm.core.settings import MILLISECOND, SECOND
from hafsm.core.state import initial
from hafsm.core.step import step
from tests.unit_core.pair import A, B, Machine, Pair, act, ev, settings

PAUSE = 10 * MILLISECOND
"""Between the end of a life and the next one: less than deadtime, so that the peer meets a restart, not a death."""
SETTLED_WITHIN = 300 * SECOND


class End(Enum):
    """How a life ends."""

    POWER_CUT = "power cut"
    """The kernel's addresses, table and scripts are gone."""
    KILLED = "killed"
    """They stay as they are."""


@dataclass(frozen=True)
class Script:
    """A hand-over: what comes before it, its first step, and the seconds that it takes at most undisturbed."""

    name: str
    prepare: Callable[[Pair], object]
    begin: Callable[[Pair], object]
    seconds: int


def ask_standby(pair: Pair) -> None:
    pair.a.fold(ev.StandbyRequested(at=pair.now, hold="all", by="root"))


def ask_takeover(pair: Pair) -> None:
    pair.b.fold(ev.TakeoverRequested(at=pair.now, hold="all", by="root"))


def stop(pair: Pair) -> None:
    pair.a.fold(ev.StopRequested(at=pair.now, by="SIGTERM"))


def lose_a(pair: Pair) -> None:
    pair.start()
    pair.a.power_cut()
    pair.until(lambda: pair.holders() == [B])


def start_both(pair: Pair) -> None:
    pair.a.start()
    pair.b.start()


def break_a(pair: Pair) -> None:
    pair.a.refuse = lambda action: isinstance(action, act.RunScript) and action.verb is act.ScriptVerb.START


SCRIPTS = (
    Script("standby", Pair.start, ask_standby, 5),
    Script("takeover", Pair.start, ask_takeover, 5),
    Script("graceful stop", Pair.start, stop, 5),
    Script("failback", lose_a, lambda pair: pair.a.start(), 8),
    Script("simultaneous start", lambda pair: None, start_both, 5),
    Script("failed start", break_a, start_both, 40),
)


def victim_of(pair: Pair, name: str) -> Machine:
    return pair.a if name == A else pair.b


def count_actions(script: Script, name: str) -> int:
    """How many actions the node performs from the script's first step until the pair is at rest."""
    pair = Pair()
    script.prepare(pair)
    done = tap(victim_of(pair, name), lambda: None, 0)
    script.begin(pair)
    pair.run(script.seconds * SECOND)
    return len(done)


def tap(machine: Machine, after: Callable[[], None], number: int) -> list[act.Action]:
    """Collect what the machine performs from now on; `after` is called behind action `number`, counted from 1."""
    done: list[act.Action] = []
    perform = machine.perform

    def counted(action: act.Action) -> None:
        if not machine.running:
            return  # decided by the life that has just ended
        perform(action)
        done.append(action)
        if len(done) == number:
            after()

    machine.perform = counted  # type: ignore[method-assign]
    return done


@pytest.mark.parametrize("end", End, ids=lambda end: end.value)
@pytest.mark.parametrize("name", [A, B])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_the_pair_settles(script: Script, name: str, end: End) -> None:
    total = count_actions(script, name)
    assert total >= 5, "a hand-over is more than a heartbeat"
    for number in range(1, total + 1):
        restart_after(script, name, end, number)


def restart_after(script: Script, name: str, end: End, number: int) -> None:
    pair = Pair()
    script.prepare(pair)
    victim = victim_of(pair, name)

    def restart() -> None:
        if end is End.POWER_CUT:
            victim.power_cut()
        else:
            victim.kill()
        victim.generation += 1  # what is under way no longer reports to anybody
        pair.after(PAUSE, lambda: victim.start(same_boot=end is End.KILLED))

    done = tap(victim, restart, number)
    script.begin(pair)
    pair.run(script.seconds * SECOND + 2 * PAUSE)
    assert len(done) > number, "it was ended, and began again"
    for machine in (pair.a, pair.b):
        if not machine.running:
            machine.start(same_boot=True)
    where = f"restarted after action {number}, {done[number - 1]}"
    try:
        pair.until(lambda: len(pair.holders()) == 1 and pair.settled(), limit=SETTLED_WITHIN)
    except AssertionError as error:
        raise AssertionError(f"{where}: {error}") from None
    holder = victim_of(pair, pair.holders()[0])
    other = pair.other(holder)
    assert holder.scripts == {"httpd"} and holder.table, where
    assert not other.scripts and not other.table, where


def test_what_is_heard_before_a_life_begins_is_no_part_of_it() -> None:
    """A heartbeat that is there as soon as the socket is: the clock has run since the boot, but nobody stood still."""
    before = initial(settings(A))
    heard = ev.HeartbeatReceived(at=15_000 * SECOND, link=0, node=B, generation=1, sequence=1, status="up")
    state, actions, reason = step(before, heard)
    assert not actions and not reason
    assert state == replace(before, number=1, now=heard.at)
