"""`hafsm why`: from a change back to its evidence, for incidents whose story is known."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from hafsm.cli.main import main
from hafsm.core.settings import SECOND, RealVerb
from journal.writer import Writer
from replay import words
from replay.causes import Graph, Kind
from replay.graph import build
from replay.history import Lost, Moment, files_of, moments
from replay.why import Answer, explain, search
from tests.unit_core.pair import Pair, ev
from tests.unit_replay.incidents import ALL, VIP, VIP_NAME, Incident, checks, quiet, save, say
from tests.unit_replay.recording import WALL, record, true_clock

Recorded = Callable[[str], Incident]


def graph_of(path: Path) -> Graph:
    return build(moments(files_of(path)))


def answer(path: Path, subject: str, at: int | None = None) -> Answer:
    return explain(graph_of(path), subject, at)


def texts(told: Answer) -> list[str]:
    return [cause.text for cause in told.chain]


def run(*words_: str | Path):
    return CliRunner().invoke(main, ["why", *map(str, words_)])


def at_second(second: float) -> int:
    """Wall time so many seconds after the pair began."""
    return WALL + int(second * SECOND)


def test_a_power_cut_is_traced_to_the_last_heartbeat_and_what_was_fine_meanwhile(recorded: Recorded) -> None:
    told = answer(recorded("power_cut").b, VIP)
    added, taken, dead, silent, last = texts(told)
    assert added.startswith(f"VIP {VIP_NAME} was added and announced on server19, 1 ms after")
    assert taken == f"server19 takes foreign resources ({VIP_NAME})"
    assert dead == "server40 counts as dead"
    assert silent == "no heartbeat of server40 came on eth0 for 30.0 s (deadtime 30.0 s)"
    assert last == "last heartbeat of server40 on eth0"
    evidence = told.chain[3].evidence
    assert evidence is not None
    (absent,) = evidence.absent
    assert absent.missed == 15 and absent.period_ns == 2 * SECOND and absent.silent_ns == 30 * SECOND
    assert absent.last_seq == told.chain[4].seq
    (ping,) = evidence.present
    assert ping.what == "answer of ping node 192.168.2.251" and ping.count == 15
    assert evidence.checks_passed == 60 and evidence.checks_failed == 0 and evidence.reals_up == 2
    assert list(words.own(evidence)) == ["this director was on time: deadlines passed at most 0 ms late"]


def test_the_number_of_missing_heartbeats_is_the_number_that_was_sent(recorded: Recorded) -> None:
    """Only the sender knows how many there were: the estimate of the receiver alone must come out the same."""
    incident = recorded("partition")
    told = answer(incident.b, "server40", at_second(60))
    silence = next(cause for cause in told.chain if cause.kind is Kind.SILENCE)
    assert silence.evidence is not None
    sent = [
        action
        for event, actions in incident.pair.a.log
        for action in actions
        if getattr(action, "kind", "") == "status" and silence.at - 30 * SECOND < event.at <= silence.at
    ]
    assert silence.evidence.absent[0].missed == len(sent) == 15


def test_a_lost_ping_node_moves_the_groups_and_the_links_were_fine(recorded: Recorded) -> None:
    told = answer(recorded("lost_ping").a, VIP)
    assert any(text.startswith("server40 plans to give local resources away: server19 sees 1") for text in texts(told))
    silence = next(cause for cause in told.chain if cause.kind is Kind.SILENCE)
    assert silence.text.startswith("ping node 192.168.2.251 did not answer for 30.0 s (deadping")
    assert silence.evidence is not None and silence.evidence.present[0].what == "heartbeat of server19 on eth0"
    assert silence.evidence.present[0].count == 15
    assert answer(recorded("lost_ping").a, "192.168.2.251").change == silence


def test_the_story_of_a_vip_does_not_list_real_servers(recorded: Recorded) -> None:
    """Thousands of them may be loaded and unloaded with it."""
    for name in sorted(ALL):
        for path in (recorded(name).a, recorded(name).b):
            assert not any("real server" in text for text in texts(answer(path, VIP)))


def test_a_failing_real_server_shows_every_failed_check_and_the_last_good_one(recorded: Recorded) -> None:
    incident = recorded("failing_real")
    told = answer(incident.a, "192.168.2.31", at_second(26))
    assert "has no entry in server40's IPVS table, had weight 1" in told.change.text
    check = next(cause for cause in told.chain if cause.kind is Kind.CHECK)
    assert check.text == (
        "3 checks in a row failed for 192.168.2.31:80 (failurecount 3): connection refused, after 0.4 ms"
    )
    assert check.evidence is not None
    assert [failure.before_ns for failure in check.evidence.failures] == [2 * SECOND, SECOND, 0]
    assert check.evidence.passed_ns == 3 * SECOND
    assert (check.evidence.reals_up, check.evidence.reals) == (1, 1)
    assert "the checker was on time" in "\n".join(words.own(check.evidence))
    assert not any("192.168.2.41" in cause.text for cause in told.chain), "the other real server is no cause"
    assert "has weight 1" in answer(incident.a, "192.168.2.31:80").change.text, "later it was added again"


def test_a_late_checker_is_told_from_a_slow_real_server(recorded: Recorded) -> None:
    told = answer(recorded("with_late_checks").a, "192.168.2.31:80")
    evidence = next(cause.evidence for cause in told.chain if cause.kind is Kind.CHECK)
    assert evidence is not None
    assert "the checker was late: this result came 10.0 s after the one before (checkinterval 1.0 s)" in list(
        words.own(evidence)
    )


def test_a_frozen_director_is_told_that_it_stood_still(recorded: Recorded) -> None:
    graph = graph_of(recorded("frozen_director").a)
    told = explain(graph, VIP, at_second(60.3))
    assert "server40 stood still for 40.0 s (its VIPs' lease is 30.0 s): no event was handled meanwhile" in texts(told)
    failback = texts(explain(graph, VIP))
    assert any("hafsm 0 started on server40, generation 2" in text for text in failback)
    assert any("stood still for 40.0 s" in text for text in failback), "why it had to be given back at all"


def test_a_life_that_ended_without_a_word_is_said(recorded: Recorded) -> None:
    told = answer(recorded("power_cut_and_back").a, VIP)
    assert any(
        "the life before ended without a word" in text and "killed, or the machine lost power" in text
        for text in texts(told)
    )


def test_late_loop_slow_journal_and_refused_datagrams_stand_beside_the_silence(recorded: Recorded) -> None:
    told = answer(recorded("slow_disk").b, "server40")
    evidence = next(cause.evidence for cause in told.chain if cause.kind is Kind.SILENCE)
    assert evidence is not None
    assert evidence.refused == (("bad_digest", 7),)
    own = "\n".join(words.own(evidence))
    assert "this director's loop was late" in own and "the journal took 250 ms" in own
    assert "datagrams came but were refused: bad_digest 7" in list(words.meanwhile(evidence))


def test_an_operator_is_named(recorded: Recorded) -> None:
    assert texts(answer(recorded("operator_standby").a, VIP))[-1] == "alice asked server40 to give all resources away"


def test_a_graceful_stop_is_no_silence(recorded: Recorded) -> None:
    incident = recorded("stopped")
    told = answer(incident.b, VIP)
    assert "server40 was told to stop: SIGTERM" in texts(answer(incident.a, VIP))
    assert "server40 was told to stop: SIGTERM" in run(VIP, incident.b, incident.a).output.split("\n\n")[0]
    assert "server40 is gone: it said so itself" in texts(answer(incident.b, "server40"))
    assert not any(cause.kind is Kind.SILENCE for cause in told.everything)


def test_a_daemon_that_crashed_is_the_cause_of_its_next_start(tmp_path: Path) -> None:
    """The event on which the core failed is the last of that life."""
    from hafsm.core.step import step
    from journal.records import EventRecord

    pair = quiet()
    pair.a.log.append((ev.DeadlinePassed(at=1), ()))  # time runs backwards: an invariant

    def crash(event: EventRecord, actions: list):  # type: ignore[type-arg]
        return event, actions

    try:
        step(pair.a.state, ev.DeadlinePassed(at=1))
    except Exception as error:
        reason = f"crashed: {type(error).__name__}: {error}"
    record(tmp_path / "j", pair.a, clock=true_clock, crash=reason)
    pair.a.log.pop()
    graph = build(moments(files_of(tmp_path / "j")))
    told = explain(graph, "server40")
    assert told.change.text.startswith("the daemon on server40 crashed: InvariantError")


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_chain_ends_in_facts_from_outside(recorded: Recorded, name: str) -> None:
    """No decision without a cause: walking back from any change ends at inputs, silences or checks, never before."""
    incident = recorded(name)
    for path in (incident.a, incident.b):
        graph = graph_of(path)
        assert graph.nodes
        for node in graph.nodes:
            assert all(cause < node.id for cause in node.causes)
            if node.kind in (Kind.DECISION, Kind.ACTION, Kind.RESULT):
                ends = [cause for cause in graph.closure(node) if not cause.causes]
                outside = (Kind.INPUT, Kind.SILENCE, Kind.CHECK, Kind.GAP)
                assert ends and all(end.kind in outside for end in ends), (node, ends)


def test_every_action_on_a_vip_is_in_the_graph(recorded: Recorded) -> None:
    """Completeness: each AddAddress and RemoveAddress of the log has a node that names it."""
    incident = recorded("power_cut_and_back")
    graph = graph_of(incident.b)
    decided = sum(
        type(action).__name__ in ("AddAddress", "RemoveAddress")
        for _, actions in incident.pair.b.log
        for action in actions
    )
    told = [node for node in graph.nodes if node.kind is Kind.ACTION and node.text.startswith("VIP ")]
    assert len(told) == decided > 1


# ---- operators, maintenance files, hands

REAL = "real server 192.168.2.31:80 of tcp:192.168.2.232:80"
R31 = "192.168.2.31:80 of tcp:192.168.2.232:80"


def test_a_drain_is_explained_by_who_said_so_and_its_end_by_the_last_connection(recorded: Recorded) -> None:
    told = texts(answer(recorded("drained").a, "192.168.2.31"))
    assert told == [
        f"{REAL} has no entry in server40's IPVS table, had weight 0",
        f"{REAL} is removed: drained, its entry is deleted",
        f"no connection is left on {R31}",
        f"{REAL}: drained by alice (new disk): quiesced, weight 0, connections finish",
        f"alice asked server40 to drain {R31} (new disk)",
    ]


def test_a_drain_said_on_the_other_director_names_that_director_and_when(recorded: Recorded) -> None:
    told = texts(answer(recorded("drained_on_the_other").a, "192.168.2.31"))
    assert told == [
        f"{REAL} has weight 0 in server40's IPVS table, had weight 1",
        f"{REAL}: drained by alice (new disk): quiesced, weight 0, connections finish",
        f"server19 told: {R31} drained by alice (new disk) on server19 at 2023-11-14 23:30:00 UTC",
    ]
    incident = recorded("drained_on_the_other")
    both = run("192.168.2.31", incident.a, incident.b).output
    assert "alice asked server19 to drain" in both, "with both journals the operator's own command is found"


def test_a_drain_of_an_earlier_life_is_remembered_and_holds_after_a_take_over(recorded: Recorded) -> None:
    incident = recorded("drained_before_a_restart")
    told = texts(answer(incident.a, "192.168.2.31"))
    assert told[0] == f"{REAL}: drained by alice (new disk) on server19, remembered from an earlier life"
    taken = next(
        node
        for node in graph_of(incident.b).nodes
        if node.text == f"{REAL} has weight 0 in server19's IPVS table, had no entry"
    )
    behind = [node.text for node in graph_of(incident.b).closure(taken)]
    assert f"alice asked server19 to drain {R31} (new disk)" in behind
    assert "server40 counts as dead" in behind, "and why the table is there at all"


def test_every_word_of_an_operator_is_a_change_of_its_own(recorded: Recorded) -> None:
    graph = graph_of(recorded("every_word").a)
    changes = [node.text for node in graph.nodes if node.text.startswith(REAL) and "alice" in node.text]
    assert changes == [
        f"{REAL}: quiesced by alice: quiesced, weight 0, connections finish",
        f"{REAL}: enabled by alice: up, gets its weight",
        f"{REAL}: weight 5 set by alice: weight 5 instead of 1",
        f"{REAL}: enabled by alice: weight 1 again, as in the file",
    ]
    asked = [node.text for node in graph.nodes if node.text.startswith("alice asked")]
    assert asked[2] == f"alice asked server40 to give weight 5 to {R31}" and len(asked) == 4
    assert texts(explain(graph, "192.168.2.31"))[0] == f"{REAL} has weight 1 in server40's IPVS table, had weight 5"


def test_maintenance_is_explained_by_its_file_and_the_return_by_file_and_check(recorded: Recorded) -> None:
    told = texts(answer(recorded("in_maintenance").a, "192.168.2.31"))
    assert told == [
        f"{REAL} has weight 1 in server40's IPVS table, had no entry",
        f"{REAL} is up: gets its weight",
        "the check of 192.168.2.31:80 passed in 0.4 ms",
        f"{REAL}: no longer in maintenance (file web1.example.com): stays removed",
        "server40's maintenance folder: file web1.example.com is gone",
        f"{REAL}: in maintenance (file web1.example.com): removed, its entry is deleted",
        "server40's maintenance folder: file web1.example.com came",
    ]


def test_a_later_failure_is_not_blamed_on_an_operator_who_was_done(tmp_path: Path) -> None:
    pair = quiet()
    say(pair.a, RealVerb.DRAIN)
    checks(pair, 2)
    say(pair.a, RealVerb.ENABLE)
    checks(pair, 2)
    checks(pair, 2, a31=False, a41=True)
    told = answer(save(pair, tmp_path).a, "192.168.2.31")
    assert told.change.text == f"{REAL} has no entry in server40's IPVS table, had weight 1"
    assert not any("alice" in node.text for node in told.everything)


def test_a_weight_set_by_hand_is_told_with_what_it_was_put_back_to(recorded: Recorded) -> None:
    told = texts(answer(recorded("weight_set_by_hand").a, "192.168.2.31"))
    assert told == [
        f"{REAL} has weight 1 in server40's IPVS table, had weight 9",
        f"{REAL} has weight 9 in server40's IPVS table, had weight 1",
        "server40's IPVS table was changed by somebody else, not through hafsm: "
        f"{R31} had weight 9 instead of weight 1",
    ]


def test_a_lease_that_nobody_could_renew_is_the_cause_of_the_loss(recorded: Recorded) -> None:
    told = answer(recorded("lapsed").a, VIP)
    assert texts(told)[:3] == [
        f"server40 gives up local resources ({VIP_NAME})",
        f"server40 could not renew the lease of {VIP_NAME} for 20.0 s (lease 20.0 s): its kernel has dropped them",
        f"renewing the lease of {VIP_NAME} failed on server40 (refused by the test)",
    ]


def test_a_reload_is_the_cause_of_what_it_changed_and_no_more(recorded: Recorded) -> None:
    graph = graph_of(recorded("reloaded").a)
    read = "ldirectord.cf was read again: 1 virtual services"
    assert texts(explain(graph, "192.168.2.31"))[1:] == [f"{REAL} is no longer configured (it was up)", read]
    weight = next(node for node in graph.nodes if "had weight 1" in node.text and "has weight 3" in node.text)
    assert read in [node.text for node in graph.closure(weight)]
    command = next(node for node in graph.nodes if node.text.startswith("fallbackcommand start of"))
    assert any("the check failed for 192.168.2.41:80" in node.text for node in graph.closure(command))


# ---- the command


def test_the_first_screen_is_the_answer(recorded: Recorded) -> None:
    result = run(VIP, recorded("power_cut").b)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert len(lines) <= 24
    assert lines[0].startswith(f"VIP {VIP_NAME} was added and announced on server19")
    assert any("missing" in line and "15 did not come" in line for line in lines)
    full = run(VIP, recorded("power_cut").b, "--full").output
    assert "recorded: server40 is dead: nothing on eth0 for 30.0 s (deadtime 30.0 s); taking over" in full


def test_json_says_the_same(recorded: Recorded) -> None:
    document = json.loads(run(VIP, recorded("power_cut").b, "--json").output)
    (told,) = document["answers"]
    assert told["director"] == "server19" and told["subject"]["topic"] == "VIP"
    assert [cause["text"] for cause in told["chain"]] == texts(answer(recorded("power_cut").b, VIP))
    assert any("15 did not come" in line for cause in told["chain"] for line in cause.get("missing", ()))


def test_at_a_time_the_change_before_it_is_explained(recorded: Recorded) -> None:
    output = run(VIP, recorded("power_cut_and_back").b, "--at", "2023-11-14T22:14:12+00:00").output
    assert output.startswith(f"VIP {VIP_NAME} was added and announced on server19")
    assert "failback" not in output
    latest = run(VIP, recorded("power_cut_and_back").b).output
    assert "auto_failback on: server40 is stable, so its groups go home" in latest


def test_with_both_journals_the_other_sides_reason_is_told(recorded: Recorded) -> None:
    incident = recorded("operator_standby")
    output = run(VIP, incident.b, incident.a).output
    first = output.split("\n\n")[0]
    assert "and on server40, by its own clock, because" in first
    assert "alice asked server40 to give all resources away" in first
    assert re.search(r"hand-over of server40's local resources to server19 took \d+ ms", output)


def test_an_unknown_name_suggests_a_near_one_and_ends_with_1(recorded: Recorded) -> None:
    result = run("192.168.2.23", recorded("power_cut").b)
    assert result.exit_code == 1
    assert "is no VIP, real server or director of this journal; did you mean 192.168.2.232" in result.output


def test_a_subject_that_did_not_change_ends_with_1(recorded: Recorded) -> None:
    result = run(VIP, recorded("power_cut").b, "--at", "2001-01-01")
    assert result.exit_code == 1 and "did not change in the events 1 to" in result.output


@pytest.mark.parametrize("arguments", [["a.db", "b.db", "c.db"], ["--at", "teatime", "a.db"]])
def test_misuse_ends_with_2(arguments: list[str]) -> None:
    result = run(VIP, *arguments)
    assert result.exit_code == 2 and "Usage:" in result.output


def test_a_file_that_is_no_journal_ends_with_2_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"no database " * 100)
    result = run(VIP, tmp_path / "x.db")
    assert result.exit_code == 2
    assert result.output.startswith("unreadable: ") and result.output.count("\n") == 1


def test_a_folder_is_read_from_its_newest_segments(tmp_path: Path) -> None:
    """The answer stands in the last segment; an altered first one is never opened."""
    pair = Pair().start()
    pair.run(20 * SECOND)
    pair.a.power_cut()
    pair.run(120 * SECOND)
    for failed in range(6):
        pair.b.report_checks(a31=bool(failed % 2), a41=True)
        pair.run(SECOND)
    folder = record(tmp_path / "j", pair.b, clock=true_clock, snapshots=20, segment_bytes=1)
    files = files_of(folder)
    assert len(files) > 5
    told, _ = search(files, "192.168.2.31")
    assert told.first > 60 and told.chain[-1].kind is Kind.CHECK
    files[0].write_bytes(b"")
    result = run("192.168.2.31", folder)
    assert result.exit_code == 0 and "192.168.2.31:80" in result.output
    assert run("server40", folder, "--at", "2023-11-14T22:13:21+00:00").exit_code == 2, "that needs the first segment"


def test_the_same_bytes_under_every_hash_seed(recorded: Recorded) -> None:
    incident = recorded("partition")
    outputs = {
        subprocess.run(
            [sys.executable, "-m", "hafsm.cli.main", "why", VIP, str(incident.a), str(incident.b), "--full"],
            env={"PYTHONHASHSEED": seed, "TZ": "UTC", "COLUMNS": "100"},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(outputs) == 1 and b"what only both journals show" in outputs.pop()


def test_the_incident_is_recorded_as_it_happened(tmp_path: Path) -> None:
    """Journals of several lives count on; the recording must not invent another past."""
    incident = save(ALL["frozen_director"](), tmp_path)
    graph = graph_of(incident.a)
    assert graph.last == len(incident.pair.a.log)


def test_a_journal_that_is_being_written_is_read(tmp_path: Path) -> None:
    """The daemon holds the folder's lock and its write-ahead log; asking takes nothing from it."""
    pair = quiet()
    pair.a.power_cut()
    pair.run(40 * SECOND)
    folder = record(tmp_path / "j", pair.b, clock=true_clock)
    writer = Writer(folder, on_durable=lambda seq: None, on_trouble=lambda text: None)
    writer.open()
    try:
        result = run(VIP, folder)
        assert result.exit_code == 0 and "server40 counts as dead" in result.output
    finally:
        assert writer.close(30)


