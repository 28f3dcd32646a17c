"""What ldirectord.cf means, value by value; rules from the reference of ldirectord 1.186."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from hafsm.cli.check_config import check_config
from hafsm.config.check_extras import CheckExtra, CheckExtras
from hafsm.config.ldirectord_directives import PORT_SERVICES
from hafsm.config.ldirectord_host import check_ldirectord_host
from hafsm.config.load import load, load_ldirectord
from hafsm.config.model import LdirectordCf, secret_digest
from hafsm.core.settings import SECOND, CheckKind, CheckSpec, MailAlert, MailPhase, Tls
from tests.unit_config.config_support import NODE

Read = Callable[[str], LdirectordCf]


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    monkeypatch.setenv("HOSTNAME", "director.example")

    def read_text(text: str) -> LdirectordCf:
        (tmp_path / "ldirectord.cf").write_bytes(text.encode("utf-8", "surrogateescape"))
        found, findings = load_ldirectord(Path("ldirectord.cf"), directory=tmp_path)
        assert found is not None, [str(finding) for finding in findings]
        return found

    return read_text


@pytest.fixture
def check(read: Read) -> Callable[[str], CheckSpec]:
    """The check of one real server, from the lines of a section."""

    def of(lines: str, virtual: str = "192.0.2.1:8080", real: str = "10.77.0.1:8080 masq") -> CheckSpec:
        text = "".join(f"\t{line}\n" for line in lines.split("\n"))
        (service,) = read(f"virtual={virtual}\n\treal={real}\n{text}").services
        spec = service.reals[0].check
        assert spec is not None
        return spec

    return of


Check = Callable[..., CheckSpec]


@pytest.mark.parametrize(("port", "service"), PORT_SERVICES.items())
def test_ports_imply_services(check: Check, port: int, service: str) -> None:
    needs = 'login="u"\npasswd="p"\nsecret="s"\ndatabase="d"\nrequest="http://www.example/"\nreceive="x"'
    spec = check(needs, virtual=f"192.0.2.1:{port}", real=f"10.77.0.1:{port} masq")
    assert (spec.kind.value, spec.port) == (service, port)


@pytest.mark.parametrize("service", ["ftp", "sip", "imap"])
def test_default_logins(check: Check, service: str) -> None:
    spec = check(f"service={service}")
    host = "ldirectord@director.example"
    expected = {"ftp": ("anonymous", secret_digest(host.encode())), "sip": (host, ""), "imap": ("", "")}
    assert (spec.login, spec.password) == expected[service]


@pytest.mark.parametrize(
    ("lines", "seconds", "connects_s"),
    [
        ("checktype=connect", 4, 0),
        ("checktype=ping\ncheckcount=3", 12, 0),
        ("checktype=external\ncheckcommand=/bin/true", 4, 0),
        ("service=ldap", 4, 0),
        ('service=radius\nlogin="u"\nsecret="s"', 4, 0),
        ("service=smtp", 9, 0),
        ("service=http\nchecktype=5", 9, 4),
        ("service=ldap\nchecktype=5", 4, 0),
    ],
)
def test_deadlines(check: Check, lines: str, seconds: int, connects_s: int) -> None:
    spec = check(f"checktimeout=4\nnegotiatetimeout=9\n{lines}")
    assert (spec.timeout_ns, spec.connect_timeout_ns) == (seconds * SECOND, connects_s * SECOND)


@pytest.mark.parametrize(
    ("service", "protocol", "carried"),
    [
        *(("dns", "tcp", "tcp"), ("dns", "udp", "udp"), ("sip", "udp", "udp"), ("sip", "tcp", "tcp")),
        *(("simpletcp", "udp", "udp"), ("http", "udp", "tcp"), ("smtp", "sctp", "tcp"), ("simpletcp", "sctp", "sctp")),
    ],
)
def test_what_carries_a_check(check: Check, service: str, protocol: str, carried: str) -> None:
    assert check(f'service={service}\nprotocol={protocol}\nrequest="a"').protocol == carried


@pytest.mark.parametrize(
    ("service", "port", "carried"), [("http", 80, "tcp"), ("sip", 5060, "udp"), ("dns", 53, "udp")]
)
def test_behind_a_mark_the_usual_port_is_checked(check: Check, service: str, port: int, carried: str) -> None:
    spec = check(f'service={service}\nrequest="a"', virtual="7", real="10.77.0.1 gate")
    assert (spec.port, spec.protocol) == (port, carried)
    assert check("service=https\nchecktype=connect", virtual="7", real="10.77.0.1 gate").port == 443


@pytest.mark.parametrize(
    ("virtual", "real", "told", "port"),
    [
        ("192.0.2.1:80", "10.77.0.1:81 masq", ("192.0.2.1", "80"), 81),
        ("7", "10.77.0.1 gate", ("7", "0"), 0),
        ("192.0.2.1:80", "10.77.0.1 masq", ("192.0.2.1", "80"), 80),
    ],
)
def test_external_checks(check: Check, virtual: str, real: str, told: tuple[str, str], port: int) -> None:
    spec = check("checktype=external\ncheckcommand=/bin/check -x 'a b'", virtual=virtual, real=real)
    assert (spec.kind, spec.command, spec.virtual, spec.port) == (
        CheckKind.EXTERNAL,
        ("/bin/check", "-x", "a b"),
        told,
        port,
    )


def test_an_ipv6_service_is_told_in_brackets(read: Read) -> None:
    (service,) = read(
        "virtual6=[2001:db8::1]:80\n\treal6=[2001:db8::2]:80 gate\n\tchecktype=external-perl\n\tcheckcommand=/c\n"
    ).services
    spec = service.reals[0].check
    assert spec and (spec.kind, spec.virtual, spec.address) == (
        CheckKind.EXTERNAL_PERL,
        ("[2001:db8::1]", "80"),
        "2001:db8::2",
    )


def test_a_user_in_a_url_becomes_login_and_password(check: Check, read: Read) -> None:
    spec = check('service=http\nrequest="http://bob:p%40ss@www.example/x?y=1"')
    assert (spec.request, spec.login) == ("http://www.example/x?y=1", "bob")
    assert spec.password == secret_digest(b"p@ss")


def test_a_user_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "ldirectord.cf").write_text(
        'virtual=192.0.2.1:80\n\treal=10.77.0.1:80 masq\n\trequest="http://%1b:Hush@h/"\n'
    )
    _, findings = load_ldirectord(Path("ldirectord.cf"), directory=tmp_path)
    assert [str(finding).replace(f"{tmp_path}/", "") for finding in findings] == [
        "ldirectord.cf:3: request; expected a URL whose user is text"
    ]


def test_secrets_are_named_and_known(read: Read) -> None:
    found = read(
        'virtual=192.0.2.1:110\n\treal=10.77.0.1:110 masq\n\tlogin="u"\n\tpasswd="p\udcff"w"\n'
        'virtual=192.0.2.1:1812\n\treal=10.77.0.1:1812 masq\n\tlogin="u"\n\tpasswd="Hush"\n\tsecret="Tell"\n'
        'virtual=192.0.2.1:143\n\treal=10.77.0.1:143 masq\n\tlogin="u"\n\tpasswd="Hush"\n'
    )
    known = {name: secret.reveal() for name, secret in found.secrets}
    assert sorted(known.values()) == [b"Hush", b"Tell", b'p\xff"w']
    checks = [service.reals[0].check for service in found.services]
    assert [(known[c.password], known.get(c.secret)) for c in checks if c] == [
        (b'p\xff"w', None),
        (b"Hush", b"Tell"),
        (b"Hush", None),
    ]
    assert b"Hush" not in msgspec.json.encode(found.services)


def test_mail_is_inherited_piece_by_piece(read: Read) -> None:
    text = (
        "emailalert=a@b, c@d\nemailalertfrom=Director <d@e>\nemailalertfreq=60\nsmtp=10.0.0.25\n"
        "virtual=192.0.2.1:80\n\treal=10.77.0.1:80 masq\n"
        'virtual=192.0.2.1:81\n\treal=10.77.0.1:81 masq\n\tchecktype=on\n\temailalert="e@f"\n\temailalertfreq=0\n'
        "\temailalertstatus=stopping, running\n\tsmtp=mail.example\n"
        "virtual=192.0.2.1:82\n\treal=10.77.0.1:82 masq\n\tchecktype=on\n\temailalertstatus=none\n"
    )
    common = MailAlert(to=("a@b", "c@d"), sender="Director <d@e>", again_ns=60 * SECOND, smtp="10.0.0.25")
    own = MailAlert(
        to=("e@f",), sender=common.sender, phases=(MailPhase.RUNNING, MailPhase.STOPPING), smtp="mail.example"
    )
    assert [service.alert for service in read(text).services] == [
        common,
        own,
        msgspec.structs.replace(common, phases=()),
    ]


def test_the_file_as_a_whole(read: Read, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "more.cf").write_text(
        "quiescent=yes\ncheckinterval=3\nvirtual=192.0.2.2:80\n\treal=10.77.0.1:80 masq\n"
    )
    found = read(
        'autoreload=yes\ncallback="/bin/changed"\nmaintenancedir=/srv/maint\nexecute=more.cf\nfailurecount=4\n'
        "virtual=192.0.2.1:80\n\treal=10.77.0.1:80 masq\n"
    )
    assert found.files == (str(tmp_path / "ldirectord.cf"), str(tmp_path / "conf" / "more.cf"))
    assert (found.autoreload, found.callback, found.maintenance_dir) == (True, "/bin/changed", "/srv/maint")
    assert [(s.key, s.quiescent, s.failurecount) for s in found.services] == [
        ("tcp:192.0.2.1:80", False, 4),
        ("tcp:192.0.2.2:80", True, 1),
    ]


def test_fallbacks_of_both_families(read: Read) -> None:
    """A global IPv6 address serves IPv6 services, whatever its word; a section's own is taken as it is."""
    found = read(
        "fallback=[::1]:80\n"
        "virtual=192.0.2.1:80\n\treal=10.77.0.1:80 masq\n"
        "virtual6=[2001:db8::1]:80\n\treal6=[2001:db8::2]:80 masq\n"
        "virtual6=[2001:db8::1]:81\n\treal6=[2001:db8::2]:81 masq\n\tchecktype=on\n\tfallback6=\n"
        "virtual=192.0.2.1:82\n\treal=10.77.0.1:82 masq\n\tchecktype=on\n\tfallback=\n"
    )
    keys = [service.fallback.key if service.fallback else None for service in found.services]
    assert keys == [None, "[::1]:80", "[::1]:81", "127.0.0.1:82"]


