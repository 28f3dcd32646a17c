"""Deterministic tests of your own configuration: a pair of directors in your test process, no root, no clock, no sleep.

    from hafsm.testing import pair

    def test_the_backup_takes_over():
        cluster = pair("/etc/ha.d").start()
        cluster.power_cut("server40.example.com")
        cluster.advance(40)
        assert cluster.holder("192.168.2.232") == "server19.example.com"

The directors run the daemon's own core, wire format and replay protection on an embedded kernel; what is played is the
rest: network, real servers, scripts. Time is simulated, so an hour takes a second. Every invariant of
`replay.invariants` is judged all along; a broken one raises `AssertionError`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self

from hafsm import codec
from hafsm.config.load import load
from hafsm.core.actions import Action
from hafsm.core.events import Event, StandbyRequested, StopRequested, TakeoverRequested
from hafsm.core.settings import SECOND, Settings
from hafsm.core.state import State
from hafsm.core.step import step
from hafsm.core.turn import Decision
from hafsm.errors import HafsmError
from journal.reader import Journal
from journal.records import SnapshotRecord
from replay.engine import restore
from replay.invariants import Broken
from replay.simulator import Simulation
from replay.simulator_faults import Plan
from replay.simulator_machine import Machine
from replay.simulator_site import Site, site_of
from replay.to_test import effects_of

FOREVER = 10**18
REASONS_KEPT = 200


def pair(config: str | Path | Settings) -> Cluster:
    """Two directors of a configuration: the folder of ha.cf, haresources, authkeys and ldirectord.cf, or core settings.

    Raises:
        HafsmError: the files have errors (each is named), or name other than two nodes.
    """
    return Cluster(site_of(config if isinstance(config, Settings) else _read(Path(config))))


def _read(directory: Path) -> Settings:
    found = load(directory, me=first_node(directory))
    if found.settings is None:
        raise HafsmError("; ".join(str(finding) for finding in found.findings if finding.is_error))
    if len(found.settings.nodes) != 2:
        raise HafsmError(f"{directory / 'ha.cf'}: a pair needs two `node` lines")
    return found.settings


def first_node(directory: Path) -> str | None:
    """The first name after `node` in ha.cf; None if there is none to read."""
    try:
        lines = (directory / "ha.cf").read_text(errors="replace").splitlines()
    except OSError:
        return None
    return next((words[1] for words in map(str.split, lines) if len(words) > 1 and words[0] == "node"), None)


class Cluster:
    """See the module. Directors are named as in ha.cf; times are seconds."""

    def __init__(self, site: Site) -> None:
        self._world = Simulation(site, Plan((), (), FOREVER), 0, drift=False, recorder=self._record)
        self._reasons: dict[str, list[str]] = {machine.name: [] for machine in self._world.machines}

    # ---- time

    @property
    def now(self) -> float:
        """Since the cluster began."""
        return self._world.now / SECOND

    def start(self) -> Self:
        """Boot both directors and wait until everything is where it belongs."""
        for machine in self._world.machines:
            machine.boot()
        self.until(lambda: not self._world.watch.unsettled(), 600)
        return self

    def advance(self, seconds: float) -> Self:
        """Let time pass."""
        try:
            self._world.advance(self._world.now + int(seconds * SECOND))
        except Broken as broken:
            raise AssertionError(f"at {self.now:.3f} s: {broken.violation}") from None
        return self

    def until(self, condition: Callable[[], bool], limit: float = 600) -> float:
        """Let time pass until the condition holds, in steps of 10 ms; returns how long that took."""
        began = self.now
        while not condition():
            if self.now - began >= limit:
                said = "".join(f"\n{name}: {text}" for name, all_ in self._reasons.items() for text in all_[-5:])
                raise AssertionError(f"has not come true within {limit:g} s: {self._world.watch.unsettled()}{said}")
            self.advance(0.01)
        return self.now - began

    # ---- what happens

    def power_cut(self, node: str) -> Self:
        """Everything volatile of this machine is gone at once."""
        self._machine(node).power_cut()
        return self

    def power_on(self, node: str) -> Self:
        self._machine(node).boot()
        return self

    def kill(self, node: str) -> Self:
        """The daemon is gone, the machine is not: its kernel keeps the VIPs until their lease ends."""
        self._machine(node).die()
        return self

    def run(self, node: str) -> Self:
        """Start the daemon of a machine that is on."""
        self._machine(node).start()
        return self

    def stop(self, node: str) -> Self:
        """As `systemctl stop`: it releases everything first."""
        return self._tell(node, lambda at: StopRequested(at=at, by="test"))

    def freeze(self, node: str) -> Callable[[], None]:
        """Stop the daemon as SIGSTOP does; call what is returned to let it go on."""
        machine = self._machine(node)
        life = machine.freeze()
        return lambda: machine.thaw(life)

    def standby(self, node: str, hold: str = "all") -> Self:
        """As `hafsm standby` on this director: `all`, `local` or `foreign`."""
        return self._tell(node, lambda at: StandbyRequested(at=at, hold=hold, by="test"))

    def takeover(self, node: str, hold: str = "all") -> Self:
        """As `hafsm takeover` on this director."""
        return self._tell(node, lambda at: TakeoverRequested(at=at, hold=hold, by="test"))

    def partition(self) -> Self:
        """No heartbeat passes, in neither direction, on any link."""
        self._world.network.cuts.update((s, link) for s in (0, 1) for link in range(self._world.network.links))
        return self

    def cut(self, link: str, *, sender: str | None = None) -> Self:
        """Nothing passes on one link (of one sender only, if named)."""
        index = self._world.site.settings[0].links.index(link)
        senders = (0, 1) if sender is None else (self._machine(sender).index,)
        self._world.network.cuts.update((one, index) for one in senders)
        return self

    def heal(self) -> Self:
        """All links work again."""
        self._world.network.cuts.clear()
        return self

    def fail_real(self, address: str) -> Self:
        """A real server (by its address) fails its checks from now on."""
        return self._real(address, 1)

    def repair_real(self, address: str) -> Self:
        return self._real(address, -1)

    def lose_ping(self, name: str) -> Self:
        """A ping node or group answers nobody any more."""
        self._world.dead_pings[name] = 1
        return self

    def return_ping(self, name: str) -> Self:
        self._world.dead_pings[name] = 0
        return self

    def lose_uplink(self, node: str) -> Self:
        """This director sees neither ping nodes nor real servers any more; heartbeats go on."""
        self._machine(node).no_uplink = 1
        return self

    def return_uplink(self, node: str) -> Self:
        self._machine(node).no_uplink = 0
        return self

    def fail_scripts(self, node: str, failing: bool = True) -> Self:
        """Every start and stop of a resource script on this director fails, or works again."""
        self._machine(node).script_fails[:] = [0] if failing else []
        return self

    # ---- what is

    def holder(self, vip: str) -> str:
        """Who answers for the VIP; empty: nobody. If both do, who got it last: the network believes the news."""
        holders = self.holders(vip)
        newest = self._world.watch.got_last(vip)
        return newest if newest in holders else "".join(holders[:1])

    def holders(self, vip: str) -> list[str]:
        return [m.name for m in self._world.machines if any(a.ip == vip for a in m.held())]

    def table(self, node: str) -> dict[str, dict[str, int]]:
        """The kernel's IPVS table: service → destination → weight, such as `tcp:192.0.2.1:80` → `192.0.2.31:80` → 1."""
        table = self._machine(node).kernel.read_table()
        return {entry.service.key: {d.key: d.weight for d in entry.destinations} for entry in table}

    def scripts(self, node: str) -> set[str]:
        """The resource scripts that run there."""
        return set(self._machine(node).scripts)

    def why(self, node: str) -> list[str]:
        """The sentences of this director's decisions, oldest first."""
        return list(self._reasons[self._machine(node).name])

    def state(self, node: str) -> State:
        """All that this director's core remembers."""
        return self._machine(node).state

    # ---- inside

    def _machine(self, node: str) -> Machine:
        for machine in self._world.machines:
            if machine.name == node:
                return machine
        raise HafsmError(f"{node!r} is none of {', '.join(m.name for m in self._world.machines)}")

    def _tell(self, node: str, make: Callable[[int], Event]) -> Self:
        self._machine(node).submit(make)
        return self

    def _real(self, address: str, down: int) -> Self:
        if address not in self._world.addresses:
            raise HafsmError(f"{address!r} is no checked real server; there are {', '.join(self._world.addresses)}")
        self._world.fail_real(address, down)
        return self

    def _record(self, machine: Machine, event: Event, decision: Decision) -> None:
        if decision.reason:
            reasons = self._reasons[machine.name]
            reasons.append(decision.reason)
            del reasons[:-REASONS_KEPT]


class Decided(NamedTuple):
    """The decision on the last event of an incident."""

    reason: str
    actions: tuple[Action, ...]
    state: State

    @property
    def effects(self) -> list[str]:
        """Kinds of the actions in order, such as `add_address`, without messages, pings and plans of checks."""
        return effects_of(self.actions)


def incident(path: Path) -> Decided:
    """Fold an incident file (`hafsm replay FILE --to-test` writes them) and return its last decision, as decided now.

    Raises `journal.errors.JournalError` for a file that cannot be read or was altered.
    """
    state: State | None = None
    decision: Decision | None = None
    with Journal(path) as journal:
        for entry in journal.entries(verify=True):
            if isinstance(entry, SnapshotRecord):
                state = state or restore(path, entry)
            elif len(entry) == 2 and state is not None:
                record = entry[0]
                event = codec.decode_event(record.kind, record.version, record.payload, record.at_mono_ns)
                decision = step(state, event)
                state = decision.state
    if decision is None:
        raise HafsmError(f"{path}: holds no event")
    return Decided(decision.reason, decision.actions, decision.state)


__all__ = ["Cluster", "Decided", "incident", "pair"]
