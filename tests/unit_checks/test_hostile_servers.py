"""Every kind of check against servers that hang, drip, never end, reset, refuse or drop: a verdict, in time, each."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hafsm.checks.messages import Plan, frame
from hafsm.checks.worker import Worker
from hafsm.core.settings import SECOND, CheckKind, CheckSpec
from tests.unit_checks.servers import PATIENCE_S, Director, Servers, Talk, mute, spec

TLS = (CheckKind.HTTPS, CheckKind.IMAPS, CheckKind.POPS, CheckKind.LDAPS)
LINES = (
    CheckKind.HTTP,
    CheckKind.HTTP_PROXY,
    CheckKind.FTP,
    CheckKind.SMTP,
    CheckKind.SUBMISSION,
    CheckKind.POP,
    CheckKind.IMAP,
    CheckKind.NNTP,
    CheckKind.LDAP,
    CheckKind.DNS,
    CheckKind.SIP,
    CheckKind.SIMPLETCP,
)
LIBRARIES = (CheckKind.MYSQL, CheckKind.PGSQL, CheckKind.ORACLE)
DATAGRAMS = (CheckKind.DNS, CheckKind.SIP, CheckKind.SIMPLETCP, CheckKind.RADIUS)
SECRETS = {"p": b"password"}
TIMEOUT_MS = 600


@pytest.fixture
async def servers() -> AsyncIterator[Servers]:
    made = Servers()
    yield made
    await made.aclose()


@pytest.fixture
async def director() -> AsyncIterator[Callable[..., Director]]:
    made: list[Director] = []

    def make(**options: object) -> Director:
        made.append(Director(**options))
        return made[-1]

    yield make
    for each in made:
        await each.pool.close()


def check(
    kind: CheckKind, target: tuple[str, int], *, timeout_ms: int = TIMEOUT_MS, protocol: str = "tcp"
) -> CheckSpec:
    """A check of the kind with all that it needs."""
    request = {
        CheckKind.HTTP_PROXY: "http://www.example.com/",
        CheckKind.DNS: "/www.example.com",
        CheckKind.MYSQL: "/SELECT 1",
        CheckKind.PGSQL: "/SELECT 1",
        CheckKind.ORACLE: "/SELECT 1 FROM dual",
    }
    return spec(
        target,
        kind,
        interval_ms=3_600_000,
        timeout_ms=timeout_ms,
        protocol=protocol,
        request=request.get(kind, "/q"),
        receive="" if kind in LIBRARIES else "never found",
        login="monitor",
        password="p",
        secret="p",
    )


async def verdicts(
    director: Callable[..., Director], kinds: tuple[CheckKind, ...], target: tuple[str, int], **changes: object
) -> dict[CheckKind, str]:
    """Kind → why it is down; it must be."""
    found = await director().judge([check(kind, target, **changes) for kind in kinds], SECRETS)
    assert not any(ok for ok, _ in found)
    return {kind: detail for kind, (_, detail) in zip(kinds, found, strict=True)}


async def test_hung(servers: Servers, director: Callable[..., Director]) -> None:
    target = await servers.start(mute)
    found = await verdicts(director, (*LINES, *TLS, *LIBRARIES), target)
    for kind, detail in found.items():
        assert detail == f"no {'TLS handshake' if kind in TLS else 'answer'} within 0.6 s", kind


async def test_a_drip_of_bytes(servers: Servers, director: Callable[..., Director]) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in itertools.cycle(b"2"):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)

    found = await verdicts(director, (*LINES, *TLS, *LIBRARIES), await servers.start(drip))
    assert set(found.values()) <= {
        "answer incomplete after 0.6 s",
        "no answer within 0.6 s",
        "not an LDAP answer",
        "TLS: wrong version number",
        "unusable answer",
        *(detail for kind, detail in found.items() if kind in LIBRARIES and "answer" in detail),
    }


async def test_an_answer_without_end(servers: Servers, director: Callable[..., Director]) -> None:
    """A flood ends a check long before its deadline."""

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"220 " * 16384)
            await writer.drain()

    began = time.monotonic()
    found = await verdicts(director, (*LINES, *TLS), await servers.start(flood), timeout_ms=30_000)
    assert time.monotonic() - began < 25
    assert not any("within" in detail for detail in found.values()), found


async def test_reset(servers: Servers, director: Callable[..., Director]) -> None:
    def resetting(data: bytes) -> Talk:
        async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(data)
            await writer.drain()
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        return reset

    checks = [
        check(kind, await servers.start(resetting(data)), timeout_ms=20_000)
        for data in (b"", b"x", b"520 x\r\n", b"\x16\x03\x03\x00\x02\x02\x28")
        for kind in (*LINES, *TLS, *LIBRARIES)
    ]
    found = await director().judge(checks, SECRETS)
    late = {checks[i].kind: detail for i, (ok, detail) in enumerate(found) if ok or " within 20" in detail}
    assert late == {}


async def test_refused_and_filtered(servers: Servers, director: Callable[..., Director]) -> None:
    kinds = (*LINES, *TLS, CheckKind.CONNECT, *LIBRARIES)
    refusing, filtered = servers.refusing(), servers.filtered()
    checks = [check(kind, refusing, timeout_ms=20_000) for kind in kinds] + [check(kind, filtered) for kind in kinds]
    found = await director().judge(checks, SECRETS)
    for kind, refused, dropped in zip(kinds, found[: len(kinds)], found[len(kinds) :], strict=True):
        assert refused == (False, "connection refused"), kind
        assert dropped == (False, f"no {'answer' if kind in LIBRARIES else 'connection'} within 0.6 s"), kind


async def test_datagrams(servers: Servers, director: Callable[..., Director]) -> None:
    """Silence is asked three times; a closed port says so at once; garbage is passed over or judged, never believed."""
    loop = asyncio.get_running_loop()
    heard: list[bytes] = []

    class Listener(asyncio.DatagramProtocol):
        def __init__(self, answers: list[bytes]) -> None:
            self._answers = answers

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            heard.append(data)
            for answer in self._answers:
                self.transport.sendto(answer, addr)

    for answers in ([], [b""] * 300, [bytes(range(256))] * 300):
        heard.clear()
        transport, _ = await loop.create_datagram_endpoint(lambda a=answers: Listener(a), local_addr=("127.0.0.1", 0))
        try:
            target = transport.get_extra_info("sockname")
            found = await verdicts(director, DATAGRAMS, target, protocol="udp")
        finally:
            transport.close()
        if not answers:
            assert set(found.values()) == {"no answer within 0.6 s"}
            assert len(heard) == 3 * len(DATAGRAMS)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        closed = held.getsockname()
    assert set((await verdicts(director, DATAGRAMS, closed, protocol="udp")).values()) == {"port unreachable"}


async def test_sctp_or_why_not(servers: Servers, director: Callable[..., Director]) -> None:
    found = await director().judge([check(CheckKind.CONNECT, servers.refusing(), protocol="sctp")])
    assert found in ([(False, "connection refused")], [(False, "this director's kernel has no SCTP")])


async def test_the_process_of_a_hung_library_ends_at_the_deadline(
    servers: Servers, director: Callable[..., Director]
) -> None:
    hung = await servers.start(mute)
    watcher = director()
    await watcher.run([check(kind, hung, timeout_ms=3000) for kind in LIBRARIES], SECRETS)
    (worker,) = watcher.pool.pids
    await becomes(lambda: len(grandchildren(worker)) >= 1 + len(LIBRARIES))
    await watcher.until(lambda: len(watcher.first_verdicts()) == len(LIBRARIES))
    await becomes(lambda: len(grandchildren(worker)) <= 1)
    assert not any(ok for ok, _ in watcher.first_verdicts().values())


async def becomes(true: Callable[[], bool]) -> None:
    """Wait for something that only looking can tell."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def test_more_checks_than_children_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """For as long as it takes: that the others hang is no trouble of this machine."""
    monkeypatch.setattr("hafsm.checks.jobs.CHILDREN_MAX", 0)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    seconds = iter(range(1_000_000))
    worker = Worker(theirs, clock=lambda: next(seconds) * SECOND)
    program = spec(("192.0.2.7", 80), CheckKind.EXTERNAL, command=("/bin/true",))
    with ours, theirs:
        ours.send(frame(Plan(1, ((0, program),))))
        thread = threading.Thread(target=worker.run)
        thread.start()
        until = time.monotonic() + PATIENCE_S
        while next(seconds) < 1000 and thread.is_alive():
            assert time.monotonic() < until
        assert thread.is_alive()
        ours.shutdown(socket.SHUT_WR)
        thread.join(PATIENCE_S)
    assert not thread.is_alive()


def grandchildren(pid: int) -> list[int]:
    """The processes below a worker: its helper, and the helper's children."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            if Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found += [child, *grandchildren(child)]
    return found


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], tuple[str, ...]]:
    """Makes programs out of shell text, which whoever runs checks may run."""
    numbers = itertools.count()
    for place in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        place.chmod(0o755)

    def make(text: str) -> tuple[str, ...]:
        return ("/bin/sh", "-c", text, f"program{next(numbers)}")

    return make


