"""Refused rows: where they are kept and what may be written about them.

A quarantine row says *which* record was refused and *why*; the record itself stays in the encrypted archive and is
decoded again for a replay. `preview` is masked by the caller and is null whenever nothing may be shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from lake import ledger, query, tables

TABLE = "ops_ingest__quarantine"

#: One row = one refused root record (or one unreadable remainder with its byte range).
SCHEMA = pa.schema(
    [
        pa.field("batch_id", pa.string(), nullable=False),
        pa.field("resource", pa.string(), nullable=False),
        pa.field("table_name", pa.string()),
        pa.field("source_object", pa.string()),  # sha256 of the archived object
        pa.field("object_name", pa.string()),  # name the source gave it, identifiers masked
        pa.field("record_no", pa.int64()),
        pa.field("byte_from", pa.int64()),
        pa.field("byte_to", pa.int64()),
        pa.field("rule_id", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("preview", pa.string()),
        pa.field("quarantined_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)


def conform(rows: pa.Table) -> pa.Table:
    """Return `rows` with exactly the quarantine columns, in order, absent optional ones as null.

    Raises ValueError when a column is unknown (default deny: nothing slips into a stored table unnoticed) or when
    `batch_id`, `resource`, `rule_id`, `reason` or `quarantined_at` is missing or null.
    """
    unknown = [name for name in rows.column_names if name not in SCHEMA.names]
    if unknown:
        raise ValueError(f"unknown quarantine columns: {unknown}")
    columns = []
    for field in SCHEMA:
        if field.name in rows.column_names:
            column = rows.column(field.name).cast(field.type)
        else:
            column = pa.chunked_array([pa.nulls(rows.num_rows, field.type)])
        if not field.nullable and column.null_count:
            raise ValueError(f"quarantine column {field.name} must not be null")
        columns.append(column)
    return pa.table(columns, schema=SCHEMA)


def append_quarantine(rows: pa.Table, batch_id: str) -> int | None:
    """Append refused rows of one batch; a second call with the same `batch_id` writes nothing.

    Returns the new Delta version, or None when there was nothing to write or it had been written before.
    The gate writes withdrawn rows of a batch under its own key (`quality.withdrawal`), so both can exist.
    """
    if rows.num_rows == 0:
        return None
    return tables.append(TABLE, conform(rows), batch_id=batch_id, partition_by=())


def empty() -> pa.Table:
    """An empty table in the quarantine schema."""
    return SCHEMA.empty_table()


def counts(resource: str | None = None) -> dict[tuple[str, str], int]:
    """Number of quarantined rows per (resource, batch_id); empty when nothing was ever refused."""
    if not tables.exists(TABLE):
        return {}
    con = query.connect()
    try:
        query.register(con, TABLE, version="head", view="quarantine")
        where, values = ("WHERE resource = ?", [resource]) if resource else ("", [])
        sql = f"SELECT resource, batch_id, count(*) FROM quarantine {where} GROUP BY ALL"
        return {(res, batch): n for res, batch, n in con.execute(sql, values).fetchall()}
    finally:
        con.close()


def reason_of(batch_id: str, source_object: str) -> str | None:
    """Why an object was refused as a whole, in Chinese; None when it was not."""
    head = tables.version(TABLE)
    if head is None:
        return None
    with query.connect() as con:
        found = con.execute(
            f"select reason from {query.scan_sql(TABLE, head)}"
            " where batch_id = ? and source_object = ? and record_no = 0 limit 1",
            [batch_id, source_object],
        ).fetchone()
    return found[0] if found else None


def decisions(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Decisions of the ledger (`lake.ledger.replays`) as a table to join with quarantine rows."""
    text, number = pa.string(), pa.int64()
    columns = {
        "batch_id": text, "source_object": text, "record_from": number, "record_to": number, "outcome": text,
        "rule_id": text, "reason": text, "replay_id": text, "replayed_at": pa.timestamp("us", tz="UTC"),
    }  # fmt: skip
    return pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in columns.items()})


def register_open(con: duckdb.DuckDBPyConnection, view: str = "open_quarantine") -> None:
    """Create views of the quarantine as the decisions in the ledger leave it; all are empty when nothing was ever refused.

    ``all_quarantine``: every row as written. ``judged_quarantine``: one row for a record that was decided about, by its last
    decision (``outcome``, null without one; a record judged again bears the rule and reason of today). ``view``: what is
    still refused. ``discarded_quarantine``: what a person gave up. The last two have the quarantine columns.
    """
    if tables.exists(TABLE):
        query.register(con, TABLE, version="head", view="all_quarantine")
    else:
        con.register("all_quarantine", empty())
    con.register("_decisions", decisions(ledger.replays()))
    con.execute("CREATE OR REPLACE TEMP TABLE decided_record AS FROM _decisions")
    con.unregister("_decisions")
    on = (
        "q.batch_id = d.batch_id AND q.source_object = d.source_object"
        " AND q.record_no BETWEEN d.record_from AND d.record_to"
    )
    shown = (  # a conflict is judged on protected values: nothing of it was ever shown
        "CASE WHEN d.outcome = 'rejudged' AND d.rule_id LIKE '%.dedup.conflict' THEN NULL ELSE q.preview END AS preview"
    )
    con.execute(
        "CREATE OR REPLACE TEMP VIEW judged_quarantine AS"
        f" SELECT q.*, NULL::VARCHAR AS outcome FROM all_quarantine AS q ANTI JOIN decided_record AS d ON {on}"
        " UNION ALL BY NAME"
        " SELECT q.* REPLACE (CASE WHEN d.outcome = 'rejudged' THEN d.rule_id ELSE q.rule_id END AS rule_id,"
        f" CASE WHEN d.outcome = 'rejudged' THEN d.reason ELSE q.reason END AS reason, {shown}), d.outcome"
        f" FROM all_quarantine AS q JOIN decided_record AS d ON {on}"
        " QUALIFY row_number() OVER (PARTITION BY q.batch_id, q.source_object, q.record_no, q.byte_from"
        " ORDER BY d.replayed_at DESC, d.replay_id DESC, q.preview IS NULL, q.rule_id) = 1"
    )
    for name, condition in (
        (view, "outcome IS NULL OR outcome = 'rejudged'"),
        ("discarded_quarantine", "outcome = 'discarded'"),
    ):
        con.execute(
            f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT * EXCLUDE (outcome) FROM judged_quarantine WHERE {condition}"
        )


def build(
    *,
    batch_id: str,
    resource: str,
    table_name: str,
    source_object: list[str],
    record_no: list[int],
    rule_id: str,
    reason: str,
    quarantined_at: datetime,
    object_name: list[str | None] | None = None,
) -> pa.Table:
    """Build quarantine rows that share one rule and reason and show nothing of the record (no preview)."""
    n = len(source_object)
    return conform(
        pa.table(
            {
                "batch_id": pa.array([batch_id] * n, pa.string()),
                "resource": pa.array([resource] * n, pa.string()),
                "table_name": pa.array([table_name] * n, pa.string()),
                "source_object": pa.array(source_object, pa.string()),
                "object_name": pa.array(object_name or [None] * n, pa.string()),
                "record_no": pa.array(record_no, pa.int64()),
                "rule_id": pa.array([rule_id] * n, pa.string()),
                "reason": pa.array([reason] * n, pa.string()),
                "quarantined_at": pa.array([quarantined_at] * n, pa.timestamp("us", tz="UTC")),
            }
        )
    )
