"""What heartbeat's `cl_status hbparameter` answers: the single-valued directives of ha.cf, as they are written.

Source: answers of heartbeat 3.0.6 to each directive, set and unset.
"""

from __future__ import annotations

from collections.abc import Mapping

from hafsm.config.model import Configuration
from hafsm.config.names import word_set
from hafsm.core.settings import MILLISECOND

_LISTS = word_set(
    "node bcast udp ucast ucast6 mcast mcast6 serial ping ping6 ping_group stonith stonith_host respawn failfast "
    "apiauth env"
)
"""Directives that accumulate have no one value; heartbeat does not answer for them."""


def parameters(configuration: Configuration, version: str) -> Mapping[str, str]:
    """Directive → its text in ha.cf, or heartbeat's default where it has one to show; `hbversion` is hafsm's."""
    ha = configuration.ha
    found = {
        "udpport": str(ha.udpport),
        "baud": "19200",
        "hopfudge": str(ha.hopfudge),
        "deadping": f"{ha.deadping_ns // MILLISECOND}ms",
        "autojoin": "none",
        "crm": "false",
    }
    for source in configuration.sources:
        if source.name == "ha.cf":
            for line in source.text.splitlines():
                name, *values = line.partition("#")[0].replace(",", " ").split() or [""]
                if values and name not in _LISTS:
                    found[name] = values[-1]
    found["hbversion"] = f"{version} (hafsm)"
    return found
