"""Every column against the grading rules: declared below what is suggested is a problem, unless an exception was approved."""

from __future__ import annotations

from catalog.checks.base import Check, Context, Findings
from catalog.columns import dbt_models_dir
from catalog.grading import declarations, fields
from lake import clock


def run(context: Context, found: Findings) -> None:
    """Suggest from names and contracts, compare with what is declared, and look at the exceptions themselves."""
    rows = context.columns
    whole = context.dbt_models == dbt_models_dir()  # a part of the models cannot say that a column is gone
    found.count("graded_columns", len(rows))
    found.count("grading_items", len(declarations.load().items))
    suggestions = fields.suggest(rows)
    found.count("grade_suggestions", len(suggestions))
    used: set[tuple[str, str]] = set()
    today = clock.today()
    for item in fields.disagreements(rows, suggestions, today):
        suggestion, where = item.suggestion, f"{item.suggestion.table}.{item.suggestion.column}"
        used.add((where, suggestion.item))
        if item.accepted:
            continue
        found.add(
            "grade_low",
            where,
            f"声明 {item.declared_level or '未定级'}（{item.declared_mark or '未标'}）低于规则 {suggestion.rule} 建议的 "
            f"{suggestion.level}（{suggestion.mark}）；依据：{suggestion.evidence}。"
            "改正声明，或在 catalog/grading/overrides.yaml 写明理由与批准人",
        )
    for override in declarations.overrides():
        found.count("grade_overrides", 1)
        table, _, column = override.column.partition(".")
        if column not in context.tables.get(table, {}):
            if whole or table in context.tables:
                found.add("override_dead", override.column, "例外所指的列不存在")
        elif override.expires <= today:
            found.add("override_expired", override.column, f"例外已于 {override.expires} 到期，须重新审核")
        elif (override.column, override.item) not in used:
            found.add("override_unused", override.column, f"例外“{override.item}”已无必要，请删除")


CHECK = Check(
    "grading",
    "分级",
    run,
    counts={"graded_columns": "已定级比对的列", "grading_items": "分级对象", "grade_suggestions": "分级建议"},
    may_be_none={"grade_overrides": "分级例外"},
)
