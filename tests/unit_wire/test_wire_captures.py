"""What real heartbeat 3 daemons sent is understood, believed, and written again byte for byte."""

from __future__ import annotations

import pytest

from hafsm.errors import PeerError
from hafsm.wire.auth import Key, KeyRing
from hafsm.wire.framing import STRING, write_netstring, write_trailer
from hafsm.wire.message import build, decode, encode, encode_classic, read_envelope
from hafsm.wire.stream import ClassicStream
from hafsm.wire.window import ReplayWindow
from tests.unit_wire.capture_files import FILES, read_capture

START = "01-start-both.txt"
WITHOUT_INNER_AUTH = "29-msgfmt-netstring.txt"
CLASSIC = "43-pypeer-classic-format.txt"
MIXED_INDEX = "34-different-method-same-key.txt"
PACKET_LOSS = "35-packet-loss-rexmit.txt"
IPFAIL = "21-ipfail-start.txt"
TAIL = ("destuuid", "src", "srcuuid", "seq", "hg", "ts", "ld", "ttl")


def signer(capture, payload):
    """The ring of whoever sent it: the index stands in the signature."""
    for key in capture.keys:
        ring = capture.ring(key.index)
        try:
            message = decode(payload, ring)
        except PeerError:
            continue
        if payload in (encode(message, ring), encode_classic(message, ring)):
            return ring
    return None


@pytest.mark.parametrize("name", FILES)
def test_every_datagram_is_believed_and_readable(name):
    """By a node with any of the active lines in use, and each names one of the nodes or the ping node."""
    capture = read_capture(name)
    assert capture.datagrams
    for key in capture.keys:
        for _, payload in capture.datagrams:
            envelope = read_envelope(decode(payload, capture.ring(key.index)))
            assert envelope.node in ("nodea", "nodeb", "10.99.0.3")
            assert envelope.ts >> 16 in (0x6B03, 0x6B04)
            assert (envelope.sequence == 0) == envelope.kind.startswith("NS_")


@pytest.mark.parametrize("name", [name for name in FILES if name != WITHOUT_INNER_AUTH])
def test_every_datagram_is_written_again_byte_for_byte(name):
    """Framing, base64, both digests and the sender's index."""
    capture = read_capture(name)
    for _, payload in capture.datagrams:
        assert signer(capture, payload) is not None, payload


def test_datagrams_without_the_inner_signature_are_written_again_byte_for_byte():
    """`msgfmt netstring` leaves `auth` out; the trailer alone is enough."""
    capture = read_capture(WITHOUT_INNER_AUTH)
    ring = capture.ring()
    for _, payload in capture.datagrams:
        assert b"auth=" not in payload
        signed = write_netstring(decode(payload, ring).fields)
        assert signed + write_trailer(ring.sign(signed)) == payload


@pytest.mark.parametrize("name", FILES)
def test_both_framings_carry_the_same_message(name):
    """Netstring to classic and back changes nothing."""
    capture = read_capture(name)
    ring = capture.ring()
    for _, payload in capture.datagrams:
        message = decode(payload, ring)
        assert decode(encode_classic(message, ring), ring) == message
        assert decode(encode(message, ring), ring) == message


@pytest.mark.parametrize("name", FILES)
def test_build_puts_the_tail_where_heartbeat_puts_it(name):
    """From the parts of a recorded message `build` makes that message again."""
    capture = read_capture(name)
    built = 0
    for _, payload in capture.datagrams:
        message = decode(payload, capture.ring())
        names = [field.name for field in message.fields]
        own = [field for field in message.fields[1:] if field.name not in TAIL]
        if names[0] == "dest" or names.index("src") < 1 + len(own):
            continue  # repnodes is written by another hand, and API clients give `src` as a field of their own
        envelope = read_envelope(message)
        assert all(field.kind == STRING for field in own)
        assert message == build(
            envelope.kind,
            node=envelope.node,
            uuid=envelope.uuid,
            generation=envelope.generation,
            sequence=envelope.sequence,
            wall_s=envelope.ts,
            load=message.get("ld") or "",
            ttl=int(message.get("ttl") or 0),
            fields=[(field.name, field.value.decode()) for field in own],
            dest_uuid=envelope.dest_uuid,
        )
        built += 1
    assert built


