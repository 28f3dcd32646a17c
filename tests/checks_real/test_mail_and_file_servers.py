"""smtp, submission, pop, pops, imap, imaps, nntp and ftp against postfix, dovecot, leafnode and vsftpd."""

from __future__ import annotations

import contextlib
import grp
import pwd
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from hafsm.core.settings import CheckKind, Tls
from tests.checks_real.real_servers import (
    NAME,
    PASSWORD,
    USER,
    V4,
    V6,
    Certificates,
    accepts,
    free_port,
    program,
    run,
    running,
)
from tests.unit_checks.servers import Director, spec

SECRETS = {"good": PASSWORD.encode(), "bad": b"wrong"}


@pytest.fixture(scope="module")
def postfix(folder: Path) -> Iterator[int]:
    """The port where it takes mail."""
    program("postfix")
    port = free_port()
    etc = folder / "postfix"
    etc.mkdir()
    (folder / "spool").mkdir(mode=0o755)
    (folder / "data").mkdir()
    shutil.chown(folder / "data", "postfix")
    (etc / "main.cf").write_text(
        f"compatibility_level = 3.6\nqueue_directory = {folder}/spool\ndata_directory = {folder}/data\n"
        f"inet_interfaces = loopback-only\nmyhostname = {NAME}\nmydestination =\n"
        f"maillog_file_prefixes = {folder}\nmaillog_file = {folder}/mail.log\n"
        "smtpd_client_connection_count_limit = 0\n"
    )
    (etc / "master.cf").write_text(
        f"{V4}:{port} inet n - n - - smtpd\n[{V6}]:{port} inet n - n - - smtpd\n"
        "postlog unix-dgram n - n - 1 postlogd\nanvil unix - - n - 1 anvil\n"
        "rewrite unix - - n - - trivial-rewrite\ncleanup unix n - n - 0 cleanup\nproxymap unix - - n - - proxymap\n"
    )
    for place in ("private", "public", "pid", "maildrop", "active", "incoming", "defer", "deferred"):
        made = folder / "spool" / place
        made.mkdir()
        shutil.chown(made, "root" if place == "pid" else "postfix")
    with running(folder, ["/usr/lib/postfix/sbin/master", "-c", str(etc), "-d"], accepts(port)):
        yield port


async def test_smtp(postfix: int, director: Callable[..., Director]) -> None:
    cases = [
        (spec((V4, postfix), CheckKind.SMTP), (True, "")),
        (spec((V4, postfix), CheckKind.SUBMISSION), (True, "")),
        (spec((V6, postfix), CheckKind.SMTP), (True, "")),
        (spec((V4, postfix), CheckKind.NNTP), (True, "")),
        (spec((V4, postfix), CheckKind.POP), (False, f"greeting: '220 {NAME} ESMTP Postfix'")),
    ]
    watcher = director()
    assert await watcher.judge([case for case, _ in cases]) == [verdict for _, verdict in cases]


class Mailboxes(NamedTuple):
    imap: int
    imaps: int
    pop: int
    pops: int


@pytest.fixture(scope="module")
def dovecot(folder: Path, certificates: Certificates) -> Iterator[Mailboxes]:
    dovecot = program("dovecot")
    ports = Mailboxes(*(free_port() for _ in range(4)))
    (folder / "mail").mkdir()
    shutil.chown(folder / "mail", "nobody")
    (folder / "users").write_text(f"{USER}:{{PLAIN}}{PASSWORD}::::::\n")
    nobody, nogroup = pwd.getpwnam("nobody").pw_uid, grp.getgrnam("nogroup").gr_gid
    listeners = "".join(
        f"service {protocol}-login {{\n inet_listener {protocol} {{\n port = {plain}\n }}\n"
        f" inet_listener {protocol}s {{\n port = {tls}\n ssl = yes\n }}\n}}\n"
        for protocol, plain, tls in (("imap", ports.imap, ports.imaps), ("pop3", ports.pop, ports.pops))
    )
    (folder / "dovecot.conf").write_text(
        f"protocols = imap pop3\nbase_dir = {folder}/dovecot\nlisten = {V4}, {V6}\nlog_path = /dev/stderr\n"
        f"ssl = yes\nssl_cert = <{certificates.good}\nssl_key = <{certificates.key}\n"
        f"mail_location = maildir:{folder}/mail\nfirst_valid_uid = {nobody}\nfirst_valid_gid = {nogroup}\n"
        f"disable_plaintext_auth = no\nauth_failure_delay = 0\n"
        f"passdb {{\n driver = passwd-file\n args = {folder}/users\n}}\n"
        f"userdb {{\n driver = static\n args = uid={nobody} gid={nogroup} home={folder}/mail\n}}\n{listeners}"
    )
    with running(folder, [dovecot, "-F", "-c", str(folder / "dovecot.conf")], *map(accepts, ports)):
        yield ports


