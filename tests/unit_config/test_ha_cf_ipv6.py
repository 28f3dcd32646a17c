"""ucast6, mcast6, ping6 and IPv6 in a ping_group: what they become, and every refusal word for word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hafsm.config.load import load
from hafsm.config.model import HaCf, Mcast6, Ucast6
from hafsm.core.settings import PingNode
from tests.unit_config.config_support import NODE, describe

Remarks = Callable[[str, str, str], list[str]]

ADDRESS = "an IPv6 address such as 2001:db8::1, or a host name"
GROUP = "as GROUP a multicast address of IPv6 such as ff12::1:2:3:4"
INTERFACE = "an interface name of at most 15 characters such as eth0"
LINK_LOCAL = "the interface behind a link-local address, such as fe80::1%eth0"
NO_NAME = (
    "a host name that resolves to an IPv6 address. The resolver said: Name or service not known; write the address, "
    "or add the name to /etc/hosts"
)

REFUSED: tuple[tuple[str, str], ...] = (
    ("ucast6 eth1", '"ucast6 eth1"; expected ucast6 INTERFACE HOST'),
    ("ucast6 eth1 fd00::1 fd00::2", '"ucast6 eth1 fd00::1 fd00::2"; expected ucast6 INTERFACE HOST'),
    ("ucast6 eth/1 fd00::1", f'"ucast6 eth/1 fd00::1"; expected {INTERFACE}'),
    ("ucast6 eth1 10.0.0.3", f'"ucast6 eth1 10.0.0.3"; expected {ADDRESS}'),
    ("ucast6 eth1 fd00::1::2", f'"ucast6 eth1 fd00::1::2"; expected {ADDRESS}'),
    ("ucast6 eth1 [fd00::1]", f'"ucast6 eth1 [fd00::1]"; expected {ADDRESS}'),
    ("ucast6 eth1 fe80::1%eth0", f'"ucast6 eth1 fe80::1%eth0"; expected {ADDRESS}. Remove "%eth0"'),
    (
        "ucast6 eth1 ::ffff:10.0.0.3",
        f'"ucast6 eth1 ::ffff:10.0.0.3"; expected {ADDRESS}. This one stands for an IPv4 address: write that',
    ),
    ("ucast6 eth1 nowhere.example", f'"ucast6 eth1 nowhere.example"; expected {NO_NAME}'),
    (
        "mcast6 eth0 ff12::1 694 1",
        '"mcast6 eth0 ff12::1 694 1"; expected mcast6 INTERFACE GROUP PORT HOPS LOOP, all five',
    ),
    ("mcast6 eth/0 ff12::1 694 1 0", f'"mcast6 eth/0 ff12::1 694 1 0"; expected {INTERFACE}'),
    ("mcast6 eth0 225.0.0.1 694 1 0", f'"mcast6 eth0 225.0.0.1 694 1 0"; expected {GROUP}'),
    ("mcast6 eth0 fd00::1 694 1 0", f'"mcast6 eth0 fd00::1 694 1 0"; expected {GROUP}'),
    ("mcast6 eth0 ff12::1%eth1 694 1 0", f'"mcast6 eth0 ff12::1%eth1 694 1 0"; expected {GROUP}'),
    ("mcast6 eth0 ff12::1 0 1 0", '"mcast6 eth0 ff12::1 0 1 0"; expected as PORT a whole number from 1 to 65535'),
    ("mcast6 eth0 ff12::1 694 5 0", '"mcast6 eth0 ff12::1 694 5 0"; expected as HOPS a whole number from 0 to 4'),
    ("mcast6 eth0 ff12::1 694 1 2", '"mcast6 eth0 ff12::1 694 1 2"; expected as LOOP a whole number from 0 to 1'),
    (
        "mcast eth0 ff12::1 694 1 0",
        '"mcast eth0 ff12::1 694 1 0"; expected as GROUP a multicast address from 224.0.0.0 to 239.255.255.255',
    ),
    ("ping6 192.0.2.1", f'"ping6" names "192.0.2.1"; expected {ADDRESS}'),
    ("ping6 fd00::x", f'"ping6" names "fd00::x"; expected {ADDRESS}'),
    ("ping6 nowhere.example", f'"ping6" names "nowhere.example"; expected {NO_NAME}'),
    ("ping6 fe80::1", f'"ping6" names "fe80::1"; expected {LINK_LOCAL}'),
    (
        "ping6 fd00::1%eth0",
        '"ping6" names "fd00::1%eth0"; expected no interface behind an address that is not link-local',
    ),
    ("ping6 fe80::1%", f'"ping6" names "fe80::1%"; expected {INTERFACE}'),
    ("ping6 fe80::1%eth/0", f'"ping6" names "fe80::1%eth/0"; expected {INTERFACE}'),
    (
        "ping6 fd00::1 fd00::1",
        'ping node "fd00::1" is named again; expected each ping node or group once. Remove one of them',
    ),
    ("ping_group g fe80::1", f'"ping_group g fe80::1"; expected {LINK_LOCAL}'),
    ("ping_group g fd00::x", f'"ping_group g fd00::x"; expected {ADDRESS}'),
)


@pytest.mark.parametrize(("line", "found"), REFUSED, ids=lambda text: text[:30])
def test_a_line_that_cannot_be_used(remarks: Remarks, line: str, found: str) -> None:
    assert [text for text in remarks("ha.cf", "", f"{line}\n") if text.startswith("error ")] == [
        f"error ha.cf:23: {found}"
    ]


def read(directory: Path, *lines: str) -> HaCf:
    """The scenario's ha.cf without its medium and its ping node, with these lines."""
    text = (directory / "ha.cf").read_text().replace("bcast eth0", "").replace("ping 192.168.2.251", "")
    (directory / "ha.cf").write_text(text + "".join(f"{line}\n" for line in lines))
    configuration = load(directory, me=NODE).configuration
    assert configuration is not None, describe(load(directory, me=NODE), directory)
    return configuration.ha


