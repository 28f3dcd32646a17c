"""One step under construction: the private copy of the state, the actions so far, the sentences so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from hafsm.core.actions import Action, SendMessage
from hafsm.core.state import Peer, State
from hafsm.errors import InvariantError


class Decision(NamedTuple):
    """What `step` returns."""

    state: State
    actions: tuple[Action, ...]
    reason: str
    """One or more sentences with numbers; empty when nothing remarkable was decided."""


_new: Callable[[type[Decision], tuple[State, tuple[Action, ...], str]], Decision] = tuple.__new__
"""The constructor of a named tuple costs three times as much; this is made for every event."""


class Turn(msgspec.Struct):
    """See the module."""

    state: State
    actions: list[Action] = []
    sentences: list[str] = []
    moved: bool = False
    """Something changed on which other parts may depend; `settle` has to look again."""
    report_now: bool = False
    """Tell the peer what is held even if nothing changed."""
    report_info: str = ""
    errands: bool = False
    """Mail, fallback commands or what is remembered has work to do, or another deadline."""
    count_pings: bool = False
    """The peer has just become stable: tell it how many ping nodes are seen here."""

    def do(self, action: type[Any], /, **fields: Any) -> int:
        """Decide an action; returns its id."""
        identity = self.state.next_action
        self.state.next_action = identity + 1
        self.actions.append(action(id=identity, **fields))
        return identity

    def send(self, kind: str, fields: tuple[tuple[str, str], ...] = (), dest: str = "") -> None:
        """Decide to send a message; numbers it unless it stands outside the sequence."""
        state = self.state
        if not kind.startswith("NS_"):
            state.sequence += 1
            sequence = state.sequence
        else:
            sequence = 0
        identity = state.next_action
        state.next_action = identity + 1
        self.actions.append(
            SendMessage(
                id=identity, kind=kind, generation=state.generation, sequence=sequence, fields=fields, dest=dest
            )
        )

    def say(self, sentence: str) -> None:
        """Add to the reason."""
        self.sentences.append(sentence)

    @property
    def peer(self) -> Peer:
        """The other director; asking for it in a cluster of one is a bug."""
        if self.state.peer is None:
            raise InvariantError("a message of the peer was folded in a cluster of one")
        return self.state.peer

    def change_peer(self, **changes: Any) -> Peer:
        """Replace fields of the peer."""
        self.state.peer = replace(self.peer, **changes)
        return self.state.peer

    def change_group(self, index: int, **changes: Any) -> None:
        """Replace fields of a group and have everything that depends on groups looked at again."""
        groups = self.state.groups
        self.state.groups = (*groups[:index], replace(groups[index], **changes), *groups[index + 1 :])
        self.moved = True

    def change_ipvs(self, **changes: Any) -> None:
        """Replace fields of the table's view."""
        self.state.ipvs = replace(self.state.ipvs, **changes)
        self.moved = True

    def decision(self) -> Decision:
        """Close the step."""
        reason = "; ".join(self.sentences) if self.sentences else ""
        return _new(Decision, (self.state, tuple(self.actions), reason))


def seconds(nanoseconds: int) -> str:
    """`30.0 s`, `250 ms`: integer arithmetic only, so that it reads the same everywhere."""
    if nanoseconds < 1_000_000_000:
        return f"{nanoseconds // 1_000_000} ms"
    tenths = nanoseconds // 100_000_000
    return f"{tenths // 10}.{tenths % 10} s"
