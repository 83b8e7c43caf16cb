"""Columns that bear another name in some objects: read under either name, refused outside the dates declared for it."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from catalog.contracts import ObjectSpec
from ingestion import conversion


def resolved(delivered: pa.Table, obj: ObjectSpec) -> pa.Table:
    """Delivered rows with the values of old names also under the name of the contract; the old columns stay, so that
    `rules` can see which rows used them."""
    for rename in obj.renames:
        if rename.from_name not in delivered.column_names:
            continue
        old = delivered[rename.from_name]
        if rename.to in delivered.column_names:
            place = delivered.column_names.index(rename.to)
            delivered = delivered.set_column(place, rename.to, pc.coalesce(delivered[rename.to], old))
        else:
            delivered = delivered.append_column(rename.to, old)
    return delivered


def rules(obj: ObjectSpec, present: set[str]) -> list[tuple[str, str, str]]:
    """Rule id, predicate and reason of the rules about old names, over judged rows with the columns ``present``."""
    found = []
    for rename in obj.renames:
        if conversion.SOURCE + rename.from_name not in present:
            continue
        old, new = conversion.source_column(rename.from_name), conversion.source_column(rename.to)
        date = conversion.part_date_expression(obj)
        bounds = [
            f"{date} {op} date '{day}'"
            for op, day in ((">=", rename.valid_from), ("<=", rename.valid_to))
            if day is not None
        ]
        since, until = rename.valid_from or "", rename.valid_to or ""
        rule_id = f"{obj.rule_prefix}.renamed.{rename.from_name}"
        found += [
            (
                rule_id,
                f"{old} is null or ({' and '.join(bounds)})",
                f"列名“{rename.from_name}”只在 {since}–{until} 之间使用，此日期的记录应写作“{rename.to}”",
            ),
            (
                f"{rule_id}.twice",
                f"{old} is null or {new} = {old}",
                f"“{rename.from_name}”与“{rename.to}”同时出现而内容不同，无法判断以哪一个为准",
            ),
        ]
    return found


__all__ = ["resolved", "rules"]
