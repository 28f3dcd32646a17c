"""Reading an HTTP answer: which are healthy, and that neither cuts nor garbage nor length confuse the reader."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hafsm.checks import answer as answer_module
from hafsm.checks.answer import BODY_MAX_BYTES, Answer, Pattern
from hafsm.checks.connect import PASSED, Verdict
from hafsm.checks.http import request_bytes
from hafsm.core.settings import SECOND, CheckKind, CheckSpec

INCOMPLETE = None
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def judge(pieces: list[bytes], receive: str = "", *, closed: bool = False, method: str = "GET") -> Verdict | None:
    answer = Answer(Pattern(receive, "body") if receive else None, head_request=method == "HEAD")
    for piece in pieces:
        verdict = answer.feed(piece)
        if verdict is not None:
            return verdict
    return answer.end() if closed else None


def down(detail: str) -> Verdict:
    return Verdict(False, detail)


CUT_SHORT = down("connection closed before the answer was complete")


@pytest.mark.parametrize(
    ("answer", "receive", "verdict"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nTest Page", "Test Page", PASSED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nTest Page", "", PASSED),
        (b"HTTP/1.1 200 OK\r\ncontent-length:9\r\n\r\nTest Page and more", "more", down("body does not match /more/")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nTest Page", "^T.*e$", PASSED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nTest", "Test", INCOMPLETE),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "", PASSED),
        (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nOK", "OK", PASSED),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "", PASSED),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "x", down("body does not match /x/")),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", "a", PASSED),
        (b"HTTP/1.1 101 Switching Protocols\r\n", "", down("HTTP 101")),
        (b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.9/\r\n\r\n", "", down("HTTP 302")),
        (b"HTTP/1.1 404 Not Found\r\n", "", down("HTTP 404")),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 9\r\n\r\nTest Page", "Test Page", down("HTTP 503")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4, 4\r\n\r\nTest", "Test", PASSED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n", "", down("unusable Content-Length")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "", down("unusable Content-Length")),
        (b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", "", down("unusable Content-Length")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 99 + b"\r\n\r\n", "", down("unusable Content-Length")),
        (OK + b"transfer-encoding:Chunked\r\n\r\n4\r\nTest\r\n5;x=y\r\n Page\r\n0\r\n", "Test Page", PASSED),
        (OK + b"Transfer-Encoding: gzip, chunked\r\nContent-Length: 1\r\n\r\n2\r\nab\r\n0\r\n", "ab", PASSED),
        (CHUNKED + b"4\r\nTestX", "Test", INCOMPLETE),
        (CHUNKED + b"4\r\nTestX\r\n", "Test", down("broken chunked body")),
        (CHUNKED + b"size\r\n", "", down("broken chunked body")),
        (CHUNKED + b"-4\r\n", "", down("broken chunked body")),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "", down("not an HTTP answer: 'SSH-2.0-OpenSSH_9.2'")),
        (b"\x16\x03\x01\n", "", down("not an HTTP answer: '\\x16\\x03\\x01'")),
        (b"HTTP/1.1 2000 OK\r\n", "", down("not an HTTP answer: 'HTTP/1.1 2000 OK'")),
        (b"HTTP/1.1 099 No\r\n", "", down("not an HTTP answer: 'HTTP/1.1 099 No'")),
        (b"x" * 9000, "", down(f"not an HTTP answer: '{'x' * 40}'")),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000, "", down("headers longer than 64 KiB")),
        (b"HTTP/1.1 100 C\r\n\r\n" * 20_000, "", down("headers longer than 64 KiB")),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * BODY_MAX_BYTES + b"late", "late", down("body does not match /late/")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n" + b"x" * BODY_MAX_BYTES, "", PASSED),
        (b"", "", INCOMPLETE),
        (b"HTTP/1.1 200 OK\r\nContent-Len", "", INCOMPLETE),
    ],
)  # fmt: skip
def test_an_open_connection(answer: bytes, receive: str, verdict: Verdict | None) -> None:
    assert judge([answer], receive) == verdict


@pytest.mark.parametrize(
    ("answer", "receive", "verdict"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\nTest Page", "Test Page", PASSED),
        (b"HTTP/1.0 200 OK\r\n\r\n", "", PASSED),
        (b"HTTP/1.0 200 OK\r\n\r\nnothing", "Test", down("body does not match /Test/")),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nTest", "Test", PASSED),
        (OK + b"Content-Length: 9\r\n\r\nTest", "Test", CUT_SHORT),
        (CHUNKED + b"4\r\nTest", "Test", CUT_SHORT),
        (b"", "", down("connection closed without an answer")),
        (b"HTTP/1.1 20", "", down("not an HTTP answer: 'HTTP/1.1 20'")),
        (b"HTTP/1.1 200 O", "", down("connection closed within the headers")),
        (b"HTTP/1.1 200 OK\r\nServer: x\r\n", "", down("connection closed within the headers")),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "", down("connection closed within the headers")),
        (b"login: ", "", down("not an HTTP answer: 'login: '")),
    ],
)  # fmt: skip
def test_a_closed_connection(answer: bytes, receive: str, verdict: Verdict) -> None:
    assert judge([answer], receive, closed=True) == verdict


def test_an_answer_to_head_has_no_body() -> None:
    assert judge([b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"], method="HEAD") == PASSED


def test_an_expression_that_backtracks_for_ever_is_stopped() -> None:
    body = b"a" * 64 + b"!"
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    assert judge([answer], "(a+)+$") == down("searching the body for /(a+)+$/ takes longer than 0.1 s")
    assert judge([answer], "a+!") == PASSED


@pytest.mark.parametrize("receive", ["(", "a{1,2}{3}", "[z-a]", "(?P<1>x)", "x{99999999999999999999}"])
def test_what_does_not_compile_is_refused(receive: str) -> None:
    with pytest.raises(ValueError, match="receive does not compile"):
        Pattern(receive)


# ---- any bytes, cut anywhere


class Recorder(Pattern):
    """Remembers the body that it was asked to judge."""

    __slots__ = ("body",)

    def judge(self, body: bytes | bytearray) -> Verdict:
        self.body = bytes(body)
        return PASSED


@pytest.fixture(scope="module")
def _small_limits() -> Iterator[None]:
    """Limits that generated answers reach."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answer_module, "STATUS_LINE_MAX_BYTES", 40)
        patch.setattr(answer_module, "HEAD_MAX_BYTES", 150)
        patch.setattr(answer_module, "BODY_MAX_BYTES", 60)
        patch.setattr(answer_module, "ENCODED_MAX_BYTES", 120)
        patch.setattr(answer_module, "CHUNK_LINE_MAX_BYTES", 12)
        yield


