"""Code lists, rules table and KPIs read well; KPI sources exist."""

from __future__ import annotations

from catalog import kpis, rules_table, vocabularies
from catalog.checks.base import Check, Context, Findings


def run(context: Context, found: Findings) -> None:
    """A file that does not read well raises DeclarationError, which the runner lists."""
    for name in vocabularies.names():
        vocabularies.load(name)
        found.count("code_lists", 1)
    found.count("rule_rows", len(rules_table.load_all()))
    known = {c.id for c in context.contracts} | set(context.tables)
    for kpi in kpis.load_all().values():
        found.count("kpis", 1)
        for source in kpi.sources:
            if source not in known:
                found.add("kpi_source", f"{kpi.code}.{source}", "指标的来源资源不存在")


CHECK = Check(
    "declarations",
    "代码表、规则表与指标",
    run,
    counts={"code_lists": "代码表", "rule_rows": "规则表行", "kpis": "指标"},
)
