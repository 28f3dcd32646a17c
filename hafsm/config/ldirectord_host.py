"""What ldirectord.cf names and this machine lacks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from hafsm.config.findings import Finding, Report
from hafsm.config.model import Configuration


def check_ldirectord_host(configuration: Configuration) -> tuple[Finding, ...]:
    """Warnings about programs, folders and certificates. Looks at the disk; needs no privilege."""
    report = Report(configuration.ldirectord.file)
    for directive, program in _programs(configuration):
        if not os.access(program, os.X_OK):
            report.warn(0, f"{directive}: {program} is no program on this host", "an executable file")
    for directive, folder in _folders(configuration):
        if not Path(folder).is_dir():
            report.warn(0, f"{directive}: {folder} is no folder on this host", "a folder", f"Run: mkdir -p {folder}")
    authorities = Report(configuration.extras.file)
    for extra in configuration.extras.extras:
        authority = extra.tls.authority if extra.tls else ""
        if authority.startswith("/") and not os.access(authority, os.R_OK):
            authorities.warn(extra.line, f"{extra.table}: {authority} is not on this host", "a readable PEM file")
    return (*report.findings, *authorities.findings)


def _programs(configuration: Configuration) -> Iterator[tuple[str, str]]:
    if configuration.ldirectord.callback:
        yield "callback", configuration.ldirectord.callback
    for service in configuration.services:
        first, *_ = service.fallback_command.split() or [""]
        if first.startswith("/"):
            yield "fallbackcommand", first
        for real in service.reals:
            if real.check and real.check.kind.value == "external":
                yield "checkcommand", real.check.command[0]


def _folders(configuration: Configuration) -> Iterator[tuple[str, str]]:
    if configuration.ldirectord.maintenance_dir:
        yield "maintenancedir", configuration.ldirectord.maintenance_dir
    for service in configuration.services:
        if service.monitor_file:
            yield "monitorfile", str(Path(service.monitor_file).parent)
