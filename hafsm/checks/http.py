"""The HTTP checks: a request, an answer with a healthy status, and a regular expression that must be found in its body.

Source: ldirectord's negotiate check (`request`, `receive`, `httpmethod`, `virtualhost`) for http, https, http_proxy. A
request that is an absolute URL goes to the host in it instead of the real server; http_proxy asks the real server for
it.
"""

from __future__ import annotations

import re
import select
import socket
from base64 import b64encode
from urllib.parse import SplitResult, urlsplit

from hafsm.checks.answer import Answer, Pattern
from hafsm.checks.connect import MOVED, LocalTrouble, TcpCheck, Verdict, explain, is_address, within
from hafsm.checks.names import ANSWER_MAX_BYTES, Lookup
from hafsm.core.settings import CheckKind, CheckSpec

RECEIVE_BYTES = 16 * 1024
_PORTS = {"http": 80, "https": 443}
_UNFIT = re.compile(r"[\x00-\x20\x7f]")


def request_bytes(spec: CheckSpec, basic: bytes = b"") -> bytes:
    """The request that `spec` describes, with `basic` as its credentials. Raises ValueError when it would not be one
    request.

    Host is the virtualhost, else whom we ask, and carries no port, as ldirectord's does.
    """
    path, host = "/" + spec.request.lstrip("/"), spec.virtualhost or spec.address
    url = request_url(spec)
    if spec.kind is CheckKind.HTTP_PROXY:
        if url is None or not url.hostname:
            raise ValueError(f"request {spec.request!r}: a proxy is asked for an absolute http:// URL")
        path, host = spec.request, url.netloc.rpartition("@")[2]
    elif url is not None:
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        host = spec.virtualhost or url.hostname or ""
    if host.count(":") > 1 and not host.startswith("["):
        host = f"[{host}]"
    for text in (spec.method, path, host):
        if not text.isascii() or _UNFIT.search(text):
            raise ValueError(f"{text!r} cannot stand in a request")
    lines = [f"{spec.method} {path} HTTP/1.1", f"Host: {host}", "User-Agent: hafsm"]
    if basic:
        lines.append(f"Authorization: Basic {b64encode(basic).decode()}")
    return "\r\n".join((*lines, "Connection: close", "", "")).encode("ascii")


def request_url(spec: CheckSpec) -> SplitResult | None:
    """The request as the URL that it is, if it is one of this kind's scheme. Raises ValueError."""
    scheme = "https://" if spec.kind is CheckKind.HTTPS else "http://"
    return urlsplit(spec.request) if spec.request.startswith(scheme) else None


class HttpCheck(TcpCheck):
    """ldirectord `checktype=negotiate` with `service=http` or `service=http_proxy`."""

    __slots__ = (
        "_answer",
        "_answering",
        "_head_request",
        "_lookup",
        "_pattern",
        "_port",
        "_request",
        "_resolving",
        "_statuses",
        "_unsent",
    )

    def __init__(self, spec: CheckSpec, basic: bytes = b"") -> None:
        """`basic` is `user:password`. Raises ValueError when the spec cannot be carried out."""
        host, port = spec.address, spec.port
        url = None if spec.kind is CheckKind.HTTP_PROXY else request_url(spec)
        if url is not None:
            host, port = url.hostname or "", url.port or _PORTS[url.scheme]
        family = socket.AF_INET6 if ":" in spec.address else socket.AF_INET
        self._lookup = None if url is None or is_address(host) else Lookup(host, family)
        """Set when a URL with a name in it is asked for: that host is asked, in the real server's family."""
        super().__init__(spec, spec.address if self._lookup else host, port)
        self._port = port
        self._request = request_bytes(spec, basic)
        self._pattern = Pattern(spec.receive, "body") if spec.receive else None
        self._head_request = spec.method == "HEAD"
        self._statuses = spec.statuses
        self._unsent = b""
        self._answer = Answer(None)
        self._answering = False
        self._resolving = False

    def begin(self) -> Verdict | None:
        self._unsent = self._request
        self._answer = Answer(self._pattern, head_request=self._head_request, statuses=self._statuses)
        self._answering = False
        if self._lookup is None:
            return super().begin()
        self.connected = False
        try:
            self.sock = self._lookup.begin()
        except OSError as error:
            raise LocalTrouble(f"no socket for {self.spec}: {error.strerror}") from None
        if self.sock is None:
            return self._unresolved(self._lookup)
        self._resolving = True
        return None

    def ready(self, events: int) -> Verdict | None:
        sock = self.sock
        assert sock is not None
        try:
            if self._resolving:
                return self._resolved(sock.recv(ANSWER_MAX_BYTES))
            if self._unsent:
                self._unsent = self._unsent[sock.send(self._unsent) :]
                self.connected = True
            if not events & ~select.EPOLLOUT:
                return None
            while True:
                data = sock.recv(RECEIVE_BYTES)
                if not data:
                    return self._answer.end()
                self._answering = True
                verdict = self._answer.feed(data)
                if verdict is not None:
                    return verdict
        except BlockingIOError:
            return None
        except OSError as error:
            return Verdict(False, explain(error.errno or 0))

    def timed_out(self) -> Verdict:
        if self._resolving and self._lookup is not None:
            return self._unresolved(self._lookup)
        if self._answering:
            return Verdict(False, f"answer incomplete after {within(self.spec)}")
        return super().timed_out()

    def close(self) -> None:
        self._resolving = False
        super().close()

    def _resolved(self, answer: bytes) -> Verdict:
        assert self._lookup is not None
        address, trouble = self._lookup.answer(answer)
        if trouble:
            return Verdict(False, trouble)
        self.close()
        self._aim(address, self._port)
        return super().begin() or MOVED

    def _unresolved(self, lookup: Lookup) -> Verdict:
        return Verdict(False, f"{lookup.name} not resolved within {within(self.spec)}")
