"""What `hafsm check-config` shows of ldirectord.cf: services, their servers and checks, and what belongs to them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from itertools import zip_longest

from rich.table import Table

from hafsm.cli.tables import row, table
from hafsm.config.lint import seconds
from hafsm.config.model import Configuration, LdirectordCf
from hafsm.core.settings import CheckKind, CheckSpec, MailAlert, MailPhase, RealServer, Tls, VirtualService

_WHOLE_LIMIT = 26
"""Characters of a service or server up to which it is never broken over lines; IPv6 may fill half a screen."""
_HTTP = (CheckKind.HTTP, CheckKind.HTTPS, CheckKind.HTTP_PROXY)


def service_tables(configuration: Configuration) -> Iterator[Table]:
    """One after the other; those that would be empty are left out."""
    yield _services(configuration.services)
    around = [(s.key, *line) for s in configuration.services for line in _around(s)]
    if around:
        found = table("With the virtual services", "service", "", "", whole=("service",) if _short(around) else ())
        for line in around:
            row(found, *line)
        yield found
    rest = list(_file(configuration.ldirectord))
    if rest:
        found = table("ldirectord.cf as a whole", "directive", "value", "meaning")
        for cells in rest:
            row(found, *cells)
        yield found


def _short(lines: Iterable[tuple[str, ...]]) -> bool:
    return all(len(line[0]) <= _WHOLE_LIMIT for line in lines)


def _services(services: Iterable[VirtualService]) -> Table:
    blocks = []
    for service in services:
        lines = [(r.key, r.forwarding.value, _weight(r), check(r)) for r in service.reals]
        if service.fallback:
            fallback = service.fallback
            lines.append((fallback.key, fallback.forwarding.value, "", "fallback while no server is up"))
        blocks.append(([service.key, *_options(service)], lines))
    fits = all(len(names[0]) <= _WHOLE_LIMIT and _short(lines) for names, lines in blocks)
    whole = ("service", "server", "method", "weight") if fits else ("method", "weight")
    found = table("Virtual services", "service", "server", "method", "weight", "check", whole=whole)
    for names, lines in blocks:
        for name, line in zip_longest(names, lines):
            row(found, name or "", *(line or ("", "", "", "")))
    return found


def _weight(real: RealServer) -> str:
    limits = [f"{letter}:{n}" for letter, n in (("l", real.lower_threshold), ("u", real.upper_threshold)) if n]
    return " ".join([str(real.weight), *limits])


def _options(service: VirtualService) -> Iterator[str]:
    yield service.scheduler
    yield from service.scheduler_flags
    if service.one_packet:
        yield "ops"
    if service.persistent_s:
        yield f"persistent {service.persistent_s} s"
    if service.netmask:
        yield f"netmask {service.netmask}"
    if service.quiescent:
        yield "quiescent"
    if service.readd_quiescent:
        yield "readdquiescent"
    if service.failurecount > 1:
        yield f"failurecount {service.failurecount}"
    if not service.clean_stop:
        yield "cleanstop no"


def _around(service: VirtualService) -> Iterator[tuple[str, str]]:
    if service.name:
        yield "servicename", service.name
    if service.comment:
        yield "comment", service.comment
    if service.fallback_command:
        yield "fallbackcommand", service.fallback_command
    if service.alert:
        yield "mail", _mail(service.alert)
    if service.monitor_file:
        yield "monitorfile", service.monitor_file


def _mail(alert: MailAlert) -> str:
    parts = [f"to {', '.join(alert.to)}"]
    if alert.sender:
        parts.append(f"from {alert.sender}")
    if not alert.phases:
        parts.append("never")
    elif alert.phases != tuple(MailPhase):
        parts.append(f"while {', '.join(phase.value for phase in alert.phases)}")
    if alert.again_ns:
        parts.append(f"again every {seconds(alert.again_ns)}")
    parts.append(f"through {alert.smtp}" if alert.smtp else "by the local mailer")
    return ", ".join(parts)


def _file(ldirectord: LdirectordCf) -> Iterator[tuple[str, str, str]]:
    for file in ldirectord.execute:
        yield "execute", file, "its services are among those above"
    if ldirectord.autoreload:
        yield "autoreload", "yes", "read again when a file changes"
    if ldirectord.callback:
        yield "callback", ldirectord.callback, "runs when a file has changed"
    if ldirectord.maintenance_dir:
        yield "maintenancedir", ldirectord.maintenance_dir, "a file named after a real server takes it out"


def check(real: RealServer) -> str:
    """How a real server is judged, in words."""
    spec = real.check
    if spec is None or spec.kind is CheckKind.ALWAYS_UP:
        return "none: always up"
    if spec.kind is CheckKind.ALWAYS_DOWN:
        return "none: always down"
    if spec.connects:
        limit = f" within {seconds(spec.connect_timeout_ns)}" if spec.connect_timeout_ns else ""
        more = f", then {spec.connects} connects{limit}"
    else:
        more = ""
    return f"{_question(spec)}{more}, every {seconds(spec.interval_ns)}, within {seconds(spec.timeout_ns)}"


def _question(spec: CheckSpec) -> str:
    if spec.kind is CheckKind.CONNECT:
        return f"ping, for {spec.protocol}" if spec.protocol == "udp" else f"connect to port {spec.port}"
    if spec.kind is CheckKind.PING:
        return f"ping, {spec.attempts} requests" if spec.attempts > 1 else "ping"
    if spec.kind in (CheckKind.EXTERNAL, CheckKind.EXTERNAL_PERL):
        return f"{'perl ' if spec.kind is CheckKind.EXTERNAL_PERL else ''}{shlex.join(spec.command)}"
    if spec.kind in _HTTP:
        scheme = "" if spec.kind is CheckKind.HTTP else f"{spec.kind.value} "
        host = f" of {spec.virtualhost}" if spec.virtualhost else ""
        text = f"{scheme}{spec.method} {spec.request}{host} at port {spec.port}"
    else:
        transport = f" over {spec.protocol}" if spec.protocol != "tcp" or spec.kind is CheckKind.DNS else ""
        asked = f" {spec.request.removeprefix('/')}" if spec.request != "/" else ""
        text = f"{spec.kind.value}{asked} at port {spec.port}{transport}"
    if spec.login:
        text += f" as {spec.login}"
    if spec.database:
        text += f", database {spec.database}"
    if spec.statuses:
        text += ", status " + ",".join(str(low) if low == high else f"{low}-{high}" for low, high in spec.statuses)
    if spec.receive:
        text += f", {'body' if spec.kind in _HTTP else 'answer'} matches {spec.receive}"
    return text + (_tls(spec.tls) if spec.tls != Tls() else "")


def _tls(tls: Tls) -> str:
    name = f", TLS name {tls.name}" if tls.name else ""
    return name + (f", certificate by {tls.authority}" if tls.authority else "")
