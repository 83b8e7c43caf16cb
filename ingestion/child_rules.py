"""Rows that a decoder made of a record's parts (the sessions, laps and samples of an activity): judged by their own rules.

They come typed and have no fate of their own: where one breaks a rule that refuses, its record is refused as a whole, under
that rule and with the part's place; where it breaks a rule that warns, it is counted. Elements of lists in delivered
records, which are texts first, are for `ingestion.elements`.
"""

from __future__ import annotations

from datetime import datetime

import duckdb
import polars as pl
import pyarrow as pa

from catalog import rules as rule_compiler
from catalog.contracts import Contract, ObjectSpec
from catalog.rules import CompiledRule
from ingestion.split import Split
from lake.sql import quote_name, quote_whole

_AT = ["_source_object", "_record_no"]


def judge(
    con: duckdb.DuckDBPyConnection,
    contract: Contract,
    obj: ObjectSpec,
    root: Split,
    delivered: dict[str, pa.Table],
    as_of: datetime | None,
) -> None:
    """Judge the child rows in a decoded chunk that belong to accepted rows of the root table ``obj``. ``root`` is changed:
    records with a part that may not be stored leave it, and it counts what was examined and warned about."""
    refused: list[pl.DataFrame] = []
    for child in (item for item in contract.objects if item.parent == obj.table):
        rows = delivered.get(child.table)
        if rows is None or not rows.num_rows or not root.rows.num_rows:
            continue
        compiled = [rule_compiler.compile(rule, as_of=as_of) for rule in child.rules]
        compiled = [rule for rule in compiled if set(rule.columns) <= set(rows.column_names)]
        con.register("_parts", rows)
        con.register("_records", root.rows.select([*_AT, *child.parent_key]))
        try:
            refused.append(_look(con, child, compiled, root, "_record_no" in rows.column_names))
        finally:
            con.unregister("_parts")
            con.unregister("_records")
    if not refused:
        return
    first = pl.concat(refused).unique(_AT, keep="first", maintain_order=True)
    if not first.is_empty():
        kept = root.accepted.join(first.select(_AT), on=_AT, how="anti", maintain_order="left")
        root.rows = kept.to_arrow()
        root.refused = pl.concat(
            [root.refused, first.with_columns(preview=pl.lit(None, pl.String)).select(root.refused.columns)],
            how="vertical_relaxed",
        )


def _look(
    con: duckdb.DuckDBPyConnection, child: ObjectSpec, compiled: list[CompiledRule], root: Split, has_number: bool
) -> pl.DataFrame:
    """The records that a rule over one child table refuses: ``_source_object, _record_no, rule_id, reason``."""
    none = pl.DataFrame(
        schema={"_source_object": pl.String, "_record_no": pl.Int64, "rule_id": pl.String, "reason": pl.String}
    )
    key = ", ".join(["_source_object", *map(quote_name, child.parent_key), *(["_record_no"] if has_number else [])])
    parts = f"(select p.* from _parts as p semi join _records as r using ({key}))"
    counts = ", ".join(f"count(*) filter (where not {rule.predicate})" for rule in compiled)
    examined, *broken = con.execute(f"select count(*){', ' if counts else ''}{counts} from {parts}").fetchone() or (0,)
    found = [none]
    for rule, count in zip(compiled, broken, strict=True):
        root.examined[rule.rule_id] = root.examined.get(rule.rule_id, 0) + examined
        if not count:
            continue
        if rule.severity == "warn":
            root.warned[rule.rule_id] = root.warned.get(rule.rule_id, 0) + count
            continue
        places = con.execute(
            f"select r._source_object, r._record_no, min(p.{quote_whole(_number(child))}) as place from _parts as p "
            f"join _records as r using ({key}) where not {rule.predicate} group by all order by all"
        ).pl()
        title = child.by_name[_number(child)].title_zh
        place = pl.concat_str(
            pl.lit(f"{rule.message_zh}（{child.title_zh}，{title} "), pl.col("place").cast(pl.String), pl.lit("）")
        )
        found.append(places.with_columns(rule_id=pl.lit(rule.rule_id), reason=place).select(none.columns))
    return pl.concat(found, how="vertical_relaxed")


def _number(child: ObjectSpec) -> str:
    """The column that counts the parts of a record."""
    return next(name for name in reversed(child.dedup) if name not in child.parent_key)
