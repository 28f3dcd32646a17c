"""VIPs that two directors held at once, or neither of them; see `findings`."""

from __future__ import annotations

from collections.abc import Iterator

from hafsm.core.settings import MILLISECOND
from hafsm.core.turn import seconds
from replay.finding import SHORT_NS, Finding, FindingKind
from replay.holding import Span
from replay.merge import Merged


def holders(merged: Merged) -> Iterator[Finding]:
    vips = sorted({span.vip for side in merged.sides for span in side.spans})
    for vip in vips:
        spans = sorted(
            (
                (merged.on_first(span.from_wall_ns, index), merged.on_first(span.until_wall_ns, index), index, span)
                for index, side in enumerate(merged.sides)
                for span in side.spans
                if span.vip == vip
            ),
            key=lambda item: item[:3],
        )
        yield from _overlaps(merged, vip, spans)
        yield from _nobody(merged, vip, spans)


_Placed = tuple[int, int, int, Span]
"""(from, until, side, span), on the first director's wall clock."""


def _overlaps(merged: Merged, vip: str, spans: list[_Placed]) -> Iterator[Finding]:
    for place, (began, until, side, span) in enumerate(spans):
        for later, later_until, other, second in spans[place + 1 :]:
            if other == side or later >= until:
                continue
            end = min(until, later_until)
            unsure = merged.wall.ahead(later)[1]
            seen, exact = min(_seen_until(began, until, span), _seen_until(later, later_until, second))
            sure = seen - later > unsure
            least = "" if exact else "at least "
            names = f"{span.node} and {second.node}"
            kind = FindingKind.DOUBLE
            if _handed_over(merged, later, seen):
                kind = FindingKind.SHARED
                took = _with(seen - later, unsure)
                text = f"{names} both served {vip} for {least}{took} while it was handed over, as agreed"
            elif sure:
                text = f"{names} both held {vip} for {least}{_with(seen - later, unsure)}"
            else:
                text = (
                    f"{names} may both have held {vip} for at most {_with(end - later, unsure)}: that life of "
                    f"{span.node} does not show it removed, and its lease ended then"
                )
            yield Finding(
                kind=kind,
                wall_ns=later,
                until_wall_ns=end,
                text=text,
                sure=sure or kind is FindingKind.SHARED,
                uncertainty_ns=unsure,
                events=((span.node, span.from_seq), (second.node, second.from_seq)),
            )


def _seen_until(began: int, until: int, span: Span) -> tuple[int, bool]:
    """The last moment at which a VIP is known to have been there, and whether it went then."""
    return (until, True) if span.certain else (began + span.seen_at - span.from_at, False)


def _handed_over(merged: Merged, began: int, until: int) -> bool:
    """Whether a hand-over without a gap was under way all the time on one side at least."""
    for index, side in enumerate(merged.sides):
        for lent in side.lent:
            first, last = merged.on_first(lent.wall_ns, index), merged.on_first(lent.until_wall_ns, index)
            if first <= began and until <= last + SHORT_NS:
                return True
    return False


def _nobody(merged: Merged, vip: str, spans: list[_Placed]) -> Iterator[Finding]:
    if not spans:
        return
    held_until, last = spans[0][1], spans[0][3]
    for began, until, _, span in spans[1:]:
        if began - held_until > SHORT_NS:
            unsure = merged.wall.ahead(began)[1] if span.node != last.node else 0
            least = "" if last.certain else "at least "
            yield Finding(
                kind=FindingKind.NOBODY,
                wall_ns=held_until,
                until_wall_ns=began,
                text=f"nobody held {vip} for {least}{_with(began - held_until, unsure)}, "
                f"between {last.node} and {span.node}",
                uncertainty_ns=unsure,
                events=((last.node, last.from_seq), (span.node, span.from_seq)),
            )
        if until > held_until:
            held_until, last = until, span


def _with(duration_ns: int, unsure_ns: int) -> str:
    """`1.5 s ± 2 ms`; sub-millisecond uncertainty reads `± 1 ms`."""
    if not unsure_ns:
        return seconds(duration_ns)
    return f"{seconds(duration_ns)} ± {seconds(max(unsure_ns, MILLISECOND))}"
