"""Loads a configuration directory: all files, all errors at once, or one consistent value."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from hafsm.config import lint
from hafsm.config.authkeys import read_authkeys
from hafsm.config.build import SCRIPT_TIMEOUT_NS, to_settings
from hafsm.config.check_extras import CheckExtras, with_extras
from hafsm.config.findings import Finding, Report
from hafsm.config.ha_cf import read_ha_cf
from hafsm.config.haresources import PlacedGroup, read_haresources
from hafsm.config.ldirectord_cf import ReadLdirectordCf, find_file, read_ldirectord_cf
from hafsm.config.model import Configuration, LdirectordCf
from hafsm.config.redact import redacted
from hafsm.config.source import exists, read_source
from hafsm.core.settings import NodeName, ResourceKind, Settings

LDIRECTORD_CF = "ldirectord.cf"


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


def load(
    directory: Path,
    *,
    me: str | None = None,
    script_timeout_ns: int = SCRIPT_TIMEOUT_NS,
    extras: CheckExtras = CheckExtras(),  # noqa: B008  a frozen value
) -> Loaded:
    """Read ha.cf, haresources, authkeys and ldirectord.cf in `directory`.

    Blocks on the disk and, when the files hold host names, on the resolver. Never raises for anything in the files.

    Args:
        directory: usually /etc/ha.d.
        me: this node's name in ha.cf; None means `this_node()`.
        script_timeout_ns: `Settings.script_timeout_ns`.
        extras: what hafsm.toml adds to the checks (`DaemonSettings.checks.extras`).
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
    services = _services(directory, placed, resources_report)
    if services.value.file and not resources_report.failed and not services.failed:
        lint.lint_addresses(placed, services, resources_report)
    extras_report = _join(services, extras)

    first = (ha_report, resources_report, keys_report)
    findings = tuple(finding for report in (*first, *services.files, extras_report) for finding in report.in_order())
    if any(f.is_error for f in findings) or ha is None or keys is None:
        return Loaded(None, None, findings)
    sources = (ha_source, resources_source, keys_source, *services.sources)
    configuration = Configuration(
        directory=str(directory.absolute()),
        me=node,
        ha=ha.value,
        groups=tuple(p.group for p in placed),
        keys=keys,
        ldirectord=services.value,
        services_started=bool(_starters(placed)),
        sources=tuple(redacted(source) for source in sources if source),
        extras=extras,
    )
    return Loaded(configuration, to_settings(configuration, script_timeout_ns=script_timeout_ns), findings)


def load_ldirectord(
    path: Path,
    *,
    directory: Path,
    extras: CheckExtras = CheckExtras(),  # noqa: B008  a frozen value
) -> tuple[LdirectordCf | None, tuple[Finding, ...]]:
    """Read one ldirectord configuration again, with the files that it names; None if any finding is an error.

    `path` is relative to `directory` or absolute. Blocks and raises as `load` does.
    """
    read = read_ldirectord_cf(directory / path, directory)
    report = _join(read, extras)
    return (None if read.failed or report.failed else read.value), (*read.findings, *report.in_order())


def _join(read: ReadLdirectordCf, extras: CheckExtras) -> Report:
    """Put what hafsm.toml adds into the services; a key fits none of them only when all of them could be read."""
    report = Report(extras.file)
    if not read.failed:
        read.value = replace(read.value, services=with_extras(read.value.services, extras, report))
    return report


def _starters(placed: tuple[PlacedGroup, ...]) -> list[tuple[int, str]]:
    """(line, file) of each `ldirectord` resource."""
    return [
        (p.line, r.arguments[0] if r.arguments else LDIRECTORD_CF)
        for p in placed
        for r in p.group.resources
        if r.kind is ResourceKind.IPVS
    ]


def _services(directory: Path, placed: tuple[PlacedGroup, ...], resources_report: Report) -> ReadLdirectordCf:
    starters = _starters(placed)
    path = find_file(directory, starters[0][1] if starters else LDIRECTORD_CF)
    for line, name in starters[1:]:
        if find_file(directory, name) != path:
            resources_report.error(
                line,
                f"ldirectord::{name} is a second configuration file",
                f"one ldirectord file ({path.name})",
                f"Put execute={name} into it: all virtual services move together",
            )
    if not starters and not exists(path):
        return ReadLdirectordCf(LdirectordCf(file=""))
    read = read_ldirectord_cf(path, directory)
    # A resource that could not be read may be the one; the error there comes first.
    if not starters and not resources_report.failed:
        read.files[0].warn(
            0,
            "no resource group starts ldirectord: the virtual services stay unused",
            f"ldirectord in a line of {resources_report.file}",
        )
    return read
