"""Resource scripts, OCF agents and systemd units: `start`, `stop`, `status`, each with a deadline of its own.

Where a name is looked for: the configured folders (heartbeat's resource.d, then init.d), OCF agents, systemd. What a
script's `status` means is heartbeat 3's reading (output with "running" but not "not running", or with "OK", is running;
the exit code is not asked). An OCF agent is asked by `monitor`, and there only the exit code counts (Open Cluster
Framework resource agent API 1.0: 0 running, 7 stopped, 8 running as master).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hafsm.core.actions import RunScript, ScriptVerb
from hafsm.core.events import Outcome
from hafsm.core.settings import MILLISECOND

OUTPUT_LIMIT = 64 * 1024
DETAIL_LIMIT = 200
KILL_AFTER_S = 2.0
"""Between SIGTERM and SIGKILL for a script out of time."""
SYSTEMD = Path("/run/systemd/system")
OCF_ROOT = Path("/usr/lib/ocf")
OCF_RUNNING, OCF_STOPPED, OCF_RUNNING_MASTER = 0, 7, 8
_PARAMETER = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)


class Ended(NamedTuple):
    """How a script ended."""

    outcome: Outcome
    detail: str
    """For `status`: `running` or `stopped`; else what a person needs to know, empty on success."""


@dataclass(frozen=True, slots=True)
class Script:
    """An executable that takes its arguments as words, the verb last."""

    path: Path

    def command(self, action: RunScript) -> list[str]:
        return [str(self.path), *action.arguments, action.verb.value]

    def environment(self, action: RunScript) -> Mapping[str, str]:
        return {}

    def reads(self, code: int, output: str) -> str:
        return "running" if says_running(output) else "stopped"


@dataclass(frozen=True, slots=True)
class Unit:
    """A systemd unit; it takes no arguments."""

    name: str

    def command(self, action: RunScript) -> list[str]:
        return ["systemctl", "is-active" if action.verb is ScriptVerb.STATUS else action.verb.value, self.name]

    def environment(self, action: RunScript) -> Mapping[str, str]:
        return {}

    def reads(self, code: int, output: str) -> str:
        return "running" if output.strip() in ("active", "activating", "reloading") else "stopped"


@dataclass(frozen=True, slots=True)
class OcfAgent:
    """An OCF resource agent, which takes its parameters from the environment."""

    path: Path
    root: Path

    def command(self, action: RunScript) -> list[str]:
        return [str(self.path), "monitor" if action.verb is ScriptVerb.STATUS else action.verb.value]

    def environment(self, action: RunScript) -> Mapping[str, str]:
        """The parameters and what the API promises besides.

        A status is a probe, as pacemaker marks one (interval 0): agents then do not complain that nothing runs.

        Raises:
            ValueError: an argument is not of the form key=value; the text says which.
        """
        parameters = {}
        for argument in action.arguments:
            match = _PARAMETER.fullmatch(argument)
            if match is None:
                raise ValueError(f"{argument!r} is not key=value, which the OCF agent {self.path} takes")
            parameters[f"OCF_RESKEY_{match[1]}"] = match[2]
        return parameters | {
            "OCF_ROOT": str(self.root),
            "OCF_RA_VERSION_MAJOR": "1",
            "OCF_RA_VERSION_MINOR": "0",
            "OCF_RESOURCE_TYPE": self.path.name,
            "OCF_RESOURCE_PROVIDER": self.path.parent.name,
            "OCF_RESOURCE_INSTANCE": action.script,
            "OCF_RESKEY_CRM_meta_timeout": str(action.timeout_ns // MILLISECOND),
            "OCF_RESKEY_CRM_meta_interval": "0",
        }

    def reads(self, code: int, output: str) -> str:
        if code in (OCF_RUNNING, OCF_RUNNING_MASTER):
            return "running"
        return "stopped" if code == OCF_STOPPED else ""


Found = Script | OcfAgent | Unit
"""Each says what to execute, with which additional environment, and what an answer to `status` means: `running`,
`stopped`, or empty when it is no answer."""


def locate(name: str, folders: Sequence[Path], ocf_root: Path = OCF_ROOT) -> Found | None:
    """What a word of haresources names on this machine, or None. May ask systemd, so it may block for up to 10 s."""
    for folder in folders:
        if _is_program(folder / name):
            return Script(folder / name)
    for provider in _providers(ocf_root):
        if _is_program(provider / name):
            return OcfAgent(provider / name, ocf_root)
    unit = name if "." in name else f"{name}.service"
    systemctl = shutil.which("systemctl")
    if systemctl is None or not SYSTEMD.is_dir():
        return None
    shown = subprocess.run(
        [systemctl, "show", "--property=LoadState", "--value", unit],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    return Unit(unit) if shown.stdout.strip() == "loaded" else None


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _providers(ocf_root: Path) -> Iterator[Path]:
    """Folders with OCF agents: heartbeat's own first, the others by name."""
    folder = ocf_root / "resource.d"
    with contextlib.suppress(OSError):
        yield from sorted(folder.iterdir(), key=lambda path: (path.name != "heartbeat", path.name))


