"""What an audience may see, decided in one place from `catalog/policy/surfaces.yaml`.

`decide` maps a described column (grade, mark, identifier kind) to a treatment. Anything unknown, an ungraded column
included, is absent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, model_validator

from lake.errors import EXIT_INTERNAL, EXIT_USAGE, TiyuError
from lake.settings import settings

Treatment = Literal["plain", "token", "hour", "age_band", "absent"]

#: Columns every ODS row carries beside its contract; they name a batch and an archived object, never a person.
TECHNICAL = ("_batch_id", "_record_no", "_source_object", "_ingested_at", "part_date")
TREATMENT_ZH: dict[str, str] = {
    "plain": "原样",
    "token": "已换成本受众专用标记",
    "hour": "时间截到小时",
    "age_band": "十岁一档年龄段",
    "absent": "不提供",
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ColumnRule(_Strict):
    """An exception for one column name, in one table or in all."""

    column: str
    treatment: Treatment
    reason: str
    table: str | None = None


class Rows(_Strict):
    """Which rows of one table go into a scoped file: those whose column `own` holds the file's code or one of `also`,
    or (`all`) every row. Whatever goes beyond the own code needs a reason."""

    own: str | None = None
    also: tuple[str, ...] = ()
    all: bool = False
    reason: str = ""

    @model_validator(mode="after")
    def _one_meaning(self) -> Rows:
        if (self.own is None) != self.all:
            raise ValueError("either own or all")
        if (self.also or self.all) and not self.reason:
            raise ValueError("rows beyond the own scope need a reason")
        if self.also and self.all:
            raise ValueError("also has no meaning beside all")
        return self


class Scope(_Strict):
    """The codes an audience's file is cut for, and whose rows each table gives; a table not listed is absent."""

    vocabulary: str
    tables: dict[str, Rows]
    without: tuple[str, ...] = ()

    def codes(self) -> dict[str, str]:
        """Code → Chinese name of every scope, in the order of the vocabulary."""
        from catalog import vocabularies

        return {
            row["code"]: row["name"] for row in vocabularies.load(self.vocabulary) if row["code"] not in self.without
        }


class Audience(_Strict):
    """One audience's policy; see the head of surfaces.yaml."""

    title: str
    file: str
    tables: list[str]
    grades: dict[str, Treatment]
    identifiers: dict[str, Treatment]
    person_times: Literal["plain", "hour"]
    columns: list[ColumnRule]
    scope: Scope | None = None

    @model_validator(mode="after")
    def _file_per_scope(self) -> Audience:
        if ("{scope}" in self.file) != (self.scope is not None):
            raise ValueError("{scope} in the file's name goes with a scope")
        return self

    def file_of(self, scope: str | None = None) -> str:
        """Name of the serving file; raises TIYU-SRV-0004 without a declared scope where the audience has scopes."""
        if self.scope is None:
            return self.file
        if scope is None or scope not in self.scope.codes():
            raise TiyuError(
                "TIYU-SRV-0004", "该受众按范围分文件，没有这个范围", "给出策略中声明的范围代码", EXIT_USAGE,
                audience=self.title, scope=scope or "（未给出）",
            )  # fmt: skip
        return self.file.format(scope=scope)


class Policy(_Strict):
    version: str
    audiences: dict[str, Audience]


@dataclass(frozen=True)
class Column:
    """A stored column as the catalogue describes it. `grade` None means nobody graded it."""

    table: str
    name: str
    type: str
    title_zh: str
    description: str
    unit: str | None
    grade: str | None
    pi_mark: str | None
    identifier_kind: str | None


def policy_path() -> Path:
    return settings().repo_root / "catalog" / "policy" / "surfaces.yaml"


def load(path: Path | None = None) -> Policy:
    """The declared policy. Raises TIYU-SRV-0001 when the file has an unknown key or treatment."""
    file = path or policy_path()
    try:
        return Policy.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except ValueError as error:
        raise TiyuError(
            "TIYU-SRV-0001",
            "展示策略声明有误",
            "对照 catalog/policy/surfaces.yaml 文件头的说明修改",
            EXIT_INTERNAL,
            file=file.name,
        ) from error


def audience(name: str) -> Audience:
    """The policy of one audience; raises TIYU-SRV-0002 for one nobody declared."""
    found = load().audiences.get(name)
    if found is None:
        raise TiyuError(
            "TIYU-SRV-0002", "没有这个受众", "受众在 catalog/policy/surfaces.yaml 中声明", EXIT_USAGE, audience=name
        )
    return found


def table_allowed(policy: Audience, table: str) -> bool:
    """Whether a table may be in the audience's file at all."""
    if policy.scope is not None and table not in policy.scope.tables:
        return False
    return any(table.startswith(prefix) for prefix in policy.tables)


def is_person_level(columns: Iterable[Column]) -> bool:
    """Whether rows of a table speak of one person: some column is personal information or names a person."""
    return any(column.pi_mark in ("P", "S") or column.name.endswith("_token") for column in columns)


def decide(policy: Audience, column: Column, *, person_level: bool) -> Treatment:
    """The treatment of one column. Order: declared exception, grade (absent wins), identifier, time, plain."""
    for rule in policy.columns:
        if rule.column == column.name and rule.table in (None, column.table):
            return rule.treatment
    if column.name in TECHNICAL:
        return "plain"
    by_grade = policy.grades.get(column.grade or "", "absent")
    if by_grade == "absent":
        return "absent"
    kind = column.identifier_kind
    if kind is not None:
        return policy.identifiers.get(kind, "absent")
    if column.name.endswith("_token"):  # a token whose kind was lost on the way through the layers stays a token
        return "token" if "token" in policy.identifiers.values() else "absent"
    if person_level and policy.person_times == "hour" and column.type.upper().startswith("TIMESTAMP"):
        return "hour"
    return by_grade
