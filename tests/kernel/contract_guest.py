"""The contract of `hafsm.kernel.interface.Kernel` as functions: each takes a `Bench` and asserts one promise.

The same functions run against the embedded kernel (tests/unit_kernel) and, as a program, against a real one:
`python -m tests.kernel.contract_guest addresses|ipvs` must be run as root in a network namespace of its own or in a
kernel of its own, and prints one JSON object a line: {"name": …, "error": null or a traceback}.
"""

from __future__ import annotations

import errno
import json
import logging
import random
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from hafsm.core.ipvs import DestinationEntry, Operation, ServiceEntry, TableEntry, Verb, difference, digest
from hafsm.core.settings import SECOND, Address, Forwarding
from hafsm.errors import KernelError
from hafsm.kernel.interface import Kernel

PATIENCE_S = 30
EDGE_S = 1.1
"""The kernel rounds a lease's start to its own ticks and its end to a second."""


@dataclass
class Bench:
    """A kernel under test, with two interfaces `lan0` and `lan1`; 192.0.2.0/24 is routed to `lan0`."""

    kernel: Kernel
    now_ns: Callable[[], int]
    wait: Callable[[], None]
    """Lets a little time pass."""

    def eventually(self, condition: Callable[[], bool], what: str) -> None:
        deadline = self.now_ns() + PATIENCE_S * SECOND
        while not condition():
            assert self.now_ns() < deadline, f"never happened: {what}"
            self.wait()

    def fill(self, *table: TableEntry) -> None:
        """Make the IPVS table equal to `table`."""
        operations = difference(table, self.kernel.read_table())
        assert not any(self.kernel.apply_operations(operations))
        left = difference(table, self.kernel.read_table())
        assert not left, f"still to do: {', '.join(map(str, left))}"
        assert digest(self.kernel.read_table()) == digest(table)


def vip(ip: str = "192.0.2.10", prefix: int = 24, interface: str = "lan0", **more: str) -> Address:
    return Address(ip=ip, prefix=prefix, interface=interface, **more)


def error_of(call: Callable[[], object]) -> KernelError:
    try:
        call()
    except KernelError as error:
        return error
    raise AssertionError("no KernelError")


def an_added_address_is_held_as_it_was_asked(bench: Bench) -> None:
    address = vip(label="lan0:0", broadcast="192.0.2.255")
    others = (vip(prefix=25), vip(interface="lan1"), vip("192.0.2.11"))
    assert bench.kernel.held_addresses((address, *others)) == ()
    bench.kernel.add_address(address, 60)
    assert bench.kernel.held_addresses((*others, address)) == (address,)
    anywhere = vip(interface="")
    assert bench.kernel.held_addresses((anywhere,)) == (anywhere,)


def adding_twice_is_one_address(bench: Bench) -> None:
    bench.kernel.add_address(vip(), 60)
    bench.kernel.add_address(vip(), 60)
    bench.kernel.remove_address(vip())
    assert bench.kernel.held_addresses((vip(),)) == ()


def a_lease_that_nobody_renews_ends(bench: Bench) -> None:
    started_ns = bench.now_ns()
    bench.kernel.add_address(vip(), 2)
    assert bench.kernel.held_addresses((vip(),)) == (vip(),)
    bench.eventually(lambda: not bench.kernel.held_addresses((vip(),)), "the lease ends")
    assert 2 - EDGE_S <= (bench.now_ns() - started_ns) / SECOND <= 2 + EDGE_S


def renewing_and_adding_again_extend_a_lease(bench: Bench) -> None:
    left, renewed, added, for_ever = (vip(f"192.0.2.{n}") for n in (10, 11, 12, 13))
    for address in (left, renewed, added, for_ever):
        bench.kernel.add_address(address, 2)
    assert bench.kernel.renew_addresses((renewed,), 60) == ()
    bench.kernel.add_address(added, 60)
    assert bench.kernel.renew_addresses((for_ever,), 0) == ()
    bench.eventually(lambda: not bench.kernel.held_addresses((left,)), "the lease that nobody renewed ends")
    assert bench.kernel.held_addresses((left, renewed, added, for_ever)) == (renewed, added, for_ever)


