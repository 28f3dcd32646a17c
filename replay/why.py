"""From a change back to its evidence.

`explain` picks the newest change of a subject and lists what led to it. A long journal is not read from its beginning:
the newest segments are tried first, and older ones only if the answer is not in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from hafsm.core.settings import Value
from hafsm.errors import HafsmError
from replay.causes import Cause, Graph, Kind
from replay.graph import build
from replay.history import counted, first_wall_ns, moments
from replay.subjects import Subject, Topic, UnknownSubject

FIRST_SCREEN = 12
"""Lines of the chain: with the evidence they fit a terminal of 24."""


class Answer(Value, frozen=True):
    """Why a subject changed, as one director's journal knows it."""

    node: str
    """The director whose journal this is."""
    subject: Subject
    change: Cause
    chain: tuple[Cause, ...]
    """The weighty causes, newest first; begins with the change."""
    everything: tuple[Cause, ...]
    """All causes, newest first."""
    first: int
    last: int
    """Events that were looked through."""
    lost: int
    """Events that the journal could not keep, among them."""


class NoChange(HafsmError):
    """The subject is known and did not change in what was read."""

    def __init__(self, subject: Subject, graph: Graph) -> None:
        super().__init__(subject, graph)
        self.subject = subject
        self.graph = graph

    def __str__(self) -> str:
        graph = self.graph
        return f"{self.subject} did not change in the events {graph.first} to {graph.last} of {graph.node}'s journal"


def explain(graph: Graph, text: str, until_wall_ns: int | None = None) -> Answer:
    """The newest change of what `text` names, at or before a time.

    Raises `UnknownSubject`, `NoChange`.
    """
    subjects = graph.known.get(text.lower())
    if subjects is None:
        raise UnknownSubject(text, tuple(graph.known))
    weighty = (node for node in graph.of(subjects, until_wall_ns) if not node.minor)
    change = next(weighty, None)
    if change is None:
        raise NoChange(subjects[0], graph)
    everything = graph.closure(change)
    chain = [change, *weighty_of((node for node in everything if node.id != change.id), change)]
    subject = next(subject for subject in subjects if subject in change.subjects)
    return Answer(
        node=graph.node,
        subject=subject,
        change=change,
        chain=tuple(chain),
        everything=tuple(everything),
        first=graph.first,
        last=graph.last,
        lost=graph.lost,
    )


def weighty_of(nodes: Iterable[Cause], change: Cause) -> list[Cause]:
    """Without the minor steps, and nothing told twice; real servers only where one of them changed."""
    told: dict[str, Cause] = {}
    for node in nodes:
        if not node.minor and (_about_reals(change) or not _about_reals(node)):
            told.setdefault(node.text, node)
    return list(told.values())


def _about_reals(node: Cause) -> bool:
    return bool(node.subjects) and all(subject.topic is Topic.REAL for subject in node.subjects)


def beyond(answer: Answer, other: Graph, sent_in: Mapping[int, int]) -> tuple[Cause, ...]:
    """What the other director's journal adds: why it sent the messages that the chain rests on, newest first.

    `sent_in` gives for an event of the answer's journal the other's event in which the message was decided.
    """
    found: dict[int, Cause] = {}
    for cause in answer.everything:
        seq = sent_in.get(cause.seq) if cause.kind is Kind.INPUT else None
        for node in other.at(seq) if seq is not None else ():
            found.update((behind.id, behind) for behind in other.closure(node))
    newest_first = sorted(found.values(), key=lambda node: (node.seq, node.id), reverse=True)
    return tuple(weighty_of(newest_first, answer.change))


def complete(answer: Answer) -> bool:
    """Whether no cause lies before the place where the reading began."""
    return all(node.kind is not Kind.EDGE for node in answer.everything)


def search(
    files: Sequence[Path],
    text: str,
    until_wall_ns: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[Answer, Graph]:
    """Explain from the newest files that suffice; with the graph that was needed.

    Raises what `explain` and `history.moments` raise.
    """
    usable = list(files)
    while until_wall_ns is not None and len(usable) > 1 and first_wall_ns(usable[-1]) > until_wall_ns:
        usable.pop()
    count = 1
    while True:
        last_try = count >= len(usable)
        graph = build(counted(moments(usable[-count:]), progress))
        try:
            answer = explain(graph, text, until_wall_ns)
        except (UnknownSubject, NoChange):
            if last_try:
                raise
        else:
            if last_try or complete(answer):
                return answer, graph
        count *= 2
