"""`hafsm demo`: the whole way through on one machine, as an ordinary user.

Two director processes of the real daemon, heartbeats over real UDP, the embedded kernel with a forwarder in user space
so that the VIP answers, two real servers and a client. Nothing outside 127.0.0.0/8 and a temporary folder is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import click
from rich.console import Console

from hafsm.cli.render import wall_time
from hafsm.cli.replay import summary
from hafsm.cli.status import fetch
from journal.errors import JournalError
from journal.export import export
from replay.engine import replay

DIRECTORS = {"director-a": "127.0.0.11", "director-b": "127.0.0.12"}
REALS = {"real-1": "127.0.0.21", "real-2": "127.0.0.22"}
VIP = "127.0.0.100"
STEP_LIMIT_S = 8.0
ASK_EVERY_S = 0.02

HA_CF = """\
keepalive 100ms
deadtime 1
warntime 500ms
initdead 2
udpport {heartbeat}
ucast lo 127.0.0.11
ucast lo 127.0.0.12
auto_failback on
node director-a
node director-b
"""
HARESOURCES = f"director-a IPaddr::{VIP}/8/lo ldirectord\n"
AUTHKEYS = "auth 1\n1 sha1 only-for-the-demo\n"
LDIRECTORD_CF = """\
checktimeout=1
checkinterval=1
quiescent=no
virtual={vip}:{web}
\treal=127.0.0.21:{web} masq
\treal=127.0.0.22:{web} masq
\tservice=http
\tscheduler=rr
\tprotocol=tcp
\tchecktype=negotiate
\trequest="index.html"
\treceive="real"
"""
SETTINGS = """\
node_name = "{name}"
state_dir = "{folder}/state"
run_dir = "{folder}/run"
[heartbeat]
listen = "{address}"
[kernel]
implementation = "memory"
[log]
level = "info"
"""


class StepFailed(Exception):
    """Something that had to be seen was not."""


@click.command()
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Leave configuration and journals here.")
def demo(keep: Path | None) -> None:
    """Watch a pair of directors fail over on this machine; no root, no IPVS, no second machine.

    Starts two directors and two real servers on 127.0.0.x, asks the VIP all the time, kills the active director, shows
    who took over and why, and replays both journals. Exit status: 0 everything was seen, 1 something was not.
    """
    console = Console(highlight=False)
    folder = Path(tempfile.mkdtemp(prefix="hafsm-demo-"))
    try:
        asyncio.run(_Demo(console, folder).run())
    except StepFailed as error:
        console.print(f"[red]not seen:[/red] {error}")
        for log in sorted(folder.glob("*/log")):
            console.print(f"--- {log.parent.name}", markup=False)
            console.print(log.read_text()[-3000:], markup=False)
        sys.exit(1)
    finally:
        if keep is not None:
            shutil.copytree(folder, keep, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sock"))
        shutil.rmtree(folder, ignore_errors=True)


class _Client:
    """Asks the VIP on a new connection every 20 ms and remembers who answered when."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.answers: list[tuple[float, str]] = []
        """(monotonic seconds, body), failures left out."""

    async def ask_for_ever(self) -> None:
        while True:
            with contextlib.suppress(OSError, TimeoutError):
                body = await asyncio.wait_for(self._ask(), 0.5)
                if body:
                    self.answers.append((time.monotonic(), body))
            await asyncio.sleep(ASK_EVERY_S)

    async def _ask(self) -> str:
        reader, writer = await asyncio.open_connection(VIP, self._port)
        try:
            writer.write(b"GET /index.html HTTP/1.0\r\n\r\n")
            answer = await reader.read()
        finally:
            writer.close()
        return answer.partition(b"\r\n\r\n")[2].decode().strip()

    def since(self, moment: float) -> list[str]:
        return [body for at, body in self.answers if at >= moment]

    def longest_silence(self, moment: float) -> float:
        """Seconds between two answers, from the last one before `moment`."""
        times = [at for at, _ in self.answers]
        before = max((at for at in times if at < moment), default=moment)
        later = [before, *(at for at in times if at >= moment)]
        return max((b - a for a, b in pairwise(later)), default=0.0)


