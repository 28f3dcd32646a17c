"""One simulated director: a machine with kernel, disk, programs and clock, and the daemon that lives on it.

The kernel is the embedded one of the demo, on this machine's clock; core, wire and replay window are the daemon's own.
What is modelled here is the daemon's shell: one order, effects that wait for the disk within its patience (laws L2 and
L3), a kernel thread that works in order, a supervisor that releases what a crashed core held.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from hafsm.core import actions as act
from hafsm.core import events as ev
from hafsm.core.machines import Phase
from hafsm.core.settings import MILLISECOND, SECOND, Address, NodeName, Settings
from hafsm.core.state import State, initial
from hafsm.core.turn import Decision
from hafsm.kernel.memory import MemoryKernel
from replay.simulator_executor import Executor
from replay.simulator_network import Ears, Packet, written

if TYPE_CHECKING:
    from replay.simulator import Simulation

PATIENCE_NS = 25 * MILLISECOND
COMMIT_NS = 2 * MILLISECOND
FLUSH_NS = 10 * MILLISECOND
RELEASE_NS = 30 * MILLISECOND
"""The supervisor notices a crash and takes the addresses away."""
RESTART_NS = SECOND
SOCKET_BUFFER = 200
"""Datagrams that wait for a daemon that does not read."""
WALL_NS = 1_700_000_000 * SECOND
"""Wall clock at the beginning: 2023-11-14."""

_HARMLESS = (act.SendMessage, act.ResendMessages, act.SendPings, act.SetChecks)


class Life(NamedTuple):
    """One life of the daemon as its journal has it."""

    number: int
    """Number of the event before its first."""
    next_action: int
    boot_id: str
    settings: Settings
    wall_ns: int
    """Wall time minus the stamps of its events."""
    events: list[ev.Event]


class Machine:
    """See the module."""

    def __init__(self, world: Simulation, index: int, settings: Settings) -> None:
        self.world = world
        self.index = index
        self.settings = settings
        self.rng = random.Random(f"machine {world.seed} {index}")
        self.drift_ppm = self.rng.randrange(-100, 101) if world.drift else 0
        self._offset = (1_000 + 500 * index) * SECOND
        self.wall_offset = WALL_NS
        self.uuid = bytes([index + 1]) * 16
        self.generation = 1_700_000_000 + 1000 * index
        self.heard = 0
        """Newest generation of the peer in any life."""
        self.powered = False
        self.running = False
        self.frozen = 0
        self.paused = 0
        self.life = 0
        self.boots = 0
        self._last_boot = 0
        self.kernel = MemoryKernel(self.local_now)
        self._lease_watched = 0
        self._start_wanted = False
        self.scripts: set[str] = set()
        self.memory: act.RememberOverrides | None = act.RememberOverrides(id=0, overrides=(), fallbacks=())
        """The file that keeps operators' words across lives; None: unreadable."""
        self.maintenance: list[ev.MaintenanceEntry] = []
        """The files in its maintenance folder; one may be there twice, by two faults."""
        self.maintenance_trouble = 0
        self.lives: list[Life] = []
        self._number, self._next_action = 0, 1
        """Where the journal ends, for the next life."""
        self.state: State = initial(settings)
        # Troubles, counted so that faults may overlap.
        self.disk_fails = self.disk_hangs = 0
        self.kernel_refuses: list[int] = []
        self.kernel_hangs = 0
        self.script_fails: list[int] = []
        self.script_hangs: list[int] = []
        self.fence_fails = self.fence_hangs = self.no_uplink = self.send_fails = 0
        self._clear()

    def _clear(self) -> None:
        """What dies with a process."""
        self.running = False
        self.frozen = 0
        self._inbox: list[Callable[[], None]] = []
        self._armed = 0
        self._commit_free = 0
        self.executor = Executor(self)
        self._waiting: deque[tuple[int, int, tuple[act.Action, ...]]] = deque()
        self._points: deque[tuple[int, int, int]] = deque(maxlen=64)
        """(when on disk, events of this life, next action id)."""
        self._trouble = False

    @property
    def name(self) -> NodeName:
        return self.settings.me

    @property
    def peer(self) -> Machine:
        return self.world.machines[1 - self.index]

    @property
    def awake(self) -> bool:
        """The daemon runs and gets the processor."""
        return self.running and not self.frozen and not self.paused

    # ---- time

    def local_now(self) -> int:
        """CLOCK_BOOTTIME of this machine (it does not begin anew at a boot: only differences matter)."""
        return self.local(self.world.now)

    def local(self, true_ns: int) -> int:
        return true_ns + true_ns * self.drift_ppm // 1_000_000 + self._offset

    def true(self, local_ns: int) -> int:
        """The first moment at which the local clock shows at least `local_ns`."""
        return (local_ns - self._offset) * 1_000_000 // (1_000_000 + self.drift_ppm) + 2

    @property
    def wall_s(self) -> int:
        return (self.local_now() + self.wall_offset) // SECOND

    def later(self, delay_ns: int, call: Callable[..., None], *arguments: Any) -> None:
        """Call within this life; while the daemon is frozen it waits."""
        self.world.after(delay_ns, self._later, self.life, call, arguments)

    def _later(self, life: int, call: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if life != self.life or not self.running:
            return
        if self.frozen or self.paused:
            self._inbox.append(lambda: call(*arguments))
        else:
            call(*arguments)

    # ---- life and death

    def boot(self) -> None:
        """Power on, daemon started."""
        if self.powered:
            return
        self.powered = True
        self.boots += 1
        self.kernel = MemoryKernel(self.local_now)
        self.kernel.on_change(lambda addresses, _: self.world.owns(self, addresses))
        self.start()

    def start(self) -> None:
        """A new life of the daemon."""
        if self.running or not self.powered:
            return
        if self.paused:
            self._start_wanted = True
            return
        self._clear()
        self.life += 1
        self.running = True
        self.generation += 1
        self.state = state = initial(self.settings)
        state.number, state.next_action = self._number, self._next_action
        wall = self.wall_offset
        boot_id = f"boot-{self.boots}"
        self.lives.append(Life(state.number, state.next_action, boot_id, self.settings, wall, []))
        self.ears = Ears(self)
        same_boot = self._last_boot == self.boots
        self._last_boot = self.boots
        self.world.watch.life_begins(self)
        if self.disk_fails:
            self._trouble = True
        remembered = self.memory
        if remembered is None and not self.disk_fails and not self.disk_hangs:
            self.memory = act.RememberOverrides(id=0, overrides=(), fallbacks=())
        self._listed = ev.MaintenanceListed(at=0)
        self.fold(
            ev.DaemonStarted(
                at=self.local_now(),
                generation=self.generation,
                wall_ns=self.local_now() + self.wall_offset,
                boot_id=boot_id,
                same_boot=same_boot,
                version="simulated",
                overrides=remembered.overrides if remembered is not None else (),
                fallbacks=remembered.fallbacks if remembered is not None else (),
                memory_trouble="" if remembered is not None else "operators.json: unreadable",
            )
        )
        self.look_at_maintenance()

    def look_at_maintenance(self) -> None:
        """The folder changed, or a life begins: within a second it is seen."""
        self.later(SECOND, self._look_at_maintenance)

    def _look_at_maintenance(self) -> None:
        trouble = "Stale file handle" if self.maintenance_trouble else ""
        entries = {entry.name: entry for entry in self.maintenance} if not trouble else {}
        listed = ev.MaintenanceListed(at=0, entries=tuple(entries[name] for name in sorted(entries)), trouble=trouble)
        if listed != self._listed:
            self._listed = listed
            self._submit(lambda at: replace(listed, at=at))

    def maintenance_readable(self) -> None:
        self.maintenance_trouble -= 1
        self.look_at_maintenance()

    def die(self, *, journal_closed: bool = False) -> None:
        """The process is gone; what was not on the disk never happened for its journal."""
        if not self.running:
            return
        self._number, self._next_action = self.state.number, self.state.next_action
        if self.world.keep and not journal_closed:
            life = self.lives[-1]
            kept, self._next_action = 0, life.next_action
            for when, events, next_action in self._points:
                if when <= self.world.now:
                    kept, self._next_action = events, next_action
            del life.events[kept:]
            self._number = life.number + kept
            if not kept:
                self.lives.pop()  # nothing of it was written: it leaves no trace but its generation
        self.life += 1
        self._clear()
        self.world.watch.life_ends(self)

    def power_cut(self) -> None:
        self.die()
        self.powered = False
        self.paused = 0
        self.scripts.clear()
        self.world.owns(self, ())

    def crash(self) -> None:
        """The core dies, the supervisor lives."""
        if not self.running:
            return
        generation = self.generation
        self.die()
        life = self.life
        self.world.after(RELEASE_NS, self._supervise, life, generation)

    def _supervise(self, life: int, generation: int) -> None:
        if self.life != life or not self.powered:
            return
        for address in self.world.site.vips:
            self.kernel.remove_address(address)
        packet = Packet(self.index, generation, 0, "NS_goodbye", (("info", "crashed"),), "", self.world.now, b"")
        packet = packet._replace(datagram=written(packet, self.name, self.uuid, self.wall_s))
        for _ in range(3):
            self.world.network.carry(self, self.peer, packet)
        self.world.after(RESTART_NS, self.restart, life)

    def restart(self, life: int) -> None:
        if self.life == life:
            self.start()

    def freeze(self) -> int:
        """Returns the life that was frozen; 0: none."""
        if not self.running:
            return 0
        self.frozen += 1
        self.world.watch.disturbed(self)
        return self.life

    def thaw(self, life: int) -> None:
        if self.life == life and self.frozen:
            self.frozen -= 1
            self._wake()

    def pause(self) -> bool:
        """Stop the machine and its clock."""
        if not self.powered or self.paused:
            return False
        self.paused = 1
        self._paused_at = self.world.now
        self.world.owns(self, ())
        return True

    def resume(self) -> None:
        if not self.paused:
            return
        self.paused = 0
        stood = self.world.now - self._paused_at
        self._offset -= stood + stood * self.drift_ppm // 1_000_000
        self.world.watch.resumed(self)
        self.world.owns(self, self.kernel.snapshot()[0])
        self._lease_watched = 0
        self.watch_lease()
        self._armed = 0
        self._wake()
        if self._start_wanted:
            self._start_wanted = False
            self.start()

    def _wake(self) -> None:
        """What waited meets the loop: sockets and threads first, or the timer, as it happens."""
        if not self.awake:
            return
        inbox, self._inbox = self._inbox, []
        life = self.life
        timer_first = self.rng.random() < 0.5
        if timer_first:
            self._ring(life, self.state.due)
        for call in inbox:
            if self.life != life or not self.awake:
                return
            call()
        if not timer_first and self.life == life and self.awake:
            self._ring(life, self.state.due)
        self._arm()

    # ---- the loop

    def arrive(self, link: int, packet: Packet) -> None:
        """A datagram reaches this machine; the network has done its part whether or not somebody reads it."""
        if packet.kind == "status":
            self.world.network_heard(self, packet)
        if not self.running or self.paused:
            return
        if self.frozen:
            if len(self._inbox) < SOCKET_BUFFER:
                ears = self.ears
                self._inbox.append(lambda: ears.hear(link, packet))
            return
        self.ears.hear(link, packet)

    def submit(self, make: Callable[[int], ev.Event], delay_ns: int = 0) -> None:
        """Fold `make(at)` after a delay, stamped when it enters the loop."""
        self.later(delay_ns, self._submit, make)

    def _submit(self, make: Callable[[int], ev.Event]) -> None:
        self.fold(make(self.local_now()))

    def fold(self, event: ev.Event) -> None:
        """Fold one event now."""
        before = self.state
        decision = self.world.step(before, event)
        if self.world.keep:
            self.lives[-1].events.append(event)
        self.world.events += 1
        self.state = decision.state
        self.world.watch.stepped(self, before, event, decision)
        if self.world.recorder is not None:
            self.world.recorder(self, event, decision)
        actions = decision.actions
        if actions or decision.reason:
            self._act(decision, actions)
        if self.state.due != self._armed:
            self._arm()

    def _arm(self) -> None:
        due = self.state.due
        self._armed = due
        if due:
            self.world.at(max(self.true(due), self.world.now), self._ring, self.life, due)

    def _ring(self, life: int, due: int) -> None:
        if life != self.life or due != self.state.due or not self.awake or not due:
            return
        now = self.local_now()
        if now < due:
            self._arm()
            return
        self.fold(ev.DeadlinePassed(at=now))
        if self.life == life and self.state.due == due:
            self._arm()

    def _act(self, decision: Decision, actions: tuple[act.Action, ...]) -> None:
        now = self.world.now
        effects: list[act.Action] = []
        for action in actions:
            if isinstance(action, _HARMLESS):
                self.executor.harmless(action)
            else:
                effects.append(action)
        if self.disk_fails or self.disk_hangs:
            if effects:
                self._hold(decision.state.number, tuple(effects))
            return
        urgent = bool(effects or decision.reason)
        when = max(now, self._commit_free) + (COMMIT_NS if urgent else FLUSH_NS)
        self._commit_free = when if urgent else self._commit_free
        self._points.append((when, len(self.lives[-1].events), self.state.next_action))
        if effects:
            self.later(when - now, self.executor.release, tuple(effects))

    def _hold(self, number: int, effects: tuple[act.Action, ...]) -> None:
        if self._trouble:
            self.executor.release(effects)
            return
        self._waiting.append((number, self.world.now, effects))
        self.later(PATIENCE_NS, self._out_of_patience, number)

    def _out_of_patience(self, number: int) -> None:
        if not self._waiting or self._waiting[0][0] > number:
            return
        decided = self._waiting[0][1]
        while self._waiting and self._waiting[0][0] <= number:
            self.executor.release(self._waiting.popleft()[2])
        waited = self.world.now - decided
        self.fold(ev.JournalLagged(at=self.local_now(), number=number, waited_ns=waited))

    def disk_changed(self) -> None:
        """The disk began to fail or hang, or works again."""
        if not self.running:
            return
        if not self.disk_hangs:
            failing = self.disk_fails > 0
            if failing != self._trouble:
                self._trouble = failing
                detail = "database or disk is full (SQLITE_FULL)" if failing else ""
                self.submit(lambda at: ev.JournalTroubled(at=at, detail=detail))
        if not self.disk_fails or self._trouble:
            while self._waiting and not self.disk_hangs:
                self.later(0, self.executor.release, self._waiting.popleft()[2])
        if not self.disk_hangs:
            self.executor.disk_answers()
        if not self.disk_fails and not self.disk_hangs:
            when = self.world.now + FLUSH_NS
            self._points.append((when, len(self.lives[-1].events), self.state.next_action))

    # ---- the kernel

    def watch_lease(self) -> None:
        """See to it that the end of a lease is noticed when it comes."""
        ends = self.kernel.tick()
        if ends is not None and ends != self._lease_watched:
            self._lease_watched = ends
            self.world.at(self.true(ends), self._lease_ends, self.kernel)

    def _lease_ends(self, kernel: MemoryKernel) -> None:
        if kernel is self.kernel and self.powered and not self.paused:
            self.watch_lease()

    def held(self) -> tuple[Address, ...]:
        """What this machine answers for."""
        return () if self.paused or not self.powered else self.kernel.snapshot()[0]

    @property
    def leaving(self) -> bool:
        return self.state.phase in (Phase.LEAVING, Phase.GONE)
