"""The daemon as a process: hostile datagrams, kill -9 at any moment, crash, hang, reload, refusals."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from hafsm.cli.main import main
from journal.export import export
from journal.reader import Journal
from replay.engine import replay
from tests.daemon.process import KEY, Daemon, Impostor


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path / "a")
    yield daemon
    if daemon.process is not None and daemon.process.poll() is None:
        daemon.power_cut()


@pytest.fixture
def peer(daemon: Daemon) -> Iterator[Impostor]:
    peer = Impostor(daemon)
    yield peer
    peer.close()


def holds(status: dict) -> bool:
    return status["stable"] and status["holds"] == "all"


def replays(daemon: Daemon, target: Path) -> None:
    export(daemon.journal, target)
    with Journal(target) as journal:
        assert journal.verify().events > 0
    result = replay(target)
    assert result.identical, result.difference


def test_hostile_datagrams_change_nothing_but_a_counter(daemon: Daemon, peer: Impostor, tmp_path: Path) -> None:
    daemon.start()
    daemon.waits_until(holds)
    good = peer.status()
    forger = Impostor.__new__(Impostor)
    forger.__dict__.update(peer.__dict__)
    forger.ring = type(peer.ring)([type(peer.ring._active)(1, "sha1", b"another key")], 1)
    noise = random.Random(1)
    hostile = [
        b"",
        b"\0",
        noise.randbytes(1400),
        b"###\n" + noise.randbytes(400),
        good[: len(good) // 2],
        good[:-1] + b"x",
        b"###\n" + b"9" * 60_000,
        good + b"A" * 60_000,
        forger.message("shutdone", ("st", "dead")),
        forger.status(),
        b">>>\nt=status\n<<<\n\0",
    ]
    hostile += [bytes([byte ^ 1]) + good[1:] for byte in good[:1]]
    before = daemon.status()

    def flooded(status: dict) -> bool:
        """Some are lost, for the daemon's socket buffer is bounded: send until enough were counted."""
        for datagram in hostile:
            peer.send(datagram)
        counts = status["refused_datagrams"]
        return sum(counts.values()) >= 100 and {"bad_auth", "not_framed", "truncated"} <= counts.keys()

    after = daemon.waits_until(flooded)
    for key in ("holds", "vips", "groups", "phase", "generation"):
        assert after[key] == before[key], key
    assert [node["state"] for node in after["nodes"]] == [node["state"] for node in before["nodes"]]
    assert daemon.stop() == 0
    replays(daemon, tmp_path / "x.db")


def test_recorded_datagrams_sent_again_are_refused(daemon: Daemon, peer: Impostor) -> None:
    daemon.start()
    daemon.waits_until(holds)
    recorded = [peer.status(), peer.message("shutdone", ("st", "dead"))]
    for datagram in recorded:
        peer.send(datagram)
    daemon.waits_until(
        lambda status: status["nodes"][1]["state"] == "dead" and status["nodes"][1]["generation"] == 1000
    )
    peer.generation, peer.sequence = 1001, 0
    peer.send(peer.status())
    daemon.waits_until(lambda status: status["nodes"][1]["generation"] == 1001)
    for _ in range(10):
        for datagram in recorded:
            peer.send(datagram)
    status = daemon.waits_until(lambda status: status["refused_datagrams"].get("old_generation", 0) >= 10)
    assert status["nodes"][1]["generation"] == 1001
    daemon.power_cut()
    daemon.start()
    daemon.waits_until(holds)
    for datagram in recorded:
        peer.send(datagram)
    status = daemon.waits_until(lambda status: status["refused_datagrams"].get("old_generation", 0) >= 1)
    assert status["nodes"][1]["generation"] == 0, "a recording is no peer, whatever was forgotten meanwhile"


def test_kill_9_at_any_moment_leaves_a_journal_that_opens_verifies_and_replays(daemon: Daemon, tmp_path: Path) -> None:
    moments = random.Random(7)
    for life in range(8):
        daemon.start()
        if life % 2:
            daemon.waits_until(lambda status: status["event"] > 0)
        time.sleep(moments.random() * 0.8)  # the moment itself is the point
        daemon.power_cut()
    daemon.start()
    daemon.waits_until(holds)
    assert daemon.stop() == 0
    replays(daemon, tmp_path / "x.db")


def test_a_core_that_crashes_lives_again_and_its_peer_was_told(daemon: Daemon, peer: Impostor) -> None:
    daemon.start()
    daemon.waits_until(holds)
    first = daemon.core_pid()
    os.kill(first, signal.SIGKILL)
    heard = []
    end = time.monotonic() + 10
    while not any(b"NS_goodbye" in datagram for datagram in heard):
        assert time.monotonic() < end, heard
        heard.append(peer.sock.recv(65536))
    status = daemon.waits_until(lambda status: holds(status) and status["generation"] > 0)
    assert daemon.core_pid() != first
    assert "the core ended with signal 9" in daemon.log
    assert status["generation"] >= 2


