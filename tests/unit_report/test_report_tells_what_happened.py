"""The report as a value: its sentences, its lanes, its decisions with their causes, and what it leaves out."""

from __future__ import annotations

from itertools import pairwise

import pytest

import replay.report as subject
from hafsm.core.settings import SECOND
from replay.findings import find
from replay.graph import build
from replay.history import Moment, moments
from replay.holding import Holdings
from replay.merge import DRIFTED_NS, Bound, Clock, MergeRefused
from replay.report import NothingThen, Report, Weight, make
from replay.report_lanes import STRETCHES_DRAWN, Lane, Mood, Stretch, within
from replay.subjects import Subject, Topic, node
from tests.unit_replay.incidents import ALL, Incident
from tests.unit_report.conftest import Recorded, Reported


def lane(report: Report, topic: Topic, name: str, seen_by: str) -> Lane:
    found = [
        one
        for one in report.lanes
        if one.subject.topic is topic and one.subject.name.startswith(name) and one.seen_by == seen_by
    ]
    assert len(found) == 1, f"{len(found)} lanes"
    return found[0]


def words(one: Lane) -> list[str]:
    return [stretch.word for stretch in one.stretches]


def sentences_of(incident: Incident) -> set[str]:
    """Everything that was recorded, that the graphs of causes say, and that both journals show."""
    known: set[str] = set()
    for file in (incident.a, incident.b):
        known |= {item.reason for item in moments([file]) if isinstance(item, Moment)}
        known |= {cause.text for cause in build(moments([file])).nodes}
    known |= {finding.text for finding in find(subject.merge([[incident.a], [incident.b]]))}
    return known


@pytest.mark.parametrize("name", sorted(ALL))
def test_no_sentence_is_invented(name: str, recorded: Recorded, reported: Reported) -> None:
    known = sentences_of(recorded(name))
    report = reported(name)
    assert {sentence.text for sentence in report.story} <= known
    assert {decision.text for decision in report.decisions} <= known
    assert all(cause.text in known for d in report.decisions for cause in (*d.causes, *d.beyond))
    assert report.headline is None or report.headline.text in known


@pytest.mark.parametrize("name", sorted(ALL))
def test_lanes_never_run_backwards_or_overlap_themselves(name: str, reported: Reported) -> None:
    for one in reported(name).lanes:
        assert all(stretch.wall_ns <= stretch.until_wall_ns for stretch in one.stretches), one.subject
        if one.subject.topic is not Topic.VIP:
            assert all(a.until_wall_ns <= b.wall_ns for a, b in pairwise(one.stretches)), one.subject


@pytest.mark.parametrize(
    ("name", "headline"),
    [
        ("power_cut", "server40 is dead: nothing on eth0 for 30.0 s (deadtime 30.0 s); taking over foreign resources"),
        ("failing_real", "192.168.2.31:80 of tcp:192.168.2.232:80 is removed: 3 checks in a row failed"),
        ("operator_standby", "standby all asked by alice: offering local resources to server19"),
        ("frozen_director", "server40 is dead: nothing on eth0"),
    ],
)
def test_the_headline_is_the_answer(name: str, headline: str, reported: Reported) -> None:
    report = reported(name)
    assert report.headline is not None and headline in report.headline.text
    assert report.decisions[report.headline.decision - 1].text == report.headline.text


def between(recorded: Recorded, first_s: int, last_s: int) -> Report:
    """server19's journal of a power cut, some seconds of it."""
    file = recorded("power_cut_and_back").b
    begin = make([[file]]).from_ns
    return make([[file]], begin + first_s * SECOND, begin + last_s * SECOND)


def test_a_calm_time_has_no_trouble(recorded: Recorded) -> None:
    calm = between(recorded, 0, 25)
    assert calm.decisions and not [d for d in calm.decisions if d.weight is Weight.TROUBLE]


