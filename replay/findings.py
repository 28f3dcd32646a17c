"""What only both sides show: messages that never arrived, VIPs held twice or by nobody, hand-overs and their waits.

Times are on the first director's wall clock; every duration across the two clocks states its uncertainty.
"""

from __future__ import annotations

from collections.abc import Iterator

from hafsm.core.machines import Handover
from hafsm.core.settings import SECOND
from hafsm.core.turn import seconds
from replay.finding import SHORT_NS, Finding, FindingKind
from replay.findings_vips import holders
from replay.merge import Merged
from replay.side import Sent, Side, Step

STATUS = "status"
"""heartbeat's `t` of a heartbeat."""

GAP_MARGIN_NS = SECOND
"""So long around a gap a message may have come in it."""


def find(merged: Merged) -> tuple[Finding, ...]:
    """Everything, in the order of time."""
    found = [
        *_lost(merged, 0),
        *_lost(merged, 1),
        *holders(merged),
        *_handovers(merged, 0),
        *_handovers(merged, 1),
        *_steps_of_clocks(merged),
    ]
    return tuple(sorted(found, key=lambda f: (f.wall_ns, f.until_wall_ns, f.text)))


def about(merged: Merged, first_wall_ns: int, last_wall_ns: int) -> tuple[Finding, ...]:
    """Those that touch a span of time."""
    return tuple(f for f in find(merged) if f.wall_ns <= last_wall_ns and f.until_wall_ns >= first_wall_ns)


# ---- messages


def _lost(merged: Merged, sender: int) -> Iterator[Finding]:
    """Runs of messages that a running receiver did not get, on any link or on one of several."""
    side, other = merged.sides[sender], merged.sides[1 - sender]
    arrivals = merged.arrivals[1 - sender]
    for link in (None, *range(len(other.links))) if len(other.links) > 1 else (None,):
        run: list[Sent] = []
        whose = ""
        for sent in side.sent:
            copies = arrivals.get(sent.key, [])
            came = bool(copies) if link is None else (not copies or any(copy.link == link for copy in copies))
            doing = "" if came else _doing(merged, 1 - sender, sender, sent.wall_ns)
            if doing != whose or (run and run[-1].key[0] != sent.key[0]):
                yield from _run(merged, sender, run, link, whose)
                run, whose = [], doing
            if doing:
                run.append(sent)
        yield from _run(merged, sender, run, link, whose)


def _doing(merged: Merged, side: int, clock: int, wall_ns: int) -> str:
    """What a side did at a moment of the other's clock: `ran`, `stood still`; empty when its journal cannot tell."""
    moment = merged.on_first(wall_ns, clock)
    for gap in merged.sides[side].gaps:
        if abs(merged.on_first(gap.wall_ns, side) - moment) < GAP_MARGIN_NS:
            return ""
        if merged.on_first(gap.wall_ns, side) < moment < merged.on_first(gap.until_wall_ns, side) + GAP_MARGIN_NS:
            return ""
    for still in merged.sides[side].stood:
        if merged.on_first(still.wall_ns, side) < moment < merged.on_first(still.until_wall_ns, side):
            return "stood still"
    for life in merged.sides[side].lives:
        if merged.on_first(life.first_wall_ns, side) < moment < merged.on_first(life.last_wall_ns, side):
            return "ran"
    return ""


def _run(merged: Merged, sender: int, run: list[Sent], link: int | None, doing: str) -> Iterator[Finding]:
    if not run:
        return
    side, other = merged.sides[sender], merged.sides[1 - sender]
    beats = sum(sent.kind == STATUS for sent in run)
    kinds = [f"{beats} heartbeat{'s' if beats != 1 else ''}"] if beats else []
    kinds += dict.fromkeys(sent.kind for sent in run if sent.kind != STATUS)
    where = f" on {other.links[link]}, came on another link" if link is not None else ""
    began, ended = run[0], run[-1]
    took = f" in {seconds(ended.at - began.at)}" if len(run) > 1 else ""
    yield Finding(
        kind=FindingKind.LOST,
        wall_ns=merged.on_first(began.wall_ns, sender),
        until_wall_ns=merged.on_first(ended.wall_ns, sender),
        text=f"{side.node} sent {', '.join(kinds)}{took}, {other.node} {doing} and never received "
        f"{'it' if len(run) == 1 else 'them'}{where} ({_events(began, ended)} of {side.node})",
        events=tuple((side.node, sent.seq) for sent in (began, ended)),
    )


