"""The tables of a segment, created with sqlite-utils and pleasant to read with the `sqlite3` shell or Datasette.

Every table is STRICT, append-only (triggers refuse UPDATE and DELETE) and carries `link`, the row's place in the order
of writing, and `chain` (see `journal.chain`). The views are for people; nothing here reads them.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sqlite_utils import Database

from journal.database import APPLICATION_ID, PAGE_BYTES, SCHEMA_VERSION

TABLES: dict[str, dict[str, type]] = {
    "segment": {
        "link": int,
        "last_seq": int,
        "last_action_id": int,
        "previous": bytes,
        "chain": bytes,
    },
    "run": {
        "link": int,
        "run": int,
        "first_seq": int,
        "started_wall_ns": int,
        "node": str,
        "boot_id": str,
        "code_version": str,
        "configuration": str,
        "config_digest": str,
        "flags": str,
        "chain": bytes,
    },
    "snapshot": {
        "link": int,
        "seq": int,
        "at_wall_ns": int,
        "state": str,
        "digest": str,
        "chain": bytes,
    },
    "gap": {
        "link": int,
        "after_seq": int,
        "count": int,
        "from_wall_ns": int,
        "to_wall_ns": int,
        "cause": str,
        "chain": bytes,
    },
    "event": {
        "seq": int,
        "at_mono_ns": int,
        "at_wall_ns": int,
        "kind": str,
        "version": int,
        "payload": str,
        "action_id": int,
        "outcome": str,
        "reason": str,
        "link": int,
        "chain": bytes,
    },
    "action": {
        "id": int,
        "cause": int,
        "kind": str,
        "version": int,
        "payload": str,
        "link": int,
        "chain": bytes,
    },
}
"""Table, column, type. The first column is the primary key; the order of columns is that of the records."""

_NULLABLE = {"action_id", "outcome"}


def _wall(column: str) -> str:
    seconds = f"strftime('%Y-%m-%d %H:%M:%S', {column} / 1000000000, 'unixepoch')"
    return f"{seconds} || printf('.%06dZ', {column} / 1000 % 1000000)"


VIEWS = {
    "event_view": f"""
        SELECT seq, {_wall("at_wall_ns")} AS wall, kind, reason, action_id, outcome, payload
        FROM event""",
    "action_view": f"""
        SELECT action.id, {_wall("cause.at_wall_ns")} AS wall, action.cause, action.kind,
            result.outcome, result.seq AS result_seq,
            (result.at_mono_ns - cause.at_mono_ns) / 1000000.0 AS took_ms,
            cause.reason, action.payload
        FROM action
        JOIN event AS cause ON cause.seq = action.cause
        LEFT JOIN event AS result ON result.action_id = action.id""",
    "check_result": f"""
        SELECT event.seq, {_wall("event.at_wall_ns")} AS wall,
            json_extract(event.payload, '$.plan') AS plan,
            json_extract(result.value, '$.check') AS "check",
            json_extract(result.value, '$.ok') AS ok,
            coalesce(json_extract(result.value, '$.detail'), '') AS detail,
            coalesce(json_extract(result.value, '$.duration_us'), 0) AS duration_us
        FROM event, json_each(event.payload, '$.results') AS result
        WHERE event.kind = 'checks_reported'""",
}


def create_database(path: Path) -> sqlite3.Connection:
    """Make an empty segment in rollback mode.

    Returns:
        The connection; the caller closes it.

    Raises:
        sqlite3.Error: the disk refuses.
    """
    connection = sqlite3.connect(path.absolute().as_uri(), uri=True, isolation_level=None)
    try:
        # An unfinished file is removed by its maker, so only the last commit, with the first rows, needs the disk.
        connection.execute("PRAGMA synchronous = off")
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        database = Database(connection, execute_plugins=False)
        for name, columns in TABLES.items():
            key = next(iter(columns))
            required = set(columns) - _NULLABLE - {key}
            database.table(name, strict=True).create(columns, pk=key, not_null=required)
            for verb in ("UPDATE", "DELETE"):
                connection.execute(
                    f"CREATE TRIGGER {name}_no_{verb.lower()} BEFORE {verb} ON {name} "
                    f"BEGIN SELECT RAISE(ABORT, 'a journal is never changed'); END"
                )
        connection.execute("CREATE INDEX action_by_cause ON action (cause)")
        connection.execute("CREATE INDEX event_by_action ON event (action_id) WHERE action_id IS NOT NULL")
        for name, query in VIEWS.items():
            database.create_view(name, query)
        connection.execute("PRAGMA synchronous = full")
    except sqlite3.Error:
        connection.close()
        raise
    return connection