def test_names_mean_the_family_of_their_word(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {socket.AF_INET: "10.0.0.31", socket.AF_INET6: "2001:db8::31"}
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda _host, _port, family, *_: [(family, 1, 6, "", (answers[family], 0))]
    )
    four, six = read(
        "virtual=web.example:80\n\treal=web.example:80 gate\nvirtual6=web.example:80\n\treal6=web.example:80 gate\n"
    ).services
    assert (four.key, four.reals[0].key) == ("tcp:10.0.0.31:80", "10.0.0.31:80")
    assert (six.key, six.reals[0].key) == ("tcp:[2001:db8::31]:80", "[2001:db8::31]:80")


def test_a_fallback_command_loses_its_quotes_in_a_section_only(read: Read) -> None:
    found = read(
        'fallbackcommand="/bin/a b" c\nvirtual=192.0.2.1:80\n\treal=10.77.0.1:80 masq\n'
        'virtual=192.0.2.1:81\n\treal=10.77.0.1:81 masq\n\tchecktype=on\n\tfallbackcommand="/bin/d e"\n'
    )
    assert [service.fallback_command for service in found.services] == ['"/bin/a b" c', "/bin/d e"]


def test_texts_of_latin_1_and_expressions_of_any_bytes(read: Read) -> None:
    (service,) = read(
        'virtual=192.0.2.1:80\n\treal=10.77.0.1:80 masq\n\tcomment=caf\udce9\n\treceive="caf(\udce9|é)"\n'
    ).services
    spec = service.reals[0].check
    assert (service.comment, spec and spec.receive) == ("café", r"caf(\xe9|é)")


