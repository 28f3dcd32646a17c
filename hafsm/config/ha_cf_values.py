"""The directives of ha.cf that have one value each: how it is read, and which of them mean nothing to hafsm.

Names, values and limits are those of heartbeat 3.0.6 as Debian builds it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

from hafsm.config.names import Misread, absolute_path, whole
from hafsm.core.settings import SECOND, AutoFailback

_TIME = re.compile(r"([0-9]{1,12}(?:\.[0-9]{0,12})?)(ms[a-z]*|us[a-z]*)?", re.IGNORECASE)
_UNIT_NS = {"": SECOND, "ms": 1_000_000, "us": 1_000}
_TIME_LIMIT_NS = 7 * 86_400 * SECOND
_KIB_LIMIT = 16 * 1024 * 1024
_MS_LIMIT = 3_600_000
BAUD_DEFAULT = 19200
_BAUDS = (9600, 19200, 38400, 57600, 115200, 230400, 460800)
_TRUE = ("true", "on", "yes", "y", "1")
_FALSE = ("false", "off", "no", "n", "0")
_FACILITIES = (
    *("none", "auth", "authpriv", "cron", "daemon", "ftp", "kern", "lpr", "mail", "news", "syslog", "user", "uucp"),
    *(f"local{n}" for n in range(8)),
)


def time_ns(word: str) -> int:
    """heartbeat's time: a decimal number of seconds, or with `ms` or `us` written to it. Raises Misread."""
    found = _TIME.fullmatch(word)
    if found:
        ns = int(Decimal(found[1]) * _UNIT_NS[(found[2] or "")[:2].lower()])
        if ns <= _TIME_LIMIT_NS:
            return ns
    raise Misread("a time of at most 7 days: seconds such as 2 or 1.5, or 200ms, or 1500us, without a blank")


def boolean(word: str) -> bool:
    """Raises Misread."""
    if word.lower() in _TRUE:
        return True
    if word.lower() in _FALSE:
        return False
    raise Misread("on or off (also true, yes, y, 1; false, no, n, 0)")


def failback(word: str) -> AutoFailback:
    """Raises Misread."""
    if word.lower() == "legacy":
        return AutoFailback.LEGACY
    try:
        return AutoFailback.ON if boolean(word) else AutoFailback.OFF
    except Misread:
        raise Misread("on, off or legacy") from None


def _baud(word: str) -> int:
    if word not in map(str, _BAUDS):
        raise Misread(f"one of {', '.join(map(str, _BAUDS))}")
    return int(word)


def _facility(word: str) -> str:
    if word.lower() not in _FACILITIES:
        raise Misread("a syslog facility such as local0 or daemon, or none")
    return word.lower()


def _one_of(*allowed: str) -> Callable[[str], str]:
    def read(word: str) -> str:
        if word not in allowed:
            raise Misread(f"{', '.join(allowed[:-1])} or {allowed[-1]}")
        return word

    return read


def _switched_off(remedy: str, *off: str) -> Callable[[str], str]:
    """Only the value that hafsm has anyway."""

    def read(word: str) -> str:
        if word.lower() not in off:
            raise Misread(off[0], remedy=remedy)
        return word

    return read


_NO_PACEMAKER = _switched_off("hafsm does what haresources says; a Pacemaker cluster needs Pacemaker", "off", *_FALSE)

NUMBERS: dict[str, Callable[[str], int]] = {
    "keepalive": time_ns,
    "deadtime": time_ns,
    "warntime": time_ns,
    "initdead": time_ns,
    "deadping": time_ns,
    "udpport": lambda word: whole(word, 1, 65535),
    "hopfudge": lambda word: whole(word, 0, 255),
    "debug": lambda word: whole(word, 0, 255),
    "baud": _baud,
    "rtprio": lambda word: whole(word, 1, 99),
    "realtime": lambda word: int(boolean(word)),
    "coredumps": lambda word: int(boolean(word)),
}
"""Directives with one number, time (nanoseconds) or boolean (0, 1)."""

