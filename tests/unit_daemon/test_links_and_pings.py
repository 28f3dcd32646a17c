"""Links over a serial line, by unicast and by multicast; echoes that are ours and echoes that are not."""

from __future__ import annotations

import asyncio
import os
import pty
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

from hafsm.config.model import Bcast, Medium, Serial, Ucast
from hafsm.core.actions import ResendMessages, SendMessage
from hafsm.core.events import Event, HeartbeatReceived, LinkChanged, MessageReceived, PingAnswered
from hafsm.core.settings import NodeName, PingNode
from hafsm.daemon.clock import boottime_ns
from hafsm.daemon.links import Links
from hafsm.daemon.pings import ANSWER_AGE, Pings, checksum, echo_request
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


def reply(request: bytes, *, ttl_header: bytes = b"\x45" + bytes(19)) -> bytes:
    """What a host makes of an echo request."""
    return ttl_header + b"\0" + request[1:]


def test_only_fresh_authentic_echoes_of_ours_count() -> None:
    got: list[Event] = []
    pings = Pings([PingNode(name="gw", hosts=("192.0.2.1",))], RING, submit=got.append, clock=boottime_ns)
    pings._sequence = 40
    payload = encode(
        build(
            "NS_st",
            node="gw",
            uuid=None,
            generation=0,
            sequence=0,
            wall_s=1,
            load="",
            ttl=0,
            fields=(("st", "ping"), ("info", "192.0.2.1")),
        ),
        RING,
    )
    good = echo_request(pings._id, 40, payload)
    assert pings._read(reply(good)) == ("gw", "192.0.2.1")
    assert pings._read(reply(echo_request(pings._id ^ 1, 40, payload))) is None
    assert pings._read(reply(echo_request(pings._id, 40 - ANSWER_AGE - 1, payload))) is None
    assert pings._read(reply(echo_request(pings._id, 40, payload[:-2] + b"0,"))) is None
    assert pings._read(b"") is None and pings._read(b"\x4f" + bytes(40)) is None
    assert checksum(good) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="ping test skipped: needs root for a raw socket")
async def test_a_real_host_answers_real_pings() -> None:
    got: list[Event] = []
    node = PingNode(name="here", hosts=("127.0.0.1", "127.0.0.2"))
    pings = Pings([node], RING, submit=got.append, clock=boottime_ns)
    pings.open()
    pings.send()
    await until(lambda: len(got) == 2)
    pings.close()
    assert {(e.ping, e.host) for e in got if isinstance(e, PingAnswered)} == {
        ("here", "127.0.0.1"),
        ("here", "127.0.0.2"),
    }
