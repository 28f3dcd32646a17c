"""Traffic through every forwarding method on a real kernel; the scenario's step 10 with hafsm doing the work."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from tests.kernel import traffic_guest
from tests.kernel.uml import Node, boot

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120


@pytest.fixture(scope="module")
def ground() -> Node:
    """One kernel: the director, and beside it a switch, two real servers and a client in namespaces."""
    node = boot("server40", hostname="server40.example.com", memory_mib=256)
    yield node
    node.close()


@pytest.fixture(scope="module")
def verdicts(ground: Node) -> dict[str, str | None]:
    """Outcome of each case by its name."""
    ground.run(traffic_guest.NETWORK, timeout=TIMEOUT_S)
    program = shlex.join([sys.executable, "-B", "-W", "error", "-m", "tests.kernel.traffic_guest"])
    done = ground.run(f"cd {shlex.quote(str(ROOT))} && {program}", timeout=TIMEOUT_S)
    assert done.stderr == ""
    return {verdict["name"]: verdict["error"] for verdict in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", [case.__name__ for case in traffic_guest.CASES])
def test_traffic(name, verdicts):
    assert verdicts[name] is None, verdicts[name]
