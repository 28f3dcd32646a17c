"""What hafsm.toml adds to the checks of ldirectord.cf, joined to its virtual services by their keys.

ldirectord.cf has no words for it: `[[checks.tls]]` and `[[checks.http]]`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from hafsm.config.findings import Report, quote, suggestion
from hafsm.core.settings import CheckKind, CheckSpec, RealServer, Tls, Value, VirtualService

TLS_KINDS = frozenset({CheckKind.HTTPS, CheckKind.POPS, CheckKind.IMAPS, CheckKind.LDAPS})
STATUS_KINDS = frozenset({CheckKind.HTTP, CheckKind.HTTPS, CheckKind.HTTP_PROXY})


class CheckExtra(Value, frozen=True):
    """One `[[checks.tls]]` or `[[checks.http]]`."""

    virtual: str
    """Key of a virtual service: `tcp:192.0.2.1:443`, `tcp:[2001:db8::1]:443`, `fwm:7`, `fwm6:7`."""
    line: int
    """In hafsm.toml; 0 when it cannot be told."""
    tls: Tls | None = None
    statuses: tuple[tuple[int, int], ...] = ()
    """Closed ranges, in order, apart from each other."""

    @property
    def table(self) -> str:
        return "checks.http" if self.tls is None else "checks.tls"


class CheckExtras(Value, frozen=True):
    """All of them."""

    file: str = ""
    """hafsm.toml as the operator knows it."""
    extras: tuple[CheckExtra, ...] = ()


def with_extras(services: Iterable[VirtualService], extras: CheckExtras, report: Report) -> tuple[VirtualService, ...]:
    """The services with what hafsm.toml adds to their checks; what fits none of them is an error in `report`."""
    found = {service.key: service for service in services}
    given: dict[tuple[str, str], int] = {}
    for extra in extras.extras:
        service = found.get(extra.virtual)
        if service is None:
            report.error(
                extra.line,
                f"{extra.table}: no virtual service is {quote(extra.virtual)}",
                "the key of a service of ldirectord.cf, as `hafsm check-config` shows it",
                suggestion(extra.virtual, found),
            )
            continue
        if given.setdefault((extra.table, extra.virtual), extra.line) != extra.line:
            report.error(extra.line, f"{extra.table}: {extra.virtual} is here again", "it once")
            continue
        kinds = STATUS_KINDS if extra.tls is None else TLS_KINDS
        if not any(real.check and real.check.kind in kinds for real in service.reals):
            report.error(
                extra.line,
                f"{extra.table}: {extra.virtual} has no check that could use it",
                f"service={' or '.join(sorted(kind.value for kind in kinds))} in its section",
            )
            continue
        found[extra.virtual] = replace(service, reals=tuple(_real(real, _change(extra)) for real in service.reals))
    return tuple(found.values())


def _change(extra: CheckExtra) -> Callable[[CheckSpec], CheckSpec]:
    def change(spec: CheckSpec) -> CheckSpec:
        if extra.tls is None:
            return replace(spec, statuses=extra.statuses) if spec.kind in STATUS_KINDS else spec
        return replace(spec, tls=extra.tls) if spec.kind in TLS_KINDS else spec

    return change


def _real(real: RealServer, change: Callable[[CheckSpec], CheckSpec]) -> RealServer:
    return replace(real, check=change(real.check)) if real.check else real
