"""What happened: one frozen value an event, past tense, stamped by the shell.

`at` is monotonic time in nanoseconds that counts suspend (CLOCK_BOOTTIME); it never decreases within a life of the
daemon. Wall time appears only in `DaemonStarted`, for people.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from hafsm.core.ipvs import TableEntry
from hafsm.core.settings import Address, NodeName, Override, RealVerb, Value, VirtualService


class EventBase(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Base of all events."""

    at: int
    """Nanoseconds, CLOCK_BOOTTIME."""


class DaemonStarted(EventBase, frozen=True):
    """First event of every life of the daemon."""

    generation: int
    """Larger than in every earlier life (heartbeat's `hg`)."""
    wall_ns: int
    boot_id: str
    same_boot: bool
    """The machine has not booted since the last life: the network is up, so deadtime replaces initdead."""
    version: str
    overrides: tuple[Override, ...] = ()
    """What operators decided in earlier lives, from the file that `RememberOverrides` writes."""
    fallbacks: tuple[str, ...] = ()
    """Keys of services whose fallbackcommand was last run with `start`, from the same file."""
    memory_trouble: str = ""
    """Why that file says nothing; empty: it was read, or this is the first life."""


class StopRequested(EventBase, frozen=True):
    """SIGTERM, SIGINT or an admin asked for a graceful stop."""

    by: str


class StandbyRequested(EventBase, frozen=True):
    """An operator wants this director to give sets of groups to its peer (heartbeat's `hb_standby`)."""

    hold: str
    """`all`, `local` or `foreign`, seen from this director."""
    by: str
    """Who asked: a user's name."""


class TakeoverRequested(EventBase, frozen=True):
    """An operator wants this director to get sets of groups from its peer (heartbeat's `hb_takeover`)."""

    hold: str
    """`all`, `local` or `foreign`, seen from this director."""
    by: str


class RealRequested(EventBase, frozen=True):
    """An operator wants real servers in or out, whatever their checks say (`hafsm real`)."""

    verb: RealVerb
    targets: tuple[tuple[str, str], ...]
    """(`VirtualService.key`, `RealServer.key`) of each."""
    by: str
    wall_ns: int
    weight: int = 0
    """For WEIGHT."""
    reason: str = ""
    """In the operator's words: one line without control characters, at most 200 characters."""


class MaintenanceEntry(Value, frozen=True):
    """A file in the maintenance folder, and whom it means."""

    name: str
    """Of the file."""
    addresses: tuple[str, ...]
    """Canonical; empty: the name does not resolve."""
    port: int = 0
    """0: every port."""


class MaintenanceListed(EventBase, frozen=True):
    """The maintenance folder holds other names than before, they resolve otherwise, or it cannot be read any more."""

    entries: tuple[MaintenanceEntry, ...] = ()
    """Sorted by name."""
    trouble: str = ""
    """Why the folder cannot be read; `entries` then says nothing."""


class DeadlinePassed(EventBase, frozen=True):
    """The deadline that the core named has come."""


class HeartbeatReceived(EventBase, frozen=True):
    """An authentic `status` message of another director; every copy on every link is an event."""

    link: int
    """Index into `Settings.links`."""
    node: NodeName
    generation: int
    sequence: int
    status: str
    """`init`, `up`, `active` or `dead`; anything else counts as neither dead nor active."""
    deadtime_ns: int = 0
    """How long the sender wants to be waited for (`dt`); 0: it did not say."""
    journal: int = 0
    """The sender's journal number (`hj`), 0 for heartbeat 3: joins two journals into one order."""
    behaviour: int = 0
    """The sender's version of what directors do together (`hv`), 0 for heartbeat 3."""


