"""dns, radius and sip against dnsmasq, freeradius and kamailio; ping against this machine's own kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hafsm.core.settings import CheckKind
from tests.checks_real.real_servers import NAME, V4, V6, accepts, free_port, holds_udp, program, running
from tests.unit_checks.servers import Director, spec

SECRETS = {"good": b"0123456789abcdef and more", "bad": b"wrong", "shared": b"testing123", "other": b"testing"}


@pytest.fixture(scope="module")
def dnsmasq(folder: Path) -> Iterator[int]:
    dnsmasq = program("dnsmasq")
    port = free_port()
    command = [dnsmasq, "--keep-in-foreground", "--conf-file=/dev/null", f"--port={port}", "--bind-interfaces"]
    command += [f"--listen-address={V4}", f"--listen-address={V6}", "--no-resolv", "--no-hosts", "--user=root"]
    command += [f"--pid-file={folder}/dnsmasq.pid", f"--host-record={NAME},192.0.2.7,2001:db8::7"]
    command += ["--host-record=many.example.com,192.0.2.8", "--host-record=many.example.com,192.0.2.9"]
    command += ["--local=/example.com/", f"--cname=alias.example.com,{NAME}"]
    with running(folder, command, accepts(port), holds_udp(port)):
        yield port


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
async def test_dns(dnsmasq: int, director: Callable[..., Director], protocol: str) -> None:
    def dns(request: str, receive: str = "", address: str = V4) -> object:
        return spec((address, dnsmasq), CheckKind.DNS, request=request, receive=receive, protocol=protocol)

    cases = [
        (dns(f"/{NAME}"), (True, "")),
        (dns(f"/{NAME}", r"^192\.0\.2\.7$"), (True, "")),
        (dns(f"/{NAME}", r"^192\.0\.2\.7$", V6), (True, "")),
        (dns("/many.example.com", r"192\.0\.2\.9"), (True, "")),
        (dns("/alias.example.com", "192.0.2.7"), (True, "")),
        (dns(f"/AAAA {NAME}", "2001:db8::7"), (True, "")),
        (dns("/192.0.2.7", f"^{NAME}$"), (True, "")),
        (dns("/2001:db8::7", f"^{NAME}$"), (True, "")),
        (dns("/CNAME alias.example.com", f"^{NAME}$"), (True, "")),
        (dns(f"/{NAME}", "192.0.2.8"), (False, "answer does not match /192.0.2.8/")),
        (dns("/unknown.example.org"), (False, "answered REFUSED")),
        (dns("/AAAA many.example.com"), (False, "no record of this type in the answer")),
        (
            dns("/SRV x y"),
            (
                False,
                "request '/SRV x y': expected NAME, ADDRESS or TYPE NAME with TYPE one of A, NS, CNAME, PTR, AAAA",
            ),
        ),
    ]
    assert await director().judge([case for case, _ in cases]) == [verdict for _, verdict in cases]


@pytest.fixture(scope="module")
def freeradius(folder: Path) -> Iterator[int]:
    freeradius = program("freeradius")
    port = free_port()
    raddb = folder / "raddb"
    raddb.mkdir()
    (raddb / "dictionary").write_text("$INCLUDE /usr/share/freeradius/dictionary\n")
    password = SECRETS["good"].decode()
    (raddb / "users").write_text(f'monitor Cleartext-Password := "{password}"\n')
    clients = "".join(
        f"client {name} {{\n {family} = {address}\n secret = testing123\n require_message_authenticator = yes\n}}\n"
        for name, family, address in (("four", "ipaddr", V4), ("six", "ipv6addr", V6))
    )
    listeners = "".join(
        f" listen {{\n type = auth\n {family} = {address}\n port = {port}\n }}\n"
        for family, address in (("ipaddr", V4), ("ipv6addr", V6))
    )
    (raddb / "radiusd.conf").write_text(
        f"raddbdir = {raddb}\nrun_dir = {folder}\nlogdir = {folder}\nlibdir = /usr/lib/freeradius\n"
        f"pidfile = {folder}/radius.pid\nsecurity {{\n allow_vulnerable_openssl = yes\n reject_delay = 0\n}}\n"
        f"thread pool {{\n start_servers = 1\n max_servers = 4\n}}\n"
        f"modules {{\n pap {{\n }}\n files {{\n filename = {raddb}/users\n }}\n}}\n{clients}"
        f"server default {{\n{listeners} authorize {{\n files\n pap\n }}\n"
        f" authenticate {{\n Auth-Type PAP {{\n pap\n }}\n }}\n}}\n"
    )
    with running(folder, [freeradius, "-f", "-l", "stdout", "-d", str(raddb)], holds_udp(port)):
        yield port


async def test_radius(freeradius: int, director: Callable[..., Director]) -> None:
    def radius(address: str = V4, **changes: object) -> object:
        facts = {"login": "monitor", "password": "good", "secret": "shared", "interval_ms": 3_600_000, **changes}
        return spec((address, freeradius), CheckKind.RADIUS, **facts)

    cases = [
        (radius(), (True, "")),
        (radius(V6), (True, "")),
        (radius(password="bad"), (False, "rejected")),
        (radius(secret="other", timeout_ms=1500), (False, "no answer within 1.5 s")),
        (radius(secret=""), (False, "radius checks need login and secret")),
    ]
    assert await director().judge([case for case, _ in cases], SECRETS) == [verdict for _, verdict in cases]


@pytest.fixture(scope="module")
def kamailio(folder: Path) -> Iterator[int]:
    kamailio = program("kamailio")
    port = free_port()
    (folder / "kamailio.cfg").write_text(
        f"""debug=0