async def test_external_programs(script: Callable[[str], tuple[str, ...]], director: Callable[..., Director]) -> None:
    def external(*command: str, address: str = "192.0.2.7", **changes: object) -> CheckSpec:
        facts: dict[str, object] = {"virtual": ("192.0.2.1", "80"), "interval_ms": 3_600_000, **changes}
        return spec((address, 8080), CheckKind.EXTERNAL, command=command, **facts)

    arguments = 'test "$*" = "192.0.2.1 80 192.0.2.7 8080"'
    cases = [
        (external("/bin/true"), (True, "")),
        (external("/bin/false"), (False, "exit status 1")),
        (external(*script("exit 7")), (False, "exit status 7")),
        (external(*script("kill -9 $$")), (False, "killed by signal 9")),
        (external(*script("kill -15 $$")), (False, "killed by signal 15")),
        (external(*script(arguments)), (True, "")),
        (external(*script('test "$3" = "[2001:db8::7]"'), address="2001:db8::7"), (True, "")),
        (external(*script('test "$1 $2" = "7 0"'), virtual=("7", "0")), (True, "")),
        (external("/bin/test", "a b; false", "=", "a b; false", "-o"), (False, "exit status 2")),
        (external("/no/such/program"), (False, "cannot be run: no such file or directory")),
        (external("/etc/passwd"), (False, "cannot be run: permission denied")),
        (external("program"), (False, "checkcommand 'program' is not an absolute path")),
        (external(), (False, "checkcommand '' is not an absolute path")),
        (external(*script("sleep 60"), timeout_ms=500), (False, "no answer within 0.5 s")),
        (external(*script("yes")), (False, "no answer within 1.0 s")),
        (external(*script(f'test "$(id -un)" = {"nobody" if os.geteuid() == 0 else "$(id -un)"}')), (True, "")),
        (external(*script('test "$(pwd)" = / && test -z "$PYTHONPATH"')), (True, "")),
    ]
    cases[14] = (external(*script("yes"), timeout_ms=1000), cases[14][1])
    assert await director().judge([case for case, _ in cases]) == [verdict for _, verdict in cases]


