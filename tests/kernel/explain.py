"""Does every change of a VIP or of the IPVS table have a cause? What an onlooker saw, held against the journal.

The laws of `hafsm.core` and `hafsm.daemon.loop` in other words, for one director:

- An address comes or goes, an entry of the table comes, goes or gets another weight, because an action in the journal
  asked for just that (law L2). The action's event is older than the change, and the change is no later than the
  action's result, if there is one.
- A power cut takes from the journal what was not on disk. What was done nevertheless did not wait for the disk, and
  there is one excuse for that (law L3): the disk was late. The log, which the cut did not take, then has the decision,
  and the change came when the journal's patience was over; or the log says of a lost event that it did not wait.
- The kernel ends a lease (law L6).
- The supervisor releases everything after a crash of the core, and its log says so.

Nothing here does anything: records in, verdicts out.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from hafsm import codec
from hafsm.core.actions import Action, AddAddress, ProgramIpvs, RemoveAddress, RenewAddresses
from hafsm.core.events import ActionFinished
from hafsm.core.ipvs import Operation, Verb
from hafsm.core.settings import SECOND, Address, Forwarding
from journal.reader import Journal
from journal.records import EventRecord, RunRecord

NEVER = 1 << 62
"""Later than any time."""
LEASE_EARLY_NS = 100_000_000
"""The kernel counts a lease in ticks of 10 ms and rounds in favour of its end."""
LOG_ROUNDS_NS = 5_000_000
"""The log tells milliseconds of wall time, which meets the monotonic clock once a second."""
LOG_LATE_NS = 50_000_000
"""That an event did not wait is written that long after its actions began, at most: both happen in one step of a loop
that is not alone on its machine."""
NEAREST = 6
"""Causes shown with a change that has none."""
FORWARDING = {Forwarding.GATE: "Route", Forwarding.MASQ: "Masq", Forwarding.IPIP: "Tunnel"}
"""The kernel's words."""
EVERYTHING = ""
HELD, RENEWED = "held", "renewed"
"""Values of an address: it came, it was there already."""
DECIDED = re.compile(r"(\S+ \S+) \w+ hafsm: (\d+): (.*)")
LATE = re.compile(r"the journal took .*: event (\d+) did not wait for it")
RELEASED = re.compile(r"(\S+ \S+) \w+ hafsm\.supervisor: (.*): releasing what it held")


class Why(Enum):
    """What explains a change."""

    JOURNAL = "an action in the journal"
    LEASE = "the end of a lease"
    RELEASE = "the supervisor's release after a crash"
    LATE_DISK = "a decision that only the log has, for its disk was late"


@dataclass(frozen=True)
class Change:
    """Something is not as it was."""

    boot: str
    """The kernel's boot_id."""
    since: int
    """Nanoseconds, CLOCK_BOOTTIME: it was not so yet."""
    at: int
    """It was so."""
    thing: str
    """`192.168.2.232/24`, `tcp:192.168.2.232:80`, or `192.168.2.31:80 of tcp:192.168.2.232:80`."""
    value: str
    """`held`, `renewed`, a scheduler, or `Route 1`; empty: gone."""
    before: str = ""
    lease_ends: int = NEVER
    """Of an address that is gone: when its lease ends at the earliest."""

    def __str__(self) -> str:
        became = f"{self.thing}: {self.before or 'not there'} → {self.value or 'not there'}"
        when = f"seen at {self.at / SECOND:.3f} s, not before {self.since / SECOND:.3f} s, boot {self.boot[:8]}"
        return f"{became}, {when}"


@dataclass(frozen=True)
class Cause:
    """Something was asked for: it may be done from `decided` to `ended`."""

    boot: str
    decided: int
    ended: int
    thing: str
    """As of a change; empty: everything."""
    value: str | None
    """None: whatever it be."""
    by: str
    """For people: `event 812 add_address`."""
    why: Why = Why.JOURNAL

    def explains(self, change: Change) -> bool:
        """It asked for this and nothing else, and the change lies between its decision and its end."""
        asked = self.value is None or self.value == change.value
        # A service takes its real servers along.
        whose = self.thing in (EVERYTHING, change.thing) or (
            not self.value and change.thing.endswith(f" of {self.thing}")
        )
        return whose and asked and self.boot == change.boot and self.decided <= change.at and change.since <= self.ended


@dataclass
class Verdict:
    """What became of the changes."""

    explained: Counter[Why] = field(default_factory=Counter)
    unexplained: list[Change] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    """Of each without a cause: the change and the nearest actions."""


