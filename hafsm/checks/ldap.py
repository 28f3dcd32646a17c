"""LDAP: bind, then read one entry (RFC 4511). With a login and a password the bind is simple, else anonymous.

Up: exactly one entry, and `receive` empty or found in its name. Source: ldirectord's ldap and ldaps checks.
"""

from __future__ import annotations

from collections.abc import Generator

from hafsm.checks.answer import Pattern
from hafsm.checks.connect import PASSED, Verdict
from hafsm.checks.conversation import Script, Step

_SEQUENCE, _INTEGER, _OCTETS, _ENUMERATED, _BOOLEAN = 0x30, 0x02, 0x04, 0x0A, 0x01
_BIND, _BIND_ANSWER, _UNBIND = 0x60, 0x61, 0x42
_SEARCH, _ENTRY, _DONE, _REFERENCE = 0x63, 0x64, 0x65, 0x73
_SIMPLE, _PRESENT = 0x80, 0x87
_NO_ATTRIBUTES = b"1.1"
_ENTRIES_MAX = 2
_RESULTS = {
    1: "operationsError",
    2: "protocolError",
    7: "authMethodNotSupported",
    8: "strongerAuthRequired",
    10: "referral",
    13: "confidentialityRequired",
    32: "noSuchObject",
    34: "invalidDNSyntax",
    48: "inappropriateAuthentication",
    49: "invalidCredentials",
    50: "insufficientAccessRights",
    51: "busy",
    52: "unavailable",
    53: "unwillingToPerform",
}


class Malformed(Exception):
    """What came is not what RFC 4511 says."""


def ldap(base: bytes, login: bytes, password: bytes, pattern: Pattern | None) -> Script:
    """A login without a password (or the reverse) binds anonymously, as ldirectord does."""
    if not login or not password:
        login = password = b""
    try:
        yield _message(1, _tlv(_BIND, _number(3) + _tlv(_OCTETS, login) + _tlv(_SIMPLE, password)))
        kind, body = yield from _answer(1)
        result = _result(kind, body, _BIND_ANSWER)
        if result:
            return Verdict(False, f"bind: {_RESULTS.get(result, f'result {result}')}")
        yield _message(2, _search(base))
        names: list[bytes] = []
        while True:
            kind, body = yield from _answer(2)
            if kind == _ENTRY:
                names.append(_take(body, _OCTETS)[0])
            elif kind != _REFERENCE:
                break
        result = _result(kind, body, _DONE)
    except Malformed:
        return Verdict(False, "not an LDAP answer")
    yield _message(3, _tlv(_UNBIND, b""))
    if result:
        return Verdict(False, f"search: {_RESULTS.get(result, f'result {result}')}")
    if len(names) != 1:
        return Verdict(False, f"{len(names)} entries instead of one")
    return PASSED if pattern is None else pattern.judge(names[0])


def _search(base: bytes) -> bytes:
    """The base object alone, names only, whatever its class."""
    return _tlv(
        _SEARCH,
        _tlv(_OCTETS, base)
        + _tlv(_ENUMERATED, b"\0")
        + _tlv(_ENUMERATED, b"\0")
        + _number(_ENTRIES_MAX)
        + _number(0)
        + _tlv(_BOOLEAN, b"\xff")
        + _tlv(_PRESENT, b"objectClass")
        + _tlv(_SEQUENCE, _tlv(_OCTETS, _NO_ATTRIBUTES)),
    )


def _answer(number: int) -> Generator[Step, bytes, tuple[int, bytes]]:
    """(kind, content) of the next message with our number. Raises Malformed."""
    while True:
        tag, length = yield 2
        if tag != _SEQUENCE:
            raise Malformed
        if length & 0x80:
            if not 1 <= length & 0x7F <= 3:
                raise Malformed
            length = int.from_bytes((yield length & 0x7F), "big")
        message = yield length
        digits, rest = _take(message, _INTEGER)
        if not rest:
            raise Malformed
        if int.from_bytes(digits, "big") == number:
            return rest[0], _take(rest, rest[0])[0]


def _result(kind: int, body: bytes, expected: int) -> int:
    """The result code. Raises Malformed."""
    if kind != expected:
        raise Malformed
    return int.from_bytes(_take(body, _ENUMERATED)[0][:4], "big")


def _take(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """(content of the first element, what follows). Raises Malformed."""
    if len(data) < 2 or data[0] != tag:
        raise Malformed
    at, length = 2, data[1]
    if length & 0x80:
        at += length & 0x7F
        if not 3 <= at <= 6:
            raise Malformed
        length = int.from_bytes(data[2:at], "big")
    if len(data) < at + length:
        raise Malformed
    return data[at : at + length], data[at + length :]


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    digits = size.to_bytes(-(-size.bit_length() // 8), "big")
    return bytes((tag, 0x80 | len(digits))) + digits + content


def _number(value: int) -> bytes:
    return _tlv(_INTEGER, bytes((value,)))


def _message(number: int, operation: bytes) -> bytes:
    return _tlv(_SEQUENCE, _number(number) + operation)
