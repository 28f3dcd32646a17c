"""The IPVS table over generic netlink: attributes and numbers are those of Linux's include/uapi/linux/ip_vs.h.

Command numbers come from pyroute2. Requests are packed and answers unpacked in `ipvs_attributes`, because its message
classes take a third of a millisecond a request, cannot hold an IPv6 persistence mask, and wait for each answer. Here up
to `BATCH_OPERATIONS` requests travel in one datagram of which only the last asks for an acknowledgement; a refusal is
always answered. The kernel carries a datagram out within `send`, so what was not refused by then is done.

Three things look different in the kernel from what was asked, and are shown as asked, so that comparing never loops:
kernels before 2.6.37 turn the forwarding of a local real server (127.0.0.1) into "local node", which is shown as
`gate`; a persistence netmask without persistence means nothing and is shown empty, as is a full one; a scheduler flag
is shown by the scheduler's own name for it.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import socket
import struct
from collections.abc import Iterator, Sequence

import msgspec
from pyroute2.netlink.generic import ipvs as ip_vs

from hafsm.core.ipvs import Operation, ServiceEntry, TableEntry, Verb
from hafsm.core.settings import SyncDaemon
from hafsm.errors import KernelError
from hafsm.kernel.interface import Connections
from hafsm.kernel.ipvs_attributes import (
    CMD_ATTR_DAEMON,
    CMD_ATTR_DEST,
    CMD_ATTR_SERVICE,
    SVC_AF,
    DestinationReader,
    attributes_of,
    named_service,
    pack,
    packed_daemon,
    request_of,
    service_of,
    sync_daemon_of,
)
from hafsm.kernel.rules import SERVICE_VERBS, instead_of, is_v6

BATCH_OPERATIONS = 256
"""Requests a datagram; if all are refused, their answers (1 KiB of socket buffer each) must fit the receive buffer,
which is 416 KiB where the administrator raised no limit."""
RECEIVE_BUFFER_BYTES = 1 << 20
ANSWER_TIMEOUT_S = 10.0
"""netlink answers at once; removing a service may wait for an RCU grace period."""

NETLINK_GENERIC, SOL_NETLINK, NETLINK_CAP_ACK = 16, 270, 10
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 1, 4, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME = 16, 3, 1, 2

COMMANDS = {
    Verb.ADD_SERVICE: ip_vs.IPVS_CMD_NEW_SERVICE,
    Verb.EDIT_SERVICE: ip_vs.IPVS_CMD_SET_SERVICE,
    Verb.DELETE_SERVICE: ip_vs.IPVS_CMD_DEL_SERVICE,
    Verb.ADD_DESTINATION: ip_vs.IPVS_CMD_NEW_DEST,
    Verb.EDIT_DESTINATION: ip_vs.IPVS_CMD_SET_DEST,
    Verb.DELETE_DESTINATION: ip_vs.IPVS_CMD_DEL_DEST,
}

Place = tuple[str, str, int, int]
"""`ServiceEntry.place`."""

_HEADER = struct.Struct("=IHHIIBBH")
"""nlmsghdr (length, type, flags, sequence, port) and genlmsghdr (command, version, reserved)."""
_MESSAGE = struct.Struct("=IHHII")
_U16, _U32, _I32 = struct.Struct("=H"), struct.Struct("=I"), struct.Struct("=i")
_ACTIVE, _INACTIVE = 7, 8
"""IPVS_DEST_ATTR_ACTIVE_CONNS, …_INACT_CONNS."""


class IpvsSocket:
    """A generic netlink socket that speaks IPVS."""

    def __init__(self) -> None:
        """
        Raises:
            KernelError: ENOENT when the kernel has no IPVS (asking makes it load the module, where it can).
        """
        self._sequence = itertools.count(1)
        self._layout = DestinationReader()
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
            attributes = dict(attributes_of(dict(attributes_of(payload))[CMD_ATTR_SERVICE]))
            service = service_of(attributes)
            family = _U16.unpack(attributes[SVC_AF])[0]
            destinations = tuple(
                self._layout.destination(answer, family)
                for answer in self._dump(ip_vs.IPVS_CMD_GET_DEST, named_service(service))
            )
            table.append(TableEntry(service=service, destinations=destinations))
        return tuple(table)

    def read_connections(self, services: Sequence[ServiceEntry]) -> dict[tuple[str, str], Connections]:
        """See `interface.Kernel.read_connections`.

        Raises:
            KernelError: the kernel refused, or did not answer.
        """
        counted: dict[tuple[str, str], Connections] = {}
        for service in services:
            family = socket.AF_INET6 if is_v6(service.address) else socket.AF_INET
            try:
                answers = self._dump(ip_vs.IPVS_CMD_GET_DEST, named_service(service))
            except KernelError as error:
                if error.errno == errno.ESRCH:
                    continue
                raise
            for answer in answers:
                found = dict(attributes_of(dict(attributes_of(answer))[CMD_ATTR_DEST]))
                active, inactive = (int(_U32.unpack(found[kind])[0]) for kind in (_ACTIVE, _INACTIVE))
                counted[service.key, self._layout.destination(answer, family).key] = Connections(active, inactive)
        return counted

    def apply_operations(self, operations: Sequence[Operation]) -> tuple[int, ...]:
        """See `interface.Kernel.apply_operations`. Adds and edits stand in for each other as `rules.INSTEAD` says.

        Raises:
            KernelError: the kernel did not answer; what was carried out is unknown.
        """
        errors: list[int] = []
        for batch in _independent(operations):
            errors += self._settled(batch, self._send(batch))
        return tuple(errors)

    def sync_daemons(self) -> tuple[SyncDaemon, ...]:
        """See `interface.Kernel.sync_daemons`.

        Raises:
            KernelError: the kernel refused, or did not answer.
        """
        answers = self._dump(ip_vs.IPVS_CMD_GET_DAEMON, b"", "read the IPVS sync daemons")
        return tuple(
            sync_daemon_of(dict(attributes_of(dict(attributes_of(payload))[CMD_ATTR_DAEMON]))) for payload in answers
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
            self._transmit(self._message(ip_vs.IPVS_CMD_DEL_DAEMON, NLM_F_REQUEST, number, packed_daemon(other)))
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
        message = self._message(ip_vs.IPVS_CMD_NEW_DAEMON, flags, number, packed_daemon(daemon))
        self._exchange(message, number, number, errors)
        if errors[number]:
            raise KernelError(f"run the {daemon}", errors[number])

    def _settled(self, batch: Sequence[Operation], errors: list[int]) -> list[int]:
        """What the operations of a batch come to after what stands in for the refused ones was sent too."""
        again: dict[int, Operation] = {}
        for index, error in enumerate(errors):
            if not error:
                continue
            operation = batch[index]
            with contextlib.suppress(KeyError):
                instead = instead_of(operation, error)
                errors[index] = 0
                if instead is not None:
                    again[index] = msgspec.structs.replace(operation, verb=instead)
        if again:
            for index, error in zip(again, self._send(list(again.values())), strict=True):
                errors[index] = error
        return errors

    def _send(self, batch: Sequence[Operation]) -> list[int]:
        """Errnos of at most `BATCH_OPERATIONS` operations, sent as one datagram."""
        errors: dict[int, int] = {}
        numbers: list[int] = []
        messages: list[tuple[int, Verb, bytes]] = []
        for operation in batch:
            number = next(self._sequence)
            numbers.append(number)
            try:
                messages.append((number, operation.verb, request_of(operation)))
            except KernelError as refused:
                errors[number] = refused.errno
        if messages:
            last = messages[-1][0]
            datagram = b"".join(
                self._message(COMMANDS[verb], NLM_F_REQUEST | (NLM_F_ACK if number == last else 0), number, payload)
                for number, verb, payload in messages
            )
            self._exchange(datagram, messages[0][0], last, errors)
        return [errors.get(number, 0) for number in numbers]

    def _exchange(self, datagram: bytes, first: int, last: int, errors: dict[int, int]) -> None:
        """Send requests numbered from `first` to `last`, of which the last asks for an acknowledgement; adds the errno
        of every one that was answered."""
        self._transmit(datagram)
        while last not in errors:
            for kind, number, body in self._receive():
                if kind == NLMSG_ERROR and first <= number <= last:
                    errors[number] = -_I32.unpack_from(body)[0]

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
        name = pack(CTRL_ATTR_FAMILY_NAME, ip_vs.GENL_NAME.encode() + b"\0")
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
                return int(_U16.unpack_from(dict(attributes_of(body[4:]))[CTRL_ATTR_FAMILY_ID])[0])

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
    services: dict[Place, Verb] = {}
    destinations: set[tuple[Place, str, int]] = set()
    busy: set[Place] = set()
    for operation in operations:
        place, destination = operation.service.place, operation.destination
        object_ = (place, destination.address, destination.port) if destination is not None else (place, "", 0)
        if operation.verb in SERVICE_VERBS:
            depends = place in services or place in busy
        else:
            depends = object_ in destinations or services.get(place, Verb.ADD_SERVICE) is not Verb.ADD_SERVICE
        if depends or len(batch) == BATCH_OPERATIONS:
            yield batch
            batch, services, destinations, busy = [], {}, set(), set()
        batch.append(operation)
        if operation.verb in SERVICE_VERBS:
            services[place] = operation.verb
        else:
            destinations.add(object_)
            busy.add(place)
    if batch:
        yield batch
