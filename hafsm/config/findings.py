"""What is wrong or odd in the files: findings, collected rather than raised, so that one run shows all of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from hafsm.errors import ConfigError

Level = Literal["error", "warning"]

QUOTE_LIMIT = 60
"""Characters of the operator's text that a message repeats; a line of binary rubbish must not fill the terminal."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One remark about one place. An error keeps the daemon from starting, a warning does not."""

    level: Level
    file: str
    """Path as the operator knows it."""
    line: int
    """1-based; 0 when the whole file is meant."""
    found: str
    expected: str
    remedy: str = ""
    """What to do, one sentence; empty when `expected` says it all."""

    @property
    def is_error(self) -> bool:
        return self.level == "error"

    def as_error(self) -> ConfigError:
        """The same as an exception."""
        return ConfigError(self.file, self.line, self.found, self.expected, self.remedy)

    def __str__(self) -> str:
        """One line without the level."""
        return str(self.as_error())


@dataclass(slots=True)
class Report:
    """Collects the findings about one file."""

    file: str
    findings: list[Finding] = field(default_factory=list)

    def error(self, line: int, found: str, expected: str, remedy: str = "") -> None:
        self.findings.append(Finding("error", self.file, line, found, expected, remedy))

    def warn(self, line: int, found: str, expected: str, remedy: str = "") -> None:
        self.findings.append(Finding("warning", self.file, line, found, expected, remedy))

    @property
    def failed(self) -> bool:
        return any(f.is_error for f in self.findings)


def printable(text: str) -> str:
    """The operator's words on one line, shortened to `QUOTE_LIMIT` characters."""
    short = text if len(text) <= QUOTE_LIMIT else text[: QUOTE_LIMIT - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in short)


def quote(text: str) -> str:
    """The same in quotes."""
    return f'"{printable(text)}"'


def suggestion(word: str, known: Iterable[str]) -> str:
    """`Did you mean "x"?` for the most similar known word; empty when none is similar."""
    near = difflib.get_close_matches(word[:QUOTE_LIMIT], sorted(known), n=1)
    return f'Did you mean "{near[0]}"?' if near else ""
