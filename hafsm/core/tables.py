"""Transition tables: the rows are the truth, `transitions` runs them, the docs and tests read them.

A machine here has no model of its own: it maps (state, trigger, facts) to the next state. States live in the core's
`State`; what a transition does beside changing it is in the module that fires the trigger.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

from transitions import Machine, MachineError

from hafsm.errors import InvariantError

S = TypeVar("S", bound=Enum)
Guard = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Row(Generic[S]):
    """One line of a table: in `source`, on `trigger`, if `guard` agrees, go to `dest`, because `why`."""

    source: S
    trigger: str
    dest: S | None
    """None: the trigger is ignored in this state, and `why` says the reason."""
    why: str
    guard: Guard | None = None
    """Asked with the facts given to `Table.fire`; its docstring is shown in the docs."""


def rows(source: tuple[S, ...], trigger: str, dest: S | None, why: str, guard: Guard | None = None) -> list[Row[S]]:
    """The same row for several sources."""
    return [Row(state, trigger, dest, why, guard) for state in source]


class _Cursor:
    """The one-slot model that `transitions` moves."""

    __slots__ = ("state",)

    def __init__(self, state: Enum) -> None:
        self.state = state


class Table(Generic[S]):
    """A named tuple of rows; the first row that fits wins."""

    def __init__(self, name: str, states: type[S], table_rows: list[Row[S]]) -> None:
        self.name = name
        self.states = states
        self.rows = tuple(table_rows)
        self._machine = Machine(
            model=None,
            states=states,
            initial=None,
            auto_transitions=False,
            send_event=True,
            queued=False,
            transitions=[
                {
                    "trigger": row.trigger,
                    "source": row.source,
                    "dest": row.dest,
                    "conditions": [] if row.guard is None else [_condition(row.guard)],
                }
                for row in self.rows
            ],
        )

    @property
    def triggers(self) -> tuple[str, ...]:
        """Every trigger, in the order of the rows."""
        return tuple(dict.fromkeys(row.trigger for row in self.rows))

    def fire(self, state: S, trigger: str, facts: Any = None) -> S:
        """The state after `trigger`; `state` itself where the table ignores it.

        Raises `InvariantError` where the table has no row: such a pair was never thought about.
        """
        cursor = _Cursor(state)
        try:
            moved = self._machine.events[trigger].trigger(cursor, facts=facts)
        except MachineError as error:
            raise InvariantError(f"{self.name}: no row for {trigger!r} in state {state.value!r}") from error
        if not moved:
            raise InvariantError(f"{self.name}: every guard refused {trigger!r} in state {state.value!r}")
        result: S = cursor.state  # type: ignore[assignment]
        return result


def _condition(guard: Guard) -> Callable[[Any], bool]:
    def ask(event: Any) -> bool:
        return guard(event.kwargs["facts"])

    return ask
