"""Who may command the daemon: the kernel says who connects to the admin socket, ha.cf and hafsm.toml say who may.

Sources: unix(7) SO_PEERCRED and SO_PEERGROUPS; ha.cf `apiauth`. heartbeat lets every program that it accepts under any
client name send any message, so every entry counts here, and a user needs to be in one list only.
"""

from __future__ import annotations

import grp
import logging
import os
import pwd
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hafsm.config.model import ApiAuth

log = logging.getLogger("hafsm.api")

ROOT = 0
OPERATORS = "haclient"
"""Group that heartbeat's packages make for operators."""
_SO_PEERGROUPS = 59
_GROUPS_BYTES = 1024
"""The most that Python's getsockopt returns: 256 groups. Of a caller in more only the primary one counts."""

DEFAULTS = (
    ApiAuth(name="ipfail", uids=("hacluster",), gids=()),
    ApiAuth(name="ccm", uids=("hacluster",), gids=()),
    ApiAuth(name="ping", uids=(), gids=(OPERATORS,)),
    ApiAuth(name="lha-snmpagent", uids=("root",), gids=()),
    ApiAuth(name="anon", uids=("root",), gids=(OPERATORS,)),
)
"""What heartbeat assumes for the names it knows; a line of ha.cf with the same name replaces it."""


class HasOptions(Protocol):
    """A socket, or asyncio's view of one."""

    def getsockopt(self, level: int, option: int, length: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who connected, as the kernel noted it when he did."""

    uid: int
    gids: tuple[int, ...]
    """The primary group first."""


def caller_of(connection: HasOptions) -> Caller:
    """The process at the other end of a connected Unix socket. Raises OSError."""
    _pid, uid, gid = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        others = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES)
    except OSError:
        others = b""
    return Caller(uid, (gid, *struct.unpack(f"{len(others) // 4}I", others)))


def user_name(uid: int) -> str:
    """`alice`, or `uid 1234` for a user without a name. May ask a directory server: call it in a thread."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


@dataclass(frozen=True, slots=True)
class Access:
    """The rule, with every name looked up."""

    users: tuple[tuple[int, str], ...]
    """(uid, name) besides root, sorted."""
    groups: tuple[tuple[int, str], ...]
    """(gid, name), sorted."""
    socket_group: int | None
    """gid that the socket file belongs to; None: it keeps the daemon's."""
    socket_mode: int
    """0600 without a group, 0660 with one, 0666 where the file's group cannot express who may connect."""

    def permits(self, caller: Caller) -> bool:
        """Whether this caller may command."""
        if caller.uid == ROOT or any(caller.uid == uid for uid, _ in self.users):
            return True
        return any(gid in caller.gids for gid, _ in self.groups)

    def refusal(self, name: str) -> str:
        """The sentence for a caller of this name who may not."""
        allowed = ["root", *(user for _, user in self.users), *(f"the group {group}" for _, group in self.groups)]
        return f"{name} may not command this daemon; permitted are {', '.join(allowed)} ([api] group, apiauth of ha.cf)"


def access_of(group: str | None, apiauth: Sequence[ApiAuth]) -> Access:
    """The rule for `[api] group` and the apiauth lines. Looks names up: call it in a thread.

    Raises KeyError if `group` does not exist. A name of an apiauth line that does not exist is logged and left out.
    """
    written = {entry.name for entry in apiauth}
    defaults = [entry for entry in DEFAULTS if entry.name not in written]
    own = os.geteuid()
    socket_group = _gid_or_none(OPERATORS if group is None else group)
    if group is not None and socket_group is None:
        raise KeyError(f"[api] group {group} does not exist")
    users = {uid for uid, _ in _users(apiauth, say=True)} | {uid for uid, _ in _users(defaults, say=False)}
    groups = dict([*_groups(apiauth, say=True), *_groups(defaults, say=False)])
    if group is not None and socket_group is not None:
        groups[socket_group] = group
    return Access(
        users=tuple((uid, user_name(uid)) for uid in sorted((users | {own}) - {ROOT})),
        groups=tuple(sorted(groups.items())),
        socket_group=socket_group,
        socket_mode=_mode(apiauth, own, socket_group),
    )


def _mode(apiauth: Sequence[ApiAuth], own: int, socket_group: int | None) -> int:
    """Heartbeat's defaults do not open the socket to everybody: only what the operator wrote does."""
    for uid, name in _users(apiauth, say=False):
        if uid not in (ROOT, own) and socket_group not in os.getgrouplist(name, pwd.getpwuid(uid).pw_gid):
            return 0o666
    if any(gid != socket_group for gid, _ in _groups(apiauth, say=False)):
        return 0o666
    return 0o600 if socket_group is None else 0o660


def _users(entries: Iterable[ApiAuth], *, say: bool) -> Iterable[tuple[int, str]]:
    for entry in entries:
        for name in entry.uids:
            try:
                yield pwd.getpwnam(name).pw_uid, name
            except KeyError:
                if say:
                    log.warning("apiauth %s of ha.cf names the user %s, who does not exist here", entry.name, name)


def _groups(entries: Iterable[ApiAuth], *, say: bool) -> Iterable[tuple[int, str]]:
    for entry in entries:
        for name in entry.gids:
            gid = _gid_or_none(name)
            if gid is not None:
                yield gid, name
            elif say:
                log.warning("apiauth %s of ha.cf names the group %s, which does not exist here", entry.name, name)


def _gid_or_none(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None
