"""One life of the core process: everything opened, the loop run, everything closed again.

Order at the start: identity, journal, links; then the first event, and with it the first heartbeat. What costs time and
is not needed for that (the kernel's netlink library, the admin API) is loaded meanwhile in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hafsm import __version__
from hafsm.checks.pool import CheckPool
from hafsm.config.findings import Finding
from hafsm.config.load import Loaded, load_ldirectord
from hafsm.config.model import Configuration, LdirectordCf
from hafsm.config.settings_file import DaemonSettings
from hafsm.core.actions import Action, Exit
from hafsm.core.events import CheckerLost, CheckResult, ChecksReported, DaemonStarted, StopRequested
from hafsm.core.machines import Phase
from hafsm.core.settings import NodeName, Settings
from hafsm.core.state import State, initial
from hafsm.daemon import realtime
from hafsm.daemon.access import access_of
from hafsm.daemon.clock import boottime_ns, wall_ns
from hafsm.daemon.executor import Executor
from hafsm.daemon.fencing import fencer
from hafsm.daemon.identity import Identity, begin_life, remember_peer
from hafsm.daemon.links import Links
from hafsm.daemon.loop import Loop, snapshot_of
from hafsm.daemon.maintenance import MaintenanceFolder
from hafsm.daemon.memory import Remembered, recall
from hafsm.daemon.monitor import Monitor
from hafsm.daemon.notify import notify
from hafsm.daemon.parameters import parameters
from hafsm.daemon.pings import Pings
from hafsm.daemon.reload import Reloader, digest_of
from hafsm.daemon.respawn import Programs
from hafsm.daemon.supervisor import ALIVE_EVERY_S, EXIT_REFUSED, EXIT_RESTART
from hafsm.errors import HafsmError, KernelError
from hafsm.kernel.interface import Kernel
from hafsm.wire.auth import Key, KeyRing
from journal.errors import JournalError
from journal.records import GapRecord, Position, RunRecord
from journal.writer import Writer

log = logging.getLogger("hafsm")

T = TypeVar("T")

CLOSE_LIMIT_S = 3.0
OPEN_LIMIT_S = 2.0
"""For finding the journal's end, which takes milliseconds: a disk that hangs must not keep a director from starting
(law L3)."""
CRASHED = 70
SWITCH_INTERVAL_S = 0.001
"""Of Python's threads. With the default 5 ms a busy loop kept the journal's thread from committing for 68 ms (p99); so,
14 ms: inside the journal's patience."""


@dataclass(frozen=True)
class Plan:
    """What a life is given: configuration that was checked, and how to reach the kernel."""

    configuration: Configuration
    settings: Settings
    daemon: DaemonSettings
    make_kernel: Callable[[], Kernel]
    services_digest: bytes
    """Of the ldirectord.cf that was read: a later life sees at once whether it is still the same."""

    @property
    def ring(self) -> KeyRing:
        """The keys of authkeys, ready to sign."""
        keys = [Key(key.index, key.method, key.secret.reveal()) for key in self.configuration.keys.keys]
        return KeyRing(keys, self.configuration.keys.active)


def plan_of(loaded: Loaded, daemon: DaemonSettings, make_kernel: Callable[[], Kernel]) -> Plan:
    """Raises HafsmError if the configuration has errors."""
    if loaded.configuration is None or loaded.settings is None:
        raise HafsmError("the configuration has errors")
    digest = digest_of(loaded.configuration.ldirectord) if loaded.configuration.ldirectord.file else b""
    return Plan(loaded.configuration, loaded.settings, daemon, make_kernel, digest)


def live(plan: Plan, alive_fd: int) -> int:
    """Run one life; returns its exit code."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    priority = realtime.core_priority(plan.configuration.ha)
    if priority is not None:
        realtime.enter(priority)  # what is refused here was refused to the supervisor, which has said so
    try:
        return asyncio.run(_Life(plan).run(alive_fd))
    except KernelError as error:
        log.error("refusing to start: %s", error)
        return EXIT_REFUSED


ACTIVE = (Phase.STARTING, Phase.RECEIVED, Phase.STABLE)
"""Phases in which this node's status is `active`; then respawn programs run (heartbeat 3)."""


