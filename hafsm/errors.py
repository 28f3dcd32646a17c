"""The exception tree.

    HafsmError
    ├── ConfigError      the operator can fix it: file, line, found, expected, remedy
    ├── PeerError        the other side sent something unusable
    ├── KernelError      the kernel refused; the errno is kept
    └── InvariantError   a bug of ours

`journal.errors.JournalError` stands apart: the journal package knows nothing of hafsm.

Conditions that happen in production (a peer gone, a full disk, EEXIST) are events, not exceptions that end the daemon.
"""

from __future__ import annotations

import errno as errno_names
from dataclasses import dataclass


class HafsmError(Exception):
    """Base of everything hafsm raises on purpose."""


@dataclass(eq=False)
class ConfigError(HafsmError):
    """Something the operator wrote cannot be used."""

    file: str
    """Path as the operator knows it."""
    line: int
    """1-based; 0 when the whole file is meant."""
    found: str
    """What stands there."""
    expected: str
    """What would have been understood."""
    remedy: str = ""
    """What to do, one sentence; empty when `expected` says it all."""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        text = f"{where}: {self.found}; expected {self.expected}"
        return f"{text}. {self.remedy}" if self.remedy else text


@dataclass(eq=False)
class PeerError(HafsmError):
    """A datagram that cannot be used."""

    reason: str
    """One of a small fixed set of words; it names a counter."""
    detail: str = ""
    """For a person; never contains key material."""

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


@dataclass(eq=False)
class KernelError(HafsmError):
    """The kernel refused an operation."""

    operation: str
    """What was asked, with its object: "add address 192.0.2.1/24 to eth0"."""
    errno: int
    """Positive errno."""
    detail: str = ""

    def __str__(self) -> str:
        name = errno_names.errorcode.get(self.errno, str(self.errno))
        return f"{self.operation}: {name}" + (f" ({self.detail})" if self.detail else "")


@dataclass(eq=False)
class InvariantError(HafsmError):
    """The impossible happened; the message is for whoever mends it."""

    message: str

    def __str__(self) -> str:
        return self.message
