"""Journals made from the scripted pair, as the daemon would write them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from hafsm import codec
from hafsm.core import events as ev
from hafsm.core.actions import Action
from hafsm.core.state import State, initial
from hafsm.core.step import step
from journal.records import ActionRecord, EventRecord, RunRecord, SnapshotRecord
from journal.writer import Writer
from tests.unit_core.pair import Machine

WALL = 1_700_000_000_000_000_000
"""Wall time of the journal's first event; one microsecond more for each."""

Log = Sequence[tuple[ev.Event, tuple[Action, ...]]]
Change = Callable[[EventRecord, list[ActionRecord]], tuple[EventRecord, list[ActionRecord]]]


def snapshot(state: State) -> SnapshotRecord:
    return SnapshotRecord(state.number, WALL, codec.encode_state(state), codec.digest_state(state))


def record(
    folder: Path, machine: Machine, *, change: Change = lambda event, actions: (event, actions), snapshots: int = 0
) -> Path:
    """Write every life of the machine's log; `change` may falsify records; a snapshot after each `snapshots` events."""
    lives: list[list[ev.Event]] = []
    for event, _ in machine.log:
        if isinstance(event, ev.DaemonStarted):
            lives.append([])
        lives[-1].append(event)
    for events in lives:
        troubles: list[str | None] = []
        writer = Writer(folder, on_durable=lambda seq: None, on_trouble=troubles.append)
        position = writer.open()
        state = initial(machine.config)
        state.number, state.next_action = position.last_seq, position.last_action_id + 1
        run = RunRecord(position.last_run + 1, state.number + 1, WALL, machine.name, "boot", "0", "", "", "")
        writer.start_run(run, snapshot(state))
        for event in events:
            decision = step(state, event)
            state = decision.state
            kind, version, payload = codec.encode_event(event)
            wall = WALL + state.number * 1000
            entry = EventRecord(state.number, event.at, wall, kind, version, payload, None, None, decision.reason)
            actions = [ActionRecord(a.id, state.number, *codec.encode_action(a)) for a in decision.actions]
            writer.append(*change(entry, actions), urgent=False)
            if snapshots and state.number % snapshots == 0:
                writer.snapshot(snapshot(state))
        assert writer.close(30) and troubles == []
    return folder
