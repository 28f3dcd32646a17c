"""A serial line: messages in any pieces, with noise between them and inside them."""

from __future__ import annotations

import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st

from hafsm.errors import PeerError
from hafsm.wire.auth import Key, KeyRing
from hafsm.wire.framing import MAX_DATAGRAM, STRING, Field
from hafsm.wire.message import Message, build, encode_classic
from hafsm.wire.stream import ClassicStream

RING = KeyRing([Key(1, "sha1", b"LabSecretKey0")], 1)


def status(sequence):
    return build(
        "status",
        node="director-a",
        uuid=bytes(16),
        generation=1,
        sequence=sequence,
        wall_s=1,
        load="",
        ttl=3,
        fields=[("st", "active")],
    )


ONE, TWO, THREE = (status(sequence) for sequence in (1, 2, 3))
FIRST, SECOND, THIRD = (encode_classic(message, RING) for message in (ONE, TWO, THREE))


def told(found):
    """Messages as they are, errors by reason."""
    return [item.reason if isinstance(item, PeerError) else item for item in found]


def fed(*pieces):
    stream = ClassicStream(RING)
    return [item for piece in pieces for item in told(stream.feed(piece))]


def test_messages_one_after_the_other():
    """Whole, byte by byte, and without the NUL between them."""
    line = FIRST + SECOND + THIRD
    assert fed(line) == [ONE, TWO, THREE]
    assert fed(*(line[at : at + 1] for at in range(len(line)))) == [ONE, TWO, THREE]
    assert fed(line.replace(b"\0", b"")) == [ONE, TWO, THREE]


def test_a_message_is_there_with_its_last_byte():
    """The NUL is not waited for."""
    stream = ClassicStream(RING)
    assert stream.feed(FIRST[:-2]) == []
    assert stream.feed(FIRST[-2:-1]) == [ONE]
    assert stream.feed(FIRST[-1:]) == []


NOISE = st.binary(max_size=30)


@given(NOISE, NOISE, st.data())
@settings(deadline=None)
def test_pieces_do_not_matter(before, between, data):
    """However the bytes are cut, the same comes out."""
    line = before + FIRST + between + SECOND + THIRD
    cuts = sorted(data.draw(st.lists(st.integers(0, len(line)), max_size=20)))
    pieces = [line[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(line)], strict=True)]
    assert fed(*pieces) == fed(line)


def test_noise_before_a_message():
    """One error for a run of noise, and the message behind it, whether or not the noise ends its line."""
    for noise in (b"noise", b"noise\n", b"\n\n\xff\xfe\n\x01\n", b"a\nb\nc", b"<<<\n", b"t=status\nauth=1 00\n<<<\n"):
        assert fed(noise + FIRST + SECOND) == ["not_framed", ONE, TWO]
    assert fed(b"\0\0\n\0\n" + FIRST) == [ONE]


def test_every_run_of_noise_is_told():
    """Not only the first."""
    assert fed(b"x\n" + FIRST + b"y\n" + SECOND + b"z\nz\n" + THIRD) == [
        *("not_framed", ONE),
        *("not_framed", TWO),
        *("not_framed", THREE),
    ]


def test_a_message_cut_short():
    """At any line, by the next message; that one is whole."""
    lines = FIRST.split(b"\n")
    for kept in range(1, len(lines) - 2):
        cut = b"".join(line + b"\n" for line in lines[:kept])
        assert fed(cut + SECOND) == ["truncated", TWO]


def test_a_value_that_looks_like_a_beginning():
    """Only a whole line begins a message inside another."""
    message = Message((*ONE.fields, Field("info", STRING, b"a>>>"), Field("more", STRING, b"<<<")))
    assert fed(encode_classic(message, RING)) == [message]


def test_a_damaged_message():
    """Its signature is wrong; the next is not touched."""
    assert fed(FIRST.replace(b"st=active", b"st=dead") + SECOND) == ["bad_auth", TWO]


def test_a_lost_byte_anywhere():
    """Costs at most this message and the next, whose beginning may have been swallowed."""
    for at in range(len(FIRST) - 1):
        found = fed(FIRST[:at] + FIRST[at + 1 :] + SECOND + THIRD)
        assert found[-1] == THREE
        assert ONE not in found
        assert any(isinstance(item, str) for item in found)


def test_too_big():
    """A message without end is given up once, and the line goes on."""
    endless = b">>>\n" + b"a=b\n" * (MAX_DATAGRAM // 4 + 10)
    pieces = [endless[at : at + 512] for at in range(0, len(endless), 512)]
    assert fed(*pieces, FIRST) == ["too_big", ONE]
    whole = encode_classic(Message((Field("a", STRING, b"x" * MAX_DATAGRAM),)), RING)
    assert fed(whole + FIRST) == ["too_big", ONE]


def test_memory_is_bounded():
    """A megabyte without a newline, or without an end, are not kept."""
    for piece in (b"x" * 4096, b"a=b\n" * 1024):
        stream = ClassicStream(RING)
        stream.feed(b">>>\n")
        tracemalloc.start()
        try:
            found = [item for _ in range(256) for item in stream.feed(piece)]
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert told(found) == ["too_big"]
        assert peak < 4 * MAX_DATAGRAM
        assert told(stream.feed(b"\n" + FIRST)) == [ONE]