def test_a_power_cut_is_seen_in_the_lanes(reported: Reported) -> None:
    report = reported("power_cut_and_back")
    assert words(lane(report, Topic.NODE, "server40", "server40"))[-4:-1] == ["not running", "init", "standby"]
    assert words(lane(report, Topic.NODE, "server40", "server19"))[1:3] == ["active", "dead"]
    assert words(lane(report, Topic.LINK, "eth0", "server19")) == ["not heard yet", "heard", "silent", "heard"]
    held = lane(report, Topic.VIP, "192.168.2.232", "server40").stretches
    assert [stretch.word for stretch in held[:2]] == ["held", "may be held"]
    took = lane(report, Topic.VIP, "192.168.2.232", "server19").stretches[0]
    assert abs(took.wall_ns - held[1].until_wall_ns) < SECOND, "the lease ends when the other one takes over"


def test_a_failing_real_server_is_seen_by_both(reported: Reported) -> None:
    report = reported("failing_real")
    for seen_by in ("server40", "server19"):
        one = lane(report, Topic.REAL, "192.168.2.31:80", seen_by)
        assert words(one) == ["not in the table", "up", "removed", "up"]
        assert [s.mood for s in one.stretches] == [Mood.UNKNOWN, Mood.GOOD, Mood.BAD, Mood.GOOD]


def test_each_decision_has_its_causes_and_what_the_other_side_knew(reported: Reported) -> None:
    report = reported("power_cut_and_back")
    dead = next(d for d in report.decisions if d.text.startswith("server40 is dead"))
    assert (dead.label, dead.weight) == ("silence", Weight.TROUBLE)
    assert "last heartbeat of server40 on eth0" in [cause.text for cause in dead.causes]
    assert any(cause.evidence is not None for cause in dead.causes)
    home = next(d for d in report.decisions if d.text.startswith("auto_failback on"))
    assert any("started on server40, generation 2" in cause.text for cause in home.beyond)
    assert all(cause.seq <= home.seq for cause in home.causes)


def test_decisions_stand_in_the_order_of_cause_and_effect(reported: Reported) -> None:
    report = reported("power_cut_and_back")
    texts = [decision.text for decision in report.decisions]
    offered = next(i for i, text in enumerate(texts) if text.startswith("auto_failback on"))
    agreed = next(i for i, text in enumerate(texts) if text == "server19 gives local resources to this node")
    assert offered < agreed


def test_what_was_decided_again_and_again_is_told_once_and_counted(reported: Reported) -> None:
    decisions = reported("failing_real").decisions
    story, headline, untold = subject._story(decisions * 3, ())
    assert [sentence.again for sentence in story] == [2], "both directors decided it three times each"
    assert headline is not None and untold == 0
    assert [sentence.again for sentence in reported("failing_real").story] == [0]


def test_one_journal_alone_makes_a_report(reported: Reported) -> None:
    report = reported("power_cut", "b")
    assert report.merged is None and report.findings == ()
    assert {one.seen_by for one in report.lanes} == {"server19"}
    assert all(decision.beyond == () for decision in report.decisions)


def test_times_bound_what_is_told_and_not_its_causes(recorded: Recorded, reported: Reported) -> None:
    whole = reported("power_cut_and_back", "b")
    report = between(recorded, 45, 55)
    assert report.from_ns == whole.from_ns + 45 * SECOND
    assert 0 <= whole.from_ns + 55 * SECOND - report.until_ns < 5 * SECOND
    assert 0 < len(report.decisions) < len(whole.decisions)
    assert all(report.from_ns <= decision.wall_ns <= report.until_ns for decision in report.decisions)
    dead = next(d for d in report.decisions if d.text.startswith("server40 is dead"))
    assert min(cause.wall_ns for cause in dead.causes) < report.from_ns
    for one in report.lanes:
        assert one.stretches[0].wall_ns >= report.from_ns and one.stretches[-1].until_wall_ns <= report.until_ns


