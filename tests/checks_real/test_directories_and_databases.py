"""ldap, ldaps, mysql and pgsql against slapd, mariadb and postgresql."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

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
BASE = "dc=example,dc=com"


@pytest.fixture(scope="module")
def slapd(folder: Path, certificates: Certificates) -> Iterator[tuple[int, int]]:
    """(port, port with TLS)"""
    slapd = program("slapd")
    plain, tls = free_port(), free_port()
    (folder / "directory").mkdir()
    password = PASSWORD.replace("\\", "\\\\").replace('"', '\\"')
    (folder / "slapd.conf").write_text(
        "include /etc/ldap/schema/core.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\n"
        f"pidfile {folder}/slapd.pid\n"
        f"TLSCertificateFile {certificates.good}\nTLSCertificateKeyFile {certificates.key}\n"
        f'database mdb\nsuffix "{BASE}"\nrootdn "cn={USER},{BASE}"\nrootpw "{password}"\n'
        f"directory {folder}/directory\naccess to * by * read\n"
    )
    (folder / "entries.ldif").write_text(
        f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: Example\n"
    )
    run(["/usr/sbin/slapadd", "-f", str(folder / "slapd.conf"), "-l", str(folder / "entries.ldif")])
    command = [slapd, "-d", "0", "-f", str(folder / "slapd.conf")]
    command += ["-h", f"ldap://{V4}:{plain} ldap://[{V6}]:{plain} ldaps://{V4}:{tls}"]
    with running(folder, command, accepts(plain), accepts(tls)):
        yield plain, tls


async def test_ldap(slapd: tuple[int, int], certificates: Certificates, director: Callable[..., Director]) -> None:
    plain, tls = (V4, slapd[0]), (V4, slapd[1])
    entry = {"request": f"/{BASE}"}
    dn = f"cn={USER},{BASE}"
    verified = Tls(name=NAME, authority=str(certificates.authority))
    cases = [
        (spec(plain, CheckKind.LDAP, **entry), (True, "")),
        (spec((V6, slapd[0]), CheckKind.LDAP, **entry), (True, "")),
        (spec(plain, CheckKind.LDAP, **entry, receive="dc=example"), (True, "")),
        (spec(plain, CheckKind.LDAP, **entry, receive="other"), (False, "answer does not match /other/")),
        (spec(plain, CheckKind.LDAP, **entry, login=dn, password="good"), (True, "")),
        (spec(plain, CheckKind.LDAP, **entry, login=dn, password="bad"), (False, "bind: invalidCredentials")),
        (spec(plain, CheckKind.LDAP, request=f"/ou=lost,{BASE}"), (False, "search: noSuchObject")),
        (spec(tls, CheckKind.LDAPS, **entry), (True, "")),
        (spec(tls, CheckKind.LDAPS, **entry, tls=verified), (True, "")),
        (
            spec(tls, CheckKind.LDAPS, **entry, tls=Tls(name=NAME, authority="system")),
            (False, "certificate: unable to get local issuer certificate"),
        ),
    ]
    assert await director().judge([case for case, _ in cases], SECRETS) == [verdict for _, verdict in cases]


@pytest.fixture(scope="module")
def mariadb(folder: Path) -> Iterator[int]:
    mariadbd, install = program("mariadbd"), program("mariadb-install-db")
    port, data = free_port(), folder / "mariadb"
    data.mkdir()
    shutil.chown(data, "mysql")
    run([install, "--no-defaults", f"--datadir={data}", "--user=mysql", "--skip-test-db", "--skip-name-resolve"])
    password = PASSWORD.replace("\\", "\\\\")
    (folder / "init.sql").write_text(
        f"CREATE DATABASE shop;\nCREATE TABLE shop.t (n INT);\nINSERT INTO shop.t VALUES (1);\n"
        f"CREATE USER '{USER}'@'%' IDENTIFIED BY '{password}';\nGRANT SELECT ON shop.* TO '{USER}'@'%';\n"
    )
    command = [mariadbd, "--no-defaults", f"--datadir={data}", "--user=mysql", f"--port={port}", "--bind-address=*"]
    command += [f"--socket={data}/socket", f"--pid-file={data}/pid", f"--init-file={folder}/init.sql"]
    command += ["--skip-name-resolve", "--innodb-buffer-pool-size=16M", "--innodb-flush-log-at-trx-commit=0"]
    with running(folder, command, accepts(port)):
        yield port


async def test_mysql(mariadb: int, director: Callable[..., Director]) -> None:
    def mysql(request: str = "/SELECT n FROM t", address: str = V4, **changes: object) -> object:
        facts = {"login": USER, "password": "good", "database": "shop", **changes}
        return spec((address, mariadb), CheckKind.MYSQL, request=request, **facts)

    cases = [
        (mysql(), (True, "")),
        (mysql(address=V6), (True, "")),
        (mysql("/SELECT 1", database=""), (True, "")),
        (mysql("/SELECT n FROM t WHERE n = 2"), (False, "the query yields no row")),
        (mysql("/SELECT n FROM lost"), (False, "MySQL error 1146")),
        (mysql(password="bad"), (False, "MySQL error 1045")),
        (mysql("/"), (False, "mysql checks need request")),
        (spec((V4, free_port()), CheckKind.MYSQL, request="/SELECT 1", login="a"), (False, "connection refused")),
    ]
    assert await director().judge([case for case, _ in cases], SECRETS) == [verdict for _, verdict in cases]


@pytest.fixture(scope="module")
def postgresql(folder: Path) -> Iterator[int]:
    initdb, postgres, runuser = program("initdb"), program("postgres"), program("runuser")
    port, data = free_port(), folder / "postgresql"
    data.mkdir(mode=0o700)
    shutil.chown(data, "postgres", "postgres")
    secret = folder / "pg.password"
    secret.write_text(PASSWORD + "\n")
    as_postgres = [runuser, "-u", "postgres", "--"]
    run(
        [
            *as_postgres,
            initdb,
            "-D",
            str(data),
            "-U",
            USER,
            f"--pwfile={secret}",
            "-A",
            "scram-sha-256",
            "--no-sync",
            "--no-instructions",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        ],
        cwd="/",
    )
    command = [*as_postgres, postgres, "-D", str(data), "-p", str(port), "-k", "", "-F"]
    command += ["-c", f"listen_addresses={V4},{V6}", "-c", "shared_buffers=1MB", "-c", "max_connections=30"]
    with running(folder, command, accepts(port)):
        yield port


async def test_pgsql(postgresql: int, director: Callable[..., Director]) -> None:
    def pgsql(request: str = "/SELECT 1", address: str = V4, **changes: object) -> object:
        facts = {"login": USER, "password": "good", "database": "postgres", **changes}
        return spec((address, postgresql), CheckKind.PGSQL, request=request, **facts)

    cases = [
        (pgsql(), (True, "")),
        (pgsql(address=V6), (True, "")),
        (pgsql("/SELECT 1 WHERE false"), (False, "the query yields no row")),
        (pgsql("/SELECT lost"), (False, "SQLSTATE 42703")),
        (pgsql(password="bad"), (False, "SQLSTATE 28P01")),
        (pgsql(database=""), (False, "SQLSTATE 3D000")),
        (spec((V4, free_port()), CheckKind.PGSQL, request="/SELECT 1", login="a"), (False, "connection refused")),
    ]
    assert await director().judge([case for case, _ in cases], SECRETS) == [verdict for _, verdict in cases]
