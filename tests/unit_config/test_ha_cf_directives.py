"""Every directive of heartbeat 3: what is wrong with a bad value, said in full, and what a good one means here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hafsm.config import ha_cf
from hafsm.config.ha_cf_values import IDLE, NUMBERS, REFUSED, TEXTS
from hafsm.config.load import load
from hafsm.config.model import FenceDevice, HaCf, Respawn, Secret
from hafsm.core.settings import AutoFailback
from tests.unit_config.config_support import NODE

Remarks = Callable[[str, str, str], list[str]]

TIME = "a time of at most 7 days: seconds such as 2 or 1.5, or 200ms, or 1500us, without a blank"
BOOLEAN = "on or off (also true, yes, y, 1; false, no, n, 0)"
PACEMAKER = "off. hafsm does what haresources says; a Pacemaker cluster needs Pacemaker"

BAD_VALUES: tuple[tuple[str, str, str], ...] = (
    ("keepalive", "1s", TIME),
    ("deadtime", "5min", TIME),
    ("warntime", "-1", TIME),
    ("initdead", "1e3", TIME),
    ("deadping", "ms", TIME),
    ("conn_logd_time", "60s", TIME),
    ("udpport", "0", "a whole number from 1 to 65535"),
    ("hopfudge", "-1", "a whole number from 0 to 255"),
    ("debug", "256", "a whole number from 0 to 255"),
    ("baud", "300", "one of 9600, 19200, 38400, 57600, 115200, 230400, 460800"),
    ("rtprio", "100", "a whole number from 1 to 99"),
    ("rtprio", "0", "a whole number from 1 to 99"),
    ("realtime", "maybe", BOOLEAN),
    ("coredumps", "2", BOOLEAN),
    ("coreroot", "cores", "an absolute path"),
    ("watchdog", "watchdog0", "an absolute path"),
    ("logfile", "ha-log", "an absolute path"),
    ("debugfile", "./ha-debug", "an absolute path"),
    ("logfacility", "kernel", "a syslog facility such as local0 or daemon, or none"),
    ("auto_failback", "later", "on, off or legacy"),
    ("nice_failback", "later", BOOLEAN),
    ("autojoin", "other", "none. A pair has two directors, and node lines name them"),
    ("crm", "respawn", PACEMAKER),
    ("pacemaker", "on", PACEMAKER),
    ("compression", "lzma", "zlib or bz2"),
    ("compression_threshold", "0", "a whole number from 1 to 16777216"),
    ("traditional_compression", "x", BOOLEAN),
    ("crm_daemon_dir", "lib", "an absolute path"),
    ("crmd_spawns_pengine", "x", BOOLEAN),
    ("enable_config_writes", "x", BOOLEAN),
    ("hbgenmethod", "clock", "file or time"),
    ("log_badpack", "x", BOOLEAN),
    ("max_rexmit_delay", "250ms", "a whole number from 1 to 3600000"),
    ("memreserve", "0", "a whole number from 1 to 16777216"),
    ("msgfmt", "xml", "classic or netstring"),
    ("record_config_changes", "x", BOOLEAN),
    ("record_pengine_inputs", "x", BOOLEAN),
    ("syslogmsgfmt", "x", BOOLEAN),
    ("use_apphbd", "x", BOOLEAN),
    ("use_logd", "x", BOOLEAN),
    ("uuidfrom", "dns", "file or nodename"),
)
"""Directive, value, what is expected."""

UNBOUNDED = {"cluster", "quorum_server"}
"""Any word will do."""

CHANGES_NOTHING: tuple[tuple[str, str], ...] = (
    ("cluster web", "Nothing in haresources mode asks for the cluster's name"),
    ("compression bz2", "A message has some 300 bytes, far below every threshold, and is never compressed"),
    ("compression_threshold 2", "A message has some 300 bytes, far below every threshold, and is never compressed"),
    ("traditional_compression on", "A message has some 300 bytes, far below every threshold, and is never compressed"),
    ("conn_logd_time 60", "hafsm writes its log itself and connects to no ha_logd"),
    ("crm_daemon_dir /usr/lib/heartbeat", "It concerns Pacemaker alone"),
    ("crmd_spawns_pengine on", "It concerns Pacemaker alone"),
    ("enable_config_writes on", "It concerns Pacemaker alone"),
    ("record_config_changes on", "It concerns Pacemaker alone"),
    ("record_pengine_inputs off", "It concerns Pacemaker alone"),
    ("hbgenmethod time", "The generation is kept on disk, and begins with the Unix time when the file is lost"),
    ("log_badpack false", "Refused datagrams are counted by reason in the journal, never dumped"),
    ("max_rexmit_delay 500", "A missing message is asked for every 250 ms"),
    ("memreserve 6500", "All memory that the daemon uses is locked; none is set aside"),
    ("msgfmt netstring", "Messages go out in the form that every heartbeat reads"),
    ("quorum_server q.example", "Nothing in haresources mode asks a quorum server"),
    ("syslogmsgfmt true", "Lines of the log have one form: time, level, part, text"),
    ("use_apphbd yes", "The supervisor, the watchdog and systemd look after the daemon"),
    ("use_logd yes", "hafsm writes its log itself: to stderr, logfile, debugfile and logfacility"),
    ("uuidfrom nodename", "The uuid is kept on disk; the peer learns it from the first message"),
)

NOT_A_WORD: tuple[tuple[str, str], ...] = (
    (
        "failfast root /bin/true",
        '"failfast" is not supported yet: hafsm reboots no machine because a program died; expected respawn. '
        "A watchdog resets a machine whose daemon hangs",
    ),
    *(
        (
            f"{name} x",
            f'"{name}" is no directive of the heartbeat that Debian ships; '
            "expected only directives of heartbeat 3.0.6. Remove the line",
        )
        for name in ("hbaping", "normalpoll", "rds", "tipc")
    ),
    ("env PATH", "env with another word; expected env NAME=VALUE with a NAME of letters, digits and underscores"),
    ("env 2=x", "env with another word; expected env NAME=VALUE with a NAME of letters, digits and underscores"),
    ("stonith_host *", "stonith_host with fewer words; expected stonith_host HOST TYPE PARAMETERS …"),
    (
        "stonith_host * fence_virt ip=10.0.0.1 Hush",
        'a parameter of "fence_virt" that is no NAME=VALUE; expected stonith_host HOST fence_virt NAME=VALUE …, as '
        "the agent reads them from its standard input",
    ),
    ("respawn root bin/true", '"respawn root bin/true"; expected respawn USER COMMAND with an absolute command'),
)


def appended(remarks: Remarks, line: str) -> list[str]:
    """The findings about one more line at the end of the scenario's ha.cf."""
    return [text for text in remarks("ha.cf", "", f"{line}\n") if "ha.cf:23: " in text]


