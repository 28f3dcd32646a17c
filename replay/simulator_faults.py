"""What goes wrong in a simulated cluster, and when: a plan made from one integer before anything runs.

A plan comes in storms: some faults that overlap, then calm, in which the cluster has to settle. The plan is plain data,
so that a failure can be shrunk by leaving faults out.
"""

from __future__ import annotations

import random
from enum import Enum

import msgspec

from hafsm.core.settings import MILLISECOND, SECOND


class Kind(Enum):
    """One kind of fault. A fault without an end (`lasts` 0) is a single act."""

    POWER_CUT = "power cut"
    """Kernel, scripts and the journal's last milliseconds are gone; power returns at the end."""
    CRASH = "core crashes"
    """The supervisor releases the VIPs, says goodbye and starts the core again."""
    KILL = "daemon killed"
    """Supervisor and core at once: the kernel keeps its addresses until the lease ends. Started again at the end."""
    FREEZE = "daemon frozen"
    """Stopped or starved; the kernel and its clock go on."""
    PAUSE = "machine paused"
    """By a hypervisor that stops the machine's clock too: the lease cannot end meanwhile."""
    STOP = "graceful stop"
    STANDBY = "operator: standby"
    TAKEOVER = "operator: takeover"
    CUT = "link cut"
    CUT_ONE_WAY = "link cut one way"
    PARTITION = "partition"
    PARTITION_ONE_WAY = "partition one way"
    LOSSY = "network loses"
    """`value` per cent of all datagrams."""
    SLOW = "network delays"
    """Up to `value` ms each, so that datagrams overtake one another."""
    DOUBLED = "network duplicates"
    CORRUPT = "network corrupts"
    NO_UPLINK = "uplink lost"
    """One director sees neither ping nodes nor real servers; heartbeats go on."""
    PING_DEAD = "ping node dead"
    REAL_DOWN = "real server down"
    REAL_FLAPS = "real server flaps"
    CHECKER_LOST = "checker lost"
    SCRIPT_FAILS = "scripts fail"
    SCRIPT_HANGS = "scripts hang"
    DISK_FAILS = "disk fails"
    DISK_HANGS = "disk hangs"
    KERNEL_REFUSES = "kernel refuses"
    KERNEL_HANGS = "kernel hangs"
    TABLE_CLEARED = "ipvsadm -C"
    VIP_REMOVED = "ip address del"
    FENCE_FAILS = "fencing fails"
    FENCE_HANGS = "fencing hangs"
    DRAIN = "operator: drain"
    """Of the real server that `value` counts to; weights too."""
    QUIESCE = "operator: quiesce"
    WEIGHT = "operator: weight"
    ENABLE = "operator: enable"
    MAINTENANCE = "maintenance file"
    """Of the real server that `value` counts to, on one director; an even one names its port too."""
    MAINTENANCE_TROUBLE = "maintenance folder unreadable"
    MEMORY_LOST = "operators' words lost"
    """The file that keeps them is unreadable from now on; the next life says so and begins a new one."""
    RELOAD = "ldirectord.cf changed"
    RELOAD_BAD = "ldirectord.cf broken"
    SEND_FAILS = "sending fails"
    WALL_JUMPS = "wall clock jumps"


SINGLE = frozenset(
    {
        Kind.CRASH,
        Kind.STANDBY,
        Kind.TAKEOVER,
        Kind.CHECKER_LOST,
        Kind.DRAIN,
        Kind.QUIESCE,
        Kind.WEIGHT,
        Kind.ENABLE,
        Kind.MEMORY_LOST,
        Kind.TABLE_CLEARED,
        Kind.VIP_REMOVED,
        Kind.RELOAD,
        Kind.RELOAD_BAD,
        Kind.WALL_JUMPS,
    }
)
"""Acts, over at once."""

NETWORK = frozenset({Kind.CUT, Kind.CUT_ONE_WAY, Kind.PARTITION, Kind.PARTITION_ONE_WAY, Kind.LOSSY, Kind.SLOW})