class _Demo:
    def __init__(self, console: Console, folder: Path) -> None:
        self._console = console
        self._folder = folder
        self._began = time.monotonic()
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._web = _free_port(socket.SOCK_STREAM, [VIP, *REALS.values()])
        self._heartbeat = _free_port(socket.SOCK_DGRAM, DIRECTORS.values())
        self._client = _Client(self._web)
        self._shown: dict[str, int] = {}
        """Number of the last event of each director that was shown."""

    async def run(self) -> None:
        try:
            async with self._real_servers():
                asking = asyncio.create_task(self._client.ask_for_ever())
                try:
                    await self._story()
                finally:
                    asking.cancel()
        finally:
            for name in list(self._processes):
                await self._kill(name)
        self._replay_both()
        self._say(f"done in {time.monotonic() - self._began:.1f} s")

    async def _story(self) -> None:
        for name, address in DIRECTORS.items():
            await self._start(name, address)
        self._say(f"two directors are starting; the VIP is {VIP}:{self._web}, served by {' and '.join(REALS)}")
        await self._until(lambda: set(self._client.since(0)) == set(REALS), "the VIP answered from both real servers")
        self._say(f"the VIP answers from both real servers: {' '.join(self._client.since(0)[-6:])}")
        active, standby = "director-a", "director-b"
        status = await self._status(standby)
        self._say(f"{active} holds the VIP, {standby} is {_node(status, standby)['state']}")

        self._servers["real-1"].close()
        moment = time.monotonic()
        self._say("real-1 stops answering its checks")
        await self._until(
            lambda: len(self._client.since(moment)) > 20 and set(self._client.since(moment)[-20:]) == {"real-2"},
            "only real-2 answered",
        )
        await self._show_reason(active, "real server 127.0.0.21", "is removed")
        await self._serve("real-1")
        self._say("real-1 answers again")
        moment = time.monotonic()
        await self._until(lambda: set(self._client.since(moment)) == set(REALS), "real-1 came back")
        await self._show_reason(active, "real server 127.0.0.21", "is up")

        moment = time.monotonic()
        await self._kill(active)
        self._say(f"{active} is killed (kill -9, daemon and supervisor: what a power cut looks like)")
        await self._until(lambda: len(self._client.since(moment + 0.5)) > 20, f"{standby} took over")
        status = await self._status(standby)
        if [vip["holder"] for vip in status["vips"]] != [standby]:
            raise StepFailed(f"{standby} does not say that it holds the VIP: {status['vips']}")
        silence = self._client.longest_silence(moment)
        self._say(f"{standby} took over; the client saw no answer for {silence:.2f} s (deadtime 1 s)")
        await self._show_reason(standby, f"{active} is dead")

        await self._start(active, DIRECTORS[active])
        moment = time.monotonic()

        async def came_home() -> bool:
            status = await self._status(active)
            return bool(status["stable"]) and [vip["holder"] for vip in status["vips"]] == [active]

        await self._until(came_home, f"{active} got its VIP back")
        await self._until(lambda: len(self._client.since(moment)) > 20, "the VIP answered after the failback")
        self._say(
            f"{active} is back, auto_failback is on: it holds the VIP again; "
            f"the client saw no answer for {self._client.longest_silence(moment):.2f} s"
        )
        for name in DIRECTORS:
            await self._stop(name)
        self._say("both directors stopped by SIGTERM")

    # ---- processes and servers

    @contextlib.asynccontextmanager
    async def _real_servers(self) -> AsyncIterator[None]:
        self._servers: dict[str, asyncio.Server] = {}
        for name in REALS:
            await self._serve(name)
        try:
            yield
        finally:
            for server in self._servers.values():
                server.close()

    async def _serve(self, name: str) -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await reader.readuntil(b"\r\n\r\n")
                body = f"{name}\n"
                writer.write(f"HTTP/1.0 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
                await writer.drain()
            writer.close()

        self._servers[name] = await asyncio.start_server(answer, REALS[name], self._web)

    async def _start(self, name: str, address: str) -> None:
        folder = self._folder / name
        (folder / "ha.d").mkdir(parents=True, exist_ok=True)
        for file, text in (
            ("ha.cf", HA_CF.format(heartbeat=self._heartbeat)),
            ("haresources", HARESOURCES),
            ("authkeys", AUTHKEYS),
            ("ldirectord.cf", LDIRECTORD_CF.format(vip=VIP, web=self._web)),
        ):
            (folder / "ha.d" / file).write_text(text)
        (folder / "ha.d" / "authkeys").chmod(0o600)
        (folder / "hafsm.toml").write_text(SETTINGS.format(name=name, folder=folder, address=address))
        with (folder / "log").open("ab") as log:
            self._processes[name] = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "hafsm.cli.main",
                "run",
                f"--config-dir={folder / 'ha.d'}",
                f"--settings={folder / 'hafsm.toml'}",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def _kill(self, name: str) -> None:
        process = self._processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()

    async def _stop(self, name: str) -> None:
        process = self._processes[name]
        process.terminate()
        try:
            code = await asyncio.wait_for(process.wait(), STEP_LIMIT_S)
        except TimeoutError:
            raise StepFailed(f"{name} stopped within {STEP_LIMIT_S:g} s of SIGTERM") from None
        del self._processes[name]
        if code != 0:
            raise StepFailed(f"{name} ended with exit code 0 but {code}")

    async def _status(self, name: str) -> dict[str, Any]:
        """Of a director whose admin socket may only just be opening."""
        answer: dict[str, Any] = {}

        async def answered() -> bool:
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                answer.update(await fetch(self._folder / name / "run" / "hafsm.sock"))
            return bool(answer)

        await self._until(answered, f"{name} answered `hafsm status`")
        return answer

    # ---- seeing and saying

    async def _until(self, condition: Callable[[], Any], what: str) -> None:
        end = time.monotonic() + STEP_LIMIT_S
        while True:
            seen = condition()
            if asyncio.iscoroutine(seen):
                seen = await seen
            if seen:
                return
            if time.monotonic() > end:
                raise StepFailed(f"{what} (within {STEP_LIMIT_S:g} s)")
            await asyncio.sleep(0.05)

    async def _show_reason(self, name: str, *words: str) -> None:
        """The newest decision whose sentence has all these words, and that was not shown yet."""
        matching: list[dict[str, Any]] = []

        async def given() -> bool:
            shown = self._shown.get(name, 0)
            matching[:] = [
                entry
                for entry in (await self._status(name))["reasons"]
                if entry["event"] > shown and all(word in entry["reason"] for word in words)
            ]
            return bool(matching)

        await self._until(given, f"{name} gave a reason with {' and '.join(words)}")
        entry = matching[-1]
        self._shown[name] = entry["event"]
        self._console.print(
            f"        {name} says why (event {entry['event']}, {wall_time(entry['wall_ns'])[11:]}): "
            f"[cyan]{entry['reason']}[/cyan]",
            soft_wrap=True,
        )

    def _say(self, text: str) -> None:
        self._console.print(f"[bold]{time.monotonic() - self._began:5.1f} s[/bold] {text}", soft_wrap=True)

    def _replay_both(self) -> None:
        for name in DIRECTORS:
            target = self._folder / f"{name}.db"
            try:
                export(self._folder / name / "state" / "journal", target)
                result = replay(target)
            except JournalError as error:
                raise StepFailed(f"the journal of {name} replays: {error}") from error
            if not result.identical:
                raise StepFailed(f"the journal of {name} replays identically: {result.difference}")
            self._say(f"replay of {name}'s journal: {summary(result)}")


def _node(status: dict[str, Any], name: str) -> dict[str, Any]:
    node: dict[str, Any] = next(node for node in status["nodes"] if node["name"] == name)
    return node


def _free_port(kind: socket.SocketKind, addresses: Any) -> int:
    """A port that is free on all of these addresses at once."""
    for port in range(20694, 30694, 7):
        with contextlib.ExitStack() as stack:
            try:
                for address in addresses:
                    sock = stack.enter_context(socket.socket(socket.AF_INET, kind))
                    sock.bind((address, port))
            except OSError:
                continue
            return port
    raise StepFailed("a free port on 127.0.0.x")
