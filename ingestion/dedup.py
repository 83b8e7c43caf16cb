"""Repeated records: the same one delivered again, or another one under a key that is known, within a batch or earlier."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any

import duckdb
import polars as pl

from catalog.contracts import Contract, ObjectSpec
from catalog.contracts.behaviour import Dedup
from ingestion import elements
from lake import ledger, query, tables
from lake.query import quote_literal, quote_name

_AT = ["_source_object", "_record_no"]
REPLACED = {
    "batch_id": pl.String,
    "source_object": pl.String,
    "record_no": pl.Int64,
    "part_date": pl.Date,
    "by_batch_id": pl.String,
    "by_source_object": pl.String,
    "by_record_no": pl.Int64,
}


@dataclass
class Deduplicated:
    """unique: rows to store. duplicates: ``_source_object, _record_no`` of repeated rows. conflicts: same, for rows
    that repeat a key with different content (they are quarantined: neither version may silently win).

    superseded: accepted rows that are not stored because a newer one is or comes with them. replaced: rows that a newer
    one takes the place of, by ``batch_id, source_object, record_no`` and its ``by_batch_id, by_source_object,
    by_record_no``; ``part_date`` is null for one that was never stored.
    """

    unique: pl.DataFrame
    duplicates: pl.DataFrame
    conflicts: pl.DataFrame
    superseded: pl.DataFrame = field(default_factory=pl.DataFrame)
    replaced: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=REPLACED))

    @property
    def accepted(self) -> pl.DataFrame:
        """``_source_object, _record_no, part_date`` of all rows that count as accepted."""
        columns = [*_AT, "part_date"]
        kept = self.unique.select(columns)
        return kept if self.superseded.is_empty() else pl.concat([kept, self.superseded.select(columns)])


def deduplicate(
    rows: pl.DataFrame,
    obj: ObjectSpec,
    batch_id: str,
    object_order: dict[str, int],
    *,
    same_key_is_duplicate: bool,
    replayed: bool = False,
    alone: bool = False,
    window: tuple[date, date] | None = None,
    database: duckdb.DuckDBPyConnection | None = None,
    contract: Contract | None = None,
) -> Deduplicated:
    """Decide by the contract's `dedup` which rows are stored, in delivery order.

    Earlier rows are looked up in the head of the ODS table within the literal date range of the batch (the key's date
    never changes, so a repetition lies in the same partitions); only where a newer record replaces and the date is no part
    of the key, in all of it. Rows of this very batch are left out of the look-up, so that repeating an interrupted batch
    gives the same result. ``same_key_is_duplicate`` is for device files, where the same activity arrives in several
    formats. ``replayed`` says that the rows are only some of the batch's: its other rows count as stored. ``alone`` compares the rows with each other only, and opens neither lake nor ledger.
    ``window`` is the batch's date range where these rows are only some of it; ``database`` (of `lake.query`) is one to work in.
    ``contract`` is needed where its records hold lists: then what they say is also what their elements say (`ingestion.elements`).
    """
    rule = obj.dedup_rule or Dedup(key=obj.dedup)
    empty = rows.select(_AT).clear()
    if rows.is_empty() or (rule.on_same == "keep" and rule.on_changed == "version"):
        return Deduplicated(rows, empty, empty)
    con = database.cursor() if database else query.connect()
    try:
        order = pl.DataFrame({"_source_object": list(object_order), "_seq": list(object_order.values())})
        con.register("incoming", rows.join(order, on="_source_object", how="left").to_arrow())
        keys = [quote_name(key) for key in obj.dedup]
        columns = elements.content_columns(contract) if contract else [prop.name for prop in obj.properties]
        content = f"hash({', '.join(map(quote_name, columns))})"
        stored = not alone and _register_stored(con, rows, obj, batch_id, rule, window, contract, replayed=replayed)
        if rule.on_changed == "newest":
            return _newest(con, rows, obj, rule, batch_id, keys, content, stored=stored)
        verdict = _first(con, keys, content, rule, stored=stored)
    finally:
        con.close()
    if rule.on_same == "keep":
        verdict = verdict.with_columns(pl.col("verdict").replace({"duplicate": "unique"}))
    if same_key_is_duplicate:
        verdict = verdict.with_columns(pl.col("verdict").replace({"conflict": "duplicate"}))
    by = verdict.partition_by("verdict", as_dict=True, include_key=False)
    keep = by.get(("unique",), empty)
    return Deduplicated(
        rows.join(keep, on=_AT, how="semi"), by.get(("duplicate",), empty), by.get(("conflict",), empty)
    )


def _register_stored(
    con: duckdb.DuckDBPyConnection,
    rows: pl.DataFrame,
    obj: ObjectSpec,
    batch_id: str,
    rule: Dedup,
    dates: tuple[date, date] | None,
    contract: Contract | None,
    *,
    replayed: bool,
) -> bool:
    """A view ``earlier_rows`` of the stored rows that may be repeated; False when there is no table yet."""
    head = tables.version(obj.table)
    if head is None:
        return False
    query.add_delta(con)
    if contract:
        days: Any = dates or (rows["part_date"].min(), rows["part_date"].max())
        elements.register_stored(con, contract, head, "stored", days)
    else:
        query.register(con, obj.table, head, view="stored")
    own = f"s._batch_id <> {quote_literal(batch_id)}"
    if replayed:
        own = f"({own} or (s._source_object, s._record_no) not in (select (_source_object, _record_no) from incoming))"
    first, last = map(str, dates or (rows["part_date"].min(), rows["part_date"].max()))
    moves = rule.on_changed == "newest" and obj.part_date not in rule.key
    window = "" if moves else f"part_date >= date '{first}' and part_date <= date '{last}' and "
    con.execute(f"create temp view earlier_rows as select * from stored s where {window}{own}")
    return True


def _first(con: duckdb.DuckDBPyConnection, keys: list[str], content: str, rule: Dedup, *, stored: bool) -> pl.DataFrame:
    """The first of a key is stored; what says the same is a duplicate, what says something else a conflict. Where every
    version is stored, the content belongs to the key."""
    names = ", ".join(keys)
    told_apart = [*keys, "_content"] if rule.on_changed == "version" else keys
    per = ", ".join(told_apart)
    con.execute(
        f"create temp table hashed as select _source_object, _record_no, _seq, {names}, {content} as _content from incoming"
    )
    con.execute(
        f"create temp table numbered as select *, row_number() over (partition by {per} order by _seq, _record_no) as _nth, "
        f"first_value(_content) over (partition by {per} order by _seq, _record_no) as _first from hashed"
    )
    if stored:
        con.execute(
            f"create temp table earlier as select {names}, any_value(_content) as _content from"
            f" (select {names}, {content} as _content from earlier_rows) as h group by {per}"
        )
    else:
        con.execute(f"create temp table earlier as select {names}, _content from numbered where false")
    on = " and ".join(f"n.{key} is not distinct from e.{key}" for key in told_apart)
    return con.execute(
        "select n._source_object, n._record_no, case "
        "when e._content is not null then case when e._content = n._content then 'duplicate' else 'conflict' end "
        "when n._nth = 1 then 'unique' when n._first = n._content then 'duplicate' else 'conflict' end as verdict "
        f"from numbered n left join earlier e on {on}"
    ).pl()


def _newest(
    con: duckdb.DuckDBPyConnection,
    rows: pl.DataFrame,
    obj: ObjectSpec,
    rule: Dedup,
    batch_id: str,
    keys: list[str],
    content: str,
    *,
    stored: bool,
) -> Deduplicated:
    """The newest of a key is stored. Newer is what the column `by` says; without one, what was delivered later.

    Of several that are equally new the first delivered stays, and what contradicts it is a conflict. A row that comes back
    after it was said to be gone replaces the deleted one, although it may be no newer by itself.
    """
    names = ", ".join(keys)
    gone = "_deleted_at is not null" if obj.deletes.by != "none" else "false"
    ordinals = {row["batch_id"]: number for number, row in enumerate(ledger.batches() if stored else ())}
    con.register(
        "delivered", pl.DataFrame({"id": list(ordinals), "ordinal": list(ordinals.values())}, schema={"id": pl.String, "ordinal": pl.Int64}).to_arrow()
    )  # fmt: skip
    mine = ordinals.get(batch_id, len(ordinals))
    by = f"cast({quote_name(rule.by)} as varchar)" if rule.by else None
    if rule.by:  # times and whole numbers in one comparable form; a missing one is older than any
        kind = obj.by_name[rule.by].type
        by = f"coalesce(epoch_us(cast({quote_name(rule.by)} as timestamptz)), -9223372036854775807)"
        if kind in ("BIGINT", "INTEGER"):
            by = f"coalesce(cast({quote_name(rule.by)} as bigint), -9223372036854775807)"
    con.execute(
        f"create temp table numbered as select *, row_number() over (partition by {names} order by _rank desc, _gone desc, _place) as _nth from"
        f" (select _source_object, _record_no, part_date, {names}, {content} as _content, {gone} as _gone,"
        f" row_number() over (order by _seq, _record_no) as _place, {by or 'row_number() over (order by _seq, _record_no)'} as _rank"
        f" from incoming) as i"
    )
    con.execute(
        f"create temp table earlier as select _batch_id, _source_object, _record_no, part_date, {names}, {content} as _content,"
        f" {gone} as _gone, d.ordinal as _ordinal, {by or '0'} as _rank from earlier_rows as s left join delivered as d on d.id = s._batch_id"
        if stored
        else "create temp table earlier as select *, ''::varchar as _batch_id, 0::bigint as _ordinal from numbered where false"
    )
    same_key = " and ".join(f"n.{key} is not distinct from e.{key}" for key in keys)
    same_winner = " and ".join(f"n.{key} is not distinct from w.{key}" for key in keys)
    if rule.by:
        newer = "w._rank > e._rank or (e._gone and not w._gone and w._rank = e._rank) or (w._gone and not e._gone and w._rank = e._rank)"
        older = "w._rank < e._rank"
    else:
        newer, older = f"coalesce(e._ordinal, -1) < {mine}", f"coalesce(e._ordinal, -1) > {mine}"
    # the best of the batch, and how it stands to what is stored
    con.execute(
        "create temp table winner as select w.*, e._batch_id as e_batch, e._source_object as e_object, e._record_no as e_record,"
        " e.part_date as e_date, case when e._batch_id is null then 'unique'"
        " when e._content = w._content and e._gone = w._gone then 'duplicate'"
        f" when {newer} then 'unique' when {older} then 'superseded' else 'conflict' end as _verdict"
        f" from (select * from numbered where _nth = 1) as w left join earlier as e on {same_key.replace('n.', 'w.')}"
    )
    verdict = con.execute(
        "select n._source_object, n._record_no, case when n._nth = 1 then w._verdict"
        " when n._content = w._content and n._gone = w._gone then 'duplicate'"
        " when n._content <> w._content and n._rank = w._rank then 'conflict' else 'superseded' end as verdict,"
        # what takes its place: the batch's best if that is stored, else what is stored already
        " case when n._nth > 1 and w._verdict = 'unique' then w._source_object else w.e_object end as by_source_object,"
        " case when n._nth > 1 and w._verdict = 'unique' then w._record_no else w.e_record end as by_record_no,"
        f" case when n._nth > 1 and w._verdict = 'unique' then {quote_literal(batch_id)} else w.e_batch end as by_batch_id"
        f" from numbered n join winner w on {same_winner}"
    ).pl()
    taken = con.execute(
        "select e_batch as batch_id, e_object as source_object, e_record as record_no, e_date as part_date,"
        f" {quote_literal(batch_id)} as by_batch_id, _source_object as by_source_object, _record_no as by_record_no"
        " from winner where _verdict = 'unique' and e_batch is not null"
    ).pl()
    of = {name: verdict.filter(pl.col("verdict") == name) for name in ("unique", "duplicate", "conflict", "superseded")}
    never = of["superseded"].select(
        pl.lit(batch_id).alias("batch_id"),
        pl.col("_source_object").alias("source_object"),
        pl.col("_record_no").alias("record_no"),
        pl.lit(None, pl.Date).alias("part_date"),
        "by_batch_id",
        "by_source_object",
        "by_record_no",
    )
    return Deduplicated(
        rows.join(of["unique"].select(_AT), on=_AT, how="semi"),
        of["duplicate"].select(_AT),
        of["conflict"].select(_AT),
        rows.join(of["superseded"].select(_AT), on=_AT, how="semi"),
        pl.concat([taken.cast(REPLACED), never.cast(REPLACED)]),  # type: ignore[arg-type]
    )


__all__ = ["REPLACED", "Deduplicated", "deduplicate"]
