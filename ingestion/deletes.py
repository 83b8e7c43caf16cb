"""What a source says is gone: the row stays and bears the instant in ``_deleted_at``, the batch in ``_deleted_by``.

Three ways (see `catalog.contracts.behaviour.Deletes`): a column of the row itself; a tombstone, which becomes a new
version of the stored row it names; a snapshot that no longer lists the key, which marks the stored row where it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import polars as pl

from catalog.contracts import Contract, ObjectSpec
from ingestion import decoders, split
from ingestion.decoders.base import Decoded
from lake import ledger, query, tables
from lake.sql import quote_literal, quote_name

_MOMENT = pl.Datetime("us", "UTC")
MARKS = ("_deleted_at", "_deleted_by")
_AT = ["_source_object", "_record_no"]
_REFUSED = {"_source_object": pl.String, "_record_no": pl.Int64, "rule_id": pl.String, "reason": pl.String}


def is_tombstone(obj: ObjectSpec, name: str) -> bool:
    """Whether an object lists keys of records that are gone."""
    return obj.deletes.pattern is not None and re.search(obj.deletes.pattern, name) is not None


def marked(rows: pl.DataFrame, obj: ObjectSpec, batch: dict[str, Any]) -> pl.DataFrame:
    """Accepted rows with ``_deleted_at`` and ``_deleted_by``, for objects whose contract declares deletes."""
    if obj.deletes.by == "none":
        return rows
    moment = pl.lit(None, _MOMENT)
    if obj.deletes.by == "column":
        column = pl.col(str(obj.deletes.column))
        kind = obj.by_name[str(obj.deletes.column)].type
        if kind == "BOOLEAN":
            moment = pl.when(column).then(pl.lit(batch["as_of_at"]).cast(_MOMENT))
        elif kind == "DATE":
            moment = column.cast(pl.Datetime("us")).dt.replace_time_zone("Asia/Shanghai").dt.convert_time_zone("UTC")
        else:
            moment = column.cast(_MOMENT)
    return rows.with_columns(moment.cast(_MOMENT).alias("_deleted_at")).with_columns(
        pl.when(pl.col("_deleted_at").is_not_null()).then(pl.lit(batch["batch_id"])).alias("_deleted_by")
    )


# ------------------------------------------------------------------------------------------------ tombstones
@dataclass
class Tombstones:
    """decoded: records per object · rows: the stored rows they name, as rows of this batch, marked · refused: those that
    name none · issues: unreadable ones, as the decoder gives them · again: records of rows that are gone already."""

    decoded: dict[str, int]
    rows: pl.DataFrame
    refused: pl.DataFrame
    chunks: list[Decoded]
    again: pl.DataFrame


def key_contract(contract: Contract) -> Contract:
    """The contract of a tombstone object: the columns of the key, nothing else required or known."""
    obj = contract.root
    only = obj.model_copy(
        update={
            "properties": [prop for prop in obj.properties if prop.name in obj.dedup],
            "rules": [],
            "drift": obj.drift.model_copy(update={"unknown_column": "ignore"}),
        }
    )
    return contract.model_copy(update={"objects": [only]})


def read_tombstones(
    contract: Contract,
    batch: dict[str, Any],
    objects: Iterable[tuple[str, str, bytes]],
    arriving: pl.DataFrame,
    *,
    alone: bool = False,
) -> Tombstones:
    """Decode tombstone objects and find what they name: in the store (unless ``alone``), or among the rows that
    arrive with them."""
    obj, keyed = contract.root, key_contract(contract)
    found = Tombstones({}, arriving.clear(), pl.DataFrame(schema=_REFUSED), [], arriving.select(_AT).clear())
    named: list[pl.DataFrame] = []
    con = split.connect_for(keyed)
    try:
        for chunk in decoders.decode_many(contract.server, objects, keyed):
            found.chunks.append(chunk)
            found.decoded.update(chunk.root_counts)
            table = chunk.tables.get(obj.table)
            if table is not None and table.num_rows:
                named.append(split.read_keys(con, keyed, table))
    finally:
        con.close()
    if not named:
        return found
    keys = pl.concat(named)
    readable = pl.all_horizontal(pl.col(name).is_not_null() for name in obj.dedup)
    refused = [_refuse(keys.filter(~readable), obj, "delete.key", "删除通知的主键缺失或无法识别")]
    known = _named_rows(obj, batch["batch_id"], keys.filter(readable), arriving, alone=alone)
    refused.append(
        _refuse(
            keys.filter(readable).join(known, on=_AT, how="anti"),
            obj,
            "delete.unknown_key",
            "删除通知所指的记录不在库中",
        )
    )
    gone = known["_deleted_at"].is_not_null()
    found.again = known.filter(gone).select(_AT)
    found.rows = known.filter(~gone).with_columns(
        pl.lit(batch["as_of_at"]).cast(_MOMENT).alias("_deleted_at"),
        pl.lit(batch["batch_id"]).alias("_deleted_by"),
    ).select(arriving.columns)  # fmt: skip
    found.refused = pl.concat(refused)
    return found


def _refuse(rows: pl.DataFrame, obj: ObjectSpec, rule: str, reason: str) -> pl.DataFrame:
    return rows.select(*_AT, pl.lit(f"{obj.rule_prefix}.{rule}").alias("rule_id"), pl.lit(reason).alias("reason"))


def _named_rows(
    obj: ObjectSpec, batch_id: str, keys: pl.DataFrame, arriving: pl.DataFrame, *, alone: bool
) -> pl.DataFrame:
    """For each tombstone the row it names, with the tombstone's object and record: what arrives goes before what is stored."""
    content = [prop.name for prop in obj.properties]
    columns = [*content, "part_date", *MARKS]
    newest = arriving.unique(subset=obj.dedup, keep="last", maintain_order=True).select(columns)
    head = None if alone else tables.version(obj.table)
    if head is not None:
        con = query.connect()
        try:
            query.register(con, obj.table, head, view="stored")
            con.register("named", keys.select(obj.dedup).unique().to_arrow())
            same = " and ".join(f"s.{quote_name(name)} = n.{quote_name(name)}" for name in obj.dedup)
            stored = con.execute(
                f"select {', '.join('s.' + quote_name(name) for name in columns)} from stored s semi join named n on {same}"
                f" where s._batch_id <> {quote_literal(batch_id)}"
            ).pl()
        finally:
            con.close()
        stored = stored.cast(dict(zip(columns, newest.dtypes, strict=True)))
        newest = pl.concat([newest, stored.join(newest, on=obj.dedup, how="anti")])
    return keys.join(newest, on=obj.dedup, how="inner")


