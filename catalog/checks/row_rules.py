"""Every row rule of a contract compiles to SQL that parses."""

from __future__ import annotations

import duckdb

from catalog import rules
from catalog.checks.base import Check, Context, Findings


def run(context: Context, found: Findings) -> None:
    """Any failure to compile is a finding about the declaration."""
    for contract in context.contracts:
        for obj in contract.objects:
            for rule in obj.rules:
                found.count("rules", 1)
                try:
                    duckdb.extract_statements(f"SELECT {rules.compile(rule).predicate}")
                except Exception as error:
                    found.add("rule", rule.rule_id, f"规则不能编译：{type(error).__name__}")


CHECK = Check("row_rules", "行规则", run, counts={"rules": "行规则"})
