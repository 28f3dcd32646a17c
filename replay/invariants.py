"""What must never happen, as small pure functions: each says what is wrong in one sentence, or nothing.

Two kinds. `STEP` ones judge one folded event of one director, with what its journal showed before: they hold in the
simulator and in every production journal alike (`hafsm journal check`). `CLUSTER` ones judge what both directors'
kernels really hold, which only a simulator can see.

They know as little of the core as they can: where the core computes, they compute again, the plain way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hafsm.core import actions as act
from hafsm.core import events as ev
from hafsm.core.actions import Action
from hafsm.core.events import Event
from hafsm.core.groups import KERNEL_LIMIT_NS, SCRIPT_GRACE_NS
from hafsm.core.machines import GroupState, NodeState, Phase
from hafsm.core.membership import FENCE_LIMIT_NS
from hafsm.core.settings import (
    SECOND,
    Address,
    CheckSpec,
    ResourceKind,
    Settings,
    VirtualService,
)
from hafsm.core.state import Holding, State, wants_group
from hafsm.core.turn import seconds
from replay.invariants_table import Health, differs, plain_table


class Violation(NamedTuple):
    """An invariant that did not hold."""

    invariant: str
    node: str
    """Empty: the cluster's."""
    number: int
    """Of the event, in that node's journal; 0 for the cluster's."""
    sentence: str

    def __str__(self) -> str:
        where = f"{self.node}, event {self.number}: " if self.node else ""
        return f"{self.invariant}: {where}{self.sentence}"


class Broken(Exception):
    """Carries a violation out of a run."""

    def __init__(self, violation: Violation) -> None:
        super().__init__(str(violation))
        self.violation = violation


class History:
    """What one life of a director has shown so far; fed with every step, before the step is judged."""

    def __init__(self) -> None:
        self.outstanding: dict[int, tuple[Action, int]] = {}
        """Actions with an effect whose end has not come: (action, when decided)."""
        self.complete = True
        """False: the life began before this history, so results of unknown actions are no wonder."""
        self.result_of: Action | None = None
        """What the present event is the result of."""
        self.stray = False
        """The present event is the result of nothing that is known."""
        self.effects = False
        """The present event's decision does something on this machine."""
        self.messages = 0
        """Sent in the present second, status messages aside."""
        self._second = 0
        self.heard_at = 0
        """When the peer last said something newer than all before it, whatever the core made of that."""
        self._newest = (0, 0)
        self.farewell = False
        self.plan = 0
        self.health: dict[tuple[str, str, CheckSpec], Health] = {}
        """(service, real server, its check); only those that are checked."""
        self._watchers: list[list[tuple[VirtualService, Health]]] = []
        self._repeated: tuple[object, int] = ((), 0)

    def take(self, event: Event, after: State, actions: tuple[Action, ...]) -> None:
        """Fold a step."""
        match event:
            case ev.HeartbeatReceived():
                self._heard(event)
            case ev.ChecksReported():
                self._checked(event)
            case ev.ActionFinished() | ev.KernelObserved():
                known = self.outstanding.pop(event.action, None)
                self.result_of = known[0] if known is not None else None
                self.stray = known is None and self.complete
            case ev.MessageReceived():
                self.farewell = event.kind in ("shutdone", "NS_goodbye")
                if event.sequence:
                    self._heard(event)
        self.effects = False
        for action in actions:
            if type(action) not in _UNANSWERED:
                self.effects = True
                self.outstanding[action.id] = (action, event.at)
            elif isinstance(action, act.SendMessage):
                second = event.at // SECOND
                if second != self._second:
                    self._second, self.messages = second, 0
                self.messages += action.kind != "status"
            elif isinstance(action, act.SetChecks):
                self._planned(action, after.settings)

    def _heard(self, event: ev.HeartbeatReceived | ev.MessageReceived) -> None:
        if (event.generation, event.sequence) > self._newest:
            self._newest = (event.generation, event.sequence)
            self.heard_at = event.at

    def _planned(self, action: act.SetChecks, settings: Settings) -> None:
        self.plan = action.plan
        indexes = {spec: index for index, spec in enumerate(action.checks)}
        before, self.health = self.health, {}
        self._watchers = [[] for _ in action.checks]
        for service in settings.services:
            for real in service.reals:
                if real.check in indexes:
                    key = (service.key, real.key, real.check)
                    self.health[key] = before.get(key) or Health()
                    self._watchers[indexes[real.check]].append((service, self.health[key]))
        self._repeated = ((), 0)

    def _checked(self, event: ev.ChecksReported) -> None:
        if event.plan != self.plan:
            return
        results, times = self._repeated
        if results is not event.results:
            times = 0
        elif times > _COUNTED:
            return  # the very same outcomes again; nothing is left to count
        self._repeated = (event.results, times + 1)
        for result in event.results:
            if result.check < len(self._watchers):
                for service, health in self._watchers[result.check]:
                    health.take(result.ok, service)


