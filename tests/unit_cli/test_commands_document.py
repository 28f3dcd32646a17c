"""docs/commands.md knows every command, and the program every name that it promises."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from hafsm.cli.cl_status import SUB_COMMANDS, USAGE
from hafsm.cli.main import main

DOCUMENT = (Path(__file__).parents[2] / "docs/commands.md").read_text()


def test_every_command_is_in_the_document() -> None:
    context = click.Context(main)
    names = main.list_commands(context)
    assert {"standby", "takeover", "cl-status"} <= set(names)
    assert [name for name in names if f"`{name}`" not in DOCUMENT and f"`{name} " not in DOCUMENT] == []


def test_every_sub_command_of_cl_status_is_in_the_document_and_in_its_usage() -> None:
    for name in SUB_COMMANDS:
        assert f"`{name}" in DOCUMENT, name
        assert name in USAGE, name


@pytest.mark.parametrize("name", ["cl_status", "hb_standby", "hb_takeover"])
def test_heartbeats_names_are_commands_and_in_the_help(name: str) -> None:
    assert f"`hafsm {name}`" in DOCUMENT
    assert name in CliRunner().invoke(main, ["--help"]).output
    assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0


def test_an_unknown_command_is_misuse() -> None:
    done = CliRunner().invoke(main, ["stand-by"])
    assert done.exit_code == 2 and "No such command" in done.output
