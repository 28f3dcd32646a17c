"""One or two journals as a report: what happened, lanes over time, decisions with their causes, configuration.

Only decisions and changes of state are kept, and of them the weightiest if there are too many for one page: what was
left out is said. All times are on the first director's wall clock. Sentences are those that were recorded, those of the
graph of causes, and those of the findings; none is made up here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from hafsm.core.events import ActionFinished, DaemonStarted, StandbyRequested, StopRequested, TakeoverRequested
from hafsm.core.settings import Value
from hafsm.errors import HafsmError
from journal.reader import Journal
from journal.records import RunRecord
from replay.causes import Cause, Graph, Kind
from replay.finding import Finding, FindingKind
from replay.findings import find
from replay.graph import build
from replay.history import Crashed, Item, Lost, Moment, counted, moments
from replay.merge import Merged, merge
from replay.report_lanes import Lane, Lanes, Mood, within
from replay.subjects import Topic
from replay.why import weighty_of

DECISIONS_SHOWN = 1000
REAL_LANES_SHOWN = 60
FINDINGS_SHOWN = 200
CAUSES_SHOWN = 15
"""Of one decision; `hafsm why --full` has all."""
NODES_FOLLOWED = 40
"""Of one decision: a reload may move thousands of real servers at once."""
STORY_SENTENCES = 8

_OPERATOR = (StandbyRequested, TakeoverRequested, StopRequested)


class NothingThen(HafsmError):
    """No decision lies between the given times."""

    def __init__(self, first_wall_ns: int, last_wall_ns: int) -> None:
        super().__init__(first_wall_ns, last_wall_ns)
        self.first_wall_ns = first_wall_ns
        self.last_wall_ns = last_wall_ns

    def __str__(self) -> str:
        return "nothing was recorded between these times"


class Weight(IntEnum):
    """How much a decision matters to somebody who was woken up by it."""

    STEP = 0
    REAL = 1
    """A real server changed."""
    MOVED = 2
    """A VIP or a director changed."""
    TROUBLE = 3
    """A silence, a failed check, an action that failed, an operator, lost events, a daemon that ended."""


class Decision(Value, frozen=True):
    """A recorded decision, or a VIP that came or went, and why."""

    number: int
    """1 for the first one of the report."""
    node: str
    seq: int
    wall_ns: int
    text: str
    event: str
    """Kind of the event that it was decided on."""
    weight: Weight
    label: str
    """What it is about, in a word or two."""
    causes: tuple[Cause, ...] = ()
    """Newest first, without this decision's own nodes."""
    causes_left: int = 0
    beyond: tuple[Cause, ...] = ()
    """Of the other director's journal, newest first."""


class Sentence(Value, frozen=True):
    """One of the story's."""

    wall_ns: int
    node: str
    """Whose; empty for what only both journals show."""
    text: str
    decision: int = 0
    """Number of the decision; 0: none."""
    weight: Weight = Weight.STEP
    again: int = 0
    """How often the same was decided again, among the decisions of the report."""


class Director(Value, frozen=True):
    """One journal."""

    node: str
    first: int
    last: int
    lost: int
    runs: tuple[RunRecord, ...]


class Report(Value, frozen=True):
    """See the module."""

    directors: tuple[Director, ...]
    from_ns: int
    until_ns: int
    headline: Sentence | None
    """The weightiest sentence of the story."""
    story: tuple[Sentence, ...]
    lanes: tuple[Lane, ...]
    decisions: tuple[Decision, ...]
    findings: tuple[Finding, ...]
    left_out: tuple[str, ...]
    merged: Merged | None


class _Mark(NamedTuple):
    wall_ns: int
    text: str
    event: str
    alarm: str
    """Label of a trouble that the graph of causes does not show as one; empty: none."""


