"""Blocking work beside the loop: a thread that a hung disk or name server may keep for ever without harm.

asyncio's own threads are few and shared, and the interpreter waits for them when it ends; these are neither.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Aside:
    """One thread, started when there is something to do; work is done in order."""

    def __init__(self, name: str, *, waiting_max: int) -> None:
        """`waiting_max`: pieces of work that may wait behind the one in progress."""
        self._loop = asyncio.get_running_loop()
        self._name = name
        self._queue: queue.Queue[Callable[[], None]] = queue.Queue(waiting_max)
        self._thread: threading.Thread | None = None

    def post(self, work: Callable[[], None]) -> bool:
        """Have it done some time; False if too much waits already. What it raises is nobody's business but its own."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        try:
            self._queue.put_nowait(work)
        except queue.Full:
            return False
        return True

    async def call(self, work: Callable[[], T]) -> T:
        """The result of `work`, or what it raised. Raises BlockingIOError if too much waits already."""
        future: asyncio.Future[T] = self._loop.create_future()

        def run() -> None:
            try:
                result = work()
            except Exception as error:  # carried to whoever waits
                self._tell(future, future.set_exception, error)
            else:
                self._tell(future, future.set_result, result)

        if not self.post(run):
            raise BlockingIOError(f"{self._name} does not keep up")
        return await future

    def _tell(self, future: asyncio.Future[Any], tell: Callable[[Any], None], value: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(lambda: None if future.done() else tell(value))

    def _work(self) -> None:
        while True:
            self._queue.get()()
