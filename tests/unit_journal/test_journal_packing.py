"""Sealed segments are packed by a process of their own; every reader opens both forms."""

from __future__ import annotations

import gzip
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from journal import pack
from journal.errors import Unreadable
from journal.export import export
from journal.folder import first_seq_of, latest, read_after, segments
from journal.packed import UNPACKED_MAX_BYTES
from journal.reader import Journal
from journal.survey import surveys
from tests.unit_journal.journal_support import Watched, write_journal

PAYLOAD = '{"link":0,"node":"director-b","generation":17,"sequence":4711,"status":"active"}'


def test_the_writer_packs_what_it_sealed(tmp_path: Path) -> None:
    """All but the newest, in the background; every way to read gives what was there before."""
    folder = tmp_path / "j"
    with Watched(folder, segment_bytes=100_000, pack_sealed=True) as watched:
        watched.start()
        for _ in range(4):
            while not watched.writer.wants_snapshot:
                watched.append(200, actions=1, payload=PAYLOAD)
                watched.wait_durable()
            watched.snapshot()
            watched.append()
            watched.wait_durable()

        def all_packed() -> bool:
            watched.append(50)
            return [path.suffix for path in segments(folder)[:-1]] == [".gz"] * 4

        watched.wait(all_packed)
        watched.wait_durable()
    assert len(segments(folder)) == 5 and not list(folder.glob("*.tmp"))
    assert [event.seq for event, _ in read_after(folder, 0, 10**6)] == list(range(1, watched.seq + 1))
    assert export(folder, tmp_path / "all.db").counts.events == watched.seq
    found = list(surveys(folder))
    assert [survey.packed for survey in found] == [True] * 4 + [False]
    for survey in found[:-1]:
        assert survey.size_bytes / survey.events.total() < 120, "with an action for each event"
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o640 for path in segments(folder))
    with Watched(folder) as later:
        assert later.position == latest(folder) and later.position.last_seq == watched.seq


def test_a_segment_packed_between_finding_and_opening_it_is_read(tmp_path: Path) -> None:
    write_journal(tmp_path / "j", events=6, parts=2)
    found = segments(tmp_path / "j")[0]
    with Journal(found) as journal:
        before = list(journal.entries())
        packed = pack.pack(found)
        assert list(journal.entries()) == before, "an open reader keeps the file"
    assert packed.exists() and not found.exists()
    with Journal(found) as journal:
        assert list(journal.entries()) == before


def test_what_zcat_makes_of_it_is_an_ordinary_segment(tmp_path: Path) -> None:
    write_journal(tmp_path / "j", parts=2)
    plain = segments(tmp_path / "j")[0].read_bytes()
    packed = pack.pack(segments(tmp_path / "j")[0])
    assert gzip.decompress(packed.read_bytes()) == plain


@pytest.mark.parametrize("moment", ["unfinished", "both"])
def test_a_packer_that_was_killed_leaves_nothing_in_the_way(tmp_path: Path, moment: str) -> None:
    """Before the packed file has its name, or after it and before the plain one went."""
    folder = tmp_path / "j"
    write_journal(folder, parts=2)
    path = segments(folder)[0]
    content = path.read_bytes()
    if moment == "both":
        pack.pack(path)
        path.write_bytes(content)
    else:
        (folder / (path.name + pack.UNFINISHED_SUFFIX)).write_bytes(b"\x1f\x8bhalf")
    assert segments(folder)[0].name == path.name, "the plain one counts"
    assert export(folder, tmp_path / "all.db").counts.events == 20
    with Watched(folder, pack_sealed=True) as watched:
        watched.start()
        watched.append(5)
        watched.wait_durable()
        watched.wait(lambda: (watched.append(100), segments(folder)[0].suffix == ".gz")[1])
    assert not list(folder.glob("*.tmp")) and not path.exists()


