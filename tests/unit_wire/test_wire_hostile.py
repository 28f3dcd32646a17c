"""Bytes that nobody should send: refused with a reason, never another exception, never believed (law L9)."""

from __future__ import annotations

import re
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hafsm.errors import PeerError
from hafsm.wire.auth import Key, KeyRing
from hafsm.wire.framing import (
    BINARY,
    LIST,
    MAX_DATAGRAM,
    MAX_FIELDS,
    STRING,
    Field,
    Reason,
    write_classic,
    write_lines,
    write_netstring,
    write_trailer,
)
from hafsm.wire.message import Envelope, Message, decode, encode, encode_classic, read_envelope
from hafsm.wire.stream import ClassicStream
from tests.unit_wire.test_wire_auth import EXAMPLE

REASONS = get_args(Reason)
RINGS = {
    "sha1": KeyRing([Key(1, "sha1", b"LabSecretKey0")], 1),
    "md5": KeyRing([Key(1, "md5", b"LabSecretKey0")], 1),
    "crc": KeyRing([Key(1, "crc", b"")], 1),
}
RING = RINGS["sha1"]


def refused(data, ring=RING):
    """The reason; fails if the bytes are believed."""
    with pytest.raises(PeerError) as caught:
        decode(data, ring)
    assert caught.value.reason in REASONS
    return caught.value.reason


def signed_netstring(inside):
    """A datagram with an authentic trailer around any bytes."""
    signed = b"###\n" + inside + b"%%%\n"
    return signed + write_trailer(RING.sign(signed))


def signed_classic(lines):
    """A classic message with an authentic signature around any lines."""
    return write_classic(lines, RING.sign(lines))


STARTS = st.sampled_from([b"", b"###\n", b">>>\n", b"###\n11:(0)t=status,", b">>>\nt=status\n"])
ENDS = st.sampled_from([b"", b"%%%\n", b"%%%\n42:1 " + b"0" * 40 + b",", b"<<<\n", b"auth=1 00\n<<<\n\0"])


@given(STARTS, st.binary(max_size=300), ENDS)
@settings(deadline=None)
def test_arbitrary_bytes(start, middle, end):
    """With and without the marks of both framings."""
    refused(start + middle + end)


@pytest.mark.parametrize("ring", RINGS.values(), ids=RINGS)
@pytest.mark.parametrize("write", [encode, encode_classic])
def test_every_single_flipped_bit(ring, write):
    """Anywhere: marks, lengths, fields, signature."""
    good = write(EXAMPLE, ring)
    assert decode(good, ring) == EXAMPLE
    for at in range(len(good)):
        for bit in range(8):
            refused(good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :], ring)


@pytest.mark.parametrize("ring", RINGS.values(), ids=RINGS)
def test_truncated_at_every_byte(ring):
    """Also at the end; of the classic form only the NUL may be missing."""
    datagram, classic = encode(EXAMPLE, ring), encode_classic(EXAMPLE, ring)
    assert {refused(datagram[:size], ring) for size in range(len(datagram))} == {"not_framed", "truncated", "no_auth"}
    assert decode(classic[:-1], ring) == EXAMPLE
    assert {refused(classic[:size], ring) for size in range(len(classic) - 1)} == {"not_framed", "truncated"}


@pytest.mark.parametrize("write", [encode, encode_classic])
@given(extra=st.binary(min_size=1, max_size=20))
@settings(deadline=None)
def test_anything_behind_the_end(write, extra):
    """Bytes behind the signature are not covered by it."""
    refused(write(EXAMPLE, RING) + extra)


def test_too_big():
    """64 KiB, whatever is inside; a field of 60,000 bytes is no fault (heartbeat accepts it too)."""
    big = Message((*EXAMPLE.fields, Field("padding", STRING, b"x" * 60_000)))
    assert decode(encode(big, RING), RING) == big
    assert decode(encode_classic(big, RING), RING) == big
    too_big = Message((*EXAMPLE.fields, Field("padding", STRING, b"x" * MAX_DATAGRAM)))
    assert refused(encode(too_big, RING)) == "too_big"
    assert refused(encode_classic(too_big, RING)) == "too_big"
    assert refused(b"###\n".ljust(MAX_DATAGRAM + 1, b"\0")) == "too_big"
    assert refused(b"###\n".ljust(MAX_DATAGRAM, b"\0")) == "truncated"


