"""DNS: one query, and an answer of which a record must match `receive` (RFC 1035; over UDP or TCP).

The request names what is asked for: a name (type A), an address (PTR), or `TYPE NAME` with one of the types below.
ldirectord knows the first two, and without `receive` is always down; here any record of the type will do then.
"""

from __future__ import annotations

import ipaddress
import secrets
import struct

from hafsm.checks.answer import Pattern
from hafsm.checks.connect import PASSED, Verdict
from hafsm.checks.conversation import SOME, Script

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "PTR": 12, "AAAA": 28}
_NAMES = {2, 5, 12}
"""Types whose data is a name."""
_IN = 1
_HEADER = struct.Struct(">HHHHHH")
_RECORD = struct.Struct(">HHIH")
_RECURSION_DESIRED = 0x0100
_RESPONSE = 0x8000
_TRUNCATED = 0x0200
_RCODES = {1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
RECORDS_MAX = 256
_JUMPS_MAX = 32
_NAME_MAX_BYTES = 255


class Malformed(Exception):
    """A message that is none."""


def parse_request(request: str) -> tuple[bytes, int]:
    """(name as it stands in a query, type). Raises ValueError."""
    words = request.removeprefix("/").split()
    kind = "A"
    if len(words) == 2:
        kind = words.pop(0).upper()
    if len(words) != 1 or kind not in TYPES:
        raise ValueError(
            f"request {request!r}: expected NAME, ADDRESS or TYPE NAME with TYPE one of {', '.join(TYPES)}"
        )
    name = words[0]
    try:
        name = ipaddress.ip_address(name).reverse_pointer
        kind = "PTR"
    except ValueError:
        pass
    wire = b""
    for label in name.rstrip(".").split("."):
        try:
            part = label.encode("ascii")
        except UnicodeEncodeError:
            raise ValueError(f"request: {name!r} is not a name in ASCII") from None
        if not 0 < len(part) < 64:
            raise ValueError(f"request: {name!r} is not a domain name")
        wire += bytes((len(part),)) + part
    if len(wire) >= _NAME_MAX_BYTES:
        raise ValueError(f"request: {name!r} is too long for a domain name")
    return wire + b"\0", TYPES[kind]


def dns_datagram(name: bytes, kind: int, pattern: Pattern | None) -> Script:
    """A query by UDP; datagrams that do not answer it are passed over."""
    number = secrets.randbits(16)
    yield _query(number, name, kind)
    while True:
        message = yield SOME
        verdict = judge(message, number, name, kind, pattern)
        if verdict is not None:
            return verdict


def dns_stream(name: bytes, kind: int, pattern: Pattern | None) -> Script:
    """A query by TCP: two bytes of length before each message."""
    number = secrets.randbits(16)
    query = _query(number, name, kind)
    yield len(query).to_bytes(2, "big") + query
    length = yield 2
    message = yield int.from_bytes(length, "big")
    return judge(message, number, name, kind, pattern) or Verdict(False, "an answer to another query")


def _query(number: int, name: bytes, kind: int) -> bytes:
    return _HEADER.pack(number, _RECURSION_DESIRED, 1, 0, 0, 0) + name + struct.pack(">HH", kind, _IN)


def judge(message: bytes, number: int, name: bytes, kind: int, pattern: Pattern | None) -> Verdict | None:
    """None: this does not answer our query."""
    question = name + struct.pack(">HH", kind, _IN)
    if len(message) < _HEADER.size:
        return None
    answers_to, flags, questions, answers, _, _ = _HEADER.unpack_from(message)
    if answers_to != number or not flags & _RESPONSE:
        return None
    rcode = flags & 15
    if rcode:
        return Verdict(False, f"answered {_RCODES.get(rcode, f'rcode {rcode}')}")
    start = _HEADER.size + len(question)
    if questions != 1 or message[_HEADER.size : start].lower() != question.lower():
        return None
    try:
        found = _records(message, start, min(answers, RECORDS_MAX), kind)
    except (Malformed, struct.error, IndexError):
        return Verdict(False, "not a DNS answer")
    if found and pattern is None:
        return PASSED
    verdict = Verdict(False, "no record of this type in the answer")
    for text in found:
        assert pattern is not None
        verdict = pattern.judge(text)
        if verdict.ok:
            return verdict
    return Verdict(False, f"{verdict.detail} (truncated)") if flags & _TRUNCATED else verdict


def _records(message: bytes, at: int, count: int, kind: int) -> list[bytes]:
    """The data of all records of a type, as text. Raises Malformed, struct.error, IndexError."""
    found = []
    for _ in range(count):
        _, at = _read_name(message, at)
        record_kind, record_class, _, length = _RECORD.unpack_from(message, at)
        at += _RECORD.size
        data = message[at : at + length]
        if len(data) != length:
            raise Malformed
        if record_kind == kind and record_class == _IN:
            if kind in _NAMES:
                found.append(_read_name(message, at)[0])
            elif length == (4 if kind == TYPES["A"] else 16):
                found.append(str(ipaddress.ip_address(data)).encode())
            else:
                raise Malformed
        at += length
    return found


def _read_name(message: bytes, at: int) -> tuple[bytes, int]:
    """(the name without a final dot, where the next field begins). Pointers are followed a few times only."""
    labels: list[bytes] = []
    after = -1
    jumps = size = 0
    while True:
        length = message[at]
        if length >= 0xC0:
            pointer = (length & 0x3F) << 8 | message[at + 1]
            if after < 0:
                after = at + 2
            jumps += 1
            if jumps > _JUMPS_MAX:
                raise Malformed
            at = pointer
            continue
        if length > 63:
            raise Malformed
        at += 1
        if not length:
            return b".".join(labels), at if after < 0 else after
        label = message[at : at + length]
        size += length + 1
        if len(label) != length or size > _NAME_MAX_BYTES:
            raise Malformed
        labels.append(label)
        at += length
