"""Duplicates: the same record delivered again, within a batch or in an earlier one."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from catalog.contracts import ObjectSpec
from lake import query, tables
from lake.query import quote_literal, quote_name


@dataclass
class Deduplicated:
    """unique: rows to store. duplicates: ``_source_object, _record_no`` of repeated rows. conflicts: same, for rows
    that repeat a key with different content (they are quarantined: neither version may silently win)."""

    unique: pl.DataFrame
    duplicates: pl.DataFrame
    conflicts: pl.DataFrame


def deduplicate(
    rows: pl.DataFrame,
    obj: ObjectSpec,
    batch_id: str,
    object_order: dict[str, int],
    *,
    same_key_is_duplicate: bool,
    replayed: bool = False,
) -> Deduplicated:
    """Keep the first row of each dedup key, in delivery order, that no other batch already stored.

    Earlier rows are looked up in the head of the ODS table within the literal date range of the batch (the key's date
    never changes, so a duplicate lies in the same partitions). Rows of this very batch are left out of the look-up, so
    that repeating an interrupted batch gives the same result. ``same_key_is_duplicate`` is for device files, where the
    same activity arrives in several formats. ``replayed`` says that the rows are only some of the batch's: its other rows
    count as stored.
    """
    empty = rows.select("_source_object", "_record_no").clear()
    if rows.is_empty():
        return Deduplicated(rows, empty, empty)
    con = query.connect()
    order = pl.DataFrame({"_source_object": list(object_order), "_seq": list(object_order.values())})
    con.register("incoming", rows.join(order, on="_source_object", how="left").to_arrow())
    keys = [quote_name(key) for key in obj.dedup]
    content = ", ".join(quote_name(prop.name) for prop in obj.properties)
    con.execute(
        f"create temp table numbered as select _source_object, _record_no, {', '.join(keys)}, hash({content}) as _content, "
        f"row_number() over (partition by {', '.join(keys)} order by _seq, _record_no) as _nth, "
        f"first_value(hash({content})) over (partition by {', '.join(keys)} order by _seq, _record_no) as _first from incoming"
    )
    head = tables.version(obj.table)
    if head is not None:
        first, last = str(rows["part_date"].min()), str(rows["part_date"].max())
        query.register(con, obj.table, head, view="stored")
        own = (
            "(s._batch_id <> $batch or (s._source_object, s._record_no) not in "
            "(select (_source_object, _record_no) from incoming))"
            if replayed
            else "s._batch_id <> $batch"
        )
        con.execute(
            f"create temp table earlier as select {', '.join(keys)}, any_value(hash({content})) as _content from stored s "
            f"where part_date >= date '{first}' and part_date <= date '{last}' and {own} group by {', '.join(keys)}".replace(
                "$batch", quote_literal(batch_id)
            )
        )
    else:
        con.execute(f"create temp table earlier as select {', '.join(keys)}, _content from numbered where false")
    on = " and ".join(f"n.{key} is not distinct from e.{key}" for key in keys)
    verdict = con.execute(
        "select n._source_object, n._record_no, case "
        "when e._content is not null then case when e._content = n._content then 'duplicate' else 'conflict' end "
        "when n._nth = 1 then 'unique' when n._first = n._content then 'duplicate' else 'conflict' end as verdict "
        f"from numbered n left join earlier e on {on}"
    ).pl()
    con.close()
    if same_key_is_duplicate:
        verdict = verdict.with_columns(pl.col("verdict").replace({"conflict": "duplicate"}))
    by = verdict.partition_by("verdict", as_dict=True, include_key=False)
    keep = by.get(("unique",), empty)
    return Deduplicated(
        rows.join(keep, on=["_source_object", "_record_no"], how="semi"),
        by.get(("duplicate",), empty),
        by.get(("conflict",), empty),
    )
