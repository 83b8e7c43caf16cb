"""Refused rows: where they are kept and what may be written about them.

A quarantine row says *which* record was refused and *why*; the record itself stays in the encrypted archive and is
decoded again for a replay. `preview` is masked by the caller and is null whenever nothing may be shown.
"""

from __future__ import annotations

from datetime import datetime

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


def register_open(con: duckdb.DuckDBPyConnection, view: str = "open_quarantine") -> None:
    """Create a view of the rows that are still refused: a record whose replay is decided in the ledger is left out.

    The view has the quarantine columns; it is empty when nothing was ever refused.
    """
    if tables.exists(TABLE):
        query.register(con, TABLE, version="head", view="all_quarantine")
    else:
        con.register("all_quarantine", empty())
    decided = ledger.replays()
    names = ("batch_id", "source_object", "record_from", "record_to")
    types = (pa.string(), pa.string(), pa.int64(), pa.int64())
    frame = pa.table({n: pa.array([row[n] for row in decided], t) for n, t in zip(names, types, strict=True)})
    con.register("_replays", frame)
    con.execute("CREATE OR REPLACE TEMP TABLE replayed_record AS FROM _replays")
    con.unregister("_replays")
    con.execute(
        f"CREATE OR REPLACE TEMP VIEW {view} AS SELECT q.* FROM all_quarantine AS q ANTI JOIN replayed_record AS r"
        " ON q.batch_id = r.batch_id AND q.source_object = r.source_object"
        " AND q.record_no BETWEEN r.record_from AND r.record_to"
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
