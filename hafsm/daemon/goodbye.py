"""The supervisor's last word for a core that crashed: `NS_goodbye`, signed, once on every link.

A kind of our own; heartbeat ignores kinds that it does not know and waits for its deadtime.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

import msgspec

from hafsm.config.model import Serial
from hafsm.daemon.life import Plan, time_to_live
from hafsm.daemon.links import Transport
from hafsm.wire.message import build, encode

log = logging.getLogger("hafsm.supervisor")

REPEAT = 3
"""Datagrams get lost; a second copy says nothing new."""


def say_goodbye(plan: Plan) -> None:
    """Tell the peer that this node has released everything. Errors are logged: the peer's deadtime does the rest."""
    stored = msgspec.json.decode((Path(plan.daemon.state_dir) / "identity.json").read_bytes())
    message = build(
        "NS_goodbye",
        node=plan.settings.me,
        uuid=bytes.fromhex(stored["uuid"]),
        generation=stored["generation"],
        sequence=0,
        wall_s=int(time.time()),
        load="",
        ttl=time_to_live(plan),
        fields=(("info", "crashed"),),
    )
    datagram = encode(message, plan.ring)
    for medium in plan.configuration.ha.media:
        if isinstance(medium, Serial):
            continue
        transport = Transport(medium, plan.configuration.ha.udpport, plan.daemon.heartbeat.listen or "")
        try:
            transport.open(plan.ring)
            for _ in range(REPEAT):
                transport.send(datagram, b"")
        except OSError as error:
            log.warning("no goodbye on %s: %s", medium.name, error.strerror)
        finally:
            transport.close()
