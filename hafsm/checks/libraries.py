"""SQL checks, each by its library, in a child of the helper process that may hang or die.

What a database says about a login may hold it: only its error codes go into a verdict (law L10).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hafsm.checks.connect import PASSED, Verdict, explain
from hafsm.checks.jobs import Job
from hafsm.core.settings import CheckKind


def run(job: Job) -> Verdict:
    """Never raises: a library that stumbles over an answer has not found a healthy server."""
    try:
        return _KINDS[job.spec.kind](job)
    except MemoryError:
        return Verdict(False, "an answer larger than the memory of a check")
    except OSError as error:
        return Verdict(False, explain(error.errno) if error.errno else "connection failed")
    except Exception as error:
        return Verdict(False, f"unusable answer ({type(error).__name__})")


def _rows(cursor: Any, job: Job) -> Verdict:
    """ldirectord runs the query twice; once will do."""
    cursor.execute(job.spec.request.removeprefix("/"))
    return PASSED if cursor.fetchone() is not None else Verdict(False, "the query yields no row")


def _mysql(job: Job) -> Verdict:
    import pymysql

    spec = job.spec
    timeout_s = max(spec.timeout_ns // 1_000_000_000, 1)
    try:
        with pymysql.connect(
            host=spec.address,
            port=spec.port,
            user=spec.login,
            password=job.password,
            database=spec.database or None,
            connect_timeout=timeout_s,
            read_timeout=timeout_s,
            write_timeout=timeout_s,
        ) as connection:
            return _rows(connection.cursor(pymysql.cursors.SSCursor), job)
    except pymysql.err.MySQLError as error:
        return _by_cause(error, f"MySQL error {error.args[0]}" if error.args and type(error.args[0]) is int else "")


def _pgsql(job: Job) -> Verdict:
    """Without a database its name is the login's, on the server that is checked (ldirectord asks its own machine)."""
    import pg8000.dbapi

    spec = job.spec
    try:
        connection = pg8000.dbapi.connect(
            user=spec.login,
            host=spec.address,
            port=spec.port,
            database=spec.database or spec.login,
            password=job.password.decode("utf-8", "surrogateescape"),
            timeout=spec.timeout_ns / 1e9,
            application_name="hafsm",
        )
        try:
            return _rows(connection.cursor(), job)
        finally:
            connection.close()
    except pg8000.dbapi.Error as error:
        facts = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
        return _by_cause(error, f"SQLSTATE {facts['C']}" if isinstance(facts.get("C"), str) else "")


def _oracle(job: Job) -> Verdict:
    """`database` is the service name."""
    import oracledb

    spec = job.spec
    try:
        with oracledb.connect(
            user=spec.login,
            password=job.password.decode("utf-8", "surrogateescape"),
            host=spec.address,
            port=spec.port,
            service_name=spec.database or None,
            tcp_connect_timeout=spec.timeout_ns / 1e9,
        ) as connection:
            return _rows(connection.cursor(), job)
    except oracledb.Error as error:
        code = getattr(error.args[0], "full_code", "") if error.args else ""
        return _by_cause(error, f"Oracle error {code}" if code else "")


def _by_cause(error: BaseException, code: str) -> Verdict:
    """The socket's error if that is what it was, else the database's code."""
    cause: BaseException | None = error
    for _ in range(5):
        if cause is None:
            break
        if isinstance(cause, OSError) and cause.errno:
            return Verdict(False, explain(cause.errno))
        original = getattr(cause, "original_exception", None)
        cause = original if isinstance(original, BaseException) else cause.__cause__ or cause.__context__
    return Verdict(False, code or "unusable answer")


_KINDS: Mapping[CheckKind, Callable[[Job], Verdict]] = {
    CheckKind.MYSQL: _mysql,
    CheckKind.PGSQL: _pgsql,
    CheckKind.ORACLE: _oracle,
}