async def test_mailboxes(dovecot: Mailboxes, certificates: Certificates, director: Callable[..., Director]) -> None:
    imap, imaps, pop, pops = ((V4, port) for port in dovecot)
    good, bad = {"login": USER, "password": "good"}, {"login": USER, "password": "bad"}
    verified = Tls(name=NAME, authority=str(certificates.authority))
    cases = [
        (spec(imap, CheckKind.IMAP), (True, "")),
        (spec(imap, CheckKind.IMAP, **good), (True, "")),
        (spec(imap, CheckKind.IMAP, **bad), (False, "login refused")),
        (spec(imaps, CheckKind.IMAPS, **good), (True, "")),
        (spec(imaps, CheckKind.IMAPS, tls=verified, **good), (True, "")),
        (
            spec(imaps, CheckKind.IMAPS, tls=Tls(name=NAME, authority="system")),
            (False, "certificate: unable to get local issuer certificate"),
        ),
        (spec((V6, dovecot.imaps), CheckKind.IMAPS, **good), (True, "")),
        (spec(imap, CheckKind.IMAPS), (False, "TLS: wrong version number")),
        (spec(pop, CheckKind.POP), (True, "")),
        (spec(pop, CheckKind.POP, **good), (True, "")),
        (spec(pop, CheckKind.POP, **bad), (False, "login refused")),
        (spec(pops, CheckKind.POPS, **good), (True, "")),
        (spec(pops, CheckKind.POPS, **bad), (False, "login refused")),
        (spec((V6, dovecot.pop), CheckKind.POP, **good), (True, "")),
        (spec(pop, CheckKind.POP, login="a\r\nb"), (False, "a control character in the login")),
        (spec(pop, CheckKind.POP, login=USER, password="lost"), (False, "the password is not known to this process")),
    ]
    verdicts = await director().judge([replaced(case) for case, _ in cases], SECRETS)
    assert verdicts == [verdict for _, verdict in cases]


def replaced(case: object) -> object:
    """A pause that a failed login does not use up: dovecot slows down whoever fails again and again."""
    from msgspec.structs import replace

    return replace(case, interval_ns=3600 * 10**9)


@pytest.fixture(scope="module")
def vsftpd(folder: Path) -> Iterator[tuple[int, int]]:
    """(port on IPv4, port on IPv6)"""
    vsftpd = program("vsftpd")
    ports = free_port(), free_port()
    (folder / "ftp").mkdir(mode=0o555)
    (folder / "ftp" / "page.txt").write_text("Test Page\n")
    (folder / "empty").mkdir(mode=0o555)
    common = (
        f"background=NO\nanonymous_enable=YES\nlocal_enable=NO\nanon_root={folder}/ftp\nno_anon_password=NO\n"
        f"secure_chroot_dir={folder}/empty\nftp_username=daemon\nnopriv_user=nobody\nseccomp_sandbox=NO\n"
        "xferlog_enable=NO\nftpd_banner=ready\n"
    )
    (folder / "v4.conf").write_text(
        f"{common}listen=YES\nlisten_ipv6=NO\nlisten_address={V4}\nlisten_port={ports[0]}\n"
    )
    (folder / "v6.conf").write_text(
        f"{common}listen=NO\nlisten_ipv6=YES\nlisten_address6={V6}\nlisten_port={ports[1]}\n"
    )
    with (
        running(folder, [vsftpd, str(folder / "v4.conf")], accepts(ports[0])),
        running(folder, [vsftpd, str(folder / "v6.conf")], accepts(ports[1], V6)),
    ):
        yield ports


async def test_ftp(vsftpd: tuple[int, int], director: Callable[..., Director]) -> None:
    v4, v6 = (V4, vsftpd[0]), (V6, vsftpd[1])
    kind = CheckKind.FTP
    cases = [
        (spec(v4, kind), (True, "")),
        (spec(v4, kind, request="/page.txt"), (True, "")),
        (spec(v4, kind, request="/page.txt", receive="Test Page$"), (True, "")),
        (spec(v6, kind, request="/page.txt", receive="Test Page"), (True, "")),
        (spec(v4, kind, request="/page.txt", receive="Other"), (False, "answer does not match /Other/")),
        (spec(v4, kind, request="/lost.txt"), (False, "file refused: 550")),
        (spec(v4, kind, login="somebody", password="bad"), (False, "login refused: 530")),
    ]
    watcher = director()
    assert await watcher.judge([case for case, _ in cases], SECRETS) == [verdict for _, verdict in cases]


@pytest.fixture(scope="module")
def leafnode(folder: Path) -> Iterator[int]:
    """It knows no listening: it is started for each connection, as by inetd, on a machine with a proper name."""
    leafnode, unshare = program("leafnode"), program("unshare")
    named = [unshare, "-u", "sh", "-c", 'hostname news.hafsm-test.org && exec "$@"', "sh"]
    spool = folder / "news"
    run(["cp", "-a", "/var/spool/news", str(spool)])
    (folder / "leafnode.conf").write_text("server = news.example.com\nexpire = 20\nhostname = news.hafsm-test.org\n")
    listener = socket.create_server((V4, 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client:
                    subprocess.run(
                        [*named, leafnode, "-F", str(folder / "leafnode.conf"), "-d", str(spool)],
                        stdin=client.fileno(),
                        stdout=client.fileno(),
                        stderr=subprocess.DEVNULL,
                        timeout=30,
                        check=False,
                    )

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(30)


async def test_nntp(leafnode: int, director: Callable[..., Director]) -> None:
    cases = [
        (spec((V4, leafnode), CheckKind.NNTP), (True, "")),
    ]
    assert await director().judge([case for case, _ in cases]) == [verdict for _, verdict in cases]
