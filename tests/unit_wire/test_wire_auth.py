"""Which signatures are made and which are believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hafsm.errors import InvariantError, PeerError
from hafsm.wire.auth import Key, KeyRing, crc32_cksum, digest
from hafsm.wire.framing import write_lines
from hafsm.wire.message import build, decode, encode, encode_classic

SHA1 = Key(1, "sha1", b"LabSecretKey0")
MD5 = Key(2, "md5", b"LabSecretKey0")
CRC = Key(3, "crc", b"")
OTHER_SHA1 = Key(4, "sha1", b"TheNextKey")
OTHER_MD5 = Key(5, "md5", b"AnOldKey")
ALL = (SHA1, MD5, CRC, OTHER_SHA1, OTHER_MD5)

EXAMPLE = build(
    "status",
    node="nodeb",
    uuid=b"FAKEPEERFAKEPEER",
    generation=0x6B031400,
    sequence=1,
    wall_s=0x6B031400,
    load="0.00 0.00 0.00 1/1 1",
    ttl=3,
    fields=(("st", "active"), ("dt", "7d0"), ("protocol", "1")),
)
"""A status message that a real heartbeat accepted in both forms; the digests below are from there."""


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (SHA1, b"205dee4348fdd0bbfb7260b46bfad4bd0a67b1f0"),
        (MD5, b"27d068e79e74ace251957872383e0552"),
        (CRC, b"91a2b24a"),
    ],
)
def test_digests_of_the_worked_example(key, expected):
    """Over the classic lines, with each method."""
    assert digest(key.method, key.secret, write_lines(EXAMPLE.fields)) == expected
    assert KeyRing([key], key.index).sign(write_lines(EXAMPLE.fields)) == b"%d %s" % (key.index, expected)


def test_worked_example_as_a_datagram():
    """Byte for byte what a real heartbeat accepted."""
    assert encode(EXAMPLE, KeyRing([SHA1], 1)) == (
        b"###\n11:(0)t=status,12:(0)st=active,9:(0)dt=7d0,13:(0)protocol=1,12:(0)src=nodeb,"
        b"27:(1)srcuuid=FAKEPEERFAKEPEER,8:(0)seq=1,14:(0)hg=6b031400,14:(0)ts=6b031400,"
        b"26:(0)ld=0.00 0.00 0.00 1/1 1,8:(0)ttl=3,50:(0)auth=1 205dee4348fdd0bbfb7260b46bfad4bd0a67b1f0,"
        b"%%%\n42:1 b239879e9ec0f8cc71dbe9d0547b1664e10abeae,"
    )


def test_worked_example_on_classic_lines():
    """Byte for byte what a real heartbeat accepted."""
    assert encode_classic(EXAMPLE, KeyRing([SHA1], 1)) == (
        b">>>\nt=status\nst=active\ndt=7d0\nprotocol=1\nsrc=nodeb\n(1)srcuuid=RkFLRVBFRVJGQUtFUEVFUg==\nseq=1\n"
        b"hg=6b031400\nts=6b031400\nld=0.00 0.00 0.00 1/1 1\nttl=3\n"
        b"auth=1 205dee4348fdd0bbfb7260b46bfad4bd0a67b1f0\n<<<\n\0"
    )


def test_crc_check_value():
    """The catalogue's value of CRC-32/CKSUM without length, and one with leading zeros, which are not written."""
    assert crc32_cksum(b"123456789") == 0x765E7680
    short = next(data for data in (b"%d" % n for n in range(10_000)) if crc32_cksum(data) < 0x100000)
    assert len(digest("crc", b"", short)) < 6


@given(st.binary(max_size=200))
def test_crc_agrees_with_the_definition(data):
    """Bit by bit, as the polynomial says."""
    remainder = 0
    for byte in data:
        remainder ^= byte << 24
        for _ in range(8):
            remainder = (remainder << 1) ^ (0x104C11DB7 if remainder & 0x80000000 else 0)
    assert crc32_cksum(data) == remainder ^ 0xFFFFFFFF


BELIEVED = [
    # active, signer, believed
    (SHA1, SHA1, True),
    (SHA1, MD5, True),  # same key text: heartbeat believes it too
    (SHA1, CRC, False),  # anybody could have signed
    (SHA1, OTHER_SHA1, True),  # listed and as strong: a key is being changed
    (SHA1, OTHER_MD5, False),  # listed, but weaker, with a key of its own
    (MD5, SHA1, True),
    (MD5, OTHER_SHA1, True),
    (MD5, OTHER_MD5, True),
    (MD5, CRC, False),
    (CRC, CRC, True),
    (CRC, SHA1, True),
    (CRC, OTHER_MD5, True),
]


