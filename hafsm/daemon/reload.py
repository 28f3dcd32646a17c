"""Watches ldirectord.cf: a changed file is read as a whole and taken, or not at all (ldirectord's `autoreload`).

Its content counts, not its time: two edits within a second are two. The files that it names with `execute` are watched
with it, and `callback` runs when a change was taken, or was seen while `autoreload` is off.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hafsm.config.model import LdirectordCf
from hafsm.core.events import Event, Outcome, ReloadRefused, ServicesReloaded
from hafsm.daemon.scripts import execute

log = logging.getLogger("hafsm.reload")

LOOK_EVERY_S = 1.0
CALLBACK_LIMIT_S = 60.0


class Reloader:
    """See the module."""

    def __init__(
        self,
        current: LdirectordCf,
        *,
        known: bytes,
        load: Callable[[Path], tuple[LdirectordCf | None, Sequence[Any]]],
        taken: Callable[[LdirectordCf], None],
        submit: Callable[[Event], None],
        clock: Callable[[], int],
    ) -> None:
        """`current`: what is in use, read from files of the digest `known`. `load` gives a new one, or None and what is
        wrong; it may block (names are resolved). `taken` hears of a new one before the core does."""
        self._current = current
        self._load = load
        self._taken = taken
        self._submit = submit
        self._clock = clock
        self._asked = asyncio.Event()
        self._forced = False
        self._known = known

    def ask(self) -> None:
        """Look now, and read whether or not the file looks changed (SIGHUP)."""
        self._forced = True
        self._asked.set()

    async def run(self) -> None:
        """Until cancelled."""
        if not self._current.file:
            return
        while True:
            await self._look()
            watching = self._current.autoreload or self._current.callback
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), LOOK_EVERY_S if watching else None)
            self._asked.clear()

    async def _look(self) -> None:
        digest = await asyncio.to_thread(digest_of, self._current)
        if not digest:
            await asyncio.sleep(LOOK_EVERY_S)
            digest = await asyncio.to_thread(digest_of, self._current)
        forced, self._forced = self._forced, False
        if digest == self._known and not forced:
            return
        changed = digest != self._known
        self._known = digest
        if (forced or self._current.autoreload) and not await self._read():
            return
        if changed and self._current.callback:
            await self._call_back(self._current.callback)

    async def _read(self) -> bool:
        """True if the new content was taken."""
        file = Path(self._current.file)
        new, findings = await asyncio.to_thread(self._load, file)
        if new is None:
            errors = [str(finding) for finding in findings if finding.level == "error"]
            more = f" and {len(errors) - 1} more" if len(errors) > 1 else ""
            self._submit(ReloadRefused(at=self._clock(), detail=f"{errors[0]}{more}"))
            return False
        if new.execute != self._current.execute:
            self._known = await asyncio.to_thread(digest_of, new)
        self._current = new
        self._taken(new)
        self._submit(ServicesReloaded(at=self._clock(), services=new.services))
        return True

    async def _call_back(self, program: str) -> None:
        """With the file's name; one that is not executable is left alone (ldirectord)."""
        if not os.access(program, os.X_OK):
            log.warning("callback %s is not executable: not run", program)
            return
        ended, _ = await execute([program, self._current.file], CALLBACK_LIMIT_S)
        if ended.outcome is Outcome.DONE:
            log.info("callback %s was run", program)
        else:
            log.warning("callback %s %s: %s", program, ended.outcome.value, ended.detail)


def digest_of(configuration: LdirectordCf) -> bytes:
    """Of the content of all its files; empty while one cannot be read, which an editor's rename makes for a moment."""
    digest = hashlib.sha256()
    try:
        for file in (configuration.file, *configuration.execute):
            content = Path(file).read_bytes()
            digest.update(b"%d:" % len(content))
            digest.update(content)
    except OSError:
        return b""
    return digest.digest()
