"""What the files mean, value by value; rules from the reference sheets of heartbeat 3.0.6 and ldirectord 1.186."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hafsm.config.build import lease_ns
from hafsm.config.ha_cf import default_initdead_ns
from hafsm.config.ha_cf_values import time_ns
from hafsm.config.haresources import read_resource
from hafsm.config.ldirectord_check import timeouts_s
from hafsm.config.ldirectord_values import real_line
from hafsm.config.lint import check_host
from hafsm.config.load import load, load_ldirectord, this_node
from hafsm.config.model import Bcast
from hafsm.config.names import Misread
from hafsm.config.source import SIZE_LIMIT_BYTES
from hafsm.core.settings import (
    MILLISECOND,
    SECOND,
    Address,
    AutoFailback,
    CheckKind,
    Forwarding,
    RealServer,
    ResourceKind,
    VirtualService,
)
from tests.unit_config.config_support import NODE, SCENARIO, describe


@pytest.mark.parametrize(
    ("word", "ns"),
    [
        ("2", 2 * SECOND),
        ("1.5", 1_500 * MILLISECOND),
        ("2.", 2 * SECOND),
        ("200ms", 200 * MILLISECOND),
        ("200MS", 200 * MILLISECOND),
        ("200msec", 200 * MILLISECOND),
        ("1500us", 1_500_000),
        ("0.1ms", 100_000),
        ("604800", 604_800 * SECOND),
    ],
)
def test_times(word: str, ns: int) -> None:
    assert time_ns(word) == ns


@pytest.mark.parametrize("word", ["2s", "2sec", "5min", "", "-1", "1e3", "ms", "604801", "0x10", "٣", "1,5"])
def test_no_times(word: str) -> None:
    with pytest.raises(Misread):
        time_ns(word)


@pytest.mark.parametrize(("deadtime", "initdead"), [(30, 30), (11, 11), (10, 20), (6, 12), (5, 12), (1, 12)])
def test_default_initdead(deadtime: int, initdead: int) -> None:
    assert default_initdead_ns(deadtime * SECOND) == initdead * SECOND


def test_defaults_of_ha_cf(directory: Path) -> None:
    """The limits themselves are legal: warntime equal to deadtime, deadtime of exactly 4 keepalives."""
    (directory / "ha.cf").write_text(f"bcast eth0\nnode {NODE} b\nauto_failback off\n")
    settings = load(directory, me=NODE).settings
    assert settings is not None
    times = (
        settings.keepalive_ns,
        settings.warntime_ns,
        settings.deadtime_ns,
        settings.initdead_ns,
        settings.deadping_ns,
    )
    assert times == (SECOND, 15 * SECOND, 30 * SECOND, 30 * SECOND, 30 * SECOND)
    (directory / "ha.cf").write_text(
        f"bcast eth0\nnode {NODE} b\nauto_failback off\nkeepalive 2\nwarntime 8\ndeadtime 8\ninitdead 8\n"
    )
    assert load(directory, me=NODE).findings == ()


@pytest.mark.parametrize(("label", "accepted"), [("eth0:12345678901"[:15], True), ("eth0:12345678901"[:16], False)])
def test_a_label_fits_the_kernel(label: str, accepted: bool) -> None:
    word = f"10.0.0.1/24/{label}"
    if accepted:
        assert read_resource(word).address == Address(ip="10.0.0.1", prefix=24, interface="eth0", label=label)
    else:
        with pytest.raises(Misread):
            read_resource(word)


@pytest.mark.parametrize(
    ("deadtime_ms", "keepalive_ms", "lease_s"),
    [(30_000, 2_000, 28), (30_000, 100, 29), (2_999, 500, 2), (1_000, 100, 1), (500, 100, 1)],
)
def test_lease_never_outlasts_deadtime(deadtime_ms: int, keepalive_ms: int, lease_s: int) -> None:
    """Renewed just before the next heartbeat was due, it ends before the other director takes over."""
    assert lease_ns(deadtime_ms * MILLISECOND, keepalive_ms * MILLISECOND) == lease_s * SECOND


@pytest.mark.parametrize(
    ("word", "address"),
    [
        ("10.0.0.1", Address(ip="10.0.0.1", prefix=32, interface="")),
        ("10.0.0.1/24", Address(ip="10.0.0.1", prefix=24, interface="")),
        ("IPaddr::10.0.0.1/24/eth0", Address(ip="10.0.0.1", prefix=24, interface="eth0")),
        ("IPaddr::10.0.0.1/24/10.0.0.255", Address(ip="10.0.0.1", prefix=24, interface="", broadcast="10.0.0.255")),
        (
            "IPaddr2::10.0.0.1/24/bond0.7:vip/10.0.0.255",
            Address(ip="10.0.0.1", prefix=24, interface="bond0.7", label="bond0.7:vip", broadcast="10.0.0.255"),
        ),
    ],
)
def test_addresses(word: str, address: Address) -> None:
    resource = read_resource(word)
    assert (resource.kind, resource.text, resource.address) == (ResourceKind.ADDRESS, word, address)


@pytest.mark.parametrize(
    ("section", "globals_", "expected"),
    [
        ({}, {}, (5, 30)),
        ({}, {"checktimeout": 3}, (3, 3)),
        ({}, {"negotiatetimeout": 7}, (7, 7)),
        ({}, {"checktimeout": 3, "negotiatetimeout": 7}, (3, 7)),
        ({"negotiatetimeout": 9}, {"checktimeout": 3}, (9, 9)),
        ({"checktimeout": 2}, {"negotiatetimeout": 7}, (2, 2)),
    ],
)
def test_timeouts_inherit(section: dict[str, int], globals_: dict[str, int], expected: tuple[int, int]) -> None:
    assert timeouts_s(section, globals_) == expected


@pytest.mark.parametrize(
    ("value", "weight", "strings", "lower", "upper"),
    [
        ("10.0.0.1:80 masq", 1, ("", ""), 0, 0),
        ("10.0.0.1:80\tmasq\t5", 5, ("", ""), 0, 0),
        ("10.0.0.1:80 masq 0", 0, ("", ""), 0, 0),
        ('10.0.0.1:80 masq "/index.html", "OK"', 1, ("/index.html", "OK"), 0, 0),
        ('10.0.0.1:80 masq 2 "a" "b c"  l:5 u:10', 2, ("a", "b c"), 5, 10),
        ('10.0.0.1:80 masq "page 5.html" , "b"', 1, ("page 5.html", "b"), 0, 0),
        ("10.0.0.1:80 masq u:10 l:5", 1, ("", ""), 5, 10),
    ],
)
def test_real_lines(value: str, weight: int, strings: tuple[str, str], lower: int, upper: int) -> None:
    real = real_line(1, value, lambda *_: None)
    assert (real.addresses, real.port, real.forwarding) == (("10.0.0.1",), 80, Forwarding.MASQ)
    assert (real.weight, (real.request, real.receive)) == (weight, strings)
    assert (real.lower_threshold, real.upper_threshold) == (lower, upper)


def test_a_range_that_crosses_a_power_of_ten() -> None:
    """ldirectord compares the addresses as text and finds none here."""
    addresses = real_line(1, "59.154.201.254->59.154.202.1:80 gate", lambda *_: None).addresses
    assert addresses == ("59.154.201.254", "59.154.201.255", "59.154.202.0", "59.154.202.1")


Read = Callable[[str], tuple[VirtualService, ...]]


@pytest.fixture
def services(tmp_path: Path) -> Read:
    def read(text: str) -> tuple[VirtualService, ...]:
        (tmp_path / "ldirectord.cf").write_text(text)
        found, findings = load_ldirectord(Path("ldirectord.cf"), directory=tmp_path)
        assert [str(f) for f in findings if f.is_error] == []
        assert found is not None
        return found.services

    return read


def test_names_are_resolved(services: Read) -> None:
    (service,) = services(
        "virtual = 10.0.0.1:http\n    real = web1.example->web3.example:http masq 3\n    fallback = 127.0.0.1:http\n"
    )
    assert service.key == "tcp:10.0.0.1:80"
    assert [r.key for r in service.reals] == ["10.0.0.31:80", "10.0.0.32:80", "10.0.0.33:80"]
    assert service.fallback == RealServer(address="127.0.0.1", port=80, forwarding=Forwarding.GATE)


def test_masq_translates_ports_and_gate_does_not(services: Read) -> None:
    (service,) = services(
        "virtual=10.0.0.1:80\n\treal=10.0.0.2:8080 masq\n\treal=10.0.0.3:8080 gate\n\treal=10.0.0.4:8080 ipip\n"
        "\treal=10.0.0.5 masq\n"
    )
    assert [(r.port, r.check.port) for r in service.reals if r.check] == [
        (8080, 8080),
        (80, 8080),
        (80, 8080),
        (80, 80),
    ]


def test_defaults_of_ldirectord_cf(services: Read) -> None:
    http, connect = services(
        "virtual=10.0.0.1:80\n\treal=10.0.0.2:80 gate\n"
        "virtual=10.0.0.1:81\n\treal=10.0.0.2:81 gate\n\tchecktype=connect\n"
    )
    assert (http.scheduler, http.quiescent, http.failurecount, http.fallback) == ("wrr", False, 1, None)
    assert http.reals[0].weight == 1
    checks = [service.reals[0].check for service in (http, connect)]
    assert [(c.interval_ns, c.timeout_ns, c.request, c.method) for c in checks if c] == [
        (10 * SECOND, 30 * SECOND, "/", "GET"),
        (10 * SECOND, 5 * SECOND, "/", "GET"),
    ]


def test_a_mark_may_serve_any_address(directory: Path) -> None:
    with (directory / "ldirectord.cf").open("a") as file:
        file.write("virtual=7\n\treal=10.0.0.2 gate\n\tservice=http\n")
    (directory / "haresources").write_text(f"{NODE} 192.168.2.232/24 192.168.2.233/24 ldirectord\n")
    assert load(directory, me=NODE).findings == ()


def test_firewall_marks(services: Read) -> None:
    (service,) = services(
        "virtual=7\n\treal=10.0.0.2 gate\n\treal=10.0.0.3:8080 masq\n\treal=10.0.0.4:81 gate\n\tservice=http\n"
    )
    assert (service.key, service.protocol, service.address, service.port) == ("fwm:7", "fwm", "", 0)
    assert [(r.key, r.check.port) for r in service.reals if r.check] == [
        ("10.0.0.2:0", 80),
        ("10.0.0.3:8080", 8080),
        ("10.0.0.4:0", 81),
    ]


def test_port_53_means_udp(services: Read) -> None:
    found = services("virtual=10.0.0.1:53\n\tchecktype=on\n\nvirtual=10.0.0.1:53\n\tprotocol=tcp\n\tchecktype=off\n")
    assert [s.key for s in found] == ["udp:10.0.0.1:53", "tcp:10.0.0.1:53"]


def test_the_section_wins_over_the_global_line_wherever_it_stands(services: Read) -> None:
    first, second = services(
        "fork=yes\nfallback=127.0.0.1\n"
        "virtual=10.0.0.1:80\n\treal=10.0.0.2:80 gate\n\tquiescent=no\n\tfallback=10.0.0.9:80 ipip\n"
        "\tcheckinterval=4\n\tfailurecount=2\n\tchecktype=connect\n\tscheduler=wlc\n"
        "virtual=10.0.0.1:81\n\treal=10.0.0.2:81 gate\n\tservice=http\n\tvirtualhost=www.example.com\n"
        '\thttpmethod=head\n\trequest="//a"\n'
        "quiescent=yes\ncheckinterval=9\nfailurecount=3\nchecktimeout=6\n"
    )
    assert (first.quiescent, first.failurecount, first.scheduler) == (False, 2, "wlc")
    assert (second.quiescent, second.failurecount, second.scheduler) == (True, 3, "wrr")
    assert first.fallback == RealServer(address="10.0.0.9", port=80, forwarding=Forwarding.IPIP)
    assert second.fallback == RealServer(address="127.0.0.1", port=81, forwarding=Forwarding.GATE)
    one, two = first.reals[0].check, second.reals[0].check
    assert one and (one.kind, one.interval_ns, one.timeout_ns) == (CheckKind.CONNECT, 4 * SECOND, 6 * SECOND)
    assert two and (two.kind, two.interval_ns, two.method) == (CheckKind.HTTP, 9 * SECOND, "HEAD")
    assert (two.virtualhost, two.request) == ("www.example.com", "/a")


def test_a_real_line_with_its_own_question(services: Read) -> None:
    (service,) = services(
        'virtual=10.0.0.1:80\n\treal=10.0.0.2:80 gate 1 "/own" , "mine"\n\treal=10.0.0.3:80 gate\n'
        '\trequest="common"\n\treceive="ours"\n'
    )
    assert [(r.check.request, r.check.receive) for r in service.reals if r.check] == [
        ("/own", "mine"),
        ("/common", "ours"),
    ]


def test_carriage_returns_and_a_missing_final_newline(directory: Path) -> None:
    expected = load(directory, me=NODE).settings
    for name in ("ha.cf", "haresources", "ldirectord.cf"):
        text = (SCENARIO / name).read_bytes().rstrip(b"\n")
        (directory / name).write_bytes(text.replace(b"\n", b"\r\n"))
    loaded = load(directory, me=NODE)
    assert describe(loaded, directory) == [
        "warning ldirectord.cf: lines end in CR LF; expected lines that end in LF. "
        "ldirectord refuses them in yes/no values"
    ]
    assert loaded.settings == expected


def test_all_errors_of_all_files_at_once(directory: Path) -> None:
    (directory / "ha.cf").write_text("keepalive x\nbcast eth0\nudpport 0\nnode a\nauto_failback off\n")
    (directory / "haresources").write_text("b 10.0.0.1/24\n")
    (directory / "authkeys").chmod(0o644)
    (directory / "ldirectord.cf").unlink()
    assert describe(load(directory, me="A"), directory) == [
        'error ha.cf:1: "keepalive" is "x"; expected a time of at most 7 days: seconds such as 2 or 1.5, '
        "or 200ms, or 1500us, without a blank",
        'error ha.cf:3: "udpport" is "0"; expected a whole number from 1 to 65535',
        "warning ha.cf:4: one node: a; expected two. Nobody takes over when it fails",
        'error haresources:1: "b" is no node of ha.cf; expected a line to begin with a',
        "error authkeys: readable by group or others (mode 0644); expected mode 0600. Run: chmod 600 authkeys",
    ]


@pytest.mark.parametrize(
    ("mode", "accepted"), [(0o600, True), (0o400, True), (0o620, True), (0o640, False), (0o604, False)]
)
def test_mode_of_authkeys(directory: Path, mode: int, accepted: bool) -> None:
    (directory / "authkeys").chmod(mode)
    assert (load(directory, me=NODE).settings is not None) is accepted


def test_missing_files(tmp_path: Path) -> None:
    remedy = "Create the file; it must be the same on both nodes"
    assert describe(load(tmp_path, me=NODE), tmp_path) == [
        f"error ha.cf: there is no such file; expected the options of the cluster. {remedy}",
        f"error haresources: there is no such file; expected the resource groups and their preferred nodes. {remedy}",
        f"error authkeys: there is no such file; expected the key that signs heartbeats. {remedy}",
    ]


def test_files_that_are_no_files(directory: Path) -> None:
    """A directory, a FIFO without a writer, and a file without end."""
    for name in ("ha.cf", "haresources", "ldirectord.cf"):
        (directory / name).unlink()
    (directory / "ha.cf").mkdir()
    os.mkfifo(directory / "haresources")
    with (directory / "ldirectord.cf").open("wb") as file:
        file.truncate(SIZE_LIMIT_BYTES + 1)
    assert describe(load(directory, me=NODE), directory) == [
        "error ha.cf: not a regular file; expected a text file with the options of the cluster",
        "error haresources: not a regular file; expected a text file with "
        "the resource groups and their preferred nodes",
        "error ldirectord.cf: larger than 16 MiB; expected a text file with the virtual services",
    ]


def test_a_file_name_that_no_file_can_have(directory: Path) -> None:
    name = "x" * 300
    (directory / "haresources").write_text(f"{NODE} 192.168.2.232/24 ldirectord::{name}\n")
    assert describe(load(directory, me=NODE), directory) == [
        f"error {name}: cannot be read (File name too long); expected a text file with the virtual services"
    ]


def test_services_that_nobody_starts_are_read_and_left_out(directory: Path) -> None:
    (directory / "haresources").write_text(f"{NODE} IPaddr::192.168.2.232/24/eth0:0 httpd\n")
    loaded = load(directory, me=NODE)
    assert loaded.configuration is not None and loaded.settings is not None
    assert [s.key for s in loaded.configuration.services] == ["tcp:192.168.2.232:80"]
    assert loaded.settings.services == ()


def test_another_ldirectord_file(directory: Path) -> None:
    """Looked for in the directory, then in its `conf`."""
    (directory / "conf").mkdir()
    (directory / "ldirectord.cf").rename(directory / "conf" / "web.cf")
    (directory / "haresources").write_text(f"{NODE} 192.168.2.232/24 ldirectord::web.cf\n")
    loaded = load(directory, me=NODE)
    assert loaded.findings == ()
    assert loaded.configuration is not None
    assert loaded.configuration.ldirectord.file == str(directory / "conf" / "web.cf")
    assert loaded.configuration.ldirectord.autoreload


def test_legacy_failback_is_on_for_the_core(directory: Path) -> None:
    text = (directory / "ha.cf").read_text()
    (directory / "ha.cf").write_text(text.replace("auto_failback on", "auto_failback legacy"))
    loaded = load(directory, me=NODE)
    assert loaded.configuration is not None and loaded.settings is not None
    assert loaded.configuration.ha.auto_failback is AutoFailback.LEGACY
    assert loaded.settings.auto_failback is AutoFailback.ON


def test_a_relative_directory(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(directory.parent)
    configuration = load(Path(directory.name), me=NODE).configuration
    assert configuration is not None
    read, findings = load_ldirectord(Path(configuration.ldirectord.file), directory=Path(configuration.directory))
    assert (read, findings) == (configuration.ldirectord, ())


def test_this_host_is_the_default_node(directory: Path) -> None:
    text = (directory / "ha.cf").read_text()
    (directory / "ha.cf").write_text(text.replace("server19.example.com", os.uname().nodename.upper()))
    settings = load(directory).settings
    assert settings is not None
    assert settings.me == this_node() == settings.nodes[1]


def test_what_this_host_lacks(directory: Path) -> None:
    text = (
        (directory / "ha.cf")
        .read_text()
        .replace("bcast eth0", "bcast lo nosuch0")
        .replace("/dev/watchdog", "/dev/nosuch")
    )
    (directory / "ha.cf").write_text(text + "serial /dev/null\n")
    (directory / "haresources").write_text(f"{NODE} 192.168.2.232/24/nosuch1:0 ldirectord\n")
    configuration = load(directory, me=NODE).configuration
    assert configuration is not None and configuration.ha.media[1] == Bcast(interface="nosuch0")
    found = [(f.level, Path(f.file).name, f.found) for f in check_host(configuration)]
    assert found == [
        ("warning", "ha.cf", "interface nosuch0 is not on this host"),
        ("warning", "ha.cf", "watchdog device /dev/nosuch is not on this host"),
        ("warning", "haresources", "192.168.2.232/24/nosuch1:0 names interface nosuch1, which is not on this host"),
    ]
