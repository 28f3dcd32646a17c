"""Operators' commands, reloads and restarts against real daemons whose real servers really answer."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from journal.export import export
from replay.engine import replay
from tests.daemon.process import Daemon
from tests.daemon.test_admin_commands import HAFSM, second

with socket.create_server(("127.0.1.21", 0)) as _free:
    PORT = _free.getsockname()[1]
VIP = f"127.0.1.100:{PORT}"
KEY = f"tcp:{VIP}"
R21, R22 = f"127.0.1.21:{PORT}", f"127.0.1.22:{PORT}"
CONFIGURATION = (
    "checkinterval=1\nchecktimeout=2\nautoreload=yes\nquiescent=yes\n"
    f"virtual={VIP}\n\treal={R21} masq\n\treal={R22} masq 2\n"
    '\tservice=http\n\tscheduler=rr\n\trequest="index.html"\n'
)


class Page(http.server.BaseHTTPRequestHandler):
    """Answers with the address that it was asked at; keeps the connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.server.server_address[0].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Web:
    """The real servers."""

    def __init__(self) -> None:
        self.servers: dict[str, http.server.ThreadingHTTPServer] = {}

    def start(self, address: str) -> None:
        server = http.server.ThreadingHTTPServer((address, PORT), Page)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.servers[address] = server

    def stop(self, address: str) -> None:
        server = self.servers.pop(address)
        server.shutdown()
        server.server_close()


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
    daemon = Daemon(tmp_path / "a", ldirectord_cf=CONFIGURATION)
    yield daemon
    if daemon.process is not None and daemon.process.poll() is None:
        daemon.power_cut()


def weights(status: dict) -> dict[str, int | None]:
    return {real["real"]: real["weight"] for real in status["services"][0]["reals"]}


def has(**wanted: int | None) -> Callable[[dict], bool]:
    """`has(r21=1, r22=None)`: the weights in the kernel's table; None: no entry."""
    places = {"r21": R21, "r22": R22}
    return lambda status: weights(status) == {places[key]: weight for key, weight in wanted.items()}


def replays(daemon: Daemon, target: Path) -> None:
    export(daemon.journal, target)
    result = replay(target)
    assert result.identical, result.difference


def call(daemon: Daemon, *words: str) -> tuple[int, str, str]:
    """Exit status, output and errors of a command."""
    settings = f"--settings={daemon.folder / 'hafsm.toml'}"
    done = subprocess.run([str(HAFSM), *words, settings], capture_output=True, text=True, timeout=90, check=False)
    return done.returncode, done.stdout, done.stderr


def connected(address: str) -> http.client.HTTPConnection:
    """A client of the VIP whose connection goes to this server."""
    for _ in range(20):
        client = http.client.HTTPConnection("127.0.1.100", PORT, timeout=10)
        client.request("GET", "/index.html")
        if client.getresponse().read() == address.encode():
            return client
        client.close()
    raise AssertionError(f"{address} got none of twenty connections")


def drains_while_connected(daemon: Daemon, kept: http.client.HTTPConnection) -> None:
    code, output, errors = call(daemon, "real", "drain", VIP, "127.0.1.21", "--reason", "new disk", "--wait", "0.5")
    assert code == 1 and output.startswith(f"real server {R21} of {KEY}: drain asked by ")
    assert output.endswith(" (new disk): quiesced\n")
    assert errors == f"still in the table after 0.5 s: {R21} of {KEY} (1 active, 0 inactive)\n"
    kept.request("GET", "/index.html")
    assert kept.getresponse().read() == b"127.0.1.21", "the old connection goes on"
    shown = call(daemon, "ipvs")[1]
    assert f"-> {R21}" in shown and "quiesced" in shown and "(new disk); its checks pass" in shown


def test_drain_waits_for_the_last_connection_and_survives_a_restart_and_a_reload(
    daemon: Daemon, tmp_path: Path
) -> None:
    daemon.start()
    daemon.waits_until(has(r21=1, r22=2))
    with contextlib.closing(connected("127.0.1.21")) as kept:
        drains_while_connected(daemon, kept)
    assert call(daemon, "real", "drain", VIP, R21, "--wait", "60")[0] == 0
    daemon.waits_until(has(r21=None, r22=2))

    path = daemon.folder / "ha.d/ldirectord.cf"
    path.write_text(CONFIGURATION.replace("masq 2", "masq 5"))
    daemon.waits_until(has(r21=None, r22=5))
    daemon.power_cut()
    daemon.start()
    status = daemon.waits_until(has(r21=None, r22=5))
    assert status["operators"][0]["reason"] == "new disk"
    assert status["memory"] == "kept"
    assert call(daemon, "real", "enable", VIP, R21)[0] == 0
    daemon.waits_until(has(r21=1, r22=5))
    assert daemon.stop() == 0
    for line in (
        f"Added virtual server: {VIP}",
        f"Added real server: {R21} ({VIP}) (Weight set to 1)",
        f"Quiescent real server: {R21} ({VIP}) (Weight set to 0)",
        f"Deleted real server: {R21} ({VIP})",
        f"Restored real server: {R22} ({VIP}) (Weight set to 5)",
        f"Purged virtual server (stop): {VIP}",
    ):
        assert line in daemon.log, line
    replays(daemon, tmp_path / "x.db")


