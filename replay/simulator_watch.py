"""Looks at a simulated cluster after every event: feeds the invariants, keeps what they ask, stops the run."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from hafsm import codec
from hafsm.core.actions import Action
from hafsm.core.events import DaemonStarted, Event
from hafsm.core.machines import GroupState, Phase, RealState
from hafsm.core.settings import SECOND, Address, Override, ResourceKind
from hafsm.core.state import Holding, Lending, State, initial
from hafsm.core.turn import Decision
from replay.invariants import Broken, History, Step, Violation, judge, rank
from replay.invariants_cluster import CLUSTER, Owners, Scene
from replay.invariants_table import Place, differs
from replay.simulator_faults import Fault, Kind

if TYPE_CHECKING:
    from replay.simulator import Simulation
    from replay.simulator_machine import Machine

REFOLD_EVERY = 4000
REFOLD_EVENTS = 150
"""So many events in every so many are folded once more from their records, and the states compared."""
DRIFT_PARTS = 5000
"""Two clocks differ by less than one part in so many."""

_IMPAIRING = frozenset(
    {
        Kind.SCRIPT_FAILS,
        Kind.SCRIPT_HANGS,
        Kind.KERNEL_REFUSES,
        Kind.KERNEL_HANGS,
        Kind.FENCE_FAILS,
        Kind.FENCE_HANGS,
        Kind.FREEZE,
        Kind.PAUSE,
    }
)
"""Faults of a director that keep it from serving, whatever its core decides."""
_UNRELEASED = frozenset({Kind.SCRIPT_FAILS, Kind.SCRIPT_HANGS, Kind.KERNEL_REFUSES, Kind.KERNEL_HANGS})
"""Faults that keep a director from letting go."""


class Watch:
    """See the module."""

    def __init__(self, world: Simulation) -> None:
        self._world = world
        self.tense = False
        """Some VIP has no owner or two: look after every event."""
        self.seen: Counter[str] = Counter()
        """What happened at all, by name: a test asserts that a run reached it."""
        self.active: Counter[tuple[Kind, int]] = Counter()
        self._faults = 0
        """In force."""
        self._calm_since = 0
        self._settled = False
        self._histories = [History(), History()]
        self._gave_up = [False, False]
        """In its present life a script did not stop and was given up, so that the VIP could go."""
        self._samples: list[tuple[str, int] | None] = [None, None]

    def begin(self) -> None:
        """Once the site is known."""
        count = len(self._world.site.vips)
        self._held: list[frozenset[Address]] = [frozenset(), frozenset()]
        self._got_last: dict[str, str] = {}
        self._both_since = [-1] * count
        self._none_since = [0] * count
        self._healthy_since = [0, 0]
        self._sent_at = [0, 0]
        self._heard_sent = [0, 0]
        self._deaf_until = self._unreleased_until = self._resumed_at = self._lending_at = -(10**18)
        self._lent = False
        """A director lent its VIPs when they were looked at last."""
        self._agreed: dict[Place, Override] = {}
        """What operators said last when the cluster had settled last."""
        self._memory_lost = [False, False]
        self.tense = count > 0

    # ---- lives and steps

    def life_begins(self, machine: Machine) -> None:
        self._histories[machine.index] = History()
        self._gave_up[machine.index] = False
        self._samples[machine.index] = None
        self.disturbed(machine)

    def life_ends(self, machine: Machine) -> None:
        self._samples[machine.index] = None
        self.disturbed(machine)

    def disturbed(self, machine: Machine) -> None:
        """A daemon ended, began or was frozen. One that ends before it could settle what a partition or a pause has
        left, or while it lends, cannot let go: its lease has to end."""
        now = self._world.now
        self._healthy_since[machine.index] = now
        if self._deaf(0) or self._deaf(1):
            self._deaf_until = now
        unsettled = now - max(self._deaf_until, self._resumed_at) <= self._world.bounds.heal_ns
        if unsettled or machine.state.lending is not Lending.NO:
            lease = self._world.site.settings[0].lease_ns
            self._unreleased_until = max(self._unreleased_until, now + lease)

    def stepped(self, machine: Machine, before: State, event: Event, decision: Decision) -> None:
        history = self._histories[machine.index]
        after = decision.state
        if type(event) is DaemonStarted:
            history.complete = True
        history.take(event, before, after, decision.actions)
        violation = judge(Step(before, event, after, decision.actions, decision.reason, history))
        if violation is not None:
            raise Broken(violation)
        if decision.reason:
            self._note(before, after)
            if "given up after" in decision.reason:
                self._gave_up[machine.index] = True
        if self._world.keep and (after.number % REFOLD_EVERY == 0 or self._samples[machine.index] is not None):
            self._sample(machine, after)

    def performed(self, machine: Machine, action: Action) -> None:
        self.seen[type(action).__name__] += 1

    def _note(self, before: State, after: State) -> None:
        if before.phase is not after.phase:
            self.seen[f"phase {after.phase.value}"] += 1
        if before.handover is not after.handover:
            self.seen[f"hand-over {after.handover.value}"] += 1
        if before.mine is not after.mine:
            self.seen[f"holds {after.mine.value}"] += 1
        if before.peer is not None and after.peer is not None and before.peer.state is not after.peer.state:
            self.seen[f"peer {after.peer.state.value}"] += 1

    def _sample(self, machine: Machine, after: State) -> None:
        events = machine.lives[-1].events
        sample = self._samples[machine.index]
        if sample is None:
            self._samples[machine.index] = (codec.encode_state(after), len(events))
        elif len(events) - sample[1] >= REFOLD_EVENTS:
            self._samples[machine.index] = None
            self._refold(machine, sample[0], events[sample[1] :], after)

    def _refold(self, machine: Machine, snapshot: str, events: list[Event], after: State) -> None:
        """L8: the recorded events, folded again from the recorded state, give the same state."""
        state = codec.decode_state(snapshot)
        for event in events:
            state = self._world.step(state, codec.decode_event(*codec.encode_event(event), event.at)).state
        if codec.encode_state(state) != codec.encode_state(after):
            sentence = f"{len(events)} events folded again give another state"
            raise Broken(Violation("the_same_past_decides_the_same", machine.name, after.number, sentence))
        self.seen["refolded"] += 1

    # ---- faults and the network, as they really are

    def strikes(self, fault: Fault) -> None:
        self.active[fault.kind, fault.node] += 1
        self._faults += 1
        self._settled = False
        self.seen[fault.kind.value] += 1
        self._impair(fault)

    def passes(self, fault: Fault) -> None:
        self.active[fault.kind, fault.node] -= 1
        self._faults -= 1
        self._calm_since = self._world.now
        self._impair(fault)

    def _impair(self, fault: Fault) -> None:
        if fault.kind in _IMPAIRING:
            self._healthy_since[fault.node] = max(self._healthy_since[fault.node], self._world.now)
        if fault.kind in _UNRELEASED:
            self._unreleased_until = max(self._unreleased_until, self._world.now)

    def hangs(self, machine: Machine, lasts_ns: int) -> None:
        """A script of this director will hang for so long, whatever becomes of the fault."""
        until = self._world.now + lasts_ns
        self._unreleased_until = max(self._unreleased_until, until)
        self._healthy_since[machine.index] = max(self._healthy_since[machine.index], until)

    def resumed(self, machine: Machine) -> None:
        self._resumed_at = self._world.now
        self.disturbed(machine)

    def sent(self, sender: int) -> None:
        self._sent_at[sender] = self._world.now

    def heard(self, receiver: int, sent_at: int) -> None:
        if self._world.network.flickers or self._deaf(receiver):
            self._deaf_until = self._world.now
        if sent_at > self._heard_sent[receiver]:
            self._heard_sent[receiver] = sent_at

    def _deaf(self, receiver: int) -> bool:
        """The network has kept the other's heartbeats from this director for deadtime."""
        settings = self._world.site.settings[0]
        now = self._world.now
        heard = self._heard_sent[receiver]
        patience = settings.deadtime_ns - settings.deadtime_ns // DRIFT_PARTS
        return now - heard >= patience and self._missed(receiver)

    def _missed(self, receiver: int) -> bool:
        """The network has lost the last heartbeat to this director, or the last but one."""
        heard, sent = self._heard_sent[receiver], self._sent_at[1 - receiver]
        late = self._world.now - sent > SECOND or sent - heard > self._world.site.settings[0].keepalive_ns
        return sent > heard and late

    def truth_changed(self) -> None:
        self._settled = False

    # ---- who answers for what

    def owns(self, index: int, addresses: tuple[Address, ...]) -> None:
        """Called with every change of what a kernel answers for."""
        now = self._world.now
        if self.tense:
            self.look()
        for address in addresses:
            if address not in self._held[index]:
                self._got_last[address.ip] = self._world.machines[index].name
        self._held[index] = frozenset(addresses)
        tense = False
        for number, vip in enumerate(self._world.site.vips):
            owners = (vip in self._held[0]) + (vip in self._held[1])
            if owners != 2:
                self._both_since[number] = -1
            elif self._both_since[number] < 0:
                self._both_since[number] = now
                self.seen["two owners"] += 1
            if owners:
                self._none_since[number] = -1
            elif self._none_since[number] < 0:
                self._none_since[number] = now
                self.seen["no owner"] += 1
            tense = tense or owners != 1
        self.tense = tense
        self._lent = self._lent and tense
        if self._settled:
            raise Broken(Violation("calm_stays_calm", "", 0, f"{self._owners()} without a fault or a command"))

    def got_last(self, ip: str) -> str:
        """The director whose kernel was the last to get this VIP; empty: none ever had it."""
        return self._got_last.get(ip, "")

    def look(self) -> None:
        """Judge the VIPs that have no owner or two."""
        scene = self._scene()
        for number, vip in enumerate(self._world.site.vips):
            owners = Owners(str(vip), self._both_since[number], self._none_since[number])
            for invariant in CLUSTER:
                sentence = invariant(scene, owners)
                if sentence:
                    raise Broken(Violation(invariant.__name__, "", 0, f"{sentence}, at {scene.now / SECOND:.3f} s"))

    def _scene(self) -> Scene:
        world = self._world
        settling = world.now - self._deaf_until <= world.bounds.heal_ns
        for index in (0, 1):
            # Both must hear each other before they can settle who keeps what.
            if world.network.flickers or self._deaf(index) or (settling and self._missed(index)):
                self._deaf_until = world.now
        for kind in _UNRELEASED:
            if self.active[kind, 0] or self.active[kind, 1]:
                self._unreleased_until = max(self._unreleased_until, world.now)
        # What was lent at the last look was lent until the step that brought this one.
        lending = any(machine.running and machine.state.lending is not Lending.NO for machine in world.machines)
        if lending or self._lent:
            self._lending_at = world.now
        self._lent = lending
        return Scene(
            now=world.now,
            bounds=world.bounds,
            deaf_until=self._deaf_until,
            resumed_at=self._resumed_at,
            unreleased_until=self._unreleased_until,
            lending_at=self._lending_at,
            healthy_since=max((h for h in map(self._healthy, world.machines) if h >= 0), key=lambda h: -h, default=-1),
        )

    def _healthy(self, machine: Machine) -> int:
        """Since when this director could have served; -1: it cannot."""
        if not machine.awake or machine.leaving:
            return -1
        if any(self.active[kind, machine.index] for kind in _IMPAIRING):
            return -1
        return self._healthy_since[machine.index]

    def _owners(self) -> str:
        names = [settings.me for settings in self._world.site.settings]
        return "; ".join(
            f"{vip}: {' and '.join(n for n, h in zip(names, self._held, strict=True) if vip in h) or 'nobody'}"
            for vip in self._world.site.vips
        )

    # ---- liveness

    def must_be_settled(self) -> None:
        """At a checkpoint of the plan: everything where it belongs, on both directors."""
        if self._faults:
            return
        sentence = self.unsettled()
        if sentence:
            calm = (self._world.now - self._calm_since) / SECOND
            raise Broken(Violation("it_settles", "", 0, f"{sentence}, {calm:.0f} s after the last fault"))
        sentence = self._disagreed()
        if sentence:
            raise Broken(Violation("both_know_what_operators_said", "", 0, sentence))
        self._settled = True
        self.seen["settled"] += 1

    def unsettled(self) -> str:
        """What is not where it belongs; empty: nothing."""
        world = self._world
        one, two = (machine.state for machine in world.machines)
        for machine in world.machines:
            sentence = self._unsettled(machine)
            if sentence:
                return f"{machine.name} {sentence}"
        if one.mine.both(two.mine.mirror()) is not Holding.NONE or one.mine.plus(two.mine.mirror()) is not Holding.ALL:
            return f"{one.settings.me} holds {one.mine.value}, {two.settings.me} holds {two.mine.value} resources"
        for vip in world.site.vips:
            if (vip in self._held[0]) + (vip in self._held[1]) != 1:
                return self._owners()
        return ""

    def _unsettled(self, machine: Machine) -> str:
        state = machine.state
        if not machine.awake:
            return "does not run"
        if state.phase is not Phase.STABLE or state.peer is None or not state.peer.stable or not state.reported_stable:
            return f"is in phase {state.phase.value}, or its peer is not known to be stable"
        started: set[str] = set()
        serves = False
        for view, group in zip(state.groups, state.settings.groups, strict=True):
            if view.state not in (GroupState.STARTED, GroupState.STOPPED):
                return f"has group {group.key} {view.state.value}"
            if view.state is GroupState.STARTED:
                started |= {r.script for r in group.resources if r.kind is ResourceKind.SCRIPT}
                serves = serves or any(r.kind is ResourceKind.IPVS for r in group.resources)
        if started != machine.scripts and not (self._gave_up[machine.index] and started <= machine.scripts):
            return f"runs {sorted(machine.scripts)} instead of {sorted(started)}"
        return self._wrong_table(machine, serves) or self._wrong_fallbacks(machine, serves)

    def _wrong_table(self, machine: Machine, serves: bool) -> str:
        """What the kernel has is what the truth asks for: who lives, who is kept out, what stays in the kernel."""
        state = machine.state
        plain = self._histories[machine.index].plain
        files = {entry.name for entry in machine.maintenance}
        for (service, real), health in plain.health.items():
            dead = bool(self._world.dead_reals[health.real.address])
            if dead is health.healthy or (health.state is RealState.UP) is (dead or health.held):
                return f"has real server {real} of {service} {health.state.value}"
            if health.maintenance is files.isdisjoint({health.real.address, real}):
                return f"has real server {real} of {service} {'' if health.maintenance else 'not '}in maintenance"
        table = machine.kernel.read_table()
        wanted = plain.table(state.settings.services)
        if not serves:
            present = {entry.service.key for entry in table}
            stays = {service.key for service in state.settings.services if not service.clean_stop}
            wanted = {key: routes for key, routes in wanted.items() if key in present & stays}
        return differs(wanted, table)

    def _wrong_fallbacks(self, machine: Machine, serves: bool) -> str:
        state = machine.state
        plain = self._histories[machine.index].plain
        wanted = {s.key for s in state.settings.services if s.fallback_command and serves and not plain.serves(s)}
        if wanted == set(state.fallbacks) or state.commands:
            return ""
        return f"has fallbackcommands in force for {sorted(state.fallbacks)} instead of {sorted(wanted)}"

    def _disagreed(self) -> str:
        """Both directors know what operators said last, and what both knew once is never forgotten unless the files of
        both were lost."""
        one, two = (_words(machine.state.overrides) for machine in self._world.machines)
        nodes = self._world.site.settings[0].nodes
        for place in sorted(one.keys() | two.keys()):
            here, there = one.get(place), two.get(place)
            if here is None or there is None or rank(here, nodes) != rank(there, nodes):
                return f"real server {place[1]} of {place[0]} is {_said(here)} here, {_said(there)} there"
        for place, word in self._agreed.items():
            now = one.get(place)
            if now is None or rank(now, nodes) < rank(word, nodes):
                return f"real server {place[1]} of {place[0]} was {word} and is {_said(now)}"
        self._agreed = one
        self._memory_lost = [False, False]
        self.seen["agreed on real servers"] += bool(one)
        return ""

    def memory_lost(self, machine: Machine) -> None:
        """From now on the next life of this director knows nothing of operators unless the other one tells it."""
        self._memory_lost[machine.index] = True
        if all(self._memory_lost):
            self._agreed = {}

    def end(self) -> None:
        """A last look: the end of both journals, folded again."""
        for machine in self._world.machines:
            if self._world.keep and machine.running and len(machine.lives[-1].events) <= REFOLD_EVERY:
                life = machine.lives[-1]
                state = initial(life.settings)
                state.number, state.next_action = life.number, life.next_action
                self._refold(machine, codec.encode_state(state), life.events, machine.state)


def _words(overrides: tuple[Override, ...]) -> dict[Place, Override]:
    return {(word.service, word.real): word for word in overrides}


def _said(word: Override | None) -> str:
    return str(word) if word is not None else "never spoken of"