def renewing_shortens_too(bench: Bench) -> None:
    bench.kernel.add_address(vip(), 0)
    assert bench.kernel.renew_addresses((vip(),), 1) == ()
    bench.eventually(lambda: not bench.kernel.held_addresses((vip(),)), "the shortened lease ends")


def renewing_reports_what_is_gone_and_does_not_bring_it_back(bench: Bench) -> None:
    gone = vip("192.0.2.11")
    bench.kernel.add_address(vip(), 60)
    assert bench.kernel.renew_addresses((gone, vip()), 60) == (gone,)
    assert bench.kernel.held_addresses((gone, vip())) == (vip(),)


def removing_what_is_absent_succeeds(bench: Bench) -> None:
    bench.kernel.remove_address(vip())
    bench.kernel.remove_address(vip(interface="nowhere0"))


def removing_the_first_address_of_a_subnet_leaves_the_others(bench: Bench) -> None:
    first, second, third = (vip(f"192.0.2.{n}") for n in (10, 11, 12))
    for address in (first, second, third):
        bench.kernel.add_address(address, 60)
    bench.kernel.remove_address(first)
    assert bench.kernel.held_addresses((first, second, third)) == (second, third)


def the_end_of_one_lease_leaves_the_others(bench: Bench) -> None:
    first, second = vip(), vip("192.0.2.11")
    bench.kernel.add_address(first, 1)
    bench.kernel.add_address(second, 60)
    bench.eventually(lambda: not bench.kernel.held_addresses((first,)), "the first lease ends")
    assert bench.kernel.held_addresses((second,)) == (second,)


def one_ip_on_two_interfaces_is_two_addresses(bench: Bench) -> None:
    there = vip(interface="lan1")
    bench.kernel.add_address(vip(), 60)
    bench.kernel.add_address(there, 60)
    bench.kernel.remove_address(vip())
    assert bench.kernel.held_addresses((vip(), there)) == (there,)


def an_unknown_interface_is_refused_by_name(bench: Bench) -> None:
    nowhere = vip(interface="nowhere0")
    for call in (lambda: bench.kernel.add_address(nowhere, 60), lambda: bench.kernel.announce_address(nowhere)):
        error = error_of(call)
        assert error.errno == errno.ENODEV
        assert "192.0.2.10/24" in error.operation and "nowhere0" in str(error)
    assert bench.kernel.held_addresses((nowhere,)) == ()


def without_an_interface_the_route_decides(bench: Bench) -> None:
    anywhere = vip("192.0.2.10", interface="")
    bench.kernel.add_address(anywhere, 60)
    assert bench.kernel.held_addresses((anywhere, vip(), vip(interface="lan1"))) == (anywhere, vip())
    bench.kernel.add_address(anywhere, 60)
    assert bench.kernel.renew_addresses((anywhere,), 60) == ()
    bench.kernel.announce_address(anywhere)
    bench.kernel.remove_address(anywhere)
    assert bench.kernel.held_addresses((anywhere,)) == ()


def service(port: int = 80, **more: object) -> ServiceEntry:
    return ServiceEntry(**{"protocol": "tcp", "address": "192.0.2.1", "port": port, **more})


def real(number: int, **more: object) -> DestinationEntry:
    values = {"forwarding": Forwarding.MASQ, "weight": 1, "address": f"10.77.0.{number}", "port": 80, **more}
    return DestinationEntry(**values)


def do(bench: Bench, verb: Verb, entry: ServiceEntry, destination: DestinationEntry | None = None) -> int:
    (error,) = bench.kernel.apply_operations([Operation(verb=verb, service=entry, destination=destination)])
    return error


