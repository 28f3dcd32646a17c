"""What the four files say, in one frozen value that all parsers fill.

`hafsm.core.settings` holds the part that decides; this model adds what only the shell needs: media, keys, files.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Literal, TypeAlias

from hafsm.config.check_extras import CheckExtras
from hafsm.core.settings import AutoFailback, Group, NodeName, PingNode, Value, VirtualService

DIGEST_DIGITS = 12
"""Hex digits of SHA-256 that stand for a secret: enough to see whether two differ, 48 bits."""


class Secret:
    """Key material. It shows only its digest; msgspec refuses to encode it."""

    __slots__ = ("__value",)

    def __init__(self, value: bytes) -> None:
        self.__value = value

    def reveal(self) -> bytes:
        """The bytes themselves, for whoever signs with them."""
        return self.__value

    def digest(self) -> str:
        """`sha256:` and the first `DIGEST_DIGITS` hex digits."""
        return secret_digest(self.__value)

    def __repr__(self) -> str:
        return f"Secret({self.digest()})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self.__value, other.reveal())

    def __hash__(self) -> int:
        return hash(self.digest())

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled")


def secret_digest(value: bytes) -> str:
    """What stands in place of a secret in a journal or log (law L10)."""
    return "sha256:" + hashlib.sha256(value).hexdigest()[:DIGEST_DIGITS]


AuthMethod = Literal["crc", "md5", "sha1", "sha256"]


class AuthKey(Value, frozen=True):
    """A key line of authkeys."""

    index: int
    """0 to 15."""
    method: AuthMethod
    secret: Secret
    """Empty for crc."""


class Authkeys(Value, frozen=True):
    """The file authkeys."""

    active: int
    """Index of the key that signs (`auth N`)."""
    keys: tuple[AuthKey, ...]
    """In the order of the file; indexes are unique and `active` is among them."""


class Bcast(Value, frozen=True, tag=True):
    """A `bcast` interface."""

    interface: str

    @property
    def name(self) -> str:
        """The link's name: the device (heartbeat's rule), so media on one device share one link."""
        return self.interface


class Ucast(Value, frozen=True, tag=True):
    """A `ucast` line."""

    interface: str
    host: str
    """IPv4 address of the other node, resolved."""

    @property
    def name(self) -> str:
        return self.interface


class Ucast6(Ucast, frozen=True, tag=True):
    """A `ucast6` line; the host is an IPv6 address without a zone."""


class Mcast(Value, frozen=True, tag=True):
    """An `mcast` line."""

    interface: str
    group: str
    """Class D address."""
    port: int
    """Its own; `udpport` does not count here."""
    ttl: int
    """0 to 4."""
    loop: int
    """0 or 1."""

    @property
    def name(self) -> str:
        return self.interface


class Mcast6(Mcast, frozen=True, tag=True):
    """An `mcast6` line; the group is one of IPv6, `ttl` its hop limit."""


class Serial(Value, frozen=True, tag=True):
    """A `serial` device."""

    device: str
    baud: int

    @property
    def name(self) -> str:
        return self.device


Medium: TypeAlias = Bcast | Ucast | Ucast6 | Mcast | Mcast6 | Serial


class Respawn(Value, frozen=True):
    """A `respawn` line."""

    user: str
    command: str
    """Absolute path with its arguments."""

    @property
    def is_ipfail(self) -> bool:
        """hafsm does ipfail's work itself; the program is not started."""
        return self.command.split()[0].rsplit("/", 1)[-1] == "ipfail"


class FenceDevice(Value, frozen=True):
    """A `stonith` or `stonith_host` line: what makes sure that the other director is off."""

    host: str
    """The node that reaches it this way, in lower case; `*`: any."""
    kind: str
    """A plug-in of cluster-glue's `stonith`, or the name of a fence agent, `fence_…`."""
    file: str = ""
    """Absolute path of a plug-in's parameters; empty: they are in `parameters`."""
    parameters: Secret = Secret(b"")
    """Words with blanks between them; usually with a password. A fence agent's are `name=value`."""

    @property
    def is_agent(self) -> bool:
        return self.kind.startswith("fence_")


class ApiAuth(Value, frozen=True):
    """An `apiauth` line: who may use the API under this name."""

    name: str
    uids: tuple[str, ...]
    gids: tuple[str, ...]