def test_quiesce_weight_and_enable_reach_the_kernel(daemon: Daemon, web: Web, tmp_path: Path) -> None:
    daemon.start()
    daemon.waits_until(has(r21=1, r22=2))
    assert call(daemon, "real", "quiesce", VIP, R21)[0] == 0
    daemon.waits_until(has(r21=0, r22=2))
    assert call(daemon, "real", "weight", VIP, R22, "9")[0] == 0
    daemon.waits_until(has(r21=0, r22=9))
    web.stop("127.0.1.22")
    daemon.waits_until(has(r21=0, r22=0))
    web.start("127.0.1.22")
    daemon.waits_until(has(r21=0, r22=9))
    assert call(daemon, "real", "enable", "all", "127.0.1.21")[0] == 0
    assert call(daemon, "real", "enable", VIP, R22)[0] == 0
    daemon.waits_until(has(r21=1, r22=2))
    table = json.loads(call(daemon, "ipvs", "--json")[1])
    assert {real["real"]: real["weight"] for real in table["services"][0]["reals"]} == {R21: 1, R22: 2}
    assert daemon.stop() == 0
    replays(daemon, tmp_path / "x.db")


def test_an_edit_is_one_operation_and_costs_nobody_his_health(daemon: Daemon, tmp_path: Path) -> None:
    daemon.start()
    daemon.waits_until(has(r21=1, r22=2))
    since = {real["real"]: real["since_s"] for real in daemon.status()["services"][0]["reals"]}
    path = daemon.folder / "ha.d/ldirectord.cf"
    path.write_text(CONFIGURATION.replace("masq 2", "masq 7"))
    status = daemon.waits_until(has(r21=1, r22=7))
    assert all(real["since_s"] >= since[real["real"]] for real in status["services"][0]["reals"])
    path.write_text(CONFIGURATION.replace("scheduler=rr", "scheduler=melt?"))
    status = daemon.waits_until(lambda status: status["configuration"] != "as read")
    assert "ldirectord.cf:" in status["configuration"] and weights(status)[R22] == 7
    assert daemon.stop() == 0
    changes = [line for line in daemon.log.splitlines() if "Restored real server" in line or "Changed virtual" in line]
    assert len(changes) == 1 and f"Restored real server: {R22} ({VIP}) (Weight set to 7)" in changes[0]
    replays(daemon, tmp_path / "x.db")


def test_a_lost_memory_is_said(daemon: Daemon) -> None:
    daemon.start()
    daemon.waits_until(has(r21=1, r22=2))
    assert call(daemon, "real", "drain", VIP, R21)[0] == 0
    memory = daemon.folder / "state/operators.json"
    end = time.monotonic() + 10
    while b"drain" not in memory.read_bytes():
        assert time.monotonic() < end
        time.sleep(0.02)
    assert daemon.stop() == 0
    memory.unlink()
    daemon.start()
    status = daemon.waits_until(has(r21=1, r22=2))
    assert status["memory"] == f"{memory} is gone"
    assert f"operators' words: {memory} is gone" in " ".join(call(daemon, "status")[1].split())


def test_the_other_director_keeps_a_server_out_after_a_failover(tmp_path: Path, web: Web) -> None:
    a = Daemon(tmp_path / "a", ldirectord_cf=CONFIGURATION)
    b = second(a, tmp_path / "b")
    (b.folder / "ha.d/ldirectord.cf").write_text(CONFIGURATION)
    try:
        a.start()
        b.start()
        a.waits_until(lambda status: status["resources"] == "local" and has(r21=1, r22=2)(status))
        b.waits_until(lambda status: status["resources"] == "local" and status["nodes"][0]["status"] == "active")
        assert call(a, "real", "drain", VIP, R21, "--reason", "new disk")[0] == 0
        status = b.waits_until(lambda status: status["operators"])
        assert status["operators"][0]["node"] == "director-a"
        a.power_cut()
        b.waits_until(lambda status: status["holds"] == "all" and has(r21=None, r22=2)(status))
        assert call(b, "real", "enable", VIP, R21)[0] == 0
        b.waits_until(has(r21=1, r22=2))
        a.start()
        a.waits_until(lambda status: status["holds"] == "local" and has(r21=1, r22=2)(status))
        assert a.stop() == 0
        assert b.stop() == 0
        for daemon in (a, b):
            replays(daemon, tmp_path / f"{daemon.folder.name}.db")
    finally:
        for daemon in (a, b):
            if daemon.process is not None and daemon.process.poll() is None:
                daemon.power_cut()
