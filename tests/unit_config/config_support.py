"""The scenario's files and how findings are written down in these tests."""

from __future__ import annotations

from pathlib import Path

from hafsm.config.load import Loaded

SCENARIO = Path(__file__).parent / "scenario"
FILES = ("ha.cf", "haresources", "authkeys", "ldirectord.cf")
NODE = "server40.example.com"


def describe(loaded: Loaded, directory: Path) -> list[str]:
    """`level name:line: …` for each finding; checks that errors and only errors withhold the result."""
    failed = any(f.is_error for f in loaded.findings)
    assert (loaded.settings is None) is failed
    assert (loaded.configuration is None) is failed
    return [f"{f.level} {f}".replace(f"{directory}/", "") for f in loaded.findings]
