"""hafsm.toml: what concerns the daemon itself. heartbeat's files say nothing of it, so all of it has a default.

The tables `TOP`, `TABLES` and `ROWS` name every key with its reader; docs/configuration.md shows the same keys.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, cast

from hafsm.config.check_extras import CheckExtra, CheckExtras
from hafsm.config.findings import quote, suggestion
from hafsm.config.names import Misread, address
from hafsm.core.settings import MILLISECOND, SECOND, Tls, Value
from hafsm.errors import ConfigError

DEFAULT_PATH = Path("/etc/hafsm/hafsm.toml")
_AGE = re.compile(r"([0-9]{1,6})\s*(s|min|h|d)")
_AGE_UNITS_S = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
_SIZE = re.compile(r"([0-9]{1,9})\s*(B|KiB|MiB|GiB|TiB)")
_STATUSES = re.compile(r"([1-5][0-9][0-9])(?:-([1-5][0-9][0-9]))?")
_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
"""Binary units only: nobody must ask whether GB means 10⁹."""

Level = Literal["debug", "info", "warning", "error"]


class JournalSettings(Value, frozen=True):
    """[journal]"""

    folder: Path
    max_bytes: int = 2**30
    """All segments together; the oldest files go first."""
    segment_bytes: int = 64 * 2**20
    segment_age_ns: int = 86_400 * SECOND
    """A segment is closed at this size or at this age, whichever comes first."""
    backlog_events: int = 100_000
    """What is kept in memory (about 1 kB each) while the disk fails; the oldest go first, and are counted."""
    patience_ns: int = 25 * MILLISECOND
    """How long an action waits for its cause to be on disk (law L3)."""


class ApiSettings(Value, frozen=True):
    """[api]"""

    socket: Path
    group: str | None = None
    """Unix group that may command besides root."""


class HeartbeatSettings(Value, frozen=True):
    """[heartbeat]"""

    listen: str | None = None
    """Address that the media of its family bind; empty: all addresses."""


class KernelSettings(Value, frozen=True):
    """[kernel]"""

    implementation: Literal["linux", "memory"] = "linux"


class ChecksSettings(Value, frozen=True):
    """[checks]"""

    workers: int = 0
    """Worker processes, 1 to 64; 0: as many as the checks need, at most one a CPU."""
    user: str = ""
    """Runs external checks and the libraries of others; empty: nobody if the daemon is root, else the daemon's own."""
    extras: CheckExtras = CheckExtras()
    """[[checks.tls]] and [[checks.http]]."""


class ScriptsSettings(Value, frozen=True):
    """[scripts]"""

    timeout_ns: int = 60 * SECOND
    search: tuple[Path, ...] = (Path("/etc/ha.d/resource.d"), Path("/etc/init.d"))
    """Folders searched for resource scripts, before systemd units."""


class LogSettings(Value, frozen=True):
    """[log]"""

    level: Level = "info"


class DaemonSettings(Value, frozen=True):
    """The whole file."""

    journal: JournalSettings
    api: ApiSettings
    node_name: str | None = None
    """This node's name in ha.cf; None: `uname -n`."""
    state_dir: Path = Path("/var/lib/hafsm")
    run_dir: Path = Path("/run/hafsm")
    heartbeat: HeartbeatSettings = HeartbeatSettings()
    kernel: KernelSettings = KernelSettings()
    checks: ChecksSettings = ChecksSettings()
    scripts: ScriptsSettings = ScriptsSettings()
    log: LogSettings = LogSettings()


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise Misread("text in quotes, not empty")
    return value


def _path(value: object) -> Path:
    if not isinstance(value, str) or not value.startswith("/"):
        raise Misread("an absolute path in quotes")
    return Path(value)


def _paths(value: object) -> tuple[Path, ...]:
    if not isinstance(value, list):
        raise Misread("a list of absolute paths")
    return tuple(_path(item) for item in value)