TEXTS: dict[str, Callable[[str], str]] = {
    "auto_failback": lambda word: failback(word).value,
    "watchdog": absolute_path,
    "logfile": absolute_path,
    "debugfile": absolute_path,
    "logfacility": _facility,
    "coreroot": absolute_path,
    "autojoin": _switched_off("A pair has two directors, and node lines name them", "none"),
    "crm": _NO_PACEMAKER,
    "pacemaker": _NO_PACEMAKER,
}
"""Directives with one word."""


class Idle(NamedTuple):
    """A directive that is read and judged as heartbeat does, and then changes nothing."""

    read: Callable[[str], object]
    silent: tuple[str, ...]
    """Values that need no remark: they ask for what hafsm does anyway."""
    reason: str
    """One sentence."""


_PACEMAKER_ONLY = Idle(boolean, (), "It concerns Pacemaker alone")
_SMALL = "A message has some 300 bytes, far below every threshold, and is never compressed"

IDLE: dict[str, Idle] = {
    "cluster": Idle(str, (), "Nothing in haresources mode asks for the cluster's name"),
    "compression": Idle(_one_of("zlib", "bz2"), (), _SMALL),
    "compression_threshold": Idle(lambda word: whole(word, 1, _KIB_LIMIT), (), _SMALL),
    "conn_logd_time": Idle(time_ns, (), "hafsm writes its log itself and connects to no ha_logd"),
    "crm_daemon_dir": Idle(absolute_path, (), _PACEMAKER_ONLY.reason),
    "crmd_spawns_pengine": _PACEMAKER_ONLY,
    "enable_config_writes": _PACEMAKER_ONLY,
    "hbgenmethod": Idle(
        _one_of("file", "time"),
        ("file",),
        "The generation is kept on disk, and begins with the Unix time when the file is lost",
    ),
    "log_badpack": Idle(boolean, (), "Refused datagrams are counted by reason in the journal, never dumped"),
    "max_rexmit_delay": Idle(
        lambda word: whole(word, 1, _MS_LIMIT),
        ("250",),
        "A missing message is asked for every 250 ms",
    ),
    "memreserve": Idle(
        lambda word: whole(word, 1, _KIB_LIMIT), (), "All memory that the daemon uses is locked; none is set aside"
    ),
    "msgfmt": Idle(
        _one_of("classic", "netstring"), ("classic",), "Messages go out in the form that every heartbeat reads"
    ),
    "quorum_server": Idle(str, (), "Nothing in haresources mode asks a quorum server"),
    "record_config_changes": _PACEMAKER_ONLY,
    "record_pengine_inputs": _PACEMAKER_ONLY,
    "syslogmsgfmt": Idle(boolean, (), "Lines of the log have one form: time, level, part, text"),
    "traditional_compression": Idle(boolean, _FALSE, _SMALL),
    "use_apphbd": Idle(boolean, _FALSE, "The supervisor, the watchdog and systemd look after the daemon"),
    "use_logd": Idle(boolean, _FALSE, "hafsm writes its log itself: to stderr, logfile, debugfile and logfacility"),
    "uuidfrom": Idle(
        _one_of("file", "nodename"), ("file",), "The uuid is kept on disk; the peer learns it from the first message"
    ),
}

_NOT_BUILT = (
    '"{}" is no directive of the heartbeat that Debian ships',
    "only directives of heartbeat 3.0.6",
    "Remove the line",
)

REFUSED: dict[str, tuple[str, str, str]] = {
    **dict.fromkeys(("hbaping", "normalpoll", "rds", "tipc"), _NOT_BUILT),
    "failfast": (
        '"{}" is not supported yet: hafsm reboots no machine because a program died',
        "respawn",
        "A watchdog resets a machine whose daemon hangs",
    ),
}
"""Directive → what is found ({}: its name), expected, remedy: known, and an error."""