def test_media(directory: Path) -> None:
    ha = read(
        directory,
        *("ucast6 eth1 FD00:0::3", "ucast6 eth1 fe80::3%eth1", "ucast6 eth1 fe80::4"),
        *("mcast6 eth0 ff12:0:0:0:1:2:3:4 694 1 0", "mcast6 eth2 ff02::77%eth2 6940 0 1"),
    )
    assert ha.media == (
        Ucast6(interface="eth1", host="fd00::3"),
        Ucast6(interface="eth1", host="fe80::3"),
        Ucast6(interface="eth1", host="fe80::4"),
        Mcast6(interface="eth0", group="ff12::1:2:3:4", port=694, ttl=1, loop=0),
        Mcast6(interface="eth2", group="ff02::77", port=6940, ttl=0, loop=1),
    )
    assert ha.links == ("eth1", "eth0", "eth2")


def test_pings(directory: Path) -> None:
    ha = read(directory, "ucast6 eth1 fd00::3", "ping6 FD00::1 fe80::1%eth0", "ping6 fd00::2")
    assert ha.pings == (
        PingNode(name="FD00::1", hosts=("fd00::1",)),
        PingNode(name="fe80::1%eth0", hosts=("fe80::1%eth0",)),
        PingNode(name="fd00::2", hosts=("fd00::2",)),
    )


def test_a_group_may_mix_the_families(directory: Path) -> None:
    ha = read(directory, "ucast6 eth1 fd00::3", "ping_group gateway web1.example fd00::1 FD00::1 fe80::1%eth0")
    assert ha.pings == (PingNode(name="gateway", hosts=("10.0.0.31", "fd00::1", "fe80::1%eth0")),)


def test_udpport_belongs_above_ucast6(remarks: Remarks) -> None:
    found = remarks("ha.cf", "bcast eth0", "ucast6 eth0 fd00::3\nudpport 695")
    assert found[-1] == (
        'error ha.cf:12: "udpport" stands below the medium of line 11; expected it above all media. Move it up; '
        "heartbeat would use 694 for the media above it"
    )


def test_ping6_beside_a_group_is_pointed_out(remarks: Remarks) -> None:
    assert remarks("ha.cf", "ping 192.168.2.251", "ping6 fd00::1\nping_group g fd00::2 fd00::3\n") == [
        "warning ha.cf:20: ping6 and ping_group together: each counts for itself, so one lost ping host moves the "
        "resources although the group still answers; expected either one of them. "
        "Put the ping host into the group, or remove the group"
    ]


def test_ping6_without_ipfail_is_pointed_out(remarks: Remarks) -> None:
    assert remarks("ha.cf", "ping 192.168.2.251\n", "ping6 fd00::1\n") == []
    assert remarks("ha.cf", "respawn hacluster /usr/lib64/heartbeat/ipfail", "") == [
        "warning ha.cf:19: ping nodes without ipfail are watched, but nothing follows from it; "
        "expected respawn hacluster /usr/lib/heartbeat/ipfail"
    ]
