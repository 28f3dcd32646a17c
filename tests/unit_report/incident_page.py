"""docs/incident.md: its commands are run and their outputs are the page's.

    python -m tests.unit_report.incident_page     writes outputs and screenshot anew, from the journals beside the page

Every fenced block that begins with `$ ` is one command and its output. The test that a command of the page makes of the
incident is kept in tests/incidents and runs there.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.unit_report.browser import browser

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/incident.md"
FOLDER = ROOT / "docs/incident"
SCREENSHOT = FOLDER / "report.png"
MADE = ("test_the_survivor_takes_over.py", "the_survivor_takes_over.db")
INCIDENTS = ROOT / "tests/incidents"
_BLOCK = re.compile(r"^```\n\$ (?P<command>[^\n]*)\n(?P<output>.*?)^```$", re.MULTILINE | re.DOTALL)


class Shown(NamedTuple):
    command: str
    output: str


def blocks() -> list[Shown]:
    return [Shown(match["command"], match["output"]) for match in _BLOCK.finditer(PAGE.read_text())]


def copy_journals(folder: Path) -> None:
    """What the commands find where they run."""
    for file in FOLDER.glob("*.db"):
        shutil.copyfile(file, folder / file.name)


def run(command: str, folder: Path) -> str:
    """A command's output, in UTC. Raises `AssertionError` if it fails."""
    words = shlex.split(command)
    if words[0] == "cat":
        return (folder / words[1]).read_text()
    assert words[0] == "hafsm", command
    done = subprocess.run(
        [sys.executable, "-m", "hafsm.cli.main", *words[1:]],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TZ": "UTC", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def _rewrite(folder: Path) -> None:
    text = _BLOCK.sub(lambda match: f"```\n$ {match['command']}\n{run(match['command'], folder)}```", PAGE.read_text())
    PAGE.write_text(text)
    for name in MADE:
        shutil.copyfile(folder / name, INCIDENTS / name)


async def _photograph(file: Path) -> bytes:
    async with browser() as page:
        await page.look(1000, 1280)
        await page.open(file.as_uri())
        picture = await page.screenshot()
        assert page.errors == []
        return picture


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="hafsm-incident-") as name:
        folder = Path(name)
        copy_journals(folder)
        _rewrite(folder)
        SCREENSHOT.write_bytes(asyncio.run(_photograph(folder / "incident.html")))


if __name__ == "__main__":
    main()
