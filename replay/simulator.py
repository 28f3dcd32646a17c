"""A whole cluster in one process, from one integer: two directors, their network, what goes wrong, what must hold.

Discrete events: a heap of moments, no clock but its own. The same seed and configuration give the same run on every
machine, to the last byte of both journals.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from hafsm.core import events as ev
from hafsm.core.ipvs import difference
from hafsm.core.settings import MILLISECOND, SECOND, Address, RealVerb, VirtualService
from hafsm.core.state import State
from hafsm.core.step import step as core_step
from hafsm.core.turn import Decision
from replay.invariants import Broken, Violation
from replay.simulator_faults import Fault, Kind, Plan
from replay.simulator_machine import Machine
from replay.simulator_network import Network, Packet
from replay.simulator_site import Bounds, Site, bounds_of
from replay.simulator_watch import Watch

REBOOT_NS = 40 * SECOND
"""From a reset by the fencing device to the daemon's start."""
OPERATOR_RESTARTS_NS = 5 * SECOND
"""Somebody starts a daemon again whose stop took longer than it was to be away."""
FLAP_NS = 3 * SECOND

Step = Callable[[State, ev.Event], Decision]
Recorder = Callable[[Machine, ev.Event, Decision], None]


class Simulation:
    """One run. `run` returns what was violated first, or None."""

    def __init__(
        self,
        site: Site,
        plan: Plan,
        seed: int,
        *,
        step: Step = core_step,
        bounds: Bounds | None = None,
        drift: bool = True,
        recorder: Recorder | None = None,
        keep: bool = True,
    ) -> None:
        """
        Args:
            step: the core; another one in tests that plant a bug.
            drift: False: both clocks run alike and scripts take 50 ms, for scripted tests.
            recorder: told of every event and its decision, as the journal is.
            keep: False: what the recorder was told is not kept here, so nothing is folded again.
        """
        self.site = site
        self.seed = seed
        self.plan = plan
        self.step = step
        self.drift = drift
        self.recorder = recorder
        self.keep = keep
        self.bounds = bounds or bounds_of(site.settings[0])
        self.now = 0
        self.events = 0
        self._queue: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0
        self.network = Network(seed, len(site.settings[0].links))
        self.dead_reals: Counter[str] = Counter()
        self.reals_version = 0
        self.dead_pings: Counter[str] = Counter()
        self.addresses = sorted(
            {real.address for service in site.settings[0].services for real in service.reals if real.check is not None}
        )
        self.watch = Watch(self)
        self.machines = (Machine(self, 0, site.settings[0]), Machine(self, 1, site.settings[1]))
        self.watch.begin()

    # ---- time

    def at(self, when: int, call: Callable[..., None], *arguments: Any) -> None:
        """Call at a moment of true time; among equals, first come, first served."""
        self._count += 1
        heapq.heappush(self._queue, (when, self._count, call, arguments))

    def after(self, delay_ns: int, call: Callable[..., None], *arguments: Any) -> None:
        self.at(self.now + delay_ns, call, *arguments)

    def advance(self, until: int) -> None:
        """Run to this moment. Raises `Broken` at the first violation."""
        queue = self._queue
        watch = self.watch
        while queue and queue[0][0] <= until:
            self.now, _, call, arguments = heapq.heappop(queue)
            call(*arguments)
            if watch.tense:
                watch.look()
        self.now = until

    def run(self) -> Violation | None:
        """Boot both directors, carry the plan out."""
        for machine in self.machines:
            self.at(machine.rng.randrange(5 * SECOND) if self.drift else 0, machine.boot)
        for fault in self.plan.faults:
            self.at(fault.at, self.begin, fault)
        for moment in self.plan.checkpoints:
            self.at(moment, self.watch.must_be_settled)
        try:
            self.advance(self.plan.ends)
            self.watch.end()
        except Broken as broken:
            return broken.violation
        return None

    # ---- what the machines tell

    def owns(self, machine: Machine, addresses: tuple[Address, ...]) -> None:
        """What a machine's kernel answers for has changed."""
        self.watch.owns(machine.index, () if machine.paused or not machine.powered else addresses)

    def network_sent(self, machine: Machine) -> None:
        self.watch.sent(machine.index)

    def network_heard(self, machine: Machine, packet: Packet) -> None:
        self.watch.heard(machine.index, packet.sent_at)

    def reset(self, machine: Machine) -> None:
        """By the fencing device."""
        machine.power_cut()
        self.after(REBOOT_NS, machine.boot)

    def left(self, machine: Machine) -> None:
        """A daemon ended as it was asked to."""
        if not self.watch.active[Kind.STOP, machine.index]:
            self.after(OPERATOR_RESTARTS_NS, machine.start)

    # ---- faults

    def begin(self, fault: Fault) -> None:
        """A fault strikes; its end is arranged."""
        machine = self.machines[fault.node]
        self.watch.strikes(fault)
        ending = self._strike(fault, machine)
        self.after(fault.lasts, self._ends, fault, ending)

    def _ends(self, fault: Fault, ending: Callable[[], None]) -> None:
        self.watch.passes(fault)
        ending()

    def _strike(self, fault: Fault, machine: Machine) -> Callable[[], None]:
        """Returns what ends it."""
        if machine.paused and fault.kind in (Kind.CRASH, Kind.KILL, Kind.FREEZE):
            return _nothing  # a machine that stands still cannot fail by itself
        match fault.kind:
            case Kind.POWER_CUT:
                machine.power_cut()
                return machine.boot
            case Kind.CRASH:
                machine.crash()
            case Kind.KILL:
                machine.die()
                return machine.start
            case Kind.FREEZE:
                life = machine.freeze()
                return lambda: machine.thaw(life)
            case Kind.PAUSE:
                return machine.resume if machine.pause() else _nothing
            case Kind.STOP:
                machine.submit(lambda at: ev.StopRequested(at=at, by="operator"))
                return machine.start
            case Kind.STANDBY:
                hold = _HOLDS[fault.value % 3]
                machine.submit(lambda at: ev.StandbyRequested(at=at, hold=hold, by="operator"))
            case Kind.TAKEOVER:
                hold = _HOLDS[fault.value % 3]
                machine.submit(lambda at: ev.TakeoverRequested(at=at, hold=hold, by="operator"))
            case Kind.CUT | Kind.CUT_ONE_WAY | Kind.PARTITION | Kind.PARTITION_ONE_WAY:
                return self._cut(fault)
            case Kind.LOSSY | Kind.SLOW | Kind.DOUBLED | Kind.CORRUPT:
                return self._disturb(fault)
            case Kind.SCRIPT_FAILS:
                return _listed(machine.script_fails, fault.value)
            case Kind.SCRIPT_HANGS:
                return _listed(machine.script_hangs, fault.value)
            case Kind.DISK_FAILS | Kind.DISK_HANGS:
                return self._break_disk(machine, fault.kind)
            case Kind.KERNEL_REFUSES:
                return _listed(machine.kernel_refuses, fault.value)
            case Kind.KERNEL_HANGS:
                return self._hang_kernel(machine)
            case Kind.TABLE_CLEARED:
                self._clear_table(machine)
            case Kind.VIP_REMOVED:
                for address in machine.kernel.held_addresses(self.site.vips)[:1] if machine.powered else ():
                    machine.kernel.remove_address(address)
            case Kind.FENCE_FAILS:
                return _counted(machine, "fence_fails")
            case Kind.FENCE_HANGS:
                return _counted(machine, "fence_hangs")
            case Kind.NO_UPLINK:
                return _counted(machine, "no_uplink")
            case Kind.SEND_FAILS:
                return self._fail_sending(machine)
            case Kind.PING_DEAD | Kind.REAL_DOWN | Kind.REAL_FLAPS:
                return self._kill_host(fault)
            case Kind.CHECKER_LOST:
                machine.submit(lambda at: ev.CheckerLost(at=at, worker=0, detail="ended with signal 9"))
            case Kind.DRAIN | Kind.QUIESCE | Kind.WEIGHT | Kind.ENABLE:
                self._request(machine, fault)
            case Kind.MAINTENANCE:
                return self._maintain(machine, fault.value)
            case Kind.MAINTENANCE_TROUBLE:
                machine.maintenance_trouble += 1
                machine.look_at_maintenance()
                return machine.maintenance_readable
            case Kind.MEMORY_LOST:
                machine.memory = None
                self.watch.memory_lost(machine)
            case Kind.RELOAD | Kind.RELOAD_BAD:
                self._reload(machine, fault)
            case Kind.WALL_JUMPS:
                machine.wall_offset += fault.value * SECOND
        return _nothing

    def _cut(self, fault: Fault) -> Callable[[], None]:
        links = range(self.network.links)
        if fault.kind in (Kind.CUT, Kind.CUT_ONE_WAY):
            links = range(fault.value % self.network.links, fault.value % self.network.links + 1)
        senders = (fault.node,) if fault.kind in (Kind.CUT_ONE_WAY, Kind.PARTITION_ONE_WAY) else (0, 1)
        ways = [(sender, link) for sender in senders for link in links]
        self.network.cuts.update(ways)
        return lambda: self.network.cuts.subtract(ways)

    def _disturb(self, fault: Fault) -> Callable[[], None]:
        network = self.network
        troubles = {
            Kind.LOSSY: network.loss,
            Kind.SLOW: network.slow_ms,
            Kind.DOUBLED: network.doubled,
            Kind.CORRUPT: network.corrupt,
        }
        return _listed(troubles[fault.kind], fault.value)

    def _break_disk(self, machine: Machine, kind: Kind) -> Callable[[], None]:
        name = "disk_fails" if kind is Kind.DISK_FAILS else "disk_hangs"
        ending = _counted(machine, name)
        machine.disk_changed()

        def repaired() -> None:
            ending()
            machine.disk_changed()

        return repaired

    def _hang_kernel(self, machine: Machine) -> Callable[[], None]:
        ending = _counted(machine, "kernel_hangs")

        def answers() -> None:
            ending()
            if not machine.kernel_hangs:
                machine.executor.kernel_answers()

        return answers

    def _clear_table(self, machine: Machine) -> None:
        if machine.powered:
            machine.kernel.apply_operations(difference((), machine.kernel.read_table()))

    def _fail_sending(self, machine: Machine) -> Callable[[], None]:
        ending = _counted(machine, "send_fails")
        machine.submit(lambda at: ev.LinkChanged(at=at, link=0, working=False, detail="Network is down"))

        def works() -> None:
            ending()
            machine.submit(lambda at: ev.LinkChanged(at=at, link=0, working=True))

        return works

    def _kill_host(self, fault: Fault) -> Callable[[], None]:
        pings = self.site.settings[0].pings
        if fault.kind is Kind.PING_DEAD:
            if not pings:
                return _nothing
            names = [pings[fault.value % len(pings)].name]
            self.dead_pings.update(names)
            return lambda: self.dead_pings.subtract(names)
        if not self.addresses:
            return _nothing
        address = self.addresses[fault.value % len(self.addresses)]
        self.fail_real(address, 1)
        if fault.kind is Kind.REAL_FLAPS:
            times = fault.lasts // FLAP_NS
            for number in range(1, times + 1):
                self.after(number * FLAP_NS, self.fail_real, address, 1 if number % 2 == 0 else -1)
            down = times % 2 == 0
            return lambda: self.fail_real(address, -1) if down else None
        return lambda: self.fail_real(address, -1)

    def fail_real(self, address: str, down: int) -> None:
        """`down` 1: one more reason for this real server to fail its checks; -1: one less."""
        self.dead_reals[address] += down
        self.reals_version += 1
        self.watch.truth_changed()

    def _request(self, machine: Machine, fault: Fault) -> None:
        """An operator says something of one real server, or of every one that a service has."""
        places = [(s.key, real.key) for s in machine.settings.services for real in s.reals]
        if not places:
            return
        one = places[fault.value % len(places)]
        targets = tuple(place for place in places if place[0] == one[0]) if fault.value >= WHOLE_SERVICE else (one,)
        machine.submit(
            lambda at: ev.RealRequested(
                at=at,
                verb=_VERBS[fault.kind],
                targets=targets,
                by="operator",
                wall_ns=at + machine.wall_offset,
                weight=fault.value % 4 if fault.kind is Kind.WEIGHT else 0,
                reason="kernel update",
            )
        )

    def _maintain(self, machine: Machine, value: int) -> Callable[[], None]:
        if not self.addresses:
            return _nothing
        address = self.addresses[value % len(self.addresses)]
        entry = ev.MaintenanceEntry(name=f"{address}:80", addresses=(address,), port=80)
        if value % 2:
            entry = ev.MaintenanceEntry(name=address, addresses=(address,))
        machine.maintenance.append(entry)
        machine.look_at_maintenance()

        def ends() -> None:
            machine.maintenance.remove(entry)
            machine.look_at_maintenance()

        return ends

    def _reload(self, machine: Machine, fault: Fault) -> None:
        """Both directors get the same file, as an administrator would copy it."""
        services = self.site.settings[0].services
        if not services:
            return
        if fault.kind is Kind.RELOAD_BAD:
            machine.submit(lambda at: ev.ReloadRefused(at=at, detail="line 3: expected a port"))
            return
        services = (_edited(services[0], fault.value), *services[1:])
        for one in self.machines:
            one.settings = replace(one.settings, services=services)
            one.submit(lambda at: ev.ServicesReloaded(at=at, services=services), 10 * MILLISECOND)
        self.watch.truth_changed()


