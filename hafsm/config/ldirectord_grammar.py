"""The lines of ldirectord.cf as directives and sections, before any value is understood.

Global directives begin in column 0. `virtual=` begins a section; its body is indented by at least 4 columns, a tab
counting 4. What ldirectord refuses but can only mean one thing (an empty line in a body, a comment behind a global
directive, CR LF) is accepted with a warning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from hafsm.config.findings import Report, quote
from hafsm.config.source import Source, is_clean

_DIRECTIVE = re.compile(r"([^\s=]+)[ \t]*(?:=[ \t]*(.*))?")
_INDENT_COLUMNS = 4


@dataclass(frozen=True, slots=True)
class Directive:
    """`key = value`."""

    line: int
    key: str
    value: str | None
    """Without blanks around it; None: there is no `=`."""


@dataclass(slots=True)
class Section:
    """A `virtual` line with its body."""

    head: Directive
    body: list[Directive] = field(default_factory=list)


def split(source: Source, report: Report) -> tuple[list[Directive], list[Section]]:
    """The global directives and the sections, in the order of the file."""
    globals_: list[Directive] = []
    sections: list[Section] = []
    current: Section | None = None
    gap = 0
    if source.carriage_returns:
        report.warn(0, "lines end in CR LF", "lines that end in LF", "ldirectord refuses them in yes/no values")
    for number, text in source.lines:
        stripped = text.strip(" \t")
        if not stripped:
            gap = gap or number
            continue
        if stripped.startswith("#"):
            continue
        cut = _without_comment(number, stripped, report, in_body=text[0] in " \t")
        if not is_clean(source.lines[number - 1], cut, report):
            continue
        directive = _directive(number, cut)
        columns = sum(_INDENT_COLUMNS if c == "\t" else 1 for c in text[: len(text) - len(text.lstrip(" \t"))])
        if columns == 0:
            current = None
            if directive.key in ("virtual", "virtual6"):
                current = Section(directive)
                sections.append(current)
            else:
                globals_.append(directive)
        elif current is None:
            report.error(
                number,
                f"{quote(directive.key)} is indented outside a virtual section",
                "a global directive in column 0, or a virtual= line above",
            )
        elif columns < _INDENT_COLUMNS:
            report.error(
                number,
                f"{quote(directive.key)} is indented by {columns}",
                "a tab or at least 4 blanks in a virtual section",
            )
        else:
            if gap > (current.body[-1] if current.body else current.head).line:
                report.warn(gap, "an empty line in a virtual section", "none", "ldirectord ends the section here")
            current.body.append(directive)
        gap = 0
    return globals_, sections


def _directive(number: int, text: str) -> Directive:
    found = _DIRECTIVE.fullmatch(text)
    if found is None:
        return Directive(number, text.split(None, 1)[0].rstrip("="), None)
    value: str | None = found[2]
    return Directive(number, found[1], value)


def _without_comment(number: int, text: str, report: Report, *, in_body: bool) -> str:
    """ldirectord cuts from the first `#`, in quotes too, but only inside sections."""
    value, mark, _ = text.partition("#")
    if not mark:
        return text
    if value.count('"') == 1:
        report.warn(number, "# inside quotes begins a comment", "text without #", "ldirectord cuts the line there too")
    elif not in_body and not value.startswith(("virtual=", "virtual ", "virtual6")):
        report.warn(
            number,
            "a comment behind a global directive",
            "it on a line of its own",
            "ldirectord takes it for part of the value",
        )
    return value.rstrip(" \t")
