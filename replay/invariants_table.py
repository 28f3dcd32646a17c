"""The IPVS table by the plain rules: what checks, operators, maintenance files and the configuration ask for, counted
without the core.

The invariants that use it stand in `replay.invariants`.
"""

from __future__ import annotations

from collections.abc import Iterable

from hafsm.core import events as ev
from hafsm.core.ipvs import TableEntry
from hafsm.core.machines import RealState
from hafsm.core.settings import CheckKind, Override, RealServer, RealVerb, VirtualService
from hafsm.core.state import State

_OUT = (RealVerb.DRAIN, RealVerb.QUIESCE)
_COUNTED = 20
"""More failures in a row than any failurecount that a simulated site has."""

Place = tuple[str, str]
"""(service, real server)."""


class Health:
    """A real server of one service by the plain rules: failurecount failures in a row take it out, a success brings it
    back; who is kept out by somebody gets no traffic until that ends."""

    __slots__ = ("failures", "healthy", "hold", "known", "maintenance", "real", "service", "state", "weight")

    def __init__(self, service: VirtualService, real: RealServer) -> None:
        self.service = service
        self.real = real
        self.state = RealState.REMOVED
        self.failures = 0
        self.healthy = False
        self.known = False
        """It was checked since it is configured as it is: before that a single failure decides."""
        self.hold: RealVerb | None = None
        self.maintenance = False
        self.weight = -1
        """An operator's; -1: the file's."""

    @property
    def held(self) -> bool:
        return self.hold is not None or self.maintenance

    @property
    def weight_now(self) -> int:
        """In the table, where it has an entry at all."""
        if self.state is not RealState.UP:
            return 0
        return self.real.weight if self.weight < 0 else self.weight

    def take(self, ok: bool) -> None:
        """A check ended."""
        self.failures = 0 if ok else self.failures + 1
        self.healthy = ok
        enough = self.service.failurecount if self.known else 1
        self.known = True
        if ok:
            self.state = self.state if self.held else RealState.UP
        elif self.state is RealState.UP and self.failures >= enough:
            self._out()
        elif self.state is RealState.QUIESCED and not self.service.quiescent and not self.held:
            self.state = RealState.REMOVED

    def _out(self) -> None:
        self.state = RealState.QUIESCED if self.service.quiescent else RealState.REMOVED

    def told(self, word: Override) -> None:
        """An operator's last word."""
        was_out = self.hold is not None
        self.hold = word.verb if word.verb in _OUT else None
        self.weight = word.weight if word.verb is RealVerb.WEIGHT else -1
        if self.hold is RealVerb.QUIESCE or (self.hold is RealVerb.DRAIN and self.state is RealState.UP):
            self.state = RealState.QUIESCED
        elif self.hold is None and was_out:
            self._released()

    def maintained(self, begins: bool) -> None:
        """A maintenance file came or went. After that only the next check brings it back."""
        self.maintenance = begins
        if begins and self.state is RealState.UP:
            self._out()
        elif not begins:
            self.healthy = self.healthy and _fixed(self.real)
            self._released()

    def _released(self) -> None:
        if self.held:
            return
        if self.healthy:
            self.state = RealState.UP
        elif self.state is RealState.QUIESCED and not self.service.quiescent:
            self.state = RealState.REMOVED

    def emptied(self) -> None:
        """No connection is left on it."""
        if self.hold is RealVerb.DRAIN and self.state is RealState.QUIESCED:
            self.state = RealState.REMOVED

    def found(self, weight: int) -> None:
        """An earlier life left it in the kernel with this weight, in a service that stays there."""
        if self.state is RealState.REMOVED:
            self.state = RealState.UP if weight and not self.held else RealState.QUIESCED

    def configured(self) -> None:
        """The file says something new of it or of its service."""
        if self.state is RealState.REMOVED and self.service.quiescent and self.service.readd_quiescent:
            self.state = self.state if self.hold is RealVerb.DRAIN else RealState.QUIESCED
        elif self.state is RealState.QUIESCED and not self.service.quiescent and not self.held:
            self.state = RealState.REMOVED


def _fixed(real: RealServer) -> bool:
    """It is never checked."""
    return real.check is None or real.check.kind in (CheckKind.ALWAYS_UP, CheckKind.ALWAYS_DOWN)


