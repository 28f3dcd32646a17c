"""The generation only grows, whatever happened to the file."""

import json
from pathlib import Path

from hafsm.daemon.identity import begin_life, remember_peer


def test_the_first_life_begins_with_the_unix_time(tmp_path: Path) -> None:
    life = begin_life(tmp_path / "state", 1_700_000_000)
    assert life.generation == 1_700_000_000 and len(life.uuid) == 16 and not life.same_boot


def test_later_lives_count_up_and_keep_the_uuid_even_if_the_clock_went_back(tmp_path: Path) -> None:
    first = begin_life(tmp_path, 1_700_000_000)
    second = begin_life(tmp_path, 5)
    assert (second.uuid, second.generation, second.same_boot) == (first.uuid, first.generation + 1, True)


def test_another_boot_is_noticed(tmp_path: Path) -> None:
    begin_life(tmp_path, 7)
    path = tmp_path / "identity.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "boot_id": "the one before"}))
    assert not begin_life(tmp_path, 7).same_boot


def test_a_file_that_cannot_be_understood_is_kept_aside(tmp_path: Path) -> None:
    for rubbish in (b"", b"\0" * 90, b'{"uuid":"00","generation":4,"boot_id":""}'):
        (tmp_path / "identity.json").write_bytes(rubbish)
        assert begin_life(tmp_path, 1_800_000_000).generation == 1_800_000_000
        assert (tmp_path / "identity.unreadable").read_bytes() == rubbish


def test_the_peers_generation_is_kept_and_only_grows(tmp_path: Path) -> None:
    assert begin_life(tmp_path, 7).peers == {}
    for generation in (5, 9, 6):
        remember_peer(tmp_path, "director-b", generation)
    assert begin_life(tmp_path, 7).peers == {"director-b": 9}


def test_a_disk_that_cannot_be_written_does_not_keep_a_director_from_starting(tmp_path: Path) -> None:
    first = begin_life(tmp_path, 7)
    (tmp_path / "identity.new").mkdir()  # in the way of the new file, even for root
    lives = [begin_life(tmp_path, second).generation for second in (1_800_000_000, 1_800_000_009)]
    assert first.generation < lives[0] < lives[1]