@pytest.mark.parametrize(("name", "value", "expected"), BAD_VALUES, ids=lambda text: text[:20])
def test_a_bad_value(remarks: Remarks, name: str, value: str, expected: str) -> None:
    found = appended(remarks, f"{name} {value}")
    assert f'error ha.cf:23: "{name}" is "{value}"; expected {expected}' in found


def test_every_directive_with_one_value_has_a_bad_one_here() -> None:
    assert {name for name, _, _ in BAD_VALUES} == {*NUMBERS, *TEXTS, *IDLE, ha_cf.OLD} - UNBOUNDED


@pytest.mark.parametrize("name", sorted(ha_cf.DIRECTIVES - REFUSED.keys()))
def test_a_missing_value(remarks: Remarks, name: str) -> None:
    assert appended(remarks, name) == [f'error ha.cf:23: "{name}" without a value; expected its value on the same line']


@pytest.mark.parametrize(("line", "found"), NOT_A_WORD, ids=lambda text: text[:20])
def test_a_line_that_cannot_be_used(remarks: Remarks, line: str, found: str) -> None:
    assert appended(remarks, line) == [f"error ha.cf:23: {found}"]


def test_every_refused_directive_is_refused_here() -> None:
    assert set(REFUSED) <= {line.split()[0] for line, _ in NOT_A_WORD}


@pytest.mark.parametrize(("line", "reason"), CHANGES_NOTHING, ids=lambda text: text[:20])
def test_a_directive_that_changes_nothing_says_why(remarks: Remarks, line: str, reason: str) -> None:
    name = line.split()[0]
    assert appended(remarks, line) == [f'warning ha.cf:23: "{name}" changes nothing; expected no such line. {reason}']


def test_every_idle_directive_has_its_reason_here() -> None:
    assert {line.split()[0] for line, _ in CHANGES_NOTHING} == set(IDLE)


