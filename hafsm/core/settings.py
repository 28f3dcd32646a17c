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
    """Base of every plain value in the core: frozen, compared by content, encoded field by field.

    Configured values with many fields of which few are ever set leave out those with their default.
    """


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
    """`IPaddr::…`, `IPaddr2::…`, `IPv6addr::…` or a bare address: done by netlink."""
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
    """0, for IPv6 only: that of the network on an interface that holds `ip` when the address is added."""
    interface: str
    """Empty: the interface with that network, or else with the route to `ip`, when the address is added."""
    label: str = ""
    """Whole label such as `eth0:0`; empty for none. At most 15 bytes (IFNAMSIZ)."""
    broadcast: str = ""
    """Empty: computed from the prefix."""

    def __str__(self) -> str:
        bits = f"/{self.prefix}" if self.prefix else ""
        return f"{self.ip}{bits}" + (f" ({self.label or self.interface})" if self.interface else "")


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
    """How a real server is judged: ldirectord's `checktype`, or for `negotiate` its `service`."""

    HTTP = "http"
    HTTPS = "https"
    HTTP_PROXY = "http_proxy"
    FTP = "ftp"
    SMTP = "smtp"
    SUBMISSION = "submission"
    POP = "pop"
    POPS = "pops"
    IMAP = "imap"
    IMAPS = "imaps"
    NNTP = "nntp"
    LDAP = "ldap"
    LDAPS = "ldaps"
    DNS = "dns"
    MYSQL = "mysql"
    PGSQL = "pgsql"
    ORACLE = "oracle"
    RADIUS = "radius"
    SIP = "sip"
    SIMPLETCP = "simpletcp"
    CONNECT = "connect"
    PING = "ping"
    EXTERNAL = "external"
    EXTERNAL_PERL = "external-perl"
    ALWAYS_UP = "on"
    ALWAYS_DOWN = "off"


class Tls(Value, frozen=True, omit_defaults=True):
    """What a check asks of the server's certificate (`[[checks.tls]]` of hafsm.toml; ldirectord has no word for it)."""

    name: str = ""
    """Server name sent (SNI), and compared when `authority` is set; empty: the check's virtualhost, else none."""
    authority: str = ""
    """Absolute path of a PEM file, or `system`: the chain, dates and name must hold. Empty: nothing is verified."""


class CheckSpec(Value, frozen=True, omit_defaults=True):
    """One thing to check. Two real servers with equal specs share one check (ldirectord's rule)."""

    kind: CheckKind
    address: str
    """IPv4 or IPv6, canonical text without brackets."""
    port: int
    """0 where the kind has none: ping, and external behind a firewall mark."""
    interval_ns: int
    """From the end of a check to the start of the next (ldirectord `checkinterval`)."""
    timeout_ns: int
    """Hard deadline of one check, everything included."""
    protocol: str = "tcp"
    """`tcp`, `udp` or `sctp`: of connect, dns, sip and simpletcp."""
    request: str = "/"
    """Path with a leading slash, or an absolute URL; for other services what their row in ldirectord's manual says, the
    leading slash included (the check removes it)."""
    receive: str = ""
    """Regular expression searched in the answer; empty: whatever the service accepts without."""
    method: str = "GET"
    virtualhost: str = ""
    """Host header; empty: the address."""
    statuses: tuple[tuple[int, int], ...] = ()
    """HTTP statuses that count as healthy, as closed ranges; empty: 200 to 299."""
    tls: Tls = Tls()
    login: str = ""
    password: str = ""
    """`sha256:…`: names a secret that the shell knows (law L10); empty: none."""
    secret: str = ""
    """RADIUS shared secret, named the same way."""
    database: str = ""
    command: tuple[str, ...] = ()
    """External checks: the program's absolute path and its own arguments."""
    virtual: tuple[str, str] = ("", "")
    """External checks: the first two arguments that they get, VIP or mark and virtual port (0 for a mark)."""
    attempts: int = 1
    """Echo requests within one ping check, each with its own share of the deadline (`checkcount`)."""
    connects: int = 0
    """`checktype=N`: so many connect checks between two of `kind`; 0: always `kind`."""
    connect_timeout_ns: int = 0
    """Hard deadline of those connect checks; 0: `timeout_ns`."""

    def __str__(self) -> str:
        return f"{self.kind.value} {host_port(self.address, self.port)}"


class RealServer(Value, frozen=True, omit_defaults=True):
    """A `real=` or `fallback=` line."""

    address: str
    """IPv4 or IPv6, whatever the family of the service (a tunnel may carry one in the other)."""
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
        """`192.168.2.31:80` or `[2001:db8::31]:80`: unique within its service."""
        return host_port(self.address, self.port)


