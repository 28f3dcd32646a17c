"""IPVS values to and from the attributes of generic netlink (Linux's include/uapi/linux/ip_vs.h). Opens no socket."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, ClassVar

from hafsm.core.ipvs import DestinationEntry, Operation, ServiceEntry, Verb
from hafsm.core.settings import Forwarding, SyncDaemon, SyncRole
from hafsm.errors import KernelError
from hafsm.kernel.rules import FLAG_BITS, SERVICE_VERBS, as_kept, is_v6, kept_netmask, service_error

CMD_ATTR_SERVICE, CMD_ATTR_DEST, CMD_ATTR_DAEMON = 1, 2, 3
SVC_AF, SVC_PROTOCOL, SVC_ADDR, SVC_PORT, SVC_FWMARK, SVC_SCHED, SVC_FLAGS, SVC_TIMEOUT, SVC_NETMASK = range(1, 10)
DEST_ADDR, DEST_PORT, DEST_FWD, DEST_WEIGHT, DEST_UPPER, DEST_LOWER = range(1, 7)
DEST_ADDR_FAMILY = 11
DAEMON_STATE, DAEMON_INTERFACE, DAEMON_SYNC_ID = 1, 2, 3
FLAG_PERSISTENT, FLAG_ONE_PACKET = 1, 4
FLAGS_OURS = FLAG_PERSISTENT | FLAG_ONE_PACKET | 0x38
"""All but 2, "hashed", which is the kernel's own."""
FLAG_NAMES = {FLAG_BITS[name]: name for name in ("flag-1", "flag-2", "flag-3")}

FORWARDING = {Forwarding.MASQ: 0, Forwarding.IPIP: 2, Forwarding.GATE: 3}
FORWARDING_SHOWN = {0: Forwarding.MASQ, 1: Forwarding.GATE, 2: Forwarding.IPIP, 3: Forwarding.GATE}
"""1 is IP_VS_CONN_F_LOCALNODE. The kernel masks the other flags out; no tool makes a real server of 4, "bypass"."""
PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": socket.IPPROTO_SCTP}
PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}
SYNC_STATES = {SyncRole.MASTER: 1, SyncRole.BACKUP: 2}
SYNC_ROLES = {state: role for role, state in SYNC_STATES.items()}

_ATTRIBUTE = struct.Struct("=HH")
_U16, _U32, _I32, _BE16 = struct.Struct("=H"), struct.Struct("=I"), struct.Struct("=i"), struct.Struct("!H")
_DESTINATION: dict[int, struct.Struct] = {
    family: struct.Struct(f"=HH HHH2x HH{octets}s HH2s2x HHI HHi HHI HHI")
    for family, octets in ((socket.AF_INET, 4), (socket.AF_INET6, 16))
}
"""A destination's attributes in their nest, by family: ADDR_FAMILY, ADDR, PORT, FWD, WEIGHT, UPPER, LOWER."""


def request_of(operation: Operation) -> bytes:
    """The attributes of a request.

    Raises:
        KernelError: with the errno the kernel would answer, for values that no request can carry.
    """
    service, destination = operation.service, operation.destination
    try:
        if operation.verb is Verb.DELETE_SERVICE:
            return named_service(service)
        if operation.verb in SERVICE_VERBS:
            return pack(CMD_ATTR_SERVICE, _service_key(*service.place) + _service_details(service))
        if destination is None:
            raise ValueError("no destination")
        return named_service(service) + _packed_destination(destination)
    except struct.error as error:
        raise KernelError(str(operation), errno.ERANGE, str(error)) from error
    except (OSError, ValueError) as error:
        raise KernelError(str(operation), errno.EINVAL, str(error)) from error


def named_service(service: ServiceEntry) -> bytes:
    """The attribute that names a service."""
    return pack(CMD_ATTR_SERVICE, _service_key(*service.place))


@lru_cache(maxsize=16)
def _service_key(protocol: str, address: str, port: int, mark: int) -> bytes:
    """What identifies a service. A firewall mark is IPv4 unless its address is `::`."""
    family = _family(address)
    if protocol == "fwm":
        if not mark:
            raise ValueError("firewall mark 0 marks nothing")
        return pack(SVC_AF, _U16.pack(family)) + pack(SVC_FWMARK, _U32.pack(mark))
    number = PROTOCOLS.get(protocol)
    if number is None:
        if not protocol.isdecimal():
            raise KernelError(f"{protocol}:{address}:{port}", errno.EPROTONOSUPPORT)
        number = int(protocol)
    return (
        pack(SVC_AF, _U16.pack(family))
        + pack(SVC_PROTOCOL, _U16.pack(number))
        + pack(SVC_ADDR, socket.inet_pton(family, address))
        + pack(SVC_PORT, _BE16.pack(port))
    )


