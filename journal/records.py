"""What the journal keeps: plain values whose meaning belongs to the caller.

Wall times are nanoseconds since 1970 (UTC), monotonic times nanoseconds of the caller's clock. Payloads, states and
configurations are text that the journal never interprets (JSON by convention).
"""

from __future__ import annotations

from typing import NamedTuple


class EventRecord(NamedTuple):
    """Something that happened."""

    seq: int
    """Grows over the life of the journal, restarts of the daemon included."""
    at_mono_ns: int
    at_wall_ns: int
    kind: str
    version: int
    """Version of the payload's layout."""
    payload: str
    action_id: int | None
    """The action whose result this event is, if any."""
    outcome: str | None
    """How that action ended."""
    reason: str
    """The sentence of the decision that this event caused; empty when nothing was decided."""


class ActionRecord(NamedTuple):
    """Something that was decided because of an event."""

    id: int
    """Grows over the life of the journal."""
    cause: int
    """`seq` of the event."""
    kind: str
    version: int
    payload: str


class SnapshotRecord(NamedTuple):
    """The state after event `seq` was folded."""

    seq: int
    at_wall_ns: int
    state: str
    digest: str


class RunRecord(NamedTuple):
    """One life of the daemon. Written at its start and again, unchanged, at the head of each further segment."""

    run: int
    first_seq: int
    """The first event of this life has this number."""
    started_wall_ns: int
    node: str
    boot_id: str
    code_version: str
    configuration: str
    """Without secrets."""
    config_digest: str
    flags: str


class GapRecord(NamedTuple):
    """Events that could not be kept: `count` of them, numbered from `after_seq + 1`."""

    after_seq: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which a record has no use for
    from_wall_ns: int
    to_wall_ns: int
    cause: str


Decision = tuple[EventRecord, tuple[ActionRecord, ...]]
"""An event and the actions that it caused."""

Entry = RunRecord | SnapshotRecord | GapRecord | Decision
"""Whatever stands in a journal, in the order in which it was written."""


class Position(NamedTuple):
    """Where a journal ends. All zero for an empty one."""

    last_seq: int
    last_action_id: int
    last_run: int
