"""monitorfile: a line a check, for programs that follow ldirectord's.

Written by a thread of its own, opened for each batch, so that a rotated file is followed. A disk that hangs costs
lines, which are counted and logged; nothing waits for it.
Source: ldirectord: `[Sun Nov 22 16:14:44 2026] [PID] ID [up|down] TEXT`.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hafsm.core.events import CheckResult
from hafsm.core.settings import CheckKind, CheckSpec, RealServer, VirtualService
from hafsm.core.state import State
from hafsm.daemon.aside import Aside

log = logging.getLogger("hafsm.monitor")

BATCHES_WAITING = 200
"""Ten seconds of a worker's batches."""
_ESCAPES = str.maketrans({"%": "%25", "|": "%7c", "\r": "%0d", "\n": "%0a"})
_PLAIN = (CheckKind.CONNECT, CheckKind.PING, CheckKind.EXTERNAL, CheckKind.EXTERNAL_PERL)
"""Kinds that are a `checktype` themselves; the others are a `service` of negotiate."""


class Monitor:
    """See the module."""

    def __init__(self, state: Callable[[], State]) -> None:
        self._state = state
        self._thread = Aside("monitor files", waiting_max=BATCHES_WAITING)
        self._services: tuple[VirtualService, ...] = ()
        self._places: dict[int, list[tuple[int, str, str]]] = {}
        """Check → (index into `State.reals`, file, id) of each server that depends on it and wants lines."""
        self._lost = 0
        self._trouble: dict[str, str] = {}

    def checked(self, plan: int, results: Sequence[CheckResult]) -> None:
        """Note a batch. Returns at once."""
        state = self._state()
        if state.settings.services is not self._services:
            self._services = state.settings.services
            self._places = _places(state)
        if not self._places or plan != state.checks_plan:
            return
        lines: dict[str, list[str]] = {}
        head = f"[{time.ctime()}] [{os.getpid()}]"
        for result in results:
            for index, file, identity in self._places.get(result.check, ()):
                up, text = result.ok, result.detail
                if state.reals[index].maintenance:
                    up, text = False, "Server in maintenance"
                word = "up" if up else "down"
                lines.setdefault(file, []).append(f"{head} {identity} [{word}] {text.translate(_ESCAPES) or '-'}\n")
        if lines and not self._thread.post(lambda: self._write(lines)):
            if not self._lost:
                log.warning("monitor files are not written fast enough: lines are lost")
            self._lost += sum(map(len, lines.values()))

    def _write(self, lines: dict[str, list[str]]) -> None:
        """In the thread."""
        lost, self._lost = self._lost, 0
        if lost:
            log.warning("monitor files are written again; %d lines were lost", lost)
        for file, text in lines.items():
            try:
                with Path(file).open("a", encoding="utf-8", errors="replace") as stream:
                    stream.writelines(text)
            except OSError as error:
                if self._trouble.get(file) != str(error):
                    log.warning("monitor file %s: %s", file, error.strerror or error)
                self._trouble[file] = str(error)
            else:
                self._trouble.pop(file, None)


def _places(state: State) -> dict[int, list[tuple[int, str, str]]]:
    places: dict[int, list[tuple[int, str, str]]] = {}
    if not any(service.monitor_file for service in state.settings.services):
        return places
    for index, view in enumerate(state.reals):
        service = state.settings.services[view.service]
        real = service.reals[view.real]
        if service.monitor_file and view.check >= 0 and real.check is not None:
            place = (index, service.monitor_file, identity_of(service, real, real.check))
            places.setdefault(view.check, []).append(place)
    return places


def identity_of(service: VirtualService, real: RealServer, check: CheckSpec) -> str:
    """ldirectord's id of a check with blanks for its colons: `negotiate http tcp 10.77.0.1 80 1 masq / Test`."""
    kind = [check.kind.value] if check.kind in _PLAIN else ["negotiate", check.kind.value]
    words = [*kind, *check.command, service.protocol, real.address, str(real.port), check.virtualhost]
    if check.port != real.port:
        words.append(str(check.port))
    words += [str(real.weight), real.forwarding.value, check.request, check.receive]
    return " ".join(word for word in words if word).replace(":", " ").replace("\\", "").translate(_ESCAPES)
