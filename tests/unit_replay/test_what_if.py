"""`hafsm replay --set`: what would have been decided, held against cores that really ran under those settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from hafsm.cli.main import main
from hafsm.core.settings import SECOND, AutoFailback, RealVerb
from replay.episodes import FAILOVERS, Trouble
from replay.history import Moment, files_of, moments
from replay.pairing import Pairing, Stop
from replay.parameters import Unusable, parse
from replay.whatif import WhatIf, compare
from tests.unit_replay.incidents import ALL, Incident, checks, failing_real, partition, power_cut, quiet, save, say

Recorded = Callable[[str], Incident]


def what_if(path: Path, *words: str) -> WhatIf:
    return compare(moments(files_of(path)), parse(words))


def of(result: WhatIf, *troubles: Trouble) -> list[Pairing]:
    return [p for p in result.pairings if (p.recorded or p.computed).trouble in troubles]  # type: ignore[union-attr]


def run(*words: str | Path):
    return CliRunner().invoke(main, ["replay", *map(str, words)])


@pytest.mark.parametrize("name", sorted(ALL))
@pytest.mark.parametrize("parameter", ["deadtime=30", "deadping=30s", "auto_failback=on"])
def test_the_recorded_settings_change_nothing(recorded: Recorded, name: str, parameter: str) -> None:
    """The second fold makes its own deadlines and results all the same: it must come out where the recording did."""
    incident = recorded(name)
    for path in (incident.a, incident.b):
        result = what_if(path, parameter)
        assert all(stretch.stop is Stop.END and stretch.apart == 0 for stretch in result.stretches), result.stretches
        assert result.counted == result.events and result.assumed == 0
        for pairing in result.pairings:
            assert pairing.recorded is not None and pairing.recorded == pairing.computed


@pytest.mark.parametrize("seconds", [5, 12, 20, 38])
def test_a_death_would_have_been_seen_when_a_director_with_that_deadtime_sees_it(
    recorded: Recorded, tmp_path: Path, seconds: int
) -> None:
    """The judge is a pair that really runs with that deadtime through the same power cut."""
    result = what_if(recorded("power_cut").b, f"deadtime={seconds}s")
    deadtime = seconds * SECOND
    real = save(power_cut(deadtime_ns=deadtime, lease_ns=deadtime), tmp_path)
    truth = what_if(real.b, f"deadtime={seconds}s")
    (asked,), (ran,) = of(result, Trouble.DIRECTOR), of(truth, Trouble.DIRECTOR)
    assert asked.computed is not None and ran.recorded is not None
    assert asked.computed.at == ran.recorded.at
    assert asked.later_ns == deadtime - 30 * SECOND
    (asked_over,), (ran_over,) = of(result, *FAILOVERS), of(truth, *FAILOVERS)
    assert asked_over.computed is not None and ran_over.recorded is not None
    assert asked_over.computed.at == ran_over.recorded.at


def test_a_deadtime_longer_than_the_partition_avoids_the_failover(recorded: Recorded) -> None:
    result = what_if(recorded("partition").b, "deadtime=60")
    (failover,) = of(result, *FAILOVERS)
    assert failover.recorded is not None and failover.computed is None and not failover.undecided
    assert run(recorded("partition").b, "--set", "deadtime=60").output.count("failovers: 0 in both, 1 avoided, 0 more")


def test_what_the_other_directors_operator_says_does_not_end_the_counting(tmp_path: Path) -> None:
    """He says it whatever this director does; the folds differ by a silent ping node when it comes."""
    pair = quiet()
    pair.a.sees_gateway = False
    checks(pair, 11)
    said = len(pair.a.log)
    say(pair.b, RealVerb.DRAIN)
    checks(pair, 2)
    pair.a.sees_gateway = True
    checks(pair, 2)
    path = save(pair, tmp_path).a
    (number,) = [
        item.seq
        for item in moments(files_of(path))
        if isinstance(item, Moment) and getattr(item.event, "kind", "") == "hafsm_real"
    ]
    assert number > said
    result = what_if(path, "deadping=10s")
    assert of(result, Trouble.PING), "it counts as dead there, and not in the recording"
    assert any(stretch.first <= number < stretch.last and stretch.stop is Stop.END for stretch in result.stretches)


def test_where_the_other_side_would_have_answered_otherwise_counting_stops(recorded: Recorded) -> None:
    """After the partition the peer's `resource` report answers a take-over that would not have been."""
    incident = recorded("partition")
    result = what_if(incident.b, "deadtime=60")
    (stretch,) = [s for s in result.stretches if s.stop is Stop.MESSAGE]
    messages = [
        number
        for number, (event, _) in enumerate(incident.pair.b.log, start=1)
        if getattr(event, "kind", "NS_").startswith("NS_") is False and number >= stretch.apart
    ]
    assert stretch.last + 1 == messages[0], "the first message after they parted is not believed"
    assert result.counted < result.events
    output = run(incident.b, "--set", "deadtime=60").output
    assert f"after event {stretch.last} the recorded input is not trusted" in output


