"""Why a column looks as it does to somebody: the decision with the rules behind it, in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from catalog import columns
from catalog.policy import declaration
from catalog.policy.decide import Decision, Facet, decide_column, decide_file, facet_of, is_person_level
from catalog.policy.declaration import FILE_SURFACE
from lake.errors import EXIT_USAGE, TiyuError


@dataclass(frozen=True)
class CatalogColumn:
    """A catalogued column in the form `decide_column` reads."""

    table: str
    name: str
    type: str
    title_zh: str
    grade: str | None
    pi_mark: str | None
    identifier_kind: str | None


@dataclass(frozen=True)
class Answer:
    """What an audience sees of a column on one surface; `notes_zh` tell of what does not depend on the column."""

    column: CatalogColumn
    audience: str
    surface: str
    facet: Facet
    decision: Decision
    notes_zh: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "column": asdict(self.column),
            "audience": self.audience,
            "surface": self.surface,
            "facet": self.facet._asdict(),
            "treatment": self.decision.treatment,
            "mask": self.decision.mask,
            "why": [asdict(step) for step in self.decision.why],
            "notes": list(self.notes_zh),
        }


def table_columns(table: str) -> list[CatalogColumn]:
    """The described columns of a table, in order."""
    return [
        CatalogColumn(
            row["table"],
            row["column"],
            row["type"] or "",
            row["title_zh"] or row["column"],
            row["grade"],
            row["pi_mark"],
            row["identifier_kind"],
        )
        for row in columns.describe_all()
        if row["table"] == table
    ]


def facet_zh(facet: Facet) -> str:
    """A facet in words."""
    kinds = declaration.current().kinds
    kind = kinds[facet.kind].title if facet.kind in kinds else facet.kind
    return f"级别 {facet.grade or '未定级'}、个人信息标识 {facet.mark or '未标'}、标识种类 {kind or '无'}"


def explain(column: str, audience: str, surface: str | None = None) -> list[Answer]:
    """Answers for one surface, or for every surface the audience may use (then at least one).

    `column` is table.column. Raises TIYU-POL-0005 for a column that the catalogue does not describe, TIYU-POL-0006 for a
    surface that is not declared or, without one given, an audience that may use none.
    """
    table, _, name = column.rpartition(".")
    table = table.split(".")[-1]
    described = table_columns(table)
    found = next((item for item in described if item.name == name), None)
    if found is None:
        raise TiyuError(
            "TIYU-POL-0005",
            "目录中没有这一列",
            "写成 表名.列名，用 tiyu describe 或数据字典查列名",
            EXIT_USAGE,
            column=column,
        )
    declared = declaration.current()
    wanted = [surface] if surface else [n for n, place in declared.surfaces.items() if audience in place.audiences]
    if not wanted or any(place not in declared.surfaces for place in wanted):
        raise TiyuError(
            "TIYU-POL-0006", "没有这个展示面，或该受众不用任何展示面", f"可用：{'、'.join(declared.surfaces)}", EXIT_USAGE,
            audience=audience, surface=surface,
        )  # fmt: skip
    person_level = is_person_level(described)
    facet = facet_of(found, person_level=person_level)
    who = declared.audiences[audience]
    answers = []
    for place in wanted:
        in_file = place == FILE_SURFACE or declared.surfaces[place].through == FILE_SURFACE
        decision = (
            decide_file(audience, found, person_level=person_level)
            if in_file and audience in declared.surfaces[place].audiences
            else decide_column(audience, place, found, person_level=person_level)
        )
        notes = []
        scope = declared.row_scopes[who.rows]
        if not scope.whole:
            notes.append(f"行范围：{scope.title}")
        if who.purpose:
            notes.append(f"目的：{who.purpose}")
        answers.append(Answer(found, audience, place, facet, decision, tuple(notes)))
    return answers
