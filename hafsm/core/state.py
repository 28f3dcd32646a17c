"""Everything the core remembers between two events.

`State` is the only mutable value, and only inside one `step`: `step` copies it first and never touches its argument.
All else is frozen and replaced. Times are nanoseconds of CLOCK_BOOTTIME; 0 means "not set".
"""

from __future__ import annotations

from enum import Enum

import msgspec

from hafsm.core.actions import FallbackVerb, ScriptVerb
from hafsm.core.events import MaintenanceEntry
from hafsm.core.ipvs import Operation, TableEntry
from hafsm.core.machines import GroupState, Handover, NodeState, Phase, RealState
from hafsm.core.settings import (
    Address,
    CheckSpec,
    MailPhase,
    NodeName,
    Override,
    RealVerb,
    ResourceKind,
    Settings,
    Value,
)

REPORTS_KEPT = 16
"""Numbers of own reports that are remembered (`State.reports`): more than are ever asked for again at once."""


class Holding(Enum):
    """Which sets of groups a director holds, seen from this one (heartbeat's `rsc_hold`).

    LOCAL: the groups whose preferred node is this one. FOREIGN: the peer's. An empty set can be held all the same.
    """

    NONE = "none"
    LOCAL = "local"
    FOREIGN = "foreign"
    ALL = "all"

    def plus(self, other: Holding) -> Holding:
        return _BY_BITS[_BITS[self] | _BITS[other]]

    def minus(self, other: Holding) -> Holding:
        return _BY_BITS[_BITS[self] & ~_BITS[other]]

    def both(self, other: Holding) -> Holding:
        return _BY_BITS[_BITS[self] & _BITS[other]]

    def covers(self, other: Holding) -> bool:
        return _BITS[self] & _BITS[other] == _BITS[other]

    def mirror(self) -> Holding:
        """The same sets, seen from the other director."""
        return _MIRROR[self]


_BITS = {Holding.NONE: 0, Holding.LOCAL: 1, Holding.FOREIGN: 2, Holding.ALL: 3}
_BY_BITS = tuple(_BITS)
_MIRROR = {
    Holding.NONE: Holding.NONE,
    Holding.LOCAL: Holding.FOREIGN,
    Holding.FOREIGN: Holding.LOCAL,
    Holding.ALL: Holding.ALL,
}


class Lending(Enum):
    """Whether the set that is handed over serves here until it serves there: make before break.

    Agreed between two hafsm directors in `me` and `other` (field `lend`); heartbeat 3 ignores the word, and everything
    is stopped here before it is started there.
    """

    NO = "no"
    AGREED = "agreed"
    HELD = "held"
    """The taker has every VIP and virtual service of the set: the giver lets go."""


class LinkView(Value, frozen=True):
    """One heartbeat link to the peer."""

    heard_at: int = 0
    up: bool = False


class Peer(Value, frozen=True):
    """The other director, as far as this one knows."""

    name: NodeName
    state: NodeState = NodeState.INIT
    generation: int = 0
    behaviour: int = 0
    """Its `membership.BEHAVIOUR`; 0: a heartbeat 3."""
    sequence: int = 0
    """Highest sequence number seen in this generation."""
    missing: tuple[int, ...] = ()
    """Sequence numbers below `sequence` that never came, asked for again."""
    ask_again_at: int = 0
    heard_at: int = 0
    """Last new status message; 0: never heard."""
    status: str = ""
    deadtime_ns: int = 0
    """How long it wants to be waited for."""
    links: tuple[LinkView, ...] = ()
    stable: bool = False
    starting: bool = False
    """Said `starting` and did not report itself stable since."""
    holds: Holding = Holding.NONE
    """In this node's terms."""
    report_sequence: int = 0
    """Sequence of the newest message about what it holds; older ones that come late are not obeyed."""
    healed: bool = False
    """Back after a partition, and not yet stable: who keeps what is open."""
    farewell: bool = False
    """It said goodbye in this generation; what it still sends does not bring it back."""
    nodes_answered: bool = False
    """Answered `reqnodes` in this generation."""
    pings: int = -1
    """Ping nodes it sees (ipfail); -1: it did not say."""


class PingView(Value, frozen=True):
    """A ping node or ping group."""

    name: str
    heard_at: int = 0
    alive: bool = False


