"""The second fold of a what-if: its own deadlines, recorded inputs, results where both decided the same.

See `whatif` for what it rests on.
"""

from __future__ import annotations

import heapq

from msgspec.structs import replace

from hafsm.core import operators
from hafsm.core.actions import (
    Action,
    AddAddress,
    AnnounceAddress,
    FenceNode,
    ObserveKernel,
    ProgramIpvs,
    RememberOverrides,
    RemoveAddress,
    RenewAddresses,
    RunFallbackCommand,
    RunScript,
    ScriptVerb,
    SendMail,
    SetSyncDaemon,
)
from hafsm.core.events import (
    ActionFinished,
    ChecksReported,
    DaemonStarted,
    DeadlinePassed,
    Event,
    HeartbeatReceived,
    KernelObserved,
    MessageReceived,
    Outcome,
    ServicesReloaded,
)
from hafsm.core.settings import MILLISECOND, Settings
from hafsm.core.state import State
from hafsm.core.step import next_deadline, step
from replay.episodes import Episodes
from replay.history import Beginning, Moment
from replay.pairing import Pairing, Stop, Stretch, at_rest, pair, told_apart
from replay.parameters import Change, Parameters

ASSUMED_NS = MILLISECOND
"""How long an assumed result takes: what a kernel needs."""

_EFFECTS = (
    AddAddress,
    AnnounceAddress,
    FenceNode,
    ObserveKernel,
    ProgramIpvs,
    RememberOverrides,
    RemoveAddress,
    RenewAddresses,
    RunFallbackCommand,
    RunScript,
    SendMail,
    SetSyncDaemon,
)


