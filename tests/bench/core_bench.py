"""µs for one `step`, events a second replayed. Budgets: 10 µs steady, 100 µs with a transition, 100,000 events/s."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hafsm.core import events as ev
from hafsm.core.settings import SECOND
from hafsm.core.step import step
from journal.export import export
from replay.engine import replay
from tests.unit_core.pair import B, Pair
from tests.unit_replay.recording import record

ROUNDS = 20_000
REPEATS = 5
REPLAYED_EVENTS = 200_000


def microseconds(call: Callable[[], object], rounds: int = ROUNDS) -> float:
    """The best of five: what the code costs when nothing else disturbs it."""
    best = float("inf")
    for _ in range(REPEATS):
        began = time.perf_counter()
        for _ in range(rounds):
            call()
        best = min(best, (time.perf_counter() - began) / rounds)
    return best * 1e6


def main() -> None:
    pair = Pair().start()
    pair.a.report_checks(a31=True, a41=True)
    pair.run(11 * SECOND)
    state = pair.a.state
    peer = state.peer
    assert peer is not None
    ok = tuple(ev.CheckResult(check=index, ok=True, duration_us=300) for index in range(2))
    cases: list[tuple[str, int, ev.Event]] = [
        (
            "steady: heartbeat received",
            10,
            ev.HeartbeatReceived(
                at=state.now, link=0, node=B, generation=1, sequence=peer.sequence + 1, status="active", journal=9
            ),
        ),
        ("steady: own heartbeat due", 10, ev.DeadlinePassed(at=state.beat_at)),
        ("steady: batch of two checks", 10, ev.ChecksReported(at=state.now, plan=state.checks_plan, results=ok)),
        (
            "transition: a real server fails",
            100,
            ev.ChecksReported(
                at=state.now, plan=state.checks_plan, results=(ev.CheckResult(check=0, ok=False, detail="refused"),)
            ),
        ),
        (
            "transition: the peer says goodbye, take-over",
            100,
            ev.MessageReceived(at=state.now, link=0, node=B, kind="shutdone", generation=1, sequence=peer.sequence + 1),
        ),
    ]
    table = Table("step", "µs", "budget", title="core", title_justify="left")
    for name, budget, event in cases:
        table.add_row(
            name, f"{microseconds(lambda event=event: step(state, event), ROUNDS // (budget // 10)):.1f}", str(budget)
        )
    Console().print(table)
    replayed()


def replayed() -> None:
    """A journal of steady hours, folded again with its chain verified."""
    pair = Pair().start()
    while len(pair.a.log) < REPLAYED_EVENTS // 20:
        pair.run(60 * SECOND)
        pair.a.report_checks(a31=True, a41=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        record(path / "j", pair.a)
        export(path / "j", path / "x.db")
        best = 0.0
        for _ in range(REPEATS):
            began = time.perf_counter()
            result = replay(path / "x.db")
            assert result.identical
            best = max(best, result.events / (time.perf_counter() - began))
    print(f"replay, verified, decisions compared: {best:,.0f} events/s (budget 100,000)")


if __name__ == "__main__":
    main()
