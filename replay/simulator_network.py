"""The heartbeat network between two simulated directors: it loses, delays, repeats, reorders, corrupts and partitions.

Status messages stay values on their way, for speed; every other kind is signed, written, read and verified with
`hafsm.wire`, as is every resent message. The receiver judges each copy with the daemon's own replay window.
"""

from __future__ import annotations

import random
from collections import Counter, OrderedDict
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from hafsm.core.actions import ResendMessages, SendMessage
from hafsm.core.events import DatagramsRefused, Event, HeartbeatReceived
from hafsm.core.settings import MILLISECOND, SECOND
from hafsm.errors import PeerError
from hafsm.wire.auth import Key, KeyRing
from hafsm.wire.message import Envelope, build, decode, encode, event_of, read_envelope
from hafsm.wire.window import ReplayWindow

if TYPE_CHECKING:
    from replay.simulator_machine import Machine

LATENCY_NS = 200_000
HISTORY = 500
FLICKERS = 15
"""Per cent of the datagrams that pass in a network that counts as partitioned. A join that asks for 10 s, four times a
second, in a network that passes one in ten, is answered in one of three cases."""
RESEND_PAUSE_NS = 240 * MILLISECOND
"""As the daemon's links have it (heartbeat's numbers)."""

_RING = KeyRing([Key(1, "md5", b"simulated")], 1)


class Packet(NamedTuple):
    """One message on its way."""

    sender: int
    generation: int
    sequence: int
    kind: str
    fields: tuple[tuple[str, str], ...]
    dest: str
    sent_at: int
    """True time."""
    datagram: bytes
    """Empty for a status message that travels as a value."""


class Network:
    """Both directions of every link. Cuts and troubles are counted, so that faults may overlap."""

    def __init__(self, seed: int, links: int) -> None:
        self.cuts: Counter[tuple[int, int]] = Counter()
        """(sender, link) → cuts in force."""
        self.loss: list[int] = []
        """Per cent, one entry for each trouble in force; likewise the others."""
        self.slow_ms: list[int] = []
        self.doubled: list[int] = []
        self.corrupt: list[int] = []
        self.links = links
        self._rng = tuple(random.Random(f"network {seed} {sender}") for sender in (0, 1))

    @property
    def troubled(self) -> bool:
        return bool(self.loss or self.slow_ms or self.doubled or self.corrupt)

    @property
    def flickers(self) -> bool:
        """Next to nothing passes: heartbeats now and then, but hardly a question and its answer."""
        passing = prod((1 - per_cent / 100 for per_cent in self.loss), start=1.0)
        return passing * 100 <= FLICKERS

    def carry(self, sender: Machine, receiver: Machine, packet: Packet) -> None:
        """Put a packet on every link."""
        world = sender.world
        for link in range(self.links):
            if self.cuts[packet.sender, link] or sender.send_fails:
                continue
            if not self.troubled:
                world.after(LATENCY_NS, receiver.arrive, link, packet)
                continue
            rng = self._rng[packet.sender]
            if any(rng.randrange(100) < per_cent for per_cent in self.loss):
                continue
            copies = 2 if any(rng.randrange(100) < per_cent for per_cent in self.doubled) else 1
            for _ in range(copies):
                delay = LATENCY_NS + sum(rng.randrange(limit * MILLISECOND) for limit in self.slow_ms)
                arriving = packet
                if any(rng.randrange(100) < per_cent for per_cent in self.corrupt):
                    arriving = _damaged(rng, packet, sender)
                world.after(delay, receiver.arrive, link, arriving)


def _damaged(rng: random.Random, packet: Packet, sender: Machine) -> Packet:
    datagram = bytearray(packet.datagram or written(packet, sender.name, sender.uuid, sender.wall_s))
    datagram[rng.randrange(len(datagram))] ^= 1 << rng.randrange(8)
    return packet._replace(kind="damaged", datagram=bytes(datagram))


