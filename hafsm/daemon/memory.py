"""What is in force across lives: operators' words, and which fallbackcommands were told `start`.

A file of its own in `state_dir`, replaced as a whole by rename after fsync. Whoever finds it missing or unreadable says
so; nothing is guessed.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from hafsm.core.actions import RememberOverrides
from hafsm.core.settings import Override
from hafsm.daemon.identity import replace_file

NAME = "operators.json"


class Remembered(NamedTuple):
    """What an earlier life left."""

    overrides: tuple[Override, ...] = ()
    fallbacks: tuple[str, ...] = ()
    trouble: str = ""
    """Why nothing is known; empty: it is."""


class _Stored(msgspec.Struct):
    overrides: tuple[Override, ...] = ()
    fallbacks: tuple[str, ...] = ()


def recall(state_dir: Path, *, first_life: bool) -> Remembered:
    """Read it; in the first life there is nothing to read, and an empty one is written. Blocks."""
    path = state_dir / NAME
    try:
        stored = msgspec.json.decode(path.read_bytes(), type=_Stored)
    except FileNotFoundError:
        trouble = "" if first_life else f"{path} is gone"
    except OSError as error:
        return Remembered(trouble=f"{path}: {error.strerror}")
    except (ValueError, msgspec.MsgspecError) as error:
        aside = path.with_suffix(".unreadable")
        path.replace(aside)
        trouble = f"{path}: {error}; kept as {aside}"
    else:
        return Remembered(stored.overrides, stored.fallbacks)
    try:
        replace_file(path, msgspec.json.encode(_Stored()))
    except OSError as error:
        trouble = trouble or f"{path}: {error.strerror}"
    return Remembered(trouble=trouble)


def keep(state_dir: Path, action: RememberOverrides) -> None:
    """Write it. Blocks; raises OSError."""
    stored = _Stored(action.overrides, action.fallbacks)
    replace_file(state_dir / NAME, msgspec.json.encode(stored))
