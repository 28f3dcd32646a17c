"""Messages as values: built, written, read, and what the daemon takes out of them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hafsm.errors import InvariantError, PeerError
from hafsm.wire.auth import Key, KeyRing
from hafsm.wire.framing import BINARY, LIST, STRING, Field
from hafsm.wire.message import Envelope, Message, build, decode, encode, encode_classic, read_envelope

RING = KeyRing([Key(1, "sha1", b"LabSecretKey0")], 1)
UUID = bytes(range(16))
PRINTABLE = st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="=")
NAMES = st.text(PRINTABLE, min_size=1, max_size=12).filter(lambda name: name != "auth" and not name.startswith("("))


def fields(strings):
    """Any fields; lists are opaque text."""
    return st.lists(
        st.one_of(
            st.builds(Field, NAMES, st.just(STRING), strings),
            st.builds(Field, NAMES, st.just(BINARY), st.binary(max_size=40)),
            st.builds(Field, NAMES, st.just(LIST), strings),
        ),
        max_size=12,
    ).map(lambda found: Message(tuple(found)))


def common(**changed):
    """The arguments of `build` that matter little."""
    return {
        "node": "director-a",
        "uuid": UUID,
        "generation": 0x6B031400,
        "sequence": 0x2A,
        "wall_s": 0x6B031401,
        "load": "0.10 0.20 0.30 1/100 4711",
        "ttl": 3,
        **changed,
    }


def envelope_with(kind="status", **strings):
    """The envelope of a complete message in which these string fields are replaced, or left out if None."""
    message = build(kind, **common(sequence=0 if kind.startswith("NS_") else 42), fields=[("st", "active")])
    kept = [field for field in message.fields if field.name not in strings]
    added = [Field(name, STRING, value.encode()) for name, value in strings.items() if value is not None]
    return read_envelope(Message((*kept, *added)))


@given(fields(st.binary(max_size=40)))
@settings(deadline=None)
def test_netstrings_carry_any_bytes(message):
    """Round trip."""
    assert decode(encode(message, RING), RING) == message


@given(fields(st.binary(max_size=40).map(lambda value: value.replace(b"\x13", b""))))
@settings(deadline=None)
def test_classic_lines_carry_any_bytes_but_one(message):
    """Round trip, newlines included; byte 0x13 is what a newline is written as."""
    assert decode(encode_classic(message, RING), RING) == message


def test_build_a_status():
    """Names, order and number bases of heartbeat's own."""
    message = build("status", **common(), fields=(("st", "up"), ("dt", "7d0"), ("protocol", "1"), ("hj", "ff")))
    assert [(field.name, field.kind, field.value) for field in message.fields] == [
        ("t", STRING, b"status"),
        ("st", STRING, b"up"),
        ("dt", STRING, b"7d0"),
        ("protocol", STRING, b"1"),
        ("hj", STRING, b"ff"),
        ("src", STRING, b"director-a"),
        ("srcuuid", BINARY, UUID),
        ("seq", STRING, b"2a"),
        ("hg", STRING, b"6b031400"),
        ("ts", STRING, b"6b031401"),
        ("ld", STRING, b"0.10 0.20 0.30 1/100 4711"),
        ("ttl", STRING, b"3"),
    ]
    assert read_envelope(message) == Envelope(
        kind="status",
        node="director-a",
        uuid=UUID,
        generation=0x6B031400,
        sequence=42,
        ts=0x6B031401,
        status="up",
        deadtime_ms=2000,
        journal=255,
    )


def test_build_an_acknowledgement():
    """Outside the sequence: no `seq`, no `ld`; addressed by name and uuid."""
    message = build(
        "NS_ackmsg", **common(sequence=0), fields=[("ackseq", "1e")], dest="director-b", dest_uuid=bytes(16)
    )
    assert [field.name for field in message.fields] == [
        *("t", "dest", "ackseq", "destuuid", "src", "srcuuid", "hg", "ts", "ttl")
    ]
    envelope = read_envelope(message)
    assert (envelope.sequence, envelope.acked) == (0, 30)
    assert (envelope.dest, envelope.dest_uuid) == ("director-b", bytes(16))


def test_build_a_ping():
    """What is left out when there is none of it."""
    message = build(
        "NS_st", **common(node="192.0.2.1", uuid=None, generation=0, sequence=0, ttl=0), fields=[("st", "ping")]
    )
    assert [field.name for field in message.fields] == ["t", "st", "src", "ts"]


@pytest.mark.parametrize(("kind", "sequence"), [("status", 0), ("NS_ackmsg", 1), ("status", -1)])
def test_a_sequence_number_where_none_belongs(kind, sequence):
    """Or none where one does: such a message would be dropped by every receiver."""
    with pytest.raises(InvariantError):
        build(kind, **common(sequence=sequence))


def test_what_resource_messages_say():
    """Absent is not the same as 0."""
    plain = envelope_with("resource")
    assert (plain.hold, plain.stable, plain.full, plain.info) == ("", None, False, "")
    said = envelope_with("resource", rsc_hold="local", isstable="1", rtype="full", info="standby")
    assert (said.hold, said.stable, said.full, said.info) == ("local", True, True, "standby")
    assert envelope_with("resource", isstable="0").stable is False


