"""Bugs that are planted into the core or the world, each to break one invariant, and the run in which it must."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

import pytest
from msgspec.structs import replace

from hafsm.core import events as ev
from hafsm.core import fallbacks, groups, handover, membership, operators, reals
from hafsm.core import step as step_module
from hafsm.core.actions import AddAddress, SendMessage
from hafsm.core.machines import GroupState, Phase
from hafsm.core.settings import SECOND
from hafsm.core.state import Holding, RealView, State
from hafsm.core.step import step
from hafsm.core.turn import Decision, Turn
from hafsm.kernel.memory import MemoryKernel
from replay.simulator import Simulation
from replay.simulator_executor import Executor
from replay.simulator_faults import Fault, Kind, Plan
from replay.simulator_site import Site, bounds_of, site_of
from tests.unit_core.pair import VIP, A, service, settings

Plant = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Bug:
    """One planted bug and the faults that bring it out."""

    invariant: str
    plant: Plant = lambda patch: None
    step: Callable[[State, ev.Event], Decision] = step
    faults: tuple[Fault, ...] = ()
    site: Callable[[], Site] = field(default=lambda: small_site())
    begin: Callable[[Simulation], None] = lambda simulation: None


def small_site(**changes: object) -> Site:
    """The scenario's cluster, faster: deadtime 10 s, lease 8 s."""
    whole = settings(A, deadtime_ns=10 * SECOND, warntime_ns=5 * SECOND, initdead_ns=20 * SECOND, lease_ns=8 * SECOND)
    return site_of(replace(whole, **changes))


def simulation(bug: Bug) -> Simulation:
    site = bug.site()
    settle = bounds_of(site.settings[0]).settle_ns
    ends = 100 * SECOND + 2 * settle
    return Simulation(site, Plan(bug.faults, (90 * SECOND, ends), ends), 1, step=bug.step)


def after(change: Callable[[State, ev.Event, Decision], Decision]) -> Callable[[State, ev.Event], Decision]:
    """The core, with its decisions changed."""

    def changed(state: State, event: ev.Event) -> Decision:
        return change(state, event, step(state, event))

    return changed


def skips_a_number(state: State, event: ev.Event, decision: Decision) -> Decision:
    decision.state.number += event.at % 7 == 0 or isinstance(event, ev.ActionFinished)
    return decision


def forgets_its_deadline(state: State, event: ev.Event, decision: Decision) -> Decision:
    decision.state.due = 0
    return decision


def says_nothing(state: State, event: ev.Event, decision: Decision) -> Decision:
    return decision._replace(reason="")


def claims_what_it_does_not_hold(state: State, event: ev.Event, decision: Decision) -> Decision:
    later = decision.state
    stopped = bool(later.groups) and all(group.state is GroupState.STOPPED for group in later.groups)
    if not isinstance(event, ev.KernelObserved) or not stopped:
        return decision
    action = AddAddress(id=later.next_action, address=VIP, lease_s=8)
    later.next_action += 1
    return decision._replace(actions=(*decision.actions, action))


def forgets_what_it_holds(state: State, event: ev.Event, decision: Decision) -> Decision:
    if any(group.state is GroupState.STARTED for group in decision.state.groups):
        decision.state.held = ()
    return decision


def keeps_all_when_it_goes(state: State, event: ev.Event, decision: Decision) -> Decision:
    if decision.state.phase is Phase.GONE:
        decision.state.mine = Holding.ALL
    return decision


def answers_every_message(state: State, event: ev.Event, decision: Decision) -> Decision:
    if not isinstance(event, ev.MessageReceived):
        return decision
    later = decision.state
    message = SendMessage(
        id=later.next_action, kind="NS_ackmsg", generation=later.generation, sequence=0, fields=(("ackseq", "a"),)
    )
    later.next_action += 1
    return decision._replace(actions=(*decision.actions, message))


def never_the_same_twice() -> Callable[[State, ev.Event], Decision]:
    calls = count(1)

    def changed(state: State, event: ev.Event) -> Decision:
        decision = step(state, event)
        decision.state.failed_away_at = next(calls)
        return decision

    return changed


