"""The certificate of a breaker: what the data shows, judged against the limits of the rules table.

It holds numbers about groups, never a value of the data. It is bound to the SQL, the declaration and the versions it
was computed from; more rows make a new one necessary.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from catalog import rules_table
from catalog.breakers.declaration import KINDS, Breaker


@dataclass(frozen=True)
class Limits:
    """Smallest group k, smallest number l of sensitive values, largest shares of the first and the first two persons
    (fractions), smallest remainder in proportion to the largest (p%)."""

    k: int
    l_diversity: int
    top1_share: float
    top2_share: float
    p_percent: float


@dataclass(frozen=True)
class Evidence:
    """What a query of evidence returned; the figures are None when there is no group (or none apply)."""

    groups: int
    smallest_group: int | None = None
    l_diversity: int | None = None
    top1_share: float | None = None
    top2_share: float | None = None
    p_percent: float | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Evidence:
        """From one row of the query of evidence."""
        number = {
            name: None if row[name] is None else float(row[name]) for name in ("top1_share", "top2_share", "p_percent")
        }
        whole = {name: None if row[name] is None else int(row[name]) for name in ("smallest_group", "l_diversity")}
        return cls(groups=int(row["groups"]), **whole, **number)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Certificate:
    """One judged breaker. status: valid | invalid | empty (nothing is shown yet, so nothing is disclosed).

    fingerprint: of the SQL, a dot, and the `terms`: declaration and limits. inputs: version of every table read.
    """

    table: str
    column: str
    kind: str
    status: str
    evidence: Evidence
    problems: tuple[str, ...]
    approver: str
    expires: date
    fingerprint: str
    inputs: Mapping[str, int | None]


def limits(grade: str) -> Limits:
    """The limits for a column declared with a grade: L1 may be opened and needs the larger k."""

    def value(rule_id: str, bound: str) -> float:
        found = getattr(rules_table.get(rule_id), f"value_{bound}")
        assert found is not None, rule_id
        return float(found)

    return Limits(
        k=int(value("disclosure.k_open" if grade <= "L1" else "disclosure.k_internal", "min")),
        l_diversity=int(value("disclosure.l_diversity", "min")),
        top1_share=value("disclosure.top1_share", "max") / 100,
        top2_share=value("disclosure.top2_share", "max") / 100,
        p_percent=value("disclosure.p_percent", "min") / 100,
    )


def terms(breaker: Breaker, grade: str) -> str:
    """Fingerprint of what was declared and of the limits that a certificate was judged by."""
    text = breaker.model_dump_json() + json.dumps(asdict(limits(grade)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def floor_problems(breaker: Breaker, grade: str, mark: str) -> list[str]:
    """Whether the kind may bring a column down this far."""
    kind = KINDS[breaker.kind]
    found = []
    if grade < kind.lowest_grade:
        found.append(f"{kind.title_zh}最多降到 {kind.lowest_grade}，声明为 {grade}")
    if mark < kind.lowest_mark:
        found.append(f"{kind.title_zh}之后仍是个人信息，标识最低为 {kind.lowest_mark}，声明为 {mark}")
    return found


def judge(breaker: Breaker, evidence: Evidence, bound: Limits, on: date) -> tuple[str, list[str]]:
    """Status and problems of a breaker on a business date."""
    found = []
    if on > breaker.expires:
        found.append(f"批准已于 {breaker.expires} 到期")
    if on < breaker.approved:
        found.append(f"批准自 {breaker.approved} 起有效")
    if evidence.groups == 0:
        return ("invalid" if found else "empty"), found
    if evidence.smallest_group is None or evidence.smallest_group < bound.k:
        found.append(f"最小的组只有 {evidence.smallest_group or 0} 人，少于 {bound.k}")
    if breaker.sensitive and (evidence.l_diversity is None or evidence.l_diversity < bound.l_diversity):
        found.append(f"有的组里 {breaker.sensitive} 只有 {evidence.l_diversity or 0} 种取值，少于 {bound.l_diversity}")
    if evidence.top1_share is not None and evidence.top1_share > bound.top1_share:
        found.append(f"一个人占一组的 {evidence.top1_share:.0%}，超过 {bound.top1_share:.0%}")
    if evidence.top2_share is not None and evidence.top2_share > bound.top2_share:
        found.append(f"两个人占一组的 {evidence.top2_share:.0%}，超过 {bound.top2_share:.0%}")
    if evidence.p_percent is not None and evidence.p_percent < bound.p_percent:
        found.append(f"其余人之和不足最大者的 {bound.p_percent:.0%}，可以反推最大者")
    return ("invalid" if found else "valid"), found