MESSAGES_A_SECOND = 300
"""Beyond what the worst network makes a director ask for again (forty a second), acknowledge and answer."""
_COUNTED = 20
"""More failures in a row than any failurecount that a simulated site has."""
_UNANSWERED = frozenset({act.SendMessage, act.ResendMessages, act.SendPings, act.SetChecks, act.Exit})
"""Actions that end in no event."""


class Step(NamedTuple):
    """One event folded."""

    before: State
    event: Event
    after: State
    actions: tuple[Action, ...]
    reason: str
    history: History


# ---- every step


def numbers_without_a_gap(step: Step) -> str:
    """L1: events and actions are numbered one by one."""
    if step.after.number != step.before.number + 1:
        return f"event {step.after.number} follows event {step.before.number}"
    expected = step.before.next_action
    for action in step.actions:
        if action.id != expected:
            return f"action {action.id} where {expected} is next"
        expected += 1
    return "" if step.after.next_action == expected else f"action {step.after.next_action} comes after {expected - 1}"


def names_a_deadline(step: Step) -> str:
    """L7: a living core always names its next deadline; it has a heartbeat to send at the latest."""
    state = step.after
    if state.phase is Phase.GONE or not state.generation:
        return ""
    if not state.due:
        return "no deadline is named"
    if state.due <= state.now:
        return f"the next deadline has passed {seconds(state.now - state.due)} ago"
    if state.due > state.now + state.settings.keepalive_ns:
        return f"the next deadline is {seconds(state.due - state.now)} away (keepalive)"
    return ""


def a_silent_peer_is_dead(step: Step) -> str:
    """A peer that was not heard for its deadtime does not count as alive."""
    peer = step.after.peer
    if peer is None or peer.state is NodeState.DEAD or not peer.heard_at or step.after.phase is Phase.GONE:
        return ""
    silent = step.event.at - peer.heard_at
    return f"{peer.name} counts as {peer.state.value} after {seconds(silent)}" if silent >= peer.deadtime_ns else ""


def a_heard_peer_is_not_declared_dead(step: Step) -> str:
    """Dead means: nothing for deadtime, or a goodbye."""
    before, after = step.before.peer, step.after.peer
    if before is None or after is None or after.state is not NodeState.DEAD or before.state is NodeState.DEAD:
        return ""
    if step.history.farewell or not step.history.heard_at:
        return ""
    silent = step.event.at - step.history.heard_at
    return "" if silent >= before.deadtime_ns else f"{after.name} is declared dead {seconds(silent)} after it was heard"


def a_freeze_beyond_the_lease_lets_go(step: Step) -> str:
    """L6: who stood still for longer than the lease and held something drops everything first."""
    before, after = step.before, step.after
    stood = step.event.at - before.now
    if stood <= before.settings.lease_ns or before.mine is Holding.NONE or before.phase is Phase.GONE:
        return ""
    if isinstance(step.event, ev.DaemonStarted) or (after.phase is Phase.GONE and not after.held):
        return ""
    return f"stood still for {seconds(stood)} and goes on holding {after.mine.value} resources"


def messages_are_few(step: Step) -> str:
    """No two rules of two directors answer each other without end."""
    messages = step.history.messages
    return f"{messages} messages in one second" if messages > MESSAGES_A_SECOND else ""


# ---- steps that change or do something


