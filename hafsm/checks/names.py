"""Looking up a host name without waiting for it: a thread asks, and the answer arrives on a socket.

Needed only for a `request` that is an absolute URL with a name in it. ldirectord asks the system's resolver anew for
each check; so does this.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading

_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?")
_FOUND = b"="
ANSWER_MAX_BYTES = 512


class Lookup:
    """One name, looked up again and again, by one thread at a time."""

    __slots__ = ("_family", "_thread", "name")

    def __init__(self, name: str, family: socket.AddressFamily) -> None:
        """Raises ValueError when it cannot be a host name."""
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a host name")
        self.name = name
        self._family = family
        self._thread: threading.Thread | None = None

    def begin(self) -> socket.socket | None:
        """Ask. Returns a socket that becomes readable with what `answer` understands; None: the resolver still owes
        the last answer, which nobody waits for any more. Raises OSError when there are no sockets left."""
        if self._thread is not None and self._thread.is_alive():
            return None
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._thread = threading.Thread(target=_resolve, args=(self.name, self._family, theirs), daemon=True)
        self._thread.start()
        return ours

    def answer(self, data: bytes) -> tuple[str, str]:
        """(address, "") or ("", why there is none)."""
        text = data.decode(errors="replace")
        if data.startswith(_FOUND):
            return text[len(_FOUND) :], ""
        return "", f"{self.name[:60]} cannot be resolved: {text}"


def _resolve(name: str, family: socket.AddressFamily, answer_to: socket.socket) -> None:
    try:
        (*_, target), *_ = socket.getaddrinfo(name, None, family, socket.SOCK_STREAM)
        answer = _FOUND + str(target[0]).encode()
    except (OSError, UnicodeError) as error:
        answer = (getattr(error, "strerror", None) or str(error)).encode()[:ANSWER_MAX_BYTES]
    with answer_to, contextlib.suppress(OSError):  # the check may have run into its deadline meanwhile
        answer_to.sendall(answer)
