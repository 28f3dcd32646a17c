"""Loads a configuration directory: all files, all errors at once, or one consistent value."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hafsm.config import lint
from hafsm.config.authkeys import read_authkeys
from hafsm.config.build import SCRIPT_TIMEOUT_NS, to_settings
from hafsm.config.findings import Finding, Report
from hafsm.config.ha_cf import read_ha_cf
from hafsm.config.haresources import PlacedGroup, read_haresources
from hafsm.config.ldirectord_cf import ReadLdirectordCf, read_ldirectord_cf
from hafsm.config.model import Configuration, LdirectordCf
from hafsm.config.redact import redacted
from hafsm.config.source import Source, exists, read_source
from hafsm.core.settings import NodeName, ResourceKind, Settings, VirtualService

LDIRECTORD_CF = "ldirectord.cf"
_SERVICES = "the virtual services"
_NO_SERVICES = ReadLdirectordCf(LdirectordCf(file=""), {})


@dataclass(frozen=True, slots=True)
class Loaded:
    """The outcome of `load`: the first two are None if any finding is an error."""

    configuration: Configuration | None
    settings: Settings | None
    findings: tuple[Finding, ...]
    """In the order of files and lines, errors and warnings mixed."""


def this_node() -> NodeName:
    """`uname -n` in lower case, as heartbeat compares it."""
    return NodeName(os.uname().nodename.lower())


def load(directory: Path, *, me: str | None = None, script_timeout_ns: int = SCRIPT_TIMEOUT_NS) -> Loaded:
    """Read ha.cf, haresources, authkeys and ldirectord.cf in `directory`.

    Blocks on the disk and, when the files hold host names, on the resolver. Never raises for anything in the files.

    Args:
        directory: usually /etc/ha.d.
        me: this node's name in ha.cf; None means `this_node()`.
        script_timeout_ns: `Settings.script_timeout_ns`.
    """
    node = NodeName(me.lower()) if me is not None else this_node()
    ha_report, resources_report, keys_report = (
        Report(str(directory / name)) for name in ("ha.cf", "haresources", "authkeys")
    )
    ha_source = read_source(directory / "ha.cf", ha_report, purpose="the options of the cluster")
    resources_source = read_source(
        directory / "haresources", resources_report, purpose="the resource groups and their preferred nodes"
    )
    keys_source = read_source(directory / "authkeys", keys_report, purpose="the key that signs heartbeats")

    ha = read_ha_cf(ha_source, ha_report) if ha_source else None
    if ha:
        lint.lint_ha_cf(ha, node, ha_report)
    nodes = ha.value.nodes if ha and "node" not in ha.broken else ()
    placed = read_haresources(resources_source, resources_report, nodes) if resources_source else ()
    keys = read_authkeys(keys_source, keys_report) if keys_source else None

    lint.lint_starters(placed, resources_report)
    services_report, services_source, services = _services(directory, placed, resources_report)
    if services.value.file and not resources_report.failed and not services_report.failed:
        lint.lint_addresses(placed, services, resources_report, services_report)

    findings = tuple(
        finding
        for report in (ha_report, resources_report, keys_report, services_report)
        for finding in sorted(dict.fromkeys(report.findings), key=lambda f: f.line)
    )
    if any(f.is_error for f in findings) or ha is None or keys is None:
        return Loaded(None, None, findings)
    sources = (ha_source, resources_source, keys_source, services_source)
    configuration = Configuration(
        directory=str(directory.absolute()),
        me=node,
        ha=ha.value,
        groups=tuple(p.group for p in placed),
        keys=keys,
        ldirectord=services.value,
        services_started=bool(_starters(placed)),
        sources=tuple(redacted(source) for source in sources if source),
    )
    return Loaded(configuration, to_settings(configuration, script_timeout_ns=script_timeout_ns), findings)


def load_services(path: Path, *, directory: Path) -> tuple[tuple[VirtualService, ...] | None, tuple[Finding, ...]]:
    """Read one ldirectord configuration again (autoreload): the services, or None if any finding is an error.

    `path` is relative to `directory` or absolute. Blocks and raises as `load` does.
    """
    report = Report(str(directory / path))
    source = read_source(directory / path, report, purpose=_SERVICES)
    read = read_ldirectord_cf(source, report) if source else None
    findings = tuple(sorted(dict.fromkeys(report.findings), key=lambda f: f.line))
    return (None if report.failed or read is None else read.value.services), findings


def _starters(placed: tuple[PlacedGroup, ...]) -> list[tuple[int, str]]:
    """(line, file) of each `ldirectord` resource."""
    return [
        (p.line, r.arguments[0] if r.arguments else LDIRECTORD_CF)
        for p in placed
        for r in p.group.resources
        if r.kind is ResourceKind.IPVS
    ]


def _services(
    directory: Path, placed: tuple[PlacedGroup, ...], resources_report: Report
) -> tuple[Report, Source | None, ReadLdirectordCf]:
    starters = _starters(placed)
    path = _find(directory, starters[0][1] if starters else LDIRECTORD_CF)
    report = Report(str(path))
    for line, name in starters[1:]:
        if _find(directory, name) != path:
            resources_report.error(
                line,
                f"ldirectord::{name} is a second configuration file, which is not supported yet",
                f"one ldirectord file ({path.name})",
                "Put all virtual services into one file",
            )
    if not starters:
        if not exists(path):
            return report, None, _NO_SERVICES
        # A resource that could not be read may be the one; the error there comes first.
        if not resources_report.failed:
            report.warn(
                0,
                "no resource group starts ldirectord: the virtual services stay unused",
                f"ldirectord in a line of {resources_report.file}",
            )
    source = read_source(path, report, purpose=_SERVICES)
    return report, source, read_ldirectord_cf(source, report) if source else _NO_SERVICES


def _find(directory: Path, name: str) -> Path:
    """ldirectord's search: in the directory, in its `conf`, then the name itself."""
    for path in (directory / name, directory / "conf" / name):
        if exists(path):
            return path
    return directory / name
