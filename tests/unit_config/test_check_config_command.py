"""The command as a person and as a script see it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from click.testing import CliRunner

from hafsm.cli.check_config import check_config
from tests.unit_config.config_support import NODE, SCENARIO

PROGRAM = "from hafsm.cli.check_config import check_config; check_config()"


def run(directory: Path, *options: str) -> tuple[int, str]:
    (directory / "hafsm.toml").touch()
    result = CliRunner().invoke(check_config, [str(directory), "--settings", str(directory / "hafsm.toml"), *options])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output.replace(f"{directory}/", "")


def test_a_sound_configuration(directory: Path) -> None:
    code, output = run(directory, "--node", NODE)
    assert code == 0
    lines = [re.sub(r"  +", "  ", line.strip()) for line in output.split("\n")]
    for line in (
        f"Cluster, seen from {NODE}",
        "node  server40.example.com server19.example.com  the first is the primary",
        "deadtime  30 s  silence that means death",
        "eth0  bcast  broadcast, port 694",
        "server40.example.com  IPaddr::192.168.2.232/24/eth0:0",
        "tcp:192.168.2.232:80  192.168.2.31:80  gate  1  GET /index.html at port 80, every 1 s, within 3 s",
        "rr  192.168.2.41:80  gate  1  GET /index.html at port 80, every 1 s, within 3 s",
        "127.0.0.1:80  gate  fallback while no server is up",
        "1  sha1  signs",
        "0 errors, 0 warnings: the daemon can start",
    ):
        assert line in lines
    assert "LabSecretKey" not in output


def test_errors_come_first_and_decide_the_exit_status(directory: Path) -> None:
    (directory / "authkeys").write_text("auth 1\n1 crc\n")
    with (directory / "ldirectord.cf").open("a") as file:
        file.write("nonsense=1\n")
    assert run(directory, "--node", NODE) == (
        1,
        'error: ldirectord.cf:22: unknown directive "nonsense"; expected a directive of ldirectord.cf\n'
        "warning: authkeys:2: crc is the active method: anyone on the network can forge heartbeats and take the "
        "addresses; expected sha1. Make one with: echo 1 sha1 $(openssl rand -hex 20)\n"
        "1 error, 1 warning: the daemon will not start\n",
    )


def test_square_brackets_are_no_markup(directory: Path) -> None:
    text = (directory / "ldirectord.cf").read_text().replace('#\treceive="Test Page"', '\treceive="[a-z][/b]"')
    (directory / "ldirectord.cf").write_text(text)
    code, output = run(directory, "--node", NODE)
    assert code == 0
    assert "body matches [a-z][/b], every 1 s" in output


def test_settings_name_the_node_and_their_errors_count(directory: Path) -> None:
    (directory / "hafsm.toml").write_text('node_name = "server19.example.com"\n')
    code, output = run(directory)
    assert (code, output.split("\n")[0].rstrip()) == (0, "Cluster, seen from server19.example.com")
    (directory / "hafsm.toml").write_text("x = 1\n")
    code, output = run(directory, "--node", NODE)
    assert code == 1
    assert output.split("\n")[-3].startswith('error: hafsm.toml:1: unknown key "x"; expected one of node_name,')


def test_this_host_is_looked_at_only_when_it_is_the_node(directory: Path) -> None:
    text = (directory / "ha.cf").read_text().replace("bcast eth0", "bcast nosuch0")
    (directory / "ha.cf").write_text(text.replace("server19.example.com", os.uname().nodename))
    assert "interface nosuch0" not in run(directory, "--node", NODE)[1]
    assert "warning: ha.cf: interface nosuch0 is not on this host" in run(directory)[1]


def test_a_script_that_is_nowhere_keeps_the_daemon_from_starting(directory: Path) -> None:
    text = (directory / "ha.cf").read_text().replace("bcast eth0", "bcast lo")
    (directory / "ha.cf").write_text(text.replace("server19.example.com", os.uname().nodename))
    (directory / "haresources").write_text(f"{NODE} 192.168.2.232/24/lo no-such-script ldirectord\n")
    scripts = directory / "scripts"
    scripts.mkdir()
    (directory / "hafsm.toml").write_text(f'[scripts]\nsearch = ["{scripts}"]\n')
    code, output = run(directory)
    assert code == 1
    assert (
        'error: haresources: resource "no-such-script" is not on this host; expected an executable of that name in '
        "scripts, an OCF agent, or a systemd unit\n" in output
    )
    (scripts / "no-such-script").write_text("#!/bin/sh\n")
    (scripts / "no-such-script").chmod(0o755)
    assert run(directory)[0] == 0


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_never_cuts_places_or_addresses(directory: Path, columns: int) -> None:
    """Each finding is written as one line that the terminal wraps; tables fit its width."""
    deep = directory / "a-directory-with-quite-a-long-name" / "and-another-one-below-it-to-fill-the-line"
    deep.mkdir(parents=True)
    for name in ("ha.cf", "haresources", "ldirectord.cf"):
        (deep / name).write_bytes((SCENARIO / name).read_bytes())
    (deep / "authkeys").write_text("auth 1\n1 crc\n")
    (deep / "authkeys").chmod(0o600)
    (directory / "hafsm.toml").touch()
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("4H", 50, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(deep), "--node", NODE, "--settings", str(directory / "hafsm.toml")],
        stdout=child,
        stderr=child,
        stdin=subprocess.DEVNULL,
        cwd=Path(__file__).resolve().parents[2],
        env=environment | {"TERM": "xterm"},
    )
    os.close(child)
    output = b""
    try:
        while data := os.read(parent, 65536):
            output += data
    except OSError:  # EIO: the program closed its side
        pass
    finally:
        os.close(parent)
        assert process.wait(timeout=30) == 0, output
    lines = re.sub(r"\x1b\[[0-9;]*m", "", output.decode()).replace("\r", "").split("\n")
    assert any(f"{deep}/authkeys:2: crc is the active method" in line for line in lines)
    tables = [line for line in lines if not line.startswith("warning: ")]
    assert max(len(line) for line in tables) <= columns
    for whole in ("tcp:192.168.2.232:80", "192.168.2.31:80", "192.168.2.41:80", "127.0.0.1:80"):
        assert any(whole in line for line in tables)
