"""Keeps watch while a history is folded: the last arrivals on every link, of every ping node and of every check.

Memory does not grow with the journal. Asked at a moment, it gives the `Evidence` beside what changed there.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from hafsm.core.events import (
    CheckerLost,
    ChecksReported,
    DaemonStarted,
    HeartbeatReceived,
    JournalGapped,
    JournalLagged,
    JournalTroubled,
    LinkChanged,
    PingAnswered,
)
from hafsm.core.machines import RealState
from hafsm.core.state import State
from hafsm.core.turn import seconds
from replay.evidence import LATE_NS, Absent, Evidence, Failure, Note, Present
from replay.history import Moment

ARRIVALS_KEPT = 9
"""Enough for a median of eight intervals."""
FAILURES_KEPT = 20
NOTES_KEPT = 1000


class Arrival(NamedTuple):
    """Something that came."""

    seq: int
    at: int
    wall_ns: int


class _Mark(NamedTuple):
    """The counters when something was heard last."""

    at: int
    pings: tuple[int, ...]
    beats: tuple[int, ...]
    passed: int
    failed: int
    refused: tuple[tuple[str, int], ...]


class Watch:
    """See the module. Fold every moment, in order; ask at any of them."""

    def __init__(self) -> None:
        self.beats: list[deque[Arrival]] = []
        """By link."""
        self._beats: list[int] = []
        self._pings: list[int] = []
        self._ping_arrivals: list[Arrival] = []
        self._ping_names: dict[str, int] = {}
        self._passed = self._failed = 0
        self._peer_mark: _Mark | None = None
        self._ping_marks: list[_Mark | None] = []
        self._late_peer = 0
        self._late_pings: list[int] = []
        self._notes: deque[tuple[int, int, str]] = deque(maxlen=NOTES_KEPT)
        """(event, at, text)"""
        self._results: list[tuple[Arrival, int] | None] = []
        """By check: the newest result and the interval before it."""
        self._good: list[Arrival | None] = []
        self._bad: list[deque[tuple[Arrival, str, int]]] = []

    def fold(self, moment: Moment) -> None:
        """Note what this moment brought."""
        event = moment.event
        before = moment.before
        due = before.due
        if due and moment.at > due:
            late = moment.at - due
            self._late_peer = max(self._late_peer, late)
            for index, worst in enumerate(self._late_pings):
                self._late_pings[index] = max(worst, late)
            if late >= LATE_NS:
                self._notes.append((moment.seq, moment.at, f"this director's loop was {seconds(late)} late"))
        match event:
            case HeartbeatReceived():
                self._heartbeat(moment, event)
            case PingAnswered():
                self._ping(moment, event)
            case ChecksReported():
                self._checks(moment, event)
            case DaemonStarted():
                self.begin(moment.after)
            case JournalLagged():
                text = f"the journal took {seconds(event.waited_ns)}; event {event.number} did not wait for it"
                self._notes.append((moment.seq, moment.at, text))
            case JournalTroubled():
                text = f"journal: {event.detail}" if event.detail else "the journal is written again"
                self._notes.append((moment.seq, moment.at, text))
            case JournalGapped():
                text = f"the journal lost events {event.first} to {event.last}: {event.detail}"
                self._notes.append((moment.seq, moment.at, text))
            case LinkChanged():
                name = before.settings.links[event.link]
                text = (
                    f"sending on {name} works again" if event.working else f"sending on {name} failed: {event.detail}"
                )
                self._notes.append((moment.seq, moment.at, text))
            case CheckerLost():
                text = f"checker {event.worker} was lost: {event.detail}"
                self._notes.append((moment.seq, moment.at, text))
            case _:
                pass
        if moment.after.checks_plan != before.checks_plan:
            self._plan(len(moment.after.checks))

    def begin(self, state: State) -> None:
        """A life begins, or the reading does in the middle of one."""
        settings = state.settings
        self.beats = [deque(maxlen=ARRIVALS_KEPT) for _ in settings.links]
        self._beats = [0] * len(settings.links)
        self._ping_names = {ping.name: index for index, ping in enumerate(settings.pings)}
        self._pings = [0] * len(settings.pings)
        self._ping_arrivals = [Arrival(0, 0, 0)] * len(settings.pings)
        self._ping_marks = [None] * len(settings.pings)
        self._late_pings = [0] * len(settings.pings)
        self._peer_mark = None
        self._late_peer = 0
        self._plan(len(state.checks))

    def _plan(self, count: int) -> None:
        self._results = [None] * count
        self._good = [None] * count
        self._bad = [deque(maxlen=FAILURES_KEPT) for _ in range(count)]

    def _mark(self, moment: Moment) -> _Mark:
        refused = moment.after.refused
        return _Mark(moment.at, tuple(self._pings), tuple(self._beats), self._passed, self._failed, refused)

    def _heartbeat(self, moment: Moment, event: HeartbeatReceived) -> None:
        after, before = moment.after.peer, moment.before.peer
        if event.link < len(self.beats):
            self._beats[event.link] += 1
            self.beats[event.link].append(Arrival(moment.seq, moment.at, moment.wall_ns))
        if after is not None and before is not None and after.heard_at != before.heard_at:
            self._peer_mark = self._mark(moment)
            self._late_peer = 0

    def _ping(self, moment: Moment, event: PingAnswered) -> None:
        index = self._ping_names.get(event.ping)
        if index is not None:
            self._pings[index] += 1
            self._ping_arrivals[index] = Arrival(moment.seq, moment.at, moment.wall_ns)
            self._ping_marks[index] = self._mark(moment)
            self._late_pings[index] = 0

    def _checks(self, moment: Moment, event: ChecksReported) -> None:
        if event.plan != moment.before.checks_plan:
            return
        for result in event.results:
            check = result.check
            if check >= len(self._results):
                continue
            arrival = Arrival(moment.seq, moment.at, moment.wall_ns)
            previous = self._results[check]
            self._results[check] = (arrival, arrival.at - previous[0].at if previous else 0)
            if result.ok:
                self._passed += 1
                self._good[check] = arrival
                if self._bad[check]:
                    self._bad[check].clear()
            else:
                self._failed += 1
                self._bad[check].append((arrival, result.detail, result.duration_us))

    # ---- asking

    def peer_silent(self, moment: Moment) -> Evidence:
        """Beside the peer's silence on every link."""
        absent = [self.link_absent(moment, link) for link in range(len(self.beats))]
        return self._beside(moment, self._peer_mark, tuple(absent), None, self._late_peer)

    def link_silent(self, moment: Moment, link: int) -> Evidence:
        """Beside the silence of one link while another carries heartbeats."""
        return self._beside(moment, self._peer_mark, (self.link_absent(moment, link),), None, self._late_peer)

    def ping_silent(self, moment: Moment, index: int) -> Evidence:
        """Beside the silence of a ping node."""
        settings = moment.before.settings
        last = self._ping_arrivals[index]
        since = moment.at - (last.at or moment.before.started_at)
        absent = Absent(
            what=f"answer of ping node {settings.pings[index].name}",
            last_seq=last.seq,
            last_wall_ns=last.wall_ns,
            silent_ns=since,
            period_ns=settings.keepalive_ns,
            missed=_due(since, settings.keepalive_ns),
        )
        return self._beside(moment, self._ping_marks[index], (absent,), index, self._late_pings[index])

    def link_absent(self, moment: Moment, link: int) -> Absent:
        """How long a link has been silent."""
        before = moment.before
        arrivals = self.beats[link]
        heard_at = before.peer.links[link].heard_at if before.peer is not None else 0
        last = arrivals[-1] if arrivals else Arrival(0, heard_at, 0)
        period = _median([b.at - a.at for a, b in zip(arrivals, list(arrivals)[1:], strict=False)])
        period = period or before.settings.keepalive_ns
        since = moment.at - (last.at or before.started_at)
        peer = before.peer.name if before.peer is not None else "?"
        return Absent(
            what=f"heartbeat of {peer} on {before.settings.links[link]}",
            last_seq=last.seq,
            last_wall_ns=last.wall_ns,
            silent_ns=since,
            period_ns=period,
            missed=_due(since, period),
        )

    def _beside(
        self, moment: Moment, mark: _Mark | None, absent: tuple[Absent, ...], ping: int | None, late: int
    ) -> Evidence:
        state = moment.before
        began = mark.at if mark is not None else state.started_at
        zeros = _Mark(began, (0,) * len(self._pings), (0,) * len(self._beats), 0, 0, ())
        mark = mark or zeros
        present = []
        for index, name in enumerate(self._ping_names):
            if index != ping:
                count = self._pings[index] - mark.pings[index]
                last = moment.at - self._ping_arrivals[index].at if self._pings[index] else 0
                present.append(Present(what=f"answer of ping node {name}", count=count, last_ns=last))
        silent = {a.what for a in absent}
        peer = state.peer
        for link, name in enumerate(state.settings.links):
            what = f"heartbeat of {peer.name if peer is not None else '?'} on {name}"
            if what not in silent and self.beats and self.beats[link]:
                count = self._beats[link] - mark.beats[link]
                present.append(Present(what=what, count=count, last_ns=moment.at - self.beats[link][-1].at))
        old = dict(mark.refused)
        refused = tuple(
            (reason, n - old.get(reason, 0)) for reason, n in moment.after.refused if n > old.get(reason, 0)
        )
        return Evidence(
            window_ns=moment.at - began,
            absent=absent,
            present=tuple(present),
            checks_passed=self._passed - mark.passed,
            checks_failed=self._failed - mark.failed,
            reals_up=sum(view.state is RealState.UP for view in state.reals),
            reals=len(state.reals),
            late_ns=late,
            refused=refused,
            notes=self._notes_since(moment, began),
        )

    def real_changed(self, moment: Moment, index: int) -> Evidence:
        """Beside a real server's change: its own results, and how the others fared."""
        state = moment.after
        view = state.reals[index]
        check = view.check
        spec = state.checks[check]
        arrival = self._results[check]
        good = self._good[check]
        bad = self._bad[check]
        began = good.at if good is not None and bad else (bad[0][0].at if bad else moment.at)
        others = [v for i, v in enumerate(state.reals) if i != index]
        return Evidence(
            window_ns=moment.at - began,
            failures=tuple(
                Failure(seq=a.seq, wall_ns=a.wall_ns, before_ns=moment.at - a.at, detail=detail, duration_us=duration)
                for a, detail, duration in bad
            ),
            passed_seq=good.seq if good is not None else 0,
            passed_ns=moment.at - good.at if good is not None else 0,
            interval_ns=arrival[1] if arrival is not None else 0,
            interval_set_ns=spec.interval_ns,
            reals_up=sum(v.state is RealState.UP for v in others),
            reals=len(others),
            notes=self._notes_since(moment, began),
        )

    def _notes_since(self, moment: Moment, began: int) -> tuple[Note, ...]:
        return tuple(
            Note(seq=seq, before_ns=moment.at - at, text=text)
            for seq, at, text in self._notes
            if began <= at <= moment.at
        )


def _due(since: int, period: int) -> int:
    """How many had been due; a quarter of a period is left for what a network and a scheduler delay."""
    return (since + period // 4) // period if period else 0


def _median(values: list[int]) -> int:
    return sorted(values)[len(values) // 2] if values else 0