class MailPhase(Enum):
    """When a mail about a real server may be sent (`emailalertstatus`)."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    RELOADING = "reloading"


class MailAlert(Value, frozen=True, omit_defaults=True):
    """The `emailalert…` and `smtp` directives that hold for a virtual service."""

    to: tuple[str, ...]
    sender: str = ""
    """From header (`emailalertfrom`); empty: the mail system's."""
    again_ns: int = 0
    """Between reminders while a real server is down (`emailalertfreq`); 0: none."""
    phases: tuple[MailPhase, ...] = tuple(MailPhase)
    smtp: str = ""
    """Host to talk SMTP to; empty: the local mailer."""


class VirtualService(Value, frozen=True, omit_defaults=True):
    """A `virtual=` section."""

    protocol: str
    """`tcp`, `udp`, `sctp` or `fwm`."""
    address: str
    """For a firewall mark: empty, or `::` if it marks IPv6 packets (the kernel interface's rule)."""
    port: int
    mark: int = 0
    scheduler: str = "wrr"
    scheduler_flags: tuple[str, ...] = ()
    """Names that ipvsadm's `-b` takes: `flag-1` … `flag-3`, `sh-fallback`, `sh-port`, `mh-fallback`, `mh-port`."""
    one_packet: bool = False
    """One-packet scheduling (`ops`), UDP and marks only."""
    persistent_s: int = 0
    """IPVS persistence timeout in seconds; 0 = not persistent."""
    netmask: str = ""
    """Persistence netmask, or prefix length for IPv6; only meaningful with `persistent_s`."""
    quiescent: bool = False
    readd_quiescent: bool = False
    """With `quiescent`: a real server not known to be up is in the table with weight 0 (`readdquiescent`)."""
    failurecount: int = 1
    clean_stop: bool = True
    """False: the service stays in the kernel when the daemon stops (`cleanstop=no`)."""
    reals: tuple[RealServer, ...] = ()
    fallback: RealServer | None = None
    fallback_command: str = ""
    """Run as `COMMAND start|stop VIP:PORT PROTOCOL` when the last real server goes and the first one returns."""
    alert: MailAlert | None = None
    name: str = ""
    """`servicename`, for mails."""
    comment: str = ""
    monitor_file: str = ""
    """Absolute path; one line a check (`monitorfile`)."""

    @property
    def key(self) -> str:
        """`tcp:192.168.2.232:80`, `tcp:[2001:db8::1]:80`, `fwm:7` or `fwm6:7` (ldirectord's virtual id)."""
        if self.protocol == "fwm":
            return f"fwm6:{self.mark}" if self.address else f"fwm:{self.mark}"
        return f"{self.protocol}:{host_port(self.address, self.port)}"

    @property
    def place(self) -> str:
        """`192.168.2.232:80`, or the number of a firewall mark: the service in ldirectord's log lines."""
        return str(self.mark) if self.protocol == "fwm" else host_port(self.address, self.port)


class RealVerb(Enum):
    """What an operator wants of a real server."""

    DRAIN = "drain"
    """Weight 0 now; its entry is deleted when no connection is left."""
    QUIESCE = "quiesce"
    """Weight 0, the entry stays."""
    WEIGHT = "weight"
    """Another weight than the file's."""
    ENABLE = "enable"
    """What its checks and the file say; remembered because it must win over an older drain."""


class Override(Value, frozen=True, omit_defaults=True):
    """The last word of an operator on a real server in one virtual service."""

    service: str
    """`VirtualService.key`."""
    real: str
    """`RealServer.key`."""
    verb: RealVerb
    counter: int
    """Logical: larger than every one its director had seen before. The larger wins; of equal ones that of the first
    director in ha.cf."""
    node: NodeName
    """Where it was decided."""
    wall_ns: int
    by: str
    reason: str = ""
    weight: int = 0
    """For WEIGHT."""
    configured: int = -1
    """For WEIGHT: what this director's file said then; -1: the file did not name the server. Another number in the file
    ends the override."""

    def __str__(self) -> str:
        what = f"weight {self.weight} set" if self.verb is RealVerb.WEIGHT else _DONE[self.verb]
        return f"{what} by {self.by}" + (f" ({self.reason})" if self.reason else "")


_DONE = {RealVerb.DRAIN: "drained", RealVerb.QUIESCE: "quiesced", RealVerb.ENABLE: "enabled"}


def host_port(address: str, port: int) -> str:
    """`192.0.2.1:80`, `[2001:db8::1]:80`."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


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
