"""The loop: number it, fold it, write it down, act (design sections 2 and 3).

One thread, one order, no lock. What touches a VIP, the IPVS table or a script waits until its cause is on the disk (law
L2), but never longer than the journal's patience, and not at all while the journal is in trouble (law L3).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

from hafsm import codec
from hafsm.core.actions import Action, ResendMessages, SendMessage, SendPings, SetChecks
from hafsm.core.events import (
    ActionFinished,
    DeadlinePassed,
    Event,
    JournalGapped,
    JournalLagged,
    JournalTroubled,
    KernelObserved,
)
from hafsm.core.state import State
from hafsm.core.step import step
from hafsm.daemon.clock import boottime_ns, wall_ns
from journal.records import ActionRecord, EventRecord, SnapshotRecord

log = logging.getLogger("hafsm")

REASONS_KEPT = 20

_HARMLESS = (SendMessage, ResendMessages, SendPings, SetChecks)
"""Actions that change nothing on this machine's network: they do not wait for the disk."""


class Recorder(Protocol):
    """The part of `journal.writer.Writer` that the loop uses."""

    @property
    def wants_snapshot(self) -> bool: ...
    def append(self, event: EventRecord, actions: list[ActionRecord], urgent: bool) -> None: ...
    def snapshot(self, snapshot: SnapshotRecord) -> None: ...


class Loop:
    """Owns the state. Everything else hands it events and carries out its actions."""

    def __init__(
        self,
        state: State,
        recorder: Recorder | None,
        perform: Callable[[Action], None],
        *,
        patience_ns: int,
        on_crash: Callable[[BaseException], None],
        clock: Callable[[], int] = boottime_ns,
    ) -> None:
        self.state = state
        self.clock = clock
        self.reasons: deque[tuple[int, int, str]] = deque(maxlen=REASONS_KEPT)
        """(wall time in ns, event number, sentence), newest last."""
        self._recorder = recorder
        self._perform = perform
        self._patience_s = patience_ns / 1e9
        self._on_crash = on_crash
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: deque[tuple[int, int, tuple[Action, ...]]] = deque()
        """(event number, when it was decided, actions) not yet released, oldest first."""
        self._trouble = recorder is None
        self._lagging = False
        """The disk was waited for in vain, and has not answered since: nothing else waits for it."""
        self._crashed = False

    def submit(self, event: Event) -> None:
        """Fold one event. An exception ends this life: the state can no longer be trusted."""
        if self._crashed:
            return
        try:
            decision = step(self.state, event)
        except Exception as error:
            self._crashed = True
            self._record(event, [], f"crashed: {type(error).__name__}: {error}", self.state.number + 1, urgent=True)
            self._on_crash(error)
            return
        self.state = decision.state
        number = decision.state.number
        effects = tuple(a for a in decision.actions if not isinstance(a, _HARMLESS))
        actions = [ActionRecord(a.id, number, *codec.encode_action(a)) for a in decision.actions]
        self._record(event, actions, decision.reason, number, urgent=bool(effects or decision.reason))
        if decision.reason:
            self.reasons.append((wall_ns(), number, decision.reason))
            log.info("%d: %s", number, decision.reason)
        for action in decision.actions:
            if isinstance(action, _HARMLESS):
                self._perform(action)
        if effects:
            self._hold(number, effects)
        self._arm()

    def _record(self, event: Event, actions: list[ActionRecord], reason: str, number: int, *, urgent: bool) -> None:
        if self._recorder is None:
            return
        action_id, outcome = None, None
        if isinstance(event, ActionFinished):
            action_id, outcome = event.action, event.outcome.value
        elif isinstance(event, KernelObserved):
            action_id, outcome = event.action, "done"
        kind, version, payload = codec.encode_event(event)
        self._recorder.append(
            EventRecord(number, event.at, wall_ns(), kind, version, payload, action_id, outcome, reason),
            actions,
            urgent,
        )
        if self._recorder.wants_snapshot and not self._crashed:
            self._recorder.snapshot(snapshot_of(self.state))

    # ---- effects wait for the disk, within reason

    def _hold(self, number: int, effects: tuple[Action, ...]) -> None:
        if self._trouble or self._lagging:
            self._release_one(effects)
            return
        self._waiting.append((number, self.clock(), effects))
        self._loop.call_later(self._patience_s, self._out_of_patience, number)

    def durable(self, number: int) -> None:
        """Everything up to this event is on the disk."""
        self._lagging = False
        while self._waiting and self._waiting[0][0] <= number:
            self._release_one(self._waiting.popleft()[2])

    def _out_of_patience(self, number: int) -> None:
        if not self._waiting or self._waiting[0][0] > number:
            return
        decided = self._waiting[0][1]
        self._lagging = True
        while self._waiting:  # the younger ones too, so that none of the next overtakes them
            self._release_one(self._waiting.popleft()[2])
        now = self.clock()
        self.submit(JournalLagged(at=now, number=number, waited_ns=now - decided))

    def troubled(self, detail: str | None) -> None:
        """The journal cannot be written (None: it can again)."""
        self._trouble = detail is not None
        if self._trouble:
            while self._waiting:
                self._release_one(self._waiting.popleft()[2])
        self.submit(JournalTroubled(at=self.clock(), detail=detail or ""))

    def gapped(self, first: int, last: int, detail: str) -> None:
        """Events could not be kept, and the journal says so now."""
        self.submit(JournalGapped(at=self.clock(), first=first, last=last, detail=detail))

    def _release_one(self, effects: tuple[Action, ...]) -> None:
        for action in effects:
            self._perform(action)

    # ---- the one timer

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.state.due
        if due:
            self._timer = self._loop.call_later(max(0, due - self.clock()) / 1e9, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self.clock()
        if now < self.state.due:
            self._arm()  # the two clocks differ by less than the resolution of the timer
            return
        self.submit(DeadlinePassed(at=now))


def snapshot_of(state: State) -> SnapshotRecord:
    """The state after its last event, as the journal keeps it."""
    return SnapshotRecord(state.number, wall_ns(), codec.encode_state(state), codec.digest_state(state))
