"""What an edge of column lineage is (ADR 0014).

`value`      the column's values are made of the input's values: copied, computed, aggregated, counted.
`influence`  the input decides which rows there are or which of several values is taken: a predicate, a grouping, an
             order, the condition of a CASE.
`link`       the input only ties rows together: equality join, deduplication, order, or a null test in a predicate, on a
             token or key. Recorded, because it moves the output; it does not raise a grade.

Along a path the weakest kind counts, between several paths the strongest.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple


class Kind(IntEnum):
    """How strongly an input decides a column; `value` and `influence` raise its grade, `link` does not."""

    LINK = 1
    INFLUENCE = 2
    VALUE = 3

    @property
    def raises(self) -> bool:
        """Whether the grade of the input carries over."""
        return self is not Kind.LINK


class Origin(NamedTuple):
    """A stored column; column `*` stands for the existence of the table's rows (what count(*) counts)."""

    table: str
    column: str

    def __str__(self) -> str:
        return f"{self.table}.{self.column}"


ROWS = "*"
UNRESOLVED = Origin("?", "?")
"""Stands for whatever could not be resolved: counts as L4 and sensitive, never as nothing."""

Deps = dict[Origin, Kind]


def add(into: Deps, more: Mapping[Origin, Kind], limit: Kind = Kind.VALUE) -> Deps:
    """Merge edges into a set of edges: each at most as strong as `limit`, the stronger of two kept. Returns `into`."""
    for origin, kind in more.items():
        kept = min(kind, limit)
        if kept > into.get(origin, 0):
            into[origin] = kept
    return into


def union(*parts: Mapping[Origin, Kind], limit: Kind = Kind.VALUE) -> Deps:
    """The merged edges of several sets, each at most as strong as `limit`."""
    merged: Deps = {}
    for part in parts:
        add(merged, part, limit)
    return merged
