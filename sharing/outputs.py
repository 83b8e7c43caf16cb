"""What deliveries and open datasets have in common: the columns that an output contract lists, and their grades."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sharing import files

if TYPE_CHECKING:
    from catalog.contracts import Contract

UNGRADED = "未定级"


@dataclass(frozen=True)
class Column:
    """A column as the contract lists it; ``type`` is the DuckDB type name."""

    name: str
    title_zh: str
    type: str
    grade: str
    pi_mark: str
    unit: str | None = None
    code_list: str | None = None
    required: bool = False
    description: str = ""


def columns_of(contract: Contract) -> tuple[Column, ...]:
    """The columns that leave by an output contract, in its order."""
    return tuple(
        Column(p.name, p.title_zh, p.type, p.grade, p.pi_mark, p.unit, p.code_list, p.required, p.description)
        for p in contract.root.properties
    )


def schema_version(contract_version: str, columns: Sequence[Column]) -> str:
    """Contract version plus a fingerprint of the columns: changes whenever the layout does."""
    layout = json.dumps([[c.name, c.type, c.unit, c.code_list, c.required] for c in columns], ensure_ascii=False)
    return f"{contract_version}-{files.sm3_bytes(layout.encode())[:8]}"


def described_grades(table: str) -> dict[str, str | None]:
    """Grades the catalogue computed or declared for the columns of a lake table; None where there is none."""
    from catalog.columns import describe_all

    return {row["column"]: row["grade"] for row in describe_all() if row["table"] == table}


def refused_grades(table: str, columns: Sequence[Column], max_grade: str) -> dict[str, str]:
    """Columns that may not leave, with the reason: ungraded, or graded above ``max_grade``.

    The higher of the contract's and the lake table's grade counts.
    """
    from catalog.contracts.model import GRADES

    in_lake = described_grades(table)
    refused: dict[str, str] = {}
    for column in columns:
        grades = [str(grade) for grade in (column.grade, in_lake.get(column.name))]
        if not set(grades) <= set(GRADES):
            refused[column.name] = UNGRADED
        elif max(grades) > max_grade:
            refused[column.name] = max(grades)
    return refused