def every_field_survives(bench: Bench) -> None:
    bench.fill(
        TableEntry(
            service=service(scheduler="wlc", persistent_s=60, netmask="255.255.255.0"),
            destinations=(
                real(1, forwarding=Forwarding.GATE, weight=0),
                real(2, forwarding=Forwarding.IPIP, weight=65535, upper_threshold=10, lower_threshold=5),
                real(3, port=8080),
                real(1, port=81),
                DestinationEntry(address="127.0.0.1", port=8080, forwarding=Forwarding.GATE, weight=1),
            ),
        ),
        TableEntry(service=ServiceEntry(protocol="udp", address="192.0.2.1", port=80, scheduler="rr")),
        TableEntry(
            service=ServiceEntry(protocol="fwm", address="", port=0, mark=7, persistent_s=300),
            destinations=(real(1, port=0, forwarding=Forwarding.GATE),),
        ),
        TableEntry(
            service=ServiceEntry(
                protocol="tcp", address="2001:db8::1", port=80, scheduler="sh", persistent_s=1, netmask="64"
            ),
            destinations=(
                real(1, address="2001:db8::2"),
                real(1, address="2001:db8::3", forwarding=Forwarding.GATE, upper_threshold=3),
                real(1, forwarding=Forwarding.IPIP),
            ),
        ),
        TableEntry(
            service=service(
                81, scheduler="sh", scheduler_flags=("flag-3", "sh-fallback", "sh-port"), persistent_s=31 * 86_400
            ),
            destinations=(real(1, address="2001:db8::2", forwarding=Forwarding.IPIP),),
        ),
        TableEntry(service=service(82, scheduler="mh", scheduler_flags=("mh-fallback",))),
        TableEntry(service=service(83, scheduler="wlc", scheduler_flags=("flag-1", "flag-2", "flag-3"))),
        TableEntry(
            service=ServiceEntry(
                protocol="udp", address="192.0.2.1", port=123, one_packet=True, persistent_s=30, scheduler="rr"
            ),
            destinations=(real(1, port=123),),
        ),
        TableEntry(
            service=ServiceEntry(protocol="udp", address="2001:db8::1", port=53, one_packet=True),
            destinations=(real(1, address="2001:db8::2", port=53),),
        ),
        TableEntry(
            service=ServiceEntry(protocol="sctp", address="192.0.2.1", port=80), destinations=(real(1), real(2))
        ),
        TableEntry(service=ServiceEntry(protocol="sctp", address="2001:db8::1", port=80)),
        TableEntry(
            service=ServiceEntry(
                protocol="fwm", address="::", port=0, mark=7, persistent_s=60, netmask="64", one_packet=True
            ),
            destinations=(real(1, address="2001:db8::2", port=0, forwarding=Forwarding.GATE),),
        ),
        TableEntry(service=ServiceEntry(protocol="fwm", address="", port=0, mark=2**32 - 1)),
    )


def connections_are_counted_of_what_is_there(bench: Bench) -> None:
    v6 = ServiceEntry(protocol="tcp", address="2001:db8::1", port=80)
    bench.fill(
        TableEntry(service=service(), destinations=(real(1), real(2))),
        TableEntry(service=v6, destinations=(real(1, address="2001:db8::2"),)),
    )
    counted = bench.kernel.read_connections((service(), v6, service(81)))
    assert counted == {
        ("tcp:192.0.2.1:80", "10.77.0.1:80"): (0, 0),
        ("tcp:192.0.2.1:80", "10.77.0.2:80"): (0, 0),
        ("tcp:[2001:db8::1]:80", "[2001:db8::2]:80"): (0, 0),
    }


