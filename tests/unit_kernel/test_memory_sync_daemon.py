"""The embedded kernel keeps the contract of the IPVS sync daemons."""

from __future__ import annotations

import errno

import pytest

from hafsm.errors import KernelError
from hafsm.kernel.memory import MemoryKernel
from tests.kernel.contract_guest import Bench, error_of
from tests.kernel.sync_guest import BACKUP, MASTER, SYNC_CASES


@pytest.fixture
def kernel() -> MemoryKernel:
    return MemoryKernel(lambda: 0, interfaces=("lan0", "lan1"))


@pytest.mark.parametrize("case", SYNC_CASES, ids=lambda case: case.__name__)
def test_contract(case, kernel):
    case(Bench(kernel, lambda: 0, lambda: None))


def test_a_refusal_on_purpose_changes_nothing(kernel):
    kernel.set_sync_daemon(MASTER)
    kernel.fail_next("set_sync_daemon", errno.ENOMEM)
    assert error_of(lambda: kernel.set_sync_daemon(BACKUP)).errno == errno.ENOMEM
    assert kernel.sync_daemons() == (MASTER,)
    kernel.fail_next("sync_daemons", errno.EIO)
    with pytest.raises(KernelError):
        kernel.sync_daemons()


def test_without_a_list_of_interfaces_every_one_exists():
    kernel = MemoryKernel(lambda: 0)
    kernel.set_sync_daemon(MASTER)
    assert kernel.sync_daemons() == (MASTER,)