_HOLDS = ("all", "local", "foreign")
_VERBS = {
    Kind.DRAIN: RealVerb.DRAIN,
    Kind.QUIESCE: RealVerb.QUIESCE,
    Kind.WEIGHT: RealVerb.WEIGHT,
    Kind.ENABLE: RealVerb.ENABLE,
}
WHOLE_SERVICE = 9
"""From this value on an operator means every real server of a service."""


def _edited(service: VirtualService, value: int) -> VirtualService:
    """What an administrator made of the file that the directors began with; of some values, that file itself."""
    reals = service.reals
    match value % 6:
        case 0:
            return service
        case 1 | 3:
            return replace(service, reals=reals[: 1 + value % 3])
        case 2:
            return replace(service, quiescent=not service.quiescent, fallback_command="")
        case 4:
            return replace(service, reals=tuple(replace(real, weight=real.weight + 1) for real in reals))
        case _:
            slower = [replace(r.check, interval_ns=r.check.interval_ns + SECOND) if r.check else None for r in reals]
            changed = tuple(replace(real, check=check) for real, check in zip(reals, slower, strict=True))
            return replace(service, reals=changed, failurecount=2)


def _nothing() -> None:
    pass


def _listed(troubles: list[int], value: int) -> Callable[[], None]:
    troubles.append(value)
    return lambda: troubles.remove(value)


def _counted(machine: Machine, name: str) -> Callable[[], None]:
    setattr(machine, name, getattr(machine, name) + 1)

    def ends() -> None:
        setattr(machine, name, getattr(machine, name) - 1)

    return ends
