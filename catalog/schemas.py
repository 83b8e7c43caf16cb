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


def ods_schema(obj: ObjectSpec) -> pa.Schema:
    """Columns of the contract in declared order, then `_batch_id _record_no _source_object _ingested_at part_date`.

    Declared columns are nullable whatever the contract requires: the row rules decide, and Delta must not refuse a
    batch for a reason the quarantine already explains.
    """
    return pa.schema([*(pa.field(p.name, types.arrow_type(p.type)) for p in obj.properties), *TECHNICAL_FIELDS])
