"""`difference`, `apply` and the entries made from the configuration: each claim that the kernel's side relies on."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from hafsm.core.ipvs import (
    DestinationEntry,
    Operation,
    ServiceEntry,
    TableEntry,
    Verb,
    apply,
    difference,
    digest,
    kept_flags,
    service_entry,
)
from hafsm.core.settings import Forwarding, VirtualService

HTTP = ServiceEntry(protocol="tcp", address="192.0.2.1", port=80)


def real(number: int, weight: int = 1, port: int = 80) -> DestinationEntry:
    return DestinationEntry(address=f"10.77.0.{number}", port=port, forwarding=Forwarding.MASQ, weight=weight)


def table(*destinations: DestinationEntry, service: ServiceEntry = HTTP) -> tuple[TableEntry, ...]:
    return (TableEntry(service=service, destinations=destinations),)


def words(operations: tuple[Operation, ...]) -> list[str]:
    return [str(operation) for operation in operations]


@pytest.mark.parametrize(
    ("service", "kept"),
    [
        (VirtualService(protocol="fwm", address="", port=0, mark=7), "fwm:7"),
        (VirtualService(protocol="fwm", address="::", port=0, mark=7), "fwm6:7"),
        (VirtualService(protocol="sctp", address="2001:db8::1", port=9), "sctp:[2001:db8::1]:9"),
    ],
)
def test_a_service_is_known_by_one_key_in_file_and_kernel(service, kept):
    assert service.key == service_entry(service).key == kept


@pytest.mark.parametrize(
    ("scheduler", "flags", "kept"),
    [
        ("sh", ("flag-2", "sh-fallback"), ("sh-fallback", "sh-port")),
        ("sh", ("sh-port", "flag-2", "flag-3"), ("flag-3", "sh-port")),
        ("mh", ("sh-port", "mh-fallback"), ("mh-fallback", "mh-port")),
        ("rr", ("mh-port", "flag-1"), ("flag-1", "flag-2")),
        ("rr", ("nonsense",), ("nonsense",)),
    ],
)
def test_flags_have_the_names_that_ipvsadm_shows(scheduler, flags, kept):
    service = VirtualService(protocol="tcp", address="192.0.2.1", port=80, scheduler=scheduler, scheduler_flags=flags)
    assert service_entry(service).scheduler_flags == kept == kept_flags(scheduler, kept)


def test_what_the_kernel_would_not_keep_is_not_asked():
    service = VirtualService(protocol="tcp", address="192.0.2.1", port=80, netmask="255.255.255.0")
    assert service_entry(service).netmask == ""
    assert service_entry(replace(service, persistent_s=9)).netmask == "255.255.255.0"
    for whole in ("255.255.255.255", "128"):
        assert service_entry(replace(service, persistent_s=9, netmask=whole)).netmask == ""


def test_one_changed_line_is_one_operation():
    reals = tuple(real(n) for n in range(1, 200))
    seen = table(*reals)
    for changed in (
        (*reals[:70], real(71, weight=9), *reals[71:]),
        (*reals[:70], *reals[71:]),
        (*reals[:70], real(250), *reals[70:]),
        reals[1:],
        reals[:-1],
        (real(250), *reals),
    ):
        for wanted in (table(*changed), table(*(replace(d) for d in changed))):
            assert len(difference(wanted, seen)) == 1
            assert len(difference(seen, wanted)) == 1
    assert len(difference(table(*reals, service=replace(HTTP, scheduler="lc")), seen)) == 1
    assert len(difference((*seen, TableEntry(service=replace(HTTP, port=81))), seen)) == 1


def test_order_is_no_difference():
    """The kernel lists destinations newest first."""
    reals = [real(n) for n in range(1, 9)]
    assert difference(table(*reals), table(*reversed(reals))) == ()
    assert difference(table(*reals), table(*(replace(d) for d in reversed(reals)))) == ()
    assert digest(table(*reals)) == digest(table(*reversed(reals)))


def test_equal_tables_have_equal_digests_whoever_made_their_text():
    """The kernel's `wrr` is another object than the default's."""
    read = replace(HTTP, scheduler="".join(["w", "rr"]), protocol="".join(["t", "cp"]))
    assert digest(table(real(1), service=read)) == digest(table(real(1)))
    assert len({digest(t) for t in (table(real(1)), table(real(1, weight=0)), table(), ())}) == 4


def test_everything_is_added_before_anything_goes():
    wanted = (*table(real(3), real(2, weight=5)), *table(real(1), service=replace(HTTP, port=81)))
    seen = (*table(real(1), service=replace(HTTP, port=82)), *table(real(1), real(2)))
    assert words(difference(wanted, seen)) == [
        "add destination 10.77.0.3:80 of tcp:192.0.2.1:80",
        "edit destination 10.77.0.2:80 of tcp:192.0.2.1:80",
        "delete destination 10.77.0.1:80 of tcp:192.0.2.1:80",
        "add service tcp:192.0.2.1:81",
        "add destination 10.77.0.1:80 of tcp:192.0.2.1:81",
        "delete service tcp:192.0.2.1:82",
    ]


def test_two_lines_that_are_one_kernel_entry_do_not_take_turns():
    """A quiesced server that is its own fallback; two gate servers that differ in the port alone."""
    wanted = table(real(1, weight=0), real(2), real(1, weight=3), real(1, weight=3))
    first = difference(wanted, ())
    assert words(first)[1:] == [f"add destination 10.77.0.{n}:80 of tcp:192.0.2.1:80" for n in (1, 2)]
    after = apply(first, ())
    assert after[0].destinations == (real(1, weight=3), real(2))
    assert difference(wanted, after) == ()
    assert difference(wanted, table(real(2), real(1, weight=3))) == ()


def test_what_is_not_named_is_the_same_object_afterwards():
    """So the next comparison does not look at it."""
    others = tuple(TableEntry(service=replace(HTTP, port=n), destinations=(real(1),)) for n in range(81, 90))
    before = (*others, *table(*map(real, range(1, 9))))
    change = Operation(verb=Verb.EDIT_DESTINATION, service=HTTP, destination=real(4, weight=0))
    after = apply((change,), before)
    assert all(one is other for one, other in zip(after, others, strict=False))
    kept = [new is old for new, old in zip(after[-1].destinations, before[-1].destinations, strict=True)]
    assert kept == [n != 4 for n in range(1, 9)]


def test_an_operation_that_would_fail_changes_nothing():
    nowhere = replace(HTTP, port=99)
    failing = (
        Operation(verb=Verb.ADD_DESTINATION, service=nowhere, destination=real(1)),
        Operation(verb=Verb.DELETE_DESTINATION, service=HTTP, destination=real(7)),
        Operation(verb=Verb.DELETE_SERVICE, service=nowhere),
        Operation(verb=Verb.ADD_DESTINATION, service=HTTP),
    )
    assert apply(failing, table(real(1))) == table(real(1))


def test_operations_on_one_object_count_in_their_order():
    def do(verb: Verb, destination: DestinationEntry | None = None, service: ServiceEntry = HTTP) -> Operation:
        return Operation(verb=verb, service=service, destination=destination)

    operations = (
        do(Verb.DELETE_DESTINATION, real(1)),
        do(Verb.DELETE_SERVICE),
        do(Verb.ADD_SERVICE),
        do(Verb.ADD_DESTINATION, real(2)),
        do(Verb.EDIT_SERVICE, service=replace(HTTP, scheduler="lc")),
        do(Verb.EDIT_DESTINATION, real(2, weight=4)),
        do(Verb.ADD_DESTINATION, real(3)),
    )
    after = apply(operations, table(real(1), real(5)))
    assert after == table(real(2, weight=4), real(3), service=replace(HTTP, scheduler="lc"))


def test_any_table_becomes_any_other():
    """With entries shared, copied or new; and then nothing is left to do."""
    dice = random.Random(4)
    pool = [real(n, weight=w, port=p) for n in range(1, 6) for w in (0, 1, 2) for p in (80, 81)]
    services = [replace(HTTP, port=p, scheduler=s) for p in range(80, 84) for s in ("rr", "lc")]
    seen: tuple[TableEntry, ...] = ()
    for _ in range(500):
        chosen = {s.port: s for s in dice.sample(services, dice.randint(0, 4))}
        made = []
        for service in chosen.values():
            destinations = dice.sample(pool, dice.randint(0, 8))
            if dice.random() < 0.3:
                destinations = [replace(d) for d in destinations]
            made.append(TableEntry(service=service, destinations=tuple(destinations)))
        wanted = (*made, *(e for e in seen if e.service.port not in chosen and dice.random() < 0.5))
        seen = apply(difference(wanted, seen), seen)
        assert difference(wanted, seen) == ()
        best = {(e.service.port, d.key): 0 for e in wanted for d in e.destinations}
        for entry in wanted:
            for destination in entry.destinations:
                place = entry.service.port, destination.key
                best[place] = max(best[place], destination.weight)
        assert {(e.service.port, d.key): d.weight for e in seen for d in e.destinations} == best
        assert {e.service for e in seen} == {e.service for e in wanted}
