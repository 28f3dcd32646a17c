"""IPv6 VIPs on this machine's own kernel, in a network namespace that ends with the test."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.ipv6_guest import SHARED_CASES, WITNESS_CASES

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 180
ALONE = ("unshare", "-n", "-p", "-f", "--kill-child", "--mount-proc")


def namespaces_work() -> bool:
    """Whether this process may make a network namespace with IPv6 and a pair of interfaces in it."""
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    tried = [*ALONE, "sh", "-c", "ip link add type veth && echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad"]
    return subprocess.run(tried, capture_output=True, timeout=30, check=False).returncode == 0


if not namespaces_work():
    pytest.skip("IPv6 on a real kernel needs root, iproute2, util-linux, veth and IPv6", allow_module_level=True)


@pytest.fixture(scope="module")
def verdicts() -> dict[str, str | None]:
    done = subprocess.run(
        [*ALONE, sys.executable, "-W", "error", "-m", "tests.kernel.ipv6_guest"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return {verdict["name"]: verdict["error"] for verdict in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", [case.__name__ for case in (*SHARED_CASES, *WITNESS_CASES)])
def test_ipv6(name, verdicts):
    assert verdicts[name] is None, verdicts[name]
