"""The lines of ldirectord.cf as directives and sections, before any value is understood.

Global directives begin in column 0. `virtual=` begins a section; its body is indented by at least 4 columns, a tab
counting 4. What ldirectord refuses but can only mean one thing (an empty line in a body, a comment behind a global
directive, CR LF) is accepted with a warning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from hafsm.config.findings import Report, quote
from hafsm.config.ldirectord_directives import BYTES, FREE_TEXT, VIRTUALS
from hafsm.config.source import Line, Source, is_clean

_DIRECTIVE = re.compile(r"([^\s=]+)[ \t]*(?:=[ \t]*(.*))?")
_INDENT_COLUMNS = 4


@dataclass(frozen=True, slots=True)
class Directive:
    """`key = value`."""

    line: int
    key: str
    value: str | None
    """Without blanks around it; None: there is no `=`."""
    blanks_behind: bool = False
    """Blanks stood behind the value."""


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
        if report.full:
            break
        stripped = text.strip(" \t")
        if not stripped:
            gap = gap or number
            continue
        if stripped.startswith("#"):
            continue
        cut = _without_comment(number, text, report)
        directive = _directive(number, cut)
        if directive.key in FREE_TEXT and (latin := _from_latin_1(cut)) != cut:
            report.warn(number, f"{directive.key}: bytes that are not UTF-8", "UTF-8 text", "They are read as Latin-1")
            cut, directive = latin, _directive(number, latin)
        if not _is_clean(directive.key, Line(number, cut), report):
            continue
        columns = sum(_INDENT_COLUMNS if c == "\t" else 1 for c in text[: len(text) - len(text.lstrip(" \t"))])
        if columns == 0:
            current = None
            if directive.key in VIRTUALS:
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


def _from_latin_1(text: str) -> str:
    """Undecodable bytes as the letters that they are in Latin-1."""
    return "".join(chr(ord(c) - 0xDC00) if "\udc80" <= c <= "\udcff" else c for c in text)


def _is_clean(key: str, line: Line, report: Report) -> bool:
    if key not in BYTES:
        return is_clean(line, line.text, report)
    head, quote_, text = line.text.partition('"')
    return is_clean(line, head + quote_ + "".join(filter(str.isascii, text)), report)


def _directive(number: int, cut: str) -> Directive:
    text = cut.strip(" \t")
    found = _DIRECTIVE.fullmatch(text)
    if found is None:
        return Directive(number, re.split(r"[ \t=]", text, maxsplit=1)[0], None)
    value: str | None = found[2]
    return Directive(number, found[1], value, blanks_behind=cut[-1] in " \t")


def _without_comment(number: int, text: str, report: Report) -> str:
    """ldirectord cuts from the first `#`, in quotes too, but only inside sections."""
    in_body = text[0] in " \t"
    value, mark, rest = text.partition("#")
    if not in_body:
        # There a # between quotes stays what it is.
        while mark and value.count('"') == 1 and '"' in rest:
            more, mark, rest = rest.partition("#")
            value += "#" + more
    if not mark:
        return text
    if value.count('"') == 1:
        report.warn(number, "# inside quotes begins a comment", "text without #", "ldirectord cuts the line there too")
    elif not in_body and not value.startswith(VIRTUALS):
        report.warn(
            number,
            "a comment behind a global directive",
            "it on a line of its own",
            "ldirectord takes it for part of the value",
        )
    return value
