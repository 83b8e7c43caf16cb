"""Whether what is about to be seen rests on valid certificates of its breakers.

A breaker (降级措施) makes a column less sensitive; the certificate says, from the data of one version, that it does.
`modeling.certify` computes it when a build has written the version; here it is asked before the version is released,
whoever releases it: a build, a DAG, or a gate typed by hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from catalog import breakers, columns
from catalog.breakers import Breaker, terms
from catalog.lineage import Origin
from lake import clock, ledger, tables

RULE = "breaker.certificate"


@dataclass(frozen=True)
class Standing:
    """How many columns with a declared breaker a table has, and what is wrong: (column, Chinese sentence)."""

    examined: int
    problems: tuple[tuple[str, str], ...] = ()


def grades() -> dict[Origin, tuple[str, str]]:
    """Declared grade and mark of every column."""
    return {Origin(r["table"], r["column"]): (str(r["grade"]), str(r["pi_mark"])) for r in columns.describe_all()}


def of_version(table: str, column: str, version: int) -> dict[str, Any] | None:
    """The stored certificate that speaks of exactly the rows of a version: its own, or that of an earlier version since
    which only commits without rows were made (compaction, changed descriptions). None when there is none."""
    stored = [r for r in ledger.certificates(table) if r["column_name"] == column and r["version"] <= version]
    if not stored:
        return None
    newest = max(stored, key=lambda row: int(row["version"]))
    same = newest["version"] == version or tables.touched_dates(table, newest["version"], version) == set()
    return newest if same else None


def problem(origin: Origin, breaker: Breaker, version: int, grade: str) -> str | None:
    """Why a column may not be shown at a version, as a Chinese sentence; None when its certificate holds."""
    row = of_version(origin.table, origin.column, version)
    if row is None:
        known = any(r["column_name"] == origin.column for r in ledger.certificates(origin.table))
        return "数据已更新，证书没有重新计算" if known else "没有证书"
    if not str(row["fingerprint"]).endswith(f".{terms(breaker, grade)}"):
        return "声明或门槛已改动，证书没有重新计算"
    if row["status"] == "invalid":
        return "证书无效：" + "；".join(json.loads(row["problems"]))
    if clock.today() > breaker.expires:
        return f"批准已于 {breaker.expires} 到期"
    return None


def standing(versions: Mapping[str, int]) -> dict[str, Standing]:
    """The standing of tables at the versions that are to be seen; tables without a breaker are left out."""
    declared, refused = breakers.load()
    found: dict[str, list[tuple[str, str | None]]] = {}
    graded = grades() if any(origin.table in versions for origin in declared) else {}
    for origin, breaker in declared.items():
        if origin.table in versions:
            text = problem(origin, breaker, versions[origin.table], graded[origin][0])
            found.setdefault(origin.table, []).append((origin.column, text))
    for origin, texts in refused.items():
        if origin.table in versions:
            found.setdefault(origin.table, []).append((origin.column, f"降级措施声明不合格：{texts[0]}"))
    return {
        table: Standing(len(asked), tuple((column, text) for column, text in asked if text is not None))
        for table, asked in found.items()
    }