def explain(changes: Iterable[Change], causes: Sequence[Cause]) -> Verdict:
    """Find a cause for every change; causes of the journal first, then the lease, then what the log says."""
    verdict = Verdict()
    of: dict[tuple[str, str], list[Cause]] = {}
    for cause in causes:
        of.setdefault((cause.boot, cause.thing), []).append(cause)
    for change in changes:
        service = change.thing.partition(" of ")[2]
        candidates = [
            cause
            for thing in dict.fromkeys((change.thing, service, EVERYTHING))
            for cause in of.get((change.boot, thing), ())
        ]
        found = {cause.why for cause in candidates if cause.explains(change)}
        if change.at >= change.lease_ends - LEASE_EARLY_NS:
            found.add(Why.LEASE)
        why = next((why for why in Why if why in found), None)
        if why is not None:
            verdict.explained[why] += 1
            continue
        verdict.unexplained.append(change)
        verdict.text.append("\n".join([f"no cause: {change}", *_nearest(change, candidates)]))
    return verdict


def _nearest(change: Change, candidates: Iterable[Cause]) -> Iterator[str]:
    """What comes closest, for people: with how many milliseconds it was decided before the change, or after it."""
    by_distance = sorted(candidates, key=lambda cause: abs(cause.decided - change.at))[:NEAREST]
    if not by_distance:
        yield "    nobody ever asked for anything of it in this boot"
    for cause in by_distance:
        apart = (change.at - cause.decided) / 1e6
        when = f"{apart:.1f} ms before it" if apart >= 0 else f"{-apart:.1f} ms after it"
        wanted = "anything" if cause.value is None else cause.value or "gone"
        ended = "no end" if cause.ended == NEVER else f"ended {(cause.ended - cause.decided) / 1e6:.1f} ms later"
        yield f"    {cause.by}, {when}: {cause.thing or 'everything'} {wanted}; {ended}"


# ---- what the onlooker wrote


@dataclass(frozen=True)
class Clock:
    """Where wall time and monotonic time met."""

    wall_ns: int
    boot: str
    at: int


@dataclass
class Seen:
    """What the onlookers of one director wrote in all its boots."""

    changes: list[Change] = field(default_factory=list)
    clocks: list[Clock] = field(default_factory=list)
    deaf: int = 0
    """How often the kernel told more than could be heard: changes are missing then."""

    def read(self, lines: Iterable[list[Any]], own: Iterable[str]) -> None:
        """One boot; its first line is what it began with, and a kernel that has just booted has nothing but its `own`
        addresses."""
        ignored = frozenset(own)
        boot, leases, table = "", dict[str, int](), dict[str, str]()
        for line in lines:
            match line:
                case ["began", at, boot_id, wall_ns, addresses, now]:
                    boot = boot_id
                    self.clocks.append(Clock(wall_ns, boot, at))
                    for address in addresses:
                        if address not in ignored:
                            self.changes.append(Change(boot, 0, at, address, HELD))
                            leases[address] = NEVER
                    table = self._table(boot, 0, at, {}, now)
                case ["held", since, at, address, valid_s] if address not in ignored:
                    value, before = (RENEWED, HELD) if address in leases else (HELD, "")
                    self.changes.append(Change(boot, since, at, address, value, before))
                    leases[address] = NEVER if valid_s is None else since + valid_s * SECOND
                case ["gone", since, at, address] if address not in ignored:
                    ends = leases.pop(address, NEVER)
                    self.changes.append(Change(boot, since, at, address, "", HELD, lease_ends=ends))
                case ["table", since, at, now]:
                    table = self._table(boot, since, at, table, now)
                case ["alive", at, wall_ns]:
                    self.clocks.append(Clock(wall_ns, boot, at))
                case ["deaf", _]:
                    self.deaf += 1

    def _table(self, boot: str, since: int, at: int, before: dict[str, str], now: dict[str, Any]) -> dict[str, str]:
        flat = {service: scheduler for service, (scheduler, _) in now.items()}
        for service, (_, destinations) in now.items():
            flat |= {f"{destination} of {service}": value for destination, value in destinations.items()}
        for thing in sorted(before.keys() | flat.keys()):
            if before.get(thing) != flat.get(thing):
                self.changes.append(Change(boot, since, at, thing, flat.get(thing, ""), before.get(thing, "")))
        return flat

    def moment(self, wall_ns: int) -> tuple[str, int]:
        """(boot, monotonic time) of a wall time."""
        last = max((c for c in self.clocks if c.wall_ns <= wall_ns), key=lambda c: c.wall_ns, default=None)
        return ("", 0) if last is None else (last.boot, last.at + wall_ns - last.wall_ns)


# ---- what the journal and the log say


@dataclass
class Life:
    """One life of the daemon, as far as the journal has it."""

    boot: str
    first_at: int = 0
    last_seq: int = 0
    open: dict[int, tuple[int, int, Action]] = field(default_factory=dict)
    """Actions without a result: event number, its time, the action; by the action's id."""


