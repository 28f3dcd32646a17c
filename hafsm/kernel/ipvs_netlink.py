"""The IPVS table over generic netlink: attributes and numbers are those of Linux's include/uapi/linux/ip_vs.h.

Command numbers come from pyroute2. Requests are packed and answers unpacked here, because its message classes take a
third of a millisecond a request, cannot hold an IPv6 persistence mask, and wait for each answer; here up to
`BATCH_OPERATIONS` requests travel in one datagram.

Two things look different in the kernel from what was asked, and are shown as asked, so that comparing never loops:
kernels before 2.6.37 turn the forwarding of a local real server (127.0.0.1) into "local node", which is shown as
`gate`; a persistence netmask without persistence means nothing and is shown empty, as is a full one.
"""

from __future__ import annotations

import errno
import itertools
import socket
import struct
from collections.abc import Iterator, Sequence

import msgspec
from pyroute2.netlink.generic import ipvs as ip_vs

from hafsm.core.ipvs import DestinationEntry, Operation, ServiceEntry, TableEntry, Verb
from hafsm.core.settings import Forwarding, SyncDaemon, SyncRole
from hafsm.errors import KernelError
from hafsm.kernel.rules import SERVICE_VERBS, instead_of, is_v6, kept_netmask

BATCH_OPERATIONS = 64
"""Requests a datagram; their acknowledgements (1 KiB of socket buffer each) must fit the receive buffer."""
RECEIVE_BUFFER_BYTES = 1 << 20
ANSWER_TIMEOUT_S = 10.0
"""netlink answers at once; removing a service may wait for an RCU grace period."""

NETLINK_GENERIC, SOL_NETLINK, NETLINK_CAP_ACK = 16, 270, 10
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 1, 4, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME = 16, 3, 1, 2

CMD_ATTR_SERVICE, CMD_ATTR_DEST, CMD_ATTR_DAEMON = 1, 2, 3
SVC_AF, SVC_PROTOCOL, SVC_ADDR, SVC_PORT, SVC_FWMARK, SVC_SCHED, SVC_FLAGS, SVC_TIMEOUT, SVC_NETMASK = range(1, 10)
DEST_ADDR, DEST_PORT, DEST_FWD, DEST_WEIGHT, DEST_UPPER, DEST_LOWER = range(1, 7)
DEST_ADDR_FAMILY = 11
DAEMON_STATE, DAEMON_INTERFACE, DAEMON_SYNC_ID = 1, 2, 3
FLAG_PERSISTENT = 1

FORWARDING = {Forwarding.MASQ: 0, Forwarding.IPIP: 2, Forwarding.GATE: 3}
FORWARDING_SHOWN = {0: Forwarding.MASQ, 1: Forwarding.GATE, 2: Forwarding.IPIP, 3: Forwarding.GATE}
"""1 is IP_VS_CONN_F_LOCALNODE. The kernel masks the other flags out; 4, "bypass", is only ever a connection's."""
PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": socket.IPPROTO_SCTP}
PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}
SYNC_STATES = {SyncRole.MASTER: 1, SyncRole.BACKUP: 2}
SYNC_ROLES = {state: role for role, state in SYNC_STATES.items()}
COMMANDS = {
    Verb.ADD_SERVICE: ip_vs.IPVS_CMD_NEW_SERVICE,
    Verb.EDIT_SERVICE: ip_vs.IPVS_CMD_SET_SERVICE,
    Verb.DELETE_SERVICE: ip_vs.IPVS_CMD_DEL_SERVICE,
    Verb.ADD_DESTINATION: ip_vs.IPVS_CMD_NEW_DEST,
    Verb.EDIT_DESTINATION: ip_vs.IPVS_CMD_SET_DEST,
    Verb.DELETE_DESTINATION: ip_vs.IPVS_CMD_DEL_DEST,
}

_HEADER = struct.Struct("=IHHIIBBH")
"""nlmsghdr (length, type, flags, sequence, port) and genlmsghdr (command, version, reserved)."""
_MESSAGE = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_U16, _U32, _I32, _BE16 = struct.Struct("=H"), struct.Struct("=I"), struct.Struct("=i"), struct.Struct("!H")


