"""µs for one `step`, events a second replayed. Budgets: 10 µs steady, 100 µs with a transition, 100,000 events/s."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from hafsm.core import events as ev
from hafsm.core.settings import SECOND, Forwarding, RealServer, RealVerb, VirtualService
from hafsm.core.step import step
from journal.export import export
from replay.engine import replay
from tests.unit_core.pair import B, Pair, check, service
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
    large()
    replayed()


SERVERS = 5_000


def sized(services: int) -> tuple[VirtualService, ...]:
    """`SERVERS` real servers in so many virtual services; each is checked by itself."""
    each = SERVERS // services
    return tuple(
        service(
            address=f"10.{200 + n // 200}.{n % 200}.1",
            quiescent=True,
            reals=tuple(server(n * each + position) for position in range(each)),
        )
        for n in range(services)
    )


def server(number: int) -> RealServer:
    address = f"10.{number // 62500}.{number // 250 % 250}.{number % 250 + 1}"
    return RealServer(address=address, port=80, forwarding=Forwarding.GATE, check=check(address))


def large() -> None:
    """One director with many real servers: what one event costs must not follow from all of them."""
    table = Table("step", "500 services", "1 service", title=f"{SERVERS} real servers, ms", title_justify="left")
    rows: dict[str, list[str]] = {}
    for services in (500, 1):
        for name, cost in costs(sized(services)).items():
            rows.setdefault(name, []).append(f"{cost / 1000:.2f}")
    for name, cells in rows.items():
        table.add_row(name, *cells)
    Console().print(table)


def costs(services: tuple[VirtualService, ...]) -> dict[str, float]:
    """µs for one step of each kind."""
    pair = Pair(services=services)
    pair.a.start()
    pair.until(lambda: pair.holders() == [pair.a.name])
    state = pair.a.state
    every = tuple(ev.CheckResult(check=index, ok=True, duration_us=300) for index in range(len(state.checks)))
    pair.a.fold(ev.ChecksReported(at=pair.now, plan=state.checks_plan, results=every))
    pair.run(2 * SECOND)
    state = pair.a.state
    assert sum(len(entry.destinations) for entry in pair.a.table) == SERVERS

    def batch(*results: ev.CheckResult) -> ev.ChecksReported:
        return ev.ChecksReported(at=state.now, plan=state.checks_plan, results=results)

    failing = batch(ev.CheckResult(check=SERVERS // 2, ok=False, detail="refused"))
    failed = step(state, failing)
    done = ev.ActionFinished(at=state.now, action=failed.actions[-1].id, outcome=ev.Outcome.DONE)
    fresh = sized(len(services))
    middle = fresh[len(fresh) // 2]
    heavier = replace(middle, reals=(*middle.reals[:-1], replace(middle.reals[-1], weight=9)))
    edited = tuple(heavier if one is middle else one for one in fresh)
    reload = ev.ServicesReloaded(at=state.now, services=edited)
    assert len(step(state, reload).actions) == 1, "one request"
    drain = ev.RealRequested(
        at=state.now,
        verb=RealVerb.DRAIN,
        targets=((middle.key, middle.reals[0].key),),
        by="alice",
        wall_ns=0,
    )
    return {
        "steady: batch of all checks": microseconds(lambda: step(state, batch(*every)), 10),
        "steady: batch of 250 checks": microseconds(lambda: step(state, batch(*every[:250])), 100),
        "transition: one server fails": microseconds(lambda: step(state, failing), 100),
        "its request to the kernel is done": microseconds(lambda: step(failed.state, done), 100),
        "the periodic look (every 10 s)": microseconds(
            lambda: step(state, ev.DeadlinePassed(at=max(state.now, state.observe_at))), 100
        ),
        "an operator drains one": microseconds(lambda: step(state, drain), 100),
        "reload with one line changed": microseconds(lambda: step(state, reload), 10),
    }


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
