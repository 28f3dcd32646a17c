"""The TLS layer takes any bytes; a secret shows in no text."""

from __future__ import annotations

import contextlib
import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hafsm.checks.jobs import Helpers, Job
from hafsm.checks.kinds import make
from hafsm.checks.messages import Plan
from hafsm.checks.tls import TlsLayer, context, explain_tls, server_name
from hafsm.core.settings import CheckKind, Tls
from tests.unit_checks.servers import spec

RECORDS = st.sampled_from(
    [
        b"\x16\x03\x03\x00\x04\x0e\x00\x00\x00",
        b"\x16\x03\x03\x00\x2a\x02\x00\x00\x26\x03\x03" + bytes(36),
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"\x14\x03\x03\x00\x01\x01",
        b"\x17\x03\x03\x00\x00",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ]
)


@settings(max_examples=100, deadline=None)
@given(said=st.lists(RECORDS | st.binary(min_size=1, max_size=100), max_size=8), closed=st.booleans())
def test_any_bytes_instead_of_a_handshake(said: list[bytes], closed: bool) -> None:
    """Nothing but ssl.SSLError, which is put into words; nothing is believed."""
    layer = TlsLayer(context(""), "www.example.com")
    layer.begin()
    assert layer.take().startswith(b"\x16\x03")
    layer.send(b"GET")
    try:
        for raw in (*said, b"") if closed else said:
            assert layer.receive(raw) == b""
    except ssl.SSLError as error:
        verdict = explain_tls(error)
        assert not verdict.ok
        assert verdict.detail.startswith(("TLS: ", "connection closed within the TLS handshake"))
    assert not layer.established


def test_server_names() -> None:
    def name(**changes: object) -> str | None:
        return server_name(spec(("192.0.2.1", 443), CheckKind.HTTPS, **changes))

    assert name() is None
    assert name(virtualhost="www.example.com:8443") == "www.example.com"
    assert name(tls=Tls(name="a.example.com"), virtualhost="b.example.com") == "a.example.com"
    assert name(tls=Tls(authority="system")) == "192.0.2.1"
    with pytest.raises(ValueError, match="cannot be the name of a TLS server"):
        name(virtualhost="ä.example.com")
    lost = make(
        spec(("192.0.2.1", 443), CheckKind.HTTPS, tls=Tls(authority="/no/such.pem")), {}, lambda: pytest.fail("no")
    )
    assert lost.begin() == (False, "authority /no/such.pem cannot be used: No such file or directory")


def test_no_text_shows_a_secret() -> None:
    secret = b"hidden"
    check = spec(("192.0.2.1", 3306), CheckKind.MYSQL, login="u", password="name", request="/SELECT 1")
    plan, job = Plan(1, ((0, check),), {"name": secret}), Job(check, password=secret)
    for value in (plan, job):
        for text in (repr(value), str(value), f"{value}"):
            assert "hidden" not in text
    for kind in CheckKind:
        with contextlib.suppress(KeyError):
            made = make(
                spec(("192.0.2.1", 25), kind, login="u", password="name", secret="name", request="/\0hidden"),
                {"name": b"hid\nden"},
                lambda: Helpers(""),
            )
            assert "hid\nden" not in repr(made)
            if type(made).__name__ == "UnusableCheck":
                verdict = made.begin()
                assert verdict is not None
                assert "hid\nden" not in verdict.detail
