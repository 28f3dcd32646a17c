"""The maintenance folder, the monitor file, the memory of operators' words, and ldirectord.cf as it is watched."""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from hafsm.config.model import LdirectordCf
from hafsm.core import events as ev
from hafsm.core.actions import RememberOverrides
from hafsm.core.events import MaintenanceEntry
from hafsm.core.settings import SECOND, NodeName, Override, RealVerb
from hafsm.daemon import maintenance, memory, monitor, reload
from tests.unit_core.pair import Pair, service

LIMIT_S = 20.0


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0.01)


# ---- the maintenance folder


class Watched:
    """A maintenance folder that is watched, and what was said of it."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(maintenance, "LOOK_EVERY_S", 0.01)
        self.said: list[ev.MaintenanceListed] = []
        self.folder = maintenance.MaintenanceFolder(str(path), submit=self.said.append, clock=lambda: 7)  # type: ignore[arg-type]

    async def __aenter__(self) -> Watched:
        self.task = asyncio.create_task(self.folder.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()

    def entries(self) -> dict[str, tuple[tuple[str, ...], int]]:
        return {entry.name: (entry.addresses, entry.port) for entry in self.said[-1].entries} if self.said else {}


async def test_names_mean_servers_and_a_listing_is_told_only_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "10.0.0.1",
        "10.0.0.2:80",
        "[2001:DB8::1]:443",
        "2001:db8:0::2",
        "localhost:25",
        "10.0.0.3:x",
        "10.0.0.3:0",
        "10.0.0.4:70000",
        "no such name",
        "nobody.invalid",
        ".10.0.0.9.swp",
    ):
        (tmp_path / name).touch()
    async with Watched(tmp_path, monkeypatch) as watched:
        await until(lambda: watched.said)
        found = watched.entries()
        assert {name: place for name, place in found.items() if place[0] and name != "localhost:25"} == {
            "10.0.0.1": (("10.0.0.1",), 0),
            "10.0.0.2:80": (("10.0.0.2",), 80),
            "[2001:DB8::1]:443": (("2001:db8::1",), 443),
            "2001:db8:0::2": (("2001:db8::2",), 0),
        }
        assert "127.0.0.1" in found["localhost:25"][0] or "::1" in found["localhost:25"][0]
        assert found["nobody.invalid"] == ((), 0) and ".10.0.0.9.swp" not in found
        await asyncio.sleep(0.1)
        assert len(watched.said) == 1
        (tmp_path / "10.0.0.1").unlink()
        await until(lambda: len(watched.said) == 2)
        assert "10.0.0.1" not in watched.entries()


async def test_a_folder_that_vanishes_is_told_and_what_it_said_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "10.0.0.1").touch()
    async with Watched(folder, monkeypatch) as watched:
        await until(lambda: watched.said)
        folder.rename(tmp_path / "away")
        await until(lambda: watched.said[-1].trouble)
        assert watched.said[-1].trouble == f"{folder} cannot be read: No such file or directory"
        assert watched.entries() == {"10.0.0.1": (("10.0.0.1",), 0)}
        (tmp_path / "away").rename(folder)
        await until(lambda: not watched.said[-1].trouble)
        watched.folder.watch("")
        await until(lambda: not watched.said[-1].entries)


async def test_a_folder_that_never_answers_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hangs(path: Path) -> tuple[str, ...]:
        asyncio.run_coroutine_threadsafe(answer.wait(), loop).result()
        return ()

    monkeypatch.setattr(maintenance, "_listed", hangs)
    monkeypatch.setattr(maintenance, "LIST_LIMIT_S", 0.05)
    async with Watched(tmp_path, monkeypatch) as watched:
        await until(lambda: watched.said)
        assert watched.said[-1].trouble == f"{tmp_path} does not answer for 0.05 s"
        answer.set()
        await until(lambda: not watched.said[-1].trouble)


async def test_a_name_server_that_never_answers_costs_that_name_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hangs(host: str) -> tuple[str, ...]:
        asyncio.run_coroutine_threadsafe(answer.wait(), loop).result()
        return ("10.0.0.7",)

    monkeypatch.setattr(maintenance, "_addresses", hangs)
    monkeypatch.setattr(maintenance, "RESOLVE_LIMIT_S", 0.05)
    monkeypatch.setattr(maintenance, "RESOLVE_AGAIN_S", 0.05)
    for name in ("web7", "10.0.0.1"):
        (tmp_path / name).touch()
    async with Watched(tmp_path, monkeypatch) as watched:
        await until(lambda: watched.said)
        assert watched.entries() == {"10.0.0.1": (("10.0.0.1",), 0), "web7": ((), 0)}
        answer.set()
        await until(lambda: watched.entries()["web7"] == (("10.0.0.7",), 0))


# ---- the monitor file


def monitored(file: Path) -> Pair:
    return Pair(services=(service(monitor_file=str(file)),)).start()


def result(check: int, *, ok: bool, detail: str = "") -> ev.CheckResult:
    return ev.CheckResult(check=check, ok=ok, detail=detail)


async def test_a_line_a_check_in_ldirectords_form_also_after_a_rotation(tmp_path: Path) -> None:
    file = tmp_path / "monitor"
    pair = monitored(file)
    written = monitor.Monitor(lambda: pair.a.state)
    plan = pair.a.state.checks_plan
    written.checked(plan, (result(0, ok=True), result(1, ok=False, detail="50%|\r\nbad")))
    await until(lambda: file.exists() and file.read_text().count("\n") == 2)
    up, down = file.read_text().splitlines()
    head = r"\[\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\] \[\d+\] "
    assert re.fullmatch(head + re.escape("negotiate http tcp 192.168.2.31 80 1 gate /index.html [up] -"), up)
    assert re.fullmatch(
        head + re.escape("negotiate http tcp 192.168.2.41 80 1 gate /index.html [down] 50%25%7c%0d%0abad"), down
    )
    file.rename(tmp_path / "monitor.1")
    entry = MaintenanceEntry(name="x", addresses=("192.168.2.31",))
    pair.a.fold(ev.MaintenanceListed(at=pair.now, entries=(entry,)))
    written.checked(plan, (result(0, ok=True),))
    await until(lambda: file.exists() and file.read_text())
    assert file.read_text().endswith("[down] Server in maintenance\n")
    written.checked(plan - 1, (result(0, ok=True),))
    pair.a.fold(ev.ServicesReloaded(at=pair.now, services=(service(),)))
    written.checked(pair.a.state.checks_plan, (result(0, ok=True),))
    await asyncio.sleep(0.05)
    assert file.read_text().count("\n") == 1, "an older plan, and a file no longer named, are not written"


async def test_a_disk_that_hangs_costs_lines_which_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "monitor"
    pair = monitored(file)
    monkeypatch.setattr(monitor, "BATCHES_WAITING", 2)
    written = monitor.Monitor(lambda: pair.a.state)
    disk = asyncio.Event()
    loop = asyncio.get_running_loop()
    write = written._write

    def hangs(lines: dict[str, list[str]]) -> None:
        asyncio.run_coroutine_threadsafe(disk.wait(), loop).result()
        write(lines)

    written._write = hangs  # type: ignore[method-assign]
    for _ in range(10):
        written.checked(pair.a.state.checks_plan, (result(0, ok=True),))
    disk.set()
    await until(lambda: "lines were lost" in caplog.text)
    kept = 10 - int(re.search(r"(\d+) lines were lost", caplog.text)[1])
    await until(lambda: file.exists() and file.read_text().count("\n") == kept)
    assert 2 <= kept <= 3


async def test_a_file_that_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pair = monitored(tmp_path / "gone" / "monitor")
    written = monitor.Monitor(lambda: pair.a.state)
    for _ in range(3):
        written.checked(pair.a.state.checks_plan, (result(0, ok=True),))
    await until(lambda: "No such file or directory" in caplog.text)
    await asyncio.sleep(0.05)
    assert caplog.text.count("No such file") == 1


# ---- what operators said

WORD = Override(
    service="tcp:192.0.2.1:80",
    real="10.0.0.1:80",
    verb=RealVerb.DRAIN,
    counter=4,
    node=NodeName("a"),
    wall_ns=5 * SECOND,
    by="alice",
    reason="ü",
)
KEPT = RememberOverrides(id=1, overrides=(WORD,), fallbacks=("tcp:192.0.2.1:80",))


def test_what_was_kept_is_recalled(tmp_path: Path) -> None:
    assert memory.recall(tmp_path, first_life=True) == memory.Remembered()
    assert memory.recall(tmp_path, first_life=False) == memory.Remembered(), "nothing said is not a loss"
    memory.keep(tmp_path, KEPT)
    assert memory.recall(tmp_path, first_life=False) == ((WORD,), KEPT.fallbacks, "")
    assert [path.name for path in tmp_path.iterdir()] == [memory.NAME]


def test_a_lost_or_unreadable_memory_is_said_once_and_the_unreadable_one_kept(tmp_path: Path) -> None:
    assert memory.recall(tmp_path, first_life=False).trouble == f"{tmp_path / memory.NAME} is gone"
    assert memory.recall(tmp_path, first_life=False).trouble == ""
    (tmp_path / memory.NAME).write_text('{"overrides": [{"service": 3}]}')
    recalled = memory.recall(tmp_path, first_life=False)
    assert "Expected `str`, got `int`" in recalled.trouble and recalled.overrides == ()
    assert (tmp_path / "operators.unreadable").exists()
    assert memory.recall(tmp_path, first_life=False) == memory.Remembered()


# ---- ldirectord.cf


class Reloads:
    """A Reloader over files in a folder; a file that says `broken` is refused."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
        monkeypatch.setattr(reload, "LOOK_EVERY_S", 0.01)
        self.file = folder / "ldirectord.cf"
        self.file.write_text("one")
        self.current = LdirectordCf(file=str(self.file), autoreload=True, **changes)  # type: ignore[arg-type]
        self.said: list[object] = []
        self.taken: list[LdirectordCf] = []
        self.reads = 0
        self.reloader = reload.Reloader(
            self.current,
            known=reload.digest_of(self.current),
            load=self._load,
            taken=self.taken.append,
            submit=self.said.append,
            clock=lambda: 7,
        )

    def _load(self, path: Path) -> tuple[LdirectordCf | None, list[Wrong]]:
        self.reads += 1
        try:
            text = path.read_text()
        except FileNotFoundError:
            return None, [Wrong(f"{path}: is not there")]
        if "broken" in text:
            return None, [Wrong(f"{path}:1: found broken, expected anything else"), Wrong("more")]
        return replace(self.current, services=(service(scheduler=text),)), []

    async def __aenter__(self) -> Reloads:
        self.task = asyncio.create_task(self.reloader.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()

    def schedulers(self) -> list[str]:
        return [e.services[0].scheduler if isinstance(e, ev.ServicesReloaded) else e.detail for e in self.said]  # type: ignore[attr-defined]


class Wrong(str):
    level = "error"


async def test_content_counts_not_time_and_a_broken_file_is_told_as_often_as_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Reloads(tmp_path, monkeypatch) as reloads:
        times = reloads.file.stat()
        for number, text in enumerate(("two", "broken", "six"), 1):
            reloads.file.write_text(text)
            os.utime(reloads.file, ns=(times.st_atime_ns, times.st_mtime_ns))
            await until(lambda number=number: len(reloads.said) == number)
        assert reloads.schedulers() == [
            "two",
            f"{reloads.file}:1: found broken, expected anything else and 1 more",
            "six",
        ]
        assert len(reloads.taken) == 2
        reloads.file.unlink()
        await until(lambda: len(reloads.said) == 4)
        reloads.file.write_text("six")
        await until(lambda: len(reloads.said) == 5)
        assert reloads.schedulers()[3:] == [f"{reloads.file}: is not there", "six"]
        reloads.file.touch()
        await asyncio.sleep(0.1)
        assert len(reloads.said) == 5


async def test_without_autoreload_only_a_signal_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Reloads(tmp_path, monkeypatch) as reloads:
        reloads.reloader._current = replace(reloads.current, autoreload=False)
        reloads.file.write_text("two")
        await asyncio.sleep(0.1)
        assert reloads.said == []
        reloads.reloader.ask()
        await until(lambda: reloads.schedulers() == ["two"])


async def test_a_file_named_by_execute_is_watched_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other.cf"
    other.write_text("x")
    async with Reloads(tmp_path, monkeypatch, execute=(str(other),)) as reloads:
        other.write_text("y")
        await until(lambda: len(reloads.said) == 1)


def program(path: Path, text: str, mode: int = 0o755) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return str(path)


async def test_the_callback_runs_after_a_change_was_taken_or_seen_and_not_for_a_broken_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = tmp_path / "called"
    callback = program(tmp_path / "callback", f'echo "$@ $(cat "$1")" >> {called}')
    async with Reloads(tmp_path, monkeypatch, callback=callback) as reloads:
        reloads.file.write_text("broken")
        await until(lambda: reloads.said)
        reloads.file.write_text("two")
        await until(lambda: called.exists() and called.read_text())
        assert called.read_text() == f"{reloads.file} two\n" and len(reloads.said) == 2
        reloads.reloader._current = replace(reloads.reloader._current, autoreload=False)
        reloads.file.write_text("three")
        await until(lambda: called.read_text().count("\n") == 2)
        assert len(reloads.said) == 2, "seen, not read"


async def test_a_callback_that_is_not_executable_or_fails_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    callback = tmp_path / "callback"
    program(callback, "echo no >&2; exit 3", mode=stat.S_IRUSR)
    async with Reloads(tmp_path, monkeypatch, callback=str(callback)) as reloads:
        reloads.file.write_text("two")
        await until(lambda: "is not executable: not run" in caplog.text)
        callback.chmod(0o755)
        reloads.file.write_text("three")
        await until(lambda: f"callback {callback} failed: exit 3: no" in caplog.text)