def test_a_core_that_hangs_is_replaced(daemon: Daemon) -> None:
    daemon.start()
    daemon.waits_until(holds)
    first = daemon.core_pid()
    os.kill(first, signal.SIGSTOP)
    end = time.monotonic() + 20
    while True:
        try:
            if daemon.core_pid() != first:
                break
        except (IndexError, FileNotFoundError):
            pass
        assert time.monotonic() < end, daemon.log
        time.sleep(0.05)
    assert "gave no sign of life for 2 s" in daemon.log
    daemon.waits_until(holds)


def test_an_edited_file_is_applied_and_a_broken_one_is_not(daemon: Daemon) -> None:
    daemon.start()
    daemon.waits_until(holds)
    path = daemon.folder / "ha.d/ldirectord.cf"
    good = path.read_text()
    path.write_text(good + "\treal=127.0.1.22:18080 masq 3\n")
    daemon.waits_until(lambda status: len(status["services"][0]["reals"]) == 2)
    path.write_text(good + "\treal=nonsense nowhere\n")
    status = daemon.waits_until(lambda status: status["configuration"] != "as read")
    assert "ldirectord.cf" in status["configuration"] and len(status["services"][0]["reals"]) == 2
    path.write_text(good)
    daemon.waits_until(lambda status: len(status["services"][0]["reals"]) == 1)
    assert daemon.status()["configuration"] == "as read"


def test_sighup_to_the_daemon_applies_an_edited_file_without_autoreload(daemon: Daemon) -> None:
    """As systemd and administrators send it: to the process that they see, which is the supervisor."""
    path = daemon.folder / "ha.d/ldirectord.cf"
    path.write_text(path.read_text().replace("autoreload=yes", "autoreload=no"))
    daemon.start()
    daemon.waits_until(holds)
    path.write_text(path.read_text() + "\treal=127.0.1.22:18080 masq 3\n")
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGHUP)
    daemon.waits_until(lambda status: len(status["services"][0]["reals"]) == 2)


def test_a_second_daemon_refuses_to_start(daemon: Daemon) -> None:
    daemon.start()
    daemon.waits_until(lambda status: status["event"] > 0)
    again = subprocess.run(daemon.command, capture_output=True, text=True, timeout=20, check=False)
    assert again.returncode == 6
    assert daemon.process is not None
    assert f"hafsm runs already with pid {daemon.process.pid}" in again.stderr


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda d: (d.folder / "ha.d/authkeys").chmod(0o644), "authkeys"),
        (
            lambda d: (d.folder / "ha.d/haresources").write_text("director-a no-such-script\n"),
            "haresources names no-such-script",
        ),
        (lambda d: (d.folder / "ha.d/ha.cf").unlink(), "ha.cf"),
    ],
    ids=["authkeys", "script", "missing"],
)
def test_what_cannot_be_carried_out_refuses_to_start(daemon: Daemon, change, complaint: str) -> None:
    change(daemon)
    daemon.start()
    assert daemon.process is not None
    assert daemon.process.wait(20) == 6
    assert complaint in daemon.log and "Traceback" not in daemon.log


def test_no_secret_is_in_the_journal_or_the_log(daemon: Daemon) -> None:
    daemon.start()
    daemon.waits_until(holds)
    assert daemon.stop() == 0
    for file in [*daemon.journal.iterdir(), daemon.folder / "log"]:
        assert KEY.encode() not in file.read_bytes(), file


def test_events_status_and_export_answer_while_it_runs(daemon: Daemon, tmp_path: Path) -> None:
    daemon.start()
    daemon.waits_until(holds)
    settings = f"--settings={daemon.folder / 'hafsm.toml'}"
    events = CliRunner().invoke(main, ["events", settings])
    assert events.exit_code == 0 and "because hafsm " in events.output and "add_address" in events.output
    shown = CliRunner().invoke(main, ["status", settings])
    assert shown.exit_code == 0 and "127.0.1.100/8" in shown.output and "director-b" in shown.output
    target = tmp_path / "incident.db"
    for expected in (0, 1):
        assert CliRunner().invoke(main, ["export", str(target), settings]).exit_code == expected
    assert CliRunner().invoke(main, ["replay", str(target)]).exit_code == 0
    assert daemon.stop() == 0
    gone = CliRunner().invoke(main, ["status", settings])
    assert gone.exit_code == 1 and "Is `hafsm run` running?" in gone.output
