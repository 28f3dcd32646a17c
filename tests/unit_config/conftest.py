"""A writable copy of the scenario's files, and a resolver that never leaves the machine."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hafsm.config.load import load
from tests.unit_config.config_support import FILES, NODE, SCENARIO, describe

HOSTS = {"web1.example": "10.0.0.31", "web3.example": "10.0.0.33"}


def resolve(host: str, port: None, *_: object) -> list[tuple[Any, ...]]:
    if host not in HOSTS:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (HOSTS[host], 0))]


@pytest.fixture(autouse=True, scope="module")
def _resolver() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolve)
        yield


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).write_bytes((SCENARIO / name).read_bytes())
    (tmp_path / "authkeys").write_text("auth 1\n1 sha1 LabSecretKey\n")
    (tmp_path / "authkeys").chmod(0o600)
    return tmp_path


@pytest.fixture
def remarks(directory: Path) -> Callable[[str, str, str], list[str]]:
    """Replace text in one file (an empty `old` appends), load, and list the findings."""

    def load_edited(name: str, old: str, new: str) -> list[str]:
        text = (directory / name).read_text()
        if old:
            assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {name}"
        (directory / name).write_text(text.replace(old, new) if old else text + new)
        return describe(load(directory, me=NODE), directory)

    return load_edited
