"""Journals made from the scripted pair, as the daemon would write them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec.structs import replace

from hafsm import codec
from hafsm.core import events as ev
from hafsm.core.actions import Action
from hafsm.core.settings import SECOND
from hafsm.core.state import State, initial
from hafsm.core.step import step
from journal.records import ActionRecord, EventRecord, RunRecord, SnapshotRecord
from journal.writer import SEGMENT_BYTES, Writer
from tests.unit_core.pair import Machine

WALL = 1_700_000_000_000_000_000
"""Wall time of the journal's first event; one microsecond more for each."""

Log = Sequence[tuple[ev.Event, tuple[Action, ...]]]
Change = Callable[[EventRecord, list[ActionRecord]], tuple[EventRecord, list[ActionRecord]]]


def snapshot(state: State) -> SnapshotRecord:
    return SnapshotRecord(state.number, WALL, codec.encode_state(state), codec.digest_state(state))


def lives_of(machine: Machine) -> list[list[ev.Event]]:
    """The machine's log, one list for each life of its daemon."""
    lives: list[list[ev.Event]] = []
    for event, _ in machine.log:
        if isinstance(event, ev.DaemonStarted):
            lives.append([])
        lives[-1].append(event)
    return lives


def true_clock(event_at: int, _number: int) -> int:
    """Wall time that runs as the pair's clock does."""
    return WALL + event_at - 1000 * SECOND


def counting_clock(_event_at: int, number: int) -> int:
    """One microsecond more for each event: every event has a wall time of its own."""
    return WALL + number * 1000


def record(
    folder: Path,
    machine: Machine,
    *,
    change: Change = lambda event, actions: (event, actions),
    snapshots: int = 0,
    clock: Callable[[int, int], int] = counting_clock,
    segment_bytes: int = SEGMENT_BYTES,
    crash: str = "",
) -> Path:
    """Write every life of the machine's log; `change` may falsify records; a snapshot after each `snapshots` events.

    The scripted machine counts events and actions from 1 in every life, a journal goes on counting: the numbers that
    events carry are those of the journals. With `crash`, the last event is one that the core could not fold.
    """
    peers_lives = [len(events) for events in lives_of(machine.pair.other(machine))]
    for events in lives_of(machine):
        troubles: list[str | None] = []
        writer = Writer(
            folder,
            segment_bytes=segment_bytes,
            queue_max_events=10**9,
            on_durable=lambda seq: None,
            on_trouble=troubles.append,
        )
        position = writer.open()
        state = initial(machine.config)
        state.number, state.next_action = position.last_seq, position.last_action_id + 1
        wall = clock(events[0].at, state.number)
        run = RunRecord(position.last_run + 1, state.number + 1, wall, machine.name, "boot", "0", "", "", "")
        writer.start_run(run, snapshot(state))
        for told in events:
            event = told
            if isinstance(event, ev.ActionFinished | ev.KernelObserved):
                event = replace(event, action=event.action + position.last_action_id)
            elif isinstance(event, ev.HeartbeatReceived) and event.journal:
                event = replace(event, journal=event.journal + sum(peers_lives[: event.generation - 1]))
            kind, version, payload = codec.encode_event(event)
            if crash and told is machine.log[-1][0]:
                failed = EventRecord(state.number + 1, event.at, wall, kind, version, payload, None, None, crash)
                writer.append(failed, [], urgent=True)
                break
            decision = step(state, event)
            state = decision.state
            wall = clock(event.at, state.number)
            entry = EventRecord(state.number, event.at, wall, kind, version, payload, None, None, decision.reason)
            actions = [ActionRecord(a.id, state.number, *codec.encode_action(a)) for a in decision.actions]
            writer.append(*change(entry, actions), urgent=False)
            if snapshots and state.number % snapshots == 0:
                writer.snapshot(snapshot(state))
        assert writer.close(60) and troubles == []
    return folder
