"""Links over a serial line, by unicast and by multicast; echoes that are ours and echoes that are not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

from hafsm.config.model import Bcast, Medium, Serial, Ucast, Ucast6
from hafsm.core.actions import ResendMessages, SendMessage
from hafsm.core.events import Event, HeartbeatReceived, LinkChanged, MessageReceived, PingAnswered
from hafsm.core.settings import NodeName, PingNode
from hafsm.daemon.clock import boottime_ns
from hafsm.daemon.links import Links
from hafsm.daemon.pings import ANSWER_AGE, V4, V6, Pings, echo_request
from hafsm.kernel.announce import checksum
from hafsm.wire.auth import Key, KeyRing
from hafsm.wire.message import build, encode, encode_classic
from hafsm.wire.stream import ClassicStream

RING = KeyRing([Key(1, "sha1", b"for tests")], 1)
A, B = NodeName("director-a"), NodeName("director-b")


def links(me: NodeName, media: list[Medium], got: list[Event], *, listen: str = "", port: int = 0) -> Links:
    return Links(
        media,
        list(dict.fromkeys(medium.name for medium in media)),
        port=port,
        listen=listen,
        ring=RING,
        me=me,
        nodes=(A, B),
        ttl=3,
        uuid=me.encode()[:16].ljust(16, b"."),
        generation=7,
        heard={},
        on_generation=lambda node, generation: None,
        submit=got.append,
        clock=boottime_ns,
    )


def status(sequence: int) -> SendMessage:
    fields = (("st", "active"), ("dt", "7d0"), ("protocol", "1"), ("hj", "2a"))
    return SendMessage(id=sequence, kind="status", generation=7, sequence=sequence, fields=fields)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - it can be anything
            await asyncio.sleep(0.01)


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def ipv6_works() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind(("::1", 0))
        return True
    return False


needs_ipv6 = pytest.mark.skipif(not ipv6_works(), reason="IPv6 test skipped: this machine has no ::1")


async def test_a_serial_line_carries_classic_messages_both_ways() -> None:
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    got: list[Event] = []
    node = links(A, [Serial(device=os.ttyname(theirs), baud=19200)], got)
    node.open()
    node.send(status(1))
    stream, heard = ClassicStream(RING), []

    def read() -> bool:
        try:
            heard.extend(stream.feed(os.read(ours, 65536)))
        except BlockingIOError:
            return False
        return bool(heard)

    await until(read)
    assert heard[0].get("src") == A and heard[0].get("st") == "active"
    message = build(
        "status", node=B, uuid=b"B" * 16, generation=3, sequence=1, wall_s=1, load="", ttl=3, fields=(("st", "up"),)
    )
    os.write(ours, b"noise\n" + encode_classic(message, RING))
    await until(lambda: any(isinstance(event, HeartbeatReceived) for event in got))
    node.close()
    os.close(ours)
    os.close(theirs)


async def test_unicast_addresses_dedupe_and_resend() -> None:
    port = free_port()
    got_a: list[Event] = []
    got_b: list[Event] = []
    a = links(A, [Ucast(interface="lo", host="127.0.2.2")], got_a, listen="127.0.2.1", port=port)
    b = links(B, [Ucast(interface="lo", host="127.0.2.1")], got_b, listen="127.0.2.2", port=port)
    a.open()
    b.open()
    a.send(status(1))
    await until(lambda: got_b)
    assert isinstance(got_b[0], HeartbeatReceived)
    assert (got_b[0].node, got_b[0].sequence, got_b[0].deadtime_ns, got_b[0].journal) == (A, 1, 2_000_000_000, 42)
    b.send(SendMessage(id=1, kind="status", generation=7, sequence=1, fields=(("st", "up"),)))
    b.send(SendMessage(id=2, kind="ask_resources", generation=7, sequence=2, fields=(("rsc_hold", "all"),), dest=B))
    await until(lambda: len(got_a) == 2)
    assert isinstance(got_a[1], MessageReceived) and got_a[1].kind == "for_another", (
        "its number counts, its content not"
    )
    a.send(status(2))
    await until(lambda: len(got_b) == 2)
    for _ in range(3):
        a.resend(ResendMessages(id=3, first=1, last=2, dest=B))
    a.send(status(3))
    await until(lambda: any(isinstance(e, HeartbeatReceived) and e.sequence == 3 for e in got_b))
    assert len([e for e in got_b if isinstance(e, HeartbeatReceived)]) == 3, "copies on the same link are refused"
    a.resend(ResendMessages(id=4, first=900, last=900, dest=B))
    await until(lambda: any(isinstance(e, MessageReceived) and e.kind == "NS_nak_rexmit" for e in got_b))
    a.close()
    b.close()


async def test_a_link_that_cannot_be_opened_is_said_once_and_tried_again() -> None:
    got: list[Event] = []
    node = links(A, [Bcast(interface="nosuch0")], got, port=free_port())
    node.open()
    await until(lambda: got)
    await asyncio.sleep(0)
    node.close()
    assert [type(event) for event in got] == [LinkChanged] and not got[0].working and "No such device" in got[0].detail


@needs_ipv6
async def test_ipv6_and_ipv4_share_a_port() -> None:
    got: list[Event] = []
    port = free_port()
    media: list[Medium] = [Ucast(interface="lo", host="127.0.0.1"), Ucast6(interface="lo", host="::1")]
    node = links(A, media, got, port=port)
    node.open()
    node.send(status(1))
    for sequence, (family, host) in enumerate(((socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1")), 1):
        fields = (("st", "up"),)
        message = build(
            "status", node=B, uuid=b"B" * 16, generation=3, sequence=sequence, wall_s=1, load="", ttl=3, fields=fields
        )
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.sendto(encode(message, RING), (host, port))
    await until(lambda: len(got) == 2)
    node.close()
    assert sorted(e.sequence for e in got if isinstance(e, HeartbeatReceived)) == [1, 2]


MULTICAST = """
import asyncio
from hafsm.config.model import Mcast
from tests.unit_daemon.test_links_and_pings import *
async def main():
    got = []
    a = links(A, [Mcast(interface="m0", group="239.1.2.3", port=6940, ttl=1, loop=0)], [])
    b = links(B, [Mcast(interface="m1", group="239.1.2.3", port=6940, ttl=1, loop=0)], got)
    a.open(); b.open()
    a.send(status(1))
    await until(lambda: got)
    print(type(got[0]).__name__, got[0].node)
asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="multicast test skipped: needs root for a network namespace")
def test_multicast_joins_its_group_on_its_device() -> None:
    commands = [
        "ip link set lo up",
        "ip link add m0 type veth peer name m1",
        "ip addr add 192.0.2.1/24 dev m0",
        "ip addr add 192.0.2.2/24 dev m1",
        "ip link set m0 up",
        "ip link set m1 up",
        "sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.m1.rp_filter=0 net.ipv4.conf.m1.accept_local=1",
    ]
    script = " && ".join([*commands, 'exec "$0" -c "$1"'])
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", script, sys.executable, MULTICAST],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": "."},
        check=False,
    )
    assert done.stdout.strip() == "HeartbeatReceived director-a", done.stderr


IPV6 = """
import asyncio, subprocess, sys
from hafsm.config.model import Mcast6, Ucast6
from tests.unit_daemon.test_links_and_pings import *

def media(peer):
    return (
        (6941, Ucast6(interface="m0", host=f"fe80::{peer}")),
        (6942, Ucast6(interface="m0", host=f"2001:db8::{peer}")),
        (6943, Mcast6(interface="m0", group="ff12::1:2:3:4", port=6940, ttl=1, loop=0)),
    )

def enter(number):
    for ip in ("fe80", "2001:db8"):
        subprocess.run(["ip", "addr", "add", f"{ip}::{number}/64", "dev", "m0", "nodad"], check=True)
    subprocess.run(["ip", "link", "set", "m0", "up"], check=True)

async def hear():
    got = {}
    for port, medium in media(1):
        node = links(B, [medium], got.setdefault(type(medium).__name__ + medium.name + str(port), []), port=port)
        node.open()
    await until(lambda: all(got.values()))
    print(sorted({type(events[0]).__name__ + " " + events[0].node for events in got.values()}), len(got), flush=True)

async def speak(other):
    nodes = [links(A, [medium], [], port=port) for port, medium in media(2)]
    for node in nodes:
        node.open()
    for sequence in range(1, 400):
        for node in nodes:
            node.send(status(sequence))
        if other.poll() is not None:
            break
        await asyncio.sleep(0.05)

if sys.argv[1:] == ["b"]:
    print("ready", flush=True)
    sys.stdin.readline()
    enter(2)
    asyncio.run(hear())
else:
    again = ["unshare", "-n", sys.executable, "-c", sys.argv[1], "b"]
    with subprocess.Popen(again, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "ready\\n"
        veth = ["ip", "link", "add", "m0", "type", "veth", "peer", "name", "m0", "netns", str(other.pid)]
        subprocess.run(veth, check=True)
        enter(1)
        other.stdin.write("go\\n")
        other.stdin.flush()
        asyncio.run(speak(other))
        print(other.stdout.read(), end="")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="IPv6 links test skipped: needs root for network namespaces")
def test_ipv6_links_reach_link_local_and_global_addresses_and_a_group() -> None:
    done = subprocess.run(
        ["unshare", "-n", "-p", "-f", "--kill-child", "--mount-proc", sys.executable, "-c", IPV6, IPV6],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": "."},
        check=False,
    )
    assert done.stdout.strip() == "['HeartbeatReceived director-a'] 3", done.stderr


def payload(name: str, host: str) -> bytes:
    """What an echo request to a host carries: a signed message in the ping node's name."""
    fields = (("st", "ping"), ("info", host))
    return encode(
        build("NS_st", node=name, uuid=None, generation=0, sequence=0, wall_s=1, load="", ttl=0, fields=fields), RING
    )


