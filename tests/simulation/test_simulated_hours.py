"""Simulated hours with fixed seeds: every invariant holds, and what was to be reached was.

HAFSM_SIMULATED_HOURS says how many (CI: 1,000); without it 24, so that a developer's run stays short.
"""

import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from hafsm.cli.simulate import run_once
from replay.simulator_faults import Kind

HOURS = float(os.environ.get("HAFSM_SIMULATED_HOURS", "24"))
EACH = 2.0
FIRST_SEED = 1

REACHED = (
    *("settled", "refolded", "two owners", "no owner"),
    *("peer dead", "peer init", "holds all", "holds none", "phase stable", "phase leaving", "phase gone"),
    *("hand-over asked", "hand-over releasing", "hand-over released", "hand-over taking", "hand-over idle"),
    *("AddAddress", "RemoveAddress", "ProgramIpvs", "RunScript"),
    *("RunFallbackCommand", "RememberOverrides", "agreed on real servers"),
)


def test_no_invariant_breaks() -> None:
    """A failure names its seed: `hafsm simulate --seed N --hours 2` shrinks it and writes the incident files."""
    seeds = range(FIRST_SEED, FIRST_SEED + max(1, round(HOURS / EACH)))
    seen: Counter[str] = Counter()
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for outcome in pool.map(run_once, [(None, seed, EACH) for seed in seeds]):
            failure = outcome.crash or outcome.violation
            if failure:
                pool.shutdown(cancel_futures=True)
            assert not failure, f"seed {outcome.seed}: {failure}"
            seen += outcome.seen
    missed = [name for name in REACHED if not seen[name]]
    assert not missed
    if HOURS >= 200:
        assert not [kind.value for kind in Kind if not seen[kind.value]]
        assert seen["FenceNode"]
