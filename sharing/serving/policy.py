"""The policy as the serving files need it: which audiences have a file, which tables and columns it holds.

What may be seen is decided by `catalog.policy`; this module only asks it, and names what has to be done to a column
in one word (`plain`, `token`, `absent`, the mask: `hour`, `age_band` …, or `original`: shown plain, but the lake has it masked).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from catalog import policy
from catalog.columns import TECHNICAL
from catalog.policy import is_person_level
from catalog.policy.declaration import Original, Rows, RowScope
from lake.errors import EXIT_USAGE, TiyuError

__all__ = [
    "TECHNICAL",
    "TREATMENT_ZH",
    "Audience",
    "Column",
    "Original",
    "Rows",
    "Treatment",
    "audience",
    "decide",
    "identifier_kind",
    "is_identifier",
    "is_person_level",
    "public",
    "served",
    "table_allowed",
]

Treatment = str

TREATMENT_ZH: dict[str, str] = {
    "plain": "原样",
    "original": "原样，裁切本文件时从归档读回（湖中只有遮蔽后的样子）",
    "token": "已换成本受众专用标记",
    "hour": "时间截到小时",
    "age_band": "十岁一档年龄段",
    "absent": "不提供",
}


@dataclass(frozen=True)
class Audience:
    """An audience that has a serving file. `scope` None: one file with all rows; else a file for each of its codes."""

    name: str
    title: str
    file: str
    tables: tuple[str, ...]
    scope: RowScope | None

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

    @property
    def has_tokens(self) -> bool:
        """Whether some identifier becomes a token in this audience's file, so that a key of its own is needed."""
        return "token" in policy.current().audiences[self.name].kinds.values()

    @property
    def originals(self) -> dict[str, Original]:
        """Where the values are read again that the audience sees plain and the lake keeps masked, by identifier kind."""
        return policy.current().audiences[self.name].originals

    def digest(self) -> str:
        """Hash of everything in the policy, as it is written, that decides what the file holds. The cockpit, whose environment
        has no models, computes the same from the declaration (`dashboards.access.policy_digest`)."""
        written = policy.current().model_dump(mode="json", exclude_unset=True)
        who = written["audiences"][self.name]
        parts = {
            "audience": who,
            "surfaces": {n: place for n, place in written["surfaces"].items() if self.name in place["audiences"]},
            "kinds": written["kinds"],
            "rows": written["row_scopes"][who["rows"]],
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def fingerprint(self) -> dict[str, Any]:
        """Everything of the policy that decides what the file holds (JSON-able)."""
        declared = policy.current()
        readers = {
            name: place.model_dump() for name, place in declared.surfaces.items() if self.name in place.audiences
        }
        kinds = {name: kind.model_dump() for name, kind in declared.kinds.items()}
        who = declared.audiences[self.name]
        return {
            "audience": who.model_dump(),
            "surfaces": readers,
            "kinds": kinds,
            "rows": declared.row_scopes[who.rows].model_dump(),
        }


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


def served() -> list[str]:
    """The audiences that have a serving file."""
    return [name for name, who in policy.current().audiences.items() if who.file]


def audience(name: str) -> Audience:
    """One audience with a file; raises TIYU-SRV-0002 for one that nobody declared or that has none."""
    declared = policy.current()
    found = declared.audiences.get(name)
    if found is None or found.file is None:
        raise TiyuError(
            "TIYU-SRV-0002",
            "没有这个受众，或它没有服务文件",
            "受众在 catalog/policy/policy.yaml 中声明",
            EXIT_USAGE,
            audience=name,
        )
    rows = declared.row_scopes[found.rows]
    return Audience(name, found.title, found.file, found.tables, None if rows.whole else rows)


def table_allowed(who: Audience, table: str) -> bool:
    """Whether a table may be in the audience's file at all."""
    return policy.table_allowed(who.name, table)


def decide(who: Audience, column: Column, *, person_level: bool) -> Treatment:
    """What the audience's file holds of one column: the strictest of all surfaces that read the file."""
    decision = policy.decide_file(who.name, column, person_level=person_level)
    if decision.treatment == "plain" and identifier_kind(column) in who.originals:
        return "original"
    return decision.mask or decision.treatment


def is_identifier(column: Column) -> bool:
    """Whether the values of a column are identifiers, by declaration or by name: the policy has decided about them."""
    return identifier_kind(column) is not None


def identifier_kind(column: Column) -> str | None:
    """The kind of identifier that the values of a column are, by declaration or by name; None for no identifier."""
    return policy.kind_of(column, person_level=False)


def public(column: Column) -> bool:
    """Whether the policy lets everybody see a column as it is: what may stand in the files of all audiences."""
    facet = policy.facet_of(column, person_level=False)
    return policy.decide(*policy.CHANNELS["open"], facet).treatment == "plain"
