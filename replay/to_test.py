"""An incident as a test: the fewest events of a journal that still lead to the same decision, and a pytest case.

Events are left out by delta debugging. The results of actions stay joined to their actions, whatever number these get
when fewer were decided before them. The decision is the same if its sentence is, to the letter, and what it does.
"""

from __future__ import annotations

import json
import keyword
import re
import textwrap
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from msgspec.structs import replace

from hafsm import codec
from hafsm.core.actions import Action, ResendMessages, SendMessage, SendPings, SetChecks
from hafsm.core.events import ActionFinished, DaemonStarted, Event, KernelObserved
from hafsm.core.machines import NodeState
from hafsm.core.settings import SECOND
from hafsm.core.state import State, wants_group
from hafsm.core.step import step
from hafsm.core.turn import Decision
from hafsm.errors import HafsmError
from journal.errors import JournalError
from journal.export import export
from journal.reader import Journal
from journal.records import GapRecord, RunRecord, SnapshotRecord
from replay.engine import restore
from replay.recording import Recording
from replay.shrink import fewest, last_that_suffice

TRIES = 3000
LISTED = 60
"""Events told in the test's docstring."""
_WIDTH = 110
_MESSAGES = (SendMessage, ResendMessages, SendPings, SetChecks)


class NothingDecided(HafsmError):
    """The journal has no decision to make a test of."""


class Incident(NamedTuple):
    """A decision and what led to it."""

    start: State
    """Before the first event."""
    events: tuple[Event, ...]
    """The last one is decided on."""
    wall_ns: int
    """Wall time minus the events' stamps."""


def to_test(path: Path, target: Path, *, event: int | None = None) -> tuple[Path, str]:
    """Write `test_NAME.py` and `NAME.db` beside each other; returns the test's path and one line about it.

    Args:
        path: an incident file.
        target: `tests/incidents/NAME`; NAME becomes part of a function's name.
        event: number of the event whose decision is kept; default: the last by which a director died, or a group
            changed hands.

    Raises:
        JournalError: the file cannot be read, or the test cannot be written.
        UnknownRecord: records of another hafsm.
        NothingDecided: no such event, or it decided nothing.
    """
    name = re.sub(r"\W", "_", target.name)
    if not name or keyword.iskeyword(name):
        raise NothingDecided(f"{target.name!r} cannot be part of a function's name")
    whole = find(path, event)
    small = shrink(whole)
    test, journal = target.with_name(f"test_{name}.py"), target.with_name(f"{name}.db")
    if test.exists() or journal.exists():
        raise JournalError(f"{test} or {journal.name} exists")
    decision = decide(small.start, small.events)
    assert decision is not None, "shrinking keeps the decision"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(small, journal)
        test.write_text(_text(name, path, whole, small, decision[0]))
    except OSError as error:
        raise JournalError(f"{test}: {error}") from error
    return test, f"{len(whole.events)} events cut down to {len(small.events)}: {decision[0].reason}"


def find(path: Path, event: int | None) -> Incident:
    """The decision that is asked for, with its life from the beginning (or from where the file begins)."""
    found: Incident | None = None
    start = state = None
    events: list[Event] = []
    run = 0
    with Journal(path) as journal:
        for entry in journal.entries(verify=True):
            if isinstance(entry, RunRecord):
                if entry.run != run:
                    run, state = entry.run, None
            elif isinstance(entry, GapRecord):
                state = None
            elif isinstance(entry, SnapshotRecord):
                if state is None:
                    start = state = restore(path, entry)
                    events = []
            elif state is not None and start is not None:
                record = entry[0]
                value = codec.decode_event(record.kind, record.version, record.payload, record.at_mono_ns)
                before, decision = state, step(state, value)
                state = decision.state
                events.append(value)
                wanted = record.seq == event if event is not None else _matters(before, decision)
                if wanted and decision.reason:
                    found = Incident(start, tuple(events), record.at_wall_ns - record.at_mono_ns)
                    if event is not None:
                        break
    if found is None:
        what = f"event {event} is not there or decided nothing" if event is not None else "nobody died or took over"
        raise NothingDecided(f"{path}: {what}")
    return found


def _matters(before: State, decision: Decision) -> bool:
    after = decision.state
    if before.peer is not None and after.peer is not None:
        was_dead, is_dead = (peer.state is NodeState.DEAD for peer in (before.peer, after.peer))
        if is_dead and not was_dead:
            return True
    return any(wants_group(before, i) is not wants_group(after, i) for i in range(len(after.settings.groups)))