def _service_details(service: ServiceEntry) -> bytes:
    """The rest of a service. What somebody else set and `ServiceEntry` has no word for stays, its persistence engine
    excepted, which an edit takes away."""
    if error := service_error(service):
        raise KernelError(service.key, error)
    flags = FLAG_PERSISTENT if service.persistent_s else 0
    if service.one_packet:
        flags |= FLAG_ONE_PACKET
    for name in service.scheduler_flags:
        flags |= FLAG_BITS[name]
    mask = kept_netmask(service)
    v6 = is_v6(service.address)
    netmask = _U32.pack(int(mask or "128")) if v6 else socket.inet_pton(socket.AF_INET, mask or "255.255.255.255")
    return (
        pack(SVC_SCHED, service.scheduler.encode() + b"\0")
        + pack(SVC_FLAGS, _U32.pack(flags) + _U32.pack(FLAGS_OURS))
        + pack(SVC_TIMEOUT, _U32.pack(service.persistent_s))
        + pack(SVC_NETMASK, netmask)
    )


def _packed_destination(destination: DestinationEntry) -> bytes:
    family = _family(destination.address)
    packed = socket.inet_pton(family, destination.address)
    layout = _DESTINATION[family]
    # Each attribute is its length, its type and its value.
    return layout.pack(
        *(layout.size, CMD_ATTR_DEST),
        *(6, DEST_ADDR_FAMILY, family),
        *(4 + len(packed), DEST_ADDR, packed),
        *(6, DEST_PORT, _BE16.pack(destination.port)),
        *(8, DEST_FWD, FORWARDING[destination.forwarding]),
        *(8, DEST_WEIGHT, destination.weight),
        *(8, DEST_UPPER, destination.upper_threshold),
        *(8, DEST_LOWER, destination.lower_threshold),
    )


def service_of(attributes: dict[int, memoryview]) -> ServiceEntry:
    family = _U16.unpack(attributes[SVC_AF])[0]
    mark = _U32.unpack(attributes[SVC_FWMARK])[0] if SVC_FWMARK in attributes else 0
    flags = _U32.unpack_from(attributes[SVC_FLAGS])[0]
    if mark:
        protocol, address, port = "fwm", "::" if family == socket.AF_INET6 else "", 0
    else:
        number = _U16.unpack(attributes[SVC_PROTOCOL])[0]
        protocol = PROTOCOL_NAMES.get(number, str(number))
        address = _address(family, attributes[SVC_ADDR])
        port = _BE16.unpack(attributes[SVC_PORT])[0]
    netmask = attributes[SVC_NETMASK]
    shown = str(_U32.unpack(netmask)[0]) if family == socket.AF_INET6 else socket.inet_ntoa(netmask)
    service = ServiceEntry(
        protocol=protocol,
        address=address,
        port=port,
        mark=mark,
        scheduler=bytes(attributes[SVC_SCHED]).rstrip(b"\0").decode(errors="replace"),
        scheduler_flags=tuple(name for bit, name in FLAG_NAMES.items() if flags & bit),
        one_packet=bool(flags & FLAG_ONE_PACKET),
        persistent_s=_U32.unpack(attributes[SVC_TIMEOUT])[0] if flags & FLAG_PERSISTENT else 0,
        netmask=shown,
    )
    return as_kept(service)