def masks_that_mean_nothing_are_shown_empty(bench: Bench) -> None:
    do(bench, Verb.ADD_SERVICE, service(80, netmask="255.255.255.0"))
    do(bench, Verb.ADD_SERVICE, service(81, persistent_s=9, netmask="255.255.255.255"))
    shown = {entry.service for entry in bench.kernel.read_table()}
    assert shown == {service(80), service(81, persistent_s=9)}


def flags_are_shown_by_the_names_of_their_scheduler(bench: Bench) -> None:
    for port, scheduler, asked in (
        (80, "sh", ("flag-1", "flag-2")),
        (81, "mh", ("sh-port", "mh-port")),
        (82, "rr", ("flag-3", "sh-fallback")),
    ):
        assert do(bench, Verb.ADD_SERVICE, service(port, scheduler=scheduler, scheduler_flags=asked)) == 0
    shown = {entry.service.port: entry.service.scheduler_flags for entry in bench.kernel.read_table()}
    assert shown == {80: ("sh-fallback", "sh-port"), 81: ("mh-port",), 82: ("flag-1", "flag-3")}


def flags_persistence_and_mask_can_be_taken_back(bench: Bench) -> None:
    udp = ServiceEntry(protocol="udp", address="192.0.2.1", port=53, scheduler="sh")
    everything = replace(udp, one_packet=True, scheduler_flags=("sh-port",), persistent_s=60, netmask="255.255.0.0")
    for wanted in (everything, udp, replace(udp, scheduler="rr", one_packet=True), replace(udp, persistent_s=9), udp):
        bench.fill(TableEntry(service=wanted, destinations=(real(1),)))


