"""Two hundred power cuts under load: every journal opens, verifies, replays, and nothing reported durable is lost.

Each life is a process of its own that folds real decisions and writes them, rotates, packs, and is killed at a random
moment. The same folder lives through all of it, as a director's does. A kill leaves what the kernel already has; what a
disk's own cache loses in a power cut is what fsync is for, and cannot be had here.
"""

from __future__ import annotations

import os
import random
import signal
import time
import traceback
from pathlib import Path

import pytest
from msgspec.structs import replace

from hafsm import codec
from hafsm.core.state import State, initial
from hafsm.core.step import step
from journal.export import export
from journal.folder import latest, segments
from journal.records import ActionRecord, EventRecord, RunRecord
from journal.survey import surveys
from journal.writer import Writer
from replay.engine import replay
from tests.unit_core.pair import Pair, ev
from tests.unit_replay.recording import WALL, snapshot

CUTS = 200
CHECKED_EVERY = 40
"""Cuts between two looks at everything; each cut's folder is opened by the next life, which verifies its end."""


LONG_LIFE = 60
"""Reports: long enough to fill a segment or two."""

AHEAD = 100
"""Events that wait for the disk at most: a busy director, not a flood."""


@pytest.fixture(scope="module")
def life() -> list[ev.Event]:
    """What a director's life is made of: start, take-over, checks that fail and recover."""
    pair = Pair().start()
    for number in range(12):
        pair.a.report_checks(a31=number % 3 != 0, a41=number % 5 != 0)
        pair.run(2_000_000_000)
    return [event for event, _ in pair.a.log]


def live(folder: Path, events: list[ev.Event], report: int) -> None:
    """A life until it is killed: the same events over and over, each as a life of its own would see them."""
    durable = [0]

    def reported(seq: int) -> None:
        durable[0] = seq
        os.write(report, (seq + 1).to_bytes(8, "big"))

    writer = Writer(
        folder,
        segment_bytes=150_000,
        total_bytes=600_000,
        flush_interval_s=0.001,
        on_durable=reported,
        on_trouble=lambda text: os.write(report, bytes(8)),
    )
    position = writer.open()
    state = initial(Pair().a.config)
    state.number, state.next_action = position.last_seq, position.last_action_id + 1
    run = RunRecord(position.last_run + 1, state.number + 1, WALL, state.settings.me, "boot", "0", "", "", "")
    writer.start_run(run, snapshot(state))
    while True:
        later = state.now
        for event in events:
            state = keep(writer, state, replace(event, at=event.at + later))
            if writer.wants_snapshot:
                writer.snapshot(snapshot(state))
            while state.number - durable[0] > AHEAD:
                time.sleep(0.0005)


def keep(writer: Writer, state: State, event: ev.Event) -> State:
    decision = step(state, event)
    number = decision.state.number
    record = codec.encode_event(event)
    written = EventRecord(number, event.at, WALL + number * 1000, *record, None, None, decision.reason)
    actions = [ActionRecord(action.id, number, *codec.encode_action(action)) for action in decision.actions]
    writer.append(written, actions, urgent=bool(decision.reason))
    return decision.state


def cut_after(folder: Path, events: list[ev.Event], reports: int) -> int:
    """Fork a life and kill it after so many reports; returns the last number that it reported durable."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        try:
            live(folder, events, write)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        heard = pipe.read(8 * reports)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        heard += pipe.read()
    told = [int.from_bytes(heard[start : start + 8], "big") for start in range(0, len(heard) // 8 * 8, 8)]
    assert os.WIFSIGNALED(status) and all(told), "the writer was in trouble, or ended by itself"
    return told[-1] - 1


def test_two_hundred_power_cuts(tmp_path: Path, life: list[ev.Event]) -> None:
    folder = tmp_path / "j"
    seed = 20_261_124
    chance = random.Random(seed)
    for cut in range(1, CUTS + 1):
        durable = cut_after(folder, life, chance.choice([1, 1, 2, 3, 5, 8, 13]) if cut % 20 else LONG_LIFE)
        position = latest(folder)
        assert position.last_seq >= durable, f"seed {seed}, cut {cut}: event {durable} was on disk"
        assert position.last_run == cut
        if cut % CHECKED_EVERY == 0:
            assert_whole(folder, tmp_path / "all.db")
    assert next(iter(surveys(folder))).first_seq > 1, "rotation and retention were hit as well"
    # A packer needs longer than most lives, but it outlives them.
    packed = 0
    while not packed:
        cut_after(folder, life, LONG_LIFE)
        packed = sum(path.suffix == ".gz" for path in segments(folder))
    assert_whole(folder, tmp_path / "all.db")


def assert_whole(folder: Path, target: Path) -> None:
    """Everything from the oldest segment on verifies, without a hole, and is decided again as recorded."""
    found = list(surveys(folder))
    assert sum(survey.events.total() for survey in found) == found[-1].last_seq - found[0].first_seq + 1
    assert not any(survey.gaps for survey in found)
    export(folder, target, overwrite=True)
    result = replay(target)
    assert result.identical, result.difference
    assert result.last == found[-1].last_seq