class Part(Enum):
    """What of a group is being started or stopped."""

    ALL = "all"
    SCRIPTS = "scripts"
    """What serves, VIPs and virtual services, goes on (`Lending`)."""
    SERVING = "serving"
    """The rest, when the other director serves."""


class GroupView(Value, frozen=True):
    """A line of haresources on this node."""

    state: GroupState
    position: int
    """Index of the resource in progress; when stopping it goes down to -1."""
    action: int = 0
    """Id of the action in flight; 0: none."""
    verb: ScriptVerb | None = None
    """What that action asks of a script."""
    deadline: int = 0
    """Of the action in flight, or when to try again."""
    attempts: int = 0
    """Failed stops of the resource at `position`."""
    cautious: bool = False
    """Stopping what an earlier life may have left: ask for the status first."""
    part: Part = Part.ALL
    failure: str = ""
    """Why the last start failed."""
    retry_at: int = 0


class RealView(Value, frozen=True, omit_defaults=True):
    """A real server in one virtual service."""

    service: int
    """Index into `Settings.services`."""
    real: int
    """Index into that service's `reals`."""
    check: int
    """Index into `State.checks`; -1: not checked (`on`, `off`)."""
    state: RealState = RealState.REMOVED
    failures: int = 0
    """Failed checks in a row."""
    since: int = 0
    """When it got into `state`."""
    detail: str = "not checked yet"
    """What its last check said."""
    healthy: bool = False
    """Its last check passed; also true of one that is never checked (`on`)."""
    phase: MailPhase = MailPhase.RUNNING
    """STARTING or RELOADING until its first result since then: what is known of it is older, or nothing."""
    hold: RealVerb | None = None
    """DRAIN or QUIESCE: an operator keeps it out."""
    maintenance: bool = False
    """A file in the maintenance folder keeps it out."""
    weight: int = -1
    """An operator's; -1: the file's."""

    @property
    def held(self) -> bool:
        """Somebody keeps it out, whatever its checks say."""
        return self.hold is not None or self.maintenance

    @property
    def known(self) -> bool:
        """It was checked since it is configured as it is."""
        return self.phase is MailPhase.RUNNING


class Alert(Value, frozen=True, omit_defaults=True):
    """A line for a mail that is not sent yet."""

    service: str
    """`VirtualService.key`."""
    line: str
    """ldirectord's log line."""
    phase: MailPhase
    why: str = ""


class Command(Value, frozen=True):
    """A fallbackcommand that runs."""

    service: str
    action: int
    verb: FallbackVerb
    deadline: int


class IpvsView(Value, frozen=True):
    """The kernel's IPVS table as far as it is ours."""

    known: bool = False
    """Observed at least once in this life."""
    seen: tuple[TableEntry, ...] = ()
    pending: int = 0
    """Id of the ProgramIpvs in flight."""
    operations: tuple[Operation, ...] = ()
    """What that action carries."""
    deadline: int = 0
    retry_at: int = 0
    trouble: str = ""
    """What the kernel refused last; empty when all is as wanted."""
    digest: str = ""
    """Of `seen`; empty: not computed since it changed."""


