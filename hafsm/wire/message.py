"""A heartbeat message as a value: build it, sign and write it, read it back, and pick out what the daemon needs.

Sources: heartbeat 3 wire format. Numbers are hex, except `firstseq` and `lastseq` of a retransmission request and
`num_ping`, which are decimal. Kinds beginning with `NS_` stand outside the sequence: no `seq`, no `ld`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import msgspec

from hafsm.core.events import Event, HeartbeatReceived, MessageReceived
from hafsm.core.settings import MILLISECOND, NodeName
from hafsm.errors import InvariantError
from hafsm.wire.auth import KeyRing
from hafsm.wire.framing import (
    BINARY,
    CLASSIC_START,
    MAX_DATAGRAM,
    NETSTRING_START,
    STRING,
    Field,
    open_classic,
    open_netstring,
    read_classic,
    read_netstring,
    refuse,
    write_classic,
    write_lines,
    write_netstring,
    write_trailer,
)

UUID_SIZE = 16
DEADTIME_LIMIT_MS = 2**31 - 1
"""Three weeks; more is nonsense, and nanoseconds of it must fit into 64 bits."""

_HEX = re.compile(rb"[0-9a-fA-F]{1,15}")
"""15 digits: every number fits into SQLite's and JSON readers' 64 bits with a sign."""
_DECIMAL = re.compile(rb"[0-9]{1,18}")
_KIND_BYTES = 31
_STATUS_BYTES = 31
_NAME_BYTES = 99
"""heartbeat's limits for `t`, `st` and node names."""
_TEXT_BYTES = 255


class Message(msgspec.Struct, frozen=True, gc=False):
    """Fields in the order of the wire, without the signature."""

    fields: tuple[Field, ...]

    def get(self, name: str) -> str | None:
        """Value of the first string field of this name; bytes that are not UTF-8 become `\\xNN`."""
        value = self._first(name, STRING)
        return None if value is None else _text(value)

    def get_bytes(self, name: str) -> bytes | None:
        """Value of the first binary field of this name."""
        return self._first(name, BINARY)

    def _first(self, name: str, kind: int) -> bytes | None:
        return next((field.value for field in self.fields if field.name == name and field.kind == kind), None)


def build(
    kind: str,
    *,
    node: str,
    uuid: bytes | None,
    generation: int,
    sequence: int,
    wall_s: int,
    load: str,
    ttl: int,
    fields: Iterable[tuple[str, str]] = (),
    dest: str = "",
    dest_uuid: bytes | None = None,
) -> Message:
    """A message with heartbeat's common tail, in heartbeat's order.

    Args:
        kind: heartbeat's `t`.
        node: the sender in lower case (a ping node's name in what is sent to be echoed).
        uuid: 16 bytes; None leaves `srcuuid` out.
        generation: `hg`; 0 leaves it out, which means the same.
        sequence: 0 for kinds beginning with `NS_`, otherwise at least 1.
        wall_s: Unix time in seconds.
        load: text of the kernel's loadavg line; not sent with `NS_`.
        ttl: 0 leaves it out.
        fields: own fields, between `t` (and `dest`) and the tail.
        dest: empty: everybody.
        dest_uuid: the receiver's; None: the name decides.

    Raises:
        InvariantError: a sequence number where there must be none, or none where there must be one.
    """
    if (sequence > 0) == kind.startswith("NS_"):
        raise InvariantError(f"{kind} with sequence number {sequence}")
    parts = [_string("t", kind)]
    if dest:
        parts.append(_string("dest", dest))
    parts += [_string(name, value) for name, value in fields]
    if dest_uuid is not None:
        parts.append(Field("destuuid", BINARY, dest_uuid))
    parts.append(_string("src", node))
    if uuid is not None:
        parts.append(Field("srcuuid", BINARY, uuid))
    if sequence:
        parts.append(_string("seq", f"{sequence:x}"))
    if generation:
        parts.append(_string("hg", f"{generation:x}"))
    parts.append(_string("ts", f"{wall_s:x}"))
    if sequence:
        parts.append(_string("ld", load))
    if ttl:
        parts.append(_string("ttl", str(ttl)))
    return Message(tuple(parts))