@dataclass
class Told:
    """What a director's journal asked for."""

    causes: list[Cause] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    lost: int = 0
    """Decisions that the log has and the journal has not."""

    def read(self, segments: Iterable[Path]) -> None:
        """All segments of a folder, oldest first."""
        run = 0
        for path in segments:
            with Journal(path) as journal:
                for entry in journal.entries(verify=False):
                    if isinstance(entry, RunRecord) and entry.run != run:
                        run = entry.run
                        self.lives.append(Life(entry.boot_id))
                    elif len(entry) == 2:
                        event, records = entry
                        self._event(event)
                        for record in records:
                            action = codec.decode_action(record.kind, record.version, record.payload, record.id)
                            self.lives[-1].open[record.id] = (event.seq, event.at_mono_ns, action)
        self._end()

    def _event(self, event: EventRecord) -> None:
        life = self.lives[-1]
        life.first_at = life.first_at or event.at_mono_ns
        life.last_seq = event.seq
        if event.action_id is None or (asked := life.open.pop(event.action_id, None)) is None:
            return
        missing: tuple[Address, ...] = ()
        if isinstance(asked[2], RenewAddresses):
            result = codec.decode_event(event.kind, event.version, event.payload, event.at_mono_ns)
            missing = result.missing if isinstance(result, ActionFinished) else ()
        self._ask(life.boot, *asked, event.at_mono_ns, missing)

    def _end(self) -> None:
        """What has no result may have been done until the next life in this boot began."""
        for number, life in enumerate(self.lives):
            for asked in life.open.values():
                self._ask(life.boot, *asked, self._next(number), ())
            life.open.clear()

    def _next(self, number: int) -> int:
        boot = self.lives[number].boot
        return next((life.first_at for life in self.lives[number + 1 :] if life.boot == boot and life.first_at), NEVER)

    def _ask(self, boot: str, seq: int, decided: int, action: Action, ended: int, missing: tuple[Address, ...]) -> None:
        for thing, value in asked_for(action, missing):
            by = f"event {seq} {codec.kind_of(action)} (action {action.id})"
            self.causes.append(Cause(boot, decided, ended, thing, value, by))

    def hear(self, log: Iterable[str], seen: Seen, patience_ns: int) -> None:
        """Add what only the log says. `read` comes first; `patience_ns` is the journal's."""
        for line in log:
            if found := RELEASED.match(line):
                boot, at = seen.moment(_wall_ns(found[1]))
                ended = next((life.first_at for life in self.lives if life.boot == boot and life.first_at > at), NEVER)
                by = f"supervisor: {found[2]}"
                self.causes.append(Cause(boot, at - LOG_ROUNDS_NS, ended, EVERYTHING, "", by, Why.RELEASE))
            elif found := DECIDED.match(line):
                self._decided(*seen.moment(_wall_ns(found[1])), int(found[2]), found[3], patience_ns)

    def _decided(self, boot: str, at: int, seq: int, reason: str, patience_ns: int) -> None:
        """A decision by the log; one that the journal has as well says nothing new."""
        late = LATE.match(reason)
        seq, began = (int(late[1]), at - LOG_LATE_NS) if late else (seq, at + patience_ns - LOG_ROUNDS_NS)
        lived = [number for number, life in enumerate(self.lives) if life.boot == boot and 0 < life.first_at <= at]
        if lived and seq <= self.lives[lived[-1]].last_seq:
            return
        self.lost += not late
        ended = self._next(lived[-1]) if lived else NEVER
        by = f"log: event {seq}, {reason[:60]}"
        self.causes.append(Cause(boot, began, ended, EVERYTHING, None, by, Why.LATE_DISK))


def asked_for(action: Action, missing: tuple[Address, ...] = ()) -> Iterator[tuple[str, str]]:
    """(thing, value) of each change that an action may make; `missing` is what its result, if any, said."""
    match action:
        case AddAddress():
            yield name(action.address), HELD
            yield name(action.address), RENEWED  # it was there already
        case RemoveAddress():
            yield name(action.address), ""
        case RenewAddresses():
            yield from ((name(address), RENEWED) for address in action.addresses)
            for address in missing:  # perhaps renewed too late: taken anew, and given back at once
                yield name(address), HELD
                yield name(address), ""
        case ProgramIpvs():
            yield from map(_programmed, action.operations)


def _programmed(operation: Operation) -> tuple[str, str]:
    service, destination = operation.service, operation.destination
    if destination is None:
        return service.key, "" if operation.verb is Verb.DELETE_SERVICE else service.scheduler
    thing = f"{destination.key} of {service.key}"
    if operation.verb is Verb.DELETE_DESTINATION:
        return thing, ""
    return thing, f"{FORWARDING[destination.forwarding]} {destination.weight}"


def name(address: Address) -> str:
    """As the onlooker names it."""
    return f"{address.ip}/{address.prefix}"


def _wall_ns(text: str) -> int:
    """Of `2026-11-25 03:07:11,123`, local time."""
    seconds, _, milliseconds = text.partition(",")
    return int(time.mktime(time.strptime(seconds, "%Y-%m-%d %H:%M:%S"))) * SECOND + int(milliseconds) * 1_000_000