class State(msgspec.Struct, kw_only=True, gc=False):
    """See the module."""

    settings: Settings
    number: int = 0
    """Events folded so far; the number of the last one."""
    now: int = 0
    due: int = 0
    """When the core wants a `DeadlinePassed` if nothing happens before; 0: never."""
    next_action: int = 1

    # this life
    started_at: int = 0
    same_boot: bool = False
    generation: int = 0
    sequence: int = 0
    """Last sequence number sent."""
    node: NodeState = NodeState.INIT
    phase: Phase = Phase.WAITING
    joined_at: int = 0
    """When `starting` was said."""
    nodes_asked_at: int = 0
    """First `reqnodes` of this join."""
    nodes_ask_again_at: int = 0
    beat_at: int = 0
    """When the next status message is due."""
    beats: int = 0

    # who holds what
    mine: Holding = Holding.NONE
    reported: Holding = Holding.NONE
    reported_stable: bool = False
    reports: tuple[int, ...] = ()
    """Numbers of the last reports sent, oldest first."""
    handover: Handover = Handover.IDLE
    handover_set: Holding = Holding.NONE
    handover_deadline: int = 0
    handover_after: int = 0
    """Number of the peer's that its answers come after; those of an earlier hand-over may come late."""
    lending: Lending = Lending.NO
    answer_at: int = 0
    """An offer was accepted but not answered: when it is at the latest; 0: none waits."""
    remind_at: int = 0
    """When a living peer that does not call itself stable is asked again."""
    failback_due: bool = False
    failback_again_at: int = 0
    failed_away_at: int = 0
    """When a group that would not start was last offered to the peer."""
    stop_reason: str = ""
    """Who asked this life to end; empty: nobody."""
    stop_deadline: int = 0
    """When it goes on with that whatever is still under way."""

    peer: Peer | None = None
    fence_action: int = 0
    fence_deadline: int = 0
    """Of the FenceNode in flight, or when to try again."""

    pings: tuple[PingView, ...] = ()
    giving_up: Holding = Holding.NONE
    """ipfail: what is given away at `give_up_at`."""
    give_up_at: int = 0
    gave_for_pings: bool = False
    """The own set went to the peer because it saw more ping nodes."""
    fetch_home_at: int = 0
    """When it is asked back."""
    count_again_at: int = 0
    """ipfail: when the number of ping nodes seen is sent next; 0: no need."""

    groups: tuple[GroupView, ...] = ()
    held: tuple[Address, ...] = ()
    """VIPs that were added and not asked to be removed, in that order."""
    renew_at: int = 0
    renew_action: int = 0
    leased_until: int = 0
    """When the kernel drops the VIPs if no renewal succeeds any more."""
    observe_at: int = 0
    observe_action: int = 0

    checks_plan: int = 0
    checks: tuple[CheckSpec, ...] = ()
    watchers: tuple[tuple[int, ...], ...] = ()
    """For each check, the indexes into `reals` that depend on it."""
    reals: tuple[RealView, ...] = ()
    """Those of each service together, in the order of the configuration."""
    serving: tuple[int, ...] = ()
    """For each service, how many real servers are up with a weight above 0."""
    table: tuple[TableEntry, ...] = ()
    """For each service, what the kernel should have while this node holds it."""
    ipvs: IpvsView = IpvsView()

    overrides: tuple[Override, ...] = ()
    """What operators said last, sorted by service and real server; those not configured now are kept."""
    counter: int = 0
    """The largest `Override.counter` seen."""
    share_next: int = 0
    """Index into `overrides` of the next one that the other director is told, at `share_at`."""
    share_at: int = 0
    """0: it was told all."""
    maintenance: tuple[MaintenanceEntry, ...] = ()
    maintenance_trouble: str = ""
    unsaved: bool = False
    """`overrides` or `fallbacks` differ from what was last given to `RememberOverrides`."""
    remember_action: int = 0
    remember_at: int = 0
    """Deadline of the RememberOverrides in flight, or when to try again."""
    memory_trouble: str = ""
    """Why a later life would not know what is in force; empty: it would."""

    commanded: tuple[int, ...] = ()
    """Services with a fallbackcommand."""
    fallbacks: tuple[str, ...] = ()
    """Keys of the services whose command was last run with `start`, sorted."""
    commands: tuple[Command, ...] = ()
    alerts: tuple[Alert, ...] = ()
    alerts_at: int = 0
    """When they are sent."""
    reminders: tuple[tuple[int, str], ...] = ()
    """(when, service key) of the next mail on servers that are still down, sorted."""
    errands_at: int = 0
    """The nearest deadline of all of these, from `share_at` on; 0: none."""

    refused: tuple[tuple[str, int], ...] = ()
    """Datagrams counted and not obeyed, by reason, sorted."""
    journal_trouble: str = ""
    reload_trouble: str = ""


def initial(settings: Settings) -> State:
    """The state before the first event."""
    others = [name for name in settings.nodes if name != settings.me]
    peer = None
    if others:
        peer = Peer(name=others[0], links=tuple(LinkView() for _ in settings.links), deadtime_ns=settings.deadtime_ns)
    return State(
        settings=settings,
        peer=peer,
        pings=tuple(PingView(name=ping.name) for ping in settings.pings),
    )


