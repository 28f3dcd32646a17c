"""`hafsm check-config`: what the files say, and everything that is wrong or odd in them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hafsm.cli.show_services import service_tables
from hafsm.cli.tables import row, table
from hafsm.config.build import lease_ns
from hafsm.config.check_extras import CheckExtras
from hafsm.config.findings import Finding, quote
from hafsm.config.ldirectord_host import check_ldirectord_host
from hafsm.config.lint import check_host, seconds
from hafsm.config.load import load, this_node
from hafsm.config.model import Bcast, Configuration, Mcast, Medium, Secret, Serial, Ucast
from hafsm.config.settings_file import DaemonSettings, load_settings_file
from hafsm.core.settings import SECOND, ResourceKind
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
@click.option("--json", "as_json", is_flag=True, help="Print what was understood, and all findings, as JSON.")
def check_config(directory: Path, node: str | None, settings_file: Path | None, as_json: bool) -> None:
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
    loaded = load(directory, me=node, extras=daemon.checks.extras if daemon else CheckExtras())
    findings.extend(loaded.findings)
    if loaded.configuration is not None:
        if not as_json:
            for shown in tables(loaded.configuration):
                console.print(shown)
        if loaded.configuration.me == this_node():
            findings.extend(check_host(loaded.configuration))
            findings.extend(check_ldirectord_host(loaded.configuration))
            ha_cf = str(Path(loaded.configuration.directory) / "ha.cf")
            lacks = missing_programs(loaded.configuration.ha, loaded.configuration.me)
            findings.extend(Finding("error", ha_cf, 0, lack, "it on this host") for lack in lacks)
            if daemon is not None:
                findings.extend(missing_scripts(loaded.configuration, daemon.scripts.search))
    if as_json:
        click.echo(to_json(loaded.configuration, findings))
    else:
        print_findings(console, findings)
    sys.exit(1 if any(finding.is_error for finding in findings) else 0)


def to_json(configuration: Configuration | None, findings: Sequence[Finding]) -> str:
    """`{"findings": […], "configuration": {…}}`: fields with their default may be left out, secrets are digests."""

    def digest(value: object) -> object:
        if isinstance(value, Secret):
            return value.digest()
        raise TypeError(type(value).__name__)

    understood = msgspec.to_builtins(configuration, enc_hook=digest)
    if understood is not None:
        del understood["sources"]
    whole = {"findings": msgspec.to_builtins(findings), "configuration": understood}
    return msgspec.json.format(msgspec.json.encode(whole)).decode()


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
    yield from service_tables(configuration)
    yield _keys(configuration)


def _cluster(configuration: Configuration) -> Table:
    ha = configuration.ha
    found = table(f"Cluster, seen from {configuration.me}", "directive", "value", "meaning")
    rows = [
        ("node", " ".join(ha.nodes), "the first is the primary"),
        ("keepalive", seconds(ha.keepalive_ns), "a heartbeat each"),
        ("warntime", seconds(ha.warntime_ns), "silence that is logged"),
        ("deadtime", seconds(ha.deadtime_ns), "silence that means death"),
        ("initdead", seconds(ha.initdead_ns), "the same after a boot"),
        (
            "",
            f"{lease_ns(ha.deadtime_ns, ha.keepalive_ns) // SECOND} s",
            "lease of a virtual address that nobody renews",
        ),
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
    for cells in rows:
        row(found, *cells)
    return found


def _links(configuration: Configuration) -> Table:
    found = table("Heartbeat links", "link", "medium", "to")
    for medium in configuration.ha.media:
        row(found, medium.name, type(medium).__name__.lower(), _target(medium, configuration.ha.udpport))
    return found


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
    found = table("Resource groups", "preferred node", "started in this order")
    for group in configuration.groups:
        row(found, group.preferred, "\n".join(resource.text for resource in group.resources))
    return found


def _keys(configuration: Configuration) -> Table:
    found = table("Keys", "index", "method", "")
    for key in configuration.keys.keys:
        row(found, str(key.index), key.method, "signs" if key.index == configuration.keys.active else "")
    return found


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")
