"""IPv6 in haresources: what each form becomes, every refusal word for word, VIPs compared with virtual services."""

from __future__ import annotations

from pathlib import Path

import pytest

from hafsm.config.findings import Report
from hafsm.config.haresources import PlacedGroup, read_haresources, read_resource
from hafsm.config.ldirectord_cf import ReadLdirectordCf
from hafsm.config.lint import lint_addresses
from hafsm.config.model import LdirectordCf
from hafsm.config.source import Source, split_lines
from hafsm.core.settings import Address, NodeName, Resource, ResourceKind, VirtualService

LONG = "2001:db8:0:0:0:0:0:10"


def read(text: str) -> tuple[tuple[PlacedGroup, ...], list[str]]:
    report = Report("haresources")
    source = Source(path=Path("haresources"), mode=0o644, lines=tuple(split_lines(text.encode())))
    groups = read_haresources(source, report, (NodeName("a"), NodeName("b")))
    return groups, [f"{f.level} {f}" for f in report.findings]


@pytest.mark.parametrize(
    ("word", "address"),
    [
        (f"IPv6addr::{LONG}", Address(ip="2001:db8::10", prefix=0, interface="")),
        (f"IPv6addr::{LONG}/64", Address(ip="2001:db8::10", prefix=64, interface="")),
        (f"IPv6addr::{LONG}/128/eth0.5", Address(ip="2001:db8::10", prefix=128, interface="eth0.5")),
        (f"IPv6addr::{LONG}//eth0", Address(ip="2001:db8::10", prefix=0, interface="eth0")),
        (f"IPv6addr::{LONG}/", Address(ip="2001:db8::10", prefix=0, interface="")),
        (f"IPv6addr::{LONG.upper()}/64/eth0", Address(ip="2001:db8::10", prefix=64, interface="eth0")),
        (f"IPaddr2::{LONG}/64/eth0", Address(ip="2001:db8::10", prefix=64, interface="eth0")),
        ("IPv6addr::fe80:0:0:0:0:0:0:1//eth0", Address(ip="fe80::1", prefix=0, interface="eth0")),
    ],
)
def test_a_word_becomes_an_address(word: str, address: Address) -> None:
    groups, findings = read(f"a {word}\n")
    assert findings == []
    assert groups[0].group.key == word
    assert groups[0].group.resources == (Resource(kind=ResourceKind.ADDRESS, text=word, address=address),)


def test_an_address_of_another_resource_is_announced() -> None:
    for ip in (LONG, "2001:db8::10"):
        text = f"SendArp::{ip}/eth1"
        announced = Address(ip="2001:db8::10", prefix=128, interface="eth1")
        assert read_resource(text) == Resource(kind=ResourceKind.ANNOUNCE, text=text, announced=announced)
        assert read(f"a {text}\n")[1] == []


@pytest.mark.parametrize(
    "word", ["IPv6addr::2001:db8::10/64/eth0", "IPaddr2::2001:db8::10/64/eth0", "IPv6addr::2001:db8::10"]
)
def test_what_heartbeat_would_take_apart_is_read_as_meant_and_said(word: str) -> None:
    groups, findings = read(f"a {word}\n")
    address = groups[0].group.resources[0].address
    assert address is not None and address.ip == "2001:db8::10"
    assert findings == [
        f'warning haresources:1: "{word}" has "::" in its address; expected it written out: {LONG}. heartbeat begins '
        "another argument there, and the group does not start"
    ]


def test_a_label_is_left_out_and_said() -> None:
    groups, findings = read(f"a IPv6addr::{LONG}/64/eth0:0\n")
    assert groups[0].group.resources[0].address == Address(ip="2001:db8::10", prefix=64, interface="eth0")
    assert findings == [
        f'warning haresources:1: "IPv6addr::{LONG}/64/eth0:0" has a label; expected the interface alone: eth0. IPv6 '
        "addresses have no labels; heartbeat takes it for a part of the interface's name"
    ]


