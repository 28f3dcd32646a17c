"""The tables of a segment, column by column, and the check that a file has these and no others in their place."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from journal.errors import SQLITE_ERRORS, Unreadable

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

NULLABLE = frozenset({"action_id", "outcome"})
_SQL_TYPES = {int: "INTEGER", str: "TEXT", bytes: "BLOB"}


def check_tables(connection: sqlite3.Connection, path: Path, name: str = "main") -> None:
    """Refuse a file whose tables are something else: a view or a generated column can compute forever.

    Raises:
        Unreadable: so, or damaged.
    """
    try:
        kinds = connection.execute(
            "SELECT name, type, strict FROM pragma_table_list WHERE schema = ?", (name,)
        ).fetchall()
        columns = connection.execute(
            'SELECT list.name, info.name, info.type, info."notnull" OR info.pk, info.hidden '
            "FROM pragma_table_list AS list, pragma_table_xinfo(list.name, list.schema) AS info "
            "WHERE list.schema = ? ORDER BY list.name, info.cid",
            (name,),
        ).fetchall()
    except SQLITE_ERRORS as error:
        raise Unreadable(path, str(error)) from None
    for table, expected in TABLES.items():
        found = [column[1:] for column in columns if column[0] == table]
        wanted = [(column, _SQL_TYPES[kind], column not in NULLABLE, 0) for column, kind in expected.items()]
        if (table, "table", 1) not in kinds or found != wanted:
            raise Unreadable(path, f"is not a journal: its table {table} is not what a journal has")
