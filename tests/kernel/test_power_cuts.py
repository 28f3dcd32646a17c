"""A short campaign of power cuts; `python -m tests.kernel.power_cuts --cuts 200` is the long one.

With a patience of the journal that no disk exceeds, so that nothing but law L2 is left: what was done is on disk.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.kernel.explain import Why
from tests.kernel.lab import Lab
from tests.kernel.power_cuts import play

CUTS = 12
LIMIT_S = 120
SEED = int(os.environ.get("HAFSM_POWER_CUTS_SEED", "20261125"))
PATIENCE_MS = 10_000
AIMED = 0.9
"""A director that did not wait for the disk was found out by one in four kernels killed just after a change."""


def test_whatever_is_cut_every_change_has_its_cause_and_every_journal_replays(lab: Lab, tmp_path: Path) -> None:
    """The campaign itself fails if a change by hand is not noticed."""
    explained = play(lab, tmp_path, seed=SEED, cuts=CUTS, limit_s=LIMIT_S, patience_ms=PATIENCE_MS, aimed=AIMED)
    assert explained[Why.JOURNAL] > 50
    assert not explained[Why.LATE_DISK]
