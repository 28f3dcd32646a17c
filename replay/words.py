"""Evidence as short sentences, one line each."""

from __future__ import annotations

from collections.abc import Iterator

from hafsm.core.turn import seconds
from replay.evidence import LATE_NS, Absent, Evidence, Present

CHECK_LATE = 2
"""A check result that took more than twice its interval to come, beyond its own duration, came late."""


def missing(evidence: Evidence) -> Iterator[str]:
    """What did not come."""
    for absent in evidence.absent:
        yield _absent(absent)
    for failure in evidence.failures:
        yield (
            f"check failed {seconds(failure.before_ns)} before: {failure.detail or 'no detail'}, "
            f"after {failure.duration_us / 1000:.1f} ms (event {failure.seq})"
        )
    if evidence.passed_seq and evidence.failures:
        yield f"the last check that passed was {seconds(evidence.passed_ns)} before (event {evidence.passed_seq})"


def _absent(absent: Absent) -> str:
    if not absent.last_seq:
        return f"no {absent.what} ever came in this life of the daemon ({seconds(absent.silent_ns)})"
    due = f"one was due every {seconds(absent.period_ns)}: {absent.missed} did not come"
    return f"last {absent.what} {seconds(absent.silent_ns)} before (event {absent.last_seq}); {due}"


def meanwhile(evidence: Evidence) -> Iterator[str]:
    """What was fine, or not, in the same time."""
    for present in evidence.present:
        yield _present(present)
    if evidence.checks_passed or evidence.checks_failed:
        yield (
            f"health checks: {evidence.checks_passed} passed, {evidence.checks_failed} failed; "
            f"{evidence.reals_up} of {evidence.reals} real servers up"
        )
    elif evidence.interval_set_ns:
        yield f"{evidence.reals_up} of the other {evidence.reals} real servers up"
    if evidence.absent:
        if evidence.refused:
            yield "datagrams came but were refused: " + ", ".join(f"{why} {n}" for why, n in evidence.refused)
        else:
            yield "no datagram was refused"


def _present(present: Present) -> str:
    if not present.count:
        last = f", last {seconds(present.last_ns)} before" if present.last_ns else ""
        return f"{present.what}: none either{last}"
    return f"{present.what}: {present.count} came, last {seconds(present.last_ns)} before"


def own(evidence: Evidence) -> Iterator[str]:
    """Whether this director itself was late, so that the silence may have been its own."""
    if evidence.absent:
        if evidence.late_ns >= LATE_NS:
            yield f"this director's loop was late: a deadline passed {seconds(evidence.late_ns)} after its time"
        else:
            yield f"this director was on time: deadlines passed at most {seconds(evidence.late_ns)} late"
    if evidence.interval_set_ns and evidence.interval_ns:
        longest = max((f.duration_us * 1000 for f in evidence.failures[-1:]), default=0)
        extra = evidence.interval_ns - longest
        word = "late" if extra > CHECK_LATE * evidence.interval_set_ns else "on time"
        yield (
            f"the checker was {word}: this result came {seconds(evidence.interval_ns)} after the one before "
            f"(checkinterval {seconds(evidence.interval_set_ns)})"
        )
    for note in evidence.notes:
        yield f"{note.text} (event {note.seq}, {seconds(note.before_ns)} before)"
