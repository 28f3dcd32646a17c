"""`hafsm check-config`: what the files say, and everything that is wrong or odd in them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hafsm.config.build import lease_ns
from hafsm.config.findings import Finding, quote
from hafsm.config.lint import check_host, seconds
from hafsm.config.load import load, this_node
from hafsm.config.model import Bcast, Configuration, Mcast, Medium, Serial, Ucast
from hafsm.config.settings_file import DaemonSettings, load_settings_file
from hafsm.core.settings import SECOND, CheckKind, CheckSpec, RealServer, ResourceKind, VirtualService
from hafsm.daemon.programs import missing_programs
from hafsm.daemon.realtime import core_priority
from hafsm.daemon.scripts import locate
from hafsm.errors import ConfigError

PIPE_WIDTH = 1000
"""Columns when nobody's terminal limits them: tables take what they need, and a script can read them line by line."""


@click.command("check-config")
@click.argument(
    "directory", metavar="[DIR]", type=click.Path(path_type=Path, file_okay=False), default=Path("/etc/ha.d")
)
@click.option("--node", metavar="NAME", help="Check as this node instead of `uname -n`.")
@click.option(
    "--settings",
    "settings_file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The daemon's own settings.  [default: /etc/hafsm/hafsm.toml, if it exists]",
)
def check_config(directory: Path, node: str | None, settings_file: Path | None) -> None:
    """Read ha.cf, haresources, authkeys and ldirectord.cf in DIR (default /etc/ha.d) and say what they mean.

    Exit status 0 when the daemon would start, 1 when something must be corrected first. Nothing is changed.
    """
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    console = Console(width=width, highlight=False)
    findings: list[Finding] = []
    daemon: DaemonSettings | None = None
    try:
        daemon = load_settings_file(settings_file)
    except ConfigError as error:
        findings.append(Finding("error", error.file, error.line, error.found, error.expected, error.remedy))
    else:
        node = node or daemon.node_name
    loaded = load(directory, me=node)
    findings.extend(loaded.findings)
    if loaded.configuration is not None:
        for table in tables(loaded.configuration):
            console.print(table)
        if loaded.configuration.me == this_node():
            findings.extend(check_host(loaded.configuration))
            ha_cf = str(Path(loaded.configuration.directory) / "ha.cf")
            lacks = missing_programs(loaded.configuration.ha, loaded.configuration.me)
            findings.extend(Finding("error", ha_cf, 0, lack, "it on this host") for lack in lacks)
            if daemon is not None:
                findings.extend(missing_scripts(loaded.configuration, daemon.scripts.search))
    print_findings(console, findings)
    sys.exit(1 if any(finding.is_error for finding in findings) else 0)


def missing_scripts(configuration: Configuration, search: Sequence[Path]) -> Iterable[Finding]:
    """An error for each resource that this host could not start, as `hafsm run` would refuse it. May ask systemd."""
    names = (r.script for group in configuration.groups for r in group.resources if r.kind is ResourceKind.SCRIPT)
    for name in dict.fromkeys(names):
        if locate(name, search) is None:
            yield Finding(
                "error",
                str(Path(configuration.directory) / "haresources"),
                0,
                f"resource {quote(name)} is not on this host",
                f"an executable of that name in {' or '.join(map(str, search))}, an OCF agent, or a systemd unit",
            )


def print_findings(console: Console, findings: Sequence[Finding]) -> None:
    """Errors first, one line each, never cut: a terminal may wrap them. A summary ends the output."""
    errors = [finding for finding in findings if finding.is_error]
    others = [finding for finding in findings if not finding.is_error]
    for finding in (*errors, *others):
        line = Text(f"{finding.level}: ", style="bold red" if finding.is_error else "bold yellow")
        console.print(line.append(str(finding), style="default not bold"), soft_wrap=True)
    verdict = "the daemon will not start" if errors else "the daemon can start"
    console.print(f"{_count(len(errors), 'error')}, {_count(len(others), 'warning')}: {verdict}", soft_wrap=True)


def tables(configuration: Configuration) -> Iterable[Table]:
    """What was understood."""
    yield _cluster(configuration)
    yield _links(configuration)
    yield _groups(configuration)
    yield _services(configuration)
    yield _keys(configuration)


def _table(title: str, *columns: str, whole: Iterable[str] = ()) -> Table:
    """An empty table; the cells of the columns in `whole` are not broken over lines."""
    table = Table(title=Text(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in whole)
    return table


def _row(table: Table, *cells: str) -> None:
    """Add a row of plain text: square brackets of a regular expression are no markup."""
    table.add_row(*map(Text, cells))


def _cluster(configuration: Configuration) -> Table:
    ha = configuration.ha
    table = _table(f"Cluster, seen from {configuration.me}", "directive", "value", "meaning")
    rows = [
        ("node", " ".join(ha.nodes), "the first is the primary"),
        ("keepalive", seconds(ha.keepalive_ns), "a heartbeat each"),
        ("warntime", seconds(ha.warntime_ns), "silence that is logged"),
        ("deadtime", seconds(ha.deadtime_ns), "silence that means death"),
        ("initdead", seconds(ha.initdead_ns), "the same after a boot"),
        ("", f"{lease_ns(ha.deadtime_ns) // SECOND} s", "lease of a virtual address that nobody renews"),
        ("auto_failback", ha.auto_failback.value, "groups return to their preferred node"),
    ]
    for ping in ha.pings:
        hosts = " ".join(ping.hosts)
        rows.append(("ping", ping.name if ping.name == hosts else f"{ping.name}: {hosts}", "must answer"))
    if ha.pings:
        rows.append(("deadping", seconds(ha.deadping_ns), "silence of a ping node"))
        rows.append(("ipfail", "yes" if ha.ipfail else "no", "groups move to the node that sees more ping nodes"))
    device = ha.fence_device(configuration.me)
    if device is not None:
        rows.append(("stonith", f"{device.kind} {device.file}".strip(), "a silent peer is reset first"))
    if ha.watchdog:
        rows.append(("watchdog", ha.watchdog, "resets this machine when the daemon hangs"))
    for entry in ha.programs:
        rows.append(("respawn", f"{entry.user} {entry.command}", "runs while this node is active"))
    priority = core_priority(ha)
    rows.append(("realtime", "off" if priority is None else f"on, priority {priority}", "before all other processes"))
    for row in rows:
        _row(table, *row)
    return table


def _links(configuration: Configuration) -> Table:
    table = _table("Heartbeat links", "link", "medium", "to")
    for medium in configuration.ha.media:
        _row(table, medium.name, type(medium).__name__.lower(), _target(medium, configuration.ha.udpport))
    return table


def _target(medium: Medium, udpport: int) -> str:
    match medium:
        case Bcast():
            return f"broadcast, port {udpport}"
        case Ucast(host=host):
            return f"{host}, port {udpport}"
        case Mcast(group=group, port=port, ttl=ttl, loop=loop):
            return f"{group}, port {port}, ttl {ttl}, loop {loop}"
        case Serial(baud=baud):
            return f"{baud} baud"


def _groups(configuration: Configuration) -> Table:
    table = _table("Resource groups", "preferred node", "started in this order")
    for group in configuration.groups:
        _row(table, group.preferred, "\n".join(resource.text for resource in group.resources))
    return table


def _services(configuration: Configuration) -> Table:
    table = _table(
        "Virtual services",
        "service",
        "server",
        "method",
        "weight",
        "check",
        whole=("service", "server", "method", "weight"),
    )
    for service in configuration.services:
        rows = [(r.key, r.forwarding.value, str(r.weight), _check(r)) for r in service.reals]
        if service.fallback:
            fallback = service.fallback
            rows.append((fallback.key, fallback.forwarding.value, "", "fallback while no server is up"))
        names = [service.key, *_service_options(service)]
        for name, row in zip_longest(names, rows):
            _row(table, name or "", *(row or ("", "", "", "")))
    return table


def _service_options(service: VirtualService) -> list[str]:
    options = [service.scheduler]
    if service.persistent_s:
        options.append(f"persistent {service.persistent_s} s")
    if service.netmask:
        options.append(f"netmask {service.netmask}")
    if service.quiescent:
        options.append("quiescent")
    if service.failurecount > 1:
        options.append(f"failurecount {service.failurecount}")
    return options


def _check(real: RealServer) -> str:
    check = real.check
    if check is None or check.kind is CheckKind.ALWAYS_UP:
        return "none: always up"
    if check.kind is CheckKind.ALWAYS_DOWN:
        return "none: always down"
    return f"{_question(check)}, every {seconds(check.interval_ns)}, within {seconds(check.timeout_ns)}"


def _question(check: CheckSpec) -> str:
    if check.kind is CheckKind.CONNECT:
        return f"connect to port {check.port}"
    host = f" of {check.virtualhost}" if check.virtualhost else ""
    answer = f", body matches {check.receive}" if check.receive else ""
    return f"{check.method} {check.request}{host} at port {check.port}{answer}"


def _keys(configuration: Configuration) -> Table:
    table = _table("Keys", "index", "method", "")
    for key in configuration.keys.keys:
        _row(table, str(key.index), key.method, "signs" if key.index == configuration.keys.active else "")
    return table


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")