class _Side:
    """One journal, folded once."""

    def __init__(self, files: Sequence[Path], until_ns: int | None, progress: Callable[[int], None] | None) -> None:
        self.lanes = Lanes()
        self.marks: dict[int, _Mark] = {}
        self.events = 0
        self.until_ns = until_ns
        self.graph: Graph = build(self._seen(counted(moments(files), progress)))
        self.runs = _runs(files)

    def _seen(self, history: Iterable[Item]) -> Iterator[Item]:
        for item in history:
            if isinstance(item, Moment | Crashed):
                if self.until_ns is not None and item.wall_ns > self.until_ns:
                    return
                self.events += 1
            self.lanes.fold(item)
            if isinstance(item, Moment):
                if item.reason:
                    alarm = "operator" if isinstance(item.event, _OPERATOR) else ""
                    self.marks[item.seq] = _Mark(item.wall_ns, item.reason, type(item.event).__name__, alarm)
            elif isinstance(item, Crashed):
                self.marks[item.seq] = _Mark(item.wall_ns, f"the daemon {item.reason}", "", "crash")
            elif isinstance(item, Lost) and self.marks:
                text = f"{item.events} events after {item.after_seq} are not in the journal: {item.cause}"
                self.marks.setdefault(item.after_seq + 1, _Mark(item.wall_ns, text, "", "not recorded"))
            yield item


def _runs(files: Sequence[Path]) -> tuple[RunRecord, ...]:
    runs: dict[int, RunRecord] = {}
    for path in files:
        with Journal(path) as journal:
            runs.update((run.run, run) for run in journal.runs())
    return tuple(runs[number] for number in sorted(runs))