FRAGMENTS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK", b"HTTP/1.0 200", b"HTTP/1.1 100 Continue", b"HTTP/1.1 404 No", b"HTTP/1.1 204 -",
        b"\r\n", b"\r\n", b"\r\n\r\n", b"\r\n\r\n", b"\n", b"\n\n", b"\r", b"\nTransfer-Encoding: chunked\r\n\r\n",
        b"\r\nContent-Length: 7\r\n\r\n", b"\r\ncontent-length: 70\r\n", b"\r\nContent-Length: x\r\n\r\n",
        b"0\r\n", b"3\r\nabc\r\n", b"3;e=1\nabc\n", b"f\r\n", b"\r\nServer: x", b"abcdefg", b"x" * 50, b" ",
    ]
)  # fmt: skip
ANSWERS = st.lists(st.one_of(FRAGMENTS, FRAGMENTS, st.binary(max_size=20)), max_size=14).map(b"".join)
STARTED = ANSWERS.map(lambda rest: b"HTTP/1.1 200 OK\r\n" + rest)


def cut(answer: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(answer) + 1) for place in places} | {len(answer)})
    return [answer[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


@pytest.mark.usefixtures("_small_limits")
@settings(max_examples=600, deadline=None)
@given(
    st.one_of(ANSWERS, STARTED),
    st.lists(st.integers(0, 400), max_size=12),
    st.booleans(),
    st.sampled_from(["", "abc", "b.d"]),
)
def test_cuts_change_nothing(answer: bytes, places: list[int], closed: bool, receive: str) -> None:
    whole = judge([answer], receive, closed=closed)
    assert judge(cut(answer, places), receive, closed=closed) == whole
    assert judge([bytes([byte]) for byte in answer], receive, closed=closed) == whole


@pytest.mark.usefixtures("_small_limits")
@settings(max_examples=300, deadline=None)
@given(st.one_of(ANSWERS, STARTED), st.one_of(FRAGMENTS, st.binary(min_size=1, max_size=20)))
def test_an_endless_answer_meets_a_limit(begin: bytes, again: bytes) -> None:
    answer = Answer(Pattern("b.d"))
    verdict = answer.feed(begin)
    taken = 0
    while verdict is None:
        taken += len(again)
        assert taken <= 150 + 120 + 60 + len(again), "it would read, and remember, for ever"
        verdict = answer.feed(again)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=6), st.lists(st.integers(0, 900), max_size=8))
