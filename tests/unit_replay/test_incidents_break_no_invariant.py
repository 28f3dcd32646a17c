"""`hafsm journal check` finds nothing in journals of what people do: its plain rules are not stricter than the core."""

from collections.abc import Callable

import pytest

from replay.check import check
from tests.unit_replay.incidents import ALL, Incident

SCRIPTED_LEASE = "leases_end_before_deadtime"
"""The scripted pair's lease is as long as its deadtime."""


@pytest.mark.parametrize("name", sorted(ALL))
def test_an_incident_breaks_no_invariant(recorded: Callable[[str], Incident], name: str) -> None:
    incident = recorded(name)
    found = [v for path in (incident.a, incident.b) for v in check(path) if v.invariant != SCRIPTED_LEASE]
    assert found == []
