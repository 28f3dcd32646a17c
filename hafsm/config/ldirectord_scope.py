"""The directives of one place of ldirectord.cf, each read and kept with its line."""

from __future__ import annotations

from dataclasses import dataclass, field

from hafsm.config.findings import Report, printable, quote, suggestion
from hafsm.config.ldirectord_directives import (
    DIRECTIVES,
    KNOWN,
    SECRETS,
    VIRTUALS,
    Entry,
    Number,
    Server,
    Text,
    Texts,
    YesNo,
)
from hafsm.config.ldirectord_grammar import Directive
from hafsm.config.ldirectord_values import (
    USERINFO,
    FallbackLine,
    Note,
    RealLine,
    fallback_line,
    real_line,
    without_user,
)
from hafsm.config.model import Secret, secret_digest
from hafsm.config.names import Misread

REALS_LIMIT = 100_000
"""Real servers of all files; ranges in every line would fill the memory."""
_MAY_NAME_A_USER = frozenset({"request", "real", "real6", "receive"})
"""Their readers take a user out of a URL, or know that none can stand there."""


@dataclass(slots=True)
class Scope:
    """The directives of one place: the global ones, or those of a section."""

    numbers: dict[str, int] = field(default_factory=dict)
    """Numbers as written, yes/no as 1 and 0."""
    words: dict[str, str] = field(default_factory=dict)
    lists: dict[str, tuple[str, ...]] = field(default_factory=dict)
    reals: list[RealLine] = field(default_factory=list)
    fallbacks: dict[str, FallbackLine] = field(default_factory=dict)
    """By directive, `fallback` or `fallback6`; the global ones by what their addresses are fit for."""
    files: list[tuple[int, str]] = field(default_factory=list)
    """`execute`: line and file."""
    lines: dict[str, int] = field(default_factory=dict)
    """Directive → line that counts."""
    broken: set[str] = field(default_factory=set)
    """Directives in error."""


@dataclass(slots=True)
class Gathered:
    """What all sections of all files share."""

    secrets: dict[str, Secret] = field(default_factory=dict)
    reals: int = 0
    """Addresses of `real` lines so far."""

    def keep(self, secret: bytes) -> str:
        """The name that stands for a secret in values; empty for an empty one."""
        if not secret:
            return ""
        name = secret_digest(secret)
        self.secrets[name] = Secret(secret)
        return name


def read_directive(directive: Directive, scope: Scope, where: str, gathered: Gathered, report: Report) -> None:
    """Put one directive of `where` (`G` or `S`) into its scope, or say why not. May block on the resolver."""
    key, line = directive.key, directive.line
    if report.full or (key in ("real", "real6") and gathered.reals > REALS_LIMIT):
        return
    entry = DIRECTIVES.get(key)
    if key in VIRTUALS:  # one in column 0 began a section
        report.error(line, f'"{key}" stands in the wrong place', "it in column 0")
        return
    if entry is None:
        report.error(line, f"unknown directive {quote(key)}", "a directive of ldirectord.cf", suggestion(key, KNOWN))
        return
    if where not in entry.where:
        report.error(
            line,
            f'"{key}" stands in the wrong place',
            "it in a virtual section" if where == "G" else "it in column 0",
        )
        return
    value = directive.value
    if value is None:
        if not (isinstance(entry.reader, YesNo) and entry.reader.bare):
            report.error(line, f'"{key}" without "="', f"{key} = value")
            return
        value = "yes"
    hidden = key in SECRETS or USERINFO.search(value) is not None

    def note(found: str, expected: str, remedy: str) -> None:
        report.warn(line, f"{key}: {found}", expected, remedy)

    if key in scope.lines and not entry.accumulates:
        note(f"given in line {scope.lines[key]} already", "it once", "The last one counts")
    if directive.blanks_behind and isinstance(entry.reader, YesNo):
        note("blanks behind the value", "none", "ldirectord refuses them")
    try:
        if key not in SECRETS | _MAY_NAME_A_USER:
            without_user(value)
        _read(key, entry, value, line, scope, note)
        if where == "G" and key in scope.fallbacks:
            _sort(key, scope, note)
    except Misread as error:
        scope.broken.add(key)
        found = f"{key} (its value holds a secret)" if hidden else error.found or f"{key}={printable(value)}"
        report.error(line, found, error.expected, error.remedy)
    scope.lines[key] = line
    if key in ("real", "real6") and scope.reals and scope.reals[-1].line == line:
        gathered.reals += len(scope.reals[-1].addresses)
        if gathered.reals > REALS_LIMIT:
            del scope.reals[-1]
            report.error(line, f"more than {REALS_LIMIT} real servers", "fewer", "Check the ranges")


def _sort(key: str, scope: Scope, note: Note) -> None:
    """Put a global fallback where services of its family find it."""
    found = scope.fallbacks[key]
    fit = "fallback6" if ":" in found.address else "fallback"
    if fit != key:
        del scope.fallbacks[key]
        if fit in scope.fallbacks:
            note(f"{fit} is given in line {scope.fallbacks[fit].line} already", "it once", "The last one counts")
        scope.fallbacks[fit] = found


def _read(key: str, entry: Entry, value: str, line: int, scope: Scope, note: Note) -> None:
    """Raises Misread."""
    match entry.reader:
        case Number() | YesNo() as reader:
            scope.numbers[key] = reader.read(value, note)
        case Text(read=read):
            scope.words[key] = read(value, note)
        case Texts(read=read_all, accumulates=False):
            scope.lists[key] = read_all(value, note)
        case Texts(read=read_all):
            scope.files += [(line, file) for file in read_all(value, note)]
        case Server():
            if key.startswith("real"):
                scope.reals.append(real_line(line, value, note, key))
            else:
                scope.fallbacks[key] = fallback_line(line, value, note, key)