class IpvsSocket:
    """A generic netlink socket that speaks IPVS."""

    def __init__(self) -> None:
        """
        Raises:
            KernelError: ENOENT when the kernel has no IPVS (asking makes it load the module, where it can).
        """
        self._sequence = itertools.count(1)
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_GENERIC)
        except OSError as error:
            raise KernelError("open a generic netlink socket", error.errno or errno.EIO) from error
        try:
            self._socket.bind((0, 0))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            self._socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
            self._socket.settimeout(ANSWER_TIMEOUT_S)
            self._family = self._resolve()
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def read_table(self) -> tuple[TableEntry, ...]:
        """Every virtual service of this network namespace with its destinations, in the kernel's order.

        Raises:
            KernelError: the kernel refused, or did not answer.
        """
        table = []
        for payload in self._dump(ip_vs.IPVS_CMD_GET_SERVICE, b""):
            attributes = dict(_attributes(dict(_attributes(payload))[CMD_ATTR_SERVICE]))
            service = _service(attributes)
            destinations = tuple(
                _destination(dict(_attributes(dict(_attributes(answer))[CMD_ATTR_DEST])), attributes)
                for answer in self._dump(ip_vs.IPVS_CMD_GET_DEST, _pack(CMD_ATTR_SERVICE, _service_key(service)))
            )
            table.append(TableEntry(service=service, destinations=destinations))
        return tuple(table)

    def apply_operations(self, operations: Sequence[Operation]) -> tuple[int, ...]:
        """See `interface.Kernel.apply_operations`. Adds and edits stand in for each other as `rules.INSTEAD` says.

        Raises:
            KernelError: the kernel did not answer; what was carried out is unknown.
        """
        errors: list[int] = []
        for batch in _independent(operations):
            for operation, error in zip(batch, self._send(batch), strict=True):
                errors.append(self._settle(operation, error) if error else 0)
        return tuple(errors)

    def sync_daemons(self) -> tuple[SyncDaemon, ...]:
        """See `interface.Kernel.sync_daemons`.

        Raises:
            KernelError: the kernel refused, or did not answer.
        """
        answers = self._dump(ip_vs.IPVS_CMD_GET_DAEMON, b"", "read the IPVS sync daemons")
        return tuple(
            _sync_daemon(dict(_attributes(dict(_attributes(payload))[CMD_ATTR_DAEMON]))) for payload in answers
        )

    def set_sync_daemon(self, daemon: SyncDaemon) -> None:
        """See `interface.Kernel.set_sync_daemon`. A daemon that ends waits for its thread: some milliseconds.

        The end is looked at, not acknowledged: a thread that never ran yet ends with EINTR (kthread_stop), and netlink
        answers nothing to a request that comes to EINTR (netlink_rcv_skb).

        Raises:
            KernelError: the kernel refused, or did not answer.
        """
        running = self.sync_daemons()
        others = [other for other in running if other != daemon]
        for other in others:
            number = next(self._sequence)
            self._transmit(self._message(ip_vs.IPVS_CMD_DEL_DAEMON, NLM_F_REQUEST, number, _packed_daemon(other)))
        if others:
            running = self.sync_daemons()
        for other in others:
            if other in running:
                raise KernelError(f"end the {other}", errno.EBUSY, "it still runs")
        if daemon not in running:
            self._start_sync_daemon(daemon)

    def _start_sync_daemon(self, daemon: SyncDaemon) -> None:
        number = next(self._sequence)
        errors: dict[int, int] = {}
        flags = NLM_F_REQUEST | NLM_F_ACK
        self._exchange(
            self._message(ip_vs.IPVS_CMD_NEW_DAEMON, flags, number, _packed_daemon(daemon)), {number}, errors
        )
        if errors[number]:
            raise KernelError(f"run the {daemon}", errors[number])

    def _settle(self, operation: Operation, error: int) -> int:
        """What an operation that was refused comes to."""
        try:
            instead = instead_of(operation, error)
        except KeyError:
            return error
        if instead is None:
            return 0
        return self._send([Operation(verb=instead, service=operation.service, destination=operation.destination)])[0]

    def _send(self, batch: Sequence[Operation]) -> list[int]:
        """Errnos of at most `BATCH_OPERATIONS` operations, sent as one datagram."""
        errors: dict[int, int] = {}
        numbers, datagram = [], bytearray()
        for operation in batch:
            number = next(self._sequence)
            numbers.append(number)
            try:
                payload = _request(operation)
            except KernelError as refused:
                errors[number] = refused.errno
                continue
            datagram += self._message(COMMANDS[operation.verb], NLM_F_REQUEST | NLM_F_ACK, number, payload)
        if datagram:
            self._exchange(bytes(datagram), set(numbers) - errors.keys(), errors)
        return [errors[number] for number in numbers]

    def _exchange(self, datagram: bytes, waiting: set[int], errors: dict[int, int]) -> None:
        self._transmit(datagram)
        while waiting:
            for kind, number, body in self._receive():
                if kind == NLMSG_ERROR and number in waiting:
                    errors[number] = -_I32.unpack_from(body)[0]
                    waiting.remove(number)

    def _dump(self, command: int, payload: bytes, asked: str = "read the IPVS table") -> list[memoryview]:
        """The attributes of each answer."""
        number = next(self._sequence)
        self._transmit(self._message(command, NLM_F_REQUEST | NLM_F_DUMP, number, payload))
        answers: list[memoryview] = []
        while True:
            for kind, answered, body in self._receive():
                if answered != number:
                    continue
                if kind in (NLMSG_DONE, NLMSG_ERROR):
                    error = -_I32.unpack_from(body)[0] if len(body) >= _I32.size else 0
                    if error:
                        raise KernelError(asked, error)
                    return answers
                answers.append(body[4:])

    def _resolve(self) -> int:
        """The number of the IPVS family."""
        number = next(self._sequence)
        name = _pack(CTRL_ATTR_FAMILY_NAME, ip_vs.GENL_NAME.encode() + b"\0")
        header = _HEADER.pack(
            _HEADER.size + len(name), GENL_ID_CTRL, NLM_F_REQUEST, number, 0, CTRL_CMD_GETFAMILY, 1, 0
        )
        self._transmit(header + name)
        while True:
            for kind, answered, body in self._receive():
                if answered != number:
                    continue
                if kind == NLMSG_ERROR:
                    raise KernelError("use IPVS", -_I32.unpack_from(body)[0], "the kernel does not offer it")
                return int(_U16.unpack_from(dict(_attributes(body[4:]))[CTRL_ATTR_FAMILY_ID])[0])

    def _message(self, command: int, flags: int, number: int, payload: bytes) -> bytes:
        length = _HEADER.size + len(payload)
        return _HEADER.pack(length, self._family, flags, number, 0, command, ip_vs.GENL_VERSION, 0) + payload

    def _transmit(self, datagram: bytes) -> None:
        try:
            self._socket.send(datagram)
        except OSError as error:
            raise KernelError("ask the IPVS kernel", error.errno or errno.ETIMEDOUT) from error

    def _receive(self) -> Iterator[tuple[int, int, memoryview]]:
        """Type, sequence number and body of each message of the next datagram."""
        try:
            datagram = memoryview(self._socket.recv(1 << 16))
        except TimeoutError as error:
            detail = f"no answer within {ANSWER_TIMEOUT_S:g} s"
            raise KernelError("ask the IPVS kernel", errno.ETIMEDOUT, detail) from error
        except OSError as error:
            raise KernelError("hear the IPVS kernel", error.errno or errno.EIO) from error
        while len(datagram) >= _MESSAGE.size:
            length, kind, _, number, _ = _MESSAGE.unpack_from(datagram)
            yield kind, number, datagram[_MESSAGE.size : length]
            datagram = datagram[max(length + 3 & ~3, _MESSAGE.size) :]


