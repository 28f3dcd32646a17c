"""The IPVS half of the contract inside a kernel of its own, with ipvsadm as the independent witness."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from tests.kernel import contract_guest, witness_guest

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 240


PREPARE = """
from hafsm.errors import KernelError
from hafsm.kernel.linux import LinuxKernel
kernel = LinuxKernel()
try:
    kernel.prepare(ipvs=True)
except KernelError as error:
    print(error)
kernel.close()
"""


@pytest.fixture(scope="module")
def without_ipvs(node) -> str:
    """What `prepare` says while this kernel finds no modules; asked before anything loads them."""
    program = shlex.join([sys.executable, "-B", "-c", PREPARE])
    hide, show = "mount -t tmpfs none /lib/modules", "umount /lib/modules"
    return node.run(f"{hide} && cd {shlex.quote(str(ROOT))} && {program}; {show}").stdout


@pytest.fixture(scope="module")
def verdicts(node, without_ipvs) -> dict[str, dict[str, str | None]]:
    """Outcome of each case by its name, for both halves."""
    outcomes = {}
    for part in ("addresses", "ipvs"):
        program = shlex.join([sys.executable, "-B", "-W", "error", "-m", "tests.kernel.contract_guest", part])
        done = node.run(f"cd {shlex.quote(str(ROOT))} && modprobe -a veth ipv6 && {program}", timeout=TIMEOUT_S)
        assert done.stderr == ""
        lines = map(json.loads, done.stdout.splitlines())
        outcomes[part] = {verdict["name"]: verdict["error"] for verdict in lines}
    return outcomes


def test_a_kernel_without_ipvs_is_told_apart(without_ipvs):
    assert without_ipvs.startswith("use IPVS: ENOENT (the kernel does not offer it; load its module ip_vs (modprobe: ")


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (part, case.__name__)
        for part, cases in (
            ("addresses", (*contract_guest.ADDRESS_CASES, *witness_guest.ADDRESS_CASES)),
            ("ipvs", (*contract_guest.IPVS_CASES, *witness_guest.IPVS_CASES)),
        )
        for case in cases
    ],
)
def test_contract(part, name, verdicts):
    assert verdicts[part][name] is None, verdicts[part][name]
