"""States over time, as one director's journal shows them: what becomes a lane of the report.

Only changes are kept; memory grows with the story, not with the journal.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from msgspec.structs import replace

from hafsm.core.machines import NodeState, Phase, RealState
from hafsm.core.settings import Value
from hafsm.core.state import LinkView, Peer, PingView, RealView, State
from replay.history import Beginning, Crashed, Item, Lost, Moment
from replay.holding import Holdings, Span
from replay.subjects import Subject, Topic, node, real

STRETCHES_DRAWN = 400
"""Of one lane; shorter ones than this part of the whole are drawn together."""


class Mood(Enum):
    """How a state is drawn; its word says what it is."""

    GOOD = "good"
    IDLE = "idle"
    """As it should be, and not serving."""
    CAUTION = "caution"
    BAD = "bad"
    UNKNOWN = "unknown"


class Stretch(Value, frozen=True):
    """A state from one moment to another."""

    wall_ns: int
    until_wall_ns: int
    word: str
    mood: Mood


class Lane(Value, frozen=True):
    """One subject as one director saw it."""

    subject: Subject
    seen_by: str
    stretches: tuple[Stretch, ...]


_NODE_MOODS = {
    NodeState.ACTIVE: Mood.GOOD,
    NodeState.STANDBY: Mood.IDLE,
    NodeState.INIT: Mood.CAUTION,
    NodeState.DEAD: Mood.BAD,
}

NOT_RUNNING = "not running"
FLAPPING = "changed {} times"


class Lanes:
    """Fold every item of a history; `finish` gives the lanes."""

    def __init__(self) -> None:
        self._done: dict[Subject, list[Stretch]] = {}
        self._open: dict[Subject, Stretch] = {}
        self._holdings = Holdings()
        self._last: Moment | None = None
        self._fresh = True
        """The next moment's state is read anew: what was known ends with a life, and with events that were lost."""
        self._me = ""

    def fold(self, item: Item) -> None:
        """Note what changed."""
        if isinstance(item, Moment):
            self._moment(item)
        elif isinstance(item, Beginning):
            self._begin(item)
        elif isinstance(item, Lost):
            self._close(item.wall_ns)
            self._fresh = True
        elif isinstance(item, Crashed):
            self._end_life(item.wall_ns)

    def finish(self) -> list[Lane]:
        """The journal ends here."""
        if self._last is not None:
            self._close(self._last.wall_ns)
        for span in self._holdings.finish():
            self._done.setdefault(Subject(topic=Topic.VIP, name=span.vip), []).extend(_held(span))
        return [
            Lane(subject=subject, seen_by=self._me, stretches=tuple(stretches))
            for subject, stretches in self._done.items()
            if stretches
        ]

    # ---- lives

    def _begin(self, beginning: Beginning) -> None:
        if self._last is not None and self._open:
            self._end_life(self._last.wall_ns)
        self._me = beginning.node
        self._fresh = True

    def _end_life(self, wall_ns: int) -> None:
        """The daemon is gone: nothing is watched until its next life."""
        left = self._last is not None and self._last.after.phase is Phase.GONE
        self._close(wall_ns)
        self._set(node(self._me), wall_ns, NOT_RUNNING, Mood.UNKNOWN if left else Mood.BAD)
        self._fresh = True

    def _close(self, wall_ns: int) -> None:
        for subject, stretch in self._open.items():
            self._done[subject].append(replace(stretch, until_wall_ns=max(stretch.wall_ns, wall_ns)))
        self._open.clear()

    def _set(self, subject: Subject, wall_ns: int, word: str, mood: Mood) -> None:
        known = self._open.get(subject)
        if known is not None and known.word == word:
            return
        stretches = self._done.setdefault(subject, [])
        if known is not None:
            stretches.append(replace(known, until_wall_ns=wall_ns))
        self._open[subject] = Stretch(wall_ns=wall_ns, until_wall_ns=wall_ns, word=word, mood=mood)

    # ---- what changed

    def _moment(self, moment: Moment) -> None:
        before, after, wall_ns = moment.before, moment.after, moment.wall_ns
        self._holdings.fold(moment)
        fresh, self._fresh = self._fresh, False
        if fresh or before.node is not after.node or before.phase is not after.phase:
            word, mood = after.node.value, _NODE_MOODS[after.node]
            if after.phase is Phase.GONE:
                word, mood = "stopped", Mood.UNKNOWN
            self._set(node(after.settings.me), wall_ns, word, mood)
        if after.peer is not None and (fresh or before.peer is not after.peer):
            self._peer(after, after.peer, before.peer if not fresh else None, wall_ns)
        if fresh or before.pings is not after.pings:
            for ping in after.pings:
                self._set(Subject(topic=Topic.PING, name=ping.name), wall_ns, *_ping(ping))
        if fresh or before.reals is not after.reals:
            self._reals(before, after, wall_ns, fresh)
        self._last = moment

    def _peer(self, after: State, peer: Peer, was: Peer | None, wall_ns: int) -> None:
        if was is None or was.state is not peer.state or was.farewell != peer.farewell:
            gone = peer.state is NodeState.DEAD and peer.farewell
            word = "stopped" if gone else peer.state.value
            self._set(node(peer.name), wall_ns, word, Mood.UNKNOWN if gone else _NODE_MOODS[peer.state])
        if was is None or was.links is not peer.links:
            for name, view in zip(after.settings.links, peer.links, strict=True):
                self._set(Subject(topic=Topic.LINK, name=name), wall_ns, *_link(view))

    def _reals(self, before: State, after: State, wall_ns: int, fresh: bool) -> None:
        same = not fresh and len(before.reals) == len(after.reals) and before.settings is after.settings
        now = {}
        for index, view in enumerate(after.reals):
            if same and before.reals[index] is view:
                continue
            subject = real(after.settings, view.service, view.real)
            now[subject] = view
            self._set(subject, wall_ns, *_real(view))
        if not same:
            gone = [s for s in self._open if s.topic is Topic.REAL and s not in now]
            for subject in gone:
                self._done[subject].append(replace(self._open.pop(subject), until_wall_ns=wall_ns))


