"""Real servers for the checks. Where one is not installed its test is skipped in one plain line, or fails if
HAFSM_REQUIRE_KERNEL=1 says that everything must run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.checks_real.real_servers import Certificates, Missing
from tests.unit_checks.servers import Director

CANNOT_RUN = "tests of checks against real servers cannot run"


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> Iterator[None]:
    """A program that is missing skips the test, or fails it."""
    try:
        return (yield)
    except Missing as missing:
        text = f"{CANNOT_RUN}: {missing} is not installed"
        if os.environ.get("HAFSM_REQUIRE_KERNEL") == "1":
            pytest.fail(f"HAFSM_REQUIRE_KERNEL=1, but {text}", pytrace=False)
        pytest.skip(text)
    except PermissionError as error:
        if os.geteuid() == 0:
            raise
        pytest.skip(f"{CANNOT_RUN} without root: {error}")


@pytest.fixture(scope="session", autouse=True)
def _root() -> None:
    """Most servers only start as root."""
    if os.geteuid() != 0:
        pytest.skip(f"{CANNOT_RUN} without root")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def director() -> AsyncIterator[Callable[..., Director]]:
    made: list[Director] = []

    def make(**options: object) -> Director:
        made.append(Director(**options))
        return made[-1]

    yield make
    for each in made:
        await each.pool.close()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """For the servers of a module; those that give up root reach it, which they do not below pytest's own folder."""
    with tempfile.TemporaryDirectory(prefix="hafsm-checks-", ignore_cleanup_errors=True) as made:
        Path(made).chmod(0o755)
        yield Path(made)