def test_a_file_that_begins_in_the_middle_of_a_life_says_where_it_cannot_look(tmp_path: Path) -> None:
    pair = quiet()
    folder = record(tmp_path / "j", pair.a, clock=true_clock, snapshots=20, segment_bytes=1)
    last = files_of(folder)[-1]
    graph = graph_of(last)
    assert graph.nodes[0].kind is Kind.EDGE
    told = run("server40", last)
    assert told.exit_code == 1 and "did not change in the events" in told.output


def test_a_gap_is_a_cause_of_its_own(recorded: Recorded) -> None:
    """Events that a full disk could not keep: what followed from them is not explained by what stands before."""
    history = list(moments(files_of(recorded("power_cut").b)))
    dead = next(i for i, item in enumerate(history) if isinstance(item, Moment) and "is dead" in item.reason)
    wall = history[dead].wall_ns
    graph = build([*history[: dead - 3], Lost(dead - 4, 4, "the disk was full", wall, wall), *history[dead + 1 :]])
    told = explain(graph, VIP)
    assert graph.lost == told.lost == 4
    assert told.chain[-1].kind is Kind.GAP and "the disk was full" in told.chain[-1].text


def test_a_vip_and_a_table_that_somebody_else_changed_are_said_to_be(tmp_path: Path) -> None:
    pair = quiet()
    pair.a.addresses.clear()
    pair.a.table = ()
    pair.run(15 * SECOND)
    graph = graph_of(save(pair, tmp_path).a)
    gone = f"VIP {VIP_NAME} was gone from server40's kernel: somebody removed it, or its lease ended"
    told = explain(graph, VIP)
    assert "was added and announced on server40" in told.change.text and gone in texts(told)
    table = texts(explain(graph, "192.168.2.31:80"))
    assert "has weight 1" in table[0]
    changed = "server40's IPVS table was changed by somebody else, not through hafsm: 192.168.2.31:80 of"
    assert any(text.startswith(changed) for text in table)
