"""The connect check: a real server is up when a TCP or SCTP connection to it comes about. Also the base of all checks.

A check object lives as long as the plan names it and is run again and again: `begin`, then `ready` for each epoll event
until there is a verdict, then `close`. Nothing here blocks and nothing knows the time; the worker holds the deadline.

Connections end with a reset (SO_LINGER 0) instead of a FIN: whoever closes first keeps a TIME_WAIT entry for 60 s; at
5,000 checks a second that would be 300,000 of them. By then a check has read all it wants.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from typing import NamedTuple, Protocol

from hafsm.core.settings import CheckSpec

LOCAL_TROUBLE = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN, errno.EINTR)
)
"""Errors of `socket` and `connect` that say something about this machine and nothing about the real server."""

_TEXTS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EPIPE: "connection reset",
    errno.EHOSTUNREACH: "no route to host",
    errno.ENETUNREACH: "network unreachable",
    errno.ETIMEDOUT: "connection timed out",
}
_NO_SUCH_PROTOCOL = (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.EAFNOSUPPORT)
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_STREAM = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC


class Verdict(NamedTuple):
    """How a check ended."""

    ok: bool
    detail: str = ""
    """Why it failed; the same words each time it fails for the same reason. Empty when it passed."""


PASSED = Verdict(True)
MOVED = Verdict(False, "the check goes on with another socket")
"""No verdict yet: `sock` is a new one."""


class LocalTrouble(Exception):
    """This machine cannot open a connection at the moment; the server was not asked."""


class AllBusy(LocalTrouble):
    """There is no room for one more check of this kind until another ends, as each does at its deadline."""


def explain(error: int) -> str:
    """An errno of a connection, in the words that reach the operator."""
    return _TEXTS.get(error) or os.strerror(error).lower()


def within(spec: CheckSpec) -> str:
    """`3.0 s`: the deadline of the check."""
    return f"{spec.timeout_ns / 1e9:.1f} s"


def is_address(text: str) -> bool:
    """An IPv4 or IPv6 address, without a zone."""
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except OSError:
        return False
    return True


def target(address: str, port: int) -> tuple[str, int]:
    """What `connect` of a socket takes. Raises ValueError when the address or port cannot be one."""
    if not is_address(address):
        raise ValueError(f"{address!r} is not an IP address")
    if not 0 < port < 65536:
        raise ValueError(f"{port} is not a port")
    return address, port


class HasFileno(Protocol):
    """Something that epoll can watch."""

    def fileno(self) -> int:
        """The file descriptor."""
        ...


class Check:
    """One check of the plan. Subclasses say what is asked and what is an answer."""

    __slots__ = ("shares", "sock", "spec")

    def __init__(self, spec: CheckSpec) -> None:
        self.spec = spec
        self.sock: HasFileno | None = None
        """Open while the check runs; the worker registers it edge-triggered for reading and writing."""
        self.shares = 1
        """The deadline is cut into so many equal parts; after each but the last `again` is called."""

    def begin(self) -> Verdict | None:
        """Start. Raises `LocalTrouble`."""
        raise NotImplementedError

    def ready(self, events: int) -> Verdict | None:
        """Take an epoll event; None: go on waiting; `MOVED`: wait for `sock` anew. Raises `LocalTrouble` with the
        latter."""
        raise NotImplementedError

    def again(self) -> Verdict | None:
        """A share of the deadline has passed without a verdict: ask again."""
        return None

    def timed_out(self) -> Verdict:
        """The verdict when the deadline passes first."""
        return Verdict(False, f"no answer within {within(self.spec)}")

    def close(self) -> None:
        """Give up whatever is open."""
        raise NotImplementedError


class TcpCheck(Check):
    """A connection to one address; what is done with it is up to the subclass."""

    __slots__ = ("_family", "_protocol", "_target", "connected", "sock")
    sock: socket.SocketType | None

    def __init__(self, spec: CheckSpec, address: str, port: int, protocol: int = 0) -> None:
        """`protocol` 0 is TCP. Raises ValueError when the address or port cannot be one."""
        super().__init__(spec)
        self.connected = False
        self._protocol = protocol
        self._aim(address, port)

    def _aim(self, address: str, port: int) -> None:
        self._family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._target = target(address, port)

    def begin(self) -> Verdict | None:
        """Start to connect. Raises `LocalTrouble`."""
        self.connected = False
        try:
            self.sock = sock = socket.SocketType(self._family, _STREAM, self._protocol)
        except OSError as error:
            if error.errno in _NO_SUCH_PROTOCOL:
                return Verdict(False, f"this director's kernel has no {self.spec.protocol.upper()}")
            raise LocalTrouble(f"no socket for {self.spec}: {error.strerror}") from None
        error_number = sock.connect_ex(self._target)
        if error_number in (0, errno.EINPROGRESS):
            return None
        if error_number in LOCAL_TROUBLE:
            self.close()
            raise LocalTrouble(f"no connection can be opened to {self.spec}: {os.strerror(error_number)}")
        return Verdict(False, explain(error_number))

    def came_about(self, events: int) -> Verdict | None:
        """What an epoll event says about the connection that `begin` started; None: nothing yet, or `connected`."""
        assert self.sock is not None
        error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            return Verdict(False, explain(error))
        if not events & select.EPOLLOUT:
            return None
        # Towards an address of this machine the kernel may pick the port itself as source: it meets itself.
        try:
            if self.sock.getsockname() == self.sock.getpeername():
                return Verdict(False, explain(errno.ECONNREFUSED))
        except OSError:  # not connected: the event was that of an older socket with the same number
            return None
        self.connected = True
        return None

    def timed_out(self) -> Verdict:
        if not self.connected:
            return Verdict(False, f"no connection within {within(self.spec)}")
        return super().timed_out()

    def close(self) -> None:
        sock = self.sock
        if sock is not None:
            self.sock = None
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            sock.close()


class ConnectCheck(TcpCheck):
    """ldirectord `checktype=connect`: connected is up."""

    __slots__ = ()

    def __init__(self, spec: CheckSpec) -> None:
        """Raises ValueError when the spec cannot be carried out."""
        super().__init__(spec, spec.address, spec.port, socket.IPPROTO_SCTP if spec.protocol == "sctp" else 0)

    def ready(self, events: int) -> Verdict | None:
        verdict = self.came_about(events)
        return PASSED if verdict is None and self.connected else verdict


class UnusableCheck(Check):
    """Stands for a spec that cannot be carried out: always down, always saying why."""

    __slots__ = ("_reason",)

    def __init__(self, spec: CheckSpec, reason: str) -> None:
        super().__init__(spec)
        self._reason = reason

    def begin(self) -> Verdict | None:
        return Verdict(False, self._reason)

    def close(self) -> None:
        return