class _Life:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._code = CRASHED
        self._priority = realtime.core_priority(plan.configuration.ha)
        self._writing: set[asyncio.Task[None]] = set()
        self._one_writer = asyncio.Lock()

    async def run(self, alive_fd: int) -> int:
        plan, ha = self._plan, self._plan.configuration.ha
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        first_life = not (plan.daemon.state_dir / "identity.json").exists()
        identity = begin_life(plan.daemon.state_dir, wall_ns() // 1_000_000_000)
        remembered = self._recall(first_life)
        thread = ThreadPoolExecutor(1, thread_name_prefix="kernel")
        kernel = thread.submit(self._open_kernel)
        kernel.add_done_callback(lambda opened: self._from_thread(lambda: self._kernel_opened(opened)))
        state, writer = self._open_journal(identity)
        self._core = Loop(
            state,
            writer,
            self._perform,
            patience_ns=plan.daemon.journal.patience_ns,
            on_crash=self._crashed,
        )
        links = self._make_links(identity)
        pings = Pings(plan.settings.pings, plan.ring, submit=self._core.submit, clock=boottime_ns)
        self._programs = Programs(ha.programs, dict(ha.env))
        checks = CheckPool(plan.daemon.checks.workers, self._checked, self._checker_lost, user=plan.daemon.checks.user)
        self._executor = Executor(
            kernel.result,
            thread,
            links,
            pings,
            checks,
            fence=fencer(ha.fence_device(plan.settings.me)),
            script_folders=plan.daemon.scripts.search,
            state_dir=plan.daemon.state_dir,
            secrets=secrets_of(plan.configuration.ldirectord),
            state=lambda: self._core.state,
            submit=self._core.submit,
            clock=boottime_ns,
            on_exit=self._exit,
        )
        self._monitor = Monitor(lambda: self._core.state)
        self._maintenance = MaintenanceFolder(
            plan.configuration.ldirectord.maintenance_dir, submit=self._core.submit, clock=boottime_ns
        )
        forwarder = await self._forward(kernel)
        self._handle_signals()
        # Nothing is awaited from here to the first event: what is heard meanwhile comes after it.
        links.open()
        pings.open()
        self._core.submit(
            DaemonStarted(
                at=boottime_ns(),
                generation=identity.generation,
                wall_ns=wall_ns(),
                boot_id=identity.boot_id,
                same_boot=identity.same_boot,
                version=__version__,
                overrides=remembered.overrides,
                fallbacks=remembered.fallbacks,
                memory_trouble=remembered.trouble,
            )
        )
        tasks = [
            self._loop.create_task(_show_life(alive_fd)),
            self._loop.create_task(checks.start()),
            self._loop.create_task(self._serve()),
            self._loop.create_task(self._reloader().run()),
            self._loop.create_task(self._maintenance.run()),
        ]
        for task in tasks:
            task.add_done_callback(_told)
        notify("READY=1")
        await self._ended.wait()
        notify("STOPPING=1")
        self._executor.close()
        for task in tasks[1:]:
            task.cancel()
        links.close()
        pings.close()
        if self._code == 0:  # else the supervisor or the next life waits, and the kernel ends them with this process
            await self._programs.close()
        await forwarder.aclose()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(checks.close(), *tasks[1:], return_exceptions=True), CLOSE_LIMIT_S)
        if writer is not None and not await asyncio.to_thread(writer.close, CLOSE_LIMIT_S):
            log.error("the journal could not be written to its end within %g s", CLOSE_LIMIT_S)
        tasks[0].cancel()
        return self._code

    # ---- what the life consists of

    def _open_kernel(self) -> Kernel:
        """In the kernel's own thread, where all its methods are called. Raises `KernelError`."""
        kernel = self._plan.make_kernel()
        kernel.prepare(ipvs=bool(self._plan.settings.services))
        return kernel

    def _recall(self, first_life: bool) -> Remembered:
        """A disk that hangs costs what operators said, never service (law L3)."""
        try:
            return _within(OPEN_LIMIT_S, lambda: recall(self._plan.daemon.state_dir, first_life=first_life))
        except (TimeoutError, OSError) as error:
            return Remembered(trouble=str(error))

    def _open_journal(self, identity: Identity) -> tuple[State, Writer | None]:
        """A journal that cannot be opened costs history, never service (law L3)."""
        plan = self._plan
        state = initial(plan.settings)

        def durable(seq: int) -> None:
            self._from_thread(lambda: self._core.durable(seq))

        def trouble(text: str | None) -> None:
            self._from_thread(lambda: self._core.troubled(text))

        def gap(gap: GapRecord) -> None:
            last = gap.after_seq + gap.count
            self._from_thread(lambda: self._core.gapped(gap.after_seq + 1, last, gap.cause))

        writer = Writer(
            plan.daemon.journal.folder,
            segment_bytes=plan.daemon.journal.segment_bytes,
            segment_age_s=plan.daemon.journal.segment_age_ns / 1e9,
            total_bytes=plan.daemon.journal.max_bytes,
            queue_max_events=plan.daemon.journal.backlog_events,
            on_durable=durable,
            on_trouble=trouble,
            on_gap=gap,
        )
        try:
            position = _within(OPEN_LIMIT_S, writer.open)
        except (JournalError, TimeoutError) as error:
            log.error("no journal in this life: %s", error)
            state.journal_trouble = str(error)
            return state, None
        state.number = position.last_seq
        state.next_action = position.last_action_id + 1
        writer.start_run(self._run_record(identity, position), snapshot_of(state))
        return state, writer

    def _from_thread(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(call)

    def _run_record(self, identity: Identity, position: Position) -> RunRecord:
        configuration = self._plan.configuration
        return RunRecord(
            run=position.last_run + 1,
            first_seq=position.last_seq + 1,
            started_wall_ns=wall_ns(),
            node=self._plan.settings.me,
            boot_id=identity.boot_id,
            code_version=__version__,
            configuration=configuration.text_without_secrets(),
            config_digest=configuration.digest(),
            flags=" ".join(self._plan.settings.flags),
        )

    async def _forward(self, opening: Future[Kernel]) -> contextlib.AsyncExitStack:
        """The embedded kernel's VIPs answer through a forwarder in user space; a real kernel needs none."""
        stack = contextlib.AsyncExitStack()
        if self._plan.daemon.kernel.implementation == "memory":
            from hafsm.kernel.forwarder import Forwarder
            from hafsm.kernel.memory import MemoryKernel

            kernel = await asyncio.wrap_future(opening)
            assert isinstance(kernel, MemoryKernel), "the plan's kernel is the one its settings name"
            await stack.enter_async_context(Forwarder(kernel))
        return stack

    def _make_links(self, identity: Identity) -> Links:
        plan = self._plan
        return Links(
            plan.configuration.ha.media,
            plan.settings.links,
            port=plan.configuration.ha.udpport,
            listen=plan.daemon.heartbeat.listen or "",
            ring=plan.ring,
            me=plan.settings.me,
            nodes=plan.settings.nodes,
            ttl=time_to_live(plan),
            uuid=identity.uuid,
            generation=identity.generation,
            heard=identity.peers,
            on_generation=self._heard_generation,
            submit=self._core.submit,
            clock=boottime_ns,
        )

    def _heard_generation(self, node: NodeName, generation: int) -> None:
        """Written in a thread: the disk may hang, heartbeats may not."""
        task = self._loop.create_task(self._remember(node, generation))
        self._writing.add(task)
        task.add_done_callback(self._remembered)

    async def _remember(self, node: NodeName, generation: int) -> None:
        async with self._one_writer:
            await asyncio.to_thread(remember_peer, self._plan.daemon.state_dir, node, generation)

    def _remembered(self, task: asyncio.Task[None]) -> None:
        self._writing.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.warning("the peer's generation could not be kept: %s", task.exception())

    async def _serve(self) -> None:
        # In threads: on a slow machine this import takes longer than a loop may stand still, and so do names of users.
        Api = (await asyncio.to_thread(importlib.import_module, "hafsm.daemon.api")).Api
        settings = self._plan.daemon.api
        configuration = self._plan.configuration
        try:
            access = await asyncio.to_thread(access_of, settings.group, configuration.ha.apiauth)
            api = Api(settings.socket, access, self._core, parameters(configuration, __version__), self._executor.look)
            await api.start()
        except (OSError, KeyError) as error:
            log.error("no admin socket at %s: %s", settings.socket, error)
            return
        try:
            await asyncio.Event().wait()
        finally:
            await api.close()

    def _reloader(self) -> Reloader:
        self._reload = Reloader(
            self._plan.configuration.ldirectord,
            known=self._plan.services_digest,
            load=self._read_ldirectord,
            taken=self._taken,
            submit=self._core.submit,
            clock=boottime_ns,
        )
        return self._reload

    def _read_ldirectord(self, path: Path) -> tuple[LdirectordCf | None, Sequence[Finding]]:
        configuration = self._plan.configuration
        return load_ldirectord(path, directory=Path(configuration.directory), extras=configuration.extras)

    def _taken(self, new: LdirectordCf) -> None:
        self._executor.secrets = secrets_of(new)
        self._maintenance.watch(new.maintenance_dir)

    def _handle_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop, signal.Signals(number).name)
        self._loop.add_signal_handler(signal.SIGHUP, lambda: self._reload.ask())

    def _perform(self, action: Action) -> None:
        self._executor.perform(action)
        if self._core.state.phase in ACTIVE:
            self._programs.start()

    # ---- what reaches it from the outside

    def _stop(self, by: str) -> None:
        self._core.submit(StopRequested(at=boottime_ns(), by=by))

    def _checked(self, plan: int, results: Sequence[CheckResult]) -> None:
        self._core.submit(ChecksReported(at=boottime_ns(), plan=plan, results=tuple(results)))
        self._monitor.checked(plan, results)

    def _checker_lost(self, worker: int, detail: str) -> None:
        self._core.submit(CheckerLost(at=boottime_ns(), worker=worker, detail=detail))

    def _kernel_opened(self, opening: Future[Kernel]) -> None:
        error = opening.exception()
        if error is None and self._priority is not None:
            realtime.raise_threads(self._priority)
        if isinstance(error, KernelError):
            log.error("refusing to go on: %s", error)
            self._code = EXIT_REFUSED
            self._ended.set()
        elif error is not None:
            self._crashed(error)

    def _crashed(self, error: BaseException) -> None:
        log.critical("the core crashed on event %d: %s", self._core.state.number + 1, error, exc_info=error)
        self._code = CRASHED
        self._ended.set()

    def _exit(self, action: Exit) -> None:
        self._code = EXIT_RESTART if action.restart else 0
        self._ended.set()