def test_too_many_fields():
    """A bound on the work that an authentic message can cause."""
    field = Field("x", STRING, b"")
    most = Message((field,) * MAX_FIELDS)
    assert decode(encode(most, RING), RING) == most
    assert decode(encode_classic(most, RING), RING) == most
    more = Message((field,) * (MAX_FIELDS + 1))
    assert refused(encode(more, RING)) == "too_many_fields"
    assert refused(encode_classic(more, RING)) == "too_many_fields"
    assert refused(b">>>\n" + b"\n" * 60_000) == "too_many_fields", "before anything is authenticated"


@pytest.mark.parametrize(
    ("inside", "reason"),
    [
        (b"8:(0)t=abc", "bad_length"),
        (b"8:(0)t=abc;", "bad_length"),
        (b"9:(0)t=abc,", "bad_length"),
        (b"7:(0)t=abc,", "bad_length"),
        (b"08:(0)t=abc,", "bad_length"),
        (b"-8:(0)t=abc,", "bad_length"),
        (b"+8:(0)t=abc,", "bad_length"),
        (b" 8:(0)t=abc,", "bad_length"),
        (b"1_0:(0)t=abcde,", "bad_length"),
        (b"\xb2:(0)t=abc,", "bad_length"),
        (b"000008:(0)t=abc,", "bad_length"),
        (b"99999:(0)t=abc,", "bad_length"),
        (b"999999999999:(0)t=abc,", "bad_length"),
        (b"0:,", "bad_length"),
        (b":(0)t=abc,", "bad_length"),
        (b"8:(0)t=abc,\n", "bad_length"),
        (b"1:(,", "bad_field"),
        (b"2:(0,", "bad_field"),
        (b"3:(0),", "bad_field"),
        (b"4:(0)t,", "bad_field"),
        (b"4:(0)t,8:(0)t=abc,", "bad_field"),
        (b"4:(0)=,", "bad_field"),
        (b"5:t=abc,", "bad_field"),
        (b"8:[0]t=abc,", "bad_field"),
        (b"8:(6)t=abc,", "bad_field"),
        (b"8:(a)t=abc,", "bad_field"),
        (b"8:(0)\xff=abc,", "bad_field"),
        (b"8:(0)\n=abc,", "bad_field"),
        (b"8:(0)(=abc,", "bad_field"),
        (b"8:(2)t=abc,", "unsupported_type"),
        (b"8:(4)t=abc,", "unsupported_type"),
        (b"8:(5)t=abc,", "unsupported_type"),
    ],
)
def test_authentic_netstrings_that_are_wrong(inside, reason):
    """The key holder may be mad too."""
    assert refused(signed_netstring(inside)) == reason


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (b"t\n", "bad_field"),
        (b"=abc\n", "bad_field"),
        (b"(0t=abc\n", "bad_field"),
        (b"(\n", "bad_field"),
        (b"()t=abc\n", "bad_field"),
        (b"(9)t=abc\n", "bad_field"),
        (b"(1)u=abc\n", "bad_field"),
        (b"(1)u=ab=c\n", "bad_field"),
        (b"(1)u=a b==\n", "bad_field"),
        (b"(1)u=\xff\xff\xff\xff\n", "bad_field"),
        (b"\xff=abc\n", "bad_field"),
        (b"(2)t=abc\n", "unsupported_type"),
        (b"(4)t=abc\n", "unsupported_type"),
        (b"(5)t=abc\n", "unsupported_type"),
    ],
)
def test_authentic_lines_that_are_wrong(lines, reason):
    """The same for the classic form."""
    assert refused(signed_classic(lines)) == reason


def test_signatures_that_are_not_there():
    """Missing, doubled, with a wrong length."""
    datagram, classic = encode(EXAMPLE, RING), encode_classic(EXAMPLE, RING)
    end = datagram.index(b"%%%\n") + 4
    assert refused(datagram[:end]) == "no_auth"
    assert refused(datagram[:end] + datagram[end:].replace(b"42:", b"41:")) == "bad_length"
    assert refused(datagram + b"\0") == "no_auth"
    assert refused(re.sub(rb"auth=[^\n]*\n", b"", classic)) == "no_auth"
    assert refused(re.sub(rb"(auth=[^\n]*\n)", rb"\1\1", classic)) == "bad_auth"
    assert refused(re.sub(rb"auth=[^\n]*\n", b"auth=\n", classic)) == "bad_auth"


def test_a_classic_end_has_a_line_of_its_own():
    """Authentic lines, but the last is glued to the mark."""
    assert refused(b">>>\nauth=%s\nt=status<<<\n" % RING.sign(b"t=status\n")) == "truncated"


