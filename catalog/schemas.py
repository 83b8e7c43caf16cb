"""Arrow schema of an ODS table, derived from its contract."""

from __future__ import annotations

import pyarrow as pa

from catalog import types
from catalog.contracts import ObjectSpec

TECHNICAL_FIELDS: tuple[pa.Field, ...] = (
    pa.field("_batch_id", pa.string()),
    pa.field("_record_no", pa.int64()),
    pa.field("_source_object", pa.string()),
    pa.field("_ingested_at", pa.timestamp("us", tz="UTC")),
    pa.field("part_date", pa.date32()),
)


DELETED_FIELDS: tuple[pa.Field, ...] = (
    pa.field("_deleted_at", pa.timestamp("us", tz="UTC")),
    pa.field("_deleted_by", pa.string()),
)
"""What a source that deletes has beside: when the record was gone, and the batch that says so; null while it is there."""


def ods_schema(obj: ObjectSpec) -> pa.Schema:
    """Columns of the contract in declared order, then `_batch_id _record_no _source_object _ingested_at part_date`, and
    `_deleted_at _deleted_by` where the contract declares how the source deletes.

    Declared columns are nullable whatever the contract requires: the row rules decide, and Delta must not refuse a
    batch for a reason the quarantine already explains.
    """
    return pa.schema([*(pa.field(p.name, types.arrow_type(p.type)) for p in obj.properties), *technical_fields(obj)])


def technical_fields(obj: ObjectSpec) -> tuple[pa.Field, ...]:
    """The columns of a table that the platform adds."""
    return (*TECHNICAL_FIELDS, *(DELETED_FIELDS if obj.deletes.by != "none" else ()))
