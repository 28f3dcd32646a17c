"""hafsm.toml: defaults, every key, and every way to be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from hafsm.config import settings_file
from hafsm.config.check_extras import CheckExtra, CheckExtras
from hafsm.config.settings_file import (
    TABLES,
    TOP,
    ApiSettings,
    ChecksSettings,
    DaemonSettings,
    HeartbeatSettings,
    JournalSettings,
    KernelSettings,
    LogSettings,
    ScriptsSettings,
    load_settings_file,
)
from hafsm.core.settings import MILLISECOND, SECOND, Tls
from hafsm.errors import ConfigError

EVERYTHING = """
node_name = "Director-A"
state_dir = "/srv/state"
run_dir = "/srv/run"
[journal]
folder = "/srv/journal"
max_size = "2GiB"
segment_size = 1048576
segment_age = "12h"
backlog_events = 500
patience_ms = 0
[api]
socket = "/srv/api.sock"
group = "operators"
[heartbeat]
listen = "127.0.0.2"
[kernel]
implementation = "memory"
[checks]
workers = 2
user = "checks"
[scripts]
timeout_s = 5
search = ["/srv/scripts"]
[log]
level = "debug"
"""


def test_every_key(tmp_path: Path) -> None:
    path = tmp_path / "hafsm.toml"
    path.write_text(EVERYTHING)
    assert load_settings_file(path) == DaemonSettings(
        node_name="director-a",
        state_dir=Path("/srv/state"),
        run_dir=Path("/srv/run"),
        journal=JournalSettings(
            folder=Path("/srv/journal"),
            max_bytes=2**31,
            segment_bytes=2**20,
            segment_age_ns=12 * 3600 * SECOND,
            backlog_events=500,
            patience_ns=0,
        ),
        api=ApiSettings(socket=Path("/srv/api.sock"), group="operators"),
        heartbeat=HeartbeatSettings(listen="127.0.0.2"),
        kernel=KernelSettings(implementation="memory"),
        checks=ChecksSettings(workers=2, user="checks"),
        scripts=ScriptsSettings(timeout_ns=5 * SECOND, search=(Path("/srv/scripts"),)),
        log=LogSettings(level="debug"),
    )
    for key in (*TOP, *(key for keys in TABLES.values() for key in keys)):
        assert f"\n{key} = " in EVERYTHING


def test_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = DaemonSettings(
        node_name=None,
        state_dir=Path("/var/lib/hafsm"),
        run_dir=Path("/run/hafsm"),
        journal=JournalSettings(
            folder=Path("/var/lib/hafsm/journal"),
            max_bytes=2**30,
            segment_bytes=64 * 2**20,
            patience_ns=25 * MILLISECOND,
        ),
        api=ApiSettings(socket=Path("/run/hafsm/hafsm.sock"), group=None),
        heartbeat=HeartbeatSettings(listen=None),
        kernel=KernelSettings(implementation="linux"),
        checks=ChecksSettings(workers=0, user=""),
        scripts=ScriptsSettings(timeout_ns=60 * SECOND, search=(Path("/etc/ha.d/resource.d"), Path("/etc/init.d"))),
        log=LogSettings(level="info"),
    )
    path = tmp_path / "hafsm.toml"
    path.write_text("")
    assert load_settings_file(path) == expected
    monkeypatch.setattr(settings_file, "DEFAULT_PATH", tmp_path / "absent.toml")
    assert load_settings_file(None) == expected


def test_folders_follow_their_parents(tmp_path: Path) -> None:
    path = tmp_path / "hafsm.toml"
    path.write_text('state_dir = "/a"\nrun_dir = "/b"\n')
    settings = load_settings_file(path)
    assert (settings.journal.folder, settings.api.socket) == (Path("/a/journal"), Path("/b/hafsm.sock"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = ", ": Invalid value (at end of document); expected TOML"),
        ('run_dir = "/x"\n= 2', ":2: Invalid statement (at line 2, column 1); expected TOML"),
        ("\xff", ": not UTF-8, or nested too deep; expected TOML"),
        (
            '\n\nstate_dirr = "/x"',
            ':3: unknown key "state_dirr"; expected one of node_name, state_dir, run_dir, journal, api, heartbeat, '
            'kernel, checks, scripts, log. Did you mean "state_dir"?',
        ),
        (
            '[api]\ngroup = "a"\n[journal]\npatience = 1\n',
            ':4: unknown key "journal.patience"; expected one of folder, max_size, segment_size, segment_age, '
            'backlog_events, patience_ms. Did you mean "patience_ms"?',
        ),
        (
            "[jurnal]\n",
            ':1: unknown key "jurnal"; expected one of node_name, state_dir, run_dir, journal, api, heartbeat, '
            'kernel, checks, scripts, log. Did you mean "journal"?',
        ),
        ("journal = 1", ':1: "journal" is a value; expected a table: [journal]'),
        ('state_dir = "x"', ':1: state_dir is "x"; expected an absolute path in quotes'),
        ("node_name = 1", ':1: node_name is "1"; expected text in quotes, not empty'),
        (
            '[journal]\nmax_size = "1GB"',
            ':2: journal.max_size is "1GB"; expected a size of at least 1 MiB such as "64MiB" or "1GiB"',
        ),
        ("[checks]\nworkers = true", ':2: checks.workers is "True"; expected a whole number from 1 to 64'),
        ("[checks]\nworkers = 0", ':2: checks.workers is "0"; expected a whole number from 1 to 64'),
        ('[kernel]\nimplementation = "bsd"', ':2: kernel.implementation is "bsd"; expected one of "linux", "memory"'),
        (
            '[heartbeat]\nlisten = "::g"',
            ':2: heartbeat.listen is "::g"; expected an IPv6 address such as 2001:db8::1, or a host name',
        ),
        ('[scripts]\nsearch = "/a"', ':2: scripts.search is "/a"; expected a list of absolute paths'),
        ("[scripts]\ntimeout_s = 0.5", ':2: scripts.timeout_s is "0.5"; expected a whole number from 1 to 86400'),
    ],
)
def test_errors(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "hafsm.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        load_settings_file(path)
    assert str(caught.value) == f"{path}{message}"


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings_file(tmp_path / "x.toml")
    assert str(caught.value) == f"{tmp_path}/x.toml: there is no such file; expected the daemon's settings"


EXTRAS = """
[[checks.tls]]
virtual = "tcp:192.0.2.1:443"
name = "www.example.com"
authority = "/etc/ssl/ca.pem"

