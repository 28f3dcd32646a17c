"""The two ways heartbeat 3 writes a message: netstring (UDP) and classic lines (serial lines, FIFO).

    netstring                               classic
    ###\\n                                   >>>\\n
    <len>:(<type>)<name>=<value>,           <name>=<value>\\n            type 0
    …                                       (<type>)<name>=<value>\\n    other types
    %%%\\n                                   auth=<index> <hex>\\n
    <len>:<index> <hex>,                    <<<\\n and an optional NUL

`open_…` finds what was signed and the signature, without looking at the fields; `read_…` takes authentic bytes apart.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable
from typing import Literal

import msgspec

from hafsm.errors import PeerError

MAX_DATAGRAM = 65536
"""Bytes; UDP cannot carry more, heartbeat itself allows 256 KiB inside the process."""
MAX_FIELDS = 1024
"""Real messages have at most some twenty."""

STRING = 0
BINARY = 1
LIST = 3
"""Carried as opaque text: nothing between two directors needs one."""

NETSTRING_START = b"###\n"
CLASSIC_START = b">>>\n"
CLASSIC_END = b"<<<\n"
_NETSTRING_END = b"%%%\n"
_TRAILER = re.compile(rb"([1-9][0-9]?):([0-9]{1,2} [0-9a-f]{1,40}),")
_COMMA = ord(",")
_NAME = rb"([ -')-<>-~][ -<>-~]*)"
"""Printable ASCII without `=`, not beginning with `(`."""
_HEAD = re.compile(rb"([1-9][0-9]{0,4}):(?:\(([0-9])\)" + _NAME + rb"=)?")
"""What stands before a netstring's value; only the length when the rest cannot be read."""
_LINE = re.compile(rb"(?:\(([0-9])\))?" + _NAME + rb"=(.*)", re.DOTALL)
_NEWLINE_IN_CLASSIC = b"\x13"
"""Stands for a newline inside a value on a classic line."""

Reason = Literal[
    "too_big",
    "not_framed",
    "truncated",
    "no_auth",
    "bad_auth",
    "bad_length",
    "bad_field",
    "unsupported_type",
    "too_many_fields",
    "missing_field",
    "bad_number",
]
"""Why input was refused; every `PeerError` of this package carries one of these."""


def refuse(reason: Reason, detail: str = "") -> PeerError:
    """The error to raise (or, from a stream, to hand over)."""
    return PeerError(reason, detail)


class Field(msgspec.Struct, frozen=True, gc=False):
    """One field of a message."""

    name: str
    """Printable ASCII without `=`, not beginning with `(`."""
    kind: int
    """STRING, BINARY or LIST."""
    value: bytes
    """As meant, not as written: binary is not base64 here and a newline is a newline."""


def write_netstring(fields: Iterable[Field]) -> bytes:
    """From `###` through the newline after `%%%`: what the trailer signs."""
    parts = [NETSTRING_START]
    for field in fields:
        content = b"(%d)%s=%s" % (field.kind, field.name.encode(), field.value)
        parts.append(b"%d:%s," % (len(content), content))
    parts.append(_NETSTRING_END)
    return b"".join(parts)


def write_trailer(token: bytes) -> bytes:
    """What follows `%%%`: the signature as a netstring."""
    return b"%d:%s," % (len(token), token)


def write_lines(fields: Iterable[Field]) -> bytes:
    """Classic lines of the fields, each ending in a newline: what the field `auth` signs, in both framings."""
    lines = []
    for field in fields:
        name = field.name.encode()
        if field.kind == BINARY:
            lines.append(b"(1)%s=%s\n" % (name, binascii.b2a_base64(field.value, newline=False)))
            continue
        value = field.value.replace(b"\n", _NEWLINE_IN_CLASSIC)
        lines.append(b"%s=%s\n" % (name, value) if field.kind == STRING else b"(3)%s=%s\n" % (name, value))
    return b"".join(lines)


def write_classic(lines: bytes, token: bytes) -> bytes:
    """A whole classic message around signed lines."""
    return b">>>\n%sauth=%s\n<<<\n\0" % (lines, token)


