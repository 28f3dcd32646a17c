"""Each incident is recorded once for all tests that read it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit_replay.incidents import Incident, recorder


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Incident]:
    """`recorded("power_cut")`: both journals, not to be changed."""
    return recorder(tmp_path_factory.mktemp)
