"""Peer credentials, `[api] group` and apiauth, with users and groups that every Debian has."""

from __future__ import annotations

import grp
import os
import pwd
import socket

import pytest

from hafsm.config.model import ApiAuth
from hafsm.daemon.access import OPERATORS, Caller, access_of, caller_of, user_name

STRANGER = 54321


def uid(name: str) -> int:
    return pwd.getpwnam(name).pw_uid


def gid(name: str) -> int:
    return grp.getgrnam(name).gr_gid


def auth(name: str, *, uids: str = "", gids: str = "") -> ApiAuth:
    return ApiAuth(name=name, uids=tuple(uids.split()), gids=tuple(gids.split()))


def operators_exist() -> bool:
    return any(group.gr_name == OPERATORS for group in grp.getgrall())


def test_the_kernel_names_the_caller() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        caller = caller_of(ours)
    assert caller.uid == os.geteuid()
    assert caller.gids[0] == os.getegid()
    assert set(os.getgroups()) <= set(caller.gids)


def test_names_of_users() -> None:
    assert user_name(0) == "root"
    assert user_name(STRANGER) == f"uid {STRANGER}"


def test_without_a_word_in_any_file() -> None:
    access = access_of(None, ())
    assert access.permits(Caller(0, (0,)))
    assert access.permits(Caller(os.geteuid(), (STRANGER,)))
    assert not access.permits(Caller(STRANGER, (STRANGER,)))
    assert not access.permits(Caller(uid("nobody"), (gid("nogroup"),)))
    if operators_exist():
        assert (access.socket_mode, access.socket_group) == (0o660, gid(OPERATORS))
        assert access.permits(Caller(STRANGER, (STRANGER, gid(OPERATORS))))
    else:
        assert (access.socket_mode, access.socket_group) == (0o600, None)


def test_the_group_of_the_settings() -> None:
    access = access_of("adm", ())
    assert (access.socket_mode, access.socket_group) == (0o660, gid("adm"))
    assert access.permits(Caller(STRANGER, (gid("adm"),)))
    assert access.permits(Caller(STRANGER, (STRANGER, gid("bin"), gid("adm")))), "not only the primary group counts"
    assert not access.permits(Caller(STRANGER, (gid("bin"),)))
    with pytest.raises(KeyError, match=r"\[api\] group no-such-group does not exist"):
        access_of("no-such-group", ())


def test_any_entry_permits_and_a_user_needs_to_be_in_one_list_only() -> None:
    access = access_of(None, (auth("monitor", uids="nobody daemon"), auth("default", uids="bin", gids="adm")))
    for name in ("nobody", "daemon", "bin"):
        assert access.permits(Caller(uid(name), (STRANGER,)))
    assert access.permits(Caller(STRANGER, (gid("adm"),)))
    assert not access.permits(Caller(uid("mail"), (gid("mail"),)))


def test_a_line_replaces_the_default_of_its_name() -> None:
    access = access_of(None, (auth("ping", uids="root"), auth("anon", uids="root"), auth("ipfail", uids="daemon")))
    assert OPERATORS not in dict(access.groups).values()
    assert "daemon" in dict(access.users).values()


@pytest.mark.parametrize(
    ("group", "entry", "mode"),
    [
        ("daemon", auth("a", uids="root"), 0o660),
        ("daemon", auth("a", uids="daemon"), 0o660),
        ("daemon", auth("a", gids="daemon"), 0o660),
        ("daemon", auth("a", uids="nobody"), 0o666),
        ("daemon", auth("a", gids="adm"), 0o666),
        ("daemon", auth("a", uids="no-such-user", gids="no-such-group"), 0o660),
    ],
)
def test_the_socket_opens_as_far_as_needed(group: str, entry: ApiAuth, mode: int) -> None:
    access = access_of(group, (entry,))
    assert (access.socket_mode, access.socket_group) == (mode, gid(group))


def test_names_that_do_not_exist_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    access = access_of(None, (auth("monitor", uids="no-such-user", gids="no-such-group"),))
    assert [record.getMessage() for record in caplog.records] == [
        "apiauth monitor of ha.cf names the user no-such-user, who does not exist here",
        "apiauth monitor of ha.cf names the group no-such-group, which does not exist here",
    ]
    assert access == access_of(None, ())


def test_the_refusal_names_who_is_permitted() -> None:
    access = access_of("adm", (*(auth(name, uids="root") for name in ("ipfail", "ccm", "ping", "anon")),))
    own = "" if os.geteuid() == 0 else f"{user_name(os.geteuid())}, "
    assert access.refusal("mallory") == (
        f"mallory may not command this daemon; permitted are root, {own}the group adm ([api] group, apiauth of ha.cf)"
    )