TWO = "virtual=192.0.2.1:443\n\treal=10.77.0.1:443 masq\nvirtual=192.0.2.1:25\n\treal=10.77.0.1:25 masq\n"


def joined(tmp_path: Path, *extras: CheckExtra) -> tuple[LdirectordCf | None, list[str]]:
    (tmp_path / "ldirectord.cf").write_text(TWO)
    found, findings = load_ldirectord(
        Path("ldirectord.cf"), directory=tmp_path, extras=CheckExtras(file="hafsm.toml", extras=extras)
    )
    return found, [f"{finding.level} {finding}" for finding in findings]


def test_hafsm_toml_adds_to_checks(tmp_path: Path) -> None:
    tls = Tls(name="www.example.com", authority="system")
    found, findings = joined(
        tmp_path,
        CheckExtra(virtual="tcp:192.0.2.1:443", line=2, tls=tls),
        CheckExtra(virtual="tcp:192.0.2.1:443", line=5, statuses=((200, 301),)),
    )
    assert found is not None and findings == []
    https, smtp = (service.reals[0].check for service in found.services)
    assert https and (https.tls, https.statuses) == (tls, ((200, 301),))
    assert smtp and (smtp.tls, smtp.statuses) == (Tls(), ())


def test_what_fits_no_service_is_an_error(tmp_path: Path) -> None:
    tls = Tls(name="x")
    found, findings = joined(
        tmp_path,
        CheckExtra(virtual="tcp:192.0.2.1:433", line=2, tls=tls),
        CheckExtra(virtual="tcp:192.0.2.1:25", line=5, tls=tls),
        CheckExtra(virtual="tcp:192.0.2.1:443", line=8, tls=tls),
        CheckExtra(virtual="tcp:192.0.2.1:443", line=11, tls=tls),
        CheckExtra(virtual="tcp:192.0.2.1:25", line=14, statuses=((200, 200),)),
    )
    assert found is None
    assert findings == [
        'error hafsm.toml:2: checks.tls: no virtual service is "tcp:192.0.2.1:433"; expected the key of a service of '
        'ldirectord.cf, as `hafsm check-config` shows it. Did you mean "tcp:192.0.2.1:443"?',
        "error hafsm.toml:5: checks.tls: tcp:192.0.2.1:25 has no check that could use it; expected service=https or "
        "imaps or ldaps or pops in its section",
        "error hafsm.toml:11: checks.tls: tcp:192.0.2.1:443 is here again; expected it once",
        "error hafsm.toml:14: checks.http: tcp:192.0.2.1:25 has no check that could use it; expected service=http or "
        "http_proxy or https in its section",
    ]


