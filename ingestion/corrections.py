"""Known mistakes of a source, mended as the contract says before any rule looks at a row.

A correction compares what was delivered, so that also a text that is no number can be mended. What was changed is
known record by record; no value is kept.
"""

from __future__ import annotations

from datetime import datetime

import duckdb
import polars as pl

from catalog.contracts import ObjectSpec
from ingestion import conversion
from lake import clock
from lake.sql import quote_literal, quote_whole

SCHEMA = {"_source_object": pl.String, "_record_no": pl.Int64, "correction_id": pl.String}


def rule_id(obj: ObjectSpec, correction_id: str) -> str:
    """The name under which a correction is counted and traced."""
    return f"{obj.rule_prefix}.correction.{correction_id}"


def apply(con: duckdb.DuckDBPyConnection, obj: ObjectSpec, as_of: datetime | None) -> pl.DataFrame:
    """Mend the rows of the temporary table `batch`; returns which record was mended by which correction.

    A correction that had expired (Shanghai date) when the batch came in does nothing. Corrections are applied in the
    order declared, each to what the ones before it left.
    """
    done = [pl.DataFrame(schema=SCHEMA)]
    if not obj.corrections:
        return done[0]
    present = {row[0] for row in con.execute("describe batch").fetchall()}
    today = (as_of or clock.as_of()).astimezone(clock.SHANGHAI).date()
    for item in obj.corrections:
        prop = obj.by_name[item.column]
        delivered = conversion.SOURCE + str(prop.source_name)
        if item.expires < today or not {delivered, prop.name} & present:
            continue
        text = conversion.text_of(prop) if delivered in present else f"cast({quote_whole(prop.name)} as varchar)"
        said = "null" if item.from_value is None else quote_literal(item.from_value)
        meant = "null::varchar" if item.to is None else quote_literal(item.to)
        which = f"({text} is not distinct from {said}) and coalesce(({item.where}), false)"
        found = con.execute(f"select _source_object, _record_no from batch where {which}").pl()
        if found.is_empty():
            continue
        column = conversion.source_column(str(prop.source_name)) if delivered in present else quote_whole(prop.name)
        value = meant if delivered in present else f"try_cast({meant} as {prop.type})"
        mended = f"(select * replace (case when {which} then {value} else {column} end as {column}), ({which}) as _hit from batch)"
        again = (
            f" replace (case when _hit then {conversion.expression(prop)} else {quote_whole(prop.raw_name)} end as {quote_whole(prop.raw_name)})"
            if delivered in present
            else ""
        )
        con.execute(f"create or replace temp table batch as select * exclude (_hit){again} from {mended}")
        done.append(found.with_columns(pl.lit(item.id).alias("correction_id")).cast(SCHEMA))  # type: ignore[arg-type]
    return pl.concat(done)
