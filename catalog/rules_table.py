"""The table of rules: every threshold of a law or standard, and of our own design, with where it comes from.

A row is law only if its text was verified (provenance V1 or V2) and it names standard and date; a figure of our own
design or from memory (`DESIGN`, `K-*`) can never claim to be law, because a screen would repeat that claim.
"""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from catalog import units, yamlfile
from catalog.problems import DeclarationError

FOLDER = Path(__file__).resolve().parent / "rules"
_WEAK = re.compile(r"DESIGN|K-[HML]")
_VERIFIED = re.compile(r"^V[12]\b")


class RuleRow(BaseModel):
    """One threshold. value_min and value_max are inclusive; None means no bound on that side."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule_id: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$")
    subject: str
    item: str
    standard: str | None = None
    clause: str | None = None
    value_min: float | None = None
    value_max: float | None = None
    unit: str | None = None
    effective_from: date
    effective_to: date | None = None
    provenance: str
    is_law: bool
    note_zh: str

    @model_validator(mode="after")
    def _honest(self) -> RuleRow:
        if self.is_law and (_WEAK.search(self.provenance) or not _VERIFIED.match(self.provenance)):
            raise ValueError("a rule that is DESIGN or from memory must not be marked as law")
        if self.is_law and not (self.standard and self.clause):
            raise ValueError("a rule of law needs standard and clause")
        if not (_WEAK.search(self.provenance) or _VERIFIED.match(self.provenance)):
            raise ValueError("provenance must begin with V1 or V2, or name K-H, K-M, K-L or DESIGN")
        if self.value_min is not None and self.value_max is not None and self.value_min > self.value_max:
            raise ValueError("value_min is above value_max")
        if self.effective_to and self.effective_to < self.effective_from:
            raise ValueError("effective_to is before effective_from")
        if (self.value_min is not None or self.value_max is not None) and not self.unit:
            raise ValueError("a value needs a unit")
        return self


def check_rows(content: Any, where: str) -> tuple[list[RuleRow], list[str]]:
    """Rows and problems of one parsed rules file."""
    if not isinstance(content, dict) or set(content) != {"rules"} or not content["rules"]:
        return [], [f"{where}: one key `rules` with at least one row is needed"]
    rows: list[RuleRow] = []
    problems: list[str] = []
    for item in content["rules"]:
        name = item.get("rule_id", "?")
        try:
            row = RuleRow.model_validate(item)
        except ValidationError as error:
            problems += [f"{where}.{name}.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
            continue
        if row.unit and not units.is_known(row.unit):
            problems.append(f"{where}.{name}: unknown unit {row.unit}")
        rows.append(row)
    return rows, problems


@lru_cache(maxsize=4)
def _load(key: tuple[tuple[str, int, int], ...]) -> tuple[RuleRow, ...]:
    rows: list[RuleRow] = []
    problems: list[str] = []
    for file, _, _ in key:
        found, wrong = check_rows(yamlfile.read(Path(file)), Path(file).name)
        rows += found
        problems += wrong
    seen: set[str] = set()
    for row in rows:
        if row.rule_id in seen:
            problems.append(f"{row.rule_id}: the id is used twice")
        seen.add(row.rule_id)
    for n, a in enumerate(rows):
        for b in rows[n + 1 :]:
            overlap = a.effective_from <= (b.effective_to or date.max) and b.effective_from <= (
                a.effective_to or date.max
            )
            if (a.subject, a.item) == (b.subject, b.item) and overlap:
                problems.append(f"{a.rule_id}, {b.rule_id}: two rules for {a.subject}.{a.item} at the same time")
    if problems:
        raise DeclarationError(
            "TIYU-CAT-0008", "规则表不合格，拒绝使用", "按列出的位置修改 catalog/rules 下的文件", problems
        )
    return tuple(rows)


def load_all(folder: Path = FOLDER) -> list[RuleRow]:
    """All rows. Raises DeclarationError TIYU-CAT-0008."""
    return list(_load(yamlfile.fingerprint(folder, "*.yaml")))


def get(rule_id: str, on: date | None = None) -> RuleRow:
    """One row by id; with `on`, it must be in force that day. Raises KeyError otherwise."""
    for row in load_all():
        if row.rule_id == rule_id and (on is None or row.effective_from <= on <= (row.effective_to or date.max)):
            return row
    raise KeyError(rule_id)
