"""The sync daemons' half of the contract inside a kernel of its own, with ipvsadm as the independent witness."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from tests.kernel.sync_guest import SYNC_CASES, WITNESS_CASES

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120


@pytest.fixture(scope="module")
def verdicts(node) -> dict[str, str | None]:
    """Outcome of each case by its name."""
    program = shlex.join([sys.executable, "-B", "-W", "error", "-m", "tests.kernel.sync_guest"])
    done = node.run(f"cd {shlex.quote(str(ROOT))} && modprobe -a veth ipv6 && {program}", timeout=TIMEOUT_S)
    assert done.stderr == ""
    return {verdict["name"]: verdict["error"] for verdict in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", [case.__name__ for case in (*SYNC_CASES, *WITNESS_CASES)])
def test_contract(name, verdicts):
    assert verdicts[name] is None, verdicts[name]
