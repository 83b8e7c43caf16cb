"""What happened to a record beside being accepted or refused: it was corrected on the way in, or replaced later.

One row = one event of one record. The rows name the record (batch, object, number) and never a value; what replaced it
is named the same way.
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl
import pyarrow as pa

from lake import query, tables
from lake.clock import utc_now
from lake.sql import quote_literal

TABLE = "ops_ingest__row_event"
SCHEMA = pa.schema(
    [
        pa.field("batch_id", pa.string(), nullable=False),
        pa.field("resource", pa.string(), nullable=False),
        pa.field("table_name", pa.string(), nullable=False),
        pa.field("source_object", pa.string(), nullable=False),
        pa.field("record_no", pa.int64(), nullable=False),
        pa.field("event", pa.string(), nullable=False),  # corrected | replaced | restored
        pa.field("rule_id", pa.string()),
        pa.field("by_batch_id", pa.string()),
        pa.field("by_source_object", pa.string()),
        pa.field("by_record_no", pa.int64()),
        pa.field("event_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)
_RECORD = ("batch_id", "source_object", "record_no")


def append(rows: pl.DataFrame, key: str, *, resource: str, table: str, event: str) -> None:
    """Note one kind of event for records (columns of `SCHEMA`, absent ones null); a second time with the same key nothing
    is written."""
    if rows.is_empty():
        return
    known = {"resource": resource, "table_name": table, "event": event, "event_at": utc_now()}
    filled = rows.with_columns(**{name: pl.lit(value) for name, value in known.items()})
    filled = filled.with_columns(pl.lit(None).alias(name) for name in SCHEMA.names if name not in filled.columns)
    arrow = filled.select(SCHEMA.names).to_arrow()
    plain = pa.table([arrow.column(f.name).cast(f.type) for f in SCHEMA], schema=SCHEMA)
    tables.append(TABLE, plain, batch_id=key, partition_by=())


def of(event: str, *, batches: Iterable[str] = (), by_batches: Iterable[str] = ()) -> pl.DataFrame:
    """Events of one kind about records of `batches`, or caused by `by_batches`; all of the kind when neither is given."""
    head = tables.version(TABLE)
    if head is None:
        return pl.from_arrow(SCHEMA.empty_table())  # type: ignore[return-value]
    where = [f"event = {quote_literal(event)}"]
    for column, names in (("batch_id", list(batches)), ("by_batch_id", list(by_batches))):
        if names:
            where.append(f"{column} in ({', '.join(map(quote_literal, names))})")
    con = query.connect()
    try:
        return con.execute(f"select * from {query.scan_sql(TABLE, head)} where {' and '.join(where)}").pl()
    finally:
        con.close()


def without(rows: pl.DataFrame, noted: pl.DataFrame) -> pl.DataFrame:
    """Those rows whose record and rule is not noted yet."""
    return rows.join(noted.select(*_RECORD, "rule_id"), on=[*_RECORD, "rule_id"], how="anti", nulls_equal=True)


def replaced_now(resource: str) -> pl.DataFrame:
    """Records of a resource that are replaced and were not restored since: ``batch_id, source_object, record_no``."""
    head = tables.version(TABLE)
    if head is None:
        return pl.DataFrame(schema={"batch_id": pl.String, "source_object": pl.String, "record_no": pl.Int64})
    con = query.connect()
    try:
        return con.execute(
            "select batch_id, source_object, record_no from"
            f" {query.scan_sql(TABLE, head)} where resource = ? and event in ('replaced', 'restored')"
            " group by all having count(*) filter (event = 'replaced') > count(*) filter (event = 'restored')"
            " order by all",
            [resource],
        ).pl()
    finally:
        con.close()


__all__ = ["SCHEMA", "TABLE", "append", "of", "replaced_now", "without"]