def shrink(incident: Incident) -> Incident:
    """Leave out every event without which the last one is decided the same way."""
    start = replace(incident.start, number=0)
    *before, last = incident.events
    first = before[:1] if before and isinstance(before[0], DaemonStarted) else []
    middle = before[len(first) :]
    joined = _joined(incident.start, incident.events)
    whole = decide(incident.start, incident.events)
    assert whole is not None, "the journal was folded so far"
    wanted = _shape(whole[0])

    def same(some: list[Event]) -> bool:
        decision = decide(start, (*first, *some, last), joined)
        return decision is not None and _shape(decision[0]) == wanted

    kept = fewest(last_that_suffice(middle, same), same, tries=TRIES)
    decision = decide(start, (*first, *kept, last), joined)
    if decision is None or _shape(decision[0]) != wanted:
        return incident._replace(start=start)
    return Incident(start, decision[1], incident.wall_ns)


def _joined(start: State, events: tuple[Event, ...]) -> dict[int, Action]:
    """Every action by its number, without that number."""
    actions: dict[int, Action] = {}
    state = start
    for event in events:
        decision = step(state, event)
        state = decision.state
        for action in decision.actions:
            if not isinstance(action, _MESSAGES):
                actions[action.id] = replace(action, id=0)
    return actions


def decide(
    start: State, events: tuple[Event, ...], joined: dict[int, Action] | None = None
) -> tuple[Decision, tuple[Event, ...]] | None:
    """The decision on the last event, and the events as folded; None if it never comes to that.

    `joined`: what the numbers in results meant when they were recorded; results whose action was not decided this time
    are left out.
    """
    state = start
    open_actions: dict[Action, int] = {}
    folded: list[Event] = []
    decision: Decision | None = None
    for event in events:
        decision = None
        if joined is not None and isinstance(event, ActionFinished | KernelObserved):
            action = joined.get(event.action)
            if action is not None:
                number = open_actions.pop(action, 0)
                if not number:
                    continue
                event = replace(event, action=number)
        try:
            decision = step(state, event)
        except Exception:
            return None
        folded.append(event)
        state = decision.state
        if joined is not None:
            for done in decision.actions:
                if not isinstance(done, _MESSAGES):
                    open_actions[replace(done, id=0)] = done.id
    return None if decision is None else (decision, tuple(folded))


def _shape(decision: Decision) -> tuple[str, tuple[str, ...]]:
    """The sentence, and what is done on this machine."""
    return decision.reason, tuple(effects_of(decision.actions))


def effects_of(actions: tuple[Action, ...]) -> list[str]:
    """Kinds of what is done on this machine, in order."""
    return [codec.kind_of(action) for action in actions if not isinstance(action, _MESSAGES)]


def _write(incident: Incident, target: Path) -> None:
    with TemporaryDirectory(dir=target.parent) as folder:
        recording = Recording(Path(folder) / "journal")
        recording.begin(incident.start, wall_ns=incident.wall_ns, boot_id="", version="")
        state = incident.start
        for event in incident.events:
            decision = step(state, event)
            state = decision.state
            recording.append(event, decision)
        recording.close()
        export(Path(folder) / "journal", target)


def _text(name: str, path: Path, whole: Incident, small: Incident, decision: Decision) -> str:
    node = small.start.settings.me
    lines = [
        f'"""An incident of {node}: {len(small.events)} events of the {len(whole.events)} in {path.name}.',
        "",
        *_story(small.events),
        '"""',
        "",
        "from pathlib import Path",
        "",
        "from hafsm.testing import incident",
        "",
        "",
        f"def test_{name}() -> None:",
        f'    decision = incident(Path(__file__).with_name("{name}.db"))',
        *_assert("decision.reason", [_quoted(piece) for piece in _pieces(decision.reason)], "(", ")", ""),
        *_assert("decision.effects", [_quoted(kind) for kind in effects_of(decision.actions)], "[", "]", ","),
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _quoted(text: str) -> str:
    """With double quotes, as a Python literal: every JSON string is one."""
    return json.dumps(text, ensure_ascii=False)


def _assert(what: str, pieces: list[str], opens: str, closes: str, comma: str) -> list[str]:
    """As `ruff format` would write it."""
    inner = ", ".join(pieces) if comma else "".join(pieces)
    one = f"    assert {what} == " + (f"[{inner}]" if comma else inner)
    if len(one) <= _WIDTH and (comma or len(pieces) == 1):
        return [one]
    return [f"    assert {what} == {opens}", *(f"        {piece}{comma}" for piece in pieces), f"    {closes}"]


def _pieces(sentence: str) -> list[str]:
    if len(_quoted(sentence)) <= _WIDTH:
        return [sentence]
    return textwrap.wrap(sentence, _WIDTH - 10, drop_whitespace=False, break_long_words=False)


def _story(events: tuple[Event, ...]) -> list[str]:
    began = events[0].at
    told = events if len(events) <= LISTED else events[-LISTED:]
    lines = [f"({len(events) - len(told)} earlier events)"] if len(told) < len(events) else []
    for event in told:
        kind, _, payload = codec.encode_event(event)
        text = f"{(event.at - began) / SECOND:.3f} s {kind} {payload}".replace("\\", "\\\\").replace('"', "'")
        lines.append(text if len(text) <= _WIDTH else f"{text[: _WIDTH - 4]} ...")
    return lines
