"""Tell systemd how the daemon is (sd_notify protocol: one datagram to $NOTIFY_SOCKET)."""

from __future__ import annotations

import contextlib
import os
import socket


def notify(text: str) -> None:
    """`READY=1`, `STATUS=…`, `WATCHDOG=1`, `STOPPING=1`; silently nothing without systemd."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.setblocking(False)
        sock.sendto(text.encode(), address)
