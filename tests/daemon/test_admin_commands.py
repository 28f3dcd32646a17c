"""standby, takeover, cl-status and their heartbeat names against two real daemons that talk over loopback."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hafsm.cli.ask import NotObeyed, ask
from tests.daemon.process import ADDRESS, PEER, PEER_ADDRESS, Daemon

HAFSM = Path(sys.executable).with_name("hafsm")


def second(first: Daemon, folder: Path) -> Daemon:
    """director-b for this director-a."""
    daemon = Daemon(folder)
    changes = {
        "ha.d/ha.cf": {
            f"udpport {daemon.port}": f"udpport {first.port}",
            f"ucast lo {PEER_ADDRESS}": f"ucast lo {ADDRESS}",
        },
        "hafsm.toml": {'"director-a"': f'"{PEER}"', f'"{ADDRESS}"': f'"{PEER_ADDRESS}"'},
    }
    for name, words in changes.items():
        text = (folder / name).read_text()
        for old, new in words.items():
            assert old in text
            text = text.replace(old, new)
        (folder / name).write_text(text)
    return daemon


@pytest.fixture
def folder() -> Iterator[Path]:
    """Unlike pytest's own, one that other users may enter."""
    path = Path(tempfile.mkdtemp(prefix="hafsm-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def pair(folder: Path) -> Iterator[tuple[Daemon, Daemon]]:
    extra = "ping 127.0.0.1\napiauth monitor uid=nobody\n"
    a = Daemon(folder / "a", ha_cf=extra)
    b = second(a, folder / "b")
    yield a, b
    for daemon in (a, b):
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.power_cut()


def started(pair: tuple[Daemon, Daemon]) -> tuple[Daemon, Daemon]:
    a, b = pair
    a.start()
    b.start()
    a.waits_until(lambda status: status["resources"] == "local" and status["nodes"][1]["status"] == "active")
    b.waits_until(lambda status: status["resources"] == "local" and status["nodes"][0]["status"] == "active")
    return pair


def call(daemon: Daemon, command: str, *words: str, name: Path = HAFSM) -> tuple[int, str, str]:
    """Exit status, output and errors of `hafsm COMMAND`, or of the program NAME without a command."""
    head = [str(name), command] if command else [str(name)]
    done = subprocess.run(
        [*head, f"--settings={daemon.folder / 'hafsm.toml'}", *words], capture_output=True, text=True, timeout=90
    )
    return done.returncode, done.stdout, done.stderr


def holds(daemon: Daemon) -> str:
    return str(daemon.status()["holds"])


def path(daemon: Daemon) -> Path:
    return daemon.folder / "run/hafsm.sock"


def test_standby_and_takeover_move_the_groups_and_say_so(pair: tuple[Daemon, Daemon]) -> None:
    a, b = started(pair)
    user = pwd.getpwuid(os.geteuid()).pw_name

    code, output, errors = call(a, "standby")
    assert (code, errors) == (0, "")
    asked, ended = output.splitlines()
    assert asked == f"standby all asked by {user}: offering local resources to director-b"
    assert ended.startswith("director-b holds local resources of director-a now (after ")
    assert (holds(a), holds(b)) == ("none", "all")
    assert b.status()["vips"][0]["here"] and not a.status()["vips"][0]["here"]

    assert call(a, "standby", "local") == (0, f"standby local asked by {user}: this director holds none of them\n", "")

    code, output, errors = call(a, "takeover", "failback")
    assert (code, errors) == (0, "")
    asked, ended = output.splitlines()
    assert asked == f"takeover local asked by {user}: asking director-b for local resources"
    assert ended.startswith("director-a holds local resources now (after ")
    assert (holds(a), holds(b)) == ("local", "local")

    assert call(b, "takeover", "foreign", "--no-wait")[:2] == (
        0,
        f"takeover foreign asked by {user}: asking director-a for foreign resources\n",
    )
    b.waits_until(lambda status: status["resources"] == "all")
    assert call(b, "takeover") == (0, f"takeover all asked by {user}: this director holds them already\n", "")
    assert call(b, "standby", "failback")[0] == 0
    assert (holds(a), holds(b)) == ("local", "local")


def test_a_refusal_and_a_missing_daemon_are_errors_with_the_reason(pair: tuple[Daemon, Daemon]) -> None:
    a, _ = pair
    assert call(a, "standby") == (1, "", f"hafsm is not running: nothing listens at {path(a)}\n")
    a.start()
    a.waits_until(lambda status: status["resources"] == "all")
    user = pwd.getpwuid(os.geteuid()).pw_name
    refused = f"standby all asked by {user}: refused, there is no other director to hand over to or from\n"
    assert call(a, "standby") == (1, "", refused)
    assert holds(a) == "all"
    a.power_cut()
    assert path(a).is_socket(), "the socket of the dead daemon is still there"
    assert call(a, "takeover") == (1, "", f"hafsm is not running: nothing listens at {path(a)}\n")


def test_what_is_not_understood_is_answered_with_what_was_found_and_expected(pair: tuple[Daemon, Daemon]) -> None:
    a, _ = pair
    a.start()
    before = a.waits_until(lambda status: status["resources"] == "all")
    expected = '; expected {"hold": WORD} and nothing else'
    for question, body, error in (
        ("/v1/standby", b'{"hold": "half"}', 'hold is "half"; expected one of all, local, foreign, failback'),
        ("/v1/standby", b'{"hold": 3}', "hold is 3; expected one of all, local, foreign, failback"),
        ("/v1/takeover", b'{"hold": "all", "now": true}', f'found {{"hold": "all", "now": true}}{expected}'),
        ("/v1/takeover", b"[]", f"found []{expected}"),
        (
            "/v1/standby",
            b"hold=all",
            'the body is not JSON (Expecting value: line 1 column 1 (char 0)); expected {"hold": WORD}',
        ),
    ):
        assert raw(a, "POST", question, body) == (400, {"error": error})
    assert raw(a, "POST", "/v1/standby", b" " * 5000)[0] == 413
    assert raw(a, "POST", "/v1/status", b"")[0] == 405
    assert raw(a, "GET", "/v1/other", b"")[0] == 404
    after = a.status()
    assert after["reasons"] == before["reasons"], "nothing was decided on any of them"


def raw(daemon: Daemon, method: str, question: str, body: bytes) -> tuple[int, object]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(str(path(daemon)))
        head = f"{method} {question} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    top, _, content = answer.partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(content)


AS_USER = """
import os, sys
from hafsm.cli import ask, cl_status, main, options, standby
os.setgroups([]); os.setgid({gid}); os.setuid({uid})
main.main(sys.argv[1:])
"""
"""Everything is imported before the rights are dropped: the user may not be able to read this checkout."""


def call_as(daemon: Daemon, uid: int, gid: int, *words: str) -> tuple[int, str, str]:
    command, *rest = words
    done = subprocess.run(
        [
            *(sys.executable, "-c", AS_USER.format(uid=uid, gid=gid)),
            *(command, f"--settings={daemon.folder / 'hafsm.toml'}", *rest),
        ],
        capture_output=True,
        text=True,
        timeout=90,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can try what other users may do")
def test_the_kernel_says_who_asks_and_apiauth_who_may(pair: tuple[Daemon, Daemon]) -> None:
    a, b = started(pair)
    nobody = pwd.getpwnam("nobody")
    stranger = 54321
    assert stat.S_IMODE(path(a).stat().st_mode) == 0o666, "apiauth names a user outside the socket's group"

    code, output, errors = call_as(a, stranger, stranger, "standby")
    assert (code, output) == (1, "")
    assert errors.startswith(f"uid {stranger} may not command this daemon; permitted are root, ")
    assert "nobody" in errors
    assert holds(a) == "local"
    assert "may not command this daemon" in a.log
    assert call_as(a, stranger, stranger, "cl-status", "rscstatus") == (0, "local\n", "")

    code, output, errors = call_as(a, nobody.pw_uid, nobody.pw_gid, "standby")
    assert (code, errors) == (0, "")
    assert output.startswith("standby all asked by nobody: offering local resources to director-b\n")
    assert (holds(a), holds(b)) == ("none", "all")

    assert stat.S_IMODE(path(b).stat().st_mode) in (0o600, 0o660)
    assert call_as(b, stranger, stranger, "takeover") == (
        1,
        "",
        f"not permitted to connect to {path(b)}: see [api] group and apiauth of ha.cf\n",
    )
    assert call_as(b, stranger, stranger, "cl-status", "hbstatus") == (
        1,
        "Heartbeat is apparently running on this machine, but refuses my connection\n",
        f"cl_status: not permitted to connect to {path(b)}: see [api] group and apiauth of ha.cf\n",
    )


def test_cl_status_of_a_pair(pair: tuple[Daemon, Daemon]) -> None:
    a, b = pair
    assert call(a, "cl-status", "hbstatus") == (1, "Heartbeat is stopped on this machine.\n", "")
    not_running = f"cl_status: hafsm is not running: nothing listens at {path(a)}\n"
    assert call(a, "cl-status", "rscstatus") == (1, "", not_running)
    started(pair)
    a.waits_until(lambda status: status["pings"][0]["alive"] or os.geteuid() != 0)
    assert call(a, "cl-status", "hbstatus") == (0, "Heartbeat is running on this machine.\n", "")
    assert call(a, "cl-status", "listnodes") == (0, "127.0.0.1\ndirector-b\ndirector-a\n", "")
    assert call(a, "cl-status", "nodestatus", "director-b") == (0, "active\n", "")
    assert call(a, "cl-status", "rscstatus", "-m") == (0, "This node is holding local resources.\n", "")
    assert call(a, "cl-status", "hblinkstatus", "director-b", "lo") == (0, "up\n", "")
    assert call(a, "cl-status", "hbparameter", "-p", "keepalive") == (0, "100ms\n", "")
    b.power_cut()
    a.waits_until(lambda status: status["resources"] == "all")
    assert call(a, "cl-status", "nodestatus", "director-b") == (1, "dead\n", "")
    assert call(a, "cl-status", "hblinkstatus", "director-b", "lo") == (1, "dead\n", "")


def test_a_symlink_of_heartbeats_name_is_heartbeats_command(pair: tuple[Daemon, Daemon], folder: Path) -> None:
    a, b = started(pair)
    for name in ("cl_status", "hb_standby", "hb_takeover"):
        (folder / name).symlink_to(HAFSM)
    assert call(a, "", "rscstatus", name=folder / "cl_status") == (0, "local\n", "")
    assert call(a, "", "half", name=folder / "hb_standby") == (
        1,
        "",
        "hb_standby: found half; expected at most one of all, local, foreign, failback\n"
        "usage: hb_standby [all|foreign|local|failback]\n",
    )
    code, output, errors = call(a, "", name=folder / "hb_standby")
    assert (code, output) == (0, "") and "offering local resources to director-b" in errors
    a.waits_until(lambda status: status["resources"] == "none")
    b.waits_until(lambda status: status["resources"] == "all")
    code, output, errors = call(a, "", "local", name=folder / "hb_takeover")
    assert (code, output) == (0, "") and "asking director-b for local resources" in errors
    a.waits_until(lambda status: status["resources"] == "local")
    b.power_cut()
    a.waits_until(lambda status: status["resources"] == "all")
    code, output, errors = call(a, "", name=folder / "hb_standby")
    assert (code, output) == (0, ""), "heartbeat's command returns 0 whatever follows"
    assert "refused, there is no other director" in errors


def test_the_group_of_the_settings_may_command(pair: tuple[Daemon, Daemon]) -> None:
    """The socket belongs to that group; a group that does not exist leaves no socket and says why."""
    a, b = pair
    group = "nogroup"
    with (a.folder / "hafsm.toml").open("a") as file:
        file.write(f'[api]\ngroup = "{group}"\n')
    with (b.folder / "hafsm.toml").open("a") as file:
        file.write('[api]\ngroup = "no-such-group"\n')
    a.start()
    a.waits_until(lambda status: status["resources"] == "all")
    if os.geteuid() == 0:
        gid = path(a).stat().st_gid
        code, _, errors = call_as(a, 54321, gid, "standby")
        assert (code, errors.split(":")[0]) == (1, "standby all asked by uid 54321"), (
            "refused by the core, not for rights"
        )
    b.start()
    end = "[api] group no-such-group does not exist"
    assert b.process is not None
    limit = time.monotonic() + 20
    while end not in b.log:
        assert b.process.poll() is None and time.monotonic() < limit, b.log
        time.sleep(0.05)
    with pytest.raises(NotObeyed, match="expected one of"):
        ask(path(a), "/v1/standby", {"hold": "half"})
