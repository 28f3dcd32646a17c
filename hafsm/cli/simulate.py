"""`hafsm simulate`."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple

import click

from hafsm import __version__
from hafsm.config.load import load
from hafsm.core.events import DaemonStarted, Event
from hafsm.core.settings import Settings
from hafsm.core.state import initial
from hafsm.core.turn import Decision
from hafsm.testing import first_node
from journal.errors import JournalError
from journal.export import export
from replay.invariants import Violation
from replay.recording import Recording, record_machine
from replay.simulator import Simulation
from replay.simulator_failure import Failure, Runner, shrink
from replay.simulator_faults import plan
from replay.simulator_machine import Machine
from replay.simulator_site import Site, bounds_of, random_site, site_of

FAILED, UNUSABLE = 1, 2


class Outcome(NamedTuple):
    """One run, as a worker process reports it."""

    seed: int
    events: int
    seen: Counter[str]
    violation: Violation | None
    crash: str
    """Text of an exception that is no violation: a bug of the core or of the simulator."""


@click.command()
@click.option("--config-dir", type=click.Path(path_type=Path, file_okay=False), help="Simulate this configuration.")
@click.option("--seed", type=int, help="First seed; each run takes the next.  [default: the time]")
@click.option("--hours", type=float, default=4.0, show_default=True, help="Simulated hours of each run.")
@click.option("--runs", type=int, default=1, show_default=True)
@click.option("--jobs", type=int, default=1, show_default=True, help="Runs at a time.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("simulation"), show_default=True,
              help="Folder for the incident files of a failure.")  # fmt: skip
@click.option("--journal", type=click.Path(path_type=Path, file_okay=False), help="Write the first director's journal.")
def simulate(
    config_dir: Path | None,
    seed: int | None,
    hours: float,
    runs: int,
    jobs: int,
    output: Path,
    journal: Path | None,
) -> None:
    """Run whole clusters in this process, from one integer, with faults, and judge every event.

    Without --config-dir every run draws its own small cluster. The first failure is shrunk and written as incident
    files of both directors, which `hafsm replay` opens. Exit status: 0 nothing failed, 1 an invariant was broken or the
    core crashed, 2 the configuration cannot be used.
    """
    first = seed if seed is not None else time.time_ns() // 1_000_000_000
    settings = _settings(config_dir) if config_dir is not None else None
    click.echo(f"seed={first} commit={commit()} runs={runs} hours={hours:g}")
    if journal is not None:
        _write_journal(journal, _site(settings, first), first, hours)
        return
    events = 0
    seen: Counter[str] = Counter()
    for outcome in _outcomes(settings, first, hours, runs, jobs):
        events += outcome.events
        seen += outcome.seen
        if outcome.crash or outcome.violation is not None:
            _failed(_site(settings, outcome.seed), outcome, hours, output)
            sys.exit(FAILED)
    click.echo(f"{runs * hours:g} hours, {events} events, {seen['settled']} storms settled: every invariant held")
    for name, times in sorted(seen.items()):
        click.echo(f"  {times:>9}  {name}")


def _settings(directory: Path) -> Settings:
    """The configuration as its first node reads it."""
    loaded = load(directory, me=first_node(directory))
    if loaded.settings is None:
        for finding in loaded.findings:
            click.echo(str(finding), err=True)
        sys.exit(UNUSABLE)
    if len(loaded.settings.nodes) != 2:
        click.echo(f"{directory / 'ha.cf'}: a simulation needs two `node` lines", err=True)
        sys.exit(UNUSABLE)
    return loaded.settings


def _site(settings: Settings | None, seed: int) -> Site:
    return random_site(seed) if settings is None else site_of(settings)


def _outcomes(settings: Settings | None, first: int, hours: float, runs: int, jobs: int) -> Iterator[Outcome]:
    work = [(settings, seed, hours) for seed in range(first, first + runs)]
    if jobs == 1:
        yield from map(run_once, work)
        return
    with ProcessPoolExecutor(jobs) as pool:
        try:
            yield from pool.map(run_once, work)
        finally:
            pool.shutdown(cancel_futures=True)


def run_once(work: tuple[Settings | None, int, float]) -> Outcome:
    """One run, in whatever process."""
    settings, seed, hours = work
    site = _site(settings, seed)
    gc.disable()  # a run makes next to no cycles, and collecting takes a tenth of its time
    try:
        simulation = Simulation(site, plan(seed, hours, bounds_of(site.settings[0]).settle_ns), seed)
        violation, crash = None, ""
        try:
            violation = simulation.run()
        except Exception as error:
            crash = f"{type(error).__name__}: {error}"
        return Outcome(seed, simulation.events, simulation.watch.seen, violation, crash)
    finally:
        gc.enable()
        gc.collect()


def _failed(site: Site, outcome: Outcome, hours: float, output: Path) -> None:
    click.echo(f"seed={outcome.seed} commit={commit()} failed after {outcome.events} events", err=True)
    if outcome.violation is None:
        click.echo(f"the core or the simulator crashed: {outcome.crash}", err=True)
        return
    click.echo(str(outcome.violation), err=True)
    whole = plan(outcome.seed, hours, bounds_of(site.settings[0]).settle_ns)
    small = shrink(Failure(site, whole, outcome.seed, True, outcome.violation), Runner())
    click.echo(f"shrunk from {len(whole.faults)} faults to {len(small.plan.faults)}:", err=True)
    for fault in small.plan.faults:
        click.echo(f"  {fault}", err=True)
    click.echo(str(small.violation), err=True)
    for path in write_incidents(small, Runner(), _free(output / f"seed-{outcome.seed}")):
        click.echo(f"hafsm replay {path}", err=True)


def _free(folder: Path) -> Path:
    """`folder`, or with the first number that makes it new: what an earlier run has kept stays."""
    numbered = (folder.with_name(f"{folder.name}-{number}") for number in count(2))
    return next(path for path in chain((folder,), numbered) if not path.exists())


def write_incidents(failure: Failure, runner: Runner, folder: Path) -> list[Path]:
    """The journals of both directors of a failed run, each as one file."""
    simulation, _ = runner.run(failure.site, failure.plan, failure.seed, drift=failure.drift)
    paths = []
    folder.mkdir(parents=True, exist_ok=True)
    for machine in simulation.machines:
        if not any(life.events for life in machine.lives):
            continue
        segments = folder / f"{machine.name}.journal"
        record_machine(segments, machine, runner.step)
        path = folder / f"{machine.name}.db"
        export(segments, path, overwrite=True)
        paths.append(path)
    (folder / "faults.txt").write_text(
        f"seed {failure.seed}, commit {commit()}\n{failure.violation}\n"
        + "".join(f"{fault}\n" for fault in failure.plan.faults)
    )
    return paths


def _write_journal(folder: Path, site: Site, seed: int, hours: float) -> None:
    """A journal of any length, written as it happens: for benches and for looking at."""
    if folder.exists() and any(folder.iterdir()):
        click.echo(f"{folder}: is not empty; the journal of a simulation begins in a new folder", err=True)
        sys.exit(UNUSABLE)
    recording = Recording(folder)
    written = 0

    def record(machine: Machine, event: Event, decision: Decision) -> None:
        nonlocal written
        if machine.index:
            return
        life = machine.lives[-1]
        if isinstance(event, DaemonStarted):
            state = initial(life.settings)
            state.number, state.next_action = decision.state.number - 1, life.next_action
            recording.begin(state, wall_ns=life.wall_ns, boot_id=life.boot_id, version=event.version)
        recording.append(event, decision)
        written += 1

    calm = bounds_of(site.settings[0]).settle_ns
    simulation = Simulation(site, plan(seed, hours, calm), seed, recorder=record, keep=False)
    violation = simulation.run()
    try:
        recording.close()
    except JournalError as error:
        click.echo(str(error), err=True)
        sys.exit(FAILED)
    click.echo(f"{folder}: {written} events")
    if violation is not None:
        click.echo(str(violation), err=True)
        sys.exit(FAILED)


def commit() -> str:
    """The checkout's commit, or the version of an installed hafsm."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return __version__
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return __version__
    return done.stdout.strip()
