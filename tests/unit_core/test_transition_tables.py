"""The rows are complete: every pair of state and trigger is a move or ignored with a reason, and each is reachable."""

from itertools import product

import pytest

from hafsm.core.machines import ALL, REAL, RealState
from hafsm.core.tables import Row, Table
from hafsm.errors import InvariantError


@pytest.mark.parametrize("table", ALL, ids=lambda table: table.name)
def test_every_state_and_trigger_was_thought_about(table) -> None:
    pairs = {(row.source, row.trigger) for row in table.rows}
    missing = [f"{s.value} on {t}" for s, t in product(table.states, table.triggers) if (s, t) not in pairs]
    assert missing == []


@pytest.mark.parametrize("table", ALL, ids=lambda table: table.name)
def test_every_pair_ends_in_a_row_without_a_guard_or_with_complementary_ones(table) -> None:
    """The last row of a pair has no guard, so that no facts can fall through."""
    last = {(row.source, row.trigger): row for row in table.rows}
    assert [f"{r.source.value} on {r.trigger}" for r in last.values() if r.guard is not None] == []


@pytest.mark.parametrize("table", ALL, ids=lambda table: table.name)
def test_every_row_says_why_and_no_row_is_shadowed(table) -> None:
    settled = set()
    for row in table.rows:
        assert row.why
        assert (row.source, row.trigger) not in settled, f"{row.source.value} on {row.trigger} is never reached"
        if row.guard is None:
            settled.add((row.source, row.trigger))


@pytest.mark.parametrize("table", ALL, ids=lambda table: table.name)
def test_the_machine_does_what_the_rows_say(table) -> None:
    for row in table.rows:
        if row.guard is None and sum((r.source, r.trigger) == (row.source, row.trigger) for r in table.rows) == 1:
            assert table.fire(row.source, row.trigger) is (row.source if row.dest is None else row.dest)


def test_guards_are_asked_in_the_order_of_the_rows() -> None:
    class Facts:
        failures, failurecount, quiescent = 3, 3, True

    facts = Facts()
    assert REAL.fire(RealState.UP, "check_failed", facts) is RealState.QUIESCED
    facts.quiescent = False
    assert REAL.fire(RealState.UP, "check_failed", facts) is RealState.REMOVED
    facts.failures = 2
    assert REAL.fire(RealState.UP, "check_failed", facts) is RealState.UP


def test_a_pair_without_a_row_is_a_bug_of_ours() -> None:
    table = Table("tiny", RealState, [Row(RealState.UP, "fall", RealState.REMOVED, "it fell")])
    with pytest.raises(InvariantError, match="tiny: no row for 'fall' in state 'quiesced'"):
        table.fire(RealState.QUIESCED, "fall")


def test_facts_that_no_guard_accepts_are_a_bug_of_ours() -> None:
    table = Table("tiny", RealState, [Row(RealState.UP, "fall", RealState.REMOVED, "it fell", lambda facts: facts)])
    with pytest.raises(InvariantError, match="tiny: every guard refused 'fall' in state 'up'"):
        table.fire(RealState.UP, "fall", False)