def _whole(low: int, high: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if type(value) is not int or not low <= value <= high:
            raise Misread(f"a whole number from {low} to {high}")
        return value

    return read


def parse_size(text: str) -> int | None:
    """Bytes of `64MiB`; None when it is no size."""
    found = _SIZE.fullmatch(text)
    return int(found[1]) * _UNITS[found[2]] if found else None


def parse_age(text: str) -> int | None:
    """Nanoseconds of `90s`, `30min`, `12h`, `7d`; None when it is no age."""
    found = _AGE.fullmatch(text)
    return int(found[1]) * _AGE_UNITS_S[found[2]] * SECOND if found else None


def _size(value: object) -> int:
    size = parse_size(value) if isinstance(value, str) else value if type(value) is int else None
    if size is None or not 2**20 <= size <= 2**50:
        raise Misread('a size of at least 1 MiB such as "64MiB" or "1GiB"')
    return size


def _age(value: object) -> int:
    age = parse_age(value) if isinstance(value, str) else None
    if age is None or not 60 * SECOND <= age <= 3650 * 86_400 * SECOND:
        raise Misread('an age of at least a minute such as "30min", "12h" or "1d"')
    return age


def _word(*known: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if not isinstance(value, str) or value not in known:
            raise Misread("one of " + ", ".join(f'"{word}"' for word in known))
        return value

    return read


def _statuses(value: object) -> tuple[tuple[int, int], ...]:
    """Closed ranges, those that touch joined."""
    expected = 'HTTP statuses such as "200-299,301"'
    ranges: list[tuple[int, int]] = []
    for word in _text(value).replace(" ", "").split(","):
        found = _STATUSES.fullmatch(word)
        if found is None or (low := int(found[1])) > (high := int(found[2] or found[1])):
            raise Misread(expected)
        ranges.append((low, high))
    joined: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if joined and low <= joined[-1][1] + 1:
            low, high = joined[-1][0], max(joined.pop()[1], high)
        joined.append((low, high))
    return tuple(joined)


def _authority(value: object) -> str:
    if value != "system" and not (isinstance(value, str) and value.startswith("/")):
        raise Misread('the absolute path of a PEM file, or "system"')
    return value


def _node(value: object) -> str:
    return _text(value).lower()


TOP: dict[str, Callable[[object], object]] = {"node_name": _node, "state_dir": _path, "run_dir": _path}
TABLES: dict[str, dict[str, Callable[[object], object]]] = {
    "journal": {
        "folder": _path,
        "max_size": _size,
        "segment_size": _size,
        "segment_age": _age,
        "backlog_events": _whole(100, 10_000_000),
        "patience_ms": _whole(0, 10_000),
    },
    "api": {"socket": _path, "group": _text},
    "heartbeat": {"listen": lambda value: address(_text(value))},
    "kernel": {"implementation": _word("linux", "memory")},
    "checks": {"workers": _whole(1, 64), "user": _text},
    "scripts": {"timeout_s": _whole(1, 86_400), "search": _paths},
    "log": {"level": _word("debug", "info", "warning", "error")},
}

ROWS: dict[str, dict[str, Callable[[object], object]]] = {
    "checks.tls": {"virtual": _text, "name": _text, "authority": _authority},
    "checks.http": {"virtual": _text, "statuses": _statuses},
}
"""Tables that may stand more than once, as `[[checks.tls]]`."""
_NEEDED = {"checks.tls": ("virtual",), "checks.http": ("virtual", "statuses")}


def load_settings_file(path: Path | None) -> DaemonSettings:
    """Read hafsm.toml; None means `DEFAULT_PATH`, which need not exist.

    Raises ConfigError for the first thing that cannot be used: a missing or unreadable file, a syntax error, an
    unknown key, a value of the wrong kind.
    """
    file = path or DEFAULT_PATH
    try:
        text = file.read_bytes().decode()
        found = tomllib.loads(text)
    except FileNotFoundError:
        if path is None:
            return _settings({})
        raise ConfigError(str(file), 0, "there is no such file", "the daemon's settings") from None
    except OSError as error:
        raise ConfigError(str(file), 0, f"cannot be read ({error.strerror})", "the daemon's settings") from error
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line ([0-9]+)", str(error))
        raise ConfigError(str(file), int(line[1]) if line else 0, str(error), "TOML") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(str(file), 0, "not UTF-8, or nested too deep", "TOML") from error
    return _settings(_Reader(str(file), text).read(found), str(file))


class _Reader:
    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.text = text

    def read(self, found: Mapping[str, object]) -> dict[str, object]:
        """Dotted key → value. Raises ConfigError."""
        values: dict[str, object] = {}
        for key, value in found.items():
            if key in TOP:
                values[key] = self.value("", key, value, TOP[key])
            elif key not in TABLES:
                raise self.unknown("", key, (*TOP, *TABLES))
            elif not isinstance(value, dict):
                raise ConfigError(self.file, self.line("", key), f'"{key}" is a value', f"a table: [{key}]")
            else:
                for inner, item in value.items():
                    if (rows := f"{key}.{inner}") in ROWS:
                        values[rows] = self.rows(rows, item)
                        continue
                    if inner not in TABLES[key]:
                        of_rows = (row.partition(".")[2] for row in ROWS if row.startswith(f"{key}."))
                        raise self.unknown(key, inner, (*TABLES[key], *of_rows))
                    values[f"{key}.{inner}"] = self.value(key, inner, item, TABLES[key][inner])
        return values

    def rows(self, table: str, value: object) -> list[tuple[int, dict[str, object]]]:
        """(line, key → value) of each `[[table]]`. Raises ConfigError."""
        if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
            raise ConfigError(self.file, self.row_line(table, 0, ""), f"{table} is no list of tables", f"[[{table}]]")
        read: list[tuple[int, dict[str, object]]] = []
        for index, row in enumerate(value):
            values: dict[str, object] = {}
            for key, item in row.items():
                line = self.row_line(table, index, key)
                if key not in ROWS[table]:
                    known = tuple(ROWS[table])
                    raise ConfigError(
                        self.file,
                        line,
                        f"unknown key {quote(f'{table}.{key}')}",
                        f"one of {', '.join(known)}",
                        suggestion(key, known),
                    )
                try:
                    values[key] = ROWS[table][key](item)
                except Misread as error:
                    found = f"{table}.{key} is {quote(str(item))}"
                    raise ConfigError(self.file, line, found, error.expected, error.remedy) from None
            head = self.row_line(table, index, "")
            for key in _NEEDED[table]:
                if key not in values:
                    raise ConfigError(self.file, head, f"[[{table}]] without {key}", f"{key} = …")
            if len(values) == 1:
                raise ConfigError(self.file, head, f"[[{table}]] says nothing", " or ".join(list(ROWS[table])[1:]))
            read.append((head, values))
        return read

    def row_line(self, table: str, index: int, key: str) -> int:
        """Where a key of the `[[table]]` of this index stands, or with no key its head; 0 when it cannot be told."""
        seen = -1
        for number, text in enumerate(self.text.split("\n"), 1):
            if head := re.match(r"\s*\[\[?\s*([^\[\]]+?)\s*\]", text):
                if seen == index:
                    return 0
                seen += head[1] == table
                if seen == index and not key:
                    return number
            elif seen == index and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", text):
                return number
        return 0

    def value(self, table: str, key: str, value: object, read: Callable[[object], object]) -> object:
        try:
            return read(value)
        except Misread as error:
            name = f"{table}.{key}" if table else key
            raise ConfigError(
                self.file, self.line(table, key), f"{name} is {quote(str(value))}", error.expected, error.remedy
            ) from None

    def unknown(self, table: str, key: str, known: tuple[str, ...]) -> ConfigError:
        name = quote(f"{table}.{key}" if table else key)
        return ConfigError(
            self.file,
            self.line(table, key),
            f"unknown key {name}",
            f"one of {', '.join(known)}",
            suggestion(key, known),
        )

    def line(self, table: str, key: str) -> int:
        """Where the key stands, as far as plain `[table]` and `key =` lines show it; 0 when they do not."""
        current = ""
        for number, text in enumerate(self.text.split("\n"), 1):
            if head := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", text):
                current = head[1]
                if not table and current.strip("\"'") == key:
                    return number
            elif re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", text) and current == table:
                return number
        return 0


def _extras(values: Mapping[str, object], file: str) -> CheckExtras:
    extras: list[CheckExtra] = []
    for table in ROWS:
        for line, row in cast("list[tuple[int, dict[str, object]]]", values.get(table, [])):
            tls = Tls(name=cast(str, row.get("name", "")), authority=cast(str, row.get("authority", "")))
            extras.append(
                CheckExtra(
                    virtual=cast(str, row["virtual"]),
                    line=line,
                    tls=tls if table == "checks.tls" else None,
                    statuses=cast("tuple[tuple[int, int], ...]", row.get("statuses", ())),
                )
            )
    return CheckExtras(file=file if extras else "", extras=tuple(extras))


def _settings(values: Mapping[str, object], file: str = "") -> DaemonSettings:
    """Defaults filled in. The readers in `TOP` and `TABLES` made sure of the types."""

    def get(key: str, default: object) -> object:
        return values.get(key, default)

    state = cast(Path, get("state_dir", Path("/var/lib/hafsm")))
    run = cast(Path, get("run_dir", Path("/run/hafsm")))
    journal, scripts = JournalSettings(folder=state / "journal"), ScriptsSettings()
    return DaemonSettings(
        node_name=cast("str | None", get("node_name", None)),
        state_dir=state,
        run_dir=run,
        journal=JournalSettings(
            folder=cast(Path, get("journal.folder", journal.folder)),
            max_bytes=cast(int, get("journal.max_size", journal.max_bytes)),
            segment_bytes=cast(int, get("journal.segment_size", journal.segment_bytes)),
            segment_age_ns=cast(int, get("journal.segment_age", journal.segment_age_ns)),
            backlog_events=cast(int, get("journal.backlog_events", journal.backlog_events)),
            patience_ns=cast(int, get("journal.patience_ms", journal.patience_ns // MILLISECOND)) * MILLISECOND,
        ),
        api=ApiSettings(
            socket=cast(Path, get("api.socket", run / "hafsm.sock")), group=cast("str | None", get("api.group", None))
        ),
        heartbeat=HeartbeatSettings(listen=cast("str | None", get("heartbeat.listen", None))),
        kernel=KernelSettings(implementation=cast(Literal["linux", "memory"], get("kernel.implementation", "linux"))),
        checks=ChecksSettings(
            workers=cast(int, get("checks.workers", 0)),
            user=cast(str, get("checks.user", "")),
            extras=_extras(values, file),
        ),
        scripts=ScriptsSettings(
            timeout_ns=cast(int, get("scripts.timeout_s", scripts.timeout_ns // SECOND)) * SECOND,
            search=cast("tuple[Path, ...]", get("scripts.search", scripts.search)),
        ),
        log=LogSettings(level=cast(Level, get("log.level", "info"))),
    )
