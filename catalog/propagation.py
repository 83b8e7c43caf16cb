"""Grades and marks computed along column lineage, and compared with what the dbt project declares.

A column's grade is the highest grade of the columns it has a *value* or *influence* edge to; a *link* edge (equality
join, deduplication, order on a token or key) does not raise it (ADR 0014). The same holds for the mark: N < P < S. What
cannot be resolved counts as L4 and S. Only a breaker (降级措施) whose declaration holds may bring a column below that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from catalog.columns import ColumnRow
from catalog.contracts.model import GRADES
from catalog.lineage import ROWS, UNRESOLVED, Graph, Kind, Origin

MARKS = ("N", "P", "S")
LOWEST = ("L1", "N")
HIGHEST = ("L4", "S")


@dataclass(frozen=True)
class ComputedColumn:
    """One column of one model. `because`: the inputs that give the computed grade, strongest first (at most three).

    `effective_grade`, `effective_mark`: what counts downstream: the declared one where a breaker holds, else the higher.
    """

    table: str
    column: str
    declared_grade: str | None
    declared_mark: str | None
    computed_grade: str
    computed_mark: str
    effective_grade: str
    effective_mark: str
    because: tuple[tuple[Origin, Kind], ...]
    resolved: bool
    broken: bool

    @property
    def lowered(self) -> bool:
        """Whether the declaration is below what the lineage computes."""
        return self.declared_grade is not None and (
            self.declared_grade < self.computed_grade or (self.declared_mark or "N") < self.computed_mark
        )


def compute(
    graph: Graph,
    declared: Mapping[str, Mapping[str, ColumnRow]],
    breakers: Iterable[Origin] = (),
    *,
    ungraded: tuple[str, str] = HIGHEST,
) -> list[ComputedColumn]:
    """Every declared column of every model, inputs before the models that read them.

    declared: table → column → row (`catalog.checks.Context.tables`). breakers: columns whose breaker holds.
    A source column that is not declared counts as L4 and S; a described column without a grade as at least `ungraded`.
    """
    holds = set(breakers)
    known: dict[Origin, tuple[str, str]] = {UNRESOLVED: HIGHEST}
    found: list[ComputedColumn] = []

    def grade_of(origin: Origin) -> tuple[str, str]:
        if origin not in known:
            row = declared.get(origin.table, {}).get(origin.column)
            if origin.column == ROWS:
                known[origin] = LOWEST  # that a source has rows is no secret; which ones is carried by its columns
            elif row is None:
                known[origin] = HIGHEST
            elif row["grade"] not in GRADES or row["pi_mark"] not in MARKS:
                known[origin] = ungraded
            else:
                known[origin] = (str(row["grade"]), str(row["pi_mark"]))
        return known[origin]

    for model in graph.models:
        for origin in [*graph.columns(model), Origin(model, ROWS)]:
            raising = {parent: kind for parent, kind in graph.edges[origin].items() if kind.raises}
            grades = {parent: grade_of(parent) for parent in raising}
            grade = max((g for g, _ in grades.values()), default=LOWEST[0])
            mark = max((m for _, m in grades.values()), default=LOWEST[1])
            row = declared.get(model, {}).get(origin.column)
            declared_grade = row["grade"] if row and row["grade"] in GRADES else None
            declared_mark = row["pi_mark"] if row and row["pi_mark"] in MARKS else None
            broken = origin in holds and declared_grade is not None
            if broken:
                effective = (str(declared_grade), declared_mark or mark)
            else:
                effective = (max(declared_grade or ungraded[0], grade), max(declared_mark or ungraded[1], mark))
            if origin.column == ROWS:
                effective = (grade, mark)
            known[origin] = effective
            if origin.column == ROWS:
                continue
            because = sorted(
                (
                    (parent, kind)
                    for parent, kind in raising.items()
                    if grade in grades[parent] or mark in grades[parent]
                ),
                key=lambda item: (grades[item[0]], item[1]),
                reverse=True,
            )
            found.append(
                ComputedColumn(
                    model, origin.column, declared_grade, declared_mark, grade, mark, *effective,
                    tuple(because[:3]), UNRESOLVED not in graph.edges[origin], broken,
                )
            )  # fmt: skip
    return found