def _events(began: Sent, ended: Sent) -> str:
    return f"event {began.seq}" if began.seq == ended.seq else f"events {began.seq} to {ended.seq}"


# ---- hand-overs


def _handovers(merged: Merged, giver: int) -> Iterator[Finding]:
    """Every hand-over that this side began."""
    side = merged.sides[giver]
    steps: list[Step] = []
    for step in side.steps:
        if step.state is Handover.ASKED:
            steps = [step]
        elif steps:
            steps.append(step)
            if step.state is Handover.IDLE:
                yield _handover(merged, giver, steps)
                steps = []


def _handover(merged: Merged, giver: int, steps: list[Step]) -> Finding:
    side, other = merged.sides[giver], merged.sides[1 - giver]
    asked, ended = steps[0], steps[-1]
    times = {step.state: step.at for step in steps}
    released = times.get(Handover.RELEASED)
    agreed = times.get(Handover.RELEASING, released)  # one step if there was nothing to stop
    took = seconds(ended.at - asked.at)
    what = f"hand-over of {side.node}'s {asked.what} resources to {other.node}"
    if agreed is None:
        text = f"{what} came to nothing after {took}: {_no_answer(merged, giver, asked)}"
    elif released is None:
        text = f"{what} was called off after {took}, while {side.node} stopped its groups"
    else:
        scripts = _during(other, *_taking(merged, giver, asked, ended))
        taking = f"{seconds(ended.at - released)} until {other.node} had started them{scripts}"
        parts = (
            f"{seconds(agreed - asked.at)} for {other.node}'s answer",
            f"{seconds(released - agreed)} until {side.node} had stopped its groups{_during(side, agreed, released)}",
            f"then {other.node} did not start them" if ended.overdue else taking,
        )
        waits = max(
            (agreed - asked.at, other.node),
            (released - agreed, side.node),
            (ended.at - released, other.node),
        )[1]
        text = f"{what} took {took}, most of it waiting for {waits}: {', '.join(parts)}"
    return Finding(
        kind=FindingKind.HANDOVER,
        wall_ns=merged.on_first(asked.wall_ns, giver),
        until_wall_ns=merged.on_first(ended.wall_ns, giver),
        text=text,
        events=tuple((side.node, step.seq) for step in steps),
    )


def _no_answer(merged: Merged, giver: int, asked: Step) -> str:
    side, other = merged.sides[giver], merged.sides[1 - giver]
    offer = next((sent for sent in side.sent if sent.seq == asked.seq and sent.kind == "ask_resources"), None)
    copies = merged.arrivals[1 - giver].get(offer.key, []) if offer is not None else []
    if not copies:
        return f"{other.node} never received the offer"
    mark = next((mark for mark in other.marks if mark.seq == copies[0].seq), None)
    said = f", and decided: {mark.reason}" if mark is not None else ""
    return f"{other.node} received the offer in its event {copies[0].seq}{said}"


def _during(side: Side, began: int, until: int) -> str:
    ran = [(r.until - r.at, r.text) for r in side.ran if r.at >= began and r.until <= until]
    if not ran:
        return ""
    took, text = max(ran)
    return f" ({text} took {seconds(took)})"


def _taking(merged: Merged, giver: int, asked: Step, ended: Step) -> tuple[int, int]:
    """When the taker started the groups, by its own monotonic clock; (0, 0) if its journal does not show it."""
    began = merged.on_first(asked.wall_ns, giver) - SHORT_NS
    until = merged.on_first(ended.wall_ns, giver) + SHORT_NS
    steps = [s for s in merged.sides[1 - giver].steps if began <= merged.on_first(s.wall_ns, 1 - giver) <= until]
    taking = next((i for i, step in enumerate(steps) if step.state is Handover.TAKING), None)
    if taking is None or taking + 1 >= len(steps):
        return 0, 0
    return steps[taking].at, steps[taking + 1].at


# ---- clocks


def _steps_of_clocks(merged: Merged) -> Iterator[Finding]:
    first, second = (side.node for side in merged.sides)
    for bound in merged.wall.stepped:
        assert bound.low_ns is not None and bound.high_ns is not None, "a step has both bounds"
        yield Finding(
            kind=FindingKind.CLOCK,
            wall_ns=bound.at,
            until_wall_ns=bound.at,
            text=f"the wall clock of {first} or {second} was set by about {seconds(bound.low_ns - bound.high_ns)} "
            f"within these ten minutes; the order of decisions does not depend on it",
        )
