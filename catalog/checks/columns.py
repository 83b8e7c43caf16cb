"""Every stored column: described, graded, marked, with a known unit; identifiers of persons at least L3."""

from __future__ import annotations

from catalog import units, vocabularies
from catalog.checks.base import Check, Context, Findings
from catalog.contracts.model import GRADES, PROTECTED_KINDS

PI_MARKS = ("N", "P", "S")


def run(context: Context, found: Findings) -> None:
    """One finding per fault of a column; tables are counted by origin, because none of a kind would go unnoticed."""
    rows = context.columns
    found.count("tables", len({row["table"] for row in rows}))
    found.count("columns", len(rows))
    from_contracts = {row["table"] for row in rows if row["origin"] in {contract.id for contract in context.contracts}}
    found.count("source_tables", len(from_contracts))
    found.count("dbt_tables", len({row["table"] for row in rows if row["origin"].endswith((".yml", ".yaml"))}))
    seen: set[tuple[str, str]] = set()
    for row in rows:
        where = f"{row['table']}.{row['column']}"
        if (row["table"], row["column"]) in seen:
            found.add("column_twice", where, "列声明了两次")
        seen.add((row["table"], row["column"]))
        if row["grade"] not in GRADES:
            found.add("ungraded", where, f"列没有定级，现为 {row['grade']}：在 {row['origin']} 中给这一列写 L1…L4")
        if not row["description"]:
            found.add("undescribed", where, "列没有说明")
        if row["unit"] and not units.is_known(str(row["unit"])):
            found.add("unknown_unit", where, f"单位不在单位表内：{row['unit']}")
        if row["code_list"] and not vocabularies.exists(str(row["code_list"])):
            found.add("unknown_code_list", where, f"没有这个代码表：{row['code_list']}")
        if row["pi_mark"] is not None and row["pi_mark"] not in PI_MARKS:
            found.add("pi_mark", where, f"个人信息标识只能是 N、P、S，现为 {row['pi_mark']}")
        personal = row["identifier_kind"] in PROTECTED_KINDS or row["column"].endswith("_token")
        if personal and row["pi_mark"] not in ("P", "S"):
            found.add("unmarked_personal", where, "个人标识没有标记为个人信息（P 或 S）")
        if personal and row["grade"] in GRADES and str(row["grade"]) < "L3":
            found.add("identifier_grade", where, f"个人标识的级别低于 L3：{row['grade']}")
        if row["pi_mark"] is None and row["grade"] in GRADES:
            found.add("unmarked", where, "列没有个人信息标识（N、P、S）")


CHECK = Check(
    "columns",
    "列",
    run,
    counts={"tables": "表", "source_tables": "来源表", "dbt_tables": "模型与运行表", "columns": "列"},
)