def test_the_program_says_why_a_file_stays_unpacked(tmp_path: Path) -> None:
    """One line, and the file is untouched."""
    missing = tmp_path / "journal-000000000001.db"
    answer = subprocess.run(
        [sys.executable, "-I", "-S", pack.__file__, missing], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 1
    assert answer.stderr == f"{missing} stays unpacked: [Errno 2] No such file or directory: '{missing}'\n"


def test_what_was_deleted_while_it_was_packed_does_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_journal(tmp_path / "j", parts=2)
    path = segments(tmp_path / "j")[0]

    def deleted_meanwhile(folder: Path) -> None:
        path.unlink()

    monkeypatch.setattr(pack, "_sync", deleted_meanwhile)
    with pytest.raises(FileNotFoundError):
        pack.pack(path)
    assert [file.name for file in sorted((tmp_path / "j").iterdir())] == ["journal-000000000011.db", "lock"]


def test_a_file_that_was_emptied_of_its_log_but_never_sealed_is_read(tmp_path: Path) -> None:
    """As one is whose sealing a reader prevented: closed by the last who had it open."""
    write_journal(tmp_path / "j")
    (path,) = segments(tmp_path / "j")
    assert path.read_bytes()[18] == 2
    with Journal(pack.pack(path)) as journal:
        assert journal.verify().events == 10


def test_a_journal_goes_on_after_a_packed_file(tmp_path: Path) -> None:
    """Somebody deleted the newest, plain one: what is left is the journal, and is continued."""
    folder = tmp_path / "j"
    write_journal(folder, parts=2)
    pack.pack(segments(folder)[0])
    segments(folder)[1].unlink()
    with Watched(folder) as watched:
        assert watched.position == (10, 10, 1)
        watched.start()
        watched.append(3, actions=1)
        watched.wait_durable()
        assert watched.troubles == []
    assert [(found.first_seq, found.last_seq) for found in surveys(folder)] == [(1, 10), (11, 13)]


def header_of(path: Path, pages: int) -> bytes:
    header = bytearray(path.read_bytes()[:4096])
    header[28:32] = pages.to_bytes(4, "big")
    return bytes(header)


def test_hostile_packed_files(tmp_path: Path) -> None:
    """Bombs, lies, cuts and additions; each in one sentence, none in more memory than it may take."""
    write_journal(tmp_path / "j", parts=2)
    path = segments(tmp_path / "j")[0]
    content = path.read_bytes()
    good = gzip.compress(content)
    hostile = {
        "would unpack to": gzip.compress(header_of(path, UNPACKED_MAX_BYTES // 4096 + 1) + bytes(10**7)),
        "unpacks to more than": gzip.compress(content + bytes(50 * 2**20)),
        "is truncated: 4096 bytes of": gzip.compress(content[:4096]),
        "bytes unpacked": good[: len(good) // 2],
        "has something behind": good + b"more",
        "cannot be unpacked": good[:-8] + os.urandom(8),
        "is not an SQLite database": gzip.compress(b"text " * 100),
        "is empty": gzip.compress(b""),
        "not a journal": gzip.compress(content[:68] + b"abcd" + content[72:]),
    }
    for complaint, data in hostile.items():
        file = tmp_path / "x.db.gz"
        file.write_bytes(data)
        with pytest.raises(Unreadable, match=complaint):
            Journal(file)


def test_a_segment_that_changes_its_form_during_a_listing_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder is read piece by piece: the plain file was gone already, the packed one was not there yet."""
    for name in ("journal-000000000001.db.gz", "journal-000000000050.db"):
        (tmp_path / name).touch()
    whole = Path.iterdir
    listings: list[int] = []

    def torn(folder: Path) -> Iterator[Path]:
        listings.append(1)
        return (path for path in whole(folder) if len(listings) > 1 or not path.name.endswith(".gz"))

    monkeypatch.setattr(Path, "iterdir", torn)
    assert [first_seq_of(path) for path in segments(tmp_path)] == [1, 50]


def test_a_packer_of_the_last_life_that_ends_while_the_next_one_begins_costs_no_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its unfinished file was there when the folder was listed, and has its name a moment later."""
    folder = tmp_path / "j"
    write_journal(folder, parts=2)
    (folder / "journal-000000000001.db.77.gz.tmp").touch()
    whole = Path.glob

    def listing(place: Path, pattern: str) -> Iterator[Path]:
        for path in whole(place, pattern):
            if path.name.endswith(pack.UNFINISHED_SUFFIX):
                path.unlink()
            yield path

    monkeypatch.setattr(Path, "glob", listing)
    with Watched(folder) as watched:
        watched.start()
        watched.append(5)
        watched.wait_durable()
    assert latest(folder).last_seq == 25
