"""A journal without a site's addresses and names, which still replays as identical.

Events, settings and states are decoded and rewritten value by value. A decision that is the one this hafsm takes is
not rewritten but taken again, from the rewritten state and event: its sentence, its digests and whatever else the core
makes of an address are then what a replay computes. A decision that is another one (the very thing that somebody may
want to show) is rewritten as it stands, and stays different.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

import msgspec

from hafsm import codec
from hafsm.config.pseudonyms import Pseudonyms
from hafsm.core import actions, ipvs, machines, settings
from hafsm.core import events as core_events
from hafsm.core import state as core_state
from hafsm.core.actions import Action
from hafsm.core.state import State
from hafsm.core.step import step
from hafsm.core.turn import Decision
from hafsm.errors import HafsmError
from journal.records import ActionRecord, Entry, EventRecord, GapRecord, RunRecord, SnapshotRecord

_WORDS = frozenset(
    re.findall(
        r"\w+",
        "boot_id expected flags hold interface kind label method netmask protocol scheduler scheduler_flags script "
        "status version",
    )
)
"""Fields that hold a word of a protocol, never an address or a name."""

_NAMES = {
    "me": "node",
    "node": "node",
    "nodes": "node",
    "preferred": "node",
    "dest": "node",
    "ping": "host",
    "host": "host",
    "hosts": "host",
    "virtualhost": "host",
    "smtp": "host",
    "login": "user",
    "by": "user",
    "database": "database",
    "name": "name",
}
"""Fields that hold a name and nothing else, and what their pseudonym says. All other text is looked through."""

_KEPT_USERS = frozenset({"root", "nobody", "haclient", "hacluster"})
_PROTOCOL = frozenset(
    re.findall(
        r"\S+",
        "status starting resource init up dead ping active shutdown shutdone none local foreign all me done running "
        "stopped full true false root",
    )
)
_RESERVED = _PROTOCOL | {
    str(member.value)
    for module in (actions, core_events, core_state, ipvs, machines, settings)
    for value in vars(module).values()
    if isinstance(value, type) and issubclass(value, Enum)
    for member in value
}


class CannotRedact(HafsmError):
    """The decisions depend on the names themselves, or a record is not understood; nothing is written."""


def redact_addresses(read: Callable[[], Iterator[Entry]]) -> Iterator[Entry]:
    """The entries with pseudonyms. `read` is called twice: first to learn the names.

    Raises:
        CannotRedact, codec.UnknownRecord: see there.
    """
    pseudonyms = Pseudonyms(_RESERVED)
    redactor = _Redactor(pseudonyms)
    for entry in read():
        redactor.learn(entry)
    for entry in read():
        yield redactor.rewrite(entry)


class _Redactor:
    def __init__(self, pseudonyms: Pseudonyms) -> None:
        self._pseudonyms = pseudonyms
        self._run = 0
        self._states: tuple[State, State] | None = None
        """As recorded, and with pseudonyms; None: not known before the next snapshot."""

    def learn(self, entry: Entry) -> None:
        match entry:
            case RunRecord():
                self._pseudonyms.name("node", entry.node)
            case SnapshotRecord():
                self._value(codec.decode_state(entry.state))
            case (event, caused):
                self._value(_event(event))
                for action in caused:
                    self._value(_action(action))

    def rewrite(self, entry: Entry) -> Entry:
        match entry:
            case RunRecord():
                if entry.run != self._run:
                    self._run, self._states = entry.run, None
                text = self._pseudonyms.configuration(entry.configuration)
                return entry._replace(
                    node=self._pseudonyms.name("node", entry.node),
                    configuration=text,
                    config_digest=hashlib.sha256(text.encode()).hexdigest(),
                )
            case SnapshotRecord():
                return self._snapshot(entry)
            case GapRecord():
                self._states = None
                return entry._replace(cause=self._pseudonyms.text(entry.cause))
            case (event, caused):
                return self._decision(event, caused)

    def _snapshot(self, snapshot: SnapshotRecord) -> SnapshotRecord:
        recorded = codec.decode_state(snapshot.state)
        if self._states is not None and self._states[0] == recorded:
            state = self._states[1]
        else:
            state = self._value(recorded)
            self._states = self._states or (recorded, state)
        text = codec.encode_state(state)
        return snapshot._replace(state=text, digest=codec.digest_text(text))

    def _decision(
        self, event: EventRecord, caused: tuple[ActionRecord, ...]
    ) -> tuple[EventRecord, tuple[ActionRecord, ...]]:
        value = _event(event)
        renamed = self._value(value)
        again = self._decide(event, caused, value, renamed) if self._states is not None else None
        reason = self._pseudonyms.text(event.reason) if again is None else again.reason
        acts = tuple(self._value(_action(record)) for record in caused) if again is None else again.actions
        kind, version, payload = codec.encode_event(renamed)
        return (
            event._replace(kind=kind, version=version, payload=payload, reason=reason),
            tuple(ActionRecord(act.id, event.seq, *codec.encode_action(act)) for act in acts),
        )

    def _decide(
        self, event: EventRecord, caused: tuple[ActionRecord, ...], value: Any, renamed: Any
    ) -> Decision | None:
        """The decision with pseudonyms, if the recorded one is what this hafsm decides; None if it is another."""
        assert self._states is not None, "asked only while the state is known"
        try:
            recorded = step(self._states[0], value)
        except Exception:  # a recorded crash, or a bug that replay has to show: the record stays as it is
            self._states = None
            return None
        try:
            again = step(self._states[1], renamed)
        except Exception as error:
            raise CannotRedact(f"event {event.seq} cannot be folded with other names: {error!r}") from error
        self._states = recorded.state, again.state
        if recorded.reason != event.reason or recorded.actions != tuple(map(_action, caused)):
            return None
        kinds = [tuple(codec.kind_of(action) for action in decision.actions) for decision in (recorded, again)]
        if kinds[0] != kinds[1] or bool(recorded.reason) != bool(again.reason):
            raise CannotRedact(f"event {event.seq} is decided otherwise with other names: this hafsm has a bug")
        return again

    def _value(self, value: Any, field: str = "") -> Any:
        if isinstance(value, msgspec.Struct):
            found = {name: self._value(getattr(value, name), name) for name in value.__struct_fields__}
            return type(value)(**found)
        if isinstance(value, tuple):
            if field == "fields":  # of a message: names and values
                return tuple((name, self._value(text)) for name, text in value)
            return tuple(self._value(item, field) for item in value)
        if isinstance(value, str) and not isinstance(value, Enum):
            return self._text(value, field)
        return value

    def _text(self, text: str, field: str) -> str:
        if field in _WORDS or text in _PROTOCOL:
            return text
        kind = _NAMES.get(field)
        if kind is None or (kind == "user" and (text in _KEPT_USERS or text.startswith("SIG"))):
            return self._pseudonyms.text(text)
        return self._pseudonyms.name(kind, text)


def _event(record: EventRecord) -> Any:
    return codec.decode_event(record.kind, record.version, record.payload, record.at_mono_ns)


def _action(record: ActionRecord) -> Action:
    return codec.decode_action(record.kind, record.version, record.payload, record.id)
