"""What a client loses when a director dies, stops, returns or stands still: hafsm beside keepalived and heartbeat.

    make bench-failover                                  all pairs, 5 runs each, about half an hour
    .venv/bin/python -m tests.bench.failover_bench --runs 2 --pairs hafsm,keepalived --period-ms 200

A client asks every 10 ms from rotating addresses; an outage is the time between the last question that was answered
before failures and the first one after them (both counted from when they were asked). Who owns the VIP is who answers
ARP for it, asked every 10 ms too, so nothing shorter than 10 ms is told apart. Needs root and Debian's user-mode-linux;
a pair whose program is not installed is left out.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.bench.failover_pairs import BACKUP, PAIRS, PRIMARY, Pair
from tests.interop.lab import missing_prerequisite as lacks_for_namespaces
from tests.kernel.lab import Watch
from tests.kernel.site import LabError, missing_prerequisite, wait_for

FREEZE_S = 10.0
AFTERWARDS_S = 25.0
"""How long who owns the VIP is watched after waking: heartbeat was seen to leave it alone for 19 s."""
SETTLE_S = 120
TIMEOUT_S = 0.5
"""Below the 1 s after which TCP repeats a lost SYN: a question asked while nobody answered must not succeed later."""
CALM = 100
"""This many answered questions in a row (1 s) end a measurement."""
TABLE = ("power cut", "failback", "graceful stop", "frozen: outage", "then both own it", "then nobody does")


@dataclass
class Figures:
    """Seconds of every run of one pair, by the name of the row."""

    samples: dict[str, list[float]] = field(default_factory=lambda: {row: [] for row in TABLE})
    trouble: str = ""
    """Why the pair ended early."""


class Measurement:
    """Drives one pair through its runs."""

    def __init__(self, pair: Pair, figures: Figures) -> None:
        self.pair, self.figures = pair, figures

    def run(self) -> None:
        """From the primary owning the VIP to the primary owning it again."""
        pair = self.pair
        with self.outage("power cut", BACKUP):
            pair.power_cut(PRIMARY)
        pair.power_on(PRIMARY)
        with self.outage("failback", PRIMARY):
            pair.start(PRIMARY)
        with self.outage("graceful stop", BACKUP):
            pair.stop(PRIMARY)
        pair.ended(PRIMARY)
        with self.outage("failback", PRIMARY):
            pair.start(PRIMARY)
        self.freeze()

    def settle(self) -> None:
        """Wait until the primary alone owns the VIP and the client is served."""
        self.owned_by(PRIMARY)
        with self.pair.client.watch(self.pair.vip, interval=0.01, timeout=TIMEOUT_S) as watch:
            self.served(watch, time.monotonic())

    def owned_by(self, director: int) -> None:
        owner = {self.pair.mac(director)}
        wait_for(lambda: self.pair.owners.now() == owner, SETTLE_S, f"director {director} alone owns the VIP")

    def served(self, watch: Watch, since: float) -> None:
        def calm() -> bool:
            last = watch.since(since)[-CALM:]
            return len(last) == CALM and all(asked.answer is not None for asked in last)

        wait_for(calm, SETTLE_S, "the client is served", interval=0.2)

    @contextmanager
    def outage(self, row: str, owner: int) -> Iterator[None]:
        """Measure what the client loses until `owner` has the VIP."""
        with self.pair.client.watch(self.pair.vip, interval=0.01, timeout=TIMEOUT_S) as watch:
            self.served(watch, 0.0)
            yield
            self.owned_by(owner)
            self.served(watch, time.monotonic())
            self.figures.samples[row].append(watch.longest_outage())

    def freeze(self) -> None:
        pair = self.pair
        with pair.client.watch(pair.vip, interval=0.01, timeout=TIMEOUT_S) as watch:
            self.served(watch, 0.0)
            pair.freeze(PRIMARY)
            frozen = time.monotonic()
            self.passed(frozen + FREEZE_S)
            thawed = time.monotonic()
            pair.thaw(PRIMARY)
            self.passed(thawed + AFTERWARDS_S)
            self.figures.samples["frozen: outage"].append(watch.longest_outage())
        until = time.monotonic()
        self.figures.samples["then both own it"].append(pair.owners.both(thawed, until))
        self.figures.samples["then nobody does"].append(pair.owners.nobody(thawed, until))
        self.settle()

    def passed(self, at: float) -> None:
        wait_for(lambda: bool(self.pair.owners.moments(since=at)), SETTLE_S, "time passes in the laboratory")


def measure(make: Callable[[int], Pair], runs: int, period_ms: int, until: float) -> Figures:
    """All runs of one pair; ends early, keeping what it has, after `until` (`time.monotonic`) or on trouble."""
    figures = Figures()
    pair = make(period_ms)
    try:
        measurement = Measurement(pair, figures)
        pair.start(PRIMARY)
        pair.start(BACKUP)
        measurement.settle()
        for number in range(runs):
            if time.monotonic() > until:
                figures.trouble = f"no time left after {number} runs"
                break
            measurement.run()
            print(f"  run {number + 1} of {runs}", file=sys.stderr, flush=True)
    except LabError as error:
        figures.trouble = str(error)
    finally:
        pair.close()
    return figures


def median(samples: list[float]) -> str:
    """`median (least to most)` in seconds."""
    if not samples:
        return "–"
    return f"{statistics.median(samples):.2f} ({min(samples):.2f} to {max(samples):.2f})"


def missing(name: str) -> str:
    """What this machine lacks for a pair; empty when it lacks nothing."""
    if "namespaces" in name:
        return lacks_for_namespaces()
    if name == "keepalived" and shutil.which("keepalived") is None:
        return "it needs Debian's keepalived"
    return missing_prerequisite()


def main() -> None:
    parser = argparse.ArgumentParser(description="client-seen outages of hafsm, keepalived and heartbeat")
    parser.add_argument("--runs", type=int, default=5, help="of each pair (default 5)")
    parser.add_argument("--period-ms", type=int, default=1000, help="a sign of life every so often (default 1000)")
    parser.add_argument("--limit-s", type=float, default=2400, help="no run begins after so long (default 2400)")
    parser.add_argument("--pairs", default=",".join(pair.name.replace(", ", "-") for pair in PAIRS))
    options = parser.parse_args()
    until = time.monotonic() + options.limit_s
    wanted = options.pairs.split(",")
    columns: dict[str, Figures] = {}
    for pair in PAIRS:
        if pair.name.replace(", ", "-") not in wanted:
            continue
        lacks = missing(pair.name)
        if lacks:
            print(f"{pair.name}: left out, {lacks}", flush=True)
            continue
        print(f"{pair.name} …", file=sys.stderr, flush=True)
        columns[pair.name] = measure(pair, options.runs, options.period_ms, until)
    report(columns, options.period_ms)


def report(columns: dict[str, Figures], period_ms: int) -> None:
    """The table, as Markdown: a row a fault, a column a pair."""
    print(f"\nseconds, median (least to most); a sign of life every {period_ms} ms, death after three\n")
    runs = [str(len(figures.samples["then both own it"])) for figures in columns.values()]
    rows = [["", *columns], ["---"] * (len(columns) + 1), ["runs", *runs]]
    rows += [[row, *(median(figures.samples[row]) for figures in columns.values())] for row in TABLE]
    for cells in rows:
        print("| " + " | ".join(cells) + " |")
    for name, figures in columns.items():
        if figures.trouble:
            print(f"\n{name} ended early: {figures.trouble}")


if __name__ == "__main__":
    main()