def every_scheduler_can_be_asked_for(bench: Bench) -> None:
    """The kernel loads the module of one that it does not have yet."""
    names = ("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "none")
    for name in names:
        bench.fill(TableEntry(service=service(scheduler=name), destinations=(real(1), real(2, weight=0))))


def a_quiesced_server_keeps_everything_but_its_weight(bench: Bench) -> None:
    full = real(1, weight=9, upper_threshold=10, lower_threshold=5, forwarding=Forwarding.IPIP)
    for weight in (9, 0, 9):
        bench.fill(TableEntry(service=service(), destinations=(replace(full, weight=weight),)))


def a_service_that_would_become_another_is_refused(bench: Bench) -> None:
    """Nothing of it reaches a kernel: mark 0 would be tcp 0.0.0.0:0, a flag without a bit none, 50 days a moment."""
    v6 = ServiceEntry(protocol="tcp", address="2001:db8::1", port=80, persistent_s=60)
    for wrong in (
        ServiceEntry(protocol="fwm", address="", port=0, mark=0),
        service(scheduler_flags=("flag-4",)),
        service(persistent_s=31 * 86_400 + 1),
        service(persistent_s=-1),
        service(persistent_s=60, netmask="24"),
        service(persistent_s=60, netmask="255.255.0"),
        replace(v6, netmask="0"),
        replace(v6, netmask="129"),
        replace(v6, netmask="255.255.255.0"),
        service(address="192.0.2.300"),
    ):
        assert do(bench, Verb.ADD_SERVICE, wrong) == errno.EINVAL, wrong
        assert do(bench, Verb.EDIT_SERVICE, wrong) == errno.EINVAL, wrong
    assert bench.kernel.read_table() == ()


def an_address_of_no_single_host_is_refused(bench: Bench) -> None:
    v6 = ServiceEntry(protocol="tcp", address="2001:db8::1", port=80)
    bench.fill(TableEntry(service=service()), TableEntry(service=v6))
    for entry, addresses in (
        (service(), ("0.0.0.0", "224.0.0.1", "255.255.255.255", "10.0.0.300")),
        (v6, ("::", "ff02::1", "fe80::1")),
    ):
        for address in addresses:
            assert do(bench, Verb.ADD_DESTINATION, entry, real(1, address=address)) == errno.EINVAL, address


def another_family_needs_a_tunnel(bench: Bench) -> None:
    v6 = ServiceEntry(protocol="tcp", address="2001:db8::1", port=80)
    bench.fill(TableEntry(service=service()), TableEntry(service=v6))
    for entry, address in ((service(), "2001:db8::9"), (v6, "10.77.0.9")):
        other = real(1, address=address)
        for forwarding in (Forwarding.MASQ, Forwarding.GATE):
            assert do(bench, Verb.ADD_DESTINATION, entry, replace(other, forwarding=forwarding)) == errno.EINVAL
        assert do(bench, Verb.ADD_DESTINATION, entry, replace(other, forwarding=Forwarding.IPIP)) == 0
        assert do(bench, Verb.EDIT_DESTINATION, entry, replace(other, forwarding=Forwarding.GATE)) == errno.EINVAL
        assert do(bench, Verb.DELETE_DESTINATION, entry, other) == 0
    assert all(not entry.destinations for entry in bench.kernel.read_table())


def adding_what_exists_edits_it(bench: Bench) -> None:
    bench.fill(TableEntry(service=service(), destinations=(real(1),)))
    assert do(bench, Verb.ADD_SERVICE, service(scheduler="rr", persistent_s=5)) == 0
    assert do(bench, Verb.ADD_DESTINATION, service(), real(1, weight=7, forwarding=Forwarding.GATE)) == 0
    assert bench.kernel.read_table() == (
        TableEntry(
            service=service(scheduler="rr", persistent_s=5),
            destinations=(real(1, weight=7, forwarding=Forwarding.GATE),),
        ),
    )


def editing_what_is_absent_adds_it(bench: Bench) -> None:
    assert do(bench, Verb.EDIT_SERVICE, service()) == 0
    assert do(bench, Verb.EDIT_DESTINATION, service(), real(1)) == 0
    assert bench.kernel.read_table() == (TableEntry(service=service(), destinations=(real(1),)),)


def editing_a_service_keeps_its_destinations(bench: Bench) -> None:
    bench.fill(TableEntry(service=service(persistent_s=60), destinations=(real(1),)))
    assert do(bench, Verb.EDIT_SERVICE, service(scheduler="lc")) == 0
    assert bench.kernel.read_table() == (TableEntry(service=service(scheduler="lc"), destinations=(real(1),)),)


def deleting_what_is_absent_succeeds(bench: Bench) -> None:
    assert do(bench, Verb.DELETE_SERVICE, service()) == 0
    assert do(bench, Verb.DELETE_DESTINATION, service(), real(1)) == 0
    bench.fill(TableEntry(service=service()))
    assert do(bench, Verb.DELETE_DESTINATION, service(), real(1)) == 0


def deleting_a_service_takes_its_destinations(bench: Bench) -> None:
    bench.fill(TableEntry(service=service(), destinations=(real(1), real(2))))
    assert do(bench, Verb.DELETE_SERVICE, service()) == 0
    assert do(bench, Verb.ADD_SERVICE, service()) == 0
    assert bench.kernel.read_table() == (TableEntry(service=service()),)


def a_refusal_has_its_errno_and_stops_nothing(bench: Bench) -> None:
    wanted = [
        (Operation(verb=Verb.ADD_DESTINATION, service=service(), destination=real(1)), errno.ESRCH),
        (Operation(verb=Verb.EDIT_DESTINATION, service=service(), destination=real(1)), errno.ESRCH),
        (Operation(verb=Verb.ADD_SERVICE, service=service(81, scheduler="nosuch")), errno.ENOENT),
        (
            Operation(verb=Verb.ADD_SERVICE, service=ServiceEntry(protocol="icmp", address="192.0.2.1", port=1)),
            errno.EPROTONOSUPPORT,
        ),
        (Operation(verb=Verb.ADD_SERVICE, service=service()), 0),
        (Operation(verb=Verb.ADD_DESTINATION, service=service(), destination=real(1, weight=-1)), errno.ERANGE),
        (Operation(verb=Verb.ADD_DESTINATION, service=service(), destination=real(2, weight=2**31)), errno.ERANGE),
        (
            Operation(
                verb=Verb.ADD_DESTINATION, service=service(), destination=real(3, upper_threshold=1, lower_threshold=2)
            ),
            errno.ERANGE,
        ),
        (Operation(verb=Verb.ADD_DESTINATION, service=service()), errno.EINVAL),
        (Operation(verb=Verb.ADD_DESTINATION, service=service(), destination=real(4)), 0),
    ]
    errors = bench.kernel.apply_operations([operation for operation, _ in wanted])
    assert errors == tuple(error for _, error in wanted)
    assert bench.kernel.read_table() == (TableEntry(service=service(), destinations=(real(4),)),)


def operations_on_one_object_keep_their_order(bench: Bench) -> None:
    """Each of these needs the one before it settled, not only sent."""
    bench.fill(TableEntry(service=service(), destinations=(real(1),)))
    operations = [
        Operation(verb=Verb.ADD_DESTINATION, service=service(), destination=real(1, weight=2)),
        Operation(verb=Verb.DELETE_DESTINATION, service=service(), destination=real(1)),
        Operation(verb=Verb.EDIT_DESTINATION, service=service(), destination=real(2)),
        Operation(verb=Verb.DELETE_SERVICE, service=service()),
        Operation(verb=Verb.EDIT_SERVICE, service=service(scheduler="rr")),
        Operation(verb=Verb.ADD_DESTINATION, service=service(), destination=real(3)),
        Operation(verb=Verb.ADD_SERVICE, service=service(scheduler="lc")),
        Operation(verb=Verb.EDIT_DESTINATION, service=service(), destination=real(4)),
    ]
    assert bench.kernel.apply_operations(operations) == (0,) * len(operations)
    bench.fill(TableEntry(service=service(scheduler="lc"), destinations=(real(3), real(4))))


def any_table_becomes_any_other(bench: Bench) -> None:
    """`difference` and the kernel agree: what was wanted is what is there, and then nothing is left to do."""
    dice = random.Random(20_061)
    for _ in range(25):
        ports = dice.sample(range(80, 90), dice.randint(0, 5))
        bench.fill(
            *(
                TableEntry(
                    service=service(
                        port, scheduler=dice.choice(["rr", "wrr", "wlc"]), persistent_s=dice.choice([0, 60])
                    ),
                    destinations=tuple(
                        real(number, weight=dice.randint(0, 3), forwarding=dice.choice(list(Forwarding)))
                        for number in dice.sample(range(1, 20), dice.randint(0, 12))
                    ),
                )
                for port in ports
            )
        )


def many_operations_in_one_call(bench: Bench) -> None:
    destinations = tuple(real(n % 250, address=f"10.78.{n // 250}.{n % 250 + 1}") for n in range(600))
    bench.fill(TableEntry(service=service(), destinations=destinations))
    bench.fill(TableEntry(service=service(), destinations=tuple(destinations[::7])))


def many_refusals_in_one_call(bench: Bench) -> None:
    """Every one is answered, and what stands in for it is done: 600 adds of what exists, 600 edits of what does not."""
    present = tuple(real(1, address=f"10.78.{n // 250}.{n % 250 + 1}") for n in range(600))
    absent = tuple(replace(d, port=81) for d in present)
    bench.fill(TableEntry(service=service(), destinations=present))
    wanted = [replace(d, weight=5) for d in (*present, *absent)]
    operations = [Operation(verb=Verb.ADD_DESTINATION, service=service(), destination=d) for d in wanted[:600]]
    operations += [Operation(verb=Verb.EDIT_DESTINATION, service=service(), destination=d) for d in wanted[600:]]
    operations += [Operation(verb=Verb.ADD_DESTINATION, service=service(99), destination=d) for d in present]
    assert bench.kernel.apply_operations(operations) == (0,) * 1200 + (errno.ESRCH,) * 600
    bench.fill(TableEntry(service=service(), destinations=tuple(wanted)))


Case = Callable[[Bench], None]

ADDRESS_CASES: tuple[Case, ...] = (
    an_added_address_is_held_as_it_was_asked,
    adding_twice_is_one_address,
    a_lease_that_nobody_renews_ends,
    renewing_and_adding_again_extend_a_lease,
    renewing_shortens_too,
    renewing_reports_what_is_gone_and_does_not_bring_it_back,
    removing_what_is_absent_succeeds,
    removing_the_first_address_of_a_subnet_leaves_the_others,
    the_end_of_one_lease_leaves_the_others,
    one_ip_on_two_interfaces_is_two_addresses,
    an_unknown_interface_is_refused_by_name,
    without_an_interface_the_route_decides,
)

IPVS_CASES: tuple[Case, ...] = (
    every_field_survives,
    connections_are_counted_of_what_is_there,
    masks_that_mean_nothing_are_shown_empty,
    flags_are_shown_by_the_names_of_their_scheduler,
    flags_persistence_and_mask_can_be_taken_back,
    every_scheduler_can_be_asked_for,
    a_quiesced_server_keeps_everything_but_its_weight,
    a_service_that_would_become_another_is_refused,
    an_address_of_no_single_host_is_refused,
    another_family_needs_a_tunnel,
    adding_what_exists_edits_it,
    editing_what_is_absent_adds_it,
    editing_a_service_keeps_its_destinations,
    deleting_what_is_absent_succeeds,
    deleting_a_service_takes_its_destinations,
    a_refusal_has_its_errno_and_stops_nothing,
    operations_on_one_object_keep_their_order,
    any_table_becomes_any_other,
    many_operations_in_one_call,
    many_refusals_in_one_call,
)


def run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def lay_cables() -> None:
    """`lan0`–`far0` and `lan1`–`far1`, all up, 192.0.2.0/24 on lan0."""
    run("ip", "link", "set", "lo", "up")
    for number in "01":
        run("ip", "link", "add", f"lan{number}", "type", "veth", "peer", f"far{number}")
        for end in ("lan", "far"):
            run("ip", "link", "set", f"{end}{number}", "up")
    run("ip", "addr", "add", "192.0.2.1/24", "brd", "+", "dev", "lan0")


def clear_addresses() -> None:
    for interface in ("lan0", "lan1"):
        for entry in json.loads(run("ip", "-j", "addr", "show", "dev", interface))[0]["addr_info"]:
            if entry["local"] not in ("192.0.2.1",) and entry["scope"] != "link":
                run("ip", "addr", "del", f"{entry['local']}/{entry['prefixlen']}", "dev", interface)


def report(name: str, check: Callable[[], None]) -> None:
    error = None
    try:
        check()
    except Exception:
        error = traceback.format_exc()
    print(json.dumps({"name": name, "error": error}), flush=True)


def main(part: str) -> None:
    from hafsm.kernel.linux import LinuxKernel  # not loaded where only the embedded kernel runs
    from tests.kernel import witness_guest

    logging.getLogger("hafsm").addHandler(logging.NullHandler())  # standard error is what must not happen
    kernel = LinuxKernel()
    kernel.prepare(ipvs=part == "ipvs")
    bench = Bench(kernel, lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME), lambda: time.sleep(0.02))
    if part == "addresses":
        lay_cables()
        cases = (*ADDRESS_CASES, *witness_guest.ADDRESS_CASES)
    else:
        cases = (*IPVS_CASES, *witness_guest.IPVS_CASES)
    for case in cases:
        if part == "addresses":
            clear_addresses()
        else:
            bench.fill()
        report(case.__name__, lambda case=case: case(bench))
    kernel.close()


if __name__ == "__main__":
    main(sys.argv[1])
