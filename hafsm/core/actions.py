"""What is to be done: one frozen value an action, imperative. The shell carries them out in order and decides nothing.

`id` grows over the life of the journal. Actions with an effect on this machine end in an `ActionFinished` (or
`KernelObserved`) that carries the id, and the core holds a deadline for each; messages and pings are unreliable by
nature and have no result.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from hafsm.core.ipvs import Operation
from hafsm.core.settings import Address, CheckSpec, NodeName, Override, SyncDaemon


class ActionBase(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Base of all actions."""

    id: int


class SendMessage(ActionBase, frozen=True):
    """Send a heartbeat message on every link. May go out before its event is on disk: it changes no VIP."""

    kind: str
    generation: int
    sequence: int
    """0 for kinds beginning with `NS_`."""
    fields: tuple[tuple[str, str], ...] = ()
    dest: str = ""
    """Empty: everybody."""


class ResendMessages(ActionBase, frozen=True):
    """Send again, byte for byte, what was sent under these numbers; refuse (NAK) what is gone from the history."""

    first: int
    last: int
    dest: NodeName


class SendPings(ActionBase, frozen=True):
    """Send one echo request to each host of each ping node."""


class AddAddress(ActionBase, frozen=True):
    """Add a VIP on a lease and announce it (durable: law L2)."""

    address: Address
    lease_s: int


class RemoveAddress(ActionBase, frozen=True):
    """Remove a VIP."""

    address: Address


class RenewAddresses(ActionBase, frozen=True):
    """Extend the lease of the VIPs that this node holds."""

    addresses: tuple[Address, ...]
    lease_s: int


class AnnounceAddress(ActionBase, frozen=True):
    """Tell the network where an address is, without adding it."""

    address: Address


class SetSyncDaemon(ActionBase, frozen=True):
    """Run the IPVS sync daemon in this role, and not in the other."""

    daemon: SyncDaemon


class SendMail(ActionBase, frozen=True):
    """Send a mail. Nothing waits for it; a failure is only told."""

    to: tuple[str, ...]
    subject: str
    text: str
    timeout_ns: int
    sender: str = ""
    """From header; empty: the mail system's."""
    smtp: str = ""
    """Host that takes it by SMTP; empty: sendmail(8)."""


class ProgramIpvs(ActionBase, frozen=True):
    """Carry out IPVS operations in order."""

    operations: tuple[Operation, ...]


class ObserveKernel(ActionBase, frozen=True):
    """Report which VIPs and which of our virtual services the kernel has."""

    expected: str = ""
    """Digest of the table the core believes in (`ipvs.digest`); a match is reported without the table."""
    draining: tuple[tuple[str, str], ...] = ()
    """(service, real server) of whom it is asked whether a connection is left."""


class ScriptVerb(Enum):
    """What a resource script is asked (LSB)."""

    STATUS = "status"
    START = "start"
    STOP = "stop"


class RunScript(ActionBase, frozen=True):
    """Run a resource script, an OCF agent or a systemd unit."""

    script: str
    arguments: tuple[str, ...]
    verb: ScriptVerb
    timeout_ns: int


class FallbackVerb(Enum):
    """What a fallbackcommand is told."""

    START = "start"
    """No real server of the service is left."""
    STOP = "stop"
    """One is there again, or this director gives the service up."""


class RunFallbackCommand(ActionBase, frozen=True):
    """Run `COMMAND start|stop VIP:PORT PROTOCOL` through the shell: it is the administrator's own line."""

    command: str
    verb: FallbackVerb
    virtual: str
    """`192.0.2.1:80`; `:0` for a firewall mark (ldirectord's words)."""
    protocol: str
    timeout_ns: int


class RememberOverrides(ActionBase, frozen=True):
    """Keep for later lives what is in force (replaced as a whole, durable)."""

    overrides: tuple[Override, ...]
    fallbacks: tuple[str, ...]


class FenceNode(ActionBase, frozen=True):
    """Reset a silent node through the configured stonith device."""

    node: NodeName
    timeout_ns: int


class SetChecks(ActionBase, frozen=True):
    """Replace the plan of health checks; results name checks by their index."""

    plan: int
    checks: tuple[CheckSpec, ...]


class Exit(ActionBase, frozen=True):
    """End the daemon after everything before this action was carried out."""

    reason: str
    restart: bool = False
    """The supervisor starts a new life at once."""


Action = (
    SendMessage
    | ResendMessages
    | SendPings
    | AddAddress
    | RemoveAddress
    | RenewAddresses
    | AnnounceAddress
    | SetSyncDaemon
    | SendMail
    | ProgramIpvs
    | ObserveKernel
    | RunScript
    | RunFallbackCommand
    | RememberOverrides
    | FenceNode
    | SetChecks
    | Exit
)
