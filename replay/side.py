"""What one director's history contributes to a merge: messages, decisions, VIPs held, hand-overs.

Of each event only what may matter to the other side is kept; memory grows with the messages, not with the checks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from hafsm.core.actions import RunScript, SendMessage
from hafsm.core.events import ActionFinished, DaemonStarted, HeartbeatReceived, MessageReceived
from hafsm.core.machines import Handover
from hafsm.core.settings import SECOND, Value
from hafsm.core.state import Lending
from replay.history import Beginning, Crashed, Item, Lost
from replay.holding import Holdings, Span

Key = tuple[int, int]
"""(generation, sequence): names one message of a director."""


class Sent(NamedTuple):
    """A numbered message, decided by event `seq`."""

    seq: int
    at: int
    wall_ns: int
    key: Key
    kind: str


class Received(NamedTuple):
    """A copy of a numbered message of the other director."""

    seq: int
    at: int
    wall_ns: int
    key: Key
    link: int
    journal: int
    """Event of the sender that decided it, as it says itself; 0: it does not."""


class Mark(Value, frozen=True):
    """A decision with a sentence."""

    node: str
    seq: int
    at: int
    wall_ns: int
    reason: str


class Life(NamedTuple):
    """One life of the daemon, from its first event to its last."""

    generation: int
    first_seq: int
    first_at: int
    first_wall_ns: int
    last_seq: int
    last_at: int
    last_wall_ns: int


class Step(NamedTuple):
    """A hand-over's state changed."""

    seq: int
    at: int
    wall_ns: int
    state: Handover
    what: str
    """The set, seen from this director."""
    overdue: bool


class Ran(NamedTuple):
    """A resource script ran."""

    at: int
    until: int
    text: str


class Standstill(NamedTuple):
    """No event was handled although a deadline had come: a freeze, or a starved machine."""

    wall_ns: int
    until_wall_ns: int


class Lent(NamedTuple):
    """Both directors had agreed that a set serves here until it serves there (`hafsm.core.state.Lending`)."""

    wall_ns: int
    until_wall_ns: int


class Gap(NamedTuple):
    """What happened here then is not known."""

    wall_ns: int
    until_wall_ns: int


STANDSTILL_NS = SECOND
"""A loop that is this late did not read its sockets either."""


class Side(NamedTuple):
    """See the module."""

    node: str
    links: tuple[str, ...]
    first: int
    last: int
    lost: int
    lives: list[Life]
    sent: list[Sent]
    received: list[Received]
    marks: list[Mark]
    spans: list[Span]
    steps: list[Step]
    ran: list[Ran]
    stood: list[Standstill]
    lent: list[Lent]
    gaps: list[Gap]


def collect(history: Iterable[Item]) -> Side:
    """Raises what `history.moments` raises."""
    node = ""
    links: tuple[str, ...] = ()
    first = last = lost = 0
    lives: list[Life] = []
    sent: list[Sent] = []
    received: list[Received] = []
    marks: list[Mark] = []
    steps: list[Step] = []
    ran: list[Ran] = []
    stood: list[Standstill] = []
    lent: list[Lent] = []
    gaps: list[Gap] = []
    lending_since = 0
    scripts: dict[int, tuple[int, str]] = {}
    holdings = Holdings()
    for item in history:
        if isinstance(item, Beginning):
            node, links = item.node, item.state.settings.links
            continue
        if isinstance(item, Lost):
            lost += item.events
            gaps.append(Gap(item.wall_ns, item.until_wall_ns))
            continue
        if isinstance(item, Crashed):
            continue
        seq, at, wall = item.seq, item.at, item.wall_ns
        first, last = first or seq, seq
        event = item.event
        holdings.fold(item)
        due = item.before.due
        if due and at - due > STANDSTILL_NS:
            stood.append(Standstill(lives[-1].last_wall_ns if lives else wall - (at - due), wall))
        if isinstance(event, DaemonStarted) or not lives:
            lives.append(Life(item.after.generation, seq, at, wall, seq, at, wall))
        lives[-1] = lives[-1]._replace(last_seq=seq, last_at=at, last_wall_ns=wall)
        if isinstance(event, HeartbeatReceived):
            received.append(Received(seq, at, wall, (event.generation, event.sequence), event.link, event.journal))
        elif isinstance(event, MessageReceived):
            if event.sequence:
                received.append(Received(seq, at, wall, (event.generation, event.sequence), event.link, 0))
        elif isinstance(event, ActionFinished) and event.action in scripts:
            began, text = scripts.pop(event.action)
            ran.append(Ran(began, at, f"{text}: {event.outcome.value}"))
        for action in item.actions:
            if isinstance(action, SendMessage):
                if action.sequence:
                    sent.append(Sent(seq, at, wall, (action.generation, action.sequence), action.kind))
            elif isinstance(action, RunScript):
                scripts[action.id] = (at, f"{action.script} {action.verb.value}")
        if item.reason:
            marks.append(Mark(node=node, seq=seq, at=at, wall_ns=wall, reason=item.reason))
        before, after = item.before, item.after
        if before.lending is not after.lending:
            if before.lending is Lending.NO:
                lending_since = wall
            elif after.lending is Lending.NO:
                lent.append(Lent(lending_since, wall))
        if before.handover is not after.handover:
            overdue = bool(before.handover_deadline) and at >= before.handover_deadline
            what = (after if after.handover is not Handover.IDLE else before).handover_set.value
            steps.append(Step(seq, at, wall, after.handover, what, overdue))
    return Side(
        node, links, first, last, lost, lives, sent, received, marks, holdings.finish(), steps, ran, stood, lent, gaps
    )  # fmt: skip
