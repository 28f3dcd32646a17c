"""Events, actions and states ↔ journal records.

A record has a kind (the class name in snake case), a version, and a JSON object. What the journal keeps in columns of
its own (`at` of an event, `id` of an action) is left out of the JSON; both classes have it as their last field
(keyword-only fields of a base class follow those of the class).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, get_args

import msgspec

from hafsm.core import flags
from hafsm.core.actions import Action
from hafsm.core.events import Event
from hafsm.core.state import State
from hafsm.errors import HafsmError

_VERSIONS: dict[str, int] = {}
"""Kind → version of its payload now; 1 where it is not named. A field that is added with a default needs no new
version; any other change takes the next number and an upcaster from the last."""


class Record(NamedTuple):
    """The journal's three columns for a value."""

    kind: str
    version: int
    payload: str


class UnknownRecord(HafsmError):
    """A record that this version of hafsm cannot read; the message says which and why."""


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


_EVENTS: dict[str, type[Any]] = {_snake(cls.__name__): cls for cls in get_args(Event)}
_ACTIONS: dict[str, type[Any]] = {_snake(cls.__name__): cls for cls in get_args(Action)}
_KINDS: dict[type[Any], str] = {cls: kind for table in (_EVENTS, _ACTIONS) for kind, cls in table.items()}
_DECODERS = {cls: msgspec.json.Decoder(cls) for cls in _KINDS}
_STATE = msgspec.json.Decoder(State)
_STATE_VERSION = re.compile(r'\{"v":([0-9]{1,9}),')
_encode = msgspec.json.Encoder().encode

_EVENT_DECODERS: dict[str, Callable[[str], Any]] = {kind: _DECODERS[cls].decode for kind, cls in _EVENTS.items()}
_UPCASTERS: dict[tuple[str, int], Callable[[str], str]] = {}
"""(kind, version) → the payload in the next version. Written once, when the version is raised; never changed after."""

SNAPSHOT = "snapshot"
"""The kind of a state, which has versions and upcasters as events and actions have. Its text names the version in a
first field `"v"` when it is not 1."""

_DAMAGED = (msgspec.MsgspecError, RecursionError, UnicodeError)


def kind_of(value: Event | Action) -> str:
    """`heartbeat_received`."""
    return _KINDS[type(value)]


def encode_event(event: Event) -> Record:
    """The record of an event, without its time."""
    kind = _KINDS[type(event)]
    return Record(kind, _VERSIONS.get(kind, 1), _without_last(_encode(event)))


def encode_action(action: Action) -> Record:
    """The record of an action, without its id."""
    kind = _KINDS[type(action)]
    return Record(kind, _VERSIONS.get(kind, 1), _without_last(_encode(action)))


def decode_event(kind: str, version: int, payload: str, at: int) -> Event:
    """Raises `UnknownRecord`."""
    event: Event
    decode = _EVENT_DECODERS.get(kind)
    if decode is None or version != _VERSIONS.get(kind, 1):
        event = _decode(_EVENTS, kind, version, payload, "at", at)
        return event
    try:
        event = decode(f'{payload[:-1]},"at":{at}}}' if payload != "{}" else f'{{"at":{at}}}')
    except _DAMAGED as error:
        raise UnknownRecord(f"{kind}: {error}") from error
    return event


def decode_action(kind: str, version: int, payload: str, identity: int) -> Action:
    """Raises `UnknownRecord`."""
    action: Action = _decode(_ACTIONS, kind, version, payload, "id", identity)
    return action


def are_records_of(actions: Sequence[Action], rows: Sequence[tuple[Any, ...]]) -> bool:
    """Whether the rows (id, cause, kind, version, payload …) are, to the letter, what these actions are written as."""
    if len(actions) != len(rows):
        return False
    for action, row in zip(actions, rows, strict=True):
        kind, payload = row[2], row[4]
        if kind != _KINDS[type(action)] or row[3] != _VERSIONS.get(kind, 1) or payload[-1:] != "}":
            return False
        written = f'{payload[:-1]},"id":{row[0]}}}' if payload != "{}" else f'{{"id":{row[0]}}}'
        if written.encode() != _encode(action):
            return False
    return True


def _without_last(encoded: bytes) -> str:
    """`{"link":0,"at":5}` → `{"link":0}`."""
    comma = encoded.rfind(b",")
    return encoded[:comma].decode() + "}" if comma >= 0 else "{}"


def _decode(table: dict[str, type[Any]], kind: str, version: int, payload: str, last: str, value: int) -> Any:
    cls = table.get(kind)
    if cls is None:
        raise UnknownRecord(f"kind {kind!r} is not known here: the journal was written by a newer hafsm")
    payload = _upcast(kind, version, payload)
    separator = "" if payload == "{}" else ","
    try:
        return _DECODERS[cls].decode(f'{payload[:-1]}{separator}"{last}":{value}}}')
    except _DAMAGED as error:
        raise UnknownRecord(f"{kind}: {error}") from error


def _upcast(kind: str, version: int, payload: str) -> str:
    newest = _VERSIONS.get(kind, 1)
    if version > newest:
        raise UnknownRecord(f"{kind} version {version} is newer than this hafsm, which reads up to {newest}")
    while version < newest:
        upcast = _UPCASTERS.get((kind, version))
        if upcast is None:
            raise UnknownRecord(f"{kind} version {version} cannot be read any more")
        try:
            payload, version = upcast(payload), version + 1
        except (ValueError, KeyError, TypeError, *_DAMAGED) as error:
            raise UnknownRecord(f"{kind} version {version}: {error}") from error
    return payload


def encode_state(state: State) -> str:
    """The whole state as JSON; equal states give equal text on every machine."""
    text = _encode(state).decode()
    version = _VERSIONS.get(SNAPSHOT, 1)
    return text if version == 1 else f'{{"v":{version},{text[1:]}'


def decode_state(text: str) -> State:
    """Raises `UnknownRecord`: also for a state whose behaviour flags this hafsm does not know (law L8)."""
    found = _STATE_VERSION.match(text)
    try:
        state = _STATE.decode(_upcast(SNAPSHOT, int(found[1]) if found else 1, text))
    except _DAMAGED as error:
        raise UnknownRecord(f"snapshot: {error}") from error
    unknown = [flag for flag in state.settings.flags if flag not in flags.KNOWN]
    if unknown:
        raise UnknownRecord(
            f"snapshot: recorded with behaviour {', '.join(unknown)}, which is not known here: "
            "the journal was written by a newer hafsm"
        )
    return state


def digest_state(state: State) -> str:
    """SHA-256 of `encode_state`."""
    return digest_text(encode_state(state))


def digest_text(text: str) -> str:
    """SHA-256 of a state that is text already."""
    return hashlib.sha256(text.encode()).hexdigest()