def a_change_has_a_reason(step: Step) -> str:
    """It can always say why: who holds what, who lives and which real server serves changes only with a sentence."""
    if step.reason:
        return ""
    before, after = step.before, step.after
    for index, group in enumerate(after.settings.groups if before.mine is not after.mine else ()):
        if wants_group(before, index) is not wants_group(after, index):
            return f"group {group.key} is {'held' if wants_group(after, index) else 'given up'}"
    if before.phase is not after.phase and after.phase in (Phase.STABLE, Phase.LEAVING, Phase.GONE):
        return f"phase {after.phase.value} instead of {before.phase.value}"
    if before.peer is not None and after.peer is not None:
        was_dead, is_dead = (peer.state is NodeState.DEAD for peer in (before.peer, after.peer))
        if was_dead is not is_dead:
            return f"{after.peer.name} is {after.peer.state.value} instead of {before.peer.state.value}"
    if len(before.reals) == len(after.reals):
        for was, now in zip(before.reals, after.reals, strict=True):
            if was.state is not now.state and now.check >= 0:
                return f"a real server is {now.state.value} instead of {was.state.value}"
    return ""


def leases_end_before_deadtime(step: Step) -> str:
    """L6: a VIP of a daemon that dies is gone when the other director takes over, deadtime after the last heartbeat; a
    lease may have been renewed up to a keepalive after that (the kernel's shortest is 1 s)."""
    settings = step.after.settings
    limit = max(SECOND, settings.deadtime_ns - settings.keepalive_ns)
    for action in step.actions:
        if isinstance(action, act.AddAddress | act.RenewAddresses) and not 0 < action.lease_s * SECOND <= limit:
            return f"a lease of {action.lease_s} s, at most {seconds(limit)} end in time"
    return ""


def held_addresses_are_renewed(step: Step) -> str:
    """L6: while the daemon lives its VIPs do not run out."""
    state = step.after
    if not state.held or state.phase is Phase.GONE or not _owned(state):
        return ""
    if not state.renew_at:
        return f"{len(state.held)} VIPs are held and no renewal is due"
    if state.renew_at > state.now + state.settings.lease_ns // 2:
        return f"the next renewal is {seconds(state.renew_at - state.now)} away"
    return ""


def addresses_are_claimed(step: Step) -> str:
    """A VIP is added only while its group starts or runs here, and is not being given away."""
    for action in step.actions:
        if isinstance(action, act.AddAddress):
            states = [g for g, vips in _groups(step.after) if action.address in vips]
            if not any(state in _HOLDING for state in states):
                return f"VIP {action.address} is added, its group is {', '.join(s.value for s in states) or 'unknown'}"
    return ""


def a_started_group_holds_its_addresses(step: Step) -> str:
    """And a stopped one none."""
    held = step.after.held
    if not step.after.ipvs.known or step.after.phase is Phase.GONE:
        return ""
    for state, vips in _groups(step.after):
        for address in vips:
            if state is GroupState.STARTED and address not in held:
                return f"VIP {address} of a started group is not held"
            if state in (GroupState.STOPPED, GroupState.FAILED) and address in held:
                return f"VIP {address} of a {state.value} group is still held"
    return ""


def one_who_is_gone_holds_nothing(step: Step) -> str:
    """A daemon that ends has let go of everything."""
    state = step.after
    if state.phase is Phase.GONE and (state.held or state.mine is not Holding.NONE):
        return f"ends while it holds {state.mine.value} resources and {len(state.held)} VIPs"
    return ""


def results_belong_to_actions(step: Step) -> str:
    """L4: a result is the end of exactly one action that was decided before."""
    if step.history.stray and isinstance(step.event, ev.ActionFinished | ev.KernelObserved):
        return f"a result of action {step.event.action}, which was never decided or has ended before"
    return ""


def what_is_awaited_has_a_deadline(step: Step) -> str:
    """L4: no action is waited for longer than its limit."""
    state = step.after
    if not step.history.outstanding or state.phase is Phase.GONE:
        return ""
    for what, identity in _awaited(state):
        known = step.history.outstanding.get(identity)
        if known is None:
            if step.history.complete:
                return f"{what} {identity} is awaited, but has ended or was never decided"
            continue
        action, since = known
        waited = step.event.at - since
        if waited >= _limit(action, state.settings):
            return f"{what} {identity} is awaited for {seconds(waited)}"
    return ""