def test_the_inner_signature_of_a_netstring_is_not_looked_at():
    """heartbeat's rule; the trailer covers it anyway."""
    fields = (*EXAMPLE.fields, Field("auth", STRING, b"1 wrong"))
    signed = write_netstring(fields)
    assert decode(signed + write_trailer(RING.sign(signed)), RING) == EXAMPLE


def test_the_classic_signature_may_stand_anywhere_and_blank_lines_do_not_count():
    """heartbeat's rules."""
    lines = write_lines(EXAMPLE.fields)
    first, rest = lines.split(b"\n", 1)
    message = b">>>\n\n%s\nauth=%s\n\n%s<<<\n" % (first, RING.sign(lines), rest)
    assert decode(message, RING) == EXAMPLE


def test_end_marks_inside_binary_values():
    """What looks like the end of a message inside a value is a value."""
    for value in (b"%%%\n", b"%%%\n42:1 " + b"0" * 40 + b",", b"<<<\n", b">>>\n", b",###\n", b"\n\0="):
        message = Message((*EXAMPLE.fields, Field("bytes", BINARY, value)))
        assert decode(encode(message, RING), RING) == message
        assert decode(encode_classic(message, RING), RING) == message


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_authentic_rubbish(inside):
    """Whatever a key holder signs gives a message or a reason."""
    for data in (signed_netstring(inside), signed_classic(inside)):
        try:
            assert isinstance(decode(data, RING), Message)
        except PeerError as error:
            assert error.reason in REASONS


NAMES = st.sampled_from(
    [
        *("t", "src", "ts", "seq", "hg", "st", "dt", "hj", "dest", "rsc_hold", "isstable", "rtype", "info"),
        *("firstseq", "lastseq", "num_ping", "ackseq", "srcuuid", "destuuid"),
    ]
)
KINDS = st.sampled_from(
    [b"status", b"resource", b"NS_rexmit", b"NS_nak_rexmit", b"NS_ackmsg", b"num_ping_nodes", b"NS_st"]
)
VALUES = st.one_of(
    st.sampled_from(
        [b"", b"0", b"1", b"7d0", b"0x1f", b"-1", b"1_0", b" 1", b"f" * 15, b"f" * 16, b"\xc2\xb2", b"9" * 19]
    ),
    st.binary(max_size=20),
    st.sampled_from([b"x" * 300, b"nodea", b"full", b"local"]),
)
ANY_FIELD = st.builds(Field, NAMES, st.sampled_from([STRING, STRING, STRING, BINARY, LIST]), VALUES)


@given(KINDS, st.lists(ANY_FIELD, max_size=8))
@settings(deadline=None, max_examples=300)
def test_envelopes_of_authentic_nonsense(kind, fields):
    """Known names with any values: an envelope whose promises hold, or a reason."""
    base = [*fields, Field("t", STRING, kind), *EXAMPLE.fields]
    try:
        envelope = read_envelope(Message(tuple(base)))
    except PeerError as error:
        assert error.reason in ("missing_field", "bad_number", "bad_field")
        return
    assert isinstance(envelope, Envelope)
    assert (envelope.sequence == 0) == envelope.kind.startswith("NS_")
    assert envelope.ts > 0
    assert envelope.node
    assert envelope.status or envelope.kind != "status"
    assert 0 <= envelope.deadtime_ms * 1_000_000 < 2**63
    assert all(0 <= n < 2**63 for n in (envelope.generation, envelope.sequence, envelope.journal, envelope.count))
    assert all(uuid is None or len(uuid) == 16 for uuid in (envelope.uuid, envelope.dest_uuid))
    if envelope.kind == "NS_rexmit":
        assert 1 <= envelope.first <= envelope.last
    for text in (envelope.kind, envelope.node, envelope.status, envelope.info, envelope.hold, envelope.dest):
        text.encode()
        assert text.isprintable()


@given(st.lists(st.binary(max_size=60), max_size=10))
@settings(deadline=None)
def test_arbitrary_bytes_on_a_serial_line(pieces):
    """Only errors with a reason, and afterwards the line still works."""
    stream = ClassicStream(RING)
    for piece in pieces:
        for item in stream.feed(piece):
            assert isinstance(item, PeerError)
            assert item.reason in REASONS
    found = stream.feed(encode_classic(EXAMPLE, RING) * 2)
    assert found[-1] == EXAMPLE
