"""Two directors' cores in one process: virtual time, a network that can be cut, machines that can die and freeze.

Everything outside the core is played by the smallest thing that keeps the contract: kernels are a dict of addresses and
an IPVS table, scripts are a set of running names. Nothing here is random.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from msgspec.structs import replace

from hafsm.core import actions as act
from hafsm.core import events as ev
from hafsm.core.ipvs import TableEntry, apply, digest
from hafsm.core.machines import GroupState, Phase
from hafsm.core.settings import (
    MILLISECOND,
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
    SyncDaemon,
    VirtualService,
)
from hafsm.core.state import Holding, State, initial
from hafsm.core.step import step

A = NodeName("server40")
B = NodeName("server19")
VIP = Address(ip="192.168.2.232", prefix=24, interface="eth0", label="eth0:0")
DELAY = MILLISECOND


def check(address: str) -> CheckSpec:
    return CheckSpec(
        kind=CheckKind.HTTP, address=address, port=80, interval_ns=SECOND, timeout_ns=3 * SECOND, request="/index.html"
    )


def service(**changes: object) -> VirtualService:
    reals = tuple(
        RealServer(address=a, port=80, forwarding=Forwarding.GATE, check=check(a))
        for a in ("192.168.2.31", "192.168.2.41")
    )
    whole = VirtualService(
        protocol="tcp",
        address="192.168.2.232",
        port=80,
        scheduler="rr",
        reals=reals,
        fallback=RealServer(address="127.0.0.1", port=80, forwarding=Forwarding.GATE),
    )
    return replace(whole, **changes)


def group(preferred: NodeName, address: Address = VIP) -> Group:
    text = f"IPaddr::{address.ip}/{address.prefix}/{address.label or address.interface}"
    return Group(
        key=text,
        preferred=preferred,
        resources=(
            Resource(kind=ResourceKind.ADDRESS, text=text, address=address),
            Resource(kind=ResourceKind.SCRIPT, text="httpd", script="httpd"),
            Resource(kind=ResourceKind.IPVS, text="ldirectord"),
        ),
    )


def settings(me: NodeName, **changes: object) -> Settings:
    whole = Settings(
        me=me,
        nodes=(A, B),
        links=("eth0",),
        keepalive_ns=2 * SECOND,
        deadtime_ns=30 * SECOND,
        warntime_ns=10 * SECOND,
        initdead_ns=120 * SECOND,
        deadping_ns=30 * SECOND,
        auto_failback=AutoFailback.ON,
        pings=(PingNode(name="192.168.2.251", hosts=("192.168.2.251",)),),
        ipfail=True,
        groups=(group(A),),
        services=(service(),),
        lease_ns=30 * SECOND,
    )
    return replace(whole, **changes)


class Machine:
    """A director's machine: what survives the daemon (generation, kernel) and the daemon's core."""

    first_checks = True
    """False: checks end only when a test says so."""

    def __init__(self, pair: Pair, config: Settings) -> None:
        self.pair = pair
        self.config = config
        self.state: State = initial(config)
        self.running = False
        self.generation = 0
        self.addresses: dict[Address, int] = {}
        self.table: tuple[TableEntry, ...] = ()
        self.scripts: set[str] = set()
        self.sync: SyncDaemon | None = None
        self.mails: list[str] = []
        self.letters: list[act.SendMail] = []
        self.commands: list[str] = []
        self.remembered = act.RememberOverrides(id=0, overrides=(), fallbacks=())
        self.busy: set[tuple[str, str]] = set()
        """(service, real server) on which there are connections."""
        self.sent: dict[int, act.SendMessage] = {}
        self.reasons: list[str] = []
        self.log: list[tuple[ev.Event, tuple[act.Action, ...]]] = []
        self.sees_gateway = True
        self.frozen = False
        self.refuse: Callable[[act.Action], bool] = lambda action: False
        self.silent: Callable[[act.Action], bool] = lambda action: False
        self.exits: list[act.Exit] = []

    @property
    def name(self) -> NodeName:
        return self.config.me

    def vips(self) -> list[str]:
        now = self.pair.now
        self.addresses = {a: t for a, t in self.addresses.items() if t > now}
        return [a.ip for a in self.addresses]

    def start(self, same_boot: bool = False) -> None:
        self.generation += 1
        self.running = True
        self.state = initial(self.config)
        self.fold(
            ev.DaemonStarted(
                at=self.pair.now,
                generation=self.generation,
                wall_ns=self.pair.now,
                boot_id="boot",
                same_boot=same_boot,
                version="0",
                overrides=self.remembered.overrides,
                fallbacks=self.remembered.fallbacks,
            )
        )

    def power_cut(self) -> None:
        """Everything volatile is gone."""
        self.running = False
        self.addresses.clear()
        self.table = ()
        self.sync = None
        self.scripts.clear()

    def kill(self) -> None:
        """The daemon dies; the kernel keeps what it has until the lease ends."""
        self.running = False

    def fold(self, event: ev.Event) -> None:
        if not self.running or self.frozen:
            return
        before = self.state
        decision = step(before, event)
        assert before.number == decision.state.number - 1, "the argument was touched"
        self.state = decision.state
        self.log.append((event, decision.actions))
        if decision.reason:
            self.reasons.append(decision.reason)
        for action in decision.actions:
            self.perform(action)
        due = self.state.due
        if due:
            self.pair.at(max(due, self.pair.now), lambda: self.fold_deadline(due))

    def fold_deadline(self, due: int) -> None:
        if self.state.due == due:
            self.fold(ev.DeadlinePassed(at=self.pair.now))

    def finish(self, action: act.Action, outcome: ev.Outcome = ev.Outcome.DONE, **fields: object) -> None:
        if self.silent(action):
            return
        if self.refuse(action):
            outcome, fields = ev.Outcome.FAILED, {"detail": "refused by the test"}
        life = self.generation
        event = ev.ActionFinished(at=0, action=action.id, outcome=outcome, **fields)
        self.pair.after(DELAY, lambda: self.generation == life and self.fold(replace(event, at=self.pair.now)))

    def perform(self, action: act.Action) -> None:
        now = self.pair.now
        match action:
            case act.SendMessage():
                if action.sequence:
                    self.sent[action.sequence] = action
                self.pair.carry(self, action)
            case act.ResendMessages():
                for sequence in range(action.first, action.last + 1):
                    self.pair.carry(self, self.sent[sequence])
            case act.SendPings():
                if self.sees_gateway:
                    for ping in self.config.pings:
                        self.pair.after(
                            DELAY,
                            lambda p=ping: self.fold(ev.PingAnswered(at=self.pair.now, ping=p.name, host=p.hosts[0])),
                        )
            case act.AddAddress():
                if not self.refuse(action):
                    self.addresses[action.address] = now + action.lease_s * SECOND
                self.finish(action)
            case act.RemoveAddress():
                if not self.refuse(action):
                    self.addresses.pop(action.address, None)
                self.finish(action)
            case act.RenewAddresses():
                self.vips()
                missing = tuple(a for a in action.addresses if a not in self.addresses)
                for address in action.addresses:
                    if address in self.addresses:
                        self.addresses[address] = now + action.lease_s * SECOND
                self.finish(action, missing=missing)
            case act.ProgramIpvs():
                if not self.refuse(action):
                    self.table = apply(action.operations, self.table)
                self.finish(action)
            case act.ObserveKernel():
                self.vips()
                matches = action.expected == digest(self.table)
                places = {(entry.service.key, d.key) for entry in self.table for d in entry.destinations}
                event = ev.KernelObserved(
                    at=now,
                    action=action.id,
                    addresses=tuple(a for a in (VIP, *self.addresses) if a in self.addresses)[:1]
                    if len(self.addresses) < 2
                    else tuple(self.addresses),
                    matches=matches,
                    table=() if matches else self.table,
                    empty=tuple(place for place in action.draining if place in places and place not in self.busy),
                )
                if not self.silent(action):
                    life = self.generation
                    self.pair.after(
                        DELAY, lambda: self.generation == life and self.fold(replace(event, at=self.pair.now))
                    )
            case act.AnnounceAddress():
                self.finish(action)
            case act.SetSyncDaemon():
                if not self.refuse(action):
                    self.sync = action.daemon
                self.finish(action)
            case act.SendMail():
                self.mails.append(action.subject)
                self.letters.append(action)
                self.finish(action)
            case act.RunFallbackCommand():
                self.commands.append(f"{action.command} {action.verb.value} {action.virtual} {action.protocol}")
                self.finish(action)
            case act.RememberOverrides():
                if not self.refuse(action):
                    self.remembered = action
                self.finish(action)
            case act.RunScript():
                self.run_script(action)
            case act.FenceNode():
                self.pair.other(self).power_cut()
                self.finish(action)
            case act.SetChecks():
                self.pair.after(DELAY, lambda: self.report_first(action))
            case act.Exit():
                self.exits.append(action)
                self.running = False
                if action.restart:
                    self.pair.after(10 * DELAY, lambda: self.start(same_boot=True))

    def run_script(self, action: act.RunScript) -> None:
        if action.verb is act.ScriptVerb.STATUS:
            self.finish(action, detail="running" if action.script in self.scripts else "stopped")
            return
        if not self.refuse(action):
            if action.verb is act.ScriptVerb.START:
                self.scripts.add(action.script)
            else:
                self.scripts.discard(action.script)
        self.finish(action)

    def report_first(self, plan: act.SetChecks) -> None:
        """Every check has ended once, and failed, as at a site whose real servers are not on yet."""
        if self.first_checks and self.running and self.state.checks_plan == plan.plan and plan.checks:
            results = tuple(ev.CheckResult(check=i, ok=False, detail="refused") for i in range(len(plan.checks)))
            self.fold(ev.ChecksReported(at=self.pair.now, plan=plan.plan, results=results))

    def report_checks(self, **outcomes: bool) -> None:
        """`server.report_checks(a31=True, a41=False)`: by the last octet of the real server's address."""
        results = []
        for index, spec in enumerate(self.state.checks):
            key = "a" + spec.address.rsplit(".", 1)[1]
            if key in outcomes:
                ok = outcomes[key]
                results.append(
                    ev.CheckResult(check=index, ok=ok, detail="" if ok else "connection refused", duration_us=400)
                )
        self.fold(ev.ChecksReported(at=self.pair.now, plan=self.state.checks_plan, results=tuple(results)))

    def routes(self) -> list[str]:
        """`192.168.2.31:80 1` for each destination of the first service in the kernel's table."""
        return [f"{d.key} {d.weight}" for entry in self.table[:1] for d in entry.destinations]

    def thaw(self) -> None:
        self.frozen = False
        self.fold(ev.DeadlinePassed(at=self.pair.now))