# ------------------------------------------------------------------------------------------------ absence
def absent(
    contract: Contract,
    batch: dict[str, Any],
    objects: list[dict[str, Any]],
    delivered: pl.DataFrame,
    decoded: dict[str, int],
    refused: pl.DataFrame,
) -> tuple[pl.DataFrame, str | None]:
    """Stored rows that the newest snapshot of the batch no longer lists (``_batch_id, _source_object, _record_no,
    part_date``), and, in Chinese, why nothing was concluded.

    Nothing is concluded from a snapshot with refused records (they may be the missing ones), from an empty one, or from one
    that came before another that was let in.
    """
    obj = contract.root
    nothing = pl.DataFrame(
        schema={"_batch_id": pl.String, "_source_object": pl.String, "_record_no": pl.Int64, "part_date": pl.Date}
    )
    head = tables.version(obj.table)
    if obj.deletes.by != "absence" or not objects or head is None:
        return nothing, None
    later = [
        row
        for row in ledger.batches(contract.id)
        if row["status"] in ("accepted", "partial")
        and (row["started_at"], row["batch_id"]) > (batch["started_at"], batch["batch_id"])
    ]
    if later:
        return nothing, "此后的快照已入库，不据此判定删除"
    newest = max(objects, key=lambda item: item["seq"])["sha256"]
    if not decoded.get(newest):
        return nothing, "快照没有任何记录，不据此判定删除"
    if not refused.filter(pl.col("_source_object") == newest).is_empty():
        return nothing, "快照中有被拒的记录，不据此判定删除"
    con = query.connect()
    try:
        query.register(con, obj.table, head, view="stored")
        con.register("listed", delivered.filter(pl.col("_source_object") == newest).select(obj.dedup).to_arrow())
        same = " and ".join(f"s.{quote_name(name)} is not distinct from l.{quote_name(name)}" for name in obj.dedup)
        found = con.execute(
            f"select s._batch_id, s._source_object, s._record_no, s.part_date from stored s anti join listed l on {same}"
            f" where s._deleted_at is null and s._batch_id <> {quote_literal(batch['batch_id'])}"
        ).pl()
    finally:
        con.close()
    return found.cast(nothing.schema), None


def mark_absent(obj: ObjectSpec, batch: dict[str, Any], rows: pl.DataFrame) -> None:
    """Mark stored rows as gone where they are; those that are marked already stay as they are."""
    if rows.is_empty():
        return
    tables.change_rows(
        obj.table,
        rows.with_columns(pl.lit(batch["as_of_at"]).cast(_MOMENT).alias("at"), pl.lit(batch["batch_id"]).alias("by")),
        ("_batch_id", "_source_object", "_record_no"),
        updates={"_deleted_at": "s.at", "_deleted_by": "s.by"},
        metadata={"tiyu.absent_in": batch["batch_id"]},
    )


__all__ = ["Tombstones", "absent", "is_tombstone", "key_contract", "mark_absent", "marked", "read_tombstones"]
