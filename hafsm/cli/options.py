"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from hafsm.config.settings_file import DaemonSettings, load_settings_file
from hafsm.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])


def _load(_context: click.Context, _parameter: click.Parameter, value: Path | None) -> DaemonSettings:
    try:
        return load_settings_file(value)
    except ConfigError as error:
        raise click.ClickException(str(error)) from error


def settings_option(function: F) -> F:
    """`--settings FILE`, given to the command as a loaded `DaemonSettings`."""
    return click.option(
        "--settings",
        type=click.Path(path_type=Path, dir_okay=False),
        callback=_load,
        metavar="FILE",
        help="What the old files cannot say (TOML).  [default: /etc/hafsm/hafsm.toml if it exists]",
    )(function)
