"""maintenancedir, fallbackcommand, monitorfile, emailalert, callback, execute: one ldirectord.cf asks for all."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon.process import Daemon
from tests.daemon.test_operators_on_loopback import PORT, R21, R22, VIP, Web, has, replays

WEB = '\tservice=http\n\tscheduler=rr\n\trequest="index.html"\n'


def until(condition: Callable[[], object], what: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.05)


def text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web()
    for address in ("127.0.1.21", "127.0.1.22"):
        web.start(address)
    yield web
    for address in tuple(web.servers):
        web.stop(address)


@pytest.fixture
def daemon(tmp_path: Path, web: Web) -> Iterator[Daemon]:
    (tmp_path / "maintenance").mkdir()
    command = script(tmp_path / "fallback", f'echo "$@" >> {tmp_path}/fallback.told')
    callback = script(tmp_path / "callback", f'echo "$@" >> {tmp_path}/callback.told')
    script(tmp_path / "sendmail", f"cat >> {tmp_path}/mails")
    other = tmp_path / "other.cf"
    other.write_text(f"virtual=127.0.1.101:{PORT}\n\treal=127.0.1.21:{PORT} masq\n{WEB}")
    configuration = (
        "checkinterval=1\nchecktimeout=2\nautoreload=yes\nquiescent=yes\n"
        f'maintenancedir={tmp_path}/maintenance\ncallback="{callback}"\nexecute={other}\n'
        "emailalert=root, ops@example.com\nemailalertstatus=running\n"
        f"virtual={VIP}\n\treal={R21} masq\n\treal={R22} masq 2\n\tfallback=127.0.1.23:{PORT} masq\n"
        f"\tfallbackcommand={command}\n\tmonitorfile={tmp_path}/monitor\n\tservicename=Shop\n{WEB}"
    )
    daemon = Daemon(tmp_path / "a", ldirectord_cf=configuration)
    yield daemon
    if daemon.process is not None and daemon.process.poll() is None:
        daemon.power_cut()


def test_all_of_them(daemon: Daemon, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    daemon.start()
    up = has(r21=1, r22=2)
    status = daemon.waits_until(up)
    assert [service["service"] for service in status["services"]] == [f"tcp:{VIP}", f"tcp:127.0.1.101:{PORT}"]
    assert text(tmp_path / "fallback.told") == "", "a start is no transition"

    (tmp_path / "maintenance/127.0.1.21").touch()
    daemon.waits_until(has(r21=0, r22=2))
    until(
        lambda: f"Subject: [Shop] Quiescent real server: {R21}" in text(tmp_path / "mails"),
        lambda: text(tmp_path / "mails") + daemon.log,
    )
    assert "To: root, ops@example.com" in text(tmp_path / "mails") and "in maintenance" in text(tmp_path / "mails")
    until(lambda: "[down] Server in maintenance" in text(tmp_path / "monitor"), lambda: text(tmp_path / "monitor"))
    assert f"negotiate http tcp 127.0.1.22 {PORT} 2 masq /index.html [up]" in text(tmp_path / "monitor")

    web.stop("127.0.1.22")
    daemon.waits_until(has(r21=0, r22=0))
    until(lambda: text(tmp_path / "fallback.told"), lambda: daemon.log)
    assert text(tmp_path / "fallback.told") == f"start {VIP} tcp\n"
    (tmp_path / "maintenance/127.0.1.21").unlink()
    daemon.waits_until(has(r21=1, r22=0))
    until(lambda: text(tmp_path / "fallback.told").endswith(f"stop {VIP} tcp\n"), lambda: daemon.log)
    web.start("127.0.1.22")
    daemon.waits_until(up)

    other = tmp_path / "other.cf"
    other.write_text(text(other).replace("masq", "masq 4"))
    daemon.waits_until(lambda status: status["services"][1]["reals"][0]["weight"] == 4)
    until(lambda: text(tmp_path / "callback.told"), lambda: daemon.log)
    assert text(tmp_path / "callback.told") == f"{daemon.folder}/ha.d/ldirectord.cf\n"
    assert daemon.stop() == 0
    assert text(tmp_path / "fallback.told").splitlines() == [f"{word} {VIP} tcp" for word in ("start", "stop")]
    replays(daemon, tmp_path / "x.db")