log_stderror=yes
children=1
tcp_children=1
listen=udp:{V4}:{port}
listen=tcp:{V4}:{port}
listen=udp:[{V6}]:{port}
loadmodule "sl.so"
loadmodule "pv.so"
request_route {{
    if ($rU == "busy") {{ sl_send_reply("486", "Busy Here"); exit; }}
    sl_send_reply("100", "Trying");
    sl_send_reply("200", "OK");
}}
"""
    )
    command = [kamailio, "-DD", "-E", "-f", str(folder / "kamailio.cfg"), "-m", "16", "-M", "4", "-Y", str(folder)]
    with running(folder, command, accepts(port), holds_udp(port)):
        yield port


async def test_sip(kamailio: int, director: Callable[..., Director]) -> None:
    sip = CheckKind.SIP
    cases = [
        (spec((V4, kamailio), sip, protocol="udp"), (True, "")),
        (spec((V4, kamailio), sip, protocol="tcp"), (True, "")),
        (spec((V6, kamailio), sip, protocol="udp"), (True, "")),
        (spec((V4, kamailio), sip, protocol="udp", login="monitor@example.com"), (True, "")),
        (
            spec((V4, kamailio), sip, protocol="udp", login="busy@example.com"),
            (False, "answered 'SIP/2.0 486 Busy Here'"),
        ),
        (spec((V4, kamailio), sip, protocol="tcp", login="busy@a"), (False, "answered 'SIP/2.0 486 Busy Here'")),
        (spec((V4, kamailio), sip, login="a b"), (False, "login 'a b' cannot stand in a SIP address")),
    ]
    assert await director().judge([case for case, _ in cases]) == [verdict for _, verdict in cases]


PINGS = """
import asyncio, json, sys
from pathlib import Path
from hafsm.core.settings import CheckKind
from tests.unit_checks.servers import Director, spec
async def main():
    cases = [
        spec(("127.0.0.1", 0), CheckKind.PING),
        spec(("::1", 0), CheckKind.PING),
        spec(("127.0.0.1", 9), CheckKind.CONNECT, protocol="udp"),
        spec(("192.0.2.9", 0), CheckKind.PING),
    ]
    first = Director()
    print(json.dumps(await first.judge(cases)))
    await first.pool.close()
    Path("/proc/sys/net/ipv4/icmp_echo_ignore_all").write_text("1")
    Path("/proc/sys/net/ipv6/icmp/echo_ignore_all").write_text("1")
    second = Director()
    silent = [spec((a, 0), CheckKind.PING, attempts=3, timeout_ms=600) for a in ("127.0.0.1", "::1")]
    print(json.dumps(await second.judge(silent)))
    await second.pool.close()
asyncio.run(main())
"""


def test_ping_in_a_network_of_its_own() -> None:
    """A machine that answers, one that no route leads to, one that drops echo requests; IPv4 and IPv6."""
    script = 'ip link set lo up && exec "$0" -c "$1"'
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", script, sys.executable, PINGS],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    answering, silent = map(json.loads, done.stdout.splitlines())
    assert answering == [[True, ""], [True, ""], [True, ""], [False, "network unreachable"]]
    assert silent == [[False, "no answer within 0.6 s"]] * 2
