"""Rules that concern several lines or several files, and what can be seen of this host.

Numbers come from heartbeat 3.0.6 where it enforces them; the rest is advice and only warns.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from hafsm.config.findings import Finding, Report, suggestion
from hafsm.config.ha_cf import ReadHaCf
from hafsm.config.ha_cf_programs import API_CLIENTS
from hafsm.config.haresources import PlacedGroup, written_out
from hafsm.config.ldirectord_cf import ReadLdirectordCf
from hafsm.config.model import Configuration, Serial
from hafsm.config.names import word_set
from hafsm.config.source import exists
from hafsm.core.settings import SECOND, AutoFailback, NodeName, ResourceKind

_ADVISED_INTERVALS = 4
"""deadtime below this many keepalives: two lost heartbeats and a little delay kill a healthy node."""

_MEDIA = word_set("bcast udp ucast ucast6 mcast mcast6 serial")


def seconds(ns: int) -> str:
    """`30 s`, `1.5 s`."""
    return f"{ns / SECOND:.10g} s"


def lint_ha_cf(read: ReadHaCf, me: NodeName, report: Report) -> None:
    """Rules within ha.cf."""
    _lint_times(read, report)
    _lint_nodes(read, me, report)
    _lint_pings(read, report)
    ha, lines = read.value, read.lines
    if not ha.media and not read.broken & _MEDIA:
        report.error(0, "no heartbeat medium", "at least one bcast, ucast, mcast or serial line", "Add one, better two")
    if "auto_failback" not in read.broken and ha.auto_failback is AutoFailback.LEGACY:
        found = "auto_failback is legacy" if "auto_failback" in lines else "no auto_failback line"
        report.warn(lines.get("auto_failback", 0), found, "auto_failback on or off", "hafsm treats it as on")
    _lint_programs(read, me, report)


def _lint_times(read: ReadHaCf, report: Report) -> None:
    ha, lines = read.value, read.lines

    def judge(failed: bool, name: str, *, error: bool, found: str, expected: str, needs: tuple[str, ...]) -> bool:
        if not failed or read.broken & {name, *needs}:
            return False
        # A default cannot be wrong by itself: the line that made it wrong is named.
        line = next((lines[word] for word in (name, *needs) if word in lines), 0)
        (report.error if error else report.warn)(line, found, expected)
        return True

    keepalive, deadtime = ha.keepalive_ns, ha.deadtime_ns
    judge(
        keepalive <= 0,
        "keepalive",
        error=True,
        found="keepalive is 0",
        expected="more than 0, such as 1 or 500ms",
        needs=(),
    )
    for name, value in (("deadtime", deadtime), ("deadping", ha.deadping_ns)):
        if name == "deadping" and name not in lines:
            continue
        too_small = judge(
            value <= 2 * keepalive,
            name,
            error=True,
            found=f"{name} {seconds(value)} with keepalive {seconds(keepalive)}",
            expected=f"more than twice keepalive, {seconds(2 * keepalive)}",
            needs=("keepalive",),
        )
        if not too_small:
            judge(
                value < _ADVISED_INTERVALS * keepalive,
                name,
                error=False,
                found=f"{name} {seconds(value)} is less than {_ADVISED_INTERVALS} times keepalive {seconds(keepalive)}",
                expected=f"{seconds(_ADVISED_INTERVALS * keepalive)} or more, so that two lost packets kill nobody",
                needs=("keepalive",),
            )
    judge(
        ha.initdead_ns < deadtime,
        "initdead",
        error=True,
        found=f"initdead {seconds(ha.initdead_ns)} with deadtime {seconds(deadtime)}",
        expected=f"at least deadtime, {seconds(deadtime)}",
        needs=("deadtime",),
    )
    judge(
        ha.warntime_ns <= 0,
        "warntime",
        error=True,
        found="warntime is 0",
        expected="more than 0, such as half of deadtime",
        needs=("deadtime",),
    )
    judge(
        ha.warntime_ns > deadtime,
        "warntime",
        error=False,
        found=f"warntime {seconds(ha.warntime_ns)} above deadtime {seconds(deadtime)} never warns",
        expected="less than deadtime",
        needs=("deadtime",),
    )


def _lint_nodes(read: ReadHaCf, me: NodeName, report: Report) -> None:
    nodes, line = read.value.nodes, read.lines.get("node", 0)
    if "node" in read.broken:
        return
    if not nodes:
        report.error(
            0, "no node line", "a node line for each of the two directors", "Write the names that uname -n shows"
        )
        return
    if len(nodes) > 2:
        report.error(
            line, f"{len(nodes)} nodes: {', '.join(nodes)}", "two; hafsm is made for a pair", "Remove the others"
        )
    elif len(nodes) == 1:
        report.warn(line, f"one node: {nodes[0]}", "two", "Nobody takes over when it fails")
    if me not in nodes:
        near = suggestion(me, nodes)
        report.error(
            line,
            f"no node is named {me}, as uname -n calls this host; ha.cf names {' and '.join(nodes)}",
            "this host among them",
            near or "Correct the node line or the host name",
        )


def _lint_pings(read: ReadHaCf, report: Report) -> None:
    ha, lines = read.value, read.lines
    alone = [name for name in ("ping", "ping6") if name in lines]
    if alone and "ping_group" in lines:
        report.warn(
            max(lines[name] for name in (*alone, "ping_group")),
            f"{alone[0]} and ping_group together: each counts for itself, so one lost ping host moves the resources "
            "although the group still answers",
            "either one of them",
            "Put the ping host into the group, or remove the group",
        )
    if ha.ipfail and not ha.pings and not read.broken & {"ping", "ping_group", "ping6"}:
        report.warn(lines["respawn"], "ipfail without a ping node does nothing", "a ping or ping_group line")
    if ha.pings and not ha.ipfail and "respawn" not in read.broken:
        report.warn(
            min(lines[name] for name in ("ping", "ping6", "ping_group") if name in lines),
            "ping nodes without ipfail are watched, but nothing follows from it",
            "respawn hacluster /usr/lib/heartbeat/ipfail",
        )


def _lint_programs(read: ReadHaCf, me: NodeName, report: Report) -> None:
    ha, lines = read.value, read.lines
    for entry in ha.programs:
        name = entry.command.split()[0].rsplit("/", 1)[-1]
        if name in API_CLIENTS:
            report.warn(
                lines["respawn"],
                f"{name} talks to heartbeat's local API, which hafsm does not have",
                "programs that run by themselves",
                "Remove the line",
            )
    if ha.fencing and ha.fence_device(me) is None:
        report.warn(
            lines["stonith_host"],
            f"no stonith_host line is for {me} or *",
            "one for each director",
            "This one takes over without fencing the other",
        )
    if "rtprio" in lines and not ha.realtime:
        report.warn(lines["rtprio"], '"rtprio" with realtime off', "realtime on", "The priority is not used")


def lint_addresses(groups: Sequence[PlacedGroup], read: ReadLdirectordCf, resources: Report) -> None:
    """VIPs without a service and services without a VIP: both are legal and both are usually typing errors."""
    vips = {r.address.ip: placed.line for placed in groups for r in placed.group.resources if r.address is not None}
    services = [service for service in read.value.services if service.protocol != "fwm"]
    marks = len(services) < len(read.value.services)
    served = {service.address for service in services}
    for ip, line in vips.items():
        if ip not in served and not marks:
            wanted = f"virtual6=[{ip}]:PORT" if ":" in ip else f"virtual={ip}:PORT"
            resources.warn(line, f"address {ip} has no virtual service", f"{wanted} in {read.files[0].file}")
    for service in services:
        if service.address not in vips:
            v6 = ":" in service.address
            wanted = f"IPv6addr::{written_out(service.address)}/64" if v6 else f"IPaddr::{service.address}/24"
            read.reports[service.key].warn(
                read.lines[service.key],
                f"virtual service {service.key} has an address that no resource group holds",
                f"{wanted} or the like in {resources.file}",
            )


def lint_starters(groups: Sequence[PlacedGroup], report: Report) -> None:
    """All virtual services are programmed together, so they can belong to one node only."""
    starters = [p for p in groups if any(r.kind is ResourceKind.IPVS for r in p.group.resources)]
    for placed in starters[1:]:
        if placed.group.preferred != starters[0].group.preferred:
            report.warn(
                placed.line,
                f"ldirectord in groups of {starters[0].group.preferred} and {placed.group.preferred}",
                "it in the groups of one node",
                "Each node that holds one of them programs all virtual services",
            )


def check_host(configuration: Configuration) -> tuple[Finding, ...]:
    """What the files name and this machine lacks. Reads interfaces and looks for files; needs no privilege."""
    report = Report(str(Path(configuration.directory) / "ha.cf"))
    present = {name for _, name in socket.if_nameindex()}
    for medium in configuration.ha.media:
        if isinstance(medium, Serial):
            _check_device(medium.device, "serial", report)
        elif medium.interface not in present:
            report.warn(
                0,
                f"interface {medium.interface} is not on this host",
                f"one of {', '.join(sorted(present))}",
                suggestion(medium.interface, present),
            )
    if configuration.ha.watchdog:
        _check_device(configuration.ha.watchdog, "watchdog", report)
    resources = Report(str(Path(configuration.directory) / "haresources"))
    for group in configuration.groups:
        for resource in group.resources:
            name = resource.address.interface if resource.address else ""
            if name and name not in present:
                resources.warn(
                    0,
                    f"{resource.text} names interface {name}, which is not on this host",
                    f"one of {', '.join(sorted(present))}",
                    suggestion(name, present),
                )
    return tuple(dict.fromkeys((*report.findings, *resources.findings)))


def _check_device(device: str, directive: str, report: Report) -> None:
    if not exists(Path(device)):
        report.warn(0, f"{directive} device {device} is not on this host", "a character device")
