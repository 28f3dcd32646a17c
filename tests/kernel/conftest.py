"""Fixtures on real kernels. Where they cannot run, their tests are skipped in one plain line, or fail if
HAFSM_REQUIRE_KERNEL=1 says that they must run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.lab import Lab
from tests.kernel.site import missing_prerequisite
from tests.kernel.uml import Node, boot

HERE = Path(__file__).parent
CANNOT_RUN = "the real-kernel tests cannot run"
RUNNING: list[Node] = []
"""Nodes whose consoles belong into the report of a failed test."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lives here."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.kernel)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A failed test shows the end of every console; tests that cannot run share one line of the summary."""
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple) and CANNOT_RUN in report.longrepr[2]:
        report.longrepr = (str(HERE), 0, report.longrepr[2])
    if report.failed:
        for node in RUNNING:
            report.sections.append((f"console of {node.name}", node.console()[-4000:]))
    return report


@pytest.fixture(scope="session", autouse=True)
def kernels_can_run() -> None:
    """Skips everything here when kernels cannot run, or fails it when they must."""
    missing = missing_prerequisite()
    if missing and os.environ.get("HAFSM_REQUIRE_KERNEL") == "1":
        pytest.fail(f"HAFSM_REQUIRE_KERNEL=1, but {CANNOT_RUN}: {missing}", pytrace=False)
    if missing:
        pytest.skip(f"{CANNOT_RUN}: {missing}")


@pytest.fixture(scope="module")
def lab_of_module() -> Iterator[Lab]:
    """One cluster for the tests of a module; disks are fresh."""
    lab = Lab()
    RUNNING.extend(lab.directors)
    try:
        lab.boot()
        yield lab
    finally:
        RUNNING[:] = [running for running in RUNNING if running not in lab.directors]
        lab.close()


@pytest.fixture
def lab(lab_of_module: Lab) -> Lab:
    """The module's cluster with everything on, plugged in and running; files in the nodes are as the last test
    left them."""
    lab_of_module.restore()
    return lab_of_module


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """One kernel without a network, for tests of kernel interfaces; shared by the tests of a module."""
    node = boot("node")
    RUNNING.append(node)
    try:
        yield node
    finally:
        RUNNING.remove(node)
        node.close()