def _within(limit_s: float, call: Callable[[], T]) -> T:
    """Call what may hang in a thread that is left behind if it does.

    Raises:
        TimeoutError: so; and what `call` raises.
    """
    result: Future[T] = Future()

    def work() -> None:
        try:
            result.set_result(call())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=work, name="opening", daemon=True).start()
    try:
        return result.result(limit_s)
    except FutureTimeout:
        raise TimeoutError(f"the disk did not answer within {limit_s:g} s") from None


def secrets_of(configuration: LdirectordCf) -> dict[str, bytes]:
    """What the names of passwords in checks stand for."""
    return {name: secret.reveal() for name, secret in configuration.secrets}


def _told(task: asyncio.Task[None]) -> None:
    """None of the life's own tasks ends by itself; a bug in one must not be silent."""
    if not task.cancelled() and (error := task.exception()) is not None:
        name = task.get_coro().__qualname__  # type: ignore[union-attr]
        log.error("%s has ended, and what it does is not done any more: %s", name, error, exc_info=error)


async def _show_life(alive_fd: int) -> None:
    """The supervisor's sign that the loop turns; also systemd's."""
    while True:
        with contextlib.suppress(BlockingIOError):
            os.write(alive_fd, b".")
        notify("WATCHDOG=1")
        await asyncio.sleep(ALIVE_EVERY_S)


def time_to_live(plan: Plan) -> int:
    """heartbeat's `ttl`: hopfudge + the number of configured nodes, ping nodes included."""
    return plan.configuration.ha.hopfudge + len(plan.settings.nodes) + len(plan.settings.pings)
