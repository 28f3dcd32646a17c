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
from hafsm.core.actions import Action, FallbackVerb
from hafsm.core.events import Event
from hafsm.core.fallbacks import GRACE_NS as COMMAND_GRACE_NS
from hafsm.core.groups import KERNEL_LIMIT_NS, SCRIPT_GRACE_NS
from hafsm.core.machines import GroupState, NodeState, Phase
from hafsm.core.membership import FENCE_LIMIT_NS
from hafsm.core.operators import REMEMBER_LIMIT_NS
from hafsm.core.settings import SECOND, Address, NodeName, Override, RealVerb, ResourceKind, Settings
from hafsm.core.state import Holding, State, wants_group
from hafsm.core.turn import seconds
from replay.invariants_table import Place, Plain, differs


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
        self.plain = Plain()
        self.commanded: dict[tuple[str, str], FallbackVerb] = {}
        """(virtual, protocol) → what its fallbackcommand was last told in this life."""

    def take(self, event: Event, before: State, after: State, actions: tuple[Action, ...]) -> None:
        """Fold a step."""
        self.plain.take(event, before, after)
        match event:
            case ev.HeartbeatReceived():
                self._heard(event)
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

    def _heard(self, event: ev.HeartbeatReceived | ev.MessageReceived) -> None:
        if (event.generation, event.sequence) > self._newest:
            self._newest = (event.generation, event.sequence)
            self.heard_at = event.at


MESSAGES_A_SECOND = 300
"""Beyond what the worst network makes a director ask for again (forty a second), acknowledge and answer."""
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


def the_table_is_what_was_asked_for(step: Step) -> str:
    """What the core believes the kernel's table to be is what the last checks, operators and maintenance files ask for;
    a fallback is in it only while no real server serves."""
    state = step.after
    view = state.ipvs
    if not step.history.complete or not view.known or view.pending or view.retry_at:
        return ""
    if state.phase is Phase.GONE or not _serves(state):
        return ""
    return differs(step.history.plain.table(state.settings.services), view.seen)


def the_last_word_wins(step: Step) -> str:
    """What an operator said last of a real server is in force until somebody says another word: a newer one of his own,
    or the other director's; or the file changes the weight."""
    if step.before.overrides is step.after.overrides or isinstance(step.event, ev.DaemonStarted):
        return ""
    old, new = ({(o.service, o.real): o for o in state.overrides} for state in (step.before, step.after))
    nodes = step.after.settings.nodes
    for place in sorted(old.keys() | new.keys()):
        was, now = old.get(place), new.get(place)
        if was == now:
            continue
        if now is None:
            if was is not None and was.verb is not RealVerb.ENABLE:
                return f"real server {place[1]} of {place[0]} is {was} no more, and nobody said so"
        elif was is not None and rank(now, nodes) < rank(was, nodes):
            return f"real server {place[1]} of {place[0]} is {now}, an older word than {was}"
        elif not _was_said(step, place, was, now):
            return f"real server {place[1]} of {place[0]} is {now}, and nobody said so"
    return ""


def rank(word: Override, nodes: tuple[NodeName, ...]) -> tuple[int, int]:
    """The larger of two words wins."""
    return word.counter, -nodes.index(word.node)


def _was_said(step: Step, place: Place, was: Override | None, now: Override) -> bool:
    match step.event:
        case ev.RealRequested() as event:
            said = place in event.targets and (now.verb, now.by, now.reason) == (event.verb, event.by, event.reason)
            return said and (now.verb is not RealVerb.WEIGHT or now.weight == event.weight)
        case ev.MessageReceived() as event:
            parts = event.info.split("|")
            return event.kind == "hafsm_real" and parts[0] == str(now.counter) and parts[2] == now.verb.value
        case ev.ServicesReloaded():
            same = was is not None and (was.verb, was.counter, was.weight) == (now.verb, now.counter, now.weight)
            return same or (now.verb is RealVerb.ENABLE and was is not None and was.verb is RealVerb.WEIGHT)
        case _:
            return False


def a_fallback_command_is_needed(step: Step) -> str:
    """A fallbackcommand is started only when no real server of a service that is held here serves, and is told nothing
    twice in a row."""
    for action in step.actions:
        if not isinstance(action, act.RunFallbackCommand):
            continue
        key = (action.virtual, action.protocol)
        told = step.history.commanded.get(key)
        step.history.commanded[key] = action.verb
        if told is action.verb:
            return f"the fallbackcommand of {action.virtual} is told {action.verb.value} again"
        if action.verb is FallbackVerb.STOP or not step.history.complete:
            continue
        for service in step.after.settings.services:
            place = ":0" if service.protocol == "fwm" else service.place
            if (place, service.protocol) == key and step.history.plain.serves(service):
                return f"the fallbackcommand of {action.virtual} is started although a real server serves"
    return ""


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
    the_table_is_what_was_asked_for,
    the_last_word_wins,
    a_fallback_command_is_needed,
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
        or before.overrides is not after.overrides
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
        ("RememberOverrides", state.remember_action),
    ]
    named += [("RunFallbackCommand", command.action) for command in state.commands]
    return [(what, identity) for what, identity in named if identity]


def _limit(action: Action, settings: Settings) -> int:
    match action:
        case act.RunScript():
            return action.timeout_ns + SCRIPT_GRACE_NS
        case act.FenceNode():
            return FENCE_LIMIT_NS + 5 * SECOND
        case act.RunFallbackCommand():
            return action.timeout_ns + COMMAND_GRACE_NS
        case act.RememberOverrides():
            return REMEMBER_LIMIT_NS
        case act.RenewAddresses():
            return max(settings.lease_ns // 3, KERNEL_LIMIT_NS)
        case _:
            return KERNEL_LIMIT_NS
