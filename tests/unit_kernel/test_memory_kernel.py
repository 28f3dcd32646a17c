"""The embedded kernel keeps the contract, by a clock that only moves when it is told to."""

from __future__ import annotations

import errno
from dataclasses import dataclass

import pytest

from hafsm.core.ipvs import Operation, TableEntry, Verb
from hafsm.core.settings import SECOND, Address
from hafsm.errors import KernelError
from hafsm.kernel.interface import Kernel
from hafsm.kernel.memory import MemoryKernel
from tests.kernel.contract_guest import ADDRESS_CASES, IPVS_CASES, Bench, do, error_of, real, service, vip
from tests.kernel.ipv6_guest import SHARED_CASES

STEP_NS = SECOND // 50


@dataclass
class Clock:
    now_ns: int = 5 * SECOND

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, ns: int = STEP_NS) -> None:
        self.now_ns += ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kernel(clock) -> MemoryKernel:
    return MemoryKernel(clock, interfaces=("lan0", "lan1", "lo"))


@pytest.fixture
def bench(kernel, clock) -> Bench:
    typed: Kernel = kernel
    return Bench(typed, clock, clock.advance)


@pytest.mark.parametrize("case", [*ADDRESS_CASES, *IPVS_CASES, *SHARED_CASES], ids=lambda case: case.__name__)
def test_contract(case, bench):
    case(bench)


def test_a_lease_ends_to_the_nanosecond(kernel, clock):
    kernel.add_address(vip(), 2)
    assert kernel.tick() == 7 * SECOND
    clock.advance(2 * SECOND - 1)
    assert kernel.held_addresses((vip(),)) == (vip(),)
    clock.advance(1)
    assert kernel.held_addresses((vip(),)) == ()
    assert kernel.tick() is None


def test_watchers_hear_of_every_change_and_of_nothing_else(kernel, clock):
    heard: list[tuple[tuple[Address, ...], tuple[TableEntry, ...]]] = []
    kernel.on_change(lambda addresses, table: heard.append((addresses, table)))
    kernel.add_address(vip(), 2)
    kernel.add_address(vip(), 2)
    kernel.renew_addresses((vip(),), 2)
    kernel.held_addresses((vip(),))
    kernel.remove_address(vip("192.0.2.11"))
    kernel.apply_operations([Operation(verb=Verb.DELETE_SERVICE, service=service())])
    assert heard == [((vip(),), ())]
    clock.advance(2 * SECOND)
    kernel.tick()
    assert heard[1:] == [((), ())]
    kernel.apply_operations([Operation(verb=Verb.ADD_SERVICE, service=service())])
    assert heard[2:] == [((), (TableEntry(service=service()),))]


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("prepare", {"ipvs": True}),
        ("held_addresses", {"candidates": (vip(),)}),
        ("add_address", {"address": vip(), "lease_s": 5}),
        ("renew_addresses", {"addresses": (vip(),), "lease_s": 5}),
        ("remove_address", {"address": vip()}),
        ("announce_address", {"address": vip()}),
        ("read_table", {}),
        ("apply_operations", {"operations": [Operation(verb=Verb.ADD_SERVICE, service=service())]}),
    ],
)
def test_each_method_can_be_refused_once(kernel, method, arguments):
    before = kernel.snapshot()
    kernel.fail_next(method, errno.ENOBUFS)
    assert error_of(lambda: getattr(kernel, method)(**arguments)).errno == errno.ENOBUFS
    assert kernel.snapshot() == before and kernel.announced == []
    getattr(kernel, method)(**arguments)


def test_one_ipvs_operation_can_be_refused_among_others(kernel, bench):
    kernel.fail_next(Verb.ADD_DESTINATION, errno.ENOMEM)
    operations = [
        Operation(verb=Verb.ADD_SERVICE, service=service()),
        Operation(verb=Verb.ADD_DESTINATION, service=service(), destination=real(1)),
        Operation(verb=Verb.ADD_DESTINATION, service=service(), destination=real(2)),
    ]
    assert kernel.apply_operations(operations) == (0, errno.ENOMEM, 0)
    assert kernel.read_table() == (TableEntry(service=service(), destinations=(real(2),)),)
    assert do(bench, Verb.ADD_DESTINATION, service(), real(1)) == 0


def test_announcements_are_kept_in_order(kernel):
    kernel.announce_address(vip("192.0.2.11"))
    kernel.announce_address(vip())
    assert kernel.announced == [vip("192.0.2.11"), vip()]


def test_any_interface_exists_unless_they_are_listed(clock):
    free = MemoryKernel(clock)
    free.add_address(vip(interface="whatever7"), 5)
    assert free.held_addresses((vip(interface="whatever7"), vip(interface="lan0"))) == (vip(interface="whatever7"),)
    with pytest.raises(KernelError):
        MemoryKernel(clock, interfaces=()).add_address(vip(interface=""), 5)
