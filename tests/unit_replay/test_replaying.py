"""Recorded incidents fold to the same decisions; anything else is shown, field by field."""

import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from hafsm import codec
from hafsm.cli.main import main
from hafsm.core.settings import SECOND
from hafsm.core.state import initial
from hafsm.core.step import step
from journal.export import export
from journal.records import ActionRecord, EventRecord, RunRecord
from journal.writer import Writer
from replay.engine import replay
from tests.unit_core.pair import Machine, Pair, ev
from tests.unit_replay.recording import WALL, record, snapshot


@pytest.fixture(scope="module")
def incident() -> Machine:
    """Two lives of server40: checks, a power cut, a failback, a graceful stop."""
    pair = Pair().start()
    pair.a.report_checks(a31=True, a41=True)
    pair.run(12 * SECOND)
    pair.a.report_checks(a31=False)
    pair.run(5 * SECOND)
    pair.a.power_cut()
    pair.run(40 * SECOND)
    pair.a.start()
    pair.until(pair.settled)
    pair.a.fold(ev.StopRequested(at=pair.now, by="SIGTERM"))
    pair.until(lambda: bool(pair.a.exits))
    return pair.a


def run_replay(*words: str):
    return CliRunner().invoke(main, ["replay", *words])


@pytest.fixture
def file(tmp_path: Path, incident: Machine) -> Path:
    record(tmp_path / "journal", incident, snapshots=7)
    export(tmp_path / "journal", tmp_path / "incident.db")
    return tmp_path / "incident.db"


def test_an_incident_of_two_lives_is_identical(file: Path, incident: Machine) -> None:
    result = replay(file)
    assert result.identical and result.runs == 2 and result.events == len(incident.log) == result.last
    assert result.snapshots == result.last // 7
    assert result.lost == result.skipped == 0
    answer = run_replay(str(file))
    assert answer.exit_code == 0
    assert answer.output.startswith(f"identical: {result.events} events (1 to {result.last}), ")


def test_two_replays_under_different_hash_seeds_print_the_same_bytes(file: Path) -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-m", "hafsm.cli.main", "replay", str(file), "--until", "40"],
            env={"PYTHONHASHSEED": seed, "TZ": "UTC", "COLUMNS": "100"},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(outputs) == 1 and b"state after event 40" in outputs.pop()


def falsify(kind: str, old: str, new: str):
    """Change the first action of a kind, before it is chained, as another version of the code would have decided."""
    done = []

    def change(event: EventRecord, actions: list[ActionRecord]):
        for index, action in enumerate(actions):
            if action.kind == kind and old in action.payload and not done:
                done.append(action)
                actions[index] = action._replace(payload=action.payload.replace(old, new))
        return event, actions

    return change


def test_another_decision_is_shown_field_by_field(tmp_path: Path, incident: Machine) -> None:
    record(tmp_path / "j", incident, change=falsify("program_ipvs", '"scheduler":"rr"', '"scheduler":"wlc"'))
    export(tmp_path / "j", tmp_path / "x.db")
    answer = run_replay(str(tmp_path / "x.db"))
    assert answer.exit_code == 1
    lines = answer.output.splitlines()
    assert lines[0].startswith("different: event ") and "(action_finished " in lines[0]
    assert lines[1:4] == [
        "  actions[0].operations[0].service.scheduler",
        '    recorded: "wlc"',
        '    computed: "rr"',
    ]


def test_a_missing_action_another_reason_and_another_state_are_differences(tmp_path: Path, incident: Machine) -> None:
    def drop(event: EventRecord, actions: list[ActionRecord]):
        return event, [a for a in actions if a.kind != "add_address"]

    def reword(event: EventRecord, actions: list[ActionRecord]):
        return event._replace(reason=event.reason.replace("is dead", "sleeps")), actions

    for name, change, field in (("drop", drop, "actions"), ("reword", reword, "reason")):
        if name == "reword":
            change = lambda event, actions: (event._replace(reason=event.reason.replace("starts as", "is")), actions)  # noqa: E731
        record(tmp_path / name, incident, change=change)
        result = replay(next((tmp_path / name).glob("journal-*.db")))
        assert result.difference is not None and result.difference.fields[0].name == field


def test_until_a_number_and_until_a_time(file: Path) -> None:
    by_number = run_replay(str(file), "--until", "25")
    by_time = run_replay(str(file), "--until", "2023-11-14T22:13:20.000025+00:00")
    assert by_number.exit_code == by_time.exit_code == 0
    assert by_number.output == by_time.output
    assert "state after event 25" in by_number.output and "server40" in by_number.output