class Fold:
    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.node = ""
        self.changes: tuple[Change, ...] = ()
        self.pairings: list[Pairing] = []
        self.stretches: list[Stretch] = []
        self.events = self.counted = self.assumed = 0
        self._settings: dict[int, tuple[Settings, Settings]] = {}
        self._state: State | None = None
        """Of the second fold; None outside of a stretch."""
        self._was = Episodes()
        self._would = Episodes()
        self._ids: dict[int, int] = {}
        """Recorded action → the same one of the second fold."""
        self._since = 0
        """Recorded actions below this number were decided before the stretch: same number in both."""
        self._results: list[tuple[int, int, Event]] = []
        """Assumed results: (when, order, event)."""
        self._order = 0
        self._running: dict[str, bool] = {}
        self._first = self._last = self._apart = 0
        self._at = 0

    # ---- stretches

    def begin(self, beginning: Beginning) -> None:
        """A life begins: both folds start from its snapshot."""
        self.node = beginning.node
        if not self.changes:
            self.changes = self.parameters.changes(beginning.state.settings)
        self.stop(Stop.END)
        self._enter(beginning.state, beginning.state.number + 1)

    def _enter(self, state: State, first: int) -> None:
        self._state = self._changed(state)
        self._ids.clear()
        self._results.clear()
        self._since = state.next_action
        self._was.begin(state)
        self._would.begin(self._state)
        self._first, self._last, self._apart = first, first - 1, 0
        self._at = state.now

    def stop(self, why: Stop) -> None:
        """Close the stretch and pair what both folds saw in it."""
        if self._state is None:
            return
        self._state = None
        was, would = self._was.finish(), self._would.finish()
        if self._last < self._first:
            return
        self.stretches.append(
            Stretch(first=self._first, last=self._last, apart=self._apart, stop=why, until_at=self._at)
        )
        self.pairings += pair(was, would, self._at)

    def _changed(self, state: State) -> State:
        """The state as it would be with the parameters."""
        cached = self._settings.get(id(state.settings))
        if cached is None or cached[0] is not state.settings:
            cached = (state.settings, self.parameters.settings(state.settings))
            self._settings = {id(state.settings): cached}
        fresh: State = replace(state, settings=cached[1])
        deadtime = self.parameters.deadtime_ns
        if deadtime and fresh.peer is not None:
            fresh.peer = replace(fresh.peer, deadtime_ns=deadtime)
        fresh.due = next_deadline(fresh)
        return fresh

    # ---- one moment

    def moment(self, moment: Moment) -> None:
        """Fold a recorded event in both, or look whether the recording has come to rest."""
        self.events += 1
        if self._state is None:
            self._rest(moment)
            return
        if self._apart and isinstance(moment.event, MessageReceived) and _answers(moment.event):
            self.stop(Stop.MESSAGE)
            self._rest(moment)
            return
        self._was.fold(moment.before, moment.after, moment.seq, moment.wall_ns)
        try:
            self._catch_up(moment)
            self._input(moment)
        except _Untrusted as reason:
            self.stop(reason.why)
            return
        self.counted += 1
        self._last, self._at = moment.seq, moment.at
        state = self._state
        assert state is not None, "only stop ends a stretch"
        if told_apart(moment.after, state):
            self._apart = self._apart or moment.seq
        else:
            self._apart = 0

    def _rest(self, moment: Moment) -> None:
        """Between stretches: begin again where the recording has come to rest."""
        if at_rest(moment.after):
            self._enter(moment.after, moment.seq + 1)

    def _catch_up(self, moment: Moment) -> None:
        """Own deadlines and assumed results before the recorded event, as far as the loop was not late."""
        limit = moment.at
        if 0 < moment.before.due < limit:
            limit = moment.before.due
        while self._state is not None:
            due = self._state.due
            result = self._results[0][0] if self._results else 0
            if result and result < moment.at and (not due or result <= due or due >= limit):
                _, _, event = heapq.heappop(self._results)
                self._step(replace(event, at=max(result, self._state.now)), moment, ())
            elif due and due < limit:
                self._step(DeadlinePassed(at=max(due, self._state.now)), moment, ())
            else:
                return

    def _input(self, moment: Moment) -> None:
        state = self._state
        assert state is not None, "only within a stretch"
        event: Event | None = moment.event
        match event:
            case DeadlinePassed():
                if not state.due or moment.at < state.due:
                    event = None
            case HeartbeatReceived():
                if self.parameters.deadtime_ns:
                    event = replace(event, deadtime_ns=self.parameters.deadtime_ns)
            case ActionFinished() | KernelObserved():
                event = self._result(moment, event)
            case ServicesReloaded():
                event = replace(event, services=self.parameters.services(event.services))
            case ChecksReported():
                if event.plan == moment.before.checks_plan:
                    event = replace(event, plan=state.checks_plan)
            case DaemonStarted():
                self._results.clear()
                self._ids.clear()
                self._running.clear()
            case _:
                pass
        if event is not None:
            self._step(event, moment, moment.actions)
        else:
            self._unmatched(moment.actions)
        state = self._state
        assert state is not None, "a step does not end a stretch"
        if state.due and state.due <= moment.at:
            self._step(DeadlinePassed(at=moment.at), moment, ())

    def _result(self, moment: Moment, event: ActionFinished | KernelObserved) -> Event | None:
        """The recorded result of an action that both decided; None for one that only the recording knows."""
        state = self._state
        assert state is not None, "only within a stretch"
        identity = self._ids.pop(event.action, event.action if event.action < self._since else None)
        if identity is None:
            return None
        if isinstance(event, ActionFinished):
            return replace(event, action=identity)
        before = moment.before
        if state.ipvs.seen == before.ipvs.seen and state.held == before.held:
            return replace(event, action=identity)
        return KernelObserved(at=event.at, action=identity, addresses=state.held, matches=True, empty=event.empty)

    def _step(self, event: Event, moment: Moment, recorded: tuple[Action, ...]) -> None:
        before = self._state
        assert before is not None, "only within a stretch"
        try:
            decision = step(before, event)
        except Exception as error:
            raise _Untrusted(Stop.REFUSED) from error
        self._state = decision.state
        self._would.fold(before, decision.state, moment.seq, moment.wall_ns - (moment.at - event.at))
        waiting = [action for action in recorded if isinstance(action, _EFFECTS)]
        for action in decision.actions:
            if not isinstance(action, _EFFECTS):
                continue
            same = next((other for other in waiting if _same(action, other)), None)
            if same is not None:
                waiting.remove(same)
                self._ids[same.id] = action.id
            elif isinstance(action, FenceNode):
                raise _Untrusted(Stop.FENCE)
            else:
                self._assume(action, event.at)
            if isinstance(action, RunScript) and action.verb is not ScriptVerb.STATUS:
                self._running[action.script] = action.verb is ScriptVerb.START
        self._unmatched(tuple(waiting))

    def _unmatched(self, actions: tuple[Action, ...]) -> None:
        if any(isinstance(action, FenceNode) for action in actions):
            raise _Untrusted(Stop.FENCE)

    def _assume(self, action: Action, at: int) -> None:
        """Nobody did this in the recording: it is assumed to have worked."""
        state = self._state
        assert state is not None, "only within a stretch"
        event: Event
        when = at + ASSUMED_NS
        match action:
            case ObserveKernel():
                event = KernelObserved(at=when, action=action.id, addresses=state.held, matches=True)
            case RunScript(verb=ScriptVerb.STATUS):
                detail = "running" if self._running.get(action.script, False) else "stopped"
                event = ActionFinished(at=when, action=action.id, outcome=Outcome.DONE, detail=detail)
            case _:
                event = ActionFinished(at=when, action=action.id, outcome=Outcome.DONE)
        self._order += 1
        self.assumed += 1
        heapq.heappush(self._results, (when, self._order, event))


class _Untrusted(Exception):
    def __init__(self, why: Stop) -> None:
        super().__init__(why)
        self.why = why


def _answers(message: MessageReceived) -> bool:
    """The other director says this of what this one did; what its operators said of real servers it says anyway."""
    return not message.kind.startswith("NS_") and message.kind != operators.KIND


def _same(one: Action, other: Action) -> bool:
    """Equal but for the number, and for how long a lease lasts."""
    if type(one) is not type(other):
        return False
    changes = {"id": other.id}
    if isinstance(other, AddAddress | RenewAddresses):
        changes["lease_s"] = other.lease_s
    return bool(replace(one, **changes) == other)
