"""Export: one file that stands alone, or a clear refusal."""

from __future__ import annotations

from pathlib import Path

import pytest

from journal.errors import ChainBroken, JournalError
from journal.export import export
from journal.folder import read_after, segments
from journal.reader import Journal
from journal.records import RunRecord, SnapshotRecord
from tests.unit_journal.journal_support import Watched, tamper, write_journal


def test_all_segments_become_one_file(tmp_path: Path) -> None:
    """Every record once, the chain unbroken over the old file borders, run and snapshot at each."""
    write_journal(tmp_path / "j", events=6, actions=2, parts=3)
    result = export(tmp_path / "j", tmp_path / "out.db")
    assert (result.first_seq, result.last_seq, result.segments) == (1, 18, 3)
    assert result.size_bytes == (tmp_path / "out.db").stat().st_size
    with Journal(tmp_path / "out.db") as journal:
        assert journal.verify() == result.counts == (18, 36, 1, 3, 0, 0)
        assert list(journal.scan()) == read_after(tmp_path / "j", 0, 100)
        assert len(journal.runs()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["j", "out.db"]


@pytest.mark.parametrize(("first_seq", "begins"), [(1, 1), (6, 1), (7, 7), (13, 13), (99, 13)])
def test_it_begins_with_the_segment_that_holds_the_event(tmp_path: Path, first_seq: int, begins: int) -> None:
    """With the run and the state before it, so that it replays alone."""
    write_journal(tmp_path / "j", events=6, parts=3)
    result = export(tmp_path / "j", tmp_path / "out.db", first_seq)
    assert (result.first_seq, result.last_seq) == (begins, 18)
    with Journal(tmp_path / "out.db") as journal:
        run, snapshot, *_ = journal.entries()
        assert isinstance(run, RunRecord)
        assert isinstance(snapshot, SnapshotRecord) and snapshot.seq == begins - 1


def test_while_the_writer_runs(tmp_path: Path) -> None:
    """A live segment is copied as it stands; the writer goes on."""
    with Watched(tmp_path / "j") as watched:
        watched.start()
        watched.append(50, actions=1)
        watched.wait_durable()
        assert export(tmp_path / "j", tmp_path / "out.db").counts.events == 50
        watched.append(50)
        watched.wait_durable()
        assert export(tmp_path / "j", tmp_path / "out.db", overwrite=True).counts.events == 100
        assert watched.troubles == []


def test_an_existing_file_stays_unless_told_otherwise(tmp_path: Path) -> None:
    write_journal(tmp_path / "j")
    (tmp_path / "out.db").write_text("precious")
    with pytest.raises(JournalError, match=r"out\.db exists"):
        export(tmp_path / "j", tmp_path / "out.db")
    assert (tmp_path / "out.db").read_text() == "precious"


def test_a_missing_segment_ends_what_is_contiguous(tmp_path: Path) -> None:
    """The default is what follows the hole; asking for more is refused with the reason."""
    write_journal(tmp_path / "j", events=6, parts=4)
    segments(tmp_path / "j")[1].unlink()
    assert export(tmp_path / "j", tmp_path / "out.db").first_seq == 13
    with pytest.raises(JournalError, match="event 3 cannot be exported: records right before event 13 are missing"):
        export(tmp_path / "j", tmp_path / "more.db", 3)
    segments(tmp_path / "j")[0].unlink()
    with pytest.raises(JournalError, match="event 3 is not kept any more; the oldest is 13"):
        export(tmp_path / "j", tmp_path / "more.db", 3)


def test_a_broken_source_gives_no_file(tmp_path: Path) -> None:
    """An export is evidence; what does not verify is refused and nothing is left behind."""
    write_journal(tmp_path / "j", parts=2)
    tamper(segments(tmp_path / "j")[0], "UPDATE event SET reason = 'somebody else' WHERE seq = 4")
    with pytest.raises(ChainBroken, match="event 4 does not match"):
        export(tmp_path / "j", tmp_path / "out.db")
    assert [path.name for path in tmp_path.iterdir()] == ["j"]


def test_an_empty_folder_and_a_target_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(JournalError, match="holds no segment"):
        export(tmp_path / "empty", tmp_path / "out.db")
    write_journal(tmp_path / "j")
    with pytest.raises(JournalError, match="nowhere"):
        export(tmp_path / "j", tmp_path / "nowhere" / "out.db")
