"""The tables of a segment, created with sqlite-utils and pleasant to read with the `sqlite3` shell or Datasette.

Every table is STRICT, append-only (triggers refuse UPDATE and DELETE) and carries `link`, the row's place in the order
of writing, and `chain` (see `journal.chain`). The views are for people; nothing here reads them.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sqlite_utils import Database

from journal.database import PAGE_BYTES
from journal.header import APPLICATION_ID, SCHEMA_VERSION
from journal.tables import NULLABLE, TABLES


def _wall(column: str) -> str:
    seconds = f"strftime('%Y-%m-%d %H:%M:%S', {column} / 1000000000, 'unixepoch')"
    return f"{seconds} || printf('.%06dZ', {column} / 1000 % 1000000)"


_TARGET = (
    "iif(instr(json_extract(target.value, '$.address'), ':'), '[' || json_extract(target.value, '$.address') || ']', "
    "json_extract(target.value, '$.address')) || ':' || json_extract(target.value, '$.port')"
)
"""As `CheckSpec` writes itself."""

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
    "check_plan": """
        SELECT cause AS seq, json_extract(payload, '$.plan') AS plan, json_extract(payload, '$.checks') AS checks
        FROM action
        WHERE kind = 'set_checks'
        UNION ALL
        SELECT seq, json_extract(state, '$.checks_plan'), json_extract(state, '$.checks')
        FROM snapshot""",
    "check_result": f"""
        WITH plans AS MATERIALIZED (SELECT seq, plan, checks FROM check_plan),
        targets AS MATERIALIZED (
            SELECT plans.seq, target.key AS "index",
                json_extract(target.value, '$.kind') || ' ' || {_TARGET} AS target
            FROM plans, json_each(plans.checks) AS target
        ),
        batches AS (
            SELECT seq, at_wall_ns, payload, json_extract(payload, '$.plan') AS plan
            FROM event
            WHERE kind = 'checks_reported'
        )
        SELECT batches.seq, {_wall("batches.at_wall_ns")} AS wall, batches.plan,
            json_extract(result.value, '$.check') AS "index",
            targets.target,
            json_extract(result.value, '$.ok') AS ok,
            coalesce(json_extract(result.value, '$.detail'), '') AS detail,
            coalesce(json_extract(result.value, '$.duration_us'), 0) AS duration_us
        FROM batches, json_each(batches.payload, '$.results') AS result
        LEFT JOIN targets
            ON targets."index" = json_extract(result.value, '$.check')
            AND targets.seq = (
                SELECT max(plans.seq) FROM plans WHERE plans.plan = batches.plan AND plans.seq <= batches.seq
            )""",
    "run_view": f"""
        SELECT run, {_wall("min(started_wall_ns)")} AS started, min(first_seq) AS first_seq, node, code_version,
            boot_id, config_digest, flags, configuration
        FROM run
        GROUP BY run""",
    "gap_view": f"""
        SELECT after_seq + 1 AS first_seq, after_seq + count AS last_seq, count,
            {_wall("from_wall_ns")} AS "from", {_wall("to_wall_ns")} AS "to", cause
        FROM gap""",
    "snapshot_view": f"""
        SELECT seq, {_wall("at_wall_ns")} AS wall, digest, length(state) AS state_chars, state
        FROM snapshot""",
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
            required = set(columns) - NULLABLE - {key}
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