def _ping(view: PingView) -> tuple[str, Mood]:
    if view.alive:
        return "answers", Mood.GOOD
    return ("silent", Mood.BAD) if view.heard_at else ("not heard yet", Mood.UNKNOWN)


def _link(view: LinkView) -> tuple[str, Mood]:
    if view.up:
        return "heard", Mood.GOOD
    return ("silent", Mood.BAD) if view.heard_at else ("not heard yet", Mood.UNKNOWN)


def _real(view: RealView) -> tuple[str, Mood]:
    if view.state is RealState.UP:
        return "up", Mood.GOOD
    if view.state is RealState.QUIESCED:
        return "quiesced", Mood.CAUTION
    return ("removed", Mood.BAD) if view.failures else ("not in the table", Mood.UNKNOWN)


def _held(span: Span) -> Iterable[Stretch]:
    """Where the end was not seen: what is certain, and how long the lease may have kept it."""
    seen = span.until_wall_ns if span.certain else span.from_wall_ns + span.seen_at - span.from_at
    yield Stretch(wall_ns=span.from_wall_ns, until_wall_ns=seen, word="held", mood=Mood.GOOD)
    if seen < span.until_wall_ns:
        yield Stretch(wall_ns=seen, until_wall_ns=span.until_wall_ns, word="may be held", mood=Mood.CAUTION)


def within(lane: Lane, from_ns: int, until_ns: int) -> Lane:
    """The lane between two times; states too short to be seen are joined."""
    found: list[Stretch] = []
    least = (until_ns - from_ns) // STRETCHES_DRAWN
    crowded = len(lane.stretches) > STRETCHES_DRAWN
    run: list[Stretch] = []
    for stretch in lane.stretches:
        if stretch.until_wall_ns < from_ns or stretch.wall_ns > until_ns:
            continue
        cut = replace(
            stretch,
            wall_ns=max(stretch.wall_ns, from_ns),
            until_wall_ns=min(stretch.until_wall_ns, until_ns),
        )
        if crowded and cut.until_wall_ns - cut.wall_ns < least:
            if run and cut.until_wall_ns - run[0].wall_ns >= least:
                found += _joined(run)
                run = []
            run.append(cut)
            continue
        found += _joined(run)
        run = []
        found.append(cut)
    found += _joined(run)
    return replace(lane, stretches=tuple(found))


def _joined(run: list[Stretch]) -> list[Stretch]:
    if len(run) < 2:
        return run
    return [
        Stretch(
            wall_ns=run[0].wall_ns,
            until_wall_ns=run[-1].until_wall_ns,
            word=FLAPPING.format(len(run)),
            mood=Mood.CAUTION,
        )
    ]
