"""Requests and answers as bytes, with no kernel: layouts of other versions, and answers that are not whole."""

from __future__ import annotations

import random
import socket
import struct

import pytest

from hafsm.core.ipvs import DestinationEntry, Operation, ServiceEntry, Verb
from hafsm.core.settings import Forwarding
from hafsm.errors import KernelError
from hafsm.kernel.ipvs_attributes import CMD_ATTR_DEST, DestinationReader, attributes_of, pack, request_of

REAL = DestinationEntry(
    address="10.77.0.2", port=8080, forwarding=Forwarding.IPIP, weight=9, upper_threshold=70000, lower_threshold=5
)
REAL6 = DestinationEntry(address="2001:db8::2", port=80, forwarding=Forwarding.GATE, weight=0)
WAYS = {Forwarding.MASQ: 0, Forwarding.IPIP: 2, Forwarding.GATE: 3}


def u32(value: int) -> bytes:
    return struct.pack("=I", value)


def fields(real: DestinationEntry) -> dict[int, bytes]:
    """Attributes by number, as the kernel writes them: an IPv4 address is 16 bytes long, too."""
    family = socket.AF_INET6 if ":" in real.address else socket.AF_INET
    return {
        1: socket.inet_pton(family, real.address).ljust(16, b"\0"),
        2: struct.pack("!H", real.port),
        3: u32(WAYS[real.forwarding]),
        4: u32(real.weight),
        5: u32(real.upper_threshold),
        6: u32(real.lower_threshold),
        7: u32(12345),
        8: u32(6),
        9: u32(0),
        10: bytes(40),
        11: struct.pack("=H", family),
        12: bytes(80),
        13: b"\1",
    }


NEWEST = (1, 2, 3, 4, 13, 5, 6, 7, 8, 9, 11, 10, 12)
BEFORE_TUNNEL_TYPES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 10, 12)
BEFORE_MIXED_FAMILIES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)


def answer(real: DestinationEntry, order: tuple[int, ...] = NEWEST) -> memoryview:
    values = fields(real)
    return memoryview(pack(CMD_ATTR_DEST, b"".join(pack(kind, values[kind]) for kind in order)))


@pytest.mark.parametrize("order", [NEWEST, BEFORE_TUNNEL_TYPES, BEFORE_MIXED_FAMILIES, NEWEST[::-1]])
def test_every_version_of_linux_is_read(order):
    reader = DestinationReader()
    for _ in range(2):
        assert reader.destination(answer(REAL, order), socket.AF_INET) == REAL


def test_a_reader_learns_anew_when_an_answer_looks_different():
    reader = DestinationReader()
    for order in (NEWEST, BEFORE_MIXED_FAMILIES, NEWEST[::-1], NEWEST):
        assert reader.destination(answer(REAL, order), socket.AF_INET) == REAL


def test_each_real_server_has_its_own_family():
    reader = DestinationReader()
    for real in (REAL, REAL6, REAL):
        assert reader.destination(answer(real), socket.AF_INET6) == real
    assert DestinationReader().destination(answer(REAL6, BEFORE_MIXED_FAMILIES), socket.AF_INET6) == REAL6


@pytest.mark.parametrize("missing", [1, 2, 3, 4, 5, 6])
def test_an_answer_that_lacks_something_is_refused(missing):
    reader = DestinationReader()
    assert reader.destination(answer(REAL), socket.AF_INET) == REAL
    with pytest.raises(KernelError, match="without all its attributes"):
        reader.destination(answer(REAL, tuple(kind for kind in NEWEST if kind != missing)), socket.AF_INET)
    assert reader.destination(answer(REAL), socket.AF_INET) == REAL


def test_no_bytes_make_a_reader_hang_or_crash():
    dice = random.Random(5)
    whole = bytes(answer(REAL))
    for _ in range(3000):
        data = bytearray(whole[: dice.randint(0, len(whole))])
        for _ in range(dice.randint(0, 6)):
            if data:
                data[dice.randrange(len(data))] = dice.choice((0, 1, 4, 255, dice.randrange(256)))
        try:
            DestinationReader().destination(memoryview(bytes(data)), socket.AF_INET)
        except KernelError:
            continue


@pytest.mark.parametrize("real", [REAL, REAL6])
def test_a_request_carries_what_was_asked(real):
    service = ServiceEntry(protocol="tcp", address="192.0.2.1", port=80)
    request = request_of(Operation(verb=Verb.ADD_DESTINATION, service=service, destination=real))
    assert len(request) % 4 == 0
    nest = dict(attributes_of(memoryview(request)))[CMD_ATTR_DEST]
    sent = {kind: bytes(value) for kind, value in attributes_of(nest)}
    wanted = {kind: value for kind, value in fields(real).items() if kind in sent}
    assert sent.keys() == {1, 2, 3, 4, 5, 6, 11}
    assert sent.pop(1) == wanted.pop(1)[: 16 if ":" in real.address else 4]
    assert sent == wanted
