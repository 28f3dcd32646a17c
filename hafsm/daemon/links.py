"""Heartbeat links: the same signed bytes out on every one, authentic messages in from any.

Sources: heartbeat 3 media (bcast, ucast, mcast and their IPv6 relatives, bound to their device; serial in classic form)
and its history of 500 sent messages. What is refused is counted and reported at most once a second (law L9).
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import ipaddress
import logging
import os
import socket
import struct
import termios
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hafsm.config.model import Bcast, Mcast, Mcast6, Medium, Serial, Ucast, Ucast6
from hafsm.core.actions import ResendMessages, SendMessage
from hafsm.core.events import DatagramsRefused, Event, LinkChanged
from hafsm.core.settings import MILLISECOND, NodeName
from hafsm.daemon.clock import wall_ns
from hafsm.errors import PeerError
from hafsm.wire.auth import KeyRing
from hafsm.wire.message import Envelope, Message, build, decode, encode, encode_classic, event_of, read_envelope
from hafsm.wire.stream import ClassicStream
from hafsm.wire.window import ReplayWindow

log = logging.getLogger("hafsm.links")

HISTORY = 500
"""Sent messages kept for retransmission (heartbeat's number)."""
RESEND_PAUSE_NS = 240 * MILLISECOND
"""heartbeat sends nothing again more often."""
DATAGRAMS_AT_ONCE = 256
"""Read from one socket before the loop looks at anything else; a flood cannot hold it."""
DATAGRAM_LIMIT = 65536
REOPEN_AFTER_S = 1.0
REPORT_REFUSED_AFTER_S = 1.0
_SIOCGIFBRDADDR = 0x8919
_LOW_DELAY = 0x10
"""heartbeat's type of service (RFC 1349); for IPv6 the traffic class."""
_ZERO_UUID = bytes(16)


class Transport:
    """One link. Opening may fail and is tried again; nothing here blocks."""

    def __init__(self, medium: Medium, port: int, listen: str) -> None:
        """`listen`: the address to bind; empty, or of the other family: all addresses."""
        self.medium = medium
        self.port = medium.port if isinstance(medium, Mcast) else port
        self.listen = listen
        self.sock: socket.socket | None = None
        self.tty = -1
        self.stream: ClassicStream | None = None

    @property
    def serial(self) -> bool:
        return isinstance(self.medium, Serial)

    def fileno(self) -> int:
        return self.sock.fileno() if self.sock is not None else self.tty

    def open(self, ring: KeyRing) -> None:
        """Raises OSError."""
        if isinstance(self.medium, Serial):
            self.tty = _open_tty(self.medium.device, self.medium.baud)
            self.stream = ClassicStream(ring)
            return
        family = socket.AF_INET6 if isinstance(self.medium, Ucast6 | Mcast6) else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.medium.interface.encode())
            if isinstance(self.medium, Ucast6 | Mcast6):
                self._prepare6(sock, self.medium)
            else:
                self._prepare(sock, self.medium)
        except OSError:
            sock.close()
            raise
        self.sock = sock

    def _prepare(self, sock: socket.socket, medium: Bcast | Ucast | Mcast) -> None:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _LOW_DELAY)
        if isinstance(medium, Bcast):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_DONTROUTE, 1)
        elif isinstance(medium, Mcast):
            index = socket.if_nametoindex(medium.interface)
            group = struct.pack("=4s4si", socket.inet_aton(medium.group), bytes(4), index)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, group)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, medium.ttl)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, medium.loop)
        sock.bind((self.listen if "." in self.listen else "0.0.0.0", self.port))

    def _prepare6(self, sock: socket.socket, medium: Ucast6 | Mcast6) -> None:
        # Without V6ONLY this socket would take the port of the IPv4 media too.
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _LOW_DELAY)
        if isinstance(medium, Mcast6):
            index = socket.if_nametoindex(medium.interface)
            group = socket.inet_pton(socket.AF_INET6, medium.group) + struct.pack("=I", index)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, medium.ttl)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, medium.loop)
        sock.bind((self.listen if ":" in self.listen else "::", self.port))

    def send(self, datagram: bytes, classic: bytes) -> None:
        """Raises OSError; a full buffer drops the message (heartbeats are unreliable by nature)."""
        try:
            if self.tty >= 0:
                os.write(self.tty, classic)
            elif self.sock is not None:
                self.sock.sendto(datagram, self._target(self.sock))
            else:
                raise OSError(errno.ENOTCONN, "not open")
        except BlockingIOError:
            pass

    def _target(self, sock: socket.socket) -> tuple[str, int]:
        """Where this medium sends. A socket bound to its device needs no zone for a link-local address."""
        match self.medium:
            case Ucast(host=host):
                return host, self.port
            case Mcast(group=group):
                return group, self.port
            case Bcast(interface=interface):
                request = struct.pack("256s", interface.encode()[:15])
                answer = fcntl.ioctl(sock.fileno(), _SIOCGIFBRDADDR, request)
                return str(ipaddress.IPv4Address(answer[20:24])), self.port
            case _:
                raise OSError(errno.EINVAL, "a serial line has no address")

    def receive(self) -> bytes:
        """Raises BlockingIOError when there is nothing, OSError when the link is broken."""
        if self.sock is not None:
            return self.sock.recv(DATAGRAM_LIMIT)
        data = os.read(self.tty, 4096)
        if not data:
            raise OSError(errno.EIO, "hung up")
        return data

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()
            self.sock = None
        if self.tty >= 0:
            os.close(self.tty)
            self.tty = -1