@pytest.mark.parametrize(("active", "signer", "believed"), BELIEVED)
@pytest.mark.parametrize("write", [encode, encode_classic])
def test_what_is_believed_by_whom(active, signer, believed, write):
    """A sender that signs with one line, read by a node with another active line; all lines are listed."""
    sent = write(EXAMPLE, KeyRing(ALL, signer.index))
    ring = KeyRing(ALL, active.index)
    if believed:
        assert decode(sent, ring) == EXAMPLE
        return
    with pytest.raises(PeerError) as caught:
        decode(sent, ring)
    assert caught.value.reason == "bad_auth"


def test_the_active_secret_is_believed_under_an_index_with_another_key():
    """heartbeat's rule: the index gives the method, the receiver's active line the key."""
    data = b"data"
    ring = KeyRing([Key(1, "sha1", b"X"), Key(2, "sha1", b"K")], 2)
    assert ring.verify(data, b"1 " + digest("sha1", b"K", data))
    assert ring.verify(data, b"1 " + digest("sha1", b"X", data))
    assert not ring.verify(data, b"1 " + digest("sha1", b"", data))


def test_an_empty_key_is_never_believed():
    """With crc active there is no secret to borrow for another line."""
    ring = KeyRing([CRC, SHA1], CRC.index)
    assert not ring.verify(b"data", b"1 " + digest("sha1", b"", b"data"))


def test_only_the_one_spelling_of_a_signature_is_believed():
    """No upper case, no leading zeros, no blanks, no cut or lengthened digest, no index that is not listed."""
    ring = KeyRing([SHA1, Key(15, "sha1", b"LabSecretKey0")], 1)
    good = digest("sha1", b"LabSecretKey0", b"data")
    assert ring.verify(b"data", b"1 " + good)
    assert ring.verify(b"data", b"15 " + good)
    for token in (
        *(b"", b" ", b"1", b"1 ", good, b"1" + good, b"1  " + good, b" 1 " + good, b"1 " + good + b"\n"),
        *(b"01 " + good, b"2 " + good, b"16 " + good, b"-1 " + good, b"115 " + good, b"1\t" + good),
        *(b"1 " + good.upper(), b"1 " + good[:-1], b"1 " + good[:20], b"1 " + good + b"0", b"\xb2 " + good),
    ):
        assert not ring.verify(b"data", token), token


def test_secrets_are_not_shown():
    """Not in repr, not in str, not in what a refusal says."""
    ring = KeyRing(ALL, 1)
    for key in ALL:
        shown = f"{key!r} {key} {ring!r} {ring}"
        assert not key.secret or key.secret.decode() not in shown
        with pytest.raises(PeerError) as caught:
            decode(encode(EXAMPLE, KeyRing([key], key.index)), KeyRing([Key(9, "sha1", b"Unrelated")], 9))
        assert "Unrelated" not in str(caught.value)
    assert repr(SHA1) == "Key(index=1, method='sha1')"


@pytest.mark.parametrize(
    ("index", "method", "secret"),
    [(-1, "sha1", b"k"), (16, "sha1", b"k"), (1, "sha1", b""), (1, "md5", b""), (1, "crc", b"k"), (1, "md4", b"k")],
)
def test_keys_that_authkeys_cannot_hold(index, method, secret):
    """The reader of authkeys lets none of these through, so one that arrives here is a bug."""
    with pytest.raises(InvariantError):
        Key(index, method, secret)


def test_the_active_key_must_be_there():
    """As in authkeys."""
    with pytest.raises(InvariantError):
        KeyRing([SHA1], 2)


def test_sha256_is_ours_alone_and_believes_nothing_weaker() -> None:
    """Known answer: RFC 4231, test case 2."""
    assert digest("sha256", b"Jefe", b"what do ya want for nothing?") == (
        b"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )
    ring = KeyRing([Key(1, "sha256", b"K"), Key(2, "sha1", b"K"), Key(3, "sha256", b"next")], 1)
    assert ring.verify(b"data", ring.sign(b"data"))
    assert ring.verify(b"data", b"3 " + digest("sha256", b"next", b"data"))
    assert not ring.verify(b"data", b"2 " + digest("sha1", b"K", b"data"))
