"""Watches ldirectord.cf: a changed file is read as a whole and taken, or not at all (ldirectord's `autoreload`)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hafsm.core.events import Event, ReloadRefused, ServicesReloaded
from hafsm.core.settings import VirtualService

LOOK_EVERY_S = 1.0


class Reloader:
    """See the module."""

    def __init__(
        self,
        path: Path | None,
        *,
        automatic: bool,
        known: bytes,
        load: Callable[[Path], tuple[Sequence[VirtualService] | None, Sequence[Any]]],
        submit: Callable[[Event], None],
        clock: Callable[[], int],
    ) -> None:
        """`known`: digest of what the services in use were read from. `load` gives new ones, or None and what is wrong;
        it may block (names are resolved)."""
        self._path = path
        self._automatic = automatic
        self._load = load
        self._submit = submit
        self._clock = clock
        self._asked = asyncio.Event()
        self._known: bytes | None = known

    def ask(self) -> None:
        """Look now, whether or not the file looks changed (SIGHUP)."""
        self._known = None
        self._asked.set()

    async def run(self) -> None:
        """Until cancelled."""
        if self._path is None:
            return
        while True:
            await self._look(self._path)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), LOOK_EVERY_S if self._automatic else None)
            self._asked.clear()

    async def _look(self, path: Path) -> None:
        digest = await asyncio.to_thread(digest_of, path)
        if not digest:
            await asyncio.sleep(LOOK_EVERY_S)
            digest = await asyncio.to_thread(digest_of, path)
        if digest == self._known:
            return
        self._known = digest
        services, findings = await asyncio.to_thread(self._load, path)
        if services is not None:
            self._submit(ServicesReloaded(at=self._clock(), services=tuple(services)))
            return
        errors = [str(finding) for finding in findings if finding.level == "error"]
        more = f" and {len(errors) - 1} more" if len(errors) > 1 else ""
        self._submit(ReloadRefused(at=self._clock(), detail=f"{errors[0]}{more}"))


def digest_of(path: Path) -> bytes:
    """Of the content; empty for a file that cannot be read, which an editor's rename makes for a moment."""
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return b""