class MessageReceived(EventBase, frozen=True):
    """Any other authentic message addressed to this node or to all."""

    link: int
    node: NodeName
    kind: str
    """heartbeat's `t`."""
    generation: int
    sequence: int = 0
    """0 for kinds beginning with `NS_`, which stand outside the sequence."""
    hold: str = ""
    """`rsc_hold`: none, local, foreign or all, seen from the sender."""
    stable: bool | None = None
    """`isstable`."""
    full: bool = False
    """`rtype=full`: `hold` replaces what was known instead of adding to it."""
    info: str = ""
    lend: bool = False
    """`lend`, a field of our own: the giver serves until the taker does."""
    first: int = 0
    last: int = 0
    """Sequence numbers asked for again (`firstseq`, `lastseq`)."""
    count: int = 0
    """`num_ping`."""


class PingAnswered(EventBase, frozen=True):
    """A ping node's echo came back authentic."""

    ping: str
    """`PingNode.name`."""
    host: str


class CheckResult(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Outcome of one health check."""

    check: int
    """Index into the check plan that the core sent last."""
    ok: bool
    detail: str = ""
    duration_us: int = 0


class ChecksReported(EventBase, frozen=True):
    """A batch of a checker worker."""

    plan: int
    """Number of the plan the indexes belong to; results of an older plan are ignored."""
    results: tuple[CheckResult, ...]


class CheckerLost(EventBase, frozen=True):
    """A checker worker died or hung and was replaced."""

    worker: int
    detail: str


class Outcome(Enum):
    """How an action ended."""

    DONE = "done"
    FAILED = "failed"
    TIMED_OUT = "timed out"


class ActionFinished(EventBase, frozen=True):
    """An action with an effect has ended; every such action ends in exactly one of these or runs into its deadline."""

    action: int
    outcome: Outcome
    detail: str = ""
    """For a person. For a script's `status`: `running` or `stopped`."""
    errors: tuple[int, ...] = ()
    """ProgramIpvs: an errno for each operation, 0 for success; empty when all succeeded."""
    missing: tuple[Address, ...] = ()
    """RenewAddresses: those that were no longer there."""


class KernelObserved(EventBase, frozen=True):
    """Result of ObserveKernel: what is really there, among what the configuration names."""

    action: int
    addresses: tuple[Address, ...]
    matches: bool = False
    """The table equals the digest that ObserveKernel carried; `table` is then left out."""
    table: tuple[TableEntry, ...] = ()
    empty: tuple[tuple[str, str], ...] = ()
    """Those of `ObserveKernel.draining` that have no connection, active or inactive."""


class ServicesReloaded(EventBase, frozen=True):
    """ldirectord.cf changed and was understood as a whole."""

    services: tuple[VirtualService, ...]


class ReloadRefused(EventBase, frozen=True):
    """ldirectord.cf changed and was not understood; the last good one stays."""

    detail: str


class LinkChanged(EventBase, frozen=True):
    """Sending on a link began to fail or works again."""

    link: int
    working: bool
    detail: str = ""


class DatagramsRefused(EventBase, frozen=True):
    """Datagrams that were counted, not obeyed, since the last such event; at most one event a second."""

    counts: tuple[tuple[str, int], ...]
    """(reason, how many), sorted by reason."""


class JournalLagged(EventBase, frozen=True):
    """A commit took longer than `journal_patience`; the actions went out before it (law L3)."""

    number: int
    """The event whose actions did not wait."""
    waited_ns: int


class JournalGapped(EventBase, frozen=True):
    """Events could not be kept; the gap is on disk now, before the snapshot from which the journal can be folded on."""

    first: int
    last: int
    """Numbers of the first and the last event lost."""
    detail: str
    """Why."""


class JournalTroubled(EventBase, frozen=True):
    """The journal cannot be written, or can again (empty detail)."""

    detail: str


Event = (
    DaemonStarted
    | StopRequested
    | StandbyRequested
    | TakeoverRequested
    | RealRequested
    | MaintenanceListed
    | DeadlinePassed
    | HeartbeatReceived
    | MessageReceived
    | PingAnswered
    | ChecksReported
    | CheckerLost
    | ActionFinished
    | KernelObserved
    | ServicesReloaded
    | ReloadRefused
    | LinkChanged
    | DatagramsRefused
    | JournalLagged
    | JournalGapped
    | JournalTroubled
)
