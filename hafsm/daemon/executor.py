"""Carries actions out and reports each end as an event. Decides nothing.

Kernel requests run in one thread of their own, in order; scripts and fencing are subprocesses; checks run in worker
processes. None of them can stop the loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from hafsm.checks.pool import CheckPool
from hafsm.core import actions as act
from hafsm.core.events import ActionFinished, Event, KernelObserved, Outcome
from hafsm.core.ipvs import Operation, ServiceEntry, TableEntry, Verb, digest, service_entry
from hafsm.core.machines import GroupState
from hafsm.core.settings import Address, Settings
from hafsm.core.state import State, ipvs_wanted
from hafsm.daemon import mail, memory, scripts
from hafsm.daemon.aside import Aside
from hafsm.daemon.fencing import Fence
from hafsm.daemon.ldirectord_lines import lines_of
from hafsm.daemon.links import Links
from hafsm.daemon.pings import Pings
from hafsm.errors import KernelError
from hafsm.kernel.interface import Connections, Kernel

log = logging.getLogger("hafsm.executor")

ANNOUNCE_TIMES = 5
ANNOUNCE_PAUSE_S = 0.2
"""heartbeat's IPaddr2 sends five gratuitous ARPs, 200 ms apart; the first here goes out with the address itself."""

LAST_GRACE_S = 3.0
"""How long a daemon that ends waits for its last mails and fallback commands: people wait for the news of a stop."""
MAILS_AT_ONCE = 8
COMMANDS_AT_ONCE = 16
"""A switch that dies takes hundreds of services along; their commands must not start all at once."""
LOOK_LIMIT_S = 2.0
"""For a look at the table that an operator waits for."""
LINES_LOGGED = 100
"""Of ldirectord's lines for one request to the kernel; the rest is counted."""