@pytest.mark.parametrize(
    "line",
    [
        *("hbgenmethod file", "uuidfrom file", "msgfmt classic", "max_rexmit_delay 250", "use_logd no"),
        *("use_apphbd off", "traditional_compression off", "autojoin none", "crm off", "pacemaker no"),
        *("realtime on", "rtprio 20", "coredumps true", "coreroot /var/tmp", "debug 1", "hopfudge 2", "env A=b"),
        "respawn nobody /bin/sleep 60",
    ],
)
def test_what_hafsm_does_needs_no_remark(remarks: Remarks, line: str) -> None:
    assert remarks("ha.cf", "", f"{line}\n") == []


def test_a_priority_without_realtime_is_pointed_out(remarks: Remarks) -> None:
    assert remarks("ha.cf", "", "rtprio 20\nrealtime off\n") == [
        'warning ha.cf:23: "rtprio" with realtime off; expected realtime on. The priority is not used'
    ]


def test_a_device_for_the_other_host_only_is_pointed_out(remarks: Remarks) -> None:
    assert remarks("ha.cf", "", "stonith_host server19.example.com fence_virt ip=10.0.0.1\n") == [
        f"warning ha.cf:23: no stonith_host line is for {NODE} or *; expected one for each director. This one takes "
        "over without fencing the other"
    ]


def test_two_devices_for_one_host(remarks: Remarks) -> None:
    assert remarks("ha.cf", "", "stonith_host A null a\nstonith_host a null b\n")[-1] == (
        'error ha.cf:24: a second stonith device for "a"; expected one stonith or stonith_host line for each host. '
        "Remove one of them"
    )


def read(directory: Path, *lines: str) -> HaCf:
    with (directory / "ha.cf").open("a") as file:
        file.writelines(f"{line}\n" for line in lines)
    configuration = load(directory, me=NODE).configuration
    assert configuration is not None
    return configuration.ha


def test_what_is_read(directory: Path) -> None:
    ha = read(
        directory,
        *("rtprio 7", "realtime no", "coredumps off", "coreroot /var/tmp", "debug 3"),
        *("env A=1 B=x=y", "env A=2", "respawn nobody /bin/sleep  60", "respawn root /bin/cat"),
    )
    assert (ha.rtprio, ha.realtime, ha.coredumps, ha.coreroot, ha.debug) == (7, False, False, "/var/tmp", 3)
    assert ha.env == (("A", "2"), ("B", "x=y"))
    assert ha.ipfail
    assert ha.programs == (
        Respawn(user="nobody", command="/bin/sleep 60"),
        Respawn(user="root", command="/bin/cat"),
    )


def test_defaults(directory: Path) -> None:
    ha = read(directory)
    assert (ha.rtprio, ha.realtime, ha.coredumps, ha.coreroot, ha.debug) == (None, True, True, "", 0)
    assert (ha.env, ha.programs, ha.fencing) == ((), (), ())


def test_each_host_has_its_own_device(directory: Path) -> None:
    ha = read(
        directory,
        f"stonith_host {NODE.upper()} fence_ipmilan ip=10.0.0.19 password=Hush",
        "stonith_host * null server40.example.com server19.example.com",
    )
    assert ha.fence_device(NODE) == FenceDevice(
        host=NODE, kind="fence_ipmilan", parameters=Secret(b"ip=10.0.0.19 password=Hush")
    )
    assert ha.fence_device("server19.example.com") == FenceDevice(
        host="*", kind="null", parameters=Secret(b"server40.example.com server19.example.com")
    )
    assert "Hush" not in repr(ha)


@pytest.mark.parametrize(
    ("lines", "meant"),
    [
        (["nice_failback on"], AutoFailback.LEGACY),
        (["auto_failback on", "nice_failback off"], AutoFailback.OFF),
        (["auto_failback legacy", "nice_failback on"], AutoFailback.LEGACY),
        (["nice_failback on", "auto_failback on"], AutoFailback.ON),
    ],
)
def test_nice_failback_is_what_heartbeat_makes_of_it(directory: Path, lines: list[str], meant: AutoFailback) -> None:
    text = (directory / "ha.cf").read_text().replace("auto_failback on\n", "")
    (directory / "ha.cf").write_text(text)
    assert read(directory, *lines).auto_failback is meant