def make(
    places: Sequence[Sequence[Path]],
    from_ns: int | None = None,
    until_ns: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """The report of one director's files, or of two directors'.

    Raises `NothingThen`, `merge.MergeRefused`, and what `history.moments` raises.
    """
    merged = merge(places) if len(places) > 1 else None
    sides = []
    for index, files in enumerate(places):
        # The other clock differs; what it has beyond the end is cut by `_decisions` on the first one's.
        sides.append(_Side(files, until_ns if index == 0 else None, progress))
    clocks = [_clock(merged, index) for index in range(len(sides))]
    begins = [clocks[i](side.graph.first_wall_ns) for i, side in enumerate(sides) if side.graph.first]
    ends = [clocks[i](side.graph.last_wall_ns) for i, side in enumerate(sides) if side.graph.first]
    first = max(min(begins, default=0), from_ns or 0)
    last = min(max(ends, default=0), until_ns if until_ns is not None else max(ends, default=0))
    if not begins or last <= first:
        raise NothingThen(first, last)
    left_out: list[str] = []
    decisions = _decisions(sides, clocks, merged, first, last, left_out)
    findings = tuple(
        f for f in (find(merged) if merged is not None else ()) if f.wall_ns <= last and f.until_wall_ns >= first
    )
    story, headline, untold = _story(decisions, findings)
    if untold:
        left_out.append(f"of the story: {untold:,} sentences that weigh less or came later; the tables have them")
    if len(findings) > FINDINGS_SHOWN:
        left_out.append(f"{len(findings) - FINDINGS_SHOWN} of {len(findings)} findings of both journals, the latest")
    events = sum(side.events for side in sides)
    left_out.insert(0, f"{events:,} events were read; those that changed nothing are not shown")
    return Report(
        directors=tuple(
            Director(node=s.graph.node, first=s.graph.first, last=s.graph.last, lost=s.graph.lost, runs=s.runs)
            for s in sides
        ),
        from_ns=first,
        until_ns=last,
        headline=headline,
        story=story,
        lanes=_lanes(sides, clocks, first, last, left_out),
        decisions=decisions,
        findings=findings[:FINDINGS_SHOWN],
        left_out=tuple(left_out),
        merged=merged,
    )


def _clock(merged: Merged | None, index: int) -> Callable[[int], int]:
    """Wall times of a side on the first one's clock."""
    if merged is None or index == 0:
        return lambda wall_ns: wall_ns
    return lambda wall_ns: merged.on_first(wall_ns, index)


# ---- decisions


class _Found(NamedTuple):
    side: int
    seq: int
    wall_ns: int
    mark: _Mark
    weight: Weight
    label: str


def _decisions(
    sides: Sequence[_Side],
    clocks: Sequence[Callable[[int], int]],
    merged: Merged | None,
    first: int,
    last: int,
    left_out: list[str],
) -> tuple[Decision, ...]:
    found: list[_Found] = []
    for index, side in enumerate(sides):
        _add_results(side)
        for seq, mark in side.marks.items():
            wall_ns = clocks[index](mark.wall_ns)
            if first <= wall_ns <= last:
                found.append(_Found(index, seq, wall_ns, mark, *_weight(side.graph.at(seq), mark)))
    shown = sorted(found, key=lambda f: (f.weight, f.wall_ns), reverse=True)[:DECISIONS_SHOWN]
    if len(shown) < len(found):
        lightest = shown[-1].weight
        left_out.append(
            f"{len(found) - len(shown):,} of {len(found):,} decisions: {_LEFT[lightest]}; --from and --until show a "
            "shorter time in full"
        )
    places = _places(merged)
    shown.sort(key=lambda f: places.get((sides[f.side].graph.node, f.seq), (f.wall_ns, f.side, f.seq)))
    others = _sent_in(merged)
    return tuple(_decision(number, one, sides, clocks, others) for number, one in enumerate(shown, 1))


_LEFT = {
    Weight.STEP: "the oldest steps on the way",
    Weight.REAL: "all steps on the way, and the oldest changes of real servers",
    Weight.MOVED: "all but troubles and the newest changes of VIPs and directors",
    Weight.TROUBLE: "all but the newest troubles",
}
"""By the lightest one that is shown."""


def _places(merged: Merged | None) -> dict[tuple[str, int], tuple[int, int, int]]:
    """Cause stands before effect, also where the clocks cannot tell: times that never go back."""
    places: dict[tuple[str, int], tuple[int, int, int]] = {}
    newest = 0
    for index, line in enumerate(merged.lines if merged is not None else ()):
        newest = max(newest, line.wall_ns)
        places[line.node, line.seq] = (newest, -1, index)
    return places


def _add_results(side: _Side) -> None:
    """A VIP that came or went is told even where nothing was decided on it."""
    for cause in side.graph.nodes:
        if cause.kind is Kind.RESULT and not cause.minor and cause.seq not in side.marks and _about_vip(cause):
            side.marks[cause.seq] = _Mark(cause.wall_ns, cause.text, ActionFinished.__name__, "")


def _about_vip(cause: Cause) -> bool:
    return any(subject.topic is Topic.VIP for subject in cause.subjects)


def _weight(causes: Iterable[Cause], mark: _Mark) -> tuple[Weight, str]:
    """The weightiest of what an event brought, and a label for it."""
    found = (Weight.TROUBLE, mark.alarm) if mark.alarm else (Weight.STEP, "step")
    for cause in causes:
        if not cause.minor:
            found = max(found, _weight_of(cause), key=lambda pair: pair[0])
    return found


def _weight_of(cause: Cause) -> tuple[Weight, str]:
    if cause.kind is Kind.SILENCE:
        return Weight.TROUBLE, "silence"
    if cause.kind is Kind.GAP:
        return Weight.TROUBLE, "not recorded"
    if cause.evidence is not None and cause.evidence.failures:
        return Weight.TROUBLE, "failed check"
    if cause.kind is Kind.RESULT and not cause.subjects:
        return Weight.TROUBLE, "failed action"
    topics = {subject.topic for subject in cause.subjects}
    if Topic.VIP in topics:
        return Weight.MOVED, "VIP"
    if Topic.NODE in topics:
        return Weight.MOVED, "director"
    return (Weight.REAL, "real server") if topics else (Weight.STEP, "step")


def _decision(
    number: int,
    one: _Found,
    sides: Sequence[_Side],
    clocks: Sequence[Callable[[int], int]],
    others: Sequence[dict[int, int]],
) -> Decision:
    side = sides[one.side]
    graph = side.graph
    own = [cause for cause in graph.at(one.seq) if not cause.minor][:NODES_FOLLOWED] or graph.at(one.seq)[:1]
    known = {cause.id: cause for start in own for cause in graph.closure(start)}
    newest = sorted(known.values(), key=lambda cause: (cause.seq, cause.id), reverse=True)
    change = max(own, key=lambda cause: len(cause.subjects), default=None)
    chain = weighty_of(newest, change) if change is not None else []
    chain = [cause for cause in chain if cause.text != one.mark.text]
    beyond: list[Cause] = []
    if others and change is not None:
        beyond = _beyond(sides[1 - one.side].graph, newest, others[one.side], change)
    on = clocks[one.side], clocks[1 - one.side] if len(clocks) > 1 else clocks[0]
    return Decision(
        number=number,
        node=graph.node,
        seq=one.seq,
        wall_ns=one.wall_ns,
        text=one.mark.text,
        event=one.mark.event,
        weight=one.weight,
        label=one.label,
        causes=tuple(replace(cause, wall_ns=on[0](cause.wall_ns)) for cause in chain[:CAUSES_SHOWN]),
        causes_left=max(0, len(chain) - CAUSES_SHOWN),
        beyond=tuple(replace(cause, wall_ns=on[1](cause.wall_ns)) for cause in beyond[:CAUSES_SHOWN]),
    )


def _sent_in(merged: Merged | None) -> tuple[dict[int, int], ...]:
    """By side: for its event in which a message arrived, the other's event that sent it."""
    if merged is None:
        return ()
    return tuple({tie.received.seq: tie.sent.seq for tie in merged.ties if tie.sender != index} for index in (0, 1))


def _beyond(other: Graph, newest: Sequence[Cause], sent_in: dict[int, int], change: Cause) -> list[Cause]:
    found: dict[int, Cause] = {}
    for cause in newest:
        seq = sent_in.get(cause.seq) if cause.kind is Kind.INPUT else None
        for start in other.at(seq) if seq is not None else ():
            found.update((behind.id, behind) for behind in other.closure(start))
    return weighty_of(sorted(found.values(), key=lambda cause: (cause.seq, cause.id), reverse=True), change)


# ---- the story


def _story(
    decisions: Sequence[Decision], findings: Sequence[Finding]
) -> tuple[tuple[Sentence, ...], Sentence | None, int]:
    """The weightiest sentences in the order of time, from the first trouble on; the weightiest decision's; how many
    more there were."""
    ranked = [
        (_rank(d), Sentence(wall_ns=d.wall_ns, node=d.node, text=d.text, decision=d.number, weight=d.weight))
        for d in decisions
        if d.weight >= Weight.MOVED
    ]
    headline = max(ranked, key=lambda pair: pair[0], default=None)
    began = min((s.wall_ns for _, s in ranked if s.weight is Weight.TROUBLE), default=0)
    outcomes = [pair for pair in ranked if pair[0] > _NEGOTIATION]
    ranked = outcomes or ranked
    for finding in findings:
        weight = _weight_of_finding(finding)
        if weight > Weight.STEP:
            ranked.append((3 * weight, Sentence(wall_ns=finding.wall_ns, node="", text=finding.text, weight=weight)))
    told: dict[str, tuple[int, Sentence]] = {}
    for rank, sentence in sorted(ranked, key=lambda pair: pair[1].wall_ns):
        if sentence.wall_ns >= began or not sentence.decision:
            told.setdefault(sentence.text, (rank, sentence))
    heaviest = sorted(told.values(), key=lambda pair: (-pair[0], pair[1].wall_ns))[:STORY_SENTENCES]
    again = _again(decisions)
    story = sorted(
        (replace(s, again=again.get(s.text, 0)) for _, s in heaviest),
        key=lambda s: (s.wall_ns, not s.decision, s.decision),
    )
    return tuple(story), headline[1] if headline is not None else None, len(told) - len(story)


_NEGOTIATION = 3 * Weight.MOVED
"""Rank of what two directors say to each other on the way."""


def _again(decisions: Sequence[Decision]) -> dict[str, int]:
    """By sentence: how often one director said it, once not counted."""
    said = Counter((decision.node, decision.text) for decision in decisions)
    again: dict[str, int] = {}
    for (_, text), count in said.items():
        again[text] = max(again.get(text, 0), count - 1)
    return again


def _weight_of_finding(finding: Finding) -> Weight:
    if finding.kind in (FindingKind.NOBODY, FindingKind.DOUBLE):
        return Weight.TROUBLE if finding.sure else Weight.MOVED
    if finding.kind is FindingKind.HANDOVER:
        return Weight.MOVED
    if finding.kind is FindingKind.LOST and len(set(finding.events)) > 1:
        return Weight.REAL
    return Weight.STEP


def _rank(decision: Decision) -> int:
    """By weight; a VIP that came or went, or a trouble that moved one, stands above what did not."""
    own = [cause for cause in decision.causes if cause.seq == decision.seq]
    moved = decision.label == "VIP" or any(_about_vip(cause) for cause in own)
    outcome = decision.event == DaemonStarted.__name__ or (
        moved and (decision.event == ActionFinished.__name__ or decision.weight is Weight.TROUBLE)
    )
    return 3 * decision.weight + (2 if outcome and moved else 1 if outcome else 0)


# ---- lanes


def _lanes(
    sides: Sequence[_Side],
    clocks: Sequence[Callable[[int], int]],
    first: int,
    last: int,
    left_out: list[str],
) -> tuple[Lane, ...]:
    lanes: list[Lane] = []
    for index, side in enumerate(sides):
        for lane in side.lanes.finish():
            placed = tuple(
                replace(s, wall_ns=clocks[index](s.wall_ns), until_wall_ns=clocks[index](s.until_wall_ns))
                for s in lane.stretches
            )
            cut = within(replace(lane, stretches=placed), first, last)
            if cut.stretches:
                lanes.append(cut)
    order = list(Topic)
    chosen = _chosen_reals(lanes, left_out)
    shown = [lane for lane in lanes if lane.subject.topic is not Topic.REAL or lane in chosen]
    return tuple(sorted(shown, key=lambda lane: _order(lane, order)))


def _order(lane: Lane, topics: list[Topic]) -> tuple[int, str, str, bool]:
    """Of a director, what it says itself stands first."""
    subject = lane.subject
    return topics.index(subject.topic), subject.service, subject.name, subject.name != lane.seen_by


def _chosen_reals(lanes: Sequence[Lane], left_out: list[str]) -> list[Lane]:
    """Those that changed most, if there are too many."""
    reals = [lane for lane in lanes if lane.subject.topic is Topic.REAL]
    if len(reals) <= REAL_LANES_SHOWN:
        return reals
    changed = sorted((lane for lane in reals if not _calm(lane)), key=lambda lane: -len(lane.stretches))
    shown = changed[:REAL_LANES_SHOWN]
    left_out.append(
        f"lanes of {len(reals) - len(changed):,} real servers that were up all the time"
        + (f", and of {len(changed) - len(shown):,} that changed less than those shown" if changed != shown else "")
    )
    return shown


def _calm(lane: Lane) -> bool:
    return all(stretch.mood in (Mood.GOOD, Mood.UNKNOWN) for stretch in lane.stretches) and len(lane.stretches) < 3
