"""The scenario's four files load unchanged, and each commented directive works once uncommented."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hafsm.config.load import load, load_ldirectord
from hafsm.config.model import ApiAuth, Bcast, FenceDevice, Mcast, Respawn, Serial, Ucast
from hafsm.core.settings import (
    SECOND,
    Address,
    AutoFailback,
    CheckKind,
    CheckSpec,
    Forwarding,
    Group,
    PingNode,
    RealServer,
    Resource,
    ResourceKind,
    Settings,
    VirtualService,
)
from tests.unit_config.config_support import FILES, NODE, SCENARIO

PEER = "server19.example.com"


def real(last: int, check: CheckSpec | None) -> RealServer:
    return RealServer(address=f"192.168.2.{last}", port=80, forwarding=Forwarding.GATE, weight=1, check=check)


def check(last: int) -> CheckSpec:
    return CheckSpec(
        kind=CheckKind.HTTP,
        address=f"192.168.2.{last}",
        port=80,
        interval_ns=SECOND,
        timeout_ns=3 * SECOND,
        request="/index.html",
    )


def test_the_scenario_unchanged(tmp_path: Path) -> None:
    """Byte for byte what the administrator had, crc included; only the mode is set, as heartbeat demands."""
    for name in FILES:
        (tmp_path / name).write_bytes((SCENARIO / name).read_bytes())
    (tmp_path / "authkeys").chmod(0o600)
    loaded = load(tmp_path, me=NODE)
    assert [str(f).replace(f"{tmp_path}/", "") for f in loaded.findings] == [
        "authkeys:2: crc is the active method: anyone on the network can forge heartbeats and take the addresses; "
        "expected sha1. Make one with: echo 1 sha1 $(openssl rand -hex 20)"
    ]
    assert loaded.settings == Settings(
        me=NODE,
        nodes=(NODE, PEER),
        links=("eth0",),
        keepalive_ns=2 * SECOND,
        deadtime_ns=30 * SECOND,
        warntime_ns=10 * SECOND,
        initdead_ns=120 * SECOND,
        deadping_ns=30 * SECOND,
        auto_failback=AutoFailback.ON,
        pings=(PingNode(name="192.168.2.251", hosts=("192.168.2.251",)),),
        ipfail=True,
        groups=(
            Group(
                key="IPaddr::192.168.2.232/24/eth0:0",
                preferred=NODE,
                resources=(
                    Resource(
                        kind=ResourceKind.ADDRESS,
                        text="IPaddr::192.168.2.232/24/eth0:0",
                        address=Address(ip="192.168.2.232", prefix=24, interface="eth0", label="eth0:0"),
                    ),
                    Resource(kind=ResourceKind.SCRIPT, text="httpd", script="httpd"),
                    Resource(kind=ResourceKind.IPVS, text="ldirectord"),
                ),
            ),
        ),
        services=(
            VirtualService(
                protocol="tcp",
                address="192.168.2.232",
                port=80,
                scheduler="rr",
                reals=(real(31, check(31)), real(41, check(41))),
                fallback=RealServer(address="127.0.0.1", port=80, forwarding=Forwarding.GATE),
            ),
        ),
        lease_ns=28 * SECOND,
    )
    configuration = loaded.configuration
    assert configuration is not None
    ha = configuration.ha
    assert (ha.debugfile, ha.logfile, ha.logfacility) == ("/var/log/ha-debug", "/var/log/ha-log", "local0")
    assert (ha.udpport, ha.media, ha.watchdog) == (694, (Bcast(interface="eth0"),), "/dev/watchdog")
    assert ha.respawn == (Respawn(user="hacluster", command="/usr/lib64/heartbeat/ipfail"),)
    assert ha.apiauth == (ApiAuth(name="ipfail", uids=("hacluster",), gids=("haclient",)),)
    assert configuration.ldirectord.autoreload
    assert [(key.index, key.method, key.secret.reveal()) for key in configuration.keys.keys] == [(1, "crc", b"")]


def uncomment(directory: Path, name: str, *starts: str) -> None:
    lines = (directory / name).read_text().split("\n")
    for start in starts:
        (index,) = (n for n, line in enumerate(lines) if line.strip().startswith(start))
        lines[index] = lines[index].replace("#", "", 1)
    (directory / name).write_text("\n".join(lines))


@pytest.mark.parametrize(
    ("starts", "media", "links"),
    [
        (
            ("#baud", "#serial"),
            (Serial(device="/dev/ttyS0", baud=19200), Bcast(interface="eth0")),
            ("/dev/ttyS0", "eth0"),
        ),
        (("#ucast",), (Bcast(interface="eth0"), Ucast(interface="eth1", host="10.0.0.3")), ("eth0", "eth1")),
        (
            ("#mcast",),
            (Bcast(interface="eth0"), Mcast(interface="eth0", group="225.0.0.1", port=694, ttl=1, loop=0)),
            ("eth0",),
        ),
    ],
)
def test_commented_media(directory: Path, starts: tuple[str, ...], media: tuple[object, ...], links: object) -> None:
    uncomment(directory, "ha.cf", *starts)
    loaded = load(directory, me=NODE)
    assert loaded.findings == ()
    assert loaded.configuration is not None and loaded.settings is not None
    assert loaded.configuration.ha.media == media
    assert loaded.settings.links == links


def test_commented_stonith(directory: Path) -> None:
    uncomment(directory, "ha.cf", "#stonith")
    loaded = load(directory, me=NODE)
    assert loaded.findings == ()
    assert loaded.configuration is not None and loaded.settings is not None
    device = FenceDevice(host="*", kind="baytech", file="/etc/ha.d/conf/stonith.baytech")
    assert loaded.configuration.ha.fence_device(NODE) == device
    assert loaded.settings.fencing


def test_commented_ping_group_together_with_ping_is_pointed_out(directory: Path) -> None:
    uncomment(directory, "ha.cf", "#ping_group")
    loaded = load(directory, me=NODE)
    assert [f"{f.level} {f}".replace(f"{directory}/", "") for f in loaded.findings] == [
        "warning ha.cf:20: ping and ping_group together: each counts for itself, so one lost ping host moves the "
        "resources although the group still answers; expected either one of them. "
        "Put the ping host into the group, or remove the group"
    ]
    assert loaded.settings is not None
    assert loaded.settings.pings[1] == PingNode(name="group1", hosts=("172.16.103.254", "172.16.103.212"))


def test_commented_keys(directory: Path) -> None:
    (directory / "authkeys").write_bytes(
        (SCENARIO / "authkeys").read_bytes().replace(b"#", b"").replace(b"auth 1", b"auth 3")
    )
    loaded = load(directory, me=NODE)
    assert loaded.findings == ()
    assert loaded.configuration is not None
    keys = loaded.configuration.keys
    assert keys.active == 3
    assert [(k.index, k.method, k.secret.reveal()) for k in keys.keys] == [
        (1, "crc", b""),
        (2, "sha1", b"HI!"),
        (3, "md5", b"Hello!"),
    ]


def test_commented_lines_of_a_virtual_service(directory: Path) -> None:
    uncomment(directory, "ldirectord.cf", "#persistent", "#netmask", "#\treceive", "#\tvirtualhost")
    loaded = load(directory, me=NODE)
    assert [f"{f.level} {f}".replace(f"{directory}/", "") for f in loaded.findings] == [
        "warning ldirectord.cf:21: virtualhost: no host; expected a host name. "
        "The real server's address is sent as Host, as without the line"
    ]
    assert loaded.settings is not None
    (service,) = loaded.settings.services
    assert (service.persistent_s, service.netmask) == (600, "255.255.255.255")
    assert [r.check.receive for r in service.reals if r.check] == ["Test Page", "Test Page"]


def test_services_alone(directory: Path) -> None:
    """autoreload reads only ldirectord.cf."""
    (directory / "ha.cf").unlink()
    read, findings = load_ldirectord(Path("ldirectord.cf"), directory=directory)
    assert findings == ()
    assert read is not None
    assert [s.key for s in read.services] == ["tcp:192.168.2.232:80"]
    with (directory / "ldirectord.cf").open("a") as file:
        file.write("fork=maybe\n")
    read, findings = load_ldirectord(directory / "ldirectord.cf", directory=directory)
    assert read is None
    assert [str(f) for f in findings] == [
        f"{directory}/ldirectord.cf:22: fork=maybe; expected yes or no, in lower case"
    ]


def test_settings_survive_the_journal(directory: Path) -> None:
    settings = load(directory, me=NODE).settings
    assert settings is not None
    assert msgspec.json.decode(msgspec.json.encode(settings), type=Settings) == settings
