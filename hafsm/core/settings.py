"""What the core is told about the cluster: plain frozen values, filled by `hafsm.config`, recorded in every journal.

Times are integer nanoseconds. Addresses are canonical text, checked where the files are read. No secret stands here.
"""

from __future__ import annotations

from enum import Enum
from typing import NewType

import msgspec

NodeName = NewType("NodeName", str)
"""A director's name: `uname -n` in lower case (ha.cf `node`)."""

SECOND = 1_000_000_000
MILLISECOND = 1_000_000


class Value(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base of every plain value in the core: frozen, compared by content, encoded field by field."""


class AutoFailback(Enum):
    """ha.cf `auto_failback`."""

    ON = "on"
    """Groups go back to their preferred node when it is stable again."""
    OFF = "off"
    """Groups stay where they are."""
    LEGACY = "legacy"
    """heartbeat's default; hafsm treats it as `on` and says so."""


class ResourceKind(Enum):
    """What a word of a haresources line stands for."""

    ADDRESS = "address"
    """`IPaddr::…`, `IPaddr2::…` or a bare address: done by netlink."""
    IPVS = "ipvs"
    """`ldirectord` or `ldirectord::FILE`: done natively."""
    SCRIPT = "script"
    """Any other word: a resource script, an OCF agent or a systemd unit."""
    ANNOUNCE = "announce"
    """`SendArp::IP/IFACE`: tells a segment where an address is that another resource holds."""
    MAIL = "mail"
    """`MailTo::ADDRESS,ADDRESS::SUBJECT`."""
    SYNC = "sync"
    """`LVSSyncDaemonSwap::ROLE`: the kernel's own daemon that carries connections to the other director."""


class SyncRole(Enum):
    """What a director's IPVS sync daemon does."""

    MASTER = "master"
    """Sends the connections of this director."""
    BACKUP = "backup"
    """Learns those of the other one; haresources says `slave`."""

    def other(self) -> SyncRole:
        """The role of the other director."""
        return SyncRole.BACKUP if self is SyncRole.MASTER else SyncRole.MASTER


class Address(Value, frozen=True):
    """A virtual IP as haresources writes it."""

    ip: str
    prefix: int
    interface: str
    """Empty: the interface that has the route to `ip` when the address is added."""
    label: str = ""
    """Whole label such as `eth0:0`; empty for none. At most 15 bytes (IFNAMSIZ)."""
    broadcast: str = ""
    """Empty: computed from the prefix."""

    def __str__(self) -> str:
        return f"{self.ip}/{self.prefix}" + (f" ({self.label or self.interface})" if self.interface else "")


class SyncDaemon(Value, frozen=True):
    """The kernel's IPVS sync daemon in one role."""

    role: SyncRole
    interface: str = "eth0"
    """Where it sends and hears multicast; the default is ipvsadm's."""
    sync_id: int = 0
    """0 to 255; a backup hears masters of the same number, with 0 those of any."""

    def __str__(self) -> str:
        return f"IPVS sync daemon as {self.role.value} on {self.interface}, id {self.sync_id}"


class Resource(Value, frozen=True):
    """One word of a haresources line."""

    kind: ResourceKind
    text: str
    """As written: `IPaddr::192.168.2.232/24/eth0:0`."""
    address: Address | None = None
    """Set for ADDRESS."""
    script: str = ""
    """Set for SCRIPT: the name, without arguments."""
    arguments: tuple[str, ...] = ()
    announced: Address | None = None
    """Set for ANNOUNCE; the address itself belongs to another resource."""
    sync: SyncDaemon | None = None
    """Set for SYNC: what runs while this node holds the group; the other role while it does not."""


class Group(Value, frozen=True):
    """A line of haresources: resources started in this order and stopped in reverse."""

    key: str
    """Text of the first resource; unique in the cluster (heartbeat's rule)."""
    preferred: NodeName
    resources: tuple[Resource, ...]


class Forwarding(Enum):
    """IPVS forwarding method, by ldirectord's word."""

    GATE = "gate"
    MASQ = "masq"
    IPIP = "ipip"


class CheckKind(Enum):
    """How a real server is judged (ldirectord `checktype`)."""

    HTTP = "http"
    """`negotiate` with `service=http`."""
    CONNECT = "connect"
    ALWAYS_UP = "on"
    ALWAYS_DOWN = "off"


class CheckSpec(Value, frozen=True):
    """One thing to check. Two real servers with equal specs share one check (ldirectord's rule)."""

    kind: CheckKind
    address: str
    port: int
    interval_ns: int
    """From the end of a check to the start of the next (ldirectord `checkinterval`)."""
    timeout_ns: int
    """Hard deadline of one check, everything included."""
    request: str = "/"
    """Path with a leading slash, or an absolute URL."""
    receive: str = ""
    """Regular expression searched in the body; empty accepts any 2xx answer."""
    method: str = "GET"
    virtualhost: str = ""
    """Host header; empty: the address."""

    def __str__(self) -> str:
        return f"{self.kind.value} {self.address}:{self.port}"


class RealServer(Value, frozen=True):
    """A `real=` or `fallback=` line."""

    address: str
    port: int
    """0: the virtual service's port (firewall marks)."""
    forwarding: Forwarding
    weight: int = 1
    check: CheckSpec | None = None
    """None for a fallback, which is never checked."""
    upper_threshold: int = 0
    lower_threshold: int = 0

    @property
    def key(self) -> str:
        """`192.168.2.31:80`: unique within its service."""
        return f"{self.address}:{self.port}"


class VirtualService(Value, frozen=True):
    """A `virtual=` section."""

    protocol: str
    """`tcp`, `udp` or `fwm`."""
    address: str
    """Empty for a firewall mark."""
    port: int
    mark: int = 0
    scheduler: str = "wrr"
    persistent_s: int = 0
    """IPVS persistence timeout in seconds; 0 = not persistent."""
    netmask: str = ""
    """Persistence netmask; only meaningful with `persistent_s`."""
    quiescent: bool = False
    failurecount: int = 1
    reals: tuple[RealServer, ...] = ()
    fallback: RealServer | None = None

    @property
    def key(self) -> str:
        """`tcp:192.168.2.232:80` or `fwm:7` (ldirectord's virtual id)."""
        return f"fwm:{self.mark}" if self.protocol == "fwm" else f"{self.protocol}:{self.address}:{self.port}"


class PingNode(Value, frozen=True):
    """A `ping` or `ping_group` line: alive while any of its hosts answers."""

    name: str
    hosts: tuple[str, ...]


class Settings(Value, frozen=True):
    """All the core knows that does not happen."""

    me: NodeName
    nodes: tuple[NodeName, ...]
    """In the order of ha.cf; the first is the primary. One or two."""
    links: tuple[str, ...]
    """Names of the heartbeat links, `eth0`; unique, in the order of ha.cf."""
    keepalive_ns: int
    deadtime_ns: int
    warntime_ns: int
    initdead_ns: int
    deadping_ns: int
    auto_failback: AutoFailback
    pings: tuple[PingNode, ...] = ()
    ipfail: bool = False
    """`respawn … ipfail` is in ha.cf: move groups to the node that sees more ping nodes."""
    fencing: bool = False
    """A `stonith` line is there: take over a silent peer's groups only after it was reset."""
    groups: tuple[Group, ...] = ()
    services: tuple[VirtualService, ...] = ()
    script_timeout_ns: int = 60 * SECOND
    """Deadline of a resource script's start or stop."""
    lease_ns: int = 0
    """How long the kernel keeps a VIP that nobody renews; whole seconds, at least 1, otherwise at most deadtime."""
    flags: tuple[str, ...] = ()
    """Behaviour flags: an old journal replays with the flags it was recorded with."""
