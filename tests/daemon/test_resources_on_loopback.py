"""A group with every kind of resource, started, held and stopped by the process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from journal.export import export
from journal.reader import Journal
from replay.engine import replay
from tests.daemon.process import Daemon

HARESOURCES = (
    "director-a IPaddr::127.0.1.100/8/lo web::one::two SendArp::127.0.1.100/lo LVSSyncDaemonSwap::master::lo::7 \\\n"
    "    MailTo::root,ops::Test ldirectord\n"
)


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path / "a")
    (daemon.folder / "ha.d/haresources").write_text(HARESOURCES)
    programs = {
        "web": '#!/bin/sh\necho "$@" >> "$0.log"\n[ "$3" = status ] && echo stopped\nexit 0\n',
        "sendmail": '#!/bin/sh\nsleep 0.5\necho "$@" >> "$0.log"\ncat >> "$0.log"\n',
    }
    for name, text in programs.items():
        (daemon.folder / name).write_text(text)
        (daemon.folder / name).chmod(0o755)
    with (daemon.folder / "hafsm.toml").open("a") as settings:
        settings.write(f'[scripts]\nsearch = ["{daemon.folder}"]\n')
    monkeypatch.setenv("PATH", f"{daemon.folder}:{os.environ['PATH']}")
    yield daemon
    if daemon.process is not None and daemon.process.poll() is None:
        daemon.power_cut()


def test_a_group_of_all_kinds(daemon: Daemon, tmp_path: Path) -> None:
    daemon.start()
    daemon.waits_until(lambda status: [group["state"] for group in status["groups"]] == ["started"])
    assert daemon.stop() == 0
    words = (daemon.folder / "web.log").read_text().splitlines()
    assert words == [f"one two {verb}" for verb in ("status", "status", "start", "stop")], "the first cleans up"
    mails = (daemon.folder / "sendmail.log").read_text()
    assert mails.startswith("-i root ops\nTo: root, ops\nSubject: Test: group IPaddr::127.0.1.100/8/lo starts on")
    assert "/lo stops on director-a" in mails, "a daemon that ends waits for the mail that says so"
    export(daemon.journal, tmp_path / "x.db")
    with Journal(tmp_path / "x.db") as journal:
        outcomes = [
            (action.kind, '"outcome":"done"' in result.payload)
            for action in journal.actions()
            if action.kind in ("announce_address", "set_sync_daemon")
            and (result := journal.result(action.id)) is not None
        ]
    assert outcomes == [
        ("set_sync_daemon", True),
        ("announce_address", True),
        ("set_sync_daemon", True),
        ("set_sync_daemon", True),
    ], "backup before anything is held, master while it is, backup again"
    assert replay(tmp_path / "x.db").identical
