"""Checks that carry a conversation: over TCP, over TLS, or in datagrams."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
from collections.abc import Callable

from hafsm.checks.connect import (
    LOCAL_TROUBLE,
    MOVED,
    Check,
    LocalTrouble,
    TcpCheck,
    Verdict,
    explain,
    target,
    within,
)
from hafsm.checks.conversation import Conversation, Script
from hafsm.checks.tls import RAW_MAX_BYTES, TlsLayer, context, explain_tls, server_name
from hafsm.core.settings import CheckSpec

RECEIVE_BYTES = 16 * 1024
DATAGRAMS_MAX = 256
"""In one check, those that are no answer included."""
UDP_SHARES = 3
"""A datagram may get lost without anybody being to blame: it is sent up to three times within the deadline."""
_DATAGRAM = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
_UDP_TEXTS = {errno.ECONNREFUSED: "port unreachable"}

MakeScript = Callable[[str], Script]
"""Begins a script; the argument is our own `address:port` of the connection, IPv6 in brackets."""


class StreamCheck(TcpCheck):
    """A conversation over TCP, with TLS from the first byte if the kind says so."""

    __slots__ = ("_context", "_make", "_name", "_room", "_talk", "_tls", "_unsent")

    def __init__(self, spec: CheckSpec, make: MakeScript, *, tls: bool = False) -> None:
        """Raises ValueError when the spec cannot be carried out."""
        super().__init__(spec, spec.address, spec.port)
        self._make = make
        self._context = context(spec.tls.authority) if tls else None
        self._name = server_name(spec) if tls else None
        self._talk: Conversation | None = None
        self._tls: TlsLayer | None = None
        self._unsent = b""
        self._room = RAW_MAX_BYTES

    def ready(self, events: int) -> Verdict | None:
        try:
            if not self.connected:
                verdict = self.came_about(events)
                if verdict is not None or not self.connected:
                    return verdict
                verdict = self._open()
                if verdict is not None:
                    return verdict
            return self._exchange()
        except BlockingIOError:
            return None
        except ssl.SSLError as error:
            return explain_tls(error)
        except OSError as error:
            return Verdict(False, explain(error.errno or 0))

    def timed_out(self) -> Verdict:
        if self.connected and self._tls is not None and not self._tls.established:
            return Verdict(False, f"no TLS handshake within {within(self.spec)}")
        if self._talk is not None and self._talk.heard:
            return Verdict(False, f"answer incomplete after {within(self.spec)}")
        return super().timed_out()

    def close(self) -> None:
        self._talk = self._tls = None
        self._unsent = b""
        sock, self.sock = self.sock, None
        if sock is not None:
            sock.close()  # not with a reset: the server is to read our goodbye

    def _open(self) -> Verdict | None:
        assert self.sock is not None
        self._room = RAW_MAX_BYTES
        if self._context is not None:
            self._tls = TlsLayer(self._context, self._name)
            self._tls.begin()
        self._talk = talk = Conversation(self._make(local_end(self.sock)))
        return talk.begin()

    def _exchange(self) -> Verdict | None:
        assert self.sock is not None
        assert self._talk is not None
        while True:
            self._flush()
            raw = self.sock.recv(RECEIVE_BYTES)
            self._room -= len(raw)
            verdict = self._take(raw) if self._room > 0 else Verdict(False, "an answer without end")
            if verdict is not None:
                if verdict is not MOVED:
                    with contextlib.suppress(OSError):
                        self._flush()
                return verdict

    def _take(self, raw: bytes) -> Verdict | None:
        talk, tls = self._talk, self._tls
        assert talk is not None
        if tls is None:
            return talk.feed(raw) if raw else talk.end()
        plain = tls.receive(raw)
        verdict = talk.feed(plain) if plain else None
        return talk.end() if verdict is None and (tls.ended or not raw) else verdict

    def _flush(self) -> None:
        """Send what there is to send. Raises BlockingIOError when the rest must wait."""
        talk, tls, sock = self._talk, self._tls, self.sock
        assert talk is not None
        assert sock is not None
        if talk.unsent:
            if tls is None:
                self._unsent += talk.unsent
            else:
                tls.send(bytes(talk.unsent))
            talk.unsent.clear()
        if tls is not None:
            self._unsent += tls.take()
        while self._unsent:
            self._unsent = self._unsent[sock.send(self._unsent) :]
        if talk.finish:
            talk.finish = False
            sock.shutdown(socket.SHUT_WR)


class DatagramCheck(Check):
    """A conversation in UDP datagrams: what the script sends first is sent again when nothing comes back."""

    __slots__ = ("_family", "_heard", "_make", "_sent", "_talk", "_target", "sock")
    sock: socket.socket | None

    def __init__(self, spec: CheckSpec, make: MakeScript) -> None:
        """Raises ValueError when the spec cannot be carried out."""
        super().__init__(spec)
        self._make = make
        self._family = socket.AF_INET6 if ":" in spec.address else socket.AF_INET
        self._target = target(spec.address, spec.port)
        self._talk: Conversation | None = None
        self._sent = b""
        self._heard = 0
        self.shares = UDP_SHARES

    def begin(self) -> Verdict | None:
        try:
            self.sock = sock = socket.socket(self._family, _DATAGRAM)
        except OSError as error:
            raise LocalTrouble(f"no socket for {self.spec}: {error.strerror}") from None
        error_number = sock.connect_ex(self._target)
        if error_number in LOCAL_TROUBLE:
            self.close()
            raise LocalTrouble(f"no socket for {self.spec}: {os.strerror(error_number)}")
        if error_number:
            return Verdict(False, explain(error_number))
        self._talk = talk = Conversation(self._make(local_end(sock)))
        verdict = talk.begin()
        self._sent = bytes(talk.unsent)
        talk.unsent.clear()
        self._heard = 0
        return self._send() if verdict is None else verdict

    def ready(self, events: int) -> Verdict | None:
        assert self.sock is not None
        assert self._talk is not None
        try:
            while self._heard < DATAGRAMS_MAX:
                data = self.sock.recv(RECEIVE_BYTES)
                self._heard += 1
                verdict = self._talk.feed(data) if data else None
                if verdict is not None:
                    return verdict
            return Verdict(False, f"{DATAGRAMS_MAX} datagrams and no answer among them")
        except BlockingIOError:
            return None
        except OSError as error:
            return _udp_failure(error)

    def again(self) -> Verdict | None:
        return self._send()

    def close(self) -> None:
        self._talk = None
        sock, self.sock = self.sock, None
        if sock is not None:
            sock.close()

    def _send(self) -> Verdict | None:
        assert self.sock is not None
        try:
            self.sock.send(self._sent)
        except OSError as error:
            # A full queue is as good as a lost datagram.
            return None if error.errno in LOCAL_TROUBLE else _udp_failure(error)
        return None


def _udp_failure(error: OSError) -> Verdict:
    number = error.errno or 0
    return Verdict(False, _UDP_TEXTS.get(number) or explain(number))


def local_end(sock: socket.SocketType) -> str:
    """Our own end of a connection, `192.0.2.1:40000` or `[2001:db8::1]:40000`."""
    address, port = sock.getsockname()[:2]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
