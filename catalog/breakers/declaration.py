"""The declaration of a breaker: `meta.breaker` of a column of a dbt model.

breaker:
  kind: count                  what the SQL does, see KINDS
  subject: person_token        the column that tells persons apart, where the aggregation reads it
  sensitive: is_minor          only for `share` and `band`: the attribute that must differ within a group
  group: [age_band, district]  only for `band`: the output columns that together could point at a person
  reason: 区与月的人数，少于 k 人的格不给出
  approver: 信息化处 数据安全管理岗
  approved: "2026-11-20"
  expires: "2027-11-19"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from catalog import columns, rules_table
from catalog.lineage import Origin


@dataclass(frozen=True)
class Kind:
    """A way of making data less sensitive. lowest_*: how far a breaker of this kind may bring a column down."""

    title_zh: str
    lowest_grade: str
    lowest_mark: str


KINDS: Mapping[str, Kind] = {
    "count": Kind("计数", "L1", "N"),
    "total": Kind("合计", "L1", "N"),
    "mean": Kind("平均", "L1", "N"),
    "quantile": Kind("分位数", "L1", "N"),
    "share": Kind("占比", "L1", "N"),
    "hidden_flag": Kind("是否隐匿的标志", "L1", "N"),
    "band": Kind("分档", "L3", "P"),
}


class Breaker(BaseModel):
    """One declaration. `approved` and `expires` are Shanghai dates, both included."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["count", "total", "mean", "quantile", "share", "hidden_flag", "band"]
    subject: str = Field(pattern=r"^[a-z_][a-z0-9_]*$")
    sensitive: str | None = Field(default=None, pattern=r"^[a-z_][a-z0-9_]*$")
    group: tuple[str, ...] = ()
    reason: str = Field(min_length=4)
    approver: str = Field(min_length=2)
    approved: date
    expires: date

    @model_validator(mode="after")
    def _whole(self) -> Breaker:
        longest = rules_table.get("breaker.validity").value_max
        if self.expires <= self.approved:
            raise ValueError("expires must be after approved")
        if longest is not None and (self.expires - self.approved).days > longest:
            raise ValueError(f"valid for more than {longest:g} days")
        if self.kind in ("share", "band") and not self.sensitive:
            raise ValueError(f"a {self.kind} needs `sensitive`: the attribute that must differ within a group")
        if (self.kind == "band") != bool(self.group):
            raise ValueError("`group` belongs to kind band, and band needs it")
        return self


def read(content: Any) -> tuple[Breaker | None, list[str]]:
    """A declaration, or what is wrong with it."""
    try:
        return Breaker.model_validate(content), []
    except ValidationError as error:
        return None, [f"{'.'.join(map(str, e['loc'])) or 'breaker'}: {e['msg']}" for e in error.errors()]


def load(dbt_models: Path | None = None) -> tuple[dict[Origin, Breaker], dict[Origin, list[str]]]:
    """Every declared breaker by column, and the problems of those that are not acceptable."""
    good: dict[Origin, Breaker] = {}
    bad: dict[Origin, list[str]] = {}
    for table, column, meta in columns.dbt_column_meta(dbt_models):
        if "breaker" not in meta:
            continue
        origin = Origin(table, column)
        breaker, problems = read(meta["breaker"])
        if breaker is not None:
            good[origin] = breaker
        else:
            bad[origin] = problems
    return good, bad
