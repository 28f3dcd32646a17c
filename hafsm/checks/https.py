"""The HTTP check through TLS, with the server's name (SNI) and, if asked for, its certificate verified."""

from __future__ import annotations

import ssl

from hafsm.checks.connect import Verdict, explain, within
from hafsm.checks.http import RECEIVE_BYTES, HttpCheck, request_url
from hafsm.checks.tls import RAW_MAX_BYTES, TlsLayer, context, explain_tls, server_name
from hafsm.core.settings import CheckSpec


class HttpsCheck(HttpCheck):
    """ldirectord `checktype=negotiate` with `service=https`."""

    __slots__ = ("_context", "_name", "_room", "_tls")

    def __init__(self, spec: CheckSpec, basic: bytes = b"") -> None:
        """`basic` is `user:password`. Raises ValueError when the spec cannot be carried out."""
        super().__init__(spec, basic)
        self._context = context(spec.tls.authority)
        url = request_url(spec)
        known = url is None or spec.tls.name or spec.virtualhost
        self._name = server_name(spec) if known or url is None else url.hostname
        self._tls: TlsLayer | None = None
        self._room = RAW_MAX_BYTES

    def ready(self, events: int) -> Verdict | None:
        if self._resolving:
            return super().ready(events)
        try:
            tls = self._tls
            if tls is None:
                verdict = self.came_about(events)
                if verdict is not None or not self.connected:
                    return verdict
                self._room = RAW_MAX_BYTES
                self._tls = tls = TlsLayer(self._context, self._name)
                tls.begin()
                tls.send(self._request)
                self._unsent = b""
            return self._exchange(tls)
        except BlockingIOError:
            return None
        except ssl.SSLError as error:
            return explain_tls(error)
        except OSError as error:
            return Verdict(False, explain(error.errno or 0))

    def timed_out(self) -> Verdict:
        if self._tls is not None and not self._tls.established:
            return Verdict(False, f"no TLS handshake within {within(self.spec)}")
        return super().timed_out()

    def close(self) -> None:
        self._tls = None
        super().close()

    def _exchange(self, tls: TlsLayer) -> Verdict | None:
        assert self.sock is not None
        while True:
            self._unsent += tls.take()
            while self._unsent:
                self._unsent = self._unsent[self.sock.send(self._unsent) :]
            raw = self.sock.recv(RECEIVE_BYTES)
            self._room -= len(raw)
            if self._room < 0:
                return Verdict(False, "an answer without end")
            plain = tls.receive(raw)
            if plain:
                self._answering = True
                verdict = self._answer.feed(plain)
                if verdict is not None:
                    return verdict
            if tls.ended or not raw:
                return self._answer.end()