def _string(name: str, value: str) -> Field:
    return Field(name, STRING, value.encode())


def encode(message: Message, ring: KeyRing) -> bytes:
    """The datagram for UDP: netstring form, with the classic signature inside as heartbeat's own have it."""
    token = ring.sign(write_lines(message.fields))
    signed = write_netstring((*message.fields, Field("auth", STRING, token)))
    return signed + write_trailer(ring.sign(signed))


def encode_classic(message: Message, ring: KeyRing) -> bytes:
    """The bytes for a serial line: classic form, with its closing NUL."""
    lines = write_lines(message.fields)
    return write_classic(lines, ring.sign(lines))


def decode(datagram: bytes, ring: KeyRing) -> Message:
    """An authentic message in either form.

    Raises:
        PeerError: with any reason of `framing.Reason` but missing_field and bad_number.
    """
    if len(datagram) > MAX_DATAGRAM:
        raise refuse("too_big", f"{len(datagram)} bytes")
    if datagram.startswith(NETSTRING_START):
        signed, token = open_netstring(datagram)
        read: Callable[[bytes], tuple[Field, ...]] = read_netstring
    elif datagram.startswith(CLASSIC_START):
        signed, token = open_classic(datagram)
        read = read_classic
    else:
        raise refuse("not_framed", f"{len(datagram)} bytes")
    if not ring.verify(signed, token):
        raise refuse("bad_auth", "signature under no key that is believed")
    return Message(read(signed))


