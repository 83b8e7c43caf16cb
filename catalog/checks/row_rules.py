"""Every row rule of a contract can be asked of its table: it compiles, and the engine finds its columns, types and functions."""

from __future__ import annotations

import duckdb

from catalog import rules
from catalog.checks.base import Check, Context, Findings
from catalog.contracts import ObjectSpec
from lake.sql import quote_whole


def run(context: Context, found: Findings) -> None:
    """Any failure to compile or to bind is a finding about the declaration."""
    with duckdb.connect() as con:
        for contract in context.contracts:
            for obj in contract.objects:
                row = _row(obj)
                for rule in obj.rules:
                    found.count("rules", 1)
                    try:
                        compiled = rules.compile(rule)
                        if compiled.references:  # the other table is not here
                            duckdb.extract_statements(f"SELECT {compiled.predicate}")
                        else:
                            con.execute(f"SELECT {compiled.predicate} FROM ({row}) WHERE false")
                    except Exception as error:
                        said = str(error).strip().splitlines()[0]
                        found.add("rule", rule.rule_id, f"规则不能编译：{type(error).__name__}（{said}）")


def _row(obj: ObjectSpec) -> str:
    """A row of a table as its rules see it: stored columns, and identifiers as they were delivered."""
    types = {prop.name: prop.type for prop in obj.properties}
    types |= {prop.raw_name: "VARCHAR" for prop in obj.properties if prop.raw_name not in types}
    return "SELECT " + ", ".join(f"NULL::{kind} AS {quote_whole(name)}" for name, kind in types.items())


CHECK = Check("row_rules", "行规则", run, counts={"rules": "行规则"})
