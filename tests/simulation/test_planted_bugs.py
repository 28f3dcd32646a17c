"""Every invariant can fail: a bug planted for it breaks it, and without the bug the same run breaks nothing."""

import inspect

import pytest

from hafsm.core.step import step
from replay import invariants, invariants_cluster
from replay.simulator_watch import Watch
from tests.simulation.planted import BUGS, Bug, simulation

WORLDS_OWN = {"the_same_past_decides_the_same", "it_settles", "calm_stays_calm", "both_know_what_operators_said"}
"""Judged by the watch itself."""


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.invariant)
def test_a_planted_bug_breaks_its_invariant(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.plant(monkeypatch)
    run = simulation(bug)
    bug.begin(run)
    violation = run.run()
    assert violation is not None
    assert violation.invariant == bug.invariant, violation


@pytest.mark.parametrize("faults", sorted({bug.faults for bug in BUGS}, key=str), ids=lambda f: str(len(f)))
def test_the_same_faults_without_a_bug_break_nothing(faults: tuple) -> None:
    run = simulation(Bug("", faults=faults))
    assert run.step is step
    assert run.run() is None
    assert run.watch.seen["settled"] == 2


def test_no_invariant_is_without_its_bug() -> None:
    named = {f.__name__ for f in (*invariants.ALWAYS, *invariants.ON_CHANGE, *invariants_cluster.CLUSTER)}
    assert named | WORLDS_OWN == {bug.invariant for bug in BUGS}
    assert all(name in inspect.getsource(Watch) for name in WORLDS_OWN)
