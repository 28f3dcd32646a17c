"""The address half of the contract on this machine's own kernel, in a network namespace that ends with the test."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel import contract_guest, witness_guest

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120
ALONE = ("unshare", "-n", "-p", "-f", "--kill-child", "--mount-proc")


def namespaces_work() -> bool:
    """Whether this process may make a network namespace with a pair of interfaces in it."""
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    tried = [*ALONE, "ip", "link", "add", "type", "veth"]
    return subprocess.run(tried, capture_output=True, timeout=30, check=False).returncode == 0


if not namespaces_work():
    pytest.skip("addresses on a real kernel need root, iproute2, util-linux and veth", allow_module_level=True)


@pytest.fixture(scope="module")
def verdicts() -> dict[str, str | None]:
    done = subprocess.run(
        [*ALONE, sys.executable, "-W", "error", "-m", "tests.kernel.contract_guest", "addresses"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return {verdict["name"]: verdict["error"] for verdict in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize(
    "name", [case.__name__ for case in (*contract_guest.ADDRESS_CASES, *witness_guest.ADDRESS_CASES)]
)
def test_addresses(name, verdicts):
    assert verdicts[name] is None, verdicts[name]
