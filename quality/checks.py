"""What the quality gate asks of a table: one `Check` per rule, built from contracts (ODS) or declarations (ADS).

A check is either a *row* predicate (TRUE = the row is fine), a *key* (must be unique inside a partition) or a *table*
condition (an aggregate that must be TRUE, per group). All three become the same Great Expectations expectation, an
`UnexpectedRowsExpectation` over the judged view, so that GX decides and we know how to find the rows again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from lake.errors import EXIT_INTERNAL, TiyuError
from lake.query import quote_literal, quote_name

DECLARATIONS = Path(__file__).parent / "declarations" / "ads.yaml"

#: Recorded for every table judged: did the gate look at anything at all?
EXAMINED_RULE = "QG-EXAMINED"


@dataclass(frozen=True)
class Check:
    """One rule on one table.

    kind row: `expression` is a predicate over one row, TRUE means fine, anything else is a failure.
    kind key: `columns` must be unique inside a partition.
    kind table: `expression` is an aggregate condition that must be TRUE for each group of `columns` (all rows if none).
    """

    rule_id: str
    kind: Literal["row", "key", "table"]
    message_zh: str
    expression: str = ""
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableChecks:
    """All checks of one table and what the gate must know about it."""

    table: str
    checks: tuple[Check, ...]
    may_be_empty: bool = False
    part_column: str | None = "part_date"
    references: tuple[str, ...] = ()  # other lake tables a predicate names
    skipped: tuple[str, ...] = field(default=())  # rules whose columns do not exist on stored data


def not_null(column: str, rule_id: str | None = None) -> Check:
    """The column is never null."""
    return Check(
        rule_id or f"not_null:{column}", "row", f"{column} 不得为空", f"{quote_name(column)} IS NOT NULL", (column,)
    )


def unique(columns: list[str], rule_id: str | None = None) -> Check:
    """The columns together are unique inside a partition."""
    return Check(
        rule_id or f"unique:{'+'.join(columns)}",
        "key",
        f"{'、'.join(columns)} 在同一分区内不得重复",
        "",
        tuple(columns),
    )


def one_of(column: str, values: list[str], rule_id: str, *, nullable: bool) -> Check:
    """The column holds only listed codes."""
    listed = ", ".join(quote_literal(value) for value in values)
    name = quote_name(column)
    allowed = f"{name} IN ({listed})" + (f" OR {name} IS NULL" if nullable else "")
    return Check(rule_id, "row", f"{column} 取值不在代码表内", allowed, (column,))


# --- ADS ---------------------------------------------------------------------------------------------------------


def _district_codes() -> list[str]:
    from catalog import vocabularies

    return [str(row["code"]) for row in vocabularies.load("district")] + ["310000"]


def load_declarations(path: Path = DECLARATIONS) -> dict[str, dict[str, Any]]:
    """The declared ADS rules, one entry per table; raises TIYU-QG-0004 on an unknown key (a typo must not pass)."""
    declared: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))["tables"]
    known = {"grain", "key", "not_null", "district_code", "rows", "groups", "may_be_empty", "part_column"}
    for table, entry in declared.items():
        unknown = set(entry) - known
        if unknown or not entry.get("key") or not entry.get("grain"):
            raise TiyuError(
                "TIYU-QG-0004", "应用层质量规则声明有误", "对照 quality/declarations/ads.yaml 中其他表修改", EXIT_INTERNAL,
                table=table, unknown=sorted(unknown) or None,
            )  # fmt: skip
    return declared


def ads_checks(table: str, columns: list[str]) -> TableChecks:
    """The checks of an ADS table from `quality/declarations/ads.yaml`.

    Raises TIYU-QG-0003 for a table nobody declared a rule for: what is not judged is not shown.
    """
    entry = load_declarations().get(table)
    if entry is None:
        raise TiyuError(
            "TIYU-QG-0003", "该表没有声明质量规则，不能放行", "在 quality/declarations/ads.yaml 中为它声明主键与规则", EXIT_INTERNAL,
            table=table,
        )  # fmt: skip
    checks = [unique(list(entry["key"]))]
    for column in entry.get("not_null", []):
        checks.append(not_null(column))
    if entry.get("district_code"):
        column = entry["district_code"]
        checks.append(
            one_of(column, _district_codes(), f"district:{column}", nullable=column not in entry.get("not_null", []))
        )
    for rule in entry.get("rows", []):
        checks.append(Check(rule["id"], "row", rule["message"], rule["predicate"]))
    for rule in entry.get("groups", []):
        checks.append(Check(rule["id"], "table", rule["message"], rule["condition"], tuple(rule.get("by", []))))
    part_column = entry.get("part_column", "part_date" if "part_date" in columns else None)
    return TableChecks(table, tuple(checks), bool(entry.get("may_be_empty")), part_column)