[[checks.http]]
virtual = "fwm:7"
statuses = "200-204, 205,301, 300"
"""


def test_what_is_added_to_checks(tmp_path: Path) -> None:
    path = tmp_path / "hafsm.toml"
    path.write_text(EXTRAS)
    assert load_settings_file(path).checks.extras == CheckExtras(
        file=str(path),
        extras=(
            CheckExtra(
                virtual="tcp:192.0.2.1:443", line=2, tls=Tls(name="www.example.com", authority="/etc/ssl/ca.pem")
            ),
            CheckExtra(virtual="fwm:7", line=7, statuses=((200, 205), (300, 301))),
        ),
    )


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "name =",
            "nam =",
            '4: unknown key "checks.tls.nam"; expected one of virtual, name, authority. Did you mean "name"?',
        ),
        (
            '"/etc/ssl/ca.pem"',
            '"ca.pem"',
            '5: checks.tls.authority is "ca.pem"; expected the absolute path of a PEM file, or "system"',
        ),
        ('"fwm:7"', "7", '8: checks.http.virtual is "7"; expected text in quotes, not empty'),
        (
            "200-204",
            "204-200",
            '9: checks.http.statuses is "204-200, 205,301, 300"; expected HTTP statuses such as "200-299,301"',
        ),
        (
            "200-204",
            "99",
            '9: checks.http.statuses is "99, 205,301, 300"; expected HTTP statuses such as "200-299,301"',
        ),
        ('virtual = "fwm:7"\n', "", "7: [[checks.http]] without virtual; expected virtual = …"),
        ("statuses", "#", "7: [[checks.http]] without statuses; expected statuses = …"),
        ('name = "www.example.com"\nauthority', "#", "2: [[checks.tls]] says nothing; expected name or authority"),
        ("[[checks.http]]", "[checks.http]", "7: checks.http is no list of tables; expected [[checks.http]]"),
        (
            "[[checks.http]]",
            "[[checks.htp]]",
            ' unknown key "checks.htp"; expected one of workers, user, tls, http. Did you mean "http"?',
        ),
    ],
)
def test_what_is_wrong_with_it(tmp_path: Path, old: str, new: str, expected: str) -> None:
    path = tmp_path / "hafsm.toml"
    assert EXTRAS.count(old) == 1
    path.write_text(EXTRAS.replace(old, new))
    with pytest.raises(ConfigError) as error:
        load_settings_file(path)
    assert str(error.value) == f"{path}:{expected}"
