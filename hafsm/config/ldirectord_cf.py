"""Reads ldirectord.cf, and the files that its `execute` lines name, into one value.

How a line becomes a directive is decided in `ldirectord_grammar`, what a directive's value may be in
`ldirectord_directives`, and how the directives of a section become a virtual service in `ldirectord_service`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from hafsm.config.findings import Finding, Report, quote
from hafsm.config.ldirectord_directives import EXECUTE_LIMIT
from hafsm.config.ldirectord_grammar import split
from hafsm.config.ldirectord_scope import Gathered, Scope, read_directive
from hafsm.config.ldirectord_service import ServiceSection, build_service, lint_global_fallbacks
from hafsm.config.model import LdirectordCf
from hafsm.config.source import Source, exists, read_source
from hafsm.core.settings import CheckKind, VirtualService

_PURPOSE = "the virtual services"
_FROM_THE_FIRST_FILE = ("autoreload", "callback", "maintenancedir")
"""Global directives that concern all files together."""


@dataclass(slots=True)
class ReadLdirectordCf:
    """What a ldirectord configuration says, all its files together."""

    value: LdirectordCf
    lines: dict[str, int] = field(default_factory=dict)
    """Key of a virtual service → line of its `virtual`."""
    reports: dict[str, Report] = field(default_factory=dict)
    """Key of a virtual service → the report about its file."""
    files: list[Report] = field(default_factory=list)
    """One for each file, in the order read."""
    sources: list[Source] = field(default_factory=list)
    """Of the files that could be read."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """In the order of files and lines, each once."""
        return tuple(f for report in self.files for f in report.in_order())

    @property
    def failed(self) -> bool:
        return any(report.failed for report in self.files)


def read_ldirectord_cf(path: Path, directory: Path) -> ReadLdirectordCf:
    """Every service that could be read. Blocks on the disk, and on the resolver when a file has host names.

    `directory` is where `execute` looks for further files. Never raises for anything in them.
    """
    return _Files(directory).read(path)


def find_file(directory: Path, name: str) -> Path:
    """ldirectord's search: in the directory, in its `conf`, then the name itself."""
    for path in (directory / name, directory / "conf" / name):
        if exists(path):
            return path
    return directory / name


class _Files:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._gathered = Gathered()
        self._services: dict[str, VirtualService] = {}
        self._read = ReadLdirectordCf(LdirectordCf(file=""))
        self._seen: dict[str, Path] = {}
        """Real path → path as it was first named."""
        self._queue: list[Path] = []
        self._main: Scope | None = None

    def read(self, path: Path) -> ReadLdirectordCf:
        self._enqueue(path)
        for following in self._queue:  # grows while it is read
            self._file(following)
        scope = self._main or Scope()
        self._read.value = LdirectordCf(
            file=str(path.absolute()),
            autoreload=bool(scope.numbers.get("autoreload", 0)),
            services=tuple(self._services.values()),
            secrets=tuple(self._gathered.secrets.items()),
            maintenance_dir=scope.words.get("maintenancedir", ""),
            callback=scope.words.get("callback", ""),
            execute=tuple(str(other.absolute()) for other in self._queue[1:]),
        )
        return self._read

    def _enqueue(self, path: Path) -> bool:
        """False: it is read already."""
        real = os.path.realpath(path)
        if real in self._seen:
            return False
        self._seen[real] = path
        self._queue.append(path)
        return True

    def _file(self, path: Path) -> None:
        report = Report(str(path))
        self._read.files.append(report)
        source = read_source(path, report, purpose=_PURPOSE)
        if source is None:
            return
        self._read.sources.append(source)
        globals_, sections = split(source, report)
        scope = Scope()
        for directive in globals_:
            read_directive(directive, scope, "G", self._gathered, report)
        for section in sections:
            if report.full:
                break
            before = report.errors
            own = Scope()
            for directive in section.body:
                read_directive(directive, own, "S", self._gathered, report)
            sound = report.errors == before
            service = build_service(ServiceSection(section.head, own), scope, self._gathered, report)
            if service is not None and sound:
                self._add(service, section.head.line, report)
        self._lint(scope, report)
        for line, name in scope.files:
            self._further(line, name, report)

    def _add(self, service: VirtualService, line: int, report: Report) -> None:
        key = service.key
        if key not in self._services:
            self._services[key], self._read.lines[key], self._read.reports[key] = service, line, report
            return
        first = self._read.reports[key]
        where = "" if first is report else f"{first.file} "
        report.error(
            line,
            f"virtual service {key} is here again",
            f"it once ({where}line {self._read.lines[key]} has it)",
            "Join the two sections",
        )

    def _further(self, line: int, name: str, report: Report) -> None:
        if report.full:
            return
        if len(self._queue) >= EXECUTE_LIMIT:
            report.error(line, f"more than {EXECUTE_LIMIT} files", "fewer execute lines")
        elif not self._enqueue(find_file(self._directory, name)):
            report.error(line, f"execute={quote(name)[1:-1]} is read already", "each file once", "Remove the line")

    def _lint(self, scope: Scope, report: Report) -> None:
        """What concerns the global directives of one file."""
        lint_global_fallbacks(scope, report)
        mine = [s for s in self._services.values() if self._read.reports[s.key] is report]
        if "emailalert" not in scope.lines and not any(service.alert for service in mine):
            for key in ("emailalertfrom", "emailalertfreq", "emailalertstatus", "smtp"):
                if key in scope.lines:
                    report.warn(scope.lines[key], f"{key} without emailalert", "emailalert= too", "It has no effect")
        pings = any(r.check and r.check.kind is CheckKind.PING for service in mine for r in service.reals)
        if "checkcount" in scope.lines and not pings and not report.failed:
            report.warn(scope.lines["checkcount"], "checkcount: only ping checks use it", "nothing", "Remove the line")
        if self._main is None:
            self._main = scope
            return
        main = self._main
        for key in _FROM_THE_FIRST_FILE:
            same = scope.numbers.get(key) == main.numbers.get(key) and scope.words.get(key) == main.words.get(key)
            if key in scope.lines and not same and key not in scope.broken:
                say = report.error if key == "maintenancedir" else report.warn
                say(
                    scope.lines[key],
                    f"{key} differs from that of {self._read.files[0].file}, which reads this file by execute",
                    "the same in both",
                    "The other one counts for all files",
                )