class Fault(msgspec.Struct, frozen=True):
    """One thing that goes wrong."""

    kind: Kind
    at: int
    """Nanoseconds since the simulation began."""
    lasts: int = 0
    node: int = 0
    """0 or 1: the director that it strikes; of one-way faults the one that is not heard."""
    value: int = 0
    """What the kind says: per cent, milliseconds, an index taken modulo what there is."""

    @property
    def until(self) -> int:
        return self.at + self.lasts

    def __str__(self) -> str:
        lasts = f" for {self.lasts / SECOND:g} s" if self.lasts else ""
        return f"{self.at / SECOND:.3f} s: {self.kind.value} (director {self.node}, {self.value}){lasts}"


class Plan(msgspec.Struct, frozen=True):
    """All of one run that is not decided by the configuration."""

    faults: tuple[Fault, ...]
    """In order of `at`."""
    checkpoints: tuple[int, ...]
    """When the cluster must have settled, nanoseconds since the beginning."""
    ends: int


_WEIGHTS = {
    Kind.POWER_CUT: 5,
    Kind.KILL: 4,
    Kind.FREEZE: 5,
    Kind.STANDBY: 4,
    Kind.TAKEOVER: 4,
    Kind.PARTITION: 4,
    Kind.PARTITION_ONE_WAY: 4,
    Kind.REAL_DOWN: 4,
    Kind.REAL_FLAPS: 3,
    Kind.DRAIN: 3,
    Kind.ENABLE: 4,
    Kind.MAINTENANCE: 3,
}
_DURATIONS_S = (0.05, 0.5, 2, 5, 10, 20, 31, 45, 90)
"""Around the deadlines that matter: keepalive, deadtime, lease."""
STORM_EVERY_S = 200
"""On average, beside the calm that some of them are given."""
CALM_SHARE = 0.6


def plan(seed: int, hours: float, calm_ns: int, kinds: tuple[Kind, ...] = tuple(Kind)) -> Plan:
    """Storms of one to six faults. After most of them the cluster is given `calm_ns` to settle and must have; the
    others come before it has."""
    rng = random.Random(f"plan {seed}")
    weights = [_WEIGHTS.get(kind, 2) for kind in kinds]
    ends = int(hours * 3600 * SECOND)
    faults: list[Fault] = []
    checkpoints: list[int] = [calm_ns]
    now = calm_ns
    while True:
        now += int(rng.expovariate(1 / STORM_EVERY_S) * SECOND)
        storm: list[Fault] = []
        at = now
        for _ in range(rng.choice((1, 1, 2, 2, 3, 3, 4, 5, 6))):
            kind = rng.choices(kinds, weights)[0]
            lasts = 0 if kind in SINGLE else int(rng.choice(_DURATIONS_S) * rng.uniform(0.7, 1.4) * SECOND)
            storm.append(Fault(kind, at, lasts, rng.randrange(2), _value(rng, kind)))
            at += int(rng.choice((0.0, 0.2, 1, 3, 10, 40)) * rng.random() * SECOND)
        over = max(fault.until for fault in storm)
        if over + calm_ns >= ends:
            return Plan(tuple(sorted(faults, key=lambda f: f.at)), tuple(checkpoints), ends)
        faults += storm
        now = over
        if rng.random() < CALM_SHARE:
            now += calm_ns
            checkpoints.append(now)


def _value(rng: random.Random, kind: Kind) -> int:
    match kind:
        case Kind.LOSSY:
            return rng.choice((5, 20, 50, 90))
        case Kind.SLOW:
            return rng.choice((20, 200, 1500))
        case Kind.WALL_JUMPS:
            return rng.choice((-3600, -5, 5, 86400))
        case Kind.DOUBLED | Kind.CORRUPT:
            return rng.choice((10, 50))
        case _:
            return rng.randrange(12)


def shortened(fault: Fault) -> Fault:
    """The same, half as long; itself if that is below a millisecond."""
    half = fault.lasts // 2
    return msgspec.structs.replace(fault, lasts=half) if half >= MILLISECOND else fault
