"""`--set NAME=VALUE`: names of ha.cf and ldirectord.cf, in their units, become changed settings.

Only what changes how recorded inputs are judged can be asked. A name that would have made other inputs (how often a
heartbeat is sent, when a check is made) is refused with that reason.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from hafsm.config.build import lease_ns
from hafsm.config.ha_cf_values import failback, time_ns
from hafsm.config.names import Misread, whole
from hafsm.core.settings import Settings, Value, VirtualService
from hafsm.core.turn import seconds
from hafsm.errors import HafsmError

CHECKS = "checks."
"""Prefix that may be written before ldirectord.cf's names."""
FAILURECOUNT_MAX = 1000


class Unusable(HafsmError):
    """A `--set` that cannot be used; the text says what to write instead."""


class Change(Value, frozen=True):
    """One parameter and its value before and after."""

    name: str
    was: str
    now: str


class _Parameter(NamedTuple):
    read: Callable[[str], Any]
    field: str
    show: Callable[[Any], str]
    of_services: bool = False


def _yes_no(word: str) -> bool:
    if word not in ("yes", "no"):
        raise Misread("yes or no")
    return word == "yes"


_PARAMETERS = {
    "deadtime": _Parameter(time_ns, "deadtime_ns", seconds),
    "warntime": _Parameter(time_ns, "warntime_ns", seconds),
    "initdead": _Parameter(time_ns, "initdead_ns", seconds),
    "deadping": _Parameter(time_ns, "deadping_ns", seconds),
    "auto_failback": _Parameter(failback, "auto_failback", lambda value: str(value.value)),
    "failurecount": _Parameter(lambda word: whole(word, 1, FAILURECOUNT_MAX), "failurecount", str, True),
    "quiescent": _Parameter(_yes_no, "quiescent", lambda value: "yes" if value else "no", True),
}
_REFUSED = {
    "keepalive": "the heartbeats came when they were sent",
    "checkinterval": "the checks were made when they were made",
    "checktimeout": "the checks waited as long as they waited",
    "negotiatetimeout": "the checks waited as long as they waited",
    "checkcount": "the checks were made as often as they were made",
    "scheduler": "the kernel distributes the connections, and they are not recorded",
    "persistent": "the kernel distributes the connections, and they are not recorded",
    "udpport": "the heartbeats came where they were sent",
    "node": "another cluster would have sent other messages",
    "ping": "other nodes were not pinged",
    "ucast": "the heartbeats came where they were sent",
    "bcast": "the heartbeats came where they were sent",
    "mcast": "the heartbeats came where they were sent",
}
"""Names that an operator may think of, and why the recorded inputs cannot answer for another value."""


class Parameters(NamedTuple):
    """What `--set` asked for."""

    values: tuple[tuple[str, Any], ...]
    """(name, value as the settings have it), each name once."""

    def settings(self, settings: Settings) -> Settings:
        """The settings with these values. Raises `Unusable` for values that contradict the rest."""
        changes: dict[str, Any] = {}
        for name, value in self.values:
            parameter = _PARAMETERS[name]
            if not parameter.of_services:
                changes[parameter.field] = value
        if "deadtime_ns" in changes:
            deadtime = changes["deadtime_ns"]
            if deadtime <= 2 * settings.keepalive_ns:
                keepalive = seconds(settings.keepalive_ns)
                raise Unusable(
                    f"deadtime={seconds(deadtime)}: not longer than two keepalives ({keepalive} each); one lost "
                    "heartbeat would be a death, and check-config refuses it"
                )
            if deadtime != settings.deadtime_ns:
                changes["lease_ns"] = lease_ns(deadtime, settings.keepalive_ns)
        return replace(settings, services=self.services(settings.services), **changes)

    def services(self, services: tuple[VirtualService, ...]) -> tuple[VirtualService, ...]:
        """The virtual services with these values."""
        changes = {_PARAMETERS[n].field: value for n, value in self.values if _PARAMETERS[n].of_services}
        return tuple(replace(service, **changes) for service in services) if changes else services

    @property
    def deadtime_ns(self) -> int:
        """0: not set. Both directors are asked with it: a heartbeat says how long its sender wants to be waited for."""
        return next((value for name, value in self.values if name == "deadtime"), 0)

    def changes(self, settings: Settings) -> tuple[Change, ...]:
        """Side by side with what the journal was recorded with."""
        found = []
        for name, value in self.values:
            parameter = _PARAMETERS[name]
            if parameter.of_services:
                values = dict.fromkeys(getattr(service, parameter.field) for service in settings.services)
                was = ", ".join(parameter.show(v) for v in values) or "no service"
            else:
                was = parameter.show(getattr(settings, parameter.field))
            found.append(Change(name=name, was=was, now=parameter.show(value)))
        return tuple(found)


def parse(words: Sequence[str]) -> Parameters:
    """`deadtime=5s`, `checks.failurecount=3`. Raises `Unusable`."""
    values: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        name = name.strip().lower().removeprefix(CHECKS)
        if not equals or not text.strip():
            raise Unusable(f"{word!r}: expected NAME=VALUE, such as deadtime=5s or checks.failurecount=3")
        parameter = _PARAMETERS.get(name)
        if parameter is None:
            raise Unusable(f"{word!r}: {_why_not(name)}")
        if name in values:
            raise Unusable(f"{word!r}: {name} is set twice")
        text = text.strip()
        if parameter.read is time_ns and text.endswith("s") and text[:-1].replace(".", "", 1).isdigit():
            text = text[:-1]
        try:
            values[name] = parameter.read(text)
        except Misread as error:
            remedy = f". {error.remedy}" if error.remedy else ""
            raise Unusable(f"{word!r}: expected {error.expected}{remedy}") from None
    return Parameters(tuple(values.items()))


def _why_not(name: str) -> str:
    reason = _REFUSED.get(name)
    if reason is not None:
        return f"another {name} would have made other inputs: {reason}. Can be set: {', '.join(_PARAMETERS)}"
    near = difflib.get_close_matches(name, [*_PARAMETERS, *_REFUSED], n=2, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}?" if near else f"can be set: {', '.join(_PARAMETERS)}"
    return f"{name!r} is no parameter; {hint}"