class Envelope(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the daemon needs of a message, checked. Text is printable; a field that is absent has its default."""

    kind: str
    node: str
    """`src` as sent. heartbeat's names are lower case; compare them without case."""
    uuid: bytes | None = None
    """16 bytes."""
    generation: int = 0
    sequence: int = 0
    """At least 1; 0 for kinds beginning with `NS_`."""
    ts: int
    """Unix time in seconds, never 0; for people."""
    dest: str = ""
    """Empty: everybody."""
    dest_uuid: bytes | None = None
    """16 bytes; all zero: the name decides."""
    status: str = ""
    """`st`; present in every status message."""
    deadtime_ms: int = 0
    """`dt`: how long the sender wants to be waited for; 0: it did not say."""
    journal: int = 0
    """`hj`, a field of our own that heartbeat ignores: the sender's journal number."""
    behaviour: int = 0
    """`hv`, another one: the version of what directors do together."""
    hold: str = ""
    """`rsc_hold`."""
    stable: bool | None = None
    """`isstable`."""
    full: bool = False
    """`rtype=full`."""
    info: str = ""
    lend: bool = False
    """`lend`, a field of our own that heartbeat ignores: the giver serves until the taker does."""
    first: int = 0
    """`firstseq` of NS_rexmit and NS_nak_rexmit, at least 1 there."""
    last: int = 0
    """`lastseq` of NS_rexmit, not below `first`. May name any number of messages: bound what is resent."""
    count: int = 0
    """`num_ping`."""
    acked: int = 0
    """`ackseq`; present in every NS_ackmsg."""


def read_envelope(message: Message) -> Envelope:
    """Check and pick out.

    heartbeat drops what lacks `t`, `src`, `ts` (or has it 0) and, but for `NS_`, `seq`; a status without `st` and a
    request without its numbers have no effect there and are refused here. `hg` missing counts as 0. Of two string
    fields with one name the first counts. Fields and kinds that are not known are no fault.

    Raises:
        PeerError: missing_field, bad_number, bad_field.
    """
    reader = _Reader(message)
    kind = reader.required_text("t", _KIND_BYTES)
    first = last = acked = 0
    if kind == "NS_rexmit":
        first, last = reader.decimal("firstseq"), reader.decimal("lastseq")
        if not 1 <= first <= last:
            raise refuse("bad_number", f"messages {first} to {last} asked for again")
    elif kind == "NS_nak_rexmit":
        first = reader.positive("firstseq")
    elif kind == "NS_ackmsg":
        acked = reader.positive("ackseq")
    return Envelope(
        kind=kind,
        node=reader.required_text("src", _NAME_BYTES),
        uuid=reader.uuid("srcuuid"),
        generation=reader.number("hg"),
        sequence=0 if kind.startswith("NS_") else reader.positive("seq"),
        ts=reader.positive("ts"),
        dest=reader.text("dest", _NAME_BYTES),
        dest_uuid=reader.uuid("destuuid"),
        status=reader.required_text("st", _STATUS_BYTES) if kind == "status" else reader.text("st", _STATUS_BYTES),
        deadtime_ms=reader.number("dt", DEADTIME_LIMIT_MS),
        journal=reader.number("hj"),
        behaviour=reader.number("hv"),
        hold=reader.text("rsc_hold", _TEXT_BYTES),
        stable=reader.flag("isstable"),
        full=reader.text("rtype", _TEXT_BYTES) == "full",
        info=reader.text("info", _TEXT_BYTES),
        lend=reader.flag("lend") is True,
        first=first,
        last=last,
        count=reader.decimal("num_ping") if kind == "num_ping_nodes" else 0,
        acked=acked,
    )


def event_of(envelope: Envelope, *, at: int, link: int, node: NodeName, for_me: bool) -> Event:
    """What the core is told of an authentic message. `at`: nanoseconds, CLOCK_BOOTTIME; `for_me`: this node or all."""
    if envelope.kind == "status":
        return HeartbeatReceived(
            at=at,
            link=link,
            node=node,
            generation=envelope.generation,
            sequence=envelope.sequence,
            status=envelope.status,
            deadtime_ns=envelope.deadtime_ms * MILLISECOND,
            journal=envelope.journal,
            behaviour=envelope.behaviour,
        )
    return MessageReceived(
        at=at,
        link=link,
        node=node,
        kind=envelope.kind if for_me else "for_another",
        generation=envelope.generation,
        sequence=envelope.sequence,
        hold=envelope.hold,
        stable=envelope.stable,
        full=envelope.full,
        info=envelope.info,
        lend=envelope.lend,
        first=envelope.first,
        last=envelope.last,
        count=envelope.count,
    )


class _Reader:
    """Fields by name, with the checks that a kind of value needs."""

    __slots__ = ("_binary", "_strings")

    def __init__(self, message: Message) -> None:
        self._strings: dict[str, bytes] = {}
        self._binary: dict[str, bytes] = {}
        for field in message.fields:
            if field.kind == STRING:
                self._strings.setdefault(field.name, field.value)
            elif field.kind == BINARY:
                self._binary.setdefault(field.name, field.value)

    def text(self, name: str, limit_bytes: int) -> str:
        value = self._strings.get(name)
        if value is None:
            return ""
        text = _text(value)
        if len(value) > limit_bytes or not text.isprintable():
            raise refuse("bad_field", f"{name} is too long or not printable")
        return text

    def required_text(self, name: str, limit_bytes: int) -> str:
        text = self.text(name, limit_bytes)
        if not text:
            raise refuse("missing_field", name)
        return text

    def number(self, name: str, limit: int = 2**63 - 1) -> int:
        """Hex; 0 when absent."""
        value = self._strings.get(name)
        if value is None:
            return 0
        if not _HEX.fullmatch(value) or (found := int(value, 16)) > limit:
            raise refuse("bad_number", name)
        return found

    def positive(self, name: str) -> int:
        """Hex, present, not 0."""
        if name not in self._strings:
            raise refuse("missing_field", name)
        found = self.number(name)
        if not found:
            raise refuse("bad_number", f"{name} is 0")
        return found

    def decimal(self, name: str) -> int:
        """Decimal, present."""
        value = self._strings.get(name)
        if value is None:
            raise refuse("missing_field", name)
        if not _DECIMAL.fullmatch(value):
            raise refuse("bad_number", name)
        return int(value)

    def flag(self, name: str) -> bool | None:
        value = self._strings.get(name)
        if value is None:
            return None
        if value not in (b"0", b"1"):
            raise refuse("bad_number", name)
        return value == b"1"

    def uuid(self, name: str) -> bytes | None:
        value = self._binary.get(name)
        if value is not None and len(value) != UUID_SIZE:
            raise refuse("bad_field", f"{name} of {len(value)} bytes")
        return value


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