def test_a_time_that_is_none_is_said(file: Path) -> None:
    answer = run_replay(str(file), "--until", "teatime")
    assert answer.exit_code == 2
    assert "'teatime' is neither an event number nor a time such as 2026-11-24T03:00:00" in answer.output


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"", "empty"), (b"not a database at all, " * 40, "not"), (None, "x.db")],
    ids=["empty", "foreign", "missing"],
)
def test_what_is_no_journal_is_unreadable_in_one_line(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    if content is not None:
        (tmp_path / "x.db").write_bytes(content)
    answer = run_replay(str(tmp_path / "x.db"))
    assert answer.exit_code == 2
    assert answer.output.startswith("unreadable: ") and complaint in answer.output and answer.output.count("\n") == 1


def test_one_altered_byte_is_refused_and_the_row_is_named(file: Path) -> None:
    blob = bytearray(file.read_bytes())
    place = blob.rindex(b"SIGTERM: stopping")
    blob[place] ^= 1
    file.write_bytes(blob)
    answer = run_replay(str(file))
    assert answer.exit_code == 2
    assert "unreadable: " in answer.output and ": event " in answer.output


def waits_for(condition) -> None:
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.005)


def test_a_gap_is_told_and_folding_goes_on_at_the_next_snapshot(tmp_path: Path, incident: Machine) -> None:
    """Another process blocks the journal until the writer's queue of five overflows."""
    troubled, durable = [], [0]
    writer = Writer(
        tmp_path / "j", queue_max_events=5, on_durable=durable.append, on_trouble=lambda text: troubled.append(text)
    )
    writer.open()
    state = initial(incident.config)
    writer.start_run(RunRecord(1, 1, WALL, incident.name, "boot", "0", "", "", ""), snapshot(state))
    blocker = None
    for number, (event, _) in enumerate(incident.log[:60]):
        if number == 20:
            blocker = sqlite3.connect(next((tmp_path / "j").glob("journal-*.db")), isolation_level=None)
            blocker.execute("begin immediate")
        if number == 40 and blocker is not None:
            waits_for(lambda: troubled)
            blocker.execute("rollback")
            blocker.close()
            blocker = None
        decision = step(state, event)
        state = decision.state
        written = EventRecord(state.number, event.at, WALL, *codec.encode_event(event), None, None, decision.reason)
        actions = [ActionRecord(a.id, state.number, *codec.encode_action(a)) for a in decision.actions]
        writer.append(written, actions, urgent=True)
        if blocker is None:
            waits_for(lambda number=state.number: durable[-1] >= number)
        if writer.wants_snapshot:
            writer.snapshot(snapshot(state))
    assert writer.close(30) and troubled
    export(tmp_path / "j", tmp_path / "gap.db")
    result = replay(tmp_path / "gap.db")
    assert result.identical and result.lost > 0 and result.last == 60
    assert result.events + result.skipped + result.lost == 60
    assert "lost in gaps" in run_replay(str(tmp_path / "gap.db")).output


def test_json_tells_identity_counts_and_the_first_difference(tmp_path: Path, file: Path, incident: Machine) -> None:
    (same,) = json.loads(run_replay(str(file), "--json").output)["files"]
    assert same["identical"] is True and same["events"] == len(incident.log) and same["difference"] is None
    record(tmp_path / "j", incident, change=falsify("program_ipvs", '"scheduler":"rr"', '"scheduler":"wlc"'))
    export(tmp_path / "j", tmp_path / "x.db")
    answer = run_replay(str(tmp_path / "x.db"), "--json")
    assert answer.exit_code == 1
    (other,) = json.loads(answer.output)["files"]
    assert other["identical"] is False
    assert other["difference"]["fields"][0] == {
        "name": "actions[0].operations[0].service.scheduler",
        "recorded": '"wlc"',
        "computed": '"rr"',
    }
    (state,) = json.loads(run_replay(str(file), "--until", "25", "--json").output)["files"]
    assert state["state"]["node"] == "server40" and state["last"] == 25


def test_a_folder_is_all_of_its_segments(tmp_path: Path, incident: Machine) -> None:
    record(tmp_path / "journal", incident, snapshots=20, segment_bytes=1)
    answer = run_replay(str(tmp_path / "journal"))
    assert answer.exit_code == 0
    lines = answer.output.splitlines()
    assert len(lines) > 3 and all("identical: " in line for line in lines)
    assert run_replay(str(tmp_path)).exit_code == 2, "a folder without segments"


def test_a_difference_in_either_of_two_files_ends_with_1(tmp_path: Path, file: Path, incident: Machine) -> None:
    record(tmp_path / "j", incident, change=falsify("program_ipvs", '"scheduler":"rr"', '"scheduler":"wlc"'))
    export(tmp_path / "j", tmp_path / "x.db")
    answer = run_replay(str(file), str(tmp_path / "x.db"))
    assert answer.exit_code == 1 and "identical: " in answer.output and "different: event " in answer.output


def test_what_rests_on_the_recording_refuses_a_journal_that_is_decided_otherwise(
    tmp_path: Path, incident: Machine
) -> None:
    """`why` and --set must not explain another past than the recorded one."""

    def reword(event: EventRecord, actions: list[ActionRecord]):
        return event._replace(reason=event.reason.replace("starts as", "is")), actions

    record(tmp_path / "j", incident, change=reword)
    for words in (["why", "192.168.2.232"], ["replay", "--set", "deadtime=60"]):
        answer = CliRunner().invoke(main, [words[0], *words[1:], str(tmp_path / "j")])
        assert answer.exit_code == 2
        assert "is decided otherwise by this hafsm than it was recorded; `hafsm replay " in answer.output
        assert answer.output.count("\n") == 1