class Executor:
    """See the module."""

    def __init__(
        self,
        kernel: Callable[[], Kernel],
        thread: ThreadPoolExecutor,
        links: Links,
        pings: Pings,
        checks: CheckPool,
        *,
        fence: Fence | None,
        script_folders: Sequence[Path],
        state_dir: Path,
        secrets: Mapping[str, bytes],
        state: Callable[[], State],
        submit: Callable[[Event], None],
        clock: Callable[[], int],
        on_exit: Callable[[act.Exit], None],
    ) -> None:
        """`thread` has one worker; there the kernel is opened first, and only there `kernel()` is asked for it."""
        self._kernel = kernel
        self._links = links
        self._pings = pings
        self._checks = checks
        self._fence_with = fence
        self._script_folders = tuple(script_folders)
        self._state_dir = state_dir
        self.secrets = secrets
        """Of the configuration in use; the next plan of checks goes out with them."""
        self._memory = Aside("memory", waiting_max=2)
        self._state = state
        self._submit = submit
        self._clock = clock
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._thread = thread
        self._tasks: set[asyncio.Task[None]] = set()
        self._mail_slots = asyncio.Semaphore(MAILS_AT_ONCE)
        self._command_slots = asyncio.Semaphore(COMMANDS_AT_ONCE)
        self._last: set[asyncio.Task[None]] = set()
        """What a daemon that ends waits for."""

    def perform(self, action: act.Action) -> None:
        """Begin an action. Returns at once."""
        match action:
            case act.SendMessage():
                self._links.send(action)
            case act.ResendMessages():
                self._links.resend(action)
            case act.SendPings():
                self._pings.send()
            case act.SetChecks():
                self._checks.set_plan(action.plan, action.checks, self.secrets)
            case act.AddAddress():
                self._in_kernel(action, lambda: self._add(action))
            case act.RemoveAddress():
                self._in_kernel(action, lambda: self._kernel().remove_address(action.address))
            case act.RenewAddresses():
                self._in_kernel(
                    action,
                    lambda: self._kernel().renew_addresses(action.addresses, action.lease_s),
                    lambda missing: {"missing": missing},
                )
            case act.AnnounceAddress():
                self._in_kernel(action, lambda: self._announce_elsewhere(action.address))
            case act.SetSyncDaemon():
                self._in_kernel(action, lambda: self._kernel().set_sync_daemon(action.daemon))
            case act.ProgramIpvs():
                self._in_kernel(
                    action,
                    lambda: self._kernel().apply_operations(action.operations),
                    lambda errors: self._programmed(action, errors),
                )
            case act.ObserveKernel():
                self._observe(action)
            case act.RunScript():
                self._start(self._run_script(action))
            case act.SendMail():
                self._last.add(self._start(self._mail(action)))
            case act.RunFallbackCommand():
                self._last.add(self._start(self._fallback_command(action)))
            case act.RememberOverrides():
                self._start(self._remember(action))
            case act.FenceNode():
                self._start(self._fence(action))
            case act.Exit():
                self._start(self._exit(action))

    def close(self) -> None:
        """Stop waiting for anything; a kernel call that hangs is left behind."""
        for task in self._tasks:
            task.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    # ---- kernel

    def _add(self, action: act.AddAddress) -> None:
        self._kernel().add_address(action.address, action.lease_s)
        self._announce_elsewhere(action.address)

    def _announce_elsewhere(self, address: Address) -> None:
        self._kernel().announce_address(address)
        self._loop.call_soon_threadsafe(self._announce_later, address, ANNOUNCE_TIMES - 1)

    def _announce_later(self, address: Address, times: int) -> None:
        if times:
            self._loop.call_later(ANNOUNCE_PAUSE_S, self._announce_again, address, times)

    def _announce_again(self, address: Address, times: int) -> None:
        if not announces(self._state(), address):
            return
        self._thread.submit(self._announce, address)
        self._announce_later(address, times - 1)

    def _announce(self, address: Address) -> None:
        try:
            self._kernel().announce_address(address)
        except KernelError as error:
            log.warning("%s", error)

    def _in_kernel(
        self,
        action: act.Action,
        call: Callable[[], Any],
        result: Callable[[Any], dict[str, Any]] = lambda _: {},
    ) -> None:
        def done(future: Future[Any]) -> None:
            self._loop.call_soon_threadsafe(self._kernel_done, action, future, result)

        self._thread.submit(call).add_done_callback(done)

    def _kernel_done(self, action: act.Action, future: Future[Any], result: Callable[[Any], dict[str, Any]]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            self._finished(action, Outcome.DONE, **result(future.result()))
        else:
            if not isinstance(error, KernelError):
                log.error("kernel thread: %s", error, exc_info=error)
            self._finished(action, Outcome.FAILED, detail=str(error) or type(error).__name__)

    def _programmed(self, action: act.ProgramIpvs, errors: tuple[int, ...]) -> dict[str, Any]:
        done = [operation for operation, errno in zip(action.operations, errors, strict=True) if not errno]
        for line in lines_of(done[:LINES_LOGGED], reload=ipvs_wanted(self._state())):
            log.info("%s", line)
        if len(done) > LINES_LOGGED:
            log.info("and %d more changes of the IPVS table", len(done) - LINES_LOGGED)
        return {"errors": errors if any(errors) else ()}

    async def look(self) -> tuple[tuple[TableEntry, ...], dict[tuple[str, str], Connections]]:
        """The whole table as the kernel has it now, with its connections. Raises KernelError or TimeoutError."""

        def read() -> tuple[tuple[TableEntry, ...], dict[tuple[str, str], Connections]]:
            table = self._kernel().read_table()
            return table, self._kernel().read_connections([entry.service for entry in table])

        return await asyncio.wait_for(asyncio.wrap_future(self._thread.submit(read)), LOOK_LIMIT_S)

    def _empty(self, draining: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        """In the kernel's thread: those on which no connection is left."""
        keys = {service for service, _ in draining}
        services: list[ServiceEntry] = [e.service for e in self._state().ipvs.seen if e.service.key in keys]
        counted = self._kernel().read_connections(services) if services else {}
        return tuple(place for place in draining if place in counted and not any(counted[place]))

    def _observe(self, action: act.ObserveKernel) -> None:
        state = self._state()
        settings = state.settings
        candidates = addresses_of(settings)
        ours = {service.key for service in settings.services} | {entry.service.key for entry in state.ipvs.seen}

        def look() -> dict[str, Any]:
            found = self._kernel().read_table() if ours else ()
            table = tuple(entry for entry in found if entry.service.key in ours)
            matches = digest(table) == action.expected  # here: milliseconds for thousands of real servers
            return {
                "empty": self._empty(action.draining) if action.draining else (),
                "addresses": self._kernel().held_addresses(candidates),
                "matches": matches,
                "table": () if matches else table,
            }

        def done(future: Future[Any]) -> None:
            self._loop.call_soon_threadsafe(self._observed, action, future)

        self._thread.submit(look).add_done_callback(done)

    def _observed(self, action: act.ObserveKernel, future: Future[Any]) -> None:
        if future.cancelled() or future.exception() is not None:
            self._kernel_done(action, future, lambda _: {})
            return
        self._submit(KernelObserved(at=self._clock(), action=action.id, **future.result()))

    # ---- programs

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(self._last.discard)
        return task

    async def _exit(self, action: act.Exit) -> None:
        # The thread works in order: when this returns, everything before it is done.
        await asyncio.wrap_future(self._thread.submit(lambda: None))
        if self._last:
            await asyncio.wait(self._last, timeout=LAST_GRACE_S)
        self._on_exit(action)

    async def _run_script(self, action: act.RunScript) -> None:
        ended = await scripts.run(action, self._script_folders)
        self._finished(action, ended.outcome, detail=ended.detail)

    async def _mail(self, action: act.SendMail) -> None:
        async with self._mail_slots:
            ended = await mail.send(action)
        self._finished(action, ended.outcome, detail=ended.detail)

    async def _fallback_command(self, action: act.RunFallbackCommand) -> None:
        line = f"{action.command} {action.verb.value} {action.virtual} {action.protocol}"
        timeout_s = action.timeout_ns / 1e9
        end = self._loop.time() + timeout_s
        try:
            await asyncio.wait_for(self._command_slots.acquire(), timeout_s)
        except TimeoutError:
            detail = f"not run: {COMMANDS_AT_ONCE} others took all of its {timeout_s:g} s"
            self._finished(action, Outcome.TIMED_OUT, detail=detail)
            return
        try:
            ended, _ = await scripts.execute(["/bin/sh", "-c", line], max(end - self._loop.time(), 0.0))
        finally:
            self._command_slots.release()
        self._finished(action, ended.outcome, detail=ended.detail)

    async def _remember(self, action: act.RememberOverrides) -> None:
        try:
            await self._memory.call(lambda: memory.keep(self._state_dir, action))
        except OSError as error:
            detail = f"{self._state_dir / memory.NAME}: {error.strerror or error}"
            self._finished(action, Outcome.FAILED, detail=detail)
        else:
            self._finished(action, Outcome.DONE)

    async def _fence(self, action: act.FenceNode) -> None:
        if self._fence_with is None:
            self._finished(action, Outcome.FAILED, detail="no stonith device is configured")
            return
        ended = await self._fence_with(action.node, action.timeout_ns / 1e9)
        self._finished(action, ended.outcome, detail=ended.detail)

    def _finished(self, action: act.Action, outcome: Outcome, **fields: Any) -> None:
        self._submit(ActionFinished(at=self._clock(), action=action.id, outcome=outcome, **fields))


def addresses_of(settings: Settings) -> tuple[Address, ...]:
    """Every VIP of the configuration, in its order."""
    return tuple(r.address for group in settings.groups for r in group.resources if r.address is not None)


def announces(state: State, address: Address) -> bool:
    """Whether this node still is where `address` is: a group here that is up has it, as its own or as `SendArp`."""
    up = (GroupState.STARTING, GroupState.STARTED)
    return any(
        group.state in up and any(address in (r.address, r.announced) for r in settings.resources)
        for group, settings in zip(state.groups, state.settings.groups, strict=True)
    )


def release_everything(kernel: Kernel, settings: Settings) -> list[str]:
    """Take every VIP and virtual service of ours out of the kernel, but for those that stay there (`cleanstop=no`);
    returns what could not be done.

    For the supervisor after a crash of the core: no state is believed, everything configured is removed.
    """
    troubles = []
    for address in addresses_of(settings):
        try:
            kernel.remove_address(address)
        except KernelError as error:
            troubles.append(str(error))
    for sync in (r.sync for group in settings.groups for r in group.resources if r.sync is not None):
        try:
            kernel.set_sync_daemon(replace(sync, role=sync.role.other()))
        except KernelError as error:
            troubles.append(str(error))
    operations = tuple(
        Operation(verb=Verb.DELETE_SERVICE, service=service_entry(service))
        for service in settings.services
        if service.clean_stop
    )
    if operations:
        try:
            errors = kernel.apply_operations(operations)
            troubles += [f"{op}: errno {errno}" for op, errno in zip(operations, errors, strict=True) if errno]
        except KernelError as error:
            troubles.append(str(error))
    return troubles