def test_captures_are_complete():
    """The reader of the files sees all of them; every kind of message that two directors use is there."""
    kinds = {
        read_envelope(decode(payload, capture.ring())).kind
        for capture in map(read_capture, FILES)
        for _, payload in capture.datagrams
    }
    assert kinds >= {
        *("status", "starting", "resource", "ask_resources", "hb_takeover", "shutdone", "stonith"),
        *("reqnodes", "repnodes", "NS_ackmsg", "NS_rexmit", "NS_st"),
        *("num_ping_nodes", "you_are_dead", "abort_giveup", "ip-request", "ip-request-resp", "hbapi-clstat"),
    }


def test_mixed_active_lines_with_one_key_text():
    """heartbeat lets nodes with the same key text and different active lines talk; both directions are believed."""
    capture = read_capture(MIXED_INDEX)
    signatures = {payload[payload.rindex(b":") + 1 :].split(b" ")[0] for _, payload in capture.datagrams}
    assert signatures == {b"1", b"2"}
    for active in (1, 2):
        for _, payload in capture.datagrams:
            assert decode(payload, capture.ring(active))


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_believed_with_another_key(name):
    """The same indexes and methods with another secret; crc has none, so there another active method."""
    capture = read_capture(name)
    keys = [
        Key(key.index, key.method if key.secret else "sha1", key.secret + b"x" if key.secret else b"x")
        for key in capture.keys
    ]
    ring = KeyRing(keys, keys[0].index)
    for _, payload in capture.datagrams:
        with pytest.raises(PeerError) as caught:
            decode(payload, ring)
        assert caught.value.reason == "bad_auth"


def test_a_recorded_stream_in_pieces():
    """All classic messages of a capture over a serial line, in heartbeat's pieces of 512 bytes."""
    capture = read_capture(CLASSIC)
    classic = [payload for _, payload in capture.datagrams if payload.startswith(b">>>")]
    assert len(classic) > 10
    stream = ClassicStream(capture.ring())
    line = b"".join(classic)
    found = [item for at in range(0, len(line), 512) for item in stream.feed(line[at : at + 512])]
    assert found == [decode(payload, capture.ring()) for payload in classic]


def test_a_lossy_recording_is_accepted_once():
    """Retransmissions fill gaps out of order; the same recording a second time brings nothing but `NS_`."""
    capture = read_capture(PACKET_LOSS)
    envelopes = [read_envelope(decode(payload, capture.ring())) for _, payload in capture.datagrams]
    windows = {"nodea": ReplayWindow(), "nodeb": ReplayWindow()}

    def accepted():
        return [
            (envelope.node, envelope.sequence)
            for envelope in envelopes
            if windows[envelope.node].accept(envelope.generation, envelope.sequence, status=envelope.kind == "status")
            and envelope.sequence
        ]

    first = accepted()
    nodea = [sequence for node, sequence in first if node == "nodea"]
    assert nodea != sorted(nodea), "the recording shows no retransmission"
    opened = {
        node: next(i for i, e in enumerate(envelopes) if e.node == node and e.kind == "status") for node in windows
    }
    numbered = {(e.node, e.sequence) for i, e in enumerate(envelopes) if e.sequence and i >= opened[e.node]}
    assert len(first) == len(set(first))
    assert set(first) == numbered
    assert accepted() == []


def test_an_echoed_ping_is_a_message_in_the_ping_nodes_name():
    """heartbeat's ping payload: no uuid, no generation, no tail but `ts`."""
    capture = read_capture(IPFAIL)
    echoes = [payload for protocol, payload in capture.datagrams if protocol == "icmp-echo-reply"]
    assert echoes
    for payload in echoes:
        envelope = read_envelope(decode(payload, capture.ring()))
        assert (envelope.kind, envelope.node, envelope.status, envelope.info) == ("NS_st", "10.99.0.3", "ping", "ping")
        assert (envelope.uuid, envelope.generation) == (None, 0)


def test_numbers_of_real_messages():
    """Which numbers are hex and which are decimal."""
    envelopes = [
        read_envelope(decode(payload, capture.ring()))
        for capture in map(read_capture, (START, PACKET_LOSS, IPFAIL))
        for _, payload in capture.datagrams
    ]
    asked = {(envelope.first, envelope.last) for envelope in envelopes if envelope.kind == "NS_rexmit"}
    assert asked >= {(15, 15), (24, 24), (26, 26)}
    assert {envelope.count for envelope in envelopes if envelope.kind == "num_ping_nodes"} == {1}
    assert {envelope.deadtime_ms for envelope in envelopes if envelope.kind == "status"} == {4000, 2000}
    assert any(envelope.stable is True and envelope.full and envelope.hold == "local" for envelope in envelopes)