class DestinationReader:
    """Reads destinations. One kernel puts an attribute at the same place of every answer, but which depends on its
    version: the places are learnt from the first answer, and looked at in each."""

    WANTED: ClassVar = {
        DEST_ADDR: "16s",
        DEST_PORT: "2s",
        DEST_FWD: "I",
        DEST_WEIGHT: "i",
        DEST_UPPER: "I",
        DEST_LOWER: "I",
        DEST_ADDR_FAMILY: "H",
    }

    def __init__(self) -> None:
        self._fields = struct.Struct("")
        self._headers: tuple[int, ...] = ()
        self._places: tuple[int, ...] = ()
        """For each of `WANTED`, where its value stands in what `_fields` unpacks."""

    def destination(self, answer: memoryview, family: int) -> DestinationEntry:
        """The destination of an answer, in a service of `family` (kernels before 3.18 do not tell its own).

        Raises:
            KernelError: the answer lacks something.
        """
        found = self._unpack(answer)
        if found is None:
            self._learn(answer)
            found = self._unpack(answer)
        if found is None:
            raise KernelError("read the IPVS table", errno.EBADMSG, "a destination without all its attributes")
        address, port, forwarding, weight, upper, lower, *own = found
        if own:
            (family,) = own
        if family not in _DESTINATION:
            raise KernelError("read the IPVS table", errno.EAFNOSUPPORT, f"a destination of address family {family}")
        return DestinationEntry(
            address=_address(family, address),
            port=port[0] << 8 | port[1],
            forwarding=FORWARDING_SHOWN.get(forwarding, Forwarding.GATE),
            weight=weight,
            upper_threshold=upper,
            lower_threshold=lower,
        )

    def _unpack(self, answer: memoryview) -> list[Any] | None:
        """The values of `WANTED`; None where the answer does not have them at the places learnt."""
        start = _ATTRIBUTE.size  # of the nest, which is all there is in an answer
        if not self._headers or len(answer) < start + self._fields.size:
            return None
        unpacked = self._fields.unpack_from(answer, start)
        if unpacked[::2] != self._headers:
            return None
        return [unpacked[place] for place in self._places]

    def _learn(self, answer: memoryview) -> None:
        """Find the places; every second field is an attribute's header, the others are values."""
        self._headers = ()
        nest = next((value for kind, value in attributes_of(answer) if kind == CMD_ATTR_DEST), None)
        if nest is None:
            return
        layout, end, headers, order = "=", 0, [], []
        for kind, at, length in _placed(nest):
            value = self.WANTED.get(kind)
            if value is None or length != _ATTRIBUTE.size + struct.calcsize(f"={value}"):
                continue
            layout += f"{at - end}xI{value}"
            end = at + length
            headers.append(_U32.unpack_from(nest, at)[0])
            order.append(kind)
        if self.WANTED.keys() - {DEST_ADDR_FAMILY} <= set(order):
            self._fields, self._headers = struct.Struct(layout), tuple(headers)
            self._places = tuple(2 * order.index(kind) + 1 for kind in self.WANTED if kind in order)


def packed_daemon(daemon: SyncDaemon) -> bytes:
    return pack(
        CMD_ATTR_DAEMON,
        pack(DAEMON_STATE, _U32.pack(SYNC_STATES[daemon.role]))
        + pack(DAEMON_INTERFACE, daemon.interface.encode() + b"\0")
        + pack(DAEMON_SYNC_ID, _U32.pack(daemon.sync_id)),
    )


def sync_daemon_of(attributes: dict[int, memoryview]) -> SyncDaemon:
    return SyncDaemon(
        role=SYNC_ROLES[_U32.unpack(attributes[DAEMON_STATE])[0]],
        interface=bytes(attributes[DAEMON_INTERFACE]).rstrip(b"\0").decode(),
        sync_id=_U32.unpack(attributes[DAEMON_SYNC_ID])[0],
    )


def _family(address: str) -> int:
    return socket.AF_INET6 if is_v6(address) else socket.AF_INET


def _address(family: int, union: bytes | memoryview) -> str:
    """Text of a `union nf_inet_addr`, which is 16 bytes long for IPv4 too."""
    return socket.inet_ntop(family, union[:16] if family == socket.AF_INET6 else union[:4])


def pack(kind: int, value: bytes) -> bytes:
    """One netlink attribute, padded to 4 bytes."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def attributes_of(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Type (without its two flag bits) and value of each attribute."""
    for kind, at, length in _placed(data):
        yield kind, data[at + _ATTRIBUTE.size : at + length]


def _placed(data: memoryview) -> Iterator[tuple[int, int, int]]:
    """Type, place and length, header included, of each attribute that is there as a whole."""
    start = 0
    while len(data) - start >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if not _ATTRIBUTE.size <= length <= len(data) - start:
            return
        yield kind & 0x3FFF, start, length
        start += length + 3 & ~3
