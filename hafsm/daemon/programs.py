"""What ha.cf names and this host lacks: the daemon does not start without it."""

from __future__ import annotations

from pathlib import Path

from hafsm.config.model import HaCf
from hafsm.core.settings import NodeName
from hafsm.daemon import fencing, respawn


def missing_programs(ha: HaCf, me: NodeName) -> tuple[str, ...]:
    """A sentence for each program, user or folder that `me` needs and does not have. Blocks: `stonith` is asked."""
    device = ha.fence_device(me)
    lacks = [fencing.missing(device) if device is not None else "", *map(respawn.missing, ha.programs)]
    if ha.coreroot and not Path(ha.coreroot).is_dir():
        lacks.append(f"coreroot {ha.coreroot} is no folder on this host")
    return tuple(lack for lack in lacks if lack)
