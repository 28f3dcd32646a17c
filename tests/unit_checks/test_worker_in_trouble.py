"""What a worker does when this machine is the problem: no sockets to be had, time lost, nobody to read its results."""

from __future__ import annotations

import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator

import msgspec
import pytest

from hafsm.checks.connect import ConnectCheck, LocalTrouble
from hafsm.checks.messages import Alive, FromWorker, GaveUp, Plan, Results, Unframer, frame
from hafsm.checks.worker import UNREAD_MAX_BYTES, Worker
from hafsm.core.settings import SECOND, CheckKind
from tests.unit_checks.servers import HEALTHY, PATIENCE_S, spec


@pytest.fixture(autouse=True)
def _file_limit() -> Iterator[None]:
    """A worker raises it for its process, which here is the test's."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def channel() -> Iterator[tuple[socket.socket, socket.socket]]:
    """(the pool's end, the worker's end)"""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    ours.settimeout(PATIENCE_S)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        opened.settimeout(PATIENCE_S)
        yield opened


def hear(ours: socket.socket) -> Callable[[type[FromWorker]], FromWorker]:
    """A function that waits for the next message of a kind and drops those before it."""
    unframer: Unframer[FromWorker] = Unframer(msgspec.msgpack.Decoder(FromWorker))
    waiting: list[FromWorker] = []

    def next_of(kind: type[FromWorker]) -> FromWorker:
        while True:
            while waiting:
                message = waiting.pop(0)
                if isinstance(message, kind):
                    return message
            waiting.extend(unframer.feed(ours.recv(65536)))

    return next_of


def exhaust_files() -> None:
    """No further file can be opened: the limit is the number that the next one would get."""
    following = os.dup(0)
    os.close(following)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (following, hard))


def test_no_socket_left_says_nothing_about_the_server() -> None:
    check = ConnectCheck(spec(("127.0.0.1", 9), CheckKind.CONNECT))
    exhaust_files()
    with pytest.raises(LocalTrouble, match=r"no socket for connect 127\.0\.0\.1:9: Too many open files"):
        check.begin()


def test_a_check_that_cannot_start_ends_the_worker_after_a_while(
    channel: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = channel
    seconds = iter(range(1_000_000))
    worker = Worker(theirs, clock=lambda: next(seconds) * SECOND)
    ours.send(frame(Plan(1, ((0, spec(("127.0.0.1", 9), CheckKind.CONNECT)),))))
    exhaust_files()
    with pytest.raises(LocalTrouble, match="Too many open files"):
        worker.run()
    assert 10 < next(seconds) < 200, "it gave up at once, or by accident"
    worker.give_up("no socket")
    hearing = hear(ours)
    assert hearing(GaveUp) == GaveUp("no socket")


def test_time_that_the_whole_process_lost_is_not_held_against_the_server(
    channel: tuple[socket.socket, socket.socket], listener: socket.socket
) -> None:
    """As after a freeze of the machine: the clock went on, the worker did not."""
    ours, theirs = channel
    lost_ns = 0
    worker = Worker(theirs, clock=lambda: time.monotonic_ns() + lost_ns)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        hearing = hear(ours)
        ours.send(frame(Plan(1, ((0, spec(listener.getsockname(), timeout_ms=20_000)),))))
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(PATIENCE_S)
            assert connection.recv(4096).startswith(b"GET / ")
            lost_ns = 3600 * SECOND
            for _ in range(3):
                hearing(Alive)  # it has looked at its times again
            connection.sendall(HEALTHY)
            results = hearing(Results)
        assert isinstance(results, Results)
        assert [(result.ok, result.detail) for result in results.results] == [(True, "")]
    finally:
        ours.shutdown(socket.SHUT_WR)
        thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_without_a_reader_the_checks_pause(channel: tuple[socket.socket, socket.socket]) -> None:
    """What waits for the pool is bounded: no check starts before the pool has taken what was found."""
    ours, theirs = channel
    ticks = iter(range(10**12))
    worker = Worker(theirs, clock=lambda: next(ticks) * SECOND // 100)
    unusable = spec(("127.0.0.1", 80), request="/ä" + "x" * 5000)
    ours.send(frame(Plan(1, tuple((index, unusable) for index in range(4)))))
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        until = time.monotonic() + PATIENCE_S
        while len(worker._unread) <= UNREAD_MAX_BYTES:
            assert time.monotonic() < until
        later = next(ticks) + 10_000
        while next(ticks) < later:
            assert time.monotonic() < until
        assert len(worker._unread) <= UNREAD_MAX_BYTES + 4 * 6000
        hearing = hear(ours)
        hearing(Alive)  # said again only when all is taken
        assert isinstance(hearing(Results), Results)
    finally:
        ours.shutdown(socket.SHUT_WR)
        thread.join(PATIENCE_S)
    assert not thread.is_alive()
