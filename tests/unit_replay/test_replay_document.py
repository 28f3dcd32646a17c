"""docs/replay.md knows every option of both commands, every parameter, and shows what is really printed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from hafsm.cli.main import main
from replay.parameters import _PARAMETERS
from tests.unit_replay.incidents import Incident

DOCUMENT = (Path(__file__).parents[2] / "docs/replay.md").read_text()


@pytest.mark.parametrize("name", ["why", "replay"])
def test_every_option_is_in_the_document(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    options = [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
    assert [option for option in options if option not in DOCUMENT and option != "--settings"] == []


def test_every_parameter_is_in_the_document() -> None:
    assert [name for name in _PARAMETERS if f"`{name}`" not in DOCUMENT] == []


TRANSCRIPTS = {
    "why 192.168.2.232 server19.db": "power_cut",
    "replay server19.db --set deadtime=60": "partition",
}


def words_of(text: str) -> str:
    """Without the numbers of events, which move when the directors exchange another message at their start."""
    return re.sub(r"\d+", "0", " ".join(text.split()))


@pytest.mark.parametrize("command", TRANSCRIPTS)
def test_the_transcripts_are_what_is_printed(recorded: Callable[[str], Incident], command: str) -> None:
    (shown,) = re.findall(rf"# hafsm {re.escape(command)}\n(.*?)```", DOCUMENT, re.DOTALL)
    words = command.replace("server19.db", str(recorded(TRANSCRIPTS[command]).b)).split()
    assert words_of(CliRunner().invoke(main, words).output).startswith(words_of(shown))