def open_netstring(datagram: bytes) -> tuple[bytes, bytes]:
    """(signed bytes, signature) of a datagram that begins with `###`.

    The signature holds no `%`, so the last `%%%` is the end of the fields whatever a binary value contains.

    Raises:
        PeerError: truncated, no_auth, bad_length.
    """
    at = datagram.rfind(_NETSTRING_END)
    if at < 0:
        raise refuse("truncated", "no end of message")
    end = at + len(_NETSTRING_END)
    trailer = _TRAILER.fullmatch(datagram, end)
    if trailer is None:
        raise refuse("no_auth", "no signature behind the message")
    token = trailer[2]
    if int(trailer[1]) != len(token):
        raise refuse("bad_length", "signature")
    return datagram[:end], token


def open_classic(frame: bytes) -> tuple[bytes, bytes]:
    """(signed lines, signature) of a message that begins with `>>>`; blank lines do not count.

    heartbeat signs the fields after parsing and writing them again, which gives the same bytes for whatever it sends.

    Raises:
        PeerError: truncated, too_many_fields, no_auth.
    """
    if frame.count(b"\n") > MAX_FIELDS + 3:
        raise refuse("too_many_fields", f"more than {MAX_FIELDS} lines")
    body = frame.removesuffix(b"\0")
    if not body.endswith(b"\n" + CLASSIC_END):
        raise refuse("truncated", "no end of message")
    lines = [line for line in body[len(CLASSIC_START) : -len(CLASSIC_END)].split(b"\n") if line]
    auth = next((line for line in lines if line.startswith(b"auth=")), None)
    if auth is None:
        raise refuse("no_auth", "no field auth")
    lines.remove(auth)
    return b"".join([line + b"\n" for line in lines]), auth[len(b"auth=") :]


def read_netstring(signed: bytes) -> tuple[Field, ...]:
    """The fields of what `open_netstring` gave, without `auth` (the trailer covers more).

    Raises:
        PeerError: bad_length, bad_field, unsupported_type, too_many_fields.
    """
    fields: list[Field] = []
    at = len(NETSTRING_START)
    end = len(signed) - len(_NETSTRING_END)
    while at < end:
        head = _HEAD.match(signed, at)
        if head is None:
            raise refuse("bad_length", f"no length at byte {at}")
        digits, kind, name = head.groups()
        stop = at + len(digits) + 1 + int(digits)
        if stop >= end or signed[stop] != _COMMA:
            raise refuse("bad_length", f"field at byte {at}")
        value = head.end()
        if name is None or value > stop:
            raise refuse("bad_field", f"no type and name at byte {at}")
        _add(fields, kind, name, signed[value:stop])
        at = stop + 1
    return tuple(fields)


def read_classic(signed: bytes) -> tuple[Field, ...]:
    """The fields of what `open_classic` gave.

    Raises:
        PeerError: bad_field, unsupported_type, too_many_fields.
    """
    fields: list[Field] = []
    for line in signed.split(b"\n")[:-1]:
        parts = _LINE.fullmatch(line)
        if parts is None:
            raise refuse("bad_field", "no type and name")
        kind, name, value = parts.groups(b"0")
        if kind == b"1":
            try:
                value = binascii.a2b_base64(value, strict_mode=True)
            except binascii.Error as error:
                raise refuse("bad_field", "not base64") from error
        else:
            value = value.replace(_NEWLINE_IN_CLASSIC, b"\n")
        _add(fields, kind, name, value)
    return tuple(fields)


_KINDS = {b"0": STRING, b"1": BINARY, b"3": LIST}
_UNSUPPORTED = {b"2": "nested message", b"4": "compressed message", b"5": "message to be compressed"}


def _add(fields: list[Field], digit: bytes, name: bytes, value: bytes) -> None:
    """Append a field; `auth` is a signature, not content."""
    kind = _KINDS.get(digit)
    if kind is None:
        if digit in _UNSUPPORTED:
            raise refuse("unsupported_type", _UNSUPPORTED[digit])
        raise refuse("bad_field", "unknown type")
    if name == b"auth":
        return
    if len(fields) == MAX_FIELDS:
        raise refuse("too_many_fields", f"more than {MAX_FIELDS}")
    fields.append(Field(name.decode(), kind, value))