def dies_too_late(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(membership, "silence", lambda turn: "")


def dies_too_early(patch: pytest.MonkeyPatch) -> None:
    real = membership.silence_deadline

    def early(state: State) -> int:
        due = real(state)
        heard = state.peer.heard_at if state.peer is not None else 0
        return heard + (due - heard) // 10 if due and heard else due

    patch.setattr(membership, "silence_deadline", early)


def sleeps_on(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(step_module, "_woke", lambda turn, gap: False)
    patch.setattr(groups, "lapsed", lambda turn: False)


def renews_never(patch: pytest.MonkeyPatch) -> None:
    def renew(turn: Turn) -> None:
        if turn.state.held:
            turn.state.renew_at = turn.state.now + 60 * SECOND

    patch.setattr(groups, "renew", renew)


def waits_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(groups, "pass_deadlines", lambda turn: None)


def miscounts_weights(patch: pytest.MonkeyPatch) -> None:
    real = reals._destination
    patch.setattr(reals, "_destination", lambda server, weight: real(server, weight + 1))


def reports_twice(patch: pytest.MonkeyPatch) -> None:
    real = Executor._finish

    def twice(executor: Executor, *arguments: object, **fields: object) -> None:
        real(executor, *arguments, **fields)  # type: ignore[arg-type]
        real(executor, *arguments, **fields)  # type: ignore[arg-type]

    patch.setattr(Executor, "_finish", twice)


def leases_without_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryKernel, "_expiry", lambda kernel, lease_s: None)


def takes_nothing_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(handover, "take_over", lambda turn, why: None)


class Leaking(set[str]):
    """Scripts that do not stop, whatever they say."""

    def discard(self, element: str) -> None:
        pass


def scripts_leak(simulation: Simulation) -> None:
    simulation.machines[0].scripts = Leaking()


def somebody_removes_a_vip(simulation: Simulation) -> None:
    simulation.at(95 * SECOND, lambda: simulation.machines[0].kernel.remove_address(VIP))


def ignores_maintenance(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reals._Maintained, "covers", lambda maintained, real: False)


def checks_win_over_operators(patch: pytest.MonkeyPatch) -> None:
    """As if the table of real servers did not ask whether somebody keeps one out."""
    real = reals.facts_of
    patch.setattr(reals, "facts_of", lambda service, view: real(service, view)._replace(held=False))
    patch.setattr(RealView, "held", False)


def older_words_win(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(operators, "_rank", lambda word, nodes: (-word.counter, 0))


def keeps_words_to_itself(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(operators, "_tell", lambda turn, word: None)


def remembers_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(operators, "begin", lambda turn, overrides, fallbacks, trouble: None)


def falls_back_always(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fallbacks, "_wanted", lambda state, index, held, firsts: held)


def commanded_site() -> Site:
    return small_site(services=(service(fallback_command="/usr/local/sbin/sorry"),))


DRAIN = Fault(Kind.DRAIN, 100 * SECOND, 0, 0)
MAINTENANCE = Fault(Kind.MAINTENANCE, 100 * SECOND, 50 * SECOND, 0, 1)
FREEZE = Fault(Kind.FREEZE, 100 * SECOND, 5 * SECOND, 0)
CUT_POWER = Fault(Kind.POWER_CUT, 100 * SECOND, 60 * SECOND, 0)

BUGS = (
    Bug("numbers_without_a_gap", step=after(skips_a_number)),
    Bug("names_a_deadline", step=after(forgets_its_deadline)),
    Bug("a_silent_peer_is_dead", dies_too_late, faults=(CUT_POWER,)),
    Bug("a_heard_peer_is_not_declared_dead", dies_too_early),
    Bug("a_freeze_beyond_the_lease_lets_go", sleeps_on, faults=(replace(FREEZE, lasts=9 * SECOND),)),
    Bug("messages_are_few", step=after(answers_every_message)),
    Bug("a_change_has_a_reason", step=after(says_nothing)),
    Bug("leases_end_before_deadtime", site=lambda: small_site(lease_ns=10 * SECOND)),
    Bug("held_addresses_are_renewed", renews_never),
    Bug("addresses_are_claimed", step=after(claims_what_it_does_not_hold)),
    Bug("a_started_group_holds_its_addresses", step=after(forgets_what_it_holds)),
    Bug(
        "one_who_is_gone_holds_nothing",
        step=after(keeps_all_when_it_goes),
        faults=(Fault(Kind.STOP, 100 * SECOND, 30 * SECOND, 0),),
    ),
    Bug("results_belong_to_actions", reports_twice),
    Bug(
        "what_is_awaited_has_a_deadline",
        waits_for_ever,
        faults=(CUT_POWER, Fault(Kind.KERNEL_HANGS, 101 * SECOND, 50 * SECOND, 1)),
    ),
    Bug("the_table_is_what_was_asked_for", miscounts_weights),
    Bug("the_table_is_what_was_asked_for", ignores_maintenance, faults=(MAINTENANCE,)),
    Bug("the_table_is_what_was_asked_for", checks_win_over_operators, faults=(DRAIN,)),
    Bug(
        "the_last_word_wins", older_words_win, faults=(DRAIN, replace(DRAIN, kind=Kind.ENABLE, at=110 * SECOND, node=1))
    ),
    Bug("both_know_what_operators_said", keeps_words_to_itself, faults=(DRAIN,)),
    Bug(
        "both_know_what_operators_said",
        remembers_nothing,
        faults=(replace(DRAIN, at=60 * SECOND), CUT_POWER, replace(CUT_POWER, node=1)),
    ),
    Bug("a_fallback_command_is_needed", falls_back_always, site=lambda: commanded_site()),
    Bug("the_same_past_decides_the_same", step=never_the_same_twice()),
    Bug("one_director_answers", leases_without_end, faults=(Fault(Kind.KILL, 100 * SECOND, 60 * SECOND, 0),)),
    Bug("some_director_answers", takes_nothing_over, faults=(replace(CUT_POWER, lasts=1000 * SECOND),)),
    Bug("it_settles", faults=(Fault(Kind.STANDBY, 100 * SECOND, 0, 0),), begin=scripts_leak),
    Bug("calm_stays_calm", begin=somebody_removes_a_vip),
)
