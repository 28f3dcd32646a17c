"""Fencing by real programs: an agent that reads its standard input, and cluster-glue's `stonith` where there is one."""

import shutil
from pathlib import Path

import pytest

from hafsm.config.model import FenceDevice, Secret
from hafsm.core.events import Outcome
from hafsm.daemon import fencing
from hafsm.daemon.scripts import Ended

VICTIM = "server19"

with_stonith = pytest.mark.skipif(
    shutil.which("stonith", path="/usr/sbin:/sbin") is None, reason="needs Debian's cluster-glue (stonith)"
)


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`fence_lab` in PATH: keeps what it reads and how many arguments it got; obeys `fail=1` and `hang=1`."""
    path = tmp_path / "fence_lab"
    path.write_text(
        f'#!/bin/sh\necho "$#" > {tmp_path}/arguments\ncat > {tmp_path}/input\n'
        f"grep -q hang=1 {tmp_path}/input && exec sleep 60\n"
        f"grep -q fail=1 {tmp_path}/input || exit 0\necho 'no answer from 10.0.0.9' >&2\nexit 1\n"
    )
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return path


async def fence(device: FenceDevice, limit_s: float = 20) -> Ended:
    how = fencing.fencer(device)
    assert how is not None
    return await how(VICTIM, limit_s)


def lab(parameters: str) -> FenceDevice:
    return FenceDevice(host="*", kind="fence_lab", parameters=Secret(parameters.encode()))


def test_without_a_device_there_is_nothing_to_fence_with() -> None:
    assert fencing.fencer(None) is None


@pytest.mark.parametrize(
    ("parameters", "read"),
    [
        ("ip=10.0.0.9 password=a=b", "action=reboot\nnodename=server19\nip=10.0.0.9\npassword=a=b\nplug=server19\n"),
        ("action=off port=3", "action=off\nnodename=server19\nport=3\n"),
        ("", "action=reboot\nnodename=server19\nplug=server19\n"),
    ],
)
async def test_an_agent_reads_everything_from_its_standard_input(agent: Path, parameters: str, read: str) -> None:
    assert await fence(lab(parameters)) == (Outcome.DONE, "")
    assert (agent.parent / "input").read_text() == read
    assert (agent.parent / "arguments").read_text() == "0\n"


async def test_an_agent_that_fails_says_why(agent: Path) -> None:
    assert await fence(lab("fail=1")) == (Outcome.FAILED, "exit 1: no answer from 10.0.0.9")


async def test_an_agent_that_hangs_is_killed(agent: Path) -> None:
    assert await fence(lab("hang=1"), 0.2) == (Outcome.TIMED_OUT, "no end within 0.2 s, killed")


def test_a_missing_agent(agent: Path) -> None:
    assert fencing.missing(lab("")) == ""
    agent.unlink()
    assert fencing.missing(lab("")) == "fence agent fence_lab is not installed (packages fence-agents…)"


def test_missing_cluster_glue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(fencing, "_PLACES", str(tmp_path))
    device = FenceDevice(host="*", kind="null", file="/etc/hostname")
    assert fencing.missing(device) == "the program stonith is not installed (package cluster-glue)"


@with_stonith
def test_a_plug_in_or_file_that_stonith_has_not(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    device = FenceDevice(host="*", kind="null", file=str(file))
    assert fencing.missing(device) == f"the file of stonith null, {file}, cannot be read"
    file.write_text(VICTIM)
    assert fencing.missing(device) == ""
    assert fencing.missing(FenceDevice(host="*", kind="nil", file=str(file))) == (
        "stonith has no plug-in nil (`stonith -L` lists those it has)"
    )


@with_stonith
@pytest.mark.parametrize("in_a_file", [True, False])
@pytest.mark.parametrize(("hosts", "outcome"), [(VICTIM, Outcome.DONE), ("", Outcome.FAILED)])
async def test_stonith_gets_its_parameters(tmp_path: Path, in_a_file: bool, hosts: str, outcome: Outcome) -> None:
    """Its plug-in `null` refuses to work without a list of hosts, and resets nothing with one."""
    if in_a_file:
        (tmp_path / "hosts").write_text(f"{hosts}\n")
        device = FenceDevice(host="*", kind="null", file=str(tmp_path / "hosts"))
    else:
        device = FenceDevice(host="*", kind="null", parameters=Secret(hosts.encode()))
    assert (await fence(device)).outcome is outcome