def test_a_shorter_deadtime_would_have_added_a_failover(tmp_path: Path) -> None:
    incident = save(partition(seconds=12), tmp_path)
    result = what_if(incident.b, "deadtime=6")
    (failover,) = of(result, *FAILOVERS)
    assert failover.recorded is None and failover.computed is not None
    truth = save(partition(seconds=12, deadtime_ns=6 * SECOND, lease_ns=6 * SECOND), tmp_path / "truth")
    (ran,) = of(what_if(truth.b, "deadtime=6"), *FAILOVERS)
    assert ran.recorded is not None and ran.recorded.at == failover.computed.at


def test_a_silence_that_the_journal_does_not_outlast_is_not_counted_as_avoided(recorded: Recorded) -> None:
    result = what_if(recorded("power_cut").b, "deadtime=3600")
    assert [p.undecided for p in of(result, *FAILOVERS)] == [True]
    output = run(recorded("power_cut").b, "--set", "deadtime=3600").output
    assert "0 avoided" in output and "1 not decided within the recorded input" in output


@pytest.mark.parametrize(("failurecount", "later_s"), [(1, -2), (2, -1), (4, 1), (5, 2)])
def test_failurecount_moves_the_removal_as_a_real_run_does(
    recorded: Recorded, tmp_path: Path, failurecount: int, later_s: int
) -> None:
    result = what_if(recorded("failing_real").a, f"checks.failurecount={failurecount}")
    (asked,) = of(result, Trouble.REAL)
    assert asked.later_ns == later_s * SECOND
    truth = save(failing_real(failurecount=failurecount), tmp_path)
    (ran,) = of(what_if(truth.a, f"failurecount={failurecount}"), Trouble.REAL)
    assert asked.computed is not None and ran.recorded is not None
    assert (asked.computed.at, asked.computed.until) == (ran.recorded.at, ran.recorded.until)
    assert result.counted == result.events, "checks do not depend on the table: nothing is lost of their trust"


def test_a_failurecount_beyond_the_failures_avoids_the_removal(recorded: Recorded) -> None:
    (pairing,) = of(what_if(recorded("failing_real").a, "checks.failurecount=6"), Trouble.REAL)
    assert pairing.computed is None and not pairing.undecided


def test_auto_failback_off_keeps_the_groups_where_they_are(recorded: Recorded) -> None:
    result = what_if(recorded("power_cut_and_back").b, "auto_failback=off")
    assert result.stretches[0].stop is Stop.MESSAGE
    assert of(result, *FAILOVERS)[0].later_ns == 0


def test_a_frozen_loop_stays_frozen_for_the_other_settings(recorded: Recorded) -> None:
    """No deadline of the second fold may pass in the middle of a freeze that the recording shows."""
    result = what_if(recorded("frozen_director").a, "deadtime=10", "deadping=10")
    assert all(p.computed is None or p.recorded is not None for p in of(result, Trouble.DIRECTOR)), "nobody was awake"


def test_json_has_the_verdicts(recorded: Recorded) -> None:
    document = json.loads(run(recorded("power_cut").b, "--set", "deadtime=5s", "--json").output)
    assert document["changes"] == [{"name": "deadtime", "was": "30.0 s", "now": "5.0 s"}]
    assert {p["verdict"] for p in document["pairings"]} == {"25.0 s earlier"}
    assert document["totals"][0] == (
        "failovers: 1 in both, 0 avoided, 0 more; detection time 25.0 s gained over the whole file"
    )


# ---- parameters


def test_values_are_read_as_in_the_files() -> None:
    values = dict(parse(["deadtime=5s", "warntime=1500ms", "deadping=7.5", "checks.failurecount=3"]).values)
    assert values == {
        "deadtime": 5 * SECOND,
        "warntime": 1_500_000_000,
        "deadping": 7_500_000_000,
        "failurecount": 3,
    }
    assert dict(parse(["auto_failback=legacy", "quiescent=yes"]).values) == {
        "auto_failback": AutoFailback.LEGACY,
        "quiescent": True,
    }


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("deadtme=5", "did you mean deadtime"),
        ("failcount=2", "did you mean failurecount"),
        ("deadtime", "expected NAME=VALUE"),
        ("deadtime=soon", "a time of at most 7 days"),
        ("failurecount=0", "a whole number from 1 to 1000"),
        ("quiescent=on", "yes or no"),
        ("checkinterval=5", "the checks were made when they were made"),
        ("keepalive=1", "the heartbeats came when they were sent"),
        ("xyzzy=1", "can be set: deadtime"),
    ],
)
def test_what_cannot_be_set_says_what_to_write(recorded: Recorded, word: str, complaint: str) -> None:
    with pytest.raises(Unusable, match=complaint):
        parse([word])
    answer = run(recorded("power_cut").b, "--set", word)
    assert answer.exit_code == 2 and complaint in answer.output.replace("\n", " ")


def test_a_deadtime_that_check_config_refuses_is_refused(recorded: Recorded) -> None:
    answer = run(recorded("power_cut").b, "--set", "deadtime=4")
    assert answer.exit_code == 2 and "not longer than two keepalives" in answer.output


def test_a_parameter_is_set_once() -> None:
    with pytest.raises(Unusable, match="set twice"):
        parse(["failurecount=2", "checks.failurecount=3"])
