"""Real-time priority and locked memory: heartbeats go out on time on a machine that is busy or short of memory.

SCHED_FIFO for the core and, one step above it so that it can always end a core that spins, the supervisor. Children are
ordinary processes again: the kernel resets the policy at each fork (SCHED_RESET_ON_FORK), and exec unlocks the memory.
Pages are locked when they are first used (MCL_ONFAULT), so that stacks nobody uses cost nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
from pathlib import Path

from hafsm.config.model import HaCf
from hafsm.errors import HafsmError

_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_CAP_IPC_LOCK = 14


def core_priority(ha: HaCf) -> int | None:
    """SCHED_FIFO priority of the core: `rtprio`, or heartbeat's default, half-way of the range. None: realtime is off.

    One below the highest at most: the supervisor has the next one.
    """
    if not ha.realtime:
        return None
    low, high = os.sched_get_priority_min(os.SCHED_FIFO), os.sched_get_priority_max(os.SCHED_FIFO)
    wanted = ha.rtprio if ha.rtprio is not None else low + (high - low) // 2
    return min(wanted, high - 1)


def enter(priority: int) -> str:
    """Give the calling thread the priority and lock this process's memory; returns what was refused, or nothing."""
    refused = []
    try:
        _schedule(0, priority)
    except OSError as error:
        refused.append(f"real-time priority {priority} ({error.strerror})")
    if trouble := _lock_memory():
        refused.append(f"locked memory ({trouble})")
    return " and ".join(refused)


def raise_threads(priority: int) -> None:
    """Give all other threads of this process the priority too.

    The loop waits for the interpreter's lock while another thread has it; a thread of ordinary priority would give it
    back only when the machine's other processes let it run.
    """
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # ended meanwhile, or not permitted, which `enter` has said
            _schedule(int(task.name), priority)


def limit_core_dumps(ha: HaCf) -> None:
    """`coredumps` and `coreroot`, for this process and its children. Raises HafsmError for a folder that is closed."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard if ha.coredumps else 0, hard))
    if ha.coreroot:
        try:
            os.chdir(ha.coreroot)
        except OSError as error:
            raise HafsmError(f"ha.cf: coreroot {ha.coreroot}: {error.strerror}") from error


def _schedule(thread: int, priority: int) -> None:
    os.sched_setscheduler(thread, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))


def _lock_memory() -> str:
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit != resource.RLIM_INFINITY and not _may_lock():
        # Below a limit it would succeed now, and later allocations would fail at the limit.
        return f"limited to {limit // 1024} KiB"
    library = ctypes.CDLL(None, use_errno=True)
    if library.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) != 0:
        return os.strerror(ctypes.get_errno() or errno.EPERM)
    return ""


def _may_lock() -> bool:
    """Whether this process has CAP_IPC_LOCK, to which limits do not apply."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_IPC_LOCK & 1)
    return False
