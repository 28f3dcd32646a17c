"""The admin API: HTTP with JSON over a Unix socket.

| request | who | answer |
| --- | --- | --- |
| `GET /v1/status` | whoever can connect | `core.describe.describe` |
| `GET /v1/cluster` | whoever can connect | the same without the virtual services: for whoever asks often |
| `GET /v1/parameters` | whoever can connect | ha.cf's single-valued directives, as written |
| `GET /v1/ipvs` | whoever can connect | the kernel's IPVS table, with what is known of each real server |
| `POST /v1/standby`, `POST /v1/takeover` with `{"hold": WORD}` | whom `Access` permits | what was decided |
| `POST /v1/real` with `verb`, `virtual`, `real`, `weight`, `reason` | whom `Access` permits | what was decided |

A decision on groups is `outcome`, `hold`, `reason`, `event`:
`outcome` is `begun`, `nothing to do` or `refused`; `hold` the sets that move, seen from this node; `reason` the
decision's sentence; `event` its number in the journal. One on real servers is `outcome` (`done`, `nothing to do`,
`refused`), `targets`, `reason`, `event`. A request that is not obeyed is answered by
`{"error": SENTENCE}` with status 400 (not understood), 403 (not permitted), 404, 405, 413 or 503 (the daemon ends).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import web

from hafsm.core.describe import describe, describe_cluster
from hafsm.core.events import RealRequested, StandbyRequested, TakeoverRequested
from hafsm.core.ipvs import TableEntry
from hafsm.core.machines import Handover, Phase
from hafsm.core.operators import REASON_CHARACTERS
from hafsm.core.settings import RealVerb
from hafsm.core.state import Holding, State, both_stable
from hafsm.daemon.access import Access, caller_of, user_name
from hafsm.daemon.clock import wall_ns
from hafsm.daemon.ipvs_view import view_of
from hafsm.daemon.loop import Loop
from hafsm.daemon.targets import Unclear, targets
from hafsm.errors import KernelError
from hafsm.kernel.interface import Connections

log = logging.getLogger("hafsm.api")

WORDS = ("all", "local", "foreign", "failback")
BODY_LIMIT_BYTES = 4096
WEIGHT_MAX = 65535
"""What ipvsadm's manual promises that every kernel takes."""

Look = Callable[[], Awaitable[tuple[tuple[TableEntry, ...], Mapping[tuple[str, str], Connections]]]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Verb(NamedTuple):
    """A command that moves sets of groups."""

    event: type[StandbyRequested] | type[TakeoverRequested]
    failback: Holding
    """What the word `failback` stands for: the sets that go home, seen from this node."""
    moving: Callable[[Holding, State], Holding]
    """(asked, state before) → the sets that would move."""
    begun: Callable[[State, State], bool]
    """(state before, state after) → whether it was begun, if there was something to move."""


STANDBY = Verb(
    StandbyRequested,
    Holding.FOREIGN,
    lambda asked, state: asked.both(state.mine),
    lambda before, after: before.handover is Handover.IDLE and after.handover is Handover.ASKED,
)
TAKEOVER = Verb(
    TakeoverRequested,
    Holding.LOCAL,
    lambda asked, state: asked.minus(state.mine),
    # Asking the peer changes nothing here yet; the core asks exactly when both directors are stable.
    lambda before, after: both_stable(before) and after.phase is Phase.STABLE,
)


class Api:
    """Serves until closed."""

    def __init__(self, path: Path, access: Access, core: Loop, parameters: Mapping[str, str], look: Look) -> None:
        """`look` reads the kernel's table and its connections now; it may raise KernelError or TimeoutError."""
        self._path = path
        self._access = access
        self._core = core
        self._parameters = parameters
        self._look = look
        app = web.Application(middlewares=[_errors_as_json], client_max_size=BODY_LIMIT_BYTES)
        app.router.add_get("/v1/status", self._status)
        app.router.add_get("/v1/cluster", self._cluster)
        app.router.add_get("/v1/parameters", self._show_parameters)
        app.router.add_get("/v1/ipvs", self._ipvs)
        app.router.add_post("/v1/real", self._real)
        app.router.add_post("/v1/standby", self._standby)
        app.router.add_post("/v1/takeover", self._takeover)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)

    async def start(self) -> None:
        """Raises OSError. A socket left by an earlier life is replaced."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        await self._runner.setup()
        old = os.umask(0o177)
        try:
            await web.UnixSite(self._runner, str(self._path)).start()
        finally:
            os.umask(old)
        if self._access.socket_group is not None:
            os.chown(self._path, -1, self._access.socket_group)
        self._path.chmod(self._access.socket_mode)

    async def close(self) -> None:
        await self._runner.cleanup()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    async def _status(self, _request: web.Request) -> web.Response:
        return web.json_response(describe(self._core.state, self._core.reasons, now=self._core.clock()))

    async def _cluster(self, _request: web.Request) -> web.Response:
        return web.json_response(describe_cluster(self._core.state, self._core.reasons, now=self._core.clock()))

    async def _show_parameters(self, _request: web.Request) -> web.Response:
        return web.json_response(dict(self._parameters))

    async def _ipvs(self, _request: web.Request) -> web.Response:
        trouble = ""
        counts: Mapping[tuple[str, str], Connections] = {}
        try:
            table, counts = await self._look()
        except (KernelError, TimeoutError) as error:
            trouble = f"the kernel could not be asked ({str(error) or 'no answer'}): this is what it had when last seen"
            table = self._core.state.ipvs.seen
        services = view_of(self._core.state, table, counts, now=self._core.clock())
        return web.json_response({"services": services, "trouble": trouble})

    async def _real(self, request: web.Request) -> web.Response:
        name = await self._permitted(request)
        asked = _real_request(await request.read())
        before = self._core.state
        try:
            places = targets(before, asked.verb, asked.virtual, asked.real)
        except Unclear as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        self._core.submit(
            RealRequested(
                at=self._core.clock(),
                verb=asked.verb,
                targets=places,
                by=name,
                wall_ns=wall_ns(),
                weight=asked.weight,
                reason=asked.reason,
            )
        )
        after = self._core.state
        if after.number == before.number or after.phase is Phase.GONE:
            raise web.HTTPServiceUnavailable(text="the daemon is ending; nothing was done")
        outcome = "done" if after.overrides != before.overrides else "refused"
        if outcome == "refused" and all(_in_force(after, place, asked) for place in places):
            outcome = "nothing to do"
        answer = {
            "outcome": outcome,
            "targets": [{"service": service, "real": real} for service, real in places],
            "reason": self._core.reasons[-1][2],
            "event": after.number,
        }
        return web.json_response(answer)

    async def _standby(self, request: web.Request) -> web.Response:
        return await self._command(request, STANDBY)

    async def _takeover(self, request: web.Request) -> web.Response:
        return await self._command(request, TAKEOVER)

    async def _command(self, request: web.Request, verb: Verb) -> web.Response:
        name = await self._permitted(request)
        word = _hold(await request.read())
        asked = verb.failback if word == "failback" else Holding(word)
        before = self._core.state
        self._core.submit(verb.event(at=self._core.clock(), hold=asked.value, by=name))
        after = self._core.state
        if after.number == before.number or after.phase is Phase.GONE:
            raise web.HTTPServiceUnavailable(text="the daemon is ending; nothing was begun")
        moving = verb.moving(asked, before)
        outcome = "begun" if verb.begun(before, after) else "refused"
        if moving is Holding.NONE:
            outcome = "nothing to do"
        reason = self._core.reasons[-1][2]
        answer = {"outcome": outcome, "hold": moving.value, "reason": reason, "event": after.number}
        return web.json_response(answer)

    async def _permitted(self, request: web.Request) -> str:
        """The caller's name. Raises HTTPForbidden."""
        connection = request.get_extra_info("socket")
        if connection is None:
            raise web.HTTPForbidden(text="the connection is gone")
        caller = caller_of(connection)
        name = await asyncio.to_thread(user_name, caller.uid)
        if not self._access.permits(caller):
            sentence = self._access.refusal(name)
            log.warning("%s %s: %s", request.method, request.path, sentence)
            raise web.HTTPForbidden(text=sentence)
        return name