def reply(request: bytes, *, header: bytes = b"\x45" + bytes(19)) -> bytes:
    """What a host makes of an IPv4 echo request."""
    return header + b"\0" + request[1:]


def reply6(request: bytes) -> bytes:
    """What a host makes of an IPv6 echo request; a raw socket shows no header of IPv6."""
    return b"\x81" + request[1:]


def test_only_fresh_authentic_echoes_of_ours_count() -> None:
    pings = Pings([PingNode(name="gw", hosts=("192.0.2.1",))], RING, submit=[].append, clock=boottime_ns)
    pings._sequence = 40
    signed = payload("gw", "192.0.2.1")
    good = echo_request(V4, pings._id, 40, signed)
    assert pings._read(V4, reply(good)) == ("gw", "192.0.2.1")
    assert pings._read(V4, reply(echo_request(V4, pings._id ^ 1, 40, signed))) is None
    assert pings._read(V4, reply(echo_request(V4, pings._id, 40 - ANSWER_AGE - 1, signed))) is None
    assert pings._read(V4, reply(echo_request(V4, pings._id, 40, signed[:-2] + b"0,"))) is None
    assert pings._read(V4, b"") is None and pings._read(V4, b"\x4f" + bytes(40)) is None
    assert checksum(good) == 0


def test_the_same_holds_for_ipv6() -> None:
    pings = Pings([PingNode(name="gw", hosts=("fe80::1%eth0",))], RING, submit=[].append, clock=boottime_ns)
    pings._sequence = 40
    signed = payload("gw", "fe80::1%eth0")
    good = echo_request(V6, pings._id, 40, signed)
    assert good[0] == 128
    assert pings._read(V6, reply6(good)) == ("gw", "fe80::1%eth0")
    assert pings._read(V6, good) is None, "a request is no answer"
    assert pings._read(V6, reply6(echo_request(V6, pings._id ^ 1, 40, signed))) is None
    assert pings._read(V6, reply6(echo_request(V6, pings._id, 40 - ANSWER_AGE - 1, signed))) is None
    assert pings._read(V6, reply6(echo_request(V6, pings._id, 40, signed[:-2] + b"0,"))) is None
    assert pings._read(V6, reply6(echo_request(V6, pings._id, 40, payload("gw", "fe80::2%eth0")))) is None
    assert pings._read(V6, b"") is None and pings._read(V6, b"\x81") is None


@needs_ipv6
@pytest.mark.skipif(os.geteuid() != 0, reason="ping test skipped: needs root for a raw socket")
async def test_real_hosts_of_both_families_answer_real_pings() -> None:
    got: list[Event] = []
    nodes = [PingNode(name="here", hosts=("127.0.0.1", "127.0.0.2", "::1")), PingNode(name="::1", hosts=("::1",))]
    pings = Pings(nodes, RING, submit=got.append, clock=boottime_ns)
    pings.open()
    pings.send()
    await until(lambda: len(got) == 4)
    pings.close()
    assert {(e.ping, e.host) for e in got if isinstance(e, PingAnswered)} == {
        ("here", "127.0.0.1"),
        ("here", "127.0.0.2"),
        ("here", "::1"),
        ("::1", "::1"),
    }


@needs_ipv6
@pytest.mark.skipif(os.geteuid() != 0, reason="ping test skipped: needs root for a raw socket")
async def test_a_link_local_host_whose_interface_is_gone_keeps_nobody_from_answering() -> None:
    got: list[Event] = []
    node = PingNode(name="gw", hosts=("fe80::1%nosuch0", "::1"))
    pings = Pings([node], RING, submit=got.append, clock=boottime_ns)
    pings.open()
    pings.send()
    await until(lambda: got)
    pings.close()
    assert [(e.ping, e.host) for e in got if isinstance(e, PingAnswered)] == [("gw", "::1")]
