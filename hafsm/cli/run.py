"""`hafsm run`."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import click

from hafsm.cli.options import settings_option
from hafsm.config.load import load
from hafsm.config.settings_file import DaemonSettings
from hafsm.core.settings import Group, ResourceKind
from hafsm.daemon.logs import set_up
from hafsm.daemon.scripts import locate
from hafsm.errors import HafsmError, KernelError
from hafsm.kernel.interface import Kernel

log = logging.getLogger("hafsm")

REFUSED = 6
"""heartbeat's exit code for a configuration error."""


@click.command()
@click.option(
    "--config-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default="/etc/ha.d",
    show_default=True,
    help="Where ha.cf, haresources, authkeys and ldirectord.cf are.",
)
@settings_option
def run(config_dir: Path, settings: DaemonSettings) -> None:
    """Run the director daemon in the foreground. SIGTERM hands over to the peer and leaves the kernel clean.

    SIGHUP reads ldirectord.cf again. Exit status: 0 stopped, 6 the configuration cannot be used.
    """
    loaded = load(
        config_dir,
        me=settings.node_name,
        script_timeout_ns=settings.scripts.timeout_ns,
        extras=settings.checks.extras,
    )
    for finding in loaded.findings:
        click.echo(f"{finding.level}: {finding}", err=True)
    if loaded.configuration is None or loaded.settings is None:
        click.echo("hafsm was not started: mend the errors above (`hafsm check-config` shows the whole)", err=True)
        sys.exit(REFUSED)
    # Only now: what follows costs time that a refused start need not.
    from hafsm.daemon.executor import release_everything
    from hafsm.daemon.goodbye import say_goodbye
    from hafsm.daemon.life import live, plan_of
    from hafsm.daemon.programs import missing_programs
    from hafsm.daemon.realtime import core_priority, enter, limit_core_dumps
    from hafsm.daemon.supervisor import EXIT_REFUSED, HANG_LIMIT_S, Supervisor
    from hafsm.daemon.watchdog import Watchdog

    ha = loaded.configuration.ha
    set_up(
        "debug" if ha.debug else settings.log.level, logfile=ha.logfile, debugfile=ha.debugfile, facility=ha.logfacility
    )
    plan = plan_of(loaded, settings, kernel_maker(settings))
    try:
        _refuse_missing_scripts(plan.settings.groups, settings)
        for lack in missing_programs(ha, plan.settings.me):
            raise HafsmError(f"ha.cf: {lack}")
        limit_core_dumps(ha)
        lock = _lock(settings.run_dir)
        watchdog = Watchdog(ha.watchdog, plan.settings.deadtime_ns) if ha.watchdog else None
    except HafsmError as error:
        click.echo(f"hafsm was not started: {error}", err=True)
        sys.exit(REFUSED)
    priority = core_priority(ha)
    if priority is not None and (refused := enter(priority + 1)):
        log.warning("not permitted: %s; a busy machine may delay heartbeats, and then the peer takes over", refused)

    def released(_why: str) -> None:
        if settings.kernel.implementation == "linux":
            kernel = plan.make_kernel()
            for trouble in release_everything(kernel, plan.settings):
                log.error("%s", trouble)
            kernel.close()
        say_goodbye(plan)

    def feed() -> None:
        if watchdog is not None:
            watchdog.feed()

    hang_limit_s = max(HANG_LIMIT_S, plan.settings.deadtime_ns / 3e9)
    supervisor = Supervisor(lambda alive: live(plan, alive), on_crash=released, feed=feed, hang_limit_s=hang_limit_s)
    code = supervisor.run()
    if watchdog is not None:
        with contextlib.suppress(OSError):
            watchdog.close()
    os.close(lock)
    sys.exit(REFUSED if code == EXIT_REFUSED else code)


def kernel_maker(settings: DaemonSettings) -> Callable[[], Kernel]:
    """How a life gets its kernel; nothing is loaded or opened before it is called."""
    if settings.kernel.implementation == "memory":
        from hafsm.daemon.clock import boottime_ns
        from hafsm.kernel.memory import MemoryKernel

        return lambda: MemoryKernel(boottime_ns)

    def linux() -> Kernel:
        from hafsm.kernel.linux import LinuxKernel

        return LinuxKernel()

    return linux


def _refuse_missing_scripts(groups: tuple[Group, ...], settings: DaemonSettings) -> None:
    for group in groups:
        for resource in group.resources:
            if resource.kind is ResourceKind.SCRIPT and locate(resource.script, settings.scripts.search) is None:
                places = ", ".join(map(str, settings.scripts.search))
                raise HafsmError(
                    f"haresources names {resource.script}, but there is no executable of that name in {places}, "
                    f"no OCF agent and no systemd unit {resource.script}.service"
                )


def _lock(run_dir: Path) -> int:
    """One daemon a machine. Raises HafsmError naming the other's pid; the lock ends with the process."""
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / "hafsm.pid"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        other = os.read(descriptor, 32).decode(errors="replace").strip()
        os.close(descriptor)
        raise KernelError(f"lock {path}", error.errno or 0, f"hafsm runs already with pid {other}") from error
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor
