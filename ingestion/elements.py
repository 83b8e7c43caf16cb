"""Rows that are elements of lists inside records: judged with their record, refused with it, stored with it.

A record has one fate. Its elements are typed and judged like root rows, beside the record that passed its own rules; where
one fails, the record is refused as a whole, under the element's rule and with the element's place. What tells two
deliveries of a record apart is the record and all its elements (`DIGEST`), so that a changed element is a contradiction
and no repetition.
"""

from __future__ import annotations

from datetime import date, datetime

import duckdb
import polars as pl
import pyarrow as pa

from catalog.contracts import Contract, ObjectSpec
from ingestion import split
from ingestion.decoders.base import ITEM_NO
from lake import query, tables
from lake.sql import quote_name

DIGEST = "_items"
"""Column of judged root rows: a hash of all elements of the record, as they are stored. It is never stored itself."""
_AT = ["_source_object", "_record_no"]


def judge(
    con: duckdb.DuckDBPyConnection,
    contract: Contract,
    root: split.Split,
    delivered: dict[str, pa.Table],
    as_of: datetime | None,
) -> dict[str, pa.Table]:
    """Judge the elements in a decoded chunk beside its root rows, which are changed: records with a refused element leave
    them, all others bear the `DIGEST`. Returns the elements of the records that pass, by table, without a date.
    """
    parents = root.rows = root.accepted.to_arrow()
    found: dict[str, split.Split] = {}
    refused: list[pl.DataFrame] = []
    for obj in contract.lists:
        rows = delivered.get(obj.table)
        if rows is None or not rows.num_rows:
            continue
        part = found[obj.table] = split.split_items(con, obj, rows, parents, as_of)
        root.leaks += part.leaks
        root.examined |= part.examined
        root.warned |= part.warned
        refused.append(_placed(part.refused, obj))
    if refused:
        first = pl.concat(refused).unique(_AT, keep="first", maintain_order=True)
        if not first.is_empty():
            root.rows = _without(root.rows, first)
            root.refused = pl.concat([root.refused, first.select(root.refused.columns)], how="vertical_relaxed")
            for part in found.values():
                part.rows = _without(part.rows, first)
    root.rows = _with_digest(contract, root.rows, {table: part.rows for table, part in found.items()})
    return {table: part.rows.drop_columns(["part_date"]) for table, part in found.items()}


def _placed(refused: pl.DataFrame, obj: ObjectSpec) -> pl.DataFrame:
    """Refused elements with their place in the reason, the first of each record first."""
    number = pl.col(ITEM_NO)
    place = pl.concat_str("reason", pl.lit(f"（{obj.items}/"), number - 1, pl.lit("，第 "), number, pl.lit(" 项）"))
    return refused.sort(*_AT, ITEM_NO).with_columns(place.alias("reason")).drop(ITEM_NO)


def _without(rows: pa.Table, records: pl.DataFrame) -> pa.Table:
    frame = pl.DataFrame(rows)
    return frame.join(records.select(_AT), on=_AT, how="anti", maintain_order="left").to_arrow()


# ------------------------------------------------------------------ what the elements of a record say
def digest_sql(obj: ObjectSpec) -> str:
    """SQL aggregate: the hash of an object's rows in any order."""
    return f"hash(list_sort(list(hash({', '.join(quote_name(prop.name) for prop in obj.properties)}))))"


def _digest_of(contract: Contract, relations: dict[str, str], at: list[str], into: str, window: str = "true") -> str:
    """SQL: the rows of ``into`` with the `DIGEST` of their elements in ``relations`` (table → relation; none has no rows)."""
    joins, hashes = [], []
    for number, obj in enumerate(contract.lists):
        if obj.table not in relations:
            hashes.append("null::ubigint")
            continue
        key = ", ".join(at)
        joins.append(
            f"left join (select {key}, {digest_sql(obj)} as h from {relations[obj.table]} as e where {window} group by {key}) as c{number} using ({key})"
        )
        hashes.append(f"c{number}.h")
    return f"select r.*, hash({', '.join(hashes)}) as {DIGEST} from {into} as r {' '.join(joins)}"


def _with_digest(contract: Contract, rows: pa.Table, items: dict[str, pa.Table]) -> pa.Table:
    con = query.connect(spill=False)
    try:
        con.register("_root", rows)
        for number, part in enumerate(items.values()):
            con.register(f"_items_{number}", part)
        relations = {table: f"_items_{number}" for number, table in enumerate(items)}
        root = "(select _source_object, _record_no from _root)"
        digests = con.execute(_digest_of(contract, relations, _AT, root)).pl()
    finally:
        con.close()
    return pl.DataFrame(rows).join(digests, on=_AT, how="left", maintain_order="left").to_arrow()


def register_stored(
    con: duckdb.DuckDBPyConnection, contract: Contract, head: int, view: str, days: tuple[date, date]
) -> None:
    """A view of the stored root rows; those of a contract with lists bear their `DIGEST`, which is right for the dates
    from the first to the last of ``days``."""
    if not contract.lists:
        query.register(con, contract.root.table, head, view=view)
        return
    query.register(con, contract.root.table, head, view=f"{view}_root")
    relations = {}
    for obj in contract.lists:
        if (version := tables.version(obj.table)) is not None:
            query.register(con, obj.table, version, view=f"{view}_{obj.name}")
            relations[obj.table] = quote_name(f"{view}_{obj.name}")
    con.execute(
        f"create or replace temp view {view} as "
        + _digest_of(
            contract,
            relations,
            ["_batch_id", *_AT],
            quote_name(f"{view}_root"),
            f"part_date between date '{days[0]}' and date '{days[1]}'",
        )
    )


def content_columns(contract: Contract) -> list[str]:
    """What two records must agree in to say the same."""
    return [prop.name for prop in contract.root.properties] + ([DIGEST] if contract.lists else [])


__all__ = ["DIGEST", "content_columns", "judge", "register_stored"]
