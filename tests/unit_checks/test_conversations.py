"""What each hand-written protocol check makes of answers, good and bad; no bytes and no cutting of them make it crash,
hang or grow."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hafsm.checks import dns, kinds, mail, radius, simple
from hafsm.checks.answer import Pattern
from hafsm.checks.connect import PASSED, Verdict
from hafsm.checks.conversation import (
    ANSWERS_MAX_BYTES,
    DATA_MAX_BYTES,
    LINE,
    LINE_MAX_BYTES,
    SOME,
    Conversation,
    Script,
)
from hafsm.checks.ftp import ftp
from hafsm.checks.ldap import ldap
from hafsm.checks.ping import PingCheck
from hafsm.core.settings import CheckKind
from tests.unit_checks.servers import spec

LOCAL = "192.0.2.1:40000"
NAME = b"\x03www\x07example\x03com\x00"
LDAP_BOUND = bytes.fromhex("300c02010161070a010004000400")
LDAP_ENTRY = b"\x30\x0c\x02\x01\x02\x64\x07\x04\x03a=b\x30\x00"
LDAP_DONE = bytes.fromhex("300c02010265070a010004000400")


def down(detail: str) -> Verdict:
    return Verdict(False, detail)


def talk(script: Script, *pieces: bytes, closed: bool = False) -> tuple[Verdict | None, bytes]:
    """(verdict, what the script said) when the server says `pieces`."""
    conversation = Conversation(script)
    verdict = conversation.begin()
    for piece in pieces:
        if verdict is None:
            verdict = conversation.feed(piece)
    if verdict is None and closed:
        verdict = conversation.end()
    return verdict, bytes(conversation.unsent)


@pytest.mark.parametrize(
    ("script", "said", "verdict", "sent"),
    [
        (mail.smtp, b"220 hi\r\n250-a\r\n250 b\r\n", PASSED, b"EHLO localhost.localdomain\r\nQUIT\r\n"),
        (
            mail.smtp,
            b"220-hi\n220 ho\n502 what\n250 ok\n",
            PASSED,
            b"EHLO localhost.localdomain\r\nHELO localhost.localdomain\r\nQUIT\r\n",
        ),
        (mail.smtp, b"554 go away\r\n", down("greeting: '554 go away'"), b""),
        (mail.smtp, b"220 hi\r\n421 busy\r\n", down("EHLO: '421 busy'"), b"EHLO localhost.localdomain\r\n"),
        (mail.smtp, b"SSH-2.0-x\r\n", down("greeting: 'SSH-2.0-x'"), b""),
        (mail.smtp, b"2200 hi\r\n", down("greeting: '2200 hi'"), b""),
        (mail.smtp, b"220-a\n221 b\n", None, b""),
        (mail.nntp, b"200 hi\r\n", PASSED, b"QUIT\r\n"),
        (mail.nntp, b"400 no\r\n", down("greeting: '400 no'"), b""),
        (lambda: mail.pop(b"", b""), b"+OK\r\n", PASSED, b"QUIT\r\n"),
        (lambda: mail.pop(b"", b""), b"-ERR no\r\n", down("greeting: '-ERR no'"), b""),
        (lambda: mail.pop(b"u", b"p"), b"+OK\n+OK\n+OK\n", PASSED, b"USER u\r\nPASS p\r\nQUIT\r\n"),
        (lambda: mail.pop(b"u", b"p"), b"+OK\n+OK\n-ERR p is wrong\n", down("login refused"), b"USER u\r\nPASS p\r\n"),
        (lambda: mail.imap(b"", b""), b"* OK hi\r\n", PASSED, b"a2 LOGOUT\r\n"),
        (lambda: mail.imap(b"", b""), b"* BYE hi\r\n", down("greeting: '* BYE hi'"), b""),
        (
            lambda: mail.imap(b'u"', b"p\\"),
            b"* OK\r\n* CAPABILITY {4}\r\na1 \n x\r\na1 OK in\r\n",
            PASSED,
            b'a1 LOGIN "u\\"" "p\\\\"\r\na2 LOGOUT\r\n',
        ),
        (lambda: mail.imap(b"u", b"p"), b"* OK\na1 NO p\n", down("login refused"), b'a1 LOGIN "u" "p"\r\n'),
        (lambda: mail.imap(b"u", b"p"), b"* OK\nwhat\n", down("not an answer to LOGIN"), b'a1 LOGIN "u" "p"\r\n'),
        (lambda: ldap(b"", b"", b"", None), LDAP_BOUND + LDAP_ENTRY + LDAP_DONE, PASSED, None),
        (lambda: ldap(b"", b"", b"", Pattern("a=b")), LDAP_BOUND + LDAP_ENTRY + LDAP_DONE, PASSED, None),
        (lambda: ldap(b"", b"", b"", None), LDAP_BOUND + LDAP_DONE, down("0 entries instead of one"), None),
        (lambda: ldap(b"", b"", b"", None), b"HTTP/1.1", down("not an LDAP answer"), None),
        (lambda: ldap(b"", b"", b"", None), b"\x30\x84\xff\xff", down("not an LDAP answer"), None),
        (lambda: simple.simple_stream(b"q", None), b"x", PASSED, b"q"),
        (lambda: simple.simple_stream(b"q", Pattern("^b$")), b"a\nb\n", PASSED, b"q"),
        (lambda: simple.simple_stream(b"q", Pattern("b")), b"a\nb", None, b"q"),
        (lambda: simple.sip_stream("u@h", LOCAL), b"SIP/2.0 100 T\r\n\r\nSIP/2.0 200 OK\r\nl: 0\r\n\r\n", PASSED, None),
        (
            lambda: simple.sip_stream("u@h", LOCAL),
            b"SIP/2.0 180 R\nContent-Length: 3\n\nabcSIP/2.0 404 No\n\n",
            down("answered 'SIP/2.0 404 No'"),
            None,
        ),
        (lambda: simple.sip_stream("u@h", LOCAL), b"HTTP/1.1 200\n", down("not a SIP answer: 'HTTP/1.1 200'"), None),
        (
            lambda: ftp(b"u", b"p", b"", None, ipv6=False),
            b"220 hi\n331 pw\n230 in\n",
            PASSED,
            b"USER u\r\nPASS p\r\nQUIT\r\n",
        ),
        (
            lambda: ftp(b"u", b"p", b"/f", None, ipv6=False),
            b"220 hi\n230 in\n200\n227 (1,2,3,4,0,0)\n",
            down("no passive data connection: 227"),
            None,
        ),
        (
            lambda: ftp(b"u", b"p", b"/f", None, ipv6=True),
            b"220 hi\n230 in\n200\n229 Ok (|||99999|)\n",
            down("no passive data connection: 229"),
            None,
        ),
        (
            lambda: dns.dns_stream(NAME, 1, None),
            b"\x00\x01x",
            down("an answer to another query"),
            None,
        ),
    ],
)  # fmt: skip
def test_an_answer(script: Callable[[], Script], said: bytes, verdict: Verdict | None, sent: bytes | None) -> None:
    """However it is cut into pieces."""
    for pieces in ([said], [said[at : at + 1] for at in range(len(said))]):
        got, spoke = talk(script(), *pieces)
        assert got == verdict
        if sent is not None:
            assert spoke == sent


def test_the_end_of_the_stream() -> None:
    assert talk(mail.smtp(), closed=True)[0] == down("connection closed without an answer")
    assert talk(mail.smtp(), b"220 hi", closed=True)[0] == down("connection closed before the answer was complete")
    assert talk(simple.simple_stream(b"", Pattern("b$")), b"a\nb", closed=True)[0] == PASSED
    assert talk(simple.simple_stream(b"", Pattern("c")), b"a\nb", closed=True)[0] == down("answer does not match /c/")
    assert talk(simple.simple_stream(b"", None), closed=True)[0] == down("connection closed without an answer")


def test_what_a_server_may_say_is_bounded() -> None:
    assert talk(mail.smtp(), b"x" * (LINE_MAX_BYTES + 1))[0] == down("a line longer than 8 KiB")
    assert talk(mail.smtp(), b"220-a\n" * ANSWERS_MAX_BYTES)[0] == down("answers longer than 64 KiB")
    lines = simple.LINES_MAX * b"a\n"
    assert talk(simple.simple_stream(b"", Pattern("b+")), lines)[0] == down(
        "answer does not match /b+/ within 1000 lines"
    )
    to_data = b"220\n230\n200\n227 (1,2,3,4,1,0)\n150 go\n"
    fetching = Conversation(ftp(b"u", b"p", b"/f", Pattern("x"), ipv6=False))
    fetching.begin()
    assert fetching.feed(to_data) is None
    assert fetching.data_port == 256
    assert fetching.on_data
    assert fetching.feed(b"y" * DATA_MAX_BYTES + b"x") == down("answer does not match /x/")


def test_a_secret_reaches_no_verdict() -> None:
    for script, said in (
        (mail.pop(b"u", b"hidden"), b"+OK\n+OK\nhidden\n"),
        (mail.imap(b"u", b"hidden"), b"* OK\na1 BAD hidden\n"),
        (ftp(b"u", b"hidden", b"", None, ipv6=False), b"220\n331\n530 hidden\n"),
    ):
        verdict, _ = talk(script, said)
        assert verdict is not None
        assert not verdict.ok
        assert "hidden" not in verdict.detail


def dns_answer(query: bytes, records: bytes, count: int, flags: int = 0x8180) -> bytes:
    return query[:2] + struct.pack(">HHHHH", flags, 1, count, 0, 0) + query[12:] + records


A_RECORD = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + b"\xc0\x00\x02\x07"


@pytest.mark.parametrize(
    ("records", "count", "flags", "verdict"),
    [
        (A_RECORD, 1, 0x8180, PASSED),
        (A_RECORD, 1, 0x8183, down("answered NXDOMAIN")),
        (A_RECORD, 1, 0x0100, None),
        (A_RECORD, 2, 0x8180, down("not a DNS answer")),
        (b"", 0, 0x8180, down("no record of this type in the answer")),
        (b"", 0, 0x8380, down("no record of this type in the answer (truncated)")),
        (b"\xc0\x21" + A_RECORD[2:], 1, 0x8180, down("not a DNS answer")),
        (b"\xc0\xff" + A_RECORD[2:], 1, 0x8180, down("not a DNS answer")),
        (A_RECORD[:-1], 1, 0x8180, down("not a DNS answer")),
    ],
)
def test_a_dns_answer(records: bytes, count: int, flags: int, verdict: Verdict | None) -> None:
    conversation = Conversation(dns.dns_datagram(NAME, 1, Pattern("^192\\.0\\.2\\.7$")))
    conversation.begin()
    query = bytes(conversation.unsent)
    assert conversation.feed(b"\0" + query[1:]) is None, "an answer to another query is passed over"
    assert conversation.feed(dns_answer(query, records, count, flags)) == verdict


def test_dns_requests() -> None:
    assert dns.parse_request("/www.example.com.") == (NAME, 1)
    assert dns.parse_request("/192.0.2.7") == (b"\x017\x012\x010\x03192\x07in-addr\x04arpa\x00", 12)
    for request in ("/", "/a..b", "/" + "x" * 64, "/" + "a." * 130, "/ä.example", "/MX a", "/A b c"):
        with pytest.raises(ValueError, match="request"):
            dns.parse_request(request)


def test_a_radius_answer_must_be_signed() -> None:
    def run(code: int, secret: bytes) -> Verdict | None:
        conversation = Conversation(radius.radius(b"u", b"p" * 20, b"shared", LOCAL))
        conversation.begin()
        asked = bytes(conversation.unsent)
        head = struct.pack(">BBH", code, asked[1], 20)
        stray = struct.pack(">BBH", code, asked[1] ^ 1, 20) + bytes(16)
        assert conversation.feed(stray) is None
        return conversation.feed(head + hashlib.md5(head + asked[4:20] + secret).digest() + b"padding")

    assert run(2, b"shared") == PASSED
    assert run(3, b"shared") == down("rejected")
    assert run(11, b"shared") == down("challenged")
    assert run(2, b"other") == down("the answer is not signed with the secret")


SCRIPTS: dict[str, Callable[[], Script]] = {
    "smtp": mail.smtp,
    "pop": lambda: mail.pop(b"u", b"p"),
    "imap": lambda: mail.imap(b"u", b"p"),
    "nntp": mail.nntp,
    "ftp": lambda: ftp(b"u", b"p", b"/f", Pattern("a|b"), ipv6=False),
    "ftp over IPv6": lambda: ftp(b"u", b"p", b"/f", None, ipv6=True),
    "ldap": lambda: ldap(b"dc=a", b"u", b"p", Pattern("a")),
    "dns by UDP": lambda: dns.dns_datagram(NAME, 1, Pattern("a")),
    "dns by TCP": lambda: dns.dns_stream(NAME, 12, Pattern("a")),
    "radius": lambda: radius.radius(b"u", b"p", b"s", LOCAL),
    "sip by UDP": lambda: simple.sip_datagram("u@h", LOCAL),
    "sip by TCP": lambda: simple.sip_stream("u@h", LOCAL),
    "simpletcp by UDP": lambda: simple.simple_datagram(b"q", Pattern("a+b")),
    "simpletcp by TCP": lambda: simple.simple_stream(b"q", Pattern("a+b")),
}
WORDS = st.sampled_from(
    [
        b"220 ok\r\n",
        b"250-a\r\n",
        b"250 b\n",
        b"331 \n",
        b"230 \n",
        b"200 \n",
        b"227 (1,2,3,4,5,6)\n",
        b"150 \n",
        b"229 (|||5|)\n",
        b"+OK\r\n",
        b"-ERR\n",
        b"* OK\n",
        b"a1 OK\n",
        b"a1 NO\n",
        b"* x {3}\n",
        b"* x {9999999}\n",
        LDAP_BOUND,
        LDAP_ENTRY,
        LDAP_DONE,
        b"SIP/2.0 100 T\n",
        b"SIP/2.0 200 OK\n",
        b"\n",
        b"l: 99\n",
        A_RECORD,
        b"\x00\x0c",
        b"0\x83\xff\xff\xff",
        b"x" * 9000,
        b"aab\n",
    ]
)
SAID = st.lists(WORDS | st.binary(max_size=200), max_size=30)


@pytest.mark.parametrize("name", SCRIPTS)
@settings(max_examples=80, deadline=None)
@given(said=SAID, closed=st.booleans())
def test_any_bytes_in_any_pieces(name: str, said: list[bytes], closed: bool) -> None:
    """No exception, a verdict when the stream ends, and no more memory than the limits allow."""
    conversation = Conversation(SCRIPTS[name]())
    verdict = conversation.begin()
    for piece in said:
        if verdict is not None:
            break
        if piece:
            verdict = conversation.feed(piece)
        assert len(conversation._buffer) <= ANSWERS_MAX_BYTES
        assert len(conversation.unsent) <= 4096
    if verdict is None and closed:
        verdict = conversation.end()
        assert verdict is not None
    if verdict is not None:
        assert verdict.ok == (not verdict.detail)
        assert verdict.detail.isascii()
        assert len(verdict.detail) < 300


@settings(max_examples=200, deadline=None)
@given(said=st.binary(max_size=600), number=st.integers(0, 65535))
def test_any_bytes_as_a_dns_answer(said: bytes, number: int) -> None:
    """With a header that fits, so that the records are reached."""
    head = struct.pack(">HHHHHH", number, 0x8180, 1, 0xFFFF, 0, 0) + NAME + b"\x00\x0c\x00\x01"
    verdict = dns.judge(head + said, number, NAME, 12, Pattern("a"))
    assert verdict is not None


@given(packet=st.binary(max_size=200))
def test_any_packet_as_an_echo(packet: bytes) -> None:
    for address in ("192.0.2.1", "2001:db8::1"):
        check = PingCheck(spec((address, 0), CheckKind.PING))
        check._nonce = b"0123456789abcdef"
        assert check.is_answer(packet) is False


def test_an_echo_is_recognised() -> None:
    check = PingCheck(spec(("192.0.2.1", 0), CheckKind.PING))
    check._nonce = b"0123456789abcdef"
    echo = b"\0\0\0\0\0\0\0\0" + check._nonce
    assert check.is_answer(b"\x46" + bytes(23) + echo)
    assert check.is_answer(echo)
    assert not check.is_answer(b"\x08" + echo[1:])


def test_a_script_gets_exactly_what_it_waits_for() -> None:
    heard: list[bytes] = []

    def script() -> Script:
        heard.append((yield 3))
        heard.append((yield LINE))
        heard.append((yield SOME))
        heard.append((yield 0))
        return PASSED

    assert talk(script(), b"ab", b"cde\r", b"\nf", b"g")[0] == PASSED
    assert heard == [b"abc", b"de", b"f", b""]


def test_every_kind_has_its_check() -> None:
    decided = {CheckKind.ALWAYS_UP, CheckKind.ALWAYS_DOWN}
    assert set(kinds._MAKERS) == set(CheckKind) - decided