class RealRequest(NamedTuple):
    """A request for real servers, understood."""

    verb: RealVerb
    virtual: str
    real: str
    weight: int
    reason: str


def _real_request(body: bytes) -> RealRequest:
    """Raises HTTPBadRequest."""
    expected = '{"verb": WORD, "virtual": TEXT, "real": TEXT} and perhaps "weight" and "reason"'
    content = _json(body, expected)
    known = {"verb", "virtual", "real", "weight", "reason"}
    if not isinstance(content, dict) or content.keys() - known or not content.keys() >= {"verb", "virtual", "real"}:
        raise web.HTTPBadRequest(text=f"found {_short(content)}; expected {expected}")
    words = [verb.value for verb in RealVerb]
    if content["verb"] not in words:
        raise web.HTTPBadRequest(text=f"verb is {_short(content['verb'])}; expected one of {', '.join(words)}")
    verb = RealVerb(content["verb"])
    for key in ("virtual", "real", "reason"):
        value = content.get(key, "")
        if not isinstance(value, str) or not value.isprintable() or len(value) > REASON_CHARACTERS:
            found = f"{key} is {_short(value)}"
            raise web.HTTPBadRequest(text=f"{found}; expected one line of at most {REASON_CHARACTERS} characters")
    weight = content.get("weight")
    if (verb is RealVerb.WEIGHT) is not (weight is not None):
        found = "no weight" if weight is None else f"a weight with {verb.value}"
        raise web.HTTPBadRequest(text=f"found {found}; expected a weight with the verb weight only")
    if weight is not None and (type(weight) is not int or not 0 <= weight <= WEIGHT_MAX):
        raise web.HTTPBadRequest(text=f"weight is {_short(weight)}; expected a whole number from 0 to {WEIGHT_MAX}")
    return RealRequest(verb, content["virtual"], content["real"], weight or 0, content.get("reason", ""))


def _in_force(state: State, place: tuple[str, str], asked: RealRequest) -> bool:
    last = next((o for o in state.overrides if (o.service, o.real) == place), None)
    if last is None or last.verb is RealVerb.ENABLE:
        return asked.verb is RealVerb.ENABLE
    return last.verb is asked.verb and (asked.verb is not RealVerb.WEIGHT or last.weight == asked.weight)


def _json(body: bytes, expected: str) -> Any:
    """Raises HTTPBadRequest."""
    try:
        return json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError) as error:
        raise web.HTTPBadRequest(text=f"the body is not JSON ({error}); expected {expected}") from error


def _hold(body: bytes) -> str:
    """One of `WORDS`; an empty body means `all`. Raises HTTPBadRequest."""
    content = _json(body, '{"hold": WORD}')
    if not isinstance(content, dict) or content.keys() - {"hold"}:
        raise web.HTTPBadRequest(text=f'found {_short(content)}; expected {{"hold": WORD}} and nothing else')
    word = content.get("hold", "all")
    if not isinstance(word, str) or word not in WORDS:
        raise web.HTTPBadRequest(text=f"hold is {_short(word)}; expected one of {', '.join(WORDS)}")
    return word


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPError as error:
        return web.json_response({"error": error.text}, status=error.status)