def group_set(state: State, index: int) -> Holding:
    """The set a group belongs to."""
    return Holding.LOCAL if state.settings.groups[index].preferred == state.settings.me else Holding.FOREIGN


def has_groups(state: State, holding: Holding) -> bool:
    """Whether any group is in these sets."""
    return holding is not Holding.NONE and any(
        holding.covers(group_set(state, index)) for index in range(len(state.settings.groups))
    )


def wants_group(state: State, index: int) -> bool:
    """Whether this node shall run the group now."""
    return state.mine.covers(group_set(state, index))


def groups_settled(state: State) -> bool:
    """No group is starting or stopping, and each is where it is wanted (or failed)."""
    for index, group in enumerate(state.groups):
        if group.state is GroupState.STARTED:
            if not wants_group(state, index):
                return False
        elif group.state is GroupState.LENT:
            if wants_group(state, index) or state.lending is not Lending.AGREED:
                return False
        elif group.state is GroupState.STOPPED:
            if wants_group(state, index):
                return False
        elif group.state is not GroupState.FAILED:
            return False
    return True


def is_stable(state: State) -> bool:
    """This node expects no more changes, and no hand-over is agreed."""
    return state.phase is Phase.STABLE and state.handover is Handover.IDLE and groups_settled(state)


def reports_stable(state: State) -> bool:
    """What `isstable` says: an offer alone, made or accepted, has changed nothing yet."""
    undecided = state.handover in (Handover.IDLE, Handover.ASKED, Handover.OFFERED)
    return state.phase is Phase.STABLE and undecided and groups_settled(state)


def both_stable(state: State) -> bool:
    """A hand-over may begin."""
    peer = state.peer
    return peer is not None and peer.state is not NodeState.DEAD and peer.stable and is_stable(state)


def warm(state: State, holding: Holding) -> bool:
    """The virtual services of these sets could serve here at once: every real server's check has ended once."""
    needed = any(
        holding.covers(group_set(state, index)) and any(r.kind is ResourceKind.IPVS for r in group.resources)
        for index, group in enumerate(state.settings.groups)
    )
    return not needed or all(view.known for view in state.reals if view.check >= 0)


def borrows(state: State, index: int) -> bool:
    """Whether the group is on its way to this node from a peer that serves on until this one does."""
    return (
        state.handover in (Handover.OFFERED, Handover.TAKING)
        and state.lending is not Lending.NO
        and state.handover_set.covers(group_set(state, index))
    )


def ipvs_unloaded(state: State) -> bool:
    """Nothing of ours that has to go is in the kernel's table any more, or the kernel refuses to let it go."""
    return not state.ipvs.pending and (bool(state.ipvs.retry_at) or not ipvs_left(state))


def ipvs_due(state: State) -> bool:
    """Whether this node shall hold the virtual services, even if the turn of no group's `ldirectord` has come yet."""
    return any(
        resource.kind is ResourceKind.IPVS and wants_group(state, index)
        for index, group in enumerate(state.settings.groups)
        for resource in group.resources
    )


def ipvs_left(state: State) -> bool:
    """Whether the kernel has virtual services of ours that do not stay when they are given up (`cleanstop=no` does)."""
    stays = {service.key for service in state.settings.services if not service.clean_stop}
    return any(entry.service.key not in stays for entry in state.ipvs.seen)


def ipvs_wanted(state: State) -> bool:
    """Whether the virtual services belong into this kernel's table: some group is at or past its `ldirectord`.

    A group that starts counts from the moment its turn has come; one that stops until its turn has come. One that is
    lent counts, and one that is borrowed from the first moment: the table is here before the VIP.
    """
    for place, (group, settings) in enumerate(zip(state.groups, state.settings.groups, strict=True)):
        for index, resource in enumerate(settings.resources):
            if resource.kind is not ResourceKind.IPVS:
                continue
            if group.state in (GroupState.STARTED, GroupState.LENT):
                return True
            if group.part is Part.SCRIPTS and group.state in (GroupState.STARTING, GroupState.STOPPING):
                return True
            if group.state is GroupState.STARTING and group.position >= index:
                return True
            if group.state is GroupState.STOPPING and group.position > index:
                return True
            if group.state in (GroupState.STOPPED, GroupState.STARTING) and borrows(state, place):
                return True
    return False
