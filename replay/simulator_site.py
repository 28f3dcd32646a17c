"""The cluster that is simulated: a configuration made from a seed, or the user's own, and the bounds that follow."""

from __future__ import annotations

import random
from typing import NamedTuple

from msgspec.structs import replace

from hafsm.config.build import lease_ns
from hafsm.core.groups import RETRY_FAILED_NS, SCRIPT_GRACE_NS, STOP_ATTEMPTS, STOP_PAUSE_NS
from hafsm.core.handover import ANSWER_LIMIT_NS, FAILED_HOLD_NS
from hafsm.core.membership import FENCE_AGAIN_NS, FENCE_LIMIT_NS, REMIND_NS
from hafsm.core.settings import (
    SECOND,
    Address,
    AutoFailback,
    CheckKind,
    CheckSpec,
    Forwarding,
    Group,
    NodeName,
    PingNode,
    RealServer,
    Resource,
    ResourceKind,
    Settings,
    VirtualService,
)
from hafsm.core.standby import PARTNER_LIMIT_NS

NAMES = (NodeName("director-a"), NodeName("director-b"))


class Site(NamedTuple):
    """Two directors' settings."""

    settings: tuple[Settings, Settings]

    @property
    def vips(self) -> tuple[Address, ...]:
        """Every VIP of every group, in order."""
        return tuple(r.address for group in self.settings[0].groups for r in group.resources if r.address is not None)


def random_site(seed: int) -> Site:
    """A small cluster; every choice that the core decides by is drawn."""
    rng = random.Random(f"site {seed}")
    keepalive = rng.choice((1, 2, 2, 2)) * SECOND
    deadtime = rng.choice((6, 10, 15, 15, 30, 30)) * SECOND
    groups = []
    with_services = rng.random() < 0.8
    for index in range(rng.choice((1, 1, 2, 3))):
        groups.append(_group(rng, index, services=with_services and index == 0))
    whole = Settings(
        me=NAMES[0],
        nodes=NAMES,
        links=("eth0", "eth1")[: rng.choice((1, 1, 2))],
        keepalive_ns=keepalive,
        deadtime_ns=deadtime,
        warntime_ns=deadtime // 2,
        initdead_ns=rng.choice((2, 4)) * deadtime,
        deadping_ns=deadtime,
        auto_failback=rng.choice((AutoFailback.ON, AutoFailback.ON, AutoFailback.OFF)),
        pings=tuple(_ping(f"192.0.2.{250 + index}") for index in range(rng.randrange(3))),
        ipfail=rng.random() < 0.7,
        fencing=rng.random() < 0.25,
        groups=tuple(groups),
        services=tuple(_service(rng, index) for index in range(rng.choice((1, 1, 2)))) if with_services else (),
        script_timeout_ns=rng.choice((10, 20, 60)) * SECOND,
        lease_ns=lease_ns(deadtime, keepalive),
    )
    return site_of(whole)


def site_of(settings: Settings) -> Site:
    """Both directors of one configuration; `settings.nodes` names two."""
    one, two = settings.nodes
    return Site((replace(settings, me=one), replace(settings, me=two)))


def _ping(host: str) -> PingNode:
    return PingNode(name=host, hosts=(host,))


def _group(rng: random.Random, index: int, *, services: bool) -> Group:
    address = Address(ip=f"198.51.100.{10 + index}", prefix=24, interface="eth0")
    text = f"IPaddr::{address.ip}/24/eth0"
    resources = [Resource(kind=ResourceKind.ADDRESS, text=text, address=address)]
    for number in range(rng.choice((0, 1, 1, 2))):
        name = f"service{index}{number}"
        resources.append(Resource(kind=ResourceKind.SCRIPT, text=name, script=name))
    if services:
        resources.insert(rng.randrange(1, len(resources) + 1), Resource(kind=ResourceKind.IPVS, text="ldirectord"))
    return Group(key=text, preferred=rng.choice(NAMES), resources=tuple(resources))


def _service(rng: random.Random, index: int) -> VirtualService:
    interval = rng.choice((2, 5, 10, 10, 20)) * SECOND
    reals = []
    for number in range(rng.choice((1, 2, 3))):
        address = f"203.0.113.{10 + number}"
        spec = CheckSpec(
            kind=CheckKind.HTTP, address=address, port=80 + index, interval_ns=interval, timeout_ns=3 * SECOND
        )
        reals.append(
            RealServer(address=address, port=80 + index, forwarding=Forwarding.GATE, weight=1 + number, check=spec)
        )
    return VirtualService(
        protocol="tcp",
        address="198.51.100.10",
        port=80 + index,
        scheduler="wrr",
        quiescent=rng.random() < 0.5,
        readd_quiescent=rng.random() < 0.3,
        clean_stop=rng.random() < 0.8,
        failurecount=rng.choice((1, 1, 3)),
        reals=tuple(reals),
        fallback=RealServer(address="127.0.0.1", port=80, forwarding=Forwarding.GATE) if rng.random() < 0.5 else None,
        fallback_command="/usr/local/sbin/sorry" if rng.random() < 0.4 else "",
    )


class Bounds(NamedTuple):
    """How long what may be: every number that the invariants of a cluster ask. Nanoseconds."""

    overlap_ns: int
    """Two directors answer for one VIP although heartbeats came through: a kernel that removes it while the other adds
    it, a clock that drifts."""
    handover_ns: int
    """They may in an agreed hand-over: until the giver hears that the taker serves, or the taker counts as dead."""
    heal_ns: int
    """They may, for so long after heartbeats came through again, or a paused machine went on: the reports that settle
    who keeps what, and the release."""
    vacant_ns: int
    """Nobody answers for a VIP although a healthy director is there."""
    settle_ns: int
    """After the last fault everything is where it belongs."""


def bounds_of(settings: Settings) -> Bounds:
    """What follows from a configuration's own times; each term is a wait that the core is allowed."""
    script = settings.script_timeout_ns + SCRIPT_GRACE_NS
    scripts = max((sum(r.kind is ResourceKind.SCRIPT for r in g.resources) for g in settings.groups), default=0)
    fence = FENCE_LIMIT_NS + FENCE_AGAIN_NS if settings.fencing else 0
    beats = 2 * settings.keepalive_ns
    heal = beats + 3 * SECOND + scripts * 3 * SECOND
    join = settings.initdead_ns + max(ANSWER_LIMIT_NS, settings.deadtime_ns)
    vacant = settings.deadtime_ns + beats + join + fence + scripts * 6 * SECOND + 5 * SECOND
    stop = scripts * STOP_ATTEMPTS * (script + STOP_PAUSE_NS)
    settle = vacant + REMIND_NS + RETRY_FAILED_NS + max(FAILED_HOLD_NS, 2 * PARTNER_LIMIT_NS) + stop + 60 * SECOND
    return Bounds(
        overlap_ns=SECOND // 10,
        handover_ns=settings.deadtime_ns + beats,
        heal_ns=heal,
        vacant_ns=vacant,
        settle_ns=settle,
    )