class HaCf(Value, frozen=True):
    """The file ha.cf. Defaults are heartbeat's."""

    keepalive_ns: int
    deadtime_ns: int
    warntime_ns: int
    initdead_ns: int
    deadping_ns: int
    nodes: tuple[NodeName, ...]
    media: tuple[Medium, ...]
    """In the order of the file, none twice; several may share one link name."""
    udpport: int = 694
    auto_failback: AutoFailback = AutoFailback.LEGACY
    pings: tuple[PingNode, ...] = ()
    respawn: tuple[Respawn, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    """Name and value of each variable for respawned programs, without the prefix `HA_`; each name once."""
    fencing: tuple[FenceDevice, ...] = ()
    """At most one for each host."""
    watchdog: str = ""
    """Device; empty: none."""
    apiauth: tuple[ApiAuth, ...] = ()
    logfile: str = ""
    debugfile: str = ""
    logfacility: str = ""
    """Lower-case syslog facility, `none`, or empty when not given."""
    debug: int = 0
    """0 to 255."""
    hopfudge: int = 1
    """Added to the number of nodes in the `ttl` field of messages."""
    realtime: bool = True
    rtprio: int | None = None
    """1 to 99; None: half-way of what the kernel offers."""
    coredumps: bool = True
    coreroot: str = ""
    """Folder for core dumps; empty: where the daemon was started."""

    def fence_device(self, node: NodeName) -> FenceDevice | None:
        """What `node` fences the other director with; a line that names it goes before one for any host."""
        for host in (node, "*"):
            for device in self.fencing:
                if device.host == host:
                    return device
        return None

    @property
    def programs(self) -> tuple[Respawn, ...]:
        """What is started besides: all of `respawn` but ipfail."""
        return tuple(entry for entry in self.respawn if not entry.is_ipfail)

    @property
    def ipfail(self) -> bool:
        return any(entry.is_ipfail for entry in self.respawn)

    @property
    def links(self) -> tuple[str, ...]:
        """Names of the heartbeat links, each once, in the order of the file."""
        return tuple(dict.fromkeys(medium.name for medium in self.media))


class LdirectordCf(Value, frozen=True):
    """A ldirectord configuration file, and the files that it names with `execute`."""

    file: str
    """Absolute path that was read; empty when there is none."""
    autoreload: bool = False
    services: tuple[VirtualService, ...] = ()
    secrets: tuple[tuple[str, Secret], ...] = ()
    """(name as in `CheckSpec.password` and `.secret`, what it names), each once."""
    maintenance_dir: str = ""
    """Absolute path; empty: none."""
    callback: str = ""
    """Program run with the file's name as its argument when the file has changed; empty: none."""
    execute: tuple[str, ...] = ()
    """Absolute paths of the further files (`execute`, theirs too); `services` has their services already."""

    @property
    def files(self) -> tuple[str, ...]:
        """All that was read: whoever waits for changes watches these."""
        return (self.file, *self.execute) if self.file else ()


class SourceText(Value, frozen=True):
    """A file as the journal keeps it."""

    name: str
    """Without its directory."""
    text: str
    """Every key and password replaced by its digest; undecodable bytes escaped."""


class Configuration(Value, frozen=True):
    """Everything that was understood."""

    directory: str
    """Absolute."""
    me: NodeName
    ha: HaCf
    groups: tuple[Group, ...]
    keys: Authkeys
    ldirectord: LdirectordCf
    services_started: bool
    """A resource group holds `ldirectord`; without it the services are read but never programmed."""
    sources: tuple[SourceText, ...]
    extras: CheckExtras = CheckExtras()
    """What hafsm.toml adds to the checks; `ldirectord` has it already, and who reads that file again needs it."""

    @property
    def services(self) -> tuple[VirtualService, ...]:
        return self.ldirectord.services

    def text_without_secrets(self) -> str:
        """All files, one after the other, for the journal."""
        return "".join(f"==> {source.name} <==\n{source.text}" for source in self.sources)

    def digest(self) -> str:
        """SHA-256 of `text_without_secrets`, hex."""
        return hashlib.sha256(self.text_without_secrets().encode()).hexdigest()
