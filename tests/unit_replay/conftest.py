"""Each incident is recorded once for all tests that read it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit_replay.incidents import ALL, Incident, save


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Incident]:
    """`recorded("power_cut")`: both journals, not to be changed."""
    kept: dict[str, Incident] = {}

    def get(name: str) -> Incident:
        if name not in kept:
            kept[name] = save(ALL[name](), tmp_path_factory.mktemp(name))
        return kept[name]

    return get
