"""Where heartbeat cannot run, the tests with it as the peer are skipped in one plain line, or fail if
HAFSM_REQUIRE_KERNEL=1 says that they must run."""

from __future__ import annotations

import os

import pytest

from tests.interop.lab import missing_prerequisite


@pytest.fixture(scope="session", autouse=True)
def heartbeat_can_run() -> None:
    """Skips everything here when heartbeat cannot run, or fails it when it must."""
    missing = missing_prerequisite()
    if missing and os.environ.get("HAFSM_REQUIRE_KERNEL") == "1":
        pytest.fail(f"HAFSM_REQUIRE_KERNEL=1, but the tests with heartbeat cannot run: {missing}", pytrace=False)
    if missing:
        pytest.skip(f"the tests with heartbeat as the peer cannot run: {missing}")
