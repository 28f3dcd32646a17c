"""Watches the maintenance folder (`maintenancedir`): a file's name says who is in maintenance, its content nothing.

Names are `ADDR`, `ADDR:PORT`, `HOST`, `HOST:PORT`; an IPv6 address with a port stands in brackets. Host names are
resolved here, with a limit; a name that does not resolve is tried again. What is submitted is always the whole listing,
and only when it says something new.
Source: ldirectord, which looks reals' names up backwards at every check; here the files' names are looked up.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Callable
from pathlib import Path

from hafsm.core.events import Event, MaintenanceEntry, MaintenanceListed
from hafsm.daemon.aside import Aside

LOOK_EVERY_S = 1.0
LIST_LIMIT_S = 10.0
"""A folder on a file server that is gone may never answer."""
RESOLVE_LIMIT_S = 5.0
"""For all new names of one look together; what is not resolved by then is tried again later."""
RESOLVE_AGAIN_S = 30.0
NAMES_MAX = 10_000
"""More files than this are not looked at: nobody has so many servers in maintenance."""
_PLACE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?")


class MaintenanceFolder:
    """See the module."""

    def __init__(self, path: str, *, submit: Callable[[Event], None], clock: Callable[[], int]) -> None:
        """`path` empty: there is none, until `watch` names one."""
        self._path = path
        self._submit = submit
        self._clock = clock
        self._disk = Aside("maintenance folder", waiting_max=1)
        self._names = Aside("maintenance names", waiting_max=1)
        self._known = MaintenanceListed(at=0)
        self._resolved: dict[str, tuple[str, ...]] = {}
        self._again_at = 0.0

    def watch(self, path: str) -> None:
        """The configuration names this folder now."""
        self._path = path

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look(self) -> None:
        if not self._path:
            self._say((), "")
            return
        path = Path(self._path)
        try:
            names = await asyncio.wait_for(self._disk.call(lambda: _listed(path)), LIST_LIMIT_S)
        except TimeoutError:
            self._say(self._known.entries, f"{path} does not answer for {LIST_LIMIT_S:g} s")
            return
        except OSError as error:
            self._say(self._known.entries, f"{path} cannot be read: {error.strerror or error}")
            return
        await self._resolve(names)
        if str(path) == self._path:
            self._say(tuple(_entry(name, self._resolved) for name in names), "")

    async def _resolve(self, names: tuple[str, ...]) -> None:
        now = asyncio.get_running_loop().time()
        hosts = {host for host in (_host(name) for name in names) if host}
        self._resolved = {host: found for host, found in self._resolved.items() if host in hosts}
        again = now >= self._again_at
        wanted = sorted(host for host in hosts if host not in self._resolved or (again and not self._resolved[host]))
        if not wanted:
            return
        if again:
            self._again_at = now + RESOLVE_AGAIN_S
        found: dict[str, tuple[str, ...]] = {}

        def look_up() -> None:
            for host in wanted:
                found[host] = _addresses(host)

        try:
            await asyncio.wait_for(self._names.call(look_up), RESOLVE_LIMIT_S)
        except (TimeoutError, BlockingIOError):
            self._again_at = now + RESOLVE_AGAIN_S
        for host in wanted:
            self._resolved[host] = found.get(host, ())

    def _say(self, entries: tuple[MaintenanceEntry, ...], trouble: str) -> None:
        if entries == self._known.entries and trouble == self._known.trouble:
            return
        self._known = MaintenanceListed(at=self._clock(), entries=entries, trouble=trouble)
        self._submit(self._known)


def _listed(path: Path) -> tuple[str, ...]:
    """Names that can mean somebody, sorted. Raises OSError."""
    names = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    if len(names) > NAMES_MAX:
        raise OSError(f"{len(names)} files, more than {NAMES_MAX}")
    return tuple(names)


def _split(name: str) -> tuple[str, str, int]:
    """(address, host name, port) with one of the first two; neither: the name means nobody."""
    try:
        return str(ipaddress.ip_address(name)), "", 0
    except ValueError:
        pass
    match = _PLACE.fullmatch(name)
    if match is None:
        return "", "", 0
    port = int(match[3] or 0)
    if port > 65535 or (match[3] is not None and port == 0):
        return "", "", 0
    try:
        return str(ipaddress.ip_address(match[1] or match[2])), "", port
    except ValueError:
        return "", match[2] or "", port


def _host(name: str) -> str:
    return _split(name)[1]


def _entry(name: str, resolved: dict[str, tuple[str, ...]]) -> MaintenanceEntry:
    address, host, port = _split(name)
    addresses = (address,) if address else resolved.get(host, ())
    return MaintenanceEntry(name=name.encode(errors="replace").decode(), addresses=addresses, port=port)


def _addresses(host: str) -> tuple[str, ...]:
    """Canonical, sorted; empty if there is none. Blocks on the resolver."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(sorted({str(ipaddress.ip_address(str(answer[4][0]).partition("%")[0])) for answer in found}))
