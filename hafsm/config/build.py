"""From what the files say to what the core is told."""

from __future__ import annotations

from hafsm.config.model import Configuration
from hafsm.core import flags
from hafsm.core.settings import SECOND, AutoFailback, Settings

SCRIPT_TIMEOUT_NS = 60 * SECOND


def to_settings(configuration: Configuration, *, script_timeout_ns: int = SCRIPT_TIMEOUT_NS) -> Settings:
    """The core's settings. `legacy` failback becomes `on`; services that no group starts are left out."""
    ha = configuration.ha
    failback = AutoFailback.ON if ha.auto_failback is AutoFailback.LEGACY else ha.auto_failback
    return Settings(
        me=configuration.me,
        nodes=ha.nodes,
        links=ha.links,
        keepalive_ns=ha.keepalive_ns,
        deadtime_ns=ha.deadtime_ns,
        warntime_ns=ha.warntime_ns,
        initdead_ns=ha.initdead_ns,
        deadping_ns=ha.deadping_ns,
        auto_failback=failback,
        pings=ha.pings,
        ipfail=ha.ipfail,
        fencing=ha.fence_device(configuration.me) is not None,
        groups=configuration.groups,
        services=configuration.services if configuration.services_started else (),
        script_timeout_ns=script_timeout_ns,
        lease_ns=lease_ns(ha.deadtime_ns, ha.keepalive_ns),
        flags=flags.current(),
    )


def lease_ns(deadtime_ns: int, keepalive_ns: int) -> int:
    """The longest lease in whole seconds that cannot outlast deadtime (law L6); the kernel's shortest is 1 s.

    The other director counts from the last heartbeat, and a lease may be renewed up to a keepalive after that.
    """
    return max(SECOND, (deadtime_ns - keepalive_ns) // SECOND * SECOND)