def written(packet: Packet, node: str, uuid: bytes, wall_s: int) -> bytes:
    """The packet as a signed datagram."""
    message = build(
        packet.kind,
        node=node,
        uuid=uuid,
        generation=packet.generation,
        sequence=packet.sequence,
        wall_s=wall_s,
        load="0.00 0.00 0.00 1/1 1",
        ttl=4,
        fields=packet.fields,
        dest=packet.dest,
    )
    return encode(message, _RING)


class Ears:
    """What the daemon's links keep for one life: history of what was sent, windows, counts of what was refused."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._history: OrderedDict[int, Packet] = OrderedDict()
        self._resent: dict[int, int] = {}
        self._windows = [ReplayWindow(machine.heard) for _ in range(machine.world.network.links)]
        self._refused: Counter[str] = Counter()

    def send(self, action: SendMessage) -> None:
        """Number, remember, carry."""
        machine = self._machine
        packet = Packet(
            machine.index,
            action.generation,
            action.sequence,
            action.kind,
            action.fields,
            action.dest,
            machine.world.now,
            b"",
        )
        if action.kind != "status":
            packet = packet._replace(datagram=written(packet, machine.name, machine.uuid, machine.wall_s))
        if packet.sequence:
            self._history[packet.sequence] = packet
            if len(self._history) > HISTORY:
                gone, _ = self._history.popitem(last=False)
                self._resent.pop(gone, None)
        machine.world.network.carry(machine, machine.peer, packet)

    def resend(self, action: ResendMessages) -> None:
        """The same bytes again; a refusal for what the history has no longer."""
        machine = self._machine
        now = machine.world.now
        for sequence in range(action.first, action.last + 1):
            if now - self._resent.get(sequence, -RESEND_PAUSE_NS) < RESEND_PAUSE_NS:
                continue
            packet = self._history.get(sequence)
            if packet is None:
                fields = (("firstseq", f"{sequence:x}"), ("info", "seqno too low"))
                packet = Packet(machine.index, machine.generation, 0, "NS_nak_rexmit", fields, action.dest, now, b"")
            else:
                self._resent[sequence] = now
            if not packet.datagram:
                packet = packet._replace(datagram=written(packet, machine.name, machine.uuid, machine.wall_s))
            machine.world.network.carry(machine, machine.peer, packet)

    def hear(self, link: int, packet: Packet) -> None:
        """Check, parse, judge, hand to the core."""
        machine = self._machine
        if packet.datagram:
            try:
                envelope = read_envelope(decode(packet.datagram, _RING))
            except PeerError as error:
                self._refuse(error.reason)
                return
            generation, sequence, kind = envelope.generation, envelope.sequence, envelope.kind
        else:
            envelope = None
            generation, sequence, kind = packet.generation, packet.sequence, packet.kind
        verdict = self._windows[link].accept(generation, sequence, status=kind == "status")
        if not verdict:
            self._refuse(verdict.value)
            return
        machine.heard = max(machine.heard, generation)
        at = machine.local_now()
        machine.fold(_event(envelope, at, link, machine) if envelope else _status(packet, at, link, machine))

    def _refuse(self, reason: str) -> None:
        if not self._refused:
            self._machine.later(SECOND, self._report)
        self._refused[reason] += 1

    def _report(self) -> None:
        counts = tuple(sorted(self._refused.items()))
        self._refused.clear()
        self._machine.fold(DatagramsRefused(at=self._machine.local_now(), counts=counts))


def _status(packet: Packet, at: int, link: int, machine: Machine) -> Event:
    fields = dict(packet.fields)
    return HeartbeatReceived(
        at=at,
        link=link,
        node=machine.peer.name,
        generation=packet.generation,
        sequence=packet.sequence,
        status=fields["st"],
        deadtime_ns=int(fields["dt"], 16) * MILLISECOND,
        journal=int(fields["hj"], 16),
        behaviour=int(fields["hv"], 16),
    )


def _event(envelope: Envelope, at: int, link: int, machine: Machine) -> Event:
    for_me = not envelope.dest or envelope.dest == machine.name
    return event_of(envelope, at=at, link=link, node=machine.peer.name, for_me=for_me)