def test_the_body_is_what_was_sent_however_it_is_framed(body: bytes, chunks: list[int], places: list[int]) -> None:
    head = b"HTTP/1.1 200 OK\r\n"
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in cut(body, chunks) if part) + b"0\r\n\r\n"
    for answer in (
        head + b"\r\n" + body,
        head + b"Content-Length: %d\r\n\r\n" % len(body) + body,
        head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked,
    ):
        recorder = Recorder("x")
        reader = Answer(recorder)
        verdicts = [reader.feed(piece) for piece in cut(answer, places)]
        assert PASSED in verdicts or reader.end() == PASSED
        assert recorder.body == body


# ---- the request


def spec(**changes: str) -> CheckSpec:
    changes = {"address": "192.0.2.31", **changes}
    return CheckSpec(kind=CheckKind.HTTP, port=8080, interval_ns=SECOND, timeout_ns=SECOND, **changes)


@pytest.mark.parametrize(
    ("changes", "begins"),
    [
        ({}, b"GET / HTTP/1.1\r\nHost: 192.0.2.31\r\n"),
        ({"request": "/a/b?c=d"}, b"GET /a/b?c=d HTTP/1.1\r\nHost: 192.0.2.31\r\n"),
        ({"request": "/to?u=ftp://x"}, b"GET /to?u=ftp://x HTTP/1.1\r\nHost: 192.0.2.31\r\n"),
        ({"request": "//a"}, b"GET /a HTTP/1.1\r\n"),
        ({"virtualhost": "www.example.com"}, b"GET / HTTP/1.1\r\nHost: www.example.com\r\n"),
        ({"method": "HEAD"}, b"HEAD / HTTP/1.1\r\n"),
        ({"request": "http://192.0.2.9:81/x?y"}, b"GET /x?y HTTP/1.1\r\nHost: 192.0.2.9\r\n"),
        ({"request": "http://192.0.2.9", "virtualhost": "v"}, b"GET / HTTP/1.1\r\nHost: v\r\n"),
        ({"address": "2001:db8::1"}, b"GET / HTTP/1.1\r\nHost: [2001:db8::1]\r\n"),
    ],
)
def test_the_request(changes: dict[str, str], begins: bytes) -> None:
    sent = request_bytes(spec(**changes))
    assert sent.startswith(begins)
    assert sent.endswith(b"\r\nConnection: close\r\n\r\n")
    assert sent.count(b"\r\n\r\n") == 1


def test_a_url_with_a_user_in_it_is_asked_with_basic_authentication() -> None:
    sent = request_bytes(spec(), b"anna:s3cret")
    assert b"\r\nAuthorization: Basic YW5uYTpzM2NyZXQ=\r\nConnection: close\r\n\r\n" in sent


@pytest.mark.parametrize(
    "changes",
    [{"virtualhost": "a\r\nX: y"}, {"request": "/a b"}, {"request": "/\n"}, {"method": "GET /"}, {"request": "/ä"}],
)
def test_nothing_slips_into_a_request(changes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="cannot stand in a request"):
        request_bytes(spec(**changes))
