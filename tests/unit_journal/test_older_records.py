"""Records and decisions of an older hafsm: upcasters for what is written, behaviour flags for what is decided (law L8).

No release has changed a record or a decision yet, so the mechanism is tested with one of each that is registered here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from hafsm import codec
from hafsm.cli.redacting import redact_addresses
from hafsm.config.build import to_settings
from hafsm.config.load import load
from hafsm.core import flags
from hafsm.core.settings import SECOND
from hafsm.core.turn import Turn
from journal.errors import JournalError
from journal.export import export
from replay.engine import Result, replay
from tests.daemon.process import Daemon
from tests.unit_core.pair import Machine, Pair, ev
from tests.unit_replay.recording import record


def recorded(folder: Path) -> Path:
    """A director's first minute, with a stop asked for by `SIGTERM`."""
    pair = Pair().start()
    pair.run(20 * SECOND)
    pair.a.fold(ev.StopRequested(at=pair.now, by="SIGTERM"))
    pair.run(2 * SECOND)
    return written(folder, pair.a)


def written(folder: Path, machine: Machine) -> Path:
    record(folder, machine, snapshots=10)
    export(folder, folder / "file.db")
    return folder / "file.db"


@pytest.fixture
def second_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if `stop_requested` had said `who` in version 1, and a snapshot had called its number `events_folded`."""
    monkeypatch.setitem(codec._VERSIONS, "stop_requested", 2)
    monkeypatch.setitem(codec._UPCASTERS, ("stop_requested", 1), lambda text: text.replace('"who":', '"by":'))
    monkeypatch.setitem(codec._VERSIONS, codec.SNAPSHOT, 2)
    monkeypatch.setitem(
        codec._UPCASTERS, (codec.SNAPSHOT, 1), lambda text: text.replace('"events_folded":', '"number":')
    )


@pytest.mark.usefixtures("second_version")
def test_an_older_record_is_read_as_what_it_means_now() -> None:
    event = ev.StopRequested(at=5, by="SIGTERM")
    assert codec.decode_event("stop_requested", 1, '{"who":"SIGTERM"}', at=5) == event
    assert codec.encode_event(event) == ("stop_requested", 2, '{"by":"SIGTERM"}')
    assert codec.decode_event(*codec.encode_event(event), at=5) == event
    with pytest.raises(codec.UnknownRecord, match=r"version 3 is newer .* reads up to 2"):
        codec.decode_event("stop_requested", 3, "{}", at=5)


@pytest.mark.usefixtures("second_version")
def test_an_older_snapshot_is_read_as_what_it_means_now() -> None:
    state = Pair().start().a.state
    text = codec.encode_state(state)
    assert text.startswith('{"v":2,"settings":') and codec.decode_state(text) == state
    older = text.replace('{"v":2,', "{").replace('"number":', '"events_folded":')
    assert codec.decode_state(older) == state
    with pytest.raises(codec.UnknownRecord, match="snapshot version 3 is newer"):
        codec.decode_state(text.replace('"v":2', '"v":3'))


def test_a_journal_of_the_older_version_replays(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Written in version 1, replayed after the change; also when it is rewritten, which brings it up to date."""
    path = recorded(tmp_path / "j")
    assert replay(path).identical
    request.getfixturevalue("second_version")
    codec._UPCASTERS["stop_requested", 1] = codec._UPCASTERS[codec.SNAPSHOT, 1] = lambda text: text
    result = replay(path)
    assert result.identical and result.snapshots > 1, result.difference
    export(path, tmp_path / "new.db", rewrite=redact_addresses)
    assert replay(tmp_path / "new.db").identical


@pytest.fixture
def polite(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if a later hafsm says `please` on every stop: a decision that differs from that of old journals."""
    monkeypatch.setitem(flags.KNOWN, "polite-stop", "the sentence of a stop says please")
    say = Turn.say

    def politely(turn: Turn, sentence: str) -> None:
        asked = flags.has(turn.state.settings, "polite-stop") and sentence.startswith("SIGTERM")
        say(turn, f"please, {sentence}" if asked else sentence)

    monkeypatch.setattr(Turn, "say", politely)
    yield


def stop_reason(result: Result) -> str:
    return next(reason for _, _, reason in result.reasons if "SIGTERM" in reason)


def test_an_old_journal_replays_under_its_old_behaviour(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    path = recorded(tmp_path / "old")
    request.getfixturevalue("polite")
    result = replay(path)
    assert result.identical, result.difference
    assert stop_reason(result).startswith("SIGTERM")


@pytest.mark.usefixtures("polite")
def test_a_new_life_records_the_flag_and_replays_under_the_new_behaviour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert flags.current() == tuple(flags.KNOWN) and "polite-stop" in flags.current()
    pair = Pair()
    pair.a.config = replace(pair.a.config, flags=flags.current())
    pair.start()
    pair.run(5 * SECOND)
    pair.a.fold(ev.StopRequested(at=pair.now, by="SIGTERM"))
    path = written(tmp_path / "new", pair.a)
    result = replay(path)
    assert result.identical and stop_reason(result).startswith("please, SIGTERM")
    assert result.state is not None and result.state.settings.flags == flags.current()
    # The hafsm of before does not know the flag and does not guess.
    monkeypatch.delitem(flags.KNOWN, "polite-stop")
    with pytest.raises((codec.UnknownRecord, JournalError), match=r"behaviour polite-stop, which is not known here"):
        replay(path)


@pytest.mark.usefixtures("polite")
def test_the_daemon_starts_with_every_flag(tmp_path: Path) -> None:
    """From real configuration files."""
    loaded = load(Daemon(tmp_path / "a").folder / "ha.d", me="director-a")
    assert loaded.configuration is not None
    assert to_settings(loaded.configuration).flags == flags.current() != ()
