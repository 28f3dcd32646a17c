"""The kernel's watchdog device: once opened, a director whose daemon hangs is reset by the kernel.

Fed by the supervisor, and only on a sign of life of the core's loop. Source: heartbeat 3 `watchdog` (timeout =
deadtime + 10 ms, rounded up to seconds; "V" before a clean close).
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import struct
import subprocess
from pathlib import Path

from hafsm.errors import KernelError

log = logging.getLogger("hafsm.watchdog")

_WDIOC_SETTIMEOUT = 0xC0045706


class Watchdog:
    """An open device."""

    def __init__(self, device: str, deadtime_ns: int) -> None:
        """Raises `KernelError`. A missing device is looked for once more after loading `softdog`."""
        if not Path(device).exists():
            subprocess.run(["modprobe", "softdog"], capture_output=True, check=False, timeout=10)
        try:
            self._device = os.open(device, os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            raise KernelError(
                f"open watchdog {device}",
                error.errno or 0,
                "load a watchdog driver (`modprobe softdog`) or take the line `watchdog` out of ha.cf",
            ) from error
        timeout_s = -(-(deadtime_ns + 10_000_000) // 1_000_000_000)
        try:
            fcntl.ioctl(self._device, _WDIOC_SETTIMEOUT, struct.pack("i", timeout_s))
        except OSError as error:
            if error.errno not in (errno.ENOTTY, errno.EOPNOTSUPP):
                self.close()
                raise KernelError(f"set watchdog {device} to {timeout_s} s", error.errno or 0) from error
            log.warning("watchdog %s keeps the timeout of its driver: it cannot be set to %d s", device, timeout_s)

    def feed(self) -> None:
        """Postpone the reset. Raises OSError if the device is gone."""
        os.write(self._device, b"\n")

    def close(self) -> None:
        """Magic close: the driver stops watching."""
        try:
            os.write(self._device, b"V")
        finally:
            os.close(self._device)