async def test_external_perl(tmp_path: Path, director: Callable[..., Director]) -> None:
    if shutil.which("perl") is None:
        pytest.skip("perl is not installed")
    for name in ("up", "down"):
        (tmp_path / name).write_text("exit($ARGV[3] == 8080 ? 0 : 3);" if name == "up" else "exit 3;")
    cases = [
        spec(("192.0.2.7", 8080), CheckKind.EXTERNAL_PERL, command=(str(tmp_path / name),), virtual=("7", "0"))
        for name in ("up", "down", "lost")
    ]
    found = await director(user="root" if os.geteuid() == 0 else "").judge(cases)
    assert found == [(True, ""), (False, "exit status 3"), (False, "exit status 2")]


async def test_a_user_that_does_not_exist(director: Callable[..., Director]) -> None:
    checks = [spec(("192.0.2.7", 80), CheckKind.EXTERNAL, command=("/bin/true",))]
    found = await director(user="no-such-user").judge(checks)
    assert found == [(False, "there is no user 'no-such-user' to run checks as")]


@pytest.mark.parametrize("ending", ["deadline", "worker killed", "plan changed"])
async def test_nothing_of_a_program_outlives_its_check(
    ending: str, script: Callable[[str], tuple[str, ...]], director: Callable[..., Director]
) -> None:
    """The process that the program started is found by a number in its environment, and is gone in the end."""
    mark = f"{os.getpid()}{time.monotonic_ns()}"
    command = script(f"MARK={mark} sleep 600 & MARK={mark} sleep 600")
    target = ("192.0.2.7", 80)
    timeout_ms = 2000 if ending == "deadline" else 600_000
    watcher = director(user="root" if os.geteuid() == 0 else "")
    await watcher.run([spec(target, CheckKind.EXTERNAL, command=command, timeout_ms=timeout_ms, interval_ms=3_600_000)])
    await becomes(lambda: len(marked(mark)) == 2)
    if ending == "worker killed":
        os.kill(watcher.pool.pids[0], 9)
        watcher.pool.set_plan(2, [])
    elif ending == "plan changed":
        watcher.pool.set_plan(2, [])
    await becomes(lambda: not marked(mark))


def marked(mark: str) -> list[str]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"MARK={mark}".encode() in (place / "environ").read_bytes():
                found.append(place.name)
    return found
