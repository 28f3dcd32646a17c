"""Real programs, really started, ended and started again."""

import asyncio
import contextlib
import getpass
import os
import pwd
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from hafsm.config.model import Respawn
from hafsm.daemon import respawn
from hafsm.daemon.respawn import Programs
from tests.daemon.process import Daemon

ME = getpass.getuser()
LIMIT_S = 20
ROOT = Path(__file__).resolve().parents[2]
CORE = """
import asyncio, sys
from hafsm.config.model import Respawn
from hafsm.daemon.respawn import Programs

async def main():
    Programs([Respawn(user=sys.argv[1], command=sys.argv[2])], {}).start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def program(folder: Path, name: str, body: str, user: str = ME) -> Respawn:
    path = folder / name
    path.write_text(f"#!/bin/sh\ncd {folder}\n{body}")
    path.chmod(0o755)
    return Respawn(user=user, command=f"{path} one two")


def text(path: Path) -> str:
    with contextlib.suppress(FileNotFoundError):
        return path.read_text()
    return ""


async def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def running(*entries: Respawn, **env: str) -> AsyncIterator[Programs]:
    programs = Programs(entries, env)
    programs.start()
    try:
        yield programs
    finally:
        await programs.close()


def has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


async def test_a_program_gets_its_arguments_environment_and_nothing_to_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    entry = program(folder, "p", 'echo "$@ $HA_NAME [$NOTIFY_SOCKET] $(cat)" > new; mv new said; exec sleep 60\n')
    async with running(entry, NAME="x=y"):
        await until(lambda: text(folder / "said"), "it said nothing")
    assert text(folder / "said") == "one two x=y [] \n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts programs as other users")
async def test_a_program_is_its_user_with_all_groups_and_no_privilege(folder: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    body = 'grep -E "^(Uid|Gid|Groups|CapEff)" /proc/self/status > new; mv new who; exec sleep 60\n'
    async with running(program(folder, "p", body, "nobody")):
        await until(lambda: text(folder / "who"), "it never ran")
    facts = {line.split(":")[0]: line.split(":")[1].split() for line in text(folder / "who").splitlines()}
    assert set(facts["Uid"]) == {str(nobody.pw_uid)} and set(facts["Gid"]) == {str(nobody.pw_gid)}
    assert facts["Groups"] == [str(gid) for gid in sorted(os.getgrouplist("nobody", nobody.pw_gid))]
    assert int(facts["CapEff"][0], 16) == 0


async def test_what_it_prints_goes_to_the_log(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "hafsm.respawn")
    body = 'echo out; echo err >&2; head -c 9000 /dev/zero | tr "\\0" x; printf "\\nlast"; exit 100\n'
    async with running(program(folder, "p", body)):
        await until(lambda: "not started again" in caplog.text, "it did not end")
    lines = [record.getMessage() for record in caplog.records]
    assert lines[1:3] == ["p: out", "p: err"] and lines[-2] == "p: last"
    assert "".join(line.removeprefix("p: ") for line in lines[3:-2]) == "x" * 9000
    assert max(map(len, lines)) < 3 * respawn.READ_BYTES


async def test_a_program_that_ends_is_started_again(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    entry = program(folder, "p", "echo >> lives; [ $(wc -l < lives) = 3 ] && exec sleep 60; kill -9 $$\n")
    async with running(entry):
        await until(lambda: text(folder / "lives").count("\n") == 3, "three lives")
    assert [record.getMessage() for record in caplog.records] == ["p was killed by signal 9: starting it again"] * 2


async def test_exit_code_100_is_the_end(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "hafsm.respawn")
    programs = Programs([program(folder, "p", "echo >> lives; exit 100\n")], {})
    programs.start()
    await until(lambda: "p ended with exit code 100: not started again" in caplog.text, "it did not end")
    await programs.close()
    assert text(folder / "lives") == "\n"


async def test_after_eleven_quick_deaths_it_is_left_alone(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    programs = Programs([program(folder, "p", "echo >> lives; exit 3\n")], {})
    programs.start()
    said = "p ended with exit code 3; 11 quick deaths in a row: not started again"
    await until(lambda: said in caplog.text, "it was started for ever")
    await programs.close()
    assert text(folder / "lives") == "\n" * 11


async def test_a_long_life_is_no_quick_death(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(respawn, "QUICK_S", 0.0)
    async with running(program(folder, "p", "echo >> lives; exit 3\n")):
        await until(lambda: text(folder / "lives").count("\n") > respawn.QUICK_DEATHS + 3, "it was left alone")


async def test_they_start_once_and_stop_in_reverse_order(folder: Path) -> None:
    body = 'trap "echo $0 >> order; exit" TERM; echo >> ready-$(basename $0); while :; do sleep 0.05; done\n'
    programs = Programs([program(folder, name, body) for name in ("a", "b", "c")], {})
    programs.start()
    programs.start()
    await until(lambda: all(text(folder / f"ready-{name}") for name in "abc"), "they did not start")
    await programs.close()
    assert text(folder / "order") == "".join(f"{folder}/{name}\n" for name in "cba")
    assert [text(folder / f"ready-{name}") for name in "abc"] == ["\n"] * 3


async def test_one_that_does_not_listen_is_killed_with_its_children(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(respawn, "STOP_LIMIT_S", 0.3)
    body = 'trap "" TERM; sleep 61 & echo $$ $! > new; mv new pids; wait; wait\n'
    async with running(program(folder, "p", body)):
        await until(lambda: text(folder / "pids"), "it did not start")
        pids = [int(pid) for pid in text(folder / "pids").split()]
    await until(lambda: all(map(has_ended, pids)), "something is left")


async def test_a_file_that_cannot_be_run_is_given_up(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "p").write_bytes(b"\x00\x01")
    programs = Programs([Respawn(user=ME, command=str(folder / "p")), Respawn(user="no-such-user", command="/x")], {})
    programs.start()
    await until(lambda: caplog.text.count("quick deaths in a row: not started again") == 2, "they are tried for ever")
    await programs.close()


def test_what_this_host_lacks(folder: Path) -> None:
    assert respawn.missing(program(folder, "p", "")) == ""
    assert respawn.missing(Respawn(user="no-such-user", command="/bin/sh -c x")) == (
        "respawn /bin/sh -c x: there is no user no-such-user on this host"
    )
    (folder / "plain").write_text("")
    for path in (folder / "plain", folder / "nowhere"):
        assert respawn.missing(Respawn(user=ME, command=str(path))) == (
            f"respawn {path}: {path} is no executable file on this host"
        )


async def test_it_ends_when_the_core_is_killed(folder: Path) -> None:
    entry = program(folder, "p", "echo $$ > new; mv new pid; exec sleep 60\n")
    core = await asyncio.create_subprocess_exec(sys.executable, "-c", CORE, ME, entry.command, cwd=ROOT)
    try:
        await until(lambda: text(folder / "pid"), "it did not start")
        core.kill()
        await until(lambda: has_ended(int(text(folder / "pid"))), "it outlived the core")
    finally:
        with contextlib.suppress(ProcessLookupError):
            core.kill()
        await core.wait()


def test_the_daemon_runs_them_while_it_is_active(tmp_path: Path, folder: Path) -> None:
    entry = program(folder, "p", 'trap "echo stopped > end; exit" TERM; echo $HA_X > new; mv new began\n')
    with Path(folder / "p").open("a") as file:
        file.write("while :; do sleep 0.05; done\n")
    daemon = Daemon(tmp_path / "a", ha_cf=f"env X=7\nrespawn {ME} {entry.command}\n").start()
    try:
        daemon.waits_until(lambda status: status["stable"] and text(folder / "began") == "7\n")
        assert daemon.stop() == 0, daemon.log
        assert text(folder / "end") == "stopped\n"
    finally:
        daemon.power_cut()


def test_after_a_crash_of_the_core_there_is_one_again(tmp_path: Path, folder: Path) -> None:
    entry = program(folder, "p", "echo $$ >> pids; exec sleep 60\n")
    daemon = Daemon(tmp_path / "a", ha_cf=f"respawn {ME} {entry.command}\n").start()
    try:
        daemon.waits_until(lambda status: status["stable"] and text(folder / "pids"))
        os.kill(daemon.core_pid(), signal.SIGKILL)
        daemon.waits_until(lambda _: len(text(folder / "pids").split()) == 2)
        old, new = map(int, text(folder / "pids").split())
        assert (has_ended(old), has_ended(new)) == (True, False)
        assert daemon.stop() == 0 and has_ended(new)
    finally:
        daemon.power_cut()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("respawn no-such-user /bin/true", "respawn /bin/true: there is no user no-such-user on this host"),
        ("stonith_host * fence_nowhere a=b", "fence agent fence_nowhere is not installed (packages fence-agents…)"),
        ("coreroot /no/such/folder", "coreroot /no/such/folder is no folder on this host"),
    ],
)
def test_the_daemon_refuses_to_start_without_what_ha_cf_names(tmp_path: Path, line: str, said: str) -> None:
    daemon = Daemon(tmp_path / "a", ha_cf=f"{line}\n").start()
    try:
        assert daemon.process is not None and daemon.process.wait(LIMIT_S) == 6
        assert f"hafsm was not started: ha.cf: {said}\n" in daemon.log
    finally:
        daemon.power_cut()
