"""Two journals on one timeline: order of cause and effect, clocks, and what only both sides show."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from hafsm.cli.main import main
from hafsm.core.actions import SendMessage
from hafsm.core.settings import MILLISECOND, SECOND
from replay.finding import FindingKind
from replay.findings import find
from replay.graph import build
from replay.history import Lost, Moment, files_of, moments
from replay.merge import Merged, MergeRefused, merge, merge_sides
from replay.side import collect
from replay.why import explain
from tests.unit_core.pair import DELAY, A, Machine, Pair, ev, group, received
from tests.unit_replay.incidents import AHEAD_NS, ALL, VIP_NAME, Incident, quiet, save
from tests.unit_replay.recording import WALL

Recorded = Callable[[str], Incident]


def merged_of(incident: Incident) -> Merged:
    return merge([files_of(incident.a), files_of(incident.b)])


def found(merged: Merged, kind: FindingKind) -> list[str]:
    return [finding.text for finding in find(merged) if finding.kind is kind]


def run(*words: str | Path):
    return CliRunner().invoke(main, ["replay", *map(str, words)])


@pytest.mark.parametrize("name", sorted(ALL))
def test_no_decision_stands_before_what_it_can_have_known_of(recorded: Recorded, name: str) -> None:
    merged = merged_of(recorded(name))
    seen = {side.node: 0 for side in merged.sides}
    other = {merged.sides[0].node: merged.sides[1].node, merged.sides[1].node: merged.sides[0].node}
    known = {side.node: [mark.seq for mark in side.marks] for side in merged.sides}
    for line in merged.lines:
        assert line.seq > seen[line.node], "each side in its own order"
        seen[line.node] = line.seq
        must = [seq for seq in known[other[line.node]] if seq <= line.follows]
        assert not must or seen[other[line.node]] >= must[-1]
    assert len(merged.lines) == sum(len(side.marks) for side in merged.sides)


@pytest.mark.parametrize("ahead_ns", [0, 3_500_000, -40 * SECOND, 7200 * SECOND])
def test_the_order_does_not_depend_on_wall_clocks_and_their_difference_is_found(tmp_path: Path, ahead_ns: int) -> None:
    merged = merged_of(save(ALL["partition"](), tmp_path, ahead_ns))
    ahead, unsure = merged.wall.ahead(WALL)
    assert abs(ahead - ahead_ns) <= unsure <= 2 * MILLISECOND, "the network's delay is 1 ms each way"
    lines = [(line.node, line.seq) for line in merged.lines]
    again = merged_of(save(ALL["partition"](), tmp_path / "again", 0))
    assert lines == [(line.node, line.seq) for line in again.lines]


def test_what_was_lost_in_a_partition_is_counted_exactly(recorded: Recorded) -> None:
    incident = recorded("partition")
    texts = found(merged_of(incident), FindingKind.LOST)
    assert len(texts) == 2
    for sender, receiver, text in (
        (incident.pair.a, incident.pair.b, next(t for t in texts if t.startswith("server40 sent"))),
        (incident.pair.b, incident.pair.a, next(t for t in texts if t.startswith("server19 sent"))),
    ):
        came = {getattr(event, "sequence", 0) for event, _ in receiver.log}
        lost = [
            action
            for _, actions in sender.log
            for action in actions
            if isinstance(action, SendMessage) and action.kind == "status" and action.sequence not in came
        ]
        assert f"sent {len(lost)} heartbeats" in text and f"{receiver.name} ran and never received them" in text


def test_one_lost_message_in_one_direction_is_found(tmp_path: Path) -> None:
    pair = quiet()
    number = pair.a.state.sequence + 3
    pair.lose = lambda message: message.kind == "NS_rexmit" or message.sequence == number
    pair.run(6 * SECOND)
    texts = found(merged_of(save(pair, tmp_path)), FindingKind.LOST)
    assert len(texts) == 1 and texts[0].startswith(
        "server40 sent 1 heartbeat, server19 ran and never received it (event"
    )


def test_a_quiet_pair_has_no_findings(tmp_path: Path) -> None:
    merged = merged_of(save(quiet(), tmp_path))
    assert find(merged) == ()


def test_the_window_in_which_both_held_the_vip(recorded: Recorded) -> None:
    """server19 takes over 30 s into the partition; after 45 s + settling only server40 goes on."""
    (text,) = found(merged_of(recorded("partition")), FindingKind.DOUBLE)
    assert text == f"server40 and server19 both held {VIP_NAME} for 16.0 s ± 1 ms"


def test_after_a_power_cut_the_lease_bounds_what_may_have_been(recorded: Recorded) -> None:
    (text,) = found(merged_of(recorded("power_cut")), FindingKind.DOUBLE)
    assert text.startswith(f"server40 and server19 may both have held {VIP_NAME} for at most 4 ms ± 1 ms: ")


def test_a_time_without_a_holder_is_measured(tmp_path: Path) -> None:
    """A director stops and its goodbye is lost: the other one waits for its deadtime."""
    pair = quiet()
    pair.lend = False
    pair.run(5 * SECOND)
    pair.lose = lambda message: message.kind == "shutdone"
    pair.a.fold(ev.StopRequested(at=pair.now, by="SIGTERM"))
    pair.run(60 * SECOND)
    (text,) = found(merged_of(save(pair, tmp_path)), FindingKind.NOBODY)
    assert text == f"nobody held {VIP_NAME} for 29.9 s ± 1 ms, between server40 and server19"


def test_a_hand_over_without_a_gap_is_no_conflict(recorded: Recorded) -> None:
    merged = merged_of(recorded("operator_standby"))
    (text,) = found(merged, FindingKind.SHARED)
    assert re.fullmatch(
        r"server40 and server19 both served .* for \d+ ms ± 1 ms while it was handed over, as agreed", text
    )
    assert found(merged, FindingKind.DOUBLE) == []


def test_a_hand_over_says_whom_it_waited_for_and_which_script(recorded: Recorded) -> None:
    (text,) = found(merged_of(recorded("slow_script")), FindingKind.HANDOVER)
    assert "took 8.0 s, most of it waiting for server40" in text
    assert "8.0 s until server40 had stopped its groups (httpd stop: done took 8.0 s)" in text


def test_a_hand_over_whose_offer_was_lost_says_so(recorded: Recorded) -> None:
    (text,) = found(merged_of(recorded("lost_offer")), FindingKind.HANDOVER)
    assert text.endswith("came to nothing after 10.0 s: server19 never received the offer")


def test_what_a_frozen_director_did_not_hear_is_told_from_loss(recorded: Recorded) -> None:
    texts = found(merged_of(recorded("frozen_director")), FindingKind.LOST)
    assert len(texts) == 1 and "server40 stood still and never received them" in texts[0]


def test_the_command_verifies_both_and_prints_one_timeline(recorded: Recorded) -> None:
    incident = recorded("partition")
    answer = run(incident.a, incident.b)
    assert answer.exit_code == 0, answer.output
    assert answer.output.count("identical: ") == 2
    assert f"clocks: server19's is {AHEAD_NS / 1e6:.3f} ms ahead of server40's, ± 1.000 ms" in answer.output
    assert "what only both journals show" in answer.output
    document = json.loads(run(incident.a, incident.b, "--json").output)
    assert document["pair"]["directors"] == ["server40", "server19"]
    assert document["pair"]["clock"]["second_ahead_ns"] == AHEAD_NS
    assert {finding["kind"] for finding in document["pair"]["findings"]} == {"lost messages", "two holders"}


def test_two_journals_of_one_director_are_refused(recorded: Recorded) -> None:
    incident = recorded("partition")
    answer = run(incident.a, incident.a)
    assert answer.exit_code == 2 and "are both journals of server40" in answer.output


def test_journals_that_never_met_are_refused(tmp_path: Path) -> None:
    """The heartbeat's number is not the one that the sender's journal has."""
    first = save(Pair().start(), tmp_path / "first")
    other = Pair()
    other.b.start()
    other.run(7 * SECOND)
    other.a.start()
    other.until(other.settled)
    second = save(other, tmp_path / "second")
    with pytest.raises(MergeRefused, match="they are no pair"):
        merge([files_of(first.a), files_of(second.b)])
    answer = run(first.a, second.b)
    assert answer.exit_code == 2 and answer.output.splitlines()[-1].startswith("unreadable: event ")


def test_what_came_while_the_journal_had_a_gap_is_not_called_lost(recorded: Recorded) -> None:
    """The receiver could not keep 10 s of events: that they are not there says nothing about the network."""
    incident = recorded("operator_standby")
    history = list(moments(files_of(incident.b)))
    first = next(i for i, item in enumerate(history) if isinstance(item, Moment) and item.wall_ns > WALL + 5 * SECOND)
    after = next(i for i, item in enumerate(history) if isinstance(item, Moment) and item.wall_ns > WALL + 15 * SECOND)
    cut = history[first].wall_ns, history[after].wall_ns
    sender = collect(moments(files_of(incident.a)))
    kept = [*history[:first], *history[after:]]
    silent = merge_sides(sender, collect(kept))
    told = merge_sides(sender, collect([*history[:first], Lost(0, after - first, "full", *cut), *history[after:]]))
    assert len(found(silent, FindingKind.LOST)) == 1
    assert found(told, FindingKind.LOST) == [] and told.sides[1].lost == after - first


def two_links(cut: set[int]) -> Pair:
    """A pair on eth0 and eth1; the links in `cut` carry nothing."""
    pair = Pair(links=("eth0", "eth1"))

    def carry(sender: Machine, message: SendMessage) -> None:
        receiver = pair.other(sender)
        for link in (0, 1):
            if link not in cut:
                pair.after(
                    DELAY + link,
                    lambda link=link: receiver.fold(replace(received(sender.name, message, pair.now), link=link)),
                )

    pair.carry = carry  # type: ignore[method-assign]
    return pair.start()


def test_a_link_that_is_dead_while_another_lives(tmp_path: Path) -> None:
    """Each side alone says since when; both together, how many messages it lost."""
    cut: set[int] = set()
    pair = two_links(cut)
    pair.run(20 * SECOND)
    cut.add(1)
    pair.run(45 * SECOND)
    cut.clear()
    pair.run(4 * SECOND)
    incident = save(pair, tmp_path)
    told = explain(build(moments(files_of(incident.b))), "eth1", WALL + 60 * SECOND)
    assert re.fullmatch(r"no heartbeat of server40 came on eth1 for 3[01]\.\d s, on another did", told.change.text)
    evidence = told.change.evidence
    assert evidence is not None and evidence.absent[0].missed in (15, 16)
    texts = found(merged_of(incident), FindingKind.LOST)
    assert len(texts) == 2 and all("on eth1, came on another link" in text for text in texts)
    assert any(re.match(r"server40 sent 2[23] heartbeats", text) for text in texts)
    assert (
        "heartbeats of server40 come on eth1 again" in explain(build(moments(files_of(incident.b))), "eth1").change.text
    )


def test_all_links_are_named_when_all_are_dead(tmp_path: Path) -> None:
    cut: set[int] = set()
    pair = two_links(cut)
    pair.run(20 * SECOND)
    cut.add(1)
    pair.run(10 * SECOND)
    cut.add(0)
    pair.run(35 * SECOND)
    told = explain(build(moments(files_of(save(pair, tmp_path).b))), "server40")
    silence = told.chain[1]
    assert silence.text == "no heartbeat of server40 came on eth0 or eth1 for 30.0 s (deadtime 30.0 s)"
    assert silence.evidence is not None
    assert [(absent.what[-4:], absent.missed) for absent in silence.evidence.absent] == [("eth0", 15), ("eth1", 20)]
    assert {cause.text for cause in told.chain[2:]} == {
        "last heartbeat of server40 on eth0",
        "last heartbeat of server40 on eth1",
    }


def test_a_hand_over_with_nothing_to_stop_is_a_hand_over(tmp_path: Path) -> None:
    """Without scripts the giver agrees and is ready in one step."""
    plain = group(A)
    bare = replace(plain, resources=tuple(r for r in plain.resources if not r.script))
    pair = quiet(groups=(bare,))
    pair.a.fold(ev.StandbyRequested(at=pair.now, hold="all", by="alice"))
    pair.run(5 * SECOND)
    (text,) = found(merged_of(save(pair, tmp_path)), FindingKind.HANDOVER)
    assert "most of it waiting for server" in text and "came to nothing" not in text
