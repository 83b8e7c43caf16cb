"""What contracts say of their sources' habits still holds: corrections bind and have not expired."""

from __future__ import annotations

import duckdb

from catalog.checks.base import Check, Context, Findings
from catalog.contracts import ObjectSpec
from catalog.contracts.behaviour import Correction
from lake import clock
from lake.sql import quote_literal, quote_name


def run(context: Context, found: Findings) -> None:
    """Every correction runs over an empty row of its table; one past its date is a finding, because a mistake that never
    ends is either no mistake or nobody's business any more."""
    today = clock.today()
    for contract in context.contracts:
        if contract.kind != "source":
            continue
        for obj in contract.objects:
            found.count("habits", 1)
            found.count("batch_rules", len(obj.batch_rules))
            for item in obj.corrections:
                found.count("corrections", 1)
                where = f"{obj.rule_prefix}.correction.{item.id}"
                if item.expires < today:
                    found.add(
                        "correction_expired",
                        where,
                        f"更正已于 {item.expires} 到期：请来源方改正后删去，或重新批准并延期",
                    )
                if problem := _does_not_run(obj, item):
                    found.add("correction", where, problem)


def _does_not_run(obj: ObjectSpec, item: Correction) -> str | None:
    row = ", ".join(f"NULL::{prop.type} AS {quote_name(prop.name)}" for prop in obj.properties if not prop.derive)
    kind = obj.by_name[item.column].type
    with duckdb.connect() as con:
        try:
            con.execute(f"SELECT coalesce(({item.where}), false) FROM (SELECT {row})")
        except duckdb.Error as error:
            return f"条件不能执行：{type(error).__name__}"
        if item.to is None or kind in ("VARCHAR", "BOOLEAN") or obj.by_name[item.column].code_list:
            return None
        found = con.execute(f"SELECT try_cast({quote_literal(item.to)} AS {kind}) IS NOT NULL").fetchone()
        return None if found and found[0] else f"更正后的值不是有效的 {kind}"


CHECK = Check(
    "behaviour",
    "来源习惯",
    run,
    counts={"habits": "来源对象"},
    may_be_none={"corrections": "更正", "batch_rules": "批次规则"},
)
