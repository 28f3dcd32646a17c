"""Real servers for the benchmark of checks: one process, one epoll, as many listeners as asked for."""

from __future__ import annotations

import resource
import select
import socket
import time
from multiprocessing.connection import Connection

ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Sun, 22 Nov 2026 16:04:44 GMT\r\nContent-Type: text/html\r\n"
    b"Content-Length: 180\r\nConnection: close\r\n\r\n" + b"<p>Test Page</p>\n".ljust(180)
)


class _Targets:
    def __init__(self, number: int) -> None:
        self.epoll = select.epoll()
        self.listeners: dict[int, tuple[int, socket.socket]] = {}
        self.clients: dict[int, socket.socket] = {}
        self.accepted: list[list[int]] = [[] for _ in range(number)]
        self.hung: set[int] = set()
        self.addresses: list[tuple[str, int]] = [("", 0)] * number
        for target in range(number):
            self.listen(target, (f"127.0.1.{target % 250 + 1}", 0))

    def listen(self, target: int, address: tuple[str, int]) -> None:
        listener = socket.create_server(address, backlog=64)
        listener.setblocking(False)
        self.listeners[listener.fileno()] = target, listener
        self.addresses[target] = listener.getsockname()
        self.epoll.register(listener, select.EPOLLIN)

    def command(self, word: str, target: int) -> None:
        if word == "hang":
            self.hung.add(target)
        elif word == "heal":
            self.hung.discard(target)
        elif word == "refuse":
            for fd, (number, listener) in list(self.listeners.items()):
                if number == target:
                    del self.listeners[fd]
                    listener.close()
        elif word == "listen":
            self.listen(target, self.addresses[target])

    def accept(self, fd: int) -> None:
        target, listener = self.listeners[fd]
        client, _ = listener.accept()
        self.accepted[target].append(time.monotonic_ns())
        client.setblocking(False)
        if target in self.hung:
            self.epoll.register(client, select.EPOLLRDHUP)  # until the checker gives up
        else:
            self.epoll.register(client, select.EPOLLIN)
        self.clients[client.fileno()] = client

    def answer(self, fd: int, events: int) -> None:
        client = self.clients[fd]
        try:
            if events & select.EPOLLIN and client.recv(4096):
                client.send(ANSWER)
        except OSError:
            pass
        del self.clients[fd]
        client.close()


def serve(number: int, pipe: Connection) -> None:
    """Sends the addresses; then obeys `(word, target)` until "enough", and sends the times of each accept by target."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    targets = _Targets(number)
    targets.epoll.register(pipe, select.EPOLLIN)
    pipe.send(targets.addresses)
    while True:
        for fd, events in targets.epoll.poll():
            if fd in targets.listeners:
                targets.accept(fd)
            elif fd in targets.clients:
                targets.answer(fd, events)
            elif fd == pipe.fileno():
                message = pipe.recv()
                if message == "enough":
                    pipe.send(targets.accepted)
                    return
                targets.command(*message)