EVERYTHING = """
callback="/nowhere/callback"
maintenancedir=/nowhere/maint
virtual=192.168.2.232:443
	real=192.168.2.31:443 gate 1 l:2 u:9
	service=https
	fallbackcommand=/nowhere/fallback --x
	emailalert=a@b
	emailalertfreq=60
	servicename=shop
	monitorfile=/nowhere/monitor.log
	schedflags=flag-1
	cleanstop=no
virtual=192.168.2.232:110
	real=192.168.2.31:110 gate
	login="u"
	passwd="Hush"
virtual=192.168.2.232:9
	real=192.168.2.31:9 gate
	checktype=external
	checkcommand=/nowhere/check 'a b'
"""


def run(directory: Path, *options: str) -> tuple[int, str]:
    with (directory / "ldirectord.cf").open("a") as file:
        file.write(EVERYTHING)
    (directory / "hafsm.toml").write_text(
        '[[checks.tls]]\nvirtual = "tcp:192.168.2.232:443"\nname = "shop.example"\nauthority = "/nowhere/ca.pem"\n'
        '[[checks.http]]\nvirtual = "tcp:192.168.2.232:443"\nstatuses = "200,301-302"\n'
    )
    arguments = [str(directory), "--node", NODE, "--settings", str(directory / "hafsm.toml"), *options]
    result = CliRunner().invoke(check_config, arguments)
    assert "Hush" not in result.output
    return result.exit_code, result.output


