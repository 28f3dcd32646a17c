"""The same inputs under other settings: what would have been decided, side by side with what was.

Two folds run beside each other over one journal. Inputs from outside (messages, pings, checks, operators, reloads) go
to both. Consequences do not: the second fold makes its own deadlines, except that a loop which was late is late for it
too; the result of an action is given to it only where it decided the same action on the same event, and is otherwise
assumed to be good. What the kernel was seen to hold is given where both believe the same, and is otherwise assumed.

Recorded inputs stay credible as long as the other director would have sent the same. Once the folds differ in
something that the other one is told or sees (who holds what, who counts as dead, a hand-over), its next message may be
an answer to what only happened in the recording. There the comparison stops; it begins again where the recording has
come to rest, with the state recorded there. See `Stretch`.
"""

from __future__ import annotations

from collections.abc import Iterable

from hafsm.core.settings import Value
from replay.history import Beginning, Item, Lost, Moment
from replay.pairing import Pairing, Stop, Stretch
from replay.parameters import Change, Parameters
from replay.whatif_fold import Fold


class WhatIf(Value, frozen=True):
    """The comparison of one journal."""

    node: str
    changes: tuple[Change, ...]
    pairings: tuple[Pairing, ...]
    stretches: tuple[Stretch, ...]
    events: int
    """In the journal."""
    counted: int
    """Within stretches."""
    assumed: int
    """Results that were assumed."""


def compare(history: Iterable[Item], parameters: Parameters) -> WhatIf:
    """Raises `Unusable` for parameters that contradict the recorded settings, and what `history.moments` raises."""
    fold = Fold(parameters)
    for item in history:
        if isinstance(item, Moment):
            fold.moment(item)
        elif isinstance(item, Beginning):
            fold.begin(item)
        else:
            fold.stop(Stop.GAP if isinstance(item, Lost) else Stop.END)
    fold.stop(Stop.END)
    return WhatIf(
        node=fold.node,
        changes=fold.changes,
        pairings=tuple(fold.pairings),
        stretches=tuple(fold.stretches),
        events=fold.events,
        counted=fold.counted,
        assumed=fold.assumed,
    )
