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


FINDINGS_LIMIT = 1000
"""Remarks of one level about one file that are kept; whoever has more of them gave the wrong file."""


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
    """Collects the findings about one file, each once: the first `FINDINGS_LIMIT` of each level."""

    file: str
    findings: list[Finding] = field(default_factory=list)
    _seen: set[Finding] = field(default_factory=set)
    _counts: dict[Level, int] = field(default_factory=lambda: {"error": 0, "warning": 0})

    def error(self, line: int, found: str, expected: str, remedy: str = "") -> None:
        self._add(Finding("error", self.file, line, found, expected, remedy))

    def warn(self, line: int, found: str, expected: str, remedy: str = "") -> None:
        self._add(Finding("warning", self.file, line, found, expected, remedy))

    def _add(self, finding: Finding) -> None:
        if finding in self._seen:
            return
        self._counts[finding.level] += 1
        if self._counts[finding.level] <= FINDINGS_LIMIT:
            self._seen.add(finding)
            self.findings.append(finding)
        elif self._counts[finding.level] == FINDINGS_LIMIT + 1:
            more = f"more than {FINDINGS_LIMIT} {finding.level}s"
            self.findings.append(
                Finding(finding.level, self.file, finding.line, more, "fewer", "The others are not shown")
            )

    @property
    def failed(self) -> bool:
        return self._counts["error"] > 0

    @property
    def full(self) -> bool:
        """There are so many errors that nobody reads on."""
        return self._counts["error"] > FINDINGS_LIMIT

    def in_order(self) -> list[Finding]:
        """By lines."""
        return sorted(self.findings, key=lambda finding: finding.line)

    @property
    def errors(self) -> int:
        """How many there were, kept or not."""
        return self._counts["error"]


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