def test_check_config_shows_everything(directory: Path) -> None:
    code, output = run(directory)
    assert code == 0, output
    lines = [" ".join(line.split()) for line in output.split("\n")]
    for line in (
        "tcp:192.168.2.232:443 192.168.2.31:443 gate 1 l:2 u:9 https GET / at port 443, status 200,301-302, TLS name "
        "shop.example, certificate by /nowhere/ca.pem, every 1 s, within 3 s",
        "flag-1",
        "cleanstop no",
        "tcp:192.168.2.232:110 192.168.2.31:110 gate 1 pop at port 110 as u, every 1 s, within 3 s",
        "tcp:192.168.2.232:9 192.168.2.31:9 gate 1 /nowhere/check 'a b', every 1 s, within 3 s",
        "tcp:192.168.2.232:443 servicename shop",
        "tcp:192.168.2.232:443 fallbackcommand /nowhere/fallback --x",
        "tcp:192.168.2.232:443 mail to a@b, again every 60 s, by the local mailer",
        "tcp:192.168.2.232:443 monitorfile /nowhere/monitor.log",
        "callback /nowhere/callback runs when a file has changed",
        "maintenancedir /nowhere/maint a file named after a real server takes it out",
    ):
        assert line in lines


def test_check_config_as_json(directory: Path) -> None:
    code, output = run(directory, "--json")
    found = json.loads(output)
    assert code == 0 and set(found) == {"findings", "configuration"}
    assert "sources" not in found["configuration"]
    by_port = {service["port"]: service for service in found["configuration"]["ldirectord"]["services"]}
    assert by_port[110]["reals"][0]["check"]["password"] == secret_digest(b"Hush")
    assert [finding["level"] for finding in found["findings"]] == ["warning"]
    (directory / "ldirectord.cf").write_text("x=1\n")
    code, output = run(directory, "--json")
    assert code == 1
    assert json.loads(output)["configuration"] is None


def test_what_this_host_lacks(directory: Path) -> None:
    with (directory / "ldirectord.cf").open("a") as file:
        file.write(EVERYTHING)
    tls = Tls(authority="/nowhere/ca.pem")
    extras = CheckExtras(file="hafsm.toml", extras=(CheckExtra(virtual="tcp:192.168.2.232:443", line=1, tls=tls),))
    configuration = load(directory, me=NODE, extras=extras).configuration
    assert configuration is not None
    found = [str(finding).replace(f"{directory}{os.sep}", "") for finding in check_ldirectord_host(configuration)]
    assert found == [
        "ldirectord.cf: callback: /nowhere/callback is no program on this host; expected an executable file",
        "ldirectord.cf: fallbackcommand: /nowhere/fallback is no program on this host; expected an executable file",
        "ldirectord.cf: checkcommand: /nowhere/check is no program on this host; expected an executable file",
        "ldirectord.cf: maintenancedir: /nowhere/maint is no folder on this host; expected a folder. "
        "Run: mkdir -p /nowhere/maint",
        "ldirectord.cf: monitorfile: /nowhere is no folder on this host; expected a folder. Run: mkdir -p /nowhere",
        "hafsm.toml:1: checks.tls: /nowhere/ca.pem is not on this host; expected a readable PEM file",
    ]


def test_the_journal_keeps_all_files_without_secrets(directory: Path) -> None:
    (directory / "more.cf").write_text(
        'virtual=192.168.2.232:110\n\treal=192.168.2.31:110 gate\n\tlogin="u"\n\tpasswd="Hush"\n'
        'virtual=192.168.2.232:81\n\treal=192.168.2.31:81 gate\n\tservice=http\n\trequest="http://u:p@Hush@h/"\n'
    )
    with (directory / "ldirectord.cf").open("a") as file:
        file.write("execute=more.cf\n")
    configuration = load(directory, me=NODE).configuration
    assert configuration is not None
    text = configuration.text_without_secrets()
    assert "==> more.cf <==" in text and "Hush" not in text
    assert "Hush" not in repr(configuration)