def test_requests_for_retransmission():
    """`firstseq` is decimal in a request and hex in a refusal."""
    asked = envelope_with("NS_rexmit", firstseq="10", lastseq="12")
    assert (asked.first, asked.last) == (10, 12)
    assert envelope_with("NS_nak_rexmit", firstseq="10").first == 16
    assert envelope_with("num_ping_nodes", num_ping="10").count == 10


@pytest.mark.parametrize(
    ("kind", "strings"),
    [
        ("status", {"t": None}),
        ("status", {"src": None}),
        ("status", {"src": ""}),
        ("status", {"ts": None}),
        ("status", {"seq": None}),
        ("status", {"st": None}),
        ("NS_rexmit", {"firstseq": "1"}),
        ("NS_rexmit", {"lastseq": "1"}),
        ("NS_nak_rexmit", {}),
        ("NS_ackmsg", {}),
        ("num_ping_nodes", {}),
    ],
)
def test_what_must_be_there(kind, strings):
    """heartbeat drops or ignores these too."""
    with pytest.raises(PeerError) as caught:
        envelope_with(kind, **strings)
    assert caught.value.reason == "missing_field"


@pytest.mark.parametrize("bad", ["", "0x1f", "-1", "+1", " 1", "1 ", "1_0", "g", "\u0661", "1" * 16])
@pytest.mark.parametrize("name", ["ts", "seq", "hg", "dt", "hj"])
def test_numbers_that_are_none(name, bad):
    """Only hex digits, at most 15, as heartbeat writes them."""
    with pytest.raises(PeerError) as caught:
        envelope_with(**{name: bad})
    assert caught.value.reason == "bad_number"


@pytest.mark.parametrize(
    ("kind", "strings"),
    [
        ("status", {"ts": "0"}),
        ("status", {"seq": "0"}),
        ("status", {"dt": "80000000"}),
        ("resource", {"isstable": "2"}),
        ("NS_rexmit", {"firstseq": "0", "lastseq": "1"}),
        ("NS_rexmit", {"firstseq": "2", "lastseq": "1"}),
        ("NS_rexmit", {"firstseq": "a", "lastseq": "b"}),
        ("NS_nak_rexmit", {"firstseq": "0"}),
        ("NS_ackmsg", {"ackseq": "0"}),
        ("num_ping_nodes", {"num_ping": "-1"}),
    ],
)
def test_numbers_out_of_range(kind, strings):
    """Zero where numbers begin at 1, more than can be meant, an empty range."""
    with pytest.raises(PeerError) as caught:
        envelope_with(kind, **strings)
    assert caught.value.reason == "bad_number"


@pytest.mark.parametrize(
    "strings",
    [{"t": "x" * 32}, {"src": "x" * 100}, {"st": "x" * 32}, {"info": "x" * 256}, {"st": "a\nb"}, {"info": "\x1b[31m"}],
)
def test_text_that_no_journal_should_carry(strings):
    """heartbeat's limits of length, and nothing that a terminal would obey."""
    with pytest.raises(PeerError) as caught:
        envelope_with(**strings)
    assert caught.value.reason == "bad_field"


@pytest.mark.parametrize("name", ["srcuuid", "destuuid"])
def test_uuids_have_sixteen_bytes(name):
    """Absent is no fault, another length is."""
    for size in (0, 15, 17):
        with pytest.raises(PeerError) as caught:
            read_envelope(Message((Field(name, BINARY, bytes(size)), *build("starting", **common()).fields)))
        assert caught.value.reason == "bad_field"
    envelope = read_envelope(build("starting", **common(uuid=None)))
    assert (envelope.uuid, envelope.dest_uuid) == (None, None)


def test_the_first_of_two_fields_counts_and_types_matter():
    """heartbeat's rule; a binary field is no string of the same name."""
    message = Message(
        (
            Field("t", BINARY, b"binary"),
            Field("t", LIST, b"list"),
            Field("t", STRING, b"starting"),
            Field("srcuuid", STRING, b"text"),
            *build("status", **common()).fields,
        )
    )
    assert message.get("t") == read_envelope(message).kind == "starting"
    assert message.get_bytes("t") == b"binary"
    assert read_envelope(message).uuid == UUID
    assert message.get("unknown") is None
    assert message.get_bytes("unknown") is None


def test_unknown_fields_and_kinds_are_no_fault():
    """Another version may say more."""
    message = build("new-kind", **common(), fields=[("new", "field")])
    extra = Message((*message.fields, Field("opaque", LIST, b"1:a,1:b,"), Field("blob", BINARY, b"\xff" * 99)))
    assert read_envelope(extra).kind == "new-kind"


def test_text_that_is_not_utf8():
    """It can be shown, journalled as JSON, and told from other text."""
    value = b"\xff\xc3\xa9"
    message = Message((*build("starting", **common()).fields, Field("info", STRING, value)))
    assert read_envelope(message).info == message.get("info") == "\\xffé"


def test_a_missing_generation_counts_as_zero():
    """heartbeat's rule; the replay window then refuses it as soon as a real one was seen."""
    assert envelope_with(hg=None).generation == 0
