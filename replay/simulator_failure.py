"""A run that failed, made small: the fewest faults, the shortest, in the quietest world, that break the same rule."""

from __future__ import annotations

from typing import NamedTuple

from hafsm.core.step import step as core_step
from replay.invariants import Violation
from replay.shrink import fewest
from replay.simulator import Simulation, Step
from replay.simulator_faults import Fault, Plan, shortened
from replay.simulator_site import Bounds, Site

AFTER_NS = 1_000_000_000
"""A shrunk run ends so soon after the violation that it looks for."""


class Failure(NamedTuple):
    """A run and what it broke."""

    site: Site
    plan: Plan
    seed: int
    drift: bool
    violation: Violation


class Runner(NamedTuple):
    """How runs are made."""

    step: Step = core_step
    bounds: Bounds | None = None

    def run(self, site: Site, plan: Plan, seed: int, *, drift: bool = True) -> tuple[Simulation, Violation | None]:
        simulation = Simulation(site, plan, seed, step=self.step, bounds=self.bounds, drift=drift)
        return simulation, simulation.run()


def shrink(failure: Failure, runner: Runner, *, tries: int = 200) -> Failure:
    """Leave out faults, shorten the others, stop the drift, as long as the same invariant breaks."""
    _, found, ends = _again(failure, runner, failure.plan.faults, failure.drift, failure.plan.ends)
    if found is None:
        return failure
    faults = fewest(
        [fault for fault in failure.plan.faults if fault.at <= ends],
        lambda some: _again(failure, runner, tuple(some), failure.drift, ends)[1] is not None,
        tries=tries,
    )
    drift = failure.drift and _again(failure, runner, tuple(faults), False, ends)[1] is None
    for index, fault in enumerate(faults):
        while (shorter := shortened(fault)) is not fault:
            candidate = (*faults[:index], shorter, *faults[index + 1 :])
            if _again(failure, runner, candidate, drift, ends)[1] is None:
                break
            faults[index] = fault = shorter
    plan, found, _ = _again(failure, runner, tuple(faults), drift, ends)
    if found is None:
        return failure
    return Failure(failure.site, plan, failure.seed, drift, found)


def _again(
    failure: Failure, runner: Runner, faults: tuple[Fault, ...], drift: bool, ends: int
) -> tuple[Plan, Violation | None, int]:
    """Run with other faults; the violation only if it is one of the same invariant; when that was."""
    checkpoints = tuple(moment for moment in failure.plan.checkpoints if moment <= ends)
    plan = Plan(faults, checkpoints, min(ends, failure.plan.ends))
    simulation, found = runner.run(failure.site, plan, failure.seed, drift=drift)
    if found is None or found.invariant != failure.violation.invariant:
        return plan, None, ends
    return plan, found, simulation.now + AFTER_NS