def _independent(operations: Sequence[Operation]) -> Iterator[list[Operation]]:
    """Cut into batches in which no operation depends on how an earlier one of the same batch is settled.

    All of a batch are carried out before the first is settled. So an object stands in a batch only once, a service is
    added before its destinations but neither edited nor deleted beside them.
    """
    batch: list[Operation] = []
    services: dict[str, Verb] = {}
    destinations: set[tuple[str, str]] = set()
    busy: set[str] = set()
    for operation in operations:
        service = operation.service.key
        object_ = (service, operation.destination.key if operation.destination is not None else "")
        if operation.verb in SERVICE_VERBS:
            depends = service in services or service in busy
        else:
            depends = object_ in destinations or services.get(service, Verb.ADD_SERVICE) is not Verb.ADD_SERVICE
        if depends or len(batch) == BATCH_OPERATIONS:
            yield batch
            batch, services, destinations, busy = [], {}, set(), set()
        batch.append(operation)
        if operation.verb in SERVICE_VERBS:
            services[service] = operation.verb
        else:
            destinations.add(object_)
            busy.add(service)
    if batch:
        yield batch


def _request(operation: Operation) -> bytes:
    """The attributes of a request.

    Raises:
        KernelError: with the errno the kernel would answer, for values that no request can carry.
    """
    service, destination = operation.service, operation.destination
    try:
        if operation.verb in SERVICE_VERBS:
            return _pack(CMD_ATTR_SERVICE, _service_key(service) + _service_details(service))
        if destination is None:
            raise ValueError("no destination")
        return _pack(CMD_ATTR_SERVICE, _service_key(service)) + _pack(CMD_ATTR_DEST, _packed_destination(destination))
    except struct.error as error:
        raise KernelError(str(operation), errno.ERANGE, str(error)) from error
    except (OSError, ValueError) as error:
        raise KernelError(str(operation), errno.EINVAL, str(error)) from error


