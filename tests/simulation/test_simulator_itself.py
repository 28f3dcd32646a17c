"""The simulator: one integer is one run; its failures shrink; its incident files replay and are judged the same."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from hafsm import codec
from hafsm.cli.journal_check import check as check_command
from hafsm.cli.simulate import simulate, write_incidents
from hafsm.core.events import Event
from hafsm.core.settings import SECOND
from hafsm.core.state import Lending, State
from hafsm.core.step import next_deadline, step
from hafsm.core.turn import Decision
from replay.check import check
from replay.engine import replay
from replay.simulator import Simulation
from replay.simulator_failure import Failure, Runner, shrink
from replay.simulator_faults import Fault, Kind, Plan, plan
from replay.simulator_site import bounds_of, random_site
from tests.simulation.planted import BUGS, CUT_POWER, Bug, leases_without_end, renews_never, simulation, small_site

SEED = 14
KILL = Fault(Kind.KILL, 100 * SECOND, 60 * SECOND, 0)
BYSTANDERS = (
    Fault(Kind.REAL_DOWN, 95 * SECOND, 20 * SECOND, 0),
    Fault(Kind.DOUBLED, 96 * SECOND, 5 * SECOND, 0, 10),
    Fault(Kind.CHECKER_LOST, 99 * SECOND, 0, 1),
)


def storm(seed: int) -> Simulation:
    site = random_site(seed)
    run = Simulation(site, plan(seed, 1, bounds_of(site.settings[0]).settle_ns), seed)
    assert run.run() is None
    return run


def test_one_integer_is_one_run() -> None:
    """To the last byte of both journals."""
    one, two = storm(SEED), storm(SEED)
    for left, right in zip(one.machines, two.machines, strict=True):
        assert [life.events for life in left.lives] == [life.events for life in right.lives]
        assert codec.encode_state(left.state) == codec.encode_state(right.state)
    assert one.events > 10_000 and one.watch.seen == two.watch.seen


def test_another_integer_is_another_run() -> None:
    assert plan(1, 4, SECOND) != plan(2, 4, SECOND)
    assert random_site(1) != random_site(2)


def failed(monkeypatch: pytest.MonkeyPatch) -> Failure:
    """Leases that never end, a daemon killed, and three faults that have nothing to do with it."""
    leases_without_end(monkeypatch)
    run = simulation(Bug("one_director_answers", faults=(*BYSTANDERS, KILL)))
    violation = run.run()
    assert violation is not None
    return Failure(run.site, run.plan, run.seed, True, violation)


def test_a_failure_is_shrunk_to_the_faults_that_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    small = shrink(failed(monkeypatch), Runner())
    assert [fault.kind for fault in small.plan.faults] == [Kind.KILL]
    assert small.violation.invariant == "one_director_answers"
    assert not small.drift
    assert small.plan.faults[0].lasts < KILL.lasts


def test_incident_files_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failure = failed(monkeypatch)
    paths = write_incidents(failure, Runner(), tmp_path)
    assert [path.name for path in paths] == ["server40.db", "server19.db"]
    for path in paths:
        result = replay(path)
        assert result.identical and result.events > 50
        assert list(check(path)) == []
    assert "daemon killed" in (tmp_path / "faults.txt").read_text()


def test_journal_check_finds_in_the_file_what_the_simulation_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renews_never(monkeypatch)
    run = simulation(Bug(""))
    violation = run.run()
    assert violation is not None
    paths = write_incidents(Failure(run.site, run.plan, run.seed, True, violation), Runner(), tmp_path)
    answer = CliRunner().invoke(check_command, [str(path) for path in paths])
    assert answer.exit_code == 1
    assert f"held_addresses_are_renewed: {violation.node}, event {violation.number}: " in answer.output


def test_journal_check_names_a_decision_that_replay_does_not_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        paths = write_incidents(failed(patch), Runner(), tmp_path)
    bug = next(bug for bug in BUGS if bug.invariant == "the_table_is_what_was_asked_for")
    bug.plant(monkeypatch)
    answer = CliRunner().invoke(check_command, [str(paths[0])])
    assert answer.exit_code == 1 and "the_same_past_decides_the_same" in answer.output


def test_journal_check_does_not_open_what_is_no_journal(tmp_path: Path) -> None:
    file = tmp_path / "no.db"
    file.write_text("nothing")
    answer = CliRunner().invoke(check_command, [str(file)])
    assert answer.exit_code == 2 and "unreadable" in answer.output


def test_power_cuts_lose_the_tail_that_was_not_on_disk() -> None:
    run = simulation(Bug("", faults=(CUT_POWER,)))
    lost: list[int] = []
    victim = run.machines[0]

    def look() -> None:
        before = len(victim.lives[-1].events)
        victim.power_cut()
        lost.append(before - len(victim.lives[-1].events))

    run.plan = Plan((), (), 120 * SECOND)
    run.at(100 * SECOND, look)
    run.run()
    assert 0 <= lost[0] < 30


@pytest.mark.parametrize("seed", [3, 6, 22])
def test_a_lent_vip_may_have_two_owners_until_the_news_comes_over_a_slow_network(seed: int) -> None:
    site = small_site()
    slow = [Fault(Kind.SLOW, 199 * SECOND, 60 * SECOND, node, 800) for node in (0, 1)]
    run = Simulation(site, Plan((*slow, Fault(Kind.STANDBY, 200 * SECOND)), (), 260 * SECOND), seed)
    assert run.run() is None
    assert run.watch.seen["two owners"] == 1


@pytest.mark.parametrize("seed", [5, 6, 7])
def test_the_nearest_deadline_is_the_nearest_of_all_whichever_way_a_step_found_it(seed: int) -> None:
    def checking(state: State, event: Event) -> Decision:
        decision = step(state, event)
        assert decision.state.due == next_deadline(decision.state), event
        return decision

    site = random_site(seed)
    run = Simulation(site, plan(seed, 2, bounds_of(site.settings[0]).settle_ns), seed, step=checking)
    assert run.run() is None


def test_a_director_killed_while_it_lends_holds_on_until_its_lease_ends() -> None:
    """Supervisor and daemon at once, in the milliseconds between the two owners: nothing is left that could let go."""

    def killing(state: State, event: Event) -> Decision:
        decision = step(state, event)
        giver, taker = run.machines
        taken = state.settings.me == taker.name and state.lending is Lending.AGREED is not decision.state.lending
        if taken and not killed:
            killed.append(run.now)
            run.after(0, giver.die)
            run.after(20 * SECOND, giver.start)
        return decision

    killed: list[int] = []
    run = simulation(Bug("", step=killing, faults=(Fault(Kind.STANDBY, 200 * SECOND),)))
    assert run.run() is None
    assert killed and run.watch.seen["two owners"] == 2, "the second when the set goes home"


def test_the_command(tmp_path: Path) -> None:
    answer = CliRunner().invoke(simulate, ["--seed", "3", "--hours", "0.4", "-o", str(tmp_path)])
    assert answer.exit_code == 0, answer.output
    assert answer.output.startswith("seed=3 commit=") and "every invariant held" in answer.output


def test_the_command_reports_and_keeps_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renews_never(monkeypatch)
    answer = CliRunner().invoke(simulate, ["--seed", "3", "--hours", "0.4", "-o", str(tmp_path)])
    assert answer.exit_code == 1
    assert "seed=3 commit=" in answer.output and "held_addresses_are_renewed" in answer.output
    assert "shrunk from" in answer.output
    names = ["director-a.db", "director-b.db"]
    assert sorted(p.name for p in (tmp_path / "seed-3").glob("*.db")) == names
    CliRunner().invoke(simulate, ["--seed", "3", "--hours", "0.4", "-o", str(tmp_path)])
    assert sorted(p.name for p in (tmp_path / "seed-3-2").glob("*.db")) == names, "the first stays as it is"


def test_the_command_takes_a_configuration(tmp_path: Path, scenario: Path) -> None:
    arguments = ["--seed", "3", "--hours", "0.6", "-o", str(tmp_path), "--config-dir"]
    answer = CliRunner().invoke(simulate, [*arguments, str(scenario)])
    assert answer.exit_code == 0, answer.output
    missing = CliRunner().invoke(simulate, [*arguments, str(tmp_path / "none")])
    assert missing.exit_code == 2 and "ha.cf" in missing.output


def test_a_long_journal_is_written_as_it_happens(tmp_path: Path) -> None:
    answer = CliRunner().invoke(simulate, ["--seed", "4", "--hours", "0.3", "--journal", str(tmp_path / "journal")])
    assert answer.exit_code == 0, answer.output
    again = CliRunner().invoke(simulate, ["--seed", "4", "--hours", "0.3", "--journal", str(tmp_path / "journal")])
    assert again.exit_code == 2 and "is not empty" in again.output
    segments = sorted((tmp_path / "journal").glob("*.db"))
    assert segments and all(replay(path).identical for path in segments)