SUCH_AS = f"IPv6addr::ADDRESS/BITS/INTERFACE such as IPv6addr::{LONG}/64/eth0"
SEND_ARP = "SendArp::ADDRESS/INTERFACE such as SendArp::192.0.2.10/eth1"
EMBEDDED = "This one stands for an IPv4 address: write that"
INTERFACE = "an interface name of at most 15 characters such as eth0"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("IPv6addr", SUCH_AS),
        ("IPv6addr::", SUCH_AS),
        ("IPv6addr::192.0.2.10/24", SUCH_AS),
        ("IPv6addr::2001:db8::g/64", SUCH_AS),
        ("IPv6addr::2001:db8::10::x", SUCH_AS),
        ("IPv6addr::[2001:db8::10]", SUCH_AS),
        ("IPv6addr::2001:db8::10/64/eth0/x", SUCH_AS),
        ("IPv6addr::::ffff:192.0.2.10/64", f"{SUCH_AS}. {EMBEDDED}"),
        ("IPv6addr::fe80::1%eth0/64", f'{SUCH_AS}. Remove "%eth0"'),
        ("IPv6addr::2001:db8::10/0", f"{SUCH_AS}, BITS from 1 to 128"),
        ("IPv6addr::2001:db8::10/129", f"{SUCH_AS}, BITS from 1 to 128"),
        ("IPv6addr::2001:db8::10/ffff::", f"{SUCH_AS}, BITS from 1 to 128"),
        ("IPv6addr::2001:db8::10/64/an-interface-name", INTERFACE),
        ("IPv6addr::ff02::1/64/eth0", f"{SUCH_AS}, ADDRESS that of one machine"),
        ("IPv6addr::::/64/eth0", f"{SUCH_AS}, ADDRESS that of one machine"),
        ("IPv6addr::fe80::1/64", f"{SUCH_AS}, INTERFACE not left out for a link-local address"),
        ("IPaddr2::2001:db8::10/129", f"{SUCH_AS.replace('IPv6addr', 'IPaddr2')}, BITS from 1 to 128"),
        (
            "IPaddr::2001:db8::10/64",
            "IPaddr::ADDRESS/BITS/INTERFACE:LABEL with an IPv4 address. Write IPv6addr::2001:db8::10/64",
        ),
        (f"{LONG}/64/eth0", f"an IPv4 address or a script. Write IPv6addr::{LONG}/64/eth0"),
        ("2001:db8::10", f"an IPv4 address or a script. Write IPv6addr::{LONG}"),
        ("SendArp::2001:db8::10", SEND_ARP),
        ("SendArp::2001:db8::g/eth0", SEND_ARP),
        ("SendArp::2001:db8::10/64/eth0", f"{SEND_ARP}. It takes neither a prefix length nor a label"),
        ("SendArp::2001:db8::10/eth0:0", f"{SEND_ARP}. It takes neither a prefix length nor a label"),
        ("SendArp::::ffff:192.0.2.1/eth0", f"{SEND_ARP}. {EMBEDDED}"),
    ],
)
def test_a_wrong_word_is_refused_with_what_was_expected(word: str, expected: str) -> None:
    groups, findings = read(f"a {word}\n")
    assert groups == ()
    assert findings == [f'error haresources:1: resource "{word}"; expected {expected}']


def test_two_spellings_are_one_address() -> None:
    _, findings = read(f"a IPv6addr::{LONG}/64\nb IPaddr2::2001:0DB8:0:0:0:0:0:0010/64\n")
    assert findings == [
        "error haresources:2: address 2001:db8::10 is a resource twice; expected it once (line 1 has it too)"
    ]


def compared(text: str, *addresses: str, mark: VirtualService | None = None) -> list[str]:
    """The findings about VIPs and virtual services of these addresses, port 80, or of a mark."""
    groups, findings = read(text)
    assert findings == []
    services = tuple(VirtualService(protocol="tcp", address=address, port=80) for address in addresses)
    services += (mark,) if mark is not None else ()
    lines = {service.key: number for number, service in enumerate(services, 3)}
    resources, ldirectord = Report("haresources"), Report("ldirectord.cf")
    read_cf = ReadLdirectordCf(
        value=LdirectordCf(file="/etc/ldirectord.cf", services=services),
        lines=lines,
        reports=dict.fromkeys(lines, ldirectord),
        files=[ldirectord],
    )
    lint_addresses(groups, read_cf, resources)
    return [f"{f.level} {f}" for report in (resources, ldirectord) for f in report.findings]


def test_a_vip_is_found_among_the_virtual_services_however_it_is_written() -> None:
    assert compared(f"a IPv6addr::{LONG.upper()}/64 192.0.2.10/24\n", "192.0.2.10", "2001:db8::10") == []


def test_a_mark_may_serve_any_vip() -> None:
    mark = VirtualService(protocol="fwm", address="::", port=0, mark=7)
    assert compared(f"a IPv6addr::{LONG}/64\n", mark=mark) == []


def test_a_vip_and_a_virtual_service_that_do_not_meet_are_both_pointed_out() -> None:
    found = compared(f"a IPv6addr::{LONG}/64\n", "2001:db8::11")
    assert found == [
        "warning haresources:1: address 2001:db8::10 has no virtual service; expected virtual6=[2001:db8::10]:PORT in "
        "ldirectord.cf",
        "warning ldirectord.cf:3: virtual service tcp:[2001:db8::11]:80 has an address that no resource group holds; "
        "expected IPv6addr::2001:db8:0:0:0:0:0:11/64 or the like in haresources",
    ]
