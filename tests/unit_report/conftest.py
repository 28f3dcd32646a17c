"""Incidents of the scripted pair as reports; each is recorded and read once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from replay.report import Report, make
from tests.unit_replay.incidents import Incident, recorder
from tests.unit_report import hostile

CANNOT_RUN = "the report cannot be tested in a browser: it needs Debian's chromium"

Recorded = Callable[[str], Incident]
Reported = Callable[..., Report]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Tests that have no browser share one line of the summary."""
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple) and CANNOT_RUN in report.longrepr[2]:
        report.longrepr = (str(item.path), 0, report.longrepr[2])
    return report


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """`recorded("power_cut")`: both journals, not to be changed."""
    return recorder(tmp_path_factory.mktemp)


@pytest.fixture(scope="session")
def reported(recorded: Recorded) -> Reported:
    """`reported("power_cut", "ab")`: the report of server40's and server19's journals, or of one."""
    kept: dict[tuple[str, str], Report] = {}

    def get(name: str, sides: str = "ab") -> Report:
        if (name, sides) not in kept:
            incident = recorded(name)
            files: list[list[Path]] = [[{"a": incident.a, "b": incident.b}[side]] for side in sides]
            kept[name, sides] = make(files)
        return kept[name, sides]

    return get


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Of journals in which every text from outside is hostile."""
    a, b = hostile.journals(tmp_path_factory.mktemp("hostile"))
    return make([[a], [b]])
