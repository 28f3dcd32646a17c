"""What a simulated director's daemon does with its actions: the kernel's thread, scripts, fencing, pings, checks.

One for each life; what it has begun ends with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hafsm.core import actions as act
from hafsm.core import events as ev
from hafsm.core.ipvs import digest
from hafsm.core.settings import MILLISECOND, SECOND, CheckSpec
from hafsm.errors import KernelError

if TYPE_CHECKING:
    from replay.simulator_machine import Machine

KERNEL_NS = 200_000
MEMORY_NS = 5 * MILLISECOND
EMPTY_SHARE = 0.2
"""How often a look at a drained server finds no connection left."""


class Executor:
    """See the module."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._kernel_free = 0
        self._stalled: list[tuple[act.Action, Callable[[], None] | None]] = []
        self._unwritten: list[act.RememberOverrides] = []
        """Waits for a disk that hangs."""
        self._plan = 0
        """Of the checks."""

    def harmless(self, action: act.Action) -> None:
        """Messages, pings, checks: nothing waits for them."""
        match action:
            case act.SendMessage():
                if action.kind == "status":
                    self._machine.world.network_sent(self._machine)
                self._machine.ears.send(action)
            case act.ResendMessages():
                self._machine.ears.resend(action)
            case act.SendPings():
                self._ping()
            case act.SetChecks():
                self._set_checks(action)

    def _ping(self) -> None:
        if self._machine.no_uplink:
            return
        for ping in self._machine.settings.pings:
            if not self._machine.world.dead_pings[ping.name]:
                self._machine.later(MILLISECOND, self._answered, ping.name, ping.hosts[0])

    def _answered(self, name: str, host: str) -> None:
        self._machine.fold(ev.PingAnswered(at=self._machine.local_now(), ping=name, host=host))

    def _set_checks(self, action: act.SetChecks) -> None:
        self._plan = action.plan
        rounds: dict[int, list[tuple[int, CheckSpec]]] = {}
        for index, spec in enumerate(action.checks):
            rounds.setdefault(spec.interval_ns, []).append((index, spec))
        for interval, checks in rounds.items():
            self._machine.later(20 * MILLISECOND, self._check, action.plan, interval, checks, ((), -1))

    def _check(
        self,
        plan: int,
        interval: int,
        checks: list[tuple[int, CheckSpec]],
        known: tuple[tuple[ev.CheckResult, ...], int],
    ) -> None:
        if plan != self._plan:
            return
        results, version = known
        current = self._machine.world.reals_version << 1 | bool(self._machine.no_uplink)
        if version != current:
            results = tuple(self._checked(index, spec) for index, spec in checks)
        self._machine.fold(ev.ChecksReported(at=self._machine.local_now(), plan=plan, results=results))
        self._machine.later(interval, self._check, plan, interval, checks, (results, current))

    def _checked(self, index: int, spec: CheckSpec) -> ev.CheckResult:
        if self._machine.no_uplink:
            return ev.CheckResult(check=index, ok=False, detail="timed out", duration_us=spec.timeout_ns // 1000)
        if self._machine.world.dead_reals[spec.address]:
            return ev.CheckResult(check=index, ok=False, detail="connection refused", duration_us=300)
        return ev.CheckResult(check=index, ok=True, duration_us=400)

    def release(self, effects: tuple[act.Action, ...]) -> None:
        """The daemon begins what the core decided."""
        for action in effects:
            self._machine.world.watch.performed(self._machine, action)
            match action:
                case act.RunScript():
                    self._run_script(action)
                case act.FenceNode():
                    self._fence(action)
                case act.SendMail():
                    self._finish(action, 5 * MILLISECOND)
                case act.RunFallbackCommand():
                    self._run_command(action)
                case act.RememberOverrides():
                    self._machine.later(MEMORY_NS, self._remember, action)
                case act.Exit():
                    self._in_thread(action, lambda a=action: self._exit(a))  # type: ignore[misc]
                case _:
                    self._in_thread(action, None)

    def _finish(
        self, action: act.Action, delay_ns: int = 100_000, outcome: ev.Outcome = ev.Outcome.DONE, **fields: Any
    ) -> None:
        self._machine.submit(lambda at: ev.ActionFinished(at=at, action=action.id, outcome=outcome, **fields), delay_ns)

    def _in_thread(self, action: act.Action, instead: Callable[[], None] | None) -> None:
        """Queue for the kernel's thread, which works in order."""
        now = self._machine.world.now
        self._kernel_free = max(now, self._kernel_free) + KERNEL_NS
        self._machine.later(self._kernel_free - now, self._in_kernel, action, instead)

    def _in_kernel(self, action: act.Action, instead: Callable[[], None] | None) -> None:
        if self._machine.kernel_hangs:
            self._stalled.append((action, instead))
        elif instead is not None:
            instead()
        elif self._machine.kernel_refuses:
            self._finish(action, outcome=ev.Outcome.FAILED, detail="ENOBUFS")
        else:
            self._ask_kernel(action)

    def kernel_answers(self) -> None:
        """The thread goes on where it hung."""
        stalled, self._stalled = self._stalled, []
        for action, instead in stalled:
            self._in_thread(action, instead)

    def _ask_kernel(self, action: act.Action) -> None:
        kernel = self._machine.kernel
        fields: dict[str, Any] = {}
        try:
            match action:
                case act.AddAddress():
                    kernel.add_address(action.address, action.lease_s)
                    self._machine.watch_lease()
                case act.RemoveAddress():
                    kernel.remove_address(action.address)
                case act.RenewAddresses():
                    fields["missing"] = kernel.renew_addresses(action.addresses, action.lease_s)
                    self._machine.watch_lease()
                case act.ProgramIpvs():
                    errors = kernel.apply_operations(action.operations)
                    fields["errors"] = errors if any(errors) else ()
                case act.SetSyncDaemon():
                    kernel.set_sync_daemon(action.daemon)
                case act.ObserveKernel():
                    self._observe(action)
                    return
        except KernelError as error:
            self._finish(action, outcome=ev.Outcome.FAILED, detail=str(error))
            return
        self._finish(action, **fields)

    def _observe(self, action: act.ObserveKernel) -> None:
        addresses = self._machine.kernel.held_addresses(self._machine.world.site.vips)
        ours = {service.key for service in self._machine.state.settings.services}
        ours |= {entry.service.key for entry in self._machine.state.ipvs.seen}
        table = tuple(entry for entry in self._machine.kernel.read_table() if entry.service.key in ours)
        matches = digest(table) == action.expected
        seen = () if matches else table
        places = {(entry.service.key, d.key) for entry in table for d in entry.destinations}
        rng = self._machine.rng
        empty = tuple(place for place in action.draining if place in places and rng.random() < EMPTY_SHARE)
        self._machine.submit(
            lambda at: ev.KernelObserved(
                at=at, action=action.id, addresses=addresses, matches=matches, table=seen, empty=empty
            ),
            100_000,
        )

    def _run_script(self, action: act.RunScript) -> None:
        if any(value % 3 in (0, _VERBS[action.verb]) for value in self._machine.script_hangs):
            self._machine.world.watch.hangs(self._machine, action.timeout_ns)
            self._finish(action, action.timeout_ns, ev.Outcome.TIMED_OUT, detail="killed at its deadline")
            return
        took = int(self._machine.rng.expovariate(1 / 0.2) * SECOND) if self._machine.world.drift else 50 * MILLISECOND
        self._machine.later(min(took, 2 * SECOND), self._script_ends, action)

    def _script_ends(self, action: act.RunScript) -> None:
        failing = any(value % 3 in (0, _VERBS[action.verb]) for value in self._machine.script_fails)
        detail = ""
        if action.verb is act.ScriptVerb.STATUS:
            detail = "running" if action.script in self._machine.scripts else "stopped"
        elif failing:
            self._finish(action, outcome=ev.Outcome.FAILED, detail="exit status 1")
            return
        elif action.verb is act.ScriptVerb.START:
            self._machine.scripts.add(action.script)
        else:
            self._machine.scripts.discard(action.script)
        self._finish(action, detail=detail)

    def _run_command(self, action: act.RunFallbackCommand) -> None:
        """A script of the administrator's, with the troubles of all scripts; nothing waits for what it does."""
        kind = 1 if action.verb is act.FallbackVerb.START else 2
        if any(value % 3 in (0, kind) for value in self._machine.script_hangs):
            self._finish(action, action.timeout_ns, ev.Outcome.TIMED_OUT, detail="killed at its deadline")
        elif any(value % 3 in (0, kind) for value in self._machine.script_fails):
            self._finish(action, 50 * MILLISECOND, ev.Outcome.FAILED, detail="exit status 1")
        else:
            self._finish(action, self._machine.rng.randrange(2_000) * MILLISECOND)

    def _remember(self, action: act.RememberOverrides) -> None:
        """Replace the file as a whole: what dies before this has changed nothing."""
        machine = self._machine
        if machine.disk_hangs:
            self._unwritten.append(action)
        elif machine.disk_fails:
            self._finish(action, outcome=ev.Outcome.FAILED, detail="operators.json: No space left on device")
        else:
            machine.memory = action
            self._finish(action)

    def disk_answers(self) -> None:
        """What waited for it is done now, in order."""
        unwritten, self._unwritten = self._unwritten, []
        for action in unwritten:
            self._remember(action)

    def _fence(self, action: act.FenceNode) -> None:
        if self._machine.fence_hangs:
            self._finish(action, action.timeout_ns, ev.Outcome.TIMED_OUT, detail="no answer of the device")
        elif self._machine.fence_fails:
            self._finish(action, 2 * SECOND, ev.Outcome.FAILED, detail="exit status 1")
        else:
            self._machine.later(3 * SECOND, self._fenced, action)

    def _fenced(self, action: act.FenceNode) -> None:
        self._machine.world.reset(self._machine.peer)
        self._finish(action)

    def _exit(self, action: act.Exit) -> None:
        self._machine.die(journal_closed=not self._machine.disk_fails and not self._machine.disk_hangs)
        if action.restart:
            self._machine.world.after(100 * MILLISECOND, self._machine.restart, self._machine.life)
        else:
            self._machine.world.left(self._machine)


_VERBS = {act.ScriptVerb.START: 1, act.ScriptVerb.STOP: 2, act.ScriptVerb.STATUS: 0}
"""A script fault with value 0, 3, 6 … strikes every verb, 1, 4 … starts, 2, 5 … stops."""