class Links:
    """All links of this node."""

    def __init__(
        self,
        media: Sequence[Medium],
        names: Sequence[str],
        *,
        port: int,
        listen: str,
        ring: KeyRing,
        me: NodeName,
        nodes: Sequence[NodeName],
        ttl: int,
        uuid: bytes,
        generation: int,
        heard: Mapping[str, int],
        on_generation: Callable[[NodeName, int], None],
        submit: Callable[[Event], None],
        clock: Callable[[], int],
    ) -> None:
        """`names` is `Settings.links`; several media may share one link.

        `heard`: the newest generation of each node that an earlier life heard; older ones are refused. `on_generation`
        is told of every newer one.
        """
        self._transports = [Transport(medium, port, listen) for medium in media]
        self._link = [names.index(medium.name) for medium in media]
        self._broken: dict[int, str] = {}
        self._ring = ring
        self._me = me
        self._nodes = frozenset(nodes)
        self._ttl = ttl
        self._uuid = uuid
        self._generation = generation
        self._heard = dict(heard)
        self._on_generation = on_generation
        self._submit = submit
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._history: OrderedDict[int, tuple[bytes, bytes]] = OrderedDict()
        self._resent: dict[int, int] = {}
        """When each of them was last sent again."""
        self._windows: dict[tuple[str, int], ReplayWindow] = {}
        self._peer_uuid: dict[str, bytes] = {}
        self._refused: Counter[str] = Counter()
        self._refused_timer: asyncio.TimerHandle | None = None
        self._has_serial = any(t.serial for t in self._transports)
        self._closed = False

    def open(self) -> None:
        """Open every link; those that cannot be opened are tried again each second and said so."""
        for index in range(len(self._transports)):
            self._open(index)

    def close(self) -> None:
        self._closed = True
        if self._refused_timer is not None:
            self._refused_timer.cancel()
        for transport in self._transports:
            if transport.fileno() >= 0:
                self._loop.remove_reader(transport.fileno())
            transport.close()

    def _open(self, index: int) -> None:
        if self._closed:
            return
        transport = self._transports[index]
        try:
            transport.open(self._ring)
        except OSError as error:
            self._fails(index, error)
            return
        self._loop.add_reader(transport.fileno(), self._readable, index)

    def _fails(self, index: int, error: OSError) -> None:
        """Close the link and open it again in a second; report the change once."""
        transport = self._transports[index]
        if transport.fileno() >= 0:
            self._loop.remove_reader(transport.fileno())
        transport.close()
        if not self._closed:
            self._loop.call_later(REOPEN_AFTER_S, self._open, index)
        detail = error.strerror or str(error)
        if index not in self._broken:
            self._broken[index] = detail
            # Not from inside `send`: that runs while an event is being folded.
            self._loop.call_soon(self._report_link, index, False, detail)

    def _works(self, index: int) -> None:
        if self._broken.pop(index, None) is not None:
            self._loop.call_soon(self._report_link, index, True, "")

    def _report_link(self, index: int, working: bool, detail: str) -> None:
        self._submit(LinkChanged(at=self._clock(), link=self._link[index], working=working, detail=detail))

    # ---- out

    def send(self, action: SendMessage) -> None:
        """Sign once, send on every link, remember for retransmission."""
        wall = wall_ns()
        message = build(
            action.kind,
            node=self._me,
            uuid=self._uuid,
            generation=action.generation,
            sequence=action.sequence,
            wall_s=wall // 1_000_000_000,
            load=_load(),
            ttl=self._ttl,
            fields=action.fields,
            dest=action.dest,
            dest_uuid=self._peer_uuid.get(action.dest),
        )
        self.broadcast(message, action.sequence)

    def broadcast(self, message: Message, sequence: int) -> None:
        """Encode and send on every link."""
        datagram = encode(message, self._ring)
        classic = encode_classic(message, self._ring) if self._has_serial else b""
        if sequence:
            self._history[sequence] = (datagram, classic)
            if len(self._history) > HISTORY:
                gone, _ = self._history.popitem(last=False)
                self._resent.pop(gone, None)
        self._out(datagram, classic)

    def _out(self, datagram: bytes, classic: bytes) -> None:
        for index, transport in enumerate(self._transports):
            if transport.fileno() < 0:
                continue
            try:
                transport.send(datagram, classic)
            except OSError as error:
                self._fails(index, error)
            else:
                self._works(index)

    def resend(self, action: ResendMessages) -> None:
        """The same bytes again; a NAK for what the history has no longer."""
        for sequence in range(action.first, action.last + 1):
            now = self._clock()
            if now - self._resent.get(sequence, -RESEND_PAUSE_NS) < RESEND_PAUSE_NS:
                continue
            stored = self._history.get(sequence)
            if stored is not None:
                self._resent[sequence] = now
                self._out(*stored)
                continue
            self.broadcast(
                build(
                    "NS_nak_rexmit",
                    node=self._me,
                    uuid=self._uuid,
                    generation=self._generation,
                    sequence=0,
                    wall_s=wall_ns() // 1_000_000_000,
                    load="",
                    ttl=self._ttl,
                    fields=(("firstseq", f"{sequence:x}"), ("info", "seqno too low")),
                    dest=action.dest,
                    dest_uuid=self._peer_uuid.get(action.dest),
                ),
                0,
            )

    # ---- in

    def _readable(self, index: int) -> None:
        transport = self._transports[index]
        for _ in range(DATAGRAMS_AT_ONCE):
            try:
                data = transport.receive()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ECONNREFUSED:
                    continue  # nobody listens at a ucast peer: silence says it better
                self._fails(index, error)
                return
            if transport.stream is None:
                self._datagram(index, data)
                continue
            for item in transport.stream.feed(data):
                if isinstance(item, PeerError):
                    self._refuse(item.reason)
                else:
                    self._message(index, item)

    def _datagram(self, index: int, data: bytes) -> None:
        try:
            message = decode(data, self._ring)
        except PeerError as error:
            self._refuse(error.reason)
            return
        self._message(index, message)

    def _message(self, index: int, message: Message) -> None:
        try:
            envelope = read_envelope(message)
        except PeerError as error:
            self._refuse(error.reason)
            return
        node = NodeName(envelope.node.lower())
        if node == self._me:
            return
        if node not in self._nodes:
            self._refuse("unknown_node")
            return
        link = self._link[index]
        window = self._windows.get((node, index))
        if window is None:
            window = self._windows[node, index] = ReplayWindow(self._heard.get(node, 0))
        verdict = window.accept(envelope.generation, envelope.sequence, status=envelope.kind == "status")
        if not verdict:
            self._refuse(verdict.value)
            return
        if envelope.generation > self._heard.get(node, 0):
            self._heard[node] = envelope.generation
            self._on_generation(node, envelope.generation)
        if envelope.uuid is not None and envelope.uuid != _ZERO_UUID:
            self._peer_uuid[node] = envelope.uuid
        self._submit(self._event(envelope, node, link))

    def _event(self, envelope: Envelope, node: NodeName, link: int) -> Event:
        return event_of(envelope, at=self._clock(), link=link, node=node, for_me=self._for_me(envelope))

    def _for_me(self, envelope: Envelope) -> bool:
        """heartbeat's rule: a uuid that is not all zero decides, else the name, else it is for everybody."""
        if envelope.dest_uuid is not None and envelope.dest_uuid != _ZERO_UUID:
            return envelope.dest_uuid == self._uuid
        return not envelope.dest or envelope.dest.lower() == self._me

    def _refuse(self, reason: str) -> None:
        self._refused[reason] += 1
        if self._refused_timer is None:
            self._refused_timer = self._loop.call_later(REPORT_REFUSED_AFTER_S, self._report_refused)

    def _report_refused(self) -> None:
        self._refused_timer = None
        counts = tuple(sorted(self._refused.items()))
        self._refused.clear()
        self._submit(DatagramsRefused(at=self._clock(), counts=counts))


def _load() -> str:
    """The text of the kernel's loadavg line (heartbeat's `ld`); a file of the kernel's, no disk."""
    try:
        return Path("/proc/loadavg").read_text().strip()
    except OSError:
        return "0.00 0.00 0.00 0/0 0"


def _open_tty(device: str, baud: int) -> int:
    """8N1, raw, hardware flow control off: a cable without RTS/CTS must not hang the daemon."""
    tty = os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        attributes = termios.tcgetattr(tty)
        speed = getattr(termios, f"B{baud}")
        attributes[0] = termios.IGNBRK | termios.IGNPAR
        attributes[1] = 0
        attributes[2] = termios.CS8 | termios.CREAD | termios.CLOCAL
        attributes[3] = 0
        attributes[4] = attributes[5] = speed
        termios.tcsetattr(tty, termios.TCSANOW, attributes)
        termios.tcflush(tty, termios.TCIOFLUSH)
    except (OSError, AttributeError, termios.error) as error:
        os.close(tty)
        raise OSError(errno.EINVAL, f"{device} cannot be set to {baud} baud: {error}") from error
    return tty