class Pair:
    """The cluster and its clock."""

    def __init__(self, **changes: object) -> None:
        self.now = 1_000 * SECOND
        self._queue: list[tuple[int, int, Callable[[], object]]] = []
        self._count = 0
        self.cut: set[tuple[NodeName, NodeName]] = set()
        self.lose: Callable[[act.SendMessage], bool] = lambda message: False
        self.lend = True
        """False: hand-overs between these two are heartbeat 3's, everything stops here before it starts there."""
        self.a = Machine(self, settings(A, **changes))
        self.b = Machine(self, settings(B, **changes))

    def other(self, machine: Machine) -> Machine:
        return self.b if machine is self.a else self.a

    def at(self, when: int, what: Callable[[], object]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (when, self._count, what))

    def after(self, delay: int, what: Callable[[], object]) -> None:
        self.at(self.now + delay, what)

    def carry(self, sender: Machine, message: act.SendMessage) -> None:
        receiver = self.other(sender)
        if (sender.name, receiver.name) in self.cut or self.lose(message):
            return
        self.after(DELAY, lambda: receiver.fold(received(sender.name, message, self.now, lend=self.lend)))

    def partition(self) -> None:
        self.cut = {(A, B), (B, A)}

    def heal(self) -> None:
        self.cut = set()

    def run(self, duration: int) -> None:
        end = self.now + duration
        while self._queue and self._queue[0][0] <= end:
            when, _, what = heapq.heappop(self._queue)
            self.now = max(self.now, when)
            what()
        self.now = end

    def until(self, condition: Callable[[], bool], limit: int = 600 * SECOND) -> int:
        """Run until the condition holds; returns how long that took."""
        began = self.now
        while not condition():
            assert self._queue and self.now - began <= limit, "never came true: " + "\n".join(
                [f"A: {r}" for r in self.a.reasons[-8:]] + [f"B: {r}" for r in self.b.reasons[-8:]]
            )
            when, _, what = heapq.heappop(self._queue)
            self.now = max(self.now, when)
            what()
        return self.now - began

    def start(self) -> Pair:
        """Both directors start together and settle with the VIP where it belongs."""
        self.a.start()
        self.b.start()
        self.until(self.settled)
        return self

    def settled(self) -> bool:
        """Both stable, both know it, every set held exactly once."""
        for machine in (self.a, self.b):
            state = machine.state
            if not machine.running or state.phase is not Phase.STABLE or not state.reported_stable:
                return False
            if state.peer is None or not state.peer.stable:
                return False
        a, b = self.a.state, self.b.state
        return (
            a.mine.both(b.mine.mirror()) is Holding.NONE
            and a.mine.plus(b.mine.mirror()) is Holding.ALL
            and all(g.state in (GroupState.STARTED, GroupState.STOPPED) for g in (*a.groups, *b.groups))
        )

    def holders(self) -> list[NodeName]:
        return [m.name for m in (self.a, self.b) if m.vips()]


def received(sender: NodeName, message: act.SendMessage, now: int, *, lend: bool = True) -> ev.Event:
    """What the shell makes of a message on the other side; without `lend` as if a heartbeat 3 had sent it."""
    fields = dict(message.fields)
    if message.kind == "status":
        return ev.HeartbeatReceived(
            at=now,
            link=0,
            node=sender,
            generation=message.generation,
            sequence=message.sequence,
            status=fields["st"],
            deadtime_ns=int(fields["dt"], 16) * MILLISECOND,
            journal=int(fields["hj"], 16) if lend else 0,
            behaviour=int(fields["hv"], 16) if lend else 0,
        )
    return ev.MessageReceived(
        at=now,
        link=0,
        node=sender,
        kind=message.kind,
        generation=message.generation,
        sequence=message.sequence,
        hold=fields.get("rsc_hold", ""),
        stable=None if "isstable" not in fields else fields["isstable"] == "1",
        full=fields.get("rtype") == "full",
        info=fields.get("info", ""),
        lend=lend and fields.get("lend") == "1",
        first=int(fields.get("firstseq", "0")),
        last=int(fields.get("lastseq", "0")),
        count=int(fields.get("num_ping", "0")),
    )