def the_table_follows_the_checks(step: Step) -> str:
    """What the core believes the kernel's table to be is what the last checks ask for."""
    state = step.after
    view = state.ipvs
    if not view.known or view.pending or view.retry_at or state.phase is Phase.GONE or not _serves(state):
        return ""
    if step.history.plan != state.checks_plan:
        return ""
    return differs(plain_table(state.settings, step.history.health), view.seen)


ALWAYS: tuple[Callable[[Step], str], ...] = (
    numbers_without_a_gap,
    what_is_awaited_has_a_deadline,
    a_silent_peer_is_dead,
    a_freeze_beyond_the_lease_lets_go,
    messages_are_few,
    names_a_deadline,
)
"""Judged after every event."""

ON_CHANGE: tuple[Callable[[Step], str], ...] = (
    a_heard_peer_is_not_declared_dead,
    a_change_has_a_reason,
    leases_end_before_deadtime,
    held_addresses_are_renewed,
    addresses_are_claimed,
    a_started_group_holds_its_addresses,
    one_who_is_gone_holds_nothing,
    results_belong_to_actions,
    the_table_follows_the_checks,
)
"""Judged after every event that did or changed anything that they ask about."""


def judge(step: Step) -> Violation | None:
    """The first invariant that this step breaks."""
    for invariant in ALWAYS:
        sentence = invariant(step)
        if sentence:
            return _violation(invariant, step, sentence)
    if step.history.effects or type(step.event) in _RESULTS or changed(step.before, step.after):
        for invariant in ON_CHANGE:
            sentence = invariant(step)
            if sentence:
                return _violation(invariant, step, sentence)
    return None


_RESULTS = frozenset({ev.ActionFinished, ev.KernelObserved})


def changed(before: State, after: State) -> bool:
    """Whether anything moved that `ON_CHANGE` asks about; unchanged parts are shared between states."""
    return (
        before.mine is not after.mine
        or before.phase is not after.phase
        or before.groups is not after.groups
        or before.held is not after.held
        or before.ipvs is not after.ipvs
        or before.reals is not after.reals
        or before.renew_at != after.renew_at
        or (before.peer is not None and after.peer is not None and before.peer.state is not after.peer.state)
    )


def _violation(invariant: Callable[[Step], str], step: Step, sentence: str) -> Violation:
    return Violation(invariant.__name__, step.after.settings.me, step.after.number, sentence)


_HOLDING = frozenset({GroupState.STARTING, GroupState.STARTED, GroupState.LENT, GroupState.STOPPING})
"""States in which a group may have addresses."""


def _groups(state: State) -> list[tuple[GroupState, list[Address]]]:
    return [
        (view.state, [r.address for r in group.resources if r.address is not None])
        for view, group in zip(state.groups, state.settings.groups, strict=True)
    ]


def _owned(state: State) -> bool:
    """Some group that is not stopped has an address; what an earlier life left is not renewed on purpose."""
    serving = (GroupState.STARTING, GroupState.STARTED, GroupState.LENT)
    return any(view in serving and any(address in state.held for address in vips) for view, vips in _groups(state))


def _serves(state: State) -> bool:
    return any(
        view.state is GroupState.STARTED and any(r.kind is ResourceKind.IPVS for r in group.resources)
        for view, group in zip(state.groups, state.settings.groups, strict=True)
    )


def _awaited(state: State) -> list[tuple[str, int]]:
    named = [("action of a group", group.action) for group in state.groups]
    named += [
        ("ProgramIpvs", state.ipvs.pending),
        ("RenewAddresses", state.renew_action),
        ("ObserveKernel", state.observe_action),
        ("FenceNode", state.fence_action),
    ]
    return [(what, identity) for what, identity in named if identity]


def _limit(action: Action, settings: Settings) -> int:
    match action:
        case act.RunScript():
            return action.timeout_ns + SCRIPT_GRACE_NS
        case act.FenceNode():
            return FENCE_LIMIT_NS + 5 * SECOND
        case act.RenewAddresses():
            return max(settings.lease_ns // 3, KERNEL_LIMIT_NS)
        case _:
            return KERNEL_LIMIT_NS