def _service_key(service: ServiceEntry) -> bytes:
    """What identifies a service. A firewall mark is IPv4 unless its address is `::`."""
    family = _family(service.address)
    if service.protocol == "fwm":
        return _pack(SVC_AF, _U16.pack(family)) + _pack(SVC_FWMARK, _U32.pack(service.mark))
    protocol = PROTOCOLS.get(service.protocol)
    if protocol is None:
        if not service.protocol.isdecimal():
            raise KernelError(service.key, errno.EPROTONOSUPPORT)
        protocol = int(service.protocol)
    return (
        _pack(SVC_AF, _U16.pack(family))
        + _pack(SVC_PROTOCOL, _U16.pack(protocol))
        + _pack(SVC_ADDR, socket.inet_pton(family, service.address))
        + _pack(SVC_PORT, _BE16.pack(service.port))
    )


def _service_details(service: ServiceEntry) -> bytes:
    """The rest of a service. Flags other than persistence (one-packet, the scheduler's) stay as they are."""
    flags = FLAG_PERSISTENT if service.persistent_s else 0
    mask = kept_netmask(service)
    netmask = _U32.pack(int(mask or "128")) if is_v6(service.address) else socket.inet_aton(mask or "255.255.255.255")
    return (
        _pack(SVC_SCHED, service.scheduler.encode() + b"\0")
        + _pack(SVC_FLAGS, _U32.pack(flags) + _U32.pack(FLAG_PERSISTENT))
        + _pack(SVC_TIMEOUT, _U32.pack(service.persistent_s))
        + _pack(SVC_NETMASK, netmask)
    )


def _packed_destination(destination: DestinationEntry) -> bytes:
    family = _family(destination.address)
    return (
        _pack(DEST_ADDR_FAMILY, _U16.pack(family))
        + _pack(DEST_ADDR, socket.inet_pton(family, destination.address))
        + _pack(DEST_PORT, _BE16.pack(destination.port))
        + _pack(DEST_FWD, _U32.pack(FORWARDING[destination.forwarding]))
        + _pack(DEST_WEIGHT, _I32.pack(destination.weight))
        + _pack(DEST_UPPER, _U32.pack(destination.upper_threshold))
        + _pack(DEST_LOWER, _U32.pack(destination.lower_threshold))
    )


def _service(attributes: dict[int, memoryview]) -> ServiceEntry:
    family = _U16.unpack(attributes[SVC_AF])[0]
    mark = _U32.unpack(attributes[SVC_FWMARK])[0] if SVC_FWMARK in attributes else 0
    persistent = _U32.unpack_from(attributes[SVC_FLAGS])[0] & FLAG_PERSISTENT
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
        persistent_s=_U32.unpack(attributes[SVC_TIMEOUT])[0] if persistent else 0,
        netmask=shown,
    )
    return msgspec.structs.replace(service, netmask=kept_netmask(service))


def _destination(attributes: dict[int, memoryview], service: dict[int, memoryview]) -> DestinationEntry:
    family = _U16.unpack(attributes.get(DEST_ADDR_FAMILY, service[SVC_AF]))[0]
    return DestinationEntry(
        address=_address(family, attributes[DEST_ADDR]),
        port=_BE16.unpack(attributes[DEST_PORT])[0],
        forwarding=FORWARDING_SHOWN[_U32.unpack(attributes[DEST_FWD])[0]],
        weight=_I32.unpack(attributes[DEST_WEIGHT])[0],
        upper_threshold=_U32.unpack(attributes[DEST_UPPER])[0],
        lower_threshold=_U32.unpack(attributes[DEST_LOWER])[0],
    )


def _packed_daemon(daemon: SyncDaemon) -> bytes:
    return _pack(
        CMD_ATTR_DAEMON,
        _pack(DAEMON_STATE, _U32.pack(SYNC_STATES[daemon.role]))
        + _pack(DAEMON_INTERFACE, daemon.interface.encode() + b"\0")
        + _pack(DAEMON_SYNC_ID, _U32.pack(daemon.sync_id)),
    )


def _sync_daemon(attributes: dict[int, memoryview]) -> SyncDaemon:
    return SyncDaemon(
        role=SYNC_ROLES[_U32.unpack(attributes[DAEMON_STATE])[0]],
        interface=bytes(attributes[DAEMON_INTERFACE]).rstrip(b"\0").decode(),
        sync_id=_U32.unpack(attributes[DAEMON_SYNC_ID])[0],
    )


def _family(address: str) -> int:
    return socket.AF_INET6 if is_v6(address) else socket.AF_INET


def _address(family: int, union: memoryview) -> str:
    """Text of a `union nf_inet_addr`, which is 16 bytes long for IPv4 too."""
    return socket.inet_ntop(family, union[:16] if family == socket.AF_INET6 else union[:4])


def _pack(kind: int, value: bytes) -> bytes:
    """One netlink attribute, padded to 4 bytes."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _attributes(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Type (without its two flag bits) and value of each attribute."""
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        yield kind & 0x3FFF, data[_ATTRIBUTE.size : length]
        data = data[max(length + 3 & ~3, _ATTRIBUTE.size) :]