async def run(action: RunScript, folders: Sequence[Path], ocf_root: Path = OCF_ROOT) -> Ended:
    """Run it to its end or to its deadline. Never by a shell."""
    found = await asyncio.to_thread(locate, action.script, folders, ocf_root)
    if found is None:
        places = ", ".join(map(str, folders))
        return Ended(
            Outcome.FAILED,
            f"no script {action.script} in {places}, no OCF agent in {ocf_root} and no systemd unit of that name",
        )
    try:
        environment = os.environ | found.environment(action)
    except ValueError as error:
        return Ended(Outcome.FAILED, str(error))
    done = await _execute(found.command(action), action.timeout_ns / 1e9, environment=environment)
    if action.verb is ScriptVerb.STATUS and done.code is not None:
        answer = found.reads(done.code, done.output)
        if answer:
            return Ended(Outcome.DONE, answer)
    return done.ended


def says_running(output: str) -> bool:
    """heartbeat's reading of a status."""
    running = re.search(r"running", output, re.IGNORECASE) and not re.search(r"not running", output, re.IGNORECASE)
    return bool(running) or re.search(r"\bOK\b", output) is not None


class _Executed(NamedTuple):
    """How a program ended and what it said."""

    ended: Ended
    code: int | None = None
    """Its exit code, negative for the signal that ended it; None if it did not run or did not end in time."""
    output: str = ""
    """The first `OUTPUT_LIMIT` bytes of what it printed."""


async def execute(words: Sequence[str], timeout_s: float, *, stdin: int = subprocess.DEVNULL) -> tuple[Ended, str]:
    """Run a program in a session of its own; returns how it ended and the beginning of what it printed.

    Args:
        stdin: a descriptor that it reads; a file (`memory_file`) keeps nobody waiting if the program does not read.
    """
    done = await _execute(words, timeout_s, stdin=stdin)
    return done.ended, done.output


async def _execute(
    words: Sequence[str],
    timeout_s: float,
    *,
    stdin: int = subprocess.DEVNULL,
    environment: Mapping[str, str] | None = None,
) -> _Executed:
    """The output goes to a sealed memory file, not a pipe: a service that the program leaves running keeps the file, so
    nothing waits for that service to close it, nobody is killed by a closed pipe, and the memory cannot grow.
    """
    with memory_file(b"") as sink:
        os.ftruncate(sink, OUTPUT_LIMIT)
        fcntl.fcntl(sink, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
        try:
            process = await asyncio.create_subprocess_exec(
                *words, stdin=stdin, stdout=sink, stderr=sink, start_new_session=True, env=environment
            )
        except OSError as error:
            return _Executed(Ended(Outcome.FAILED, f"{words[0]}: {error.strerror}"))
        try:
            code = await asyncio.wait_for(process.wait(), timeout_s)
        except TimeoutError:
            await _end(process)
            return _Executed(Ended(Outcome.TIMED_OUT, f"no end within {timeout_s:g} s, killed"))
        except asyncio.CancelledError:
            await asyncio.shield(_end(process))
            raise
        output = os.pread(sink, OUTPUT_LIMIT, 0).rstrip(b"\0").decode(errors="replace")
    if code == 0:
        return _Executed(Ended(Outcome.DONE, ""), code, output)
    last = output.strip().splitlines()[-1:] or [""]
    how = f"exit {code}" if code > 0 else f"killed by signal {-code}"
    detail = f"{how}: {last[0][:DETAIL_LIMIT]}" if last[0] else how
    return _Executed(Ended(Outcome.FAILED, detail), code, output)


@contextlib.contextmanager
def memory_file(content: bytes) -> Iterator[int]:
    """A descriptor of an unnamed file that holds `content`, read from its beginning."""
    descriptor = os.memfd_create("hafsm", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.pwrite(descriptor, content, 0)
        yield descriptor
    finally:
        os.close(descriptor)


async def _end(process: asyncio.subprocess.Process) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), KILL_AFTER_S)
            return