class Plain:
    """Every real server of a life, by the plain rules. Fed with every event before it is judged."""

    def __init__(self) -> None:
        self.plan = 0
        self.health: dict[Place, Health] = {}
        self.words: dict[Place, Override] = {}
        self._watchers: list[list[Health]] = []
        self._kept_out: set[tuple[str, int]] = set()
        self._overrides: tuple[Override, ...] = ()
        self._repeated: tuple[object, int] = ((), 0)

    def take(self, event: ev.Event, before: State, after: State) -> None:
        """Fold an event. What operators said last is taken from the state; the invariant `the_last_word_wins` judges
        that."""
        match event:
            case ev.ChecksReported():
                self._checked(event)
            case ev.DaemonStarted() | ev.ServicesReloaded():
                self._words(after, obey=False)
                self._configured(after)
            case ev.MaintenanceListed() if not event.trouble:
                self._kept_out = {(address, entry.port) for entry in event.entries for address in entry.addresses}
                for health in self.health.values():
                    if self._covers(health.real) is not health.maintenance:
                        health.maintained(not health.maintenance)
                self._repeated = ((), 0)
            case ev.KernelObserved() if event.action == before.observe_action:
                self._observed(event, before)
        if after.overrides is not self._overrides:
            self._words(after, obey=True)

    def _covers(self, real: RealServer) -> bool:
        return (real.address, 0) in self._kept_out or (real.address, real.port) in self._kept_out

    def _words(self, after: State, *, obey: bool) -> None:
        words = {(word.service, word.real): word for word in after.overrides}
        for place, word in words.items() if obey else ():
            if self.words.get(place) != word and place in self.health:
                self.health[place].told(word)
        self.words, self._overrides, self._repeated = words, after.overrides, ((), 0)

    def _configured(self, after: State) -> None:
        before, self.health = self.health, {}
        indexes = {spec: index for index, spec in enumerate(after.checks)}
        self.plan, self._repeated = after.checks_plan, ((), 0)
        self._watchers = [[] for _ in after.checks]
        for service in after.settings.services:
            for real in service.reals:
                place = (service.key, real.key)
                self.health[place] = health = self._placed(service, real, before.get(place))
                if real.check in indexes:
                    self._watchers[indexes[real.check]].append(health)

    def _placed(self, service: VirtualService, real: RealServer, known: Health | None) -> Health:
        health = known or Health(service, real)
        rules = (health.service.quiescent, health.service.readd_quiescent)
        same = known is not None and health.real == real and rules == (service.quiescent, service.readd_quiescent)
        if health.real.check != real.check:
            health.failures, health.known = 0, False
        health.service, health.real = service, real
        if same:
            return health
        if real.check is not None and _fixed(real):
            health.failures, health.known = 0, False
            health.take(real.check.kind is CheckKind.ALWAYS_UP)
        word = self.words.get((service.key, real.key))
        if word is not None:
            health.told(word)
        if self._covers(real) is not health.maintenance:
            health.maintained(not health.maintenance)
        health.configured()
        return health

    def _checked(self, event: ev.ChecksReported) -> None:
        if event.plan != self.plan:
            return
        results, times = self._repeated
        if results is not event.results:
            times = 0
        elif times > _COUNTED:
            return  # the very same outcomes again; nothing is left to count
        self._repeated = (event.results, times + 1)
        for result in event.results:
            if result.check < len(self._watchers):
                for health in self._watchers[result.check]:
                    health.take(result.ok)

    def _observed(self, event: ev.KernelObserved, before: State) -> None:
        if not before.ipvs.known:
            for entry in event.table:
                for destination in entry.destinations:
                    health = self.health.get((entry.service.key, destination.key))
                    if health is not None and not health.service.clean_stop:
                        health.found(destination.weight)
        elif not before.ipvs.pending:
            for place in event.empty:
                if place in self.health:
                    self.health[place].emptied()
        self._repeated = ((), 0)

    def serves(self, service: VirtualService) -> bool:
        """Some real server of it gets new connections."""
        reals = (self.health.get((service.key, real.key)) for real in service.reals)
        return any(health is not None and health.weight_now > 0 for health in reals)

    def table(self, services: Iterable[VirtualService]) -> dict[str, dict[str, int]]:
        """Service → destination → weight."""
        table: dict[str, dict[str, int]] = {}
        for service in services:
            table[service.key] = destinations = {}
            for real in service.reals:
                health = self.health[service.key, real.key]
                if health.state is not RealState.REMOVED:
                    destinations[real.key] = health.weight_now
            if not self.serves(service) and service.fallback is not None:
                destinations[service.fallback.key] = service.fallback.weight
        return table


def differs(plain: dict[str, dict[str, int]], seen: tuple[TableEntry, ...]) -> str:
    """How a kernel's table differs from the plain one."""
    real = {entry.service.key: {d.key: d.weight for d in entry.destinations} for entry in seen}
    for key in sorted(plain.keys() | real.keys()):
        if plain.get(key) != real.get(key):
            return f"{key} has {_routes(real.get(key))}, it should have {_routes(plain.get(key))}"
    return ""


def _routes(destinations: dict[str, int] | None) -> str:
    if destinations is None:
        return "no entry"
    return ", ".join(f"{key} weight {weight}" for key, weight in sorted(destinations.items())) or "no destination"