def test_a_time_without_anything_is_refused(recorded: Recorded) -> None:
    with pytest.raises(NothingThen, match="nothing was recorded between these times"):
        between(recorded, 4000, 5000)


def test_two_journals_of_one_director_are_refused(recorded: Recorded) -> None:
    a = recorded("power_cut").a
    with pytest.raises(MergeRefused, match="both journals of server40"):
        make([[a], [a]])


def test_too_many_decisions_keep_the_weightiest_and_say_so(
    recorded: Recorded, reported: Reported, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = reported("power_cut_and_back", "b")
    monkeypatch.setattr(subject, "DECISIONS_SHOWN", 4)
    report = make([[recorded("power_cut_and_back").b]])
    assert len(report.decisions) == 4
    troubles = [d.text for d in whole.decisions if d.weight is Weight.TROUBLE]
    assert set(troubles) <= {d.text for d in report.decisions}
    assert [d.number for d in report.decisions] == [1, 2, 3, 4]
    left = len(whole.decisions) - 4
    assert any(f"{left} of {len(whole.decisions)} decisions" in line for line in report.left_out)


def test_real_servers_that_stayed_up_are_left_out_if_there_are_many(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "REAL_LANES_SHOWN", 1)
    report = make([[recorded("failing_real").a]])
    reals = [one.subject.name for one in report.lanes if one.subject.topic is Topic.REAL]
    assert reals == ["192.168.2.31:80"]
    assert any("1 real servers that were up all the time" in line for line in report.left_out)


def test_a_lane_that_flaps_is_drawn_in_bounds() -> None:
    stretches = tuple(
        Stretch(
            wall_ns=i * SECOND,
            until_wall_ns=(i + 1) * SECOND,
            word="up" if i % 2 else "removed",
            mood=Mood.GOOD if i % 2 else Mood.BAD,
        )
        for i in range(100_000)
    )
    calm = Stretch(wall_ns=100_000 * SECOND, until_wall_ns=200_000 * SECOND, word="up", mood=Mood.GOOD)
    one = Lane(subject=Subject(topic=Topic.REAL, name="a:80"), seen_by="x", stretches=(*stretches, calm))
    drawn = within(one, 0, 200_000 * SECOND)
    assert len(drawn.stretches) <= 2 * STRETCHES_DRAWN
    assert drawn.stretches[-1] == calm
    assert drawn.stretches[0].word.startswith("changed ")
    assert drawn.stretches[0].wall_ns == 0 and drawn.stretches[-2].until_wall_ns == 100_000 * SECOND


def test_few_states_are_drawn_as_they_are() -> None:
    short = Stretch(wall_ns=10, until_wall_ns=11, word="dead", mood=Mood.BAD)
    one = Lane(subject=node("a"), seen_by="b", stretches=(short,))
    assert within(one, 0, 10**15) == one


def test_a_vip_does_not_outlive_the_reboot_of_its_machine(recorded: Recorded) -> None:
    """The monotonic clock begins again at zero: no end may lie before its beginning."""
    holdings = Holdings()
    for item in moments([recorded("power_cut_and_back").a]):
        if isinstance(item, Moment):
            holdings.fold(item._replace(at=item.at - (0 if item.life == 1 else 1_050 * SECOND)))
    first, second = holdings.finish()
    assert not first.certain and first.from_at < first.seen_at <= first.until_at
    assert first.until_wall_ns - first.from_wall_ns < 60 * SECOND < second.from_wall_ns - first.from_wall_ns
    assert second.from_at < second.until_at


def test_clocks_that_drift_were_not_set() -> None:
    drifted = Clock((Bound(0, 300_000, 100_000),))
    assert drifted.ahead(0)[0] == 200_000 and drifted.stepped == ()
    stepped = Clock((Bound(0, 2 * DRIFTED_NS, 0),))
    assert len(stepped.stepped) == 1
