"""The graph of causes of one director's history.

Every change is found by comparing the states before and after an event, never by reading sentences. A cause stands
beside the change it led to as the number of an older node, so that walking back from any change ends at the evidence:
messages, silences, check results, operators, reloads, results of actions. Nodes are only made where something changed;
the graph's size is that of the story, not of the journal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum

from hafsm.core.actions import Action
from hafsm.core.machines import Phase
from hafsm.core.settings import Settings, Value
from hafsm.core.state import State
from replay.evidence import Evidence
from replay.history import Moment
from replay.subjects import Subject, Topic
from replay.watch import Watch


class Kind(Enum):
    """What a node of the graph is."""

    INPUT = "input"
    """A fact from outside: a message, an operator, a reload, a start."""
    SILENCE = "silence"
    """Something expected did not come for too long."""
    CHECK = "check"
    """A check result that changed a real server's state."""
    DECISION = "decision"
    """A director, a hand-over, a group or a real server changed its state."""
    ACTION = "action"
    """Something was asked of the kernel, a script or the peer."""
    RESULT = "result"
    """An action ended."""
    GAP = "gap"
    """The journal cannot know: events were lost, or a life ended without a word."""
    EDGE = "edge"
    """Where the reading began; an older file may know more."""


class Cause(Value, frozen=True):
    """A node: one change or fact."""

    id: int
    """Index into `Graph.nodes`."""
    seq: int
    """The event."""
    at: int
    wall_ns: int
    kind: Kind
    text: str
    """A short sentence of its own."""
    reason: str = ""
    """The sentence that the event's whole decision was recorded with."""
    subjects: tuple[Subject, ...] = ()
    causes: tuple[int, ...] = ()
    """Ids of older nodes, the weightiest first."""
    evidence: Evidence | None = None
    minor: bool = False
    """A step on the way that the first screen leaves out."""


class Graph:
    """Nodes in the order in which they came to be, hence of their events."""

    def __init__(self) -> None:
        self.node = ""
        """The director whose history this is."""
        self.nodes: list[Cause] = []
        self.by_seq: dict[int, list[int]] = {}
        self.first = self.last = 0
        """Events folded."""
        self.first_wall_ns = self.last_wall_ns = 0
        self.lost = 0
        self.settings: Settings | None = None
        self.known: dict[str, tuple[Subject, ...]] = {}
        """Every name that any configuration of this history has, in lower case."""

    def closure(self, node: Cause) -> list[Cause]:
        """The node and everything behind it, newest first.

        Of a real server's change, other real servers that the same decision moved are left out.
        """
        reals = {subject for subject in node.subjects if subject.topic is Topic.REAL}
        found = {node.id: node}
        queue = [node]
        while queue:
            causes = [self.nodes[identity] for identity in queue.pop().causes]
            own = [cause for cause in causes if not (reals and _about_others(cause, reals))]
            for cause in own or causes:  # a fallback serves because of the others
                if cause.id not in found:
                    found[cause.id] = cause
                    queue.append(cause)
        return sorted(found.values(), key=lambda cause: (cause.seq, cause.id), reverse=True)

    def at(self, seq: int) -> list[Cause]:
        """The nodes of an event, the ones that follow from the others last."""
        return [self.nodes[identity] for identity in self.by_seq.get(seq, ())]

    def of(self, subjects: Iterable[Subject], until_wall_ns: int | None = None) -> Iterator[Cause]:
        """The changes of these subjects, newest first."""
        wanted = set(subjects)
        for node in reversed(self.nodes):
            if until_wall_ns is not None and node.wall_ns > until_wall_ns:
                continue
            if not wanted.isdisjoint(node.subjects):
                yield node


def _about_others(node: Cause, reals: set[Subject]) -> bool:
    return (
        bool(node.subjects)
        and all(subject.topic is Topic.REAL for subject in node.subjects)
        and reals.isdisjoint(node.subjects)
    )


class Draft:
    """The graph under construction, with the newest node behind each thing that may become a cause."""

    def __init__(self) -> None:
        self.graph = Graph()
        self.watch = Watch()
        self.anchors: dict[str, int] = {}
        """`mine`, `peer`, `handover`, `group 0`, `real 3`, `ping 1`, `action 812` … → node id."""
        self.fresh: list[int] = []
        """Nodes of the present event."""
        self.pending: dict[int, tuple[Action, int]] = {}
        """Actions that have not ended: what they are and where they were decided."""
        self.last: Moment | None = None
        """The moment before this one."""
        self.input: int | None = None
        """The node of the present event itself, once somebody asked for it."""

    def add(
        self,
        moment: Moment,
        kind: Kind,
        text: str,
        *,
        causes: Iterable[int | None] = (),
        subjects: tuple[Subject, ...] = (),
        evidence: Evidence | None = None,
        anchor: str = "",
        minor: bool = False,
    ) -> int:
        """Add a node; returns its id."""
        identity = len(self.graph.nodes)
        known = dict.fromkeys(cause for cause in causes if cause is not None and cause != identity)
        if not known and kind in (Kind.DECISION, Kind.ACTION, Kind.RESULT) and "start" in self.anchors:
            known[self.anchors["start"]] = None  # what a director does by itself, it does because it lives
        self.graph.nodes.append(
            Cause(
                id=identity,
                seq=moment.seq,
                at=moment.at,
                wall_ns=moment.wall_ns,
                kind=kind,
                text=text,
                reason=moment.reason,
                subjects=subjects,
                causes=tuple(known),
                evidence=evidence,
                minor=minor,
            )
        )
        self.graph.by_seq.setdefault(moment.seq, []).append(identity)
        self.fresh.append(identity)
        if anchor:
            self.anchors[anchor] = identity
        return identity

    def begin(self, state: State) -> None:
        """A new life: of the last one only how it ended may still be a cause."""
        self.watch.begin(state)
        end = self.anchors.get("end")
        if end is None and self.last is not None and self.last.after.phase is Phase.GONE:
            end = self.anchors.get("phase")
        self.anchors.clear()
        self.pending.clear()
        if end is not None:
            self.anchors["end"] = end

    def lose(self, kind: Kind, moment: Moment, text: str) -> None:
        """From here on nothing before is known; this stands for it."""
        self.anchors.clear()
        self.fresh.clear()
        known = self.add(moment._replace(reason=""), kind, text, anchor="start")
        for name in ("mine", "phase", "peer"):
            self.anchors[name] = known

    def decided(self) -> tuple[int, ...]:
        """What this event has decided so far, newest first; its inputs stand behind that."""
        nodes = self.graph.nodes
        return tuple(i for i in reversed(self.fresh) if nodes[i].kind in (Kind.DECISION, Kind.RESULT))

    def anchor(self, *names: str) -> tuple[int | None, ...]:
        """The nodes of these anchors, None where there is none."""
        return tuple(self.anchors.get(name) for name in names)
