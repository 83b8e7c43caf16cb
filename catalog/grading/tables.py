"""Table and resource level: the highest field, raised by what the rows add up to.

Rows of one person with time and place are a track, a child among the persons makes the table sensitive, and many
persons weigh more than one (GB/T 43697-2024 elements 规模 and 群体, PIPL art. 28; thresholds `grading.*` of the rules
table). Counts come from the lake, measured elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from catalog.columns import ColumnRow
from catalog.contracts.model import GRADES
from catalog.grading import declarations

_PLACES = ("venue_id", "lng", "lat", "unit_id")
#: Which person a row speaks of, when several tokens stand in it.
_PERSON_FIRST = ("person_token", "athlete_token", "person_phone_token")


@dataclass(frozen=True)
class Facts:
    """What was counted in one version of a table.

    persons: distinct person tokens. minors: distinct persons marked as minors. tracked: persons with at least
    `grading.track.rows_per_person` rows that carry a time and a place.
    """

    table: str
    version: int | None
    rows: int
    persons: int = 0
    minors: int = 0
    tracked: int = 0


@dataclass(frozen=True)
class Raise:
    """One rule that raises a table, and the count that made it apply."""

    rule: str
    level: str
    evidence: str


@dataclass(frozen=True)
class TableLevel:
    """Level and mark of a table. `base` is the highest field; `raises` are the rules that applied; `warnings` are
    thresholds to act on that change no level."""

    table: str
    level: str
    mark: str
    base: str
    raises: tuple[Raise, ...]
    warnings: tuple[Raise, ...]


@dataclass(frozen=True)
class PersonColumns:
    """Columns of a person-level table that counting needs; None where the table has none."""

    person: str
    minor: str | None
    has_track: bool


def person_columns(rows: Iterable[ColumnRow]) -> PersonColumns | None:
    """How to count persons in a table from its described columns; None when its rows speak of nobody."""
    by_name = {row["column"]: row for row in rows}
    tokens = [name for name in by_name if name.endswith("_token") and not name.startswith("contact_")]
    if not tokens:
        return None
    person = next((name for name in _PERSON_FIRST if name in tokens), sorted(tokens)[0])
    timed = any(str(row["type"] or "").upper().startswith("TIMESTAMP") for row in by_name.values())
    placed = any(name in by_name for name in _PLACES)
    return PersonColumns(person, "is_minor" if "is_minor" in by_name else None, timed and placed)


def decide(table: str, rows: list[ColumnRow], facts: Facts | None) -> TableLevel:
    """Level of a table from its columns and, when it was counted, its facts.

    Raises ValueError for a table without columns: nothing to look at is no grade.
    """
    if not rows:
        raise ValueError(f"{table} has no described column")
    base = declarations.highest(*(row["grade"] for row in rows))
    mark = max((row["pi_mark"] or "S" for row in rows), key="NPS".index)
    raises: list[Raise] = []
    warnings: list[Raise] = []
    if facts is not None and facts.persons:
        if facts.minors >= declarations.threshold("grading.minors.any"):
            raises.append(Raise("grading.minors.any", "L4", f"含未成年人 {facts.minors} 人"))
        if facts.tracked:
            raises.append(
                Raise("grading.track.rows_per_person", "L4", f"{facts.tracked} 人有带时间地点的多行记录，构成行踪")
            )
        officer = declarations.threshold("grading.persons.protection_officer")
        if facts.persons >= officer:
            raises.append(
                Raise(
                    "grading.persons.protection_officer",
                    _one_up(base),
                    f"涉及 {facts.persons} 人，达到 {officer:,.0f} 人",
                )
            )
        if facts.rows >= declarations.threshold("grading.rows.large"):
            raises.append(Raise("grading.rows.large", "L3", f"个人行 {facts.rows} 行"))
        for rule in ("grading.persons.important", "grading.persons.important_watch"):
            if facts.persons >= declarations.threshold(rule):
                entry = Raise(rule, "L4", f"涉及 {facts.persons} 人")
                (raises if rule == "grading.persons.important" else warnings).append(entry)
        if raises:
            mark = "S" if any(r.level == "L4" for r in raises) else max(mark, "P", key="NPS".index)
    level = declarations.highest(base, *(entry.level for entry in raises))
    return TableLevel(table, level, mark, base, tuple(raises), tuple(warnings))


def _one_up(level: str) -> str:
    return GRADES[min(GRADES.index(level) + 1, len(GRADES) - 1)]
