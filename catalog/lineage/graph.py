"""The lineage of the whole project: from the columns of the sources to the dashboards, deliveries and open datasets.

Edges between two neighbouring tables come from `query`; a path over several tables is as weak as its weakest edge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from catalog.lineage.edges import ROWS, UNRESOLVED, Deps, Kind, Origin
from catalog.lineage.query import DIALECT, IsKey, Reader


@dataclass(frozen=True)
class Model:
    """A compiled model: its SQL (registered relations only, never delta_scan) and the columns it declares, in order."""

    name: str
    sql: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Exposure:
    """A surface that reads models: `kind` is dbt's type (dashboard, application)."""

    name: str
    label: str
    kind: str
    reads: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """Direct edges of every model column, and of every model's rows (column `*`)."""

    edges: Mapping[Origin, Deps]
    models: tuple[str, ...]
    sources: tuple[str, ...]
    exposures: tuple[Exposure, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)
    keys: frozenset[Origin] = frozenset()

    def columns(self, model: str) -> list[Origin]:
        """The columns of a model, without `*`."""
        return [origin for origin in self.edges if origin.table == model and origin.column != ROWS]

    @property
    def unresolved(self) -> list[Origin]:
        """Columns with an edge that could not be resolved."""
        return [origin for origin, deps in self.edges.items() if UNRESOLVED in deps]

    def up(self, origin: Origin) -> Deps:
        """Everything a column is made of or decided by, over all tables, with the kind of the strongest path."""
        return _reach(origin, self.edges)

    def down(self, origin: Origin) -> Deps:
        """Every column that a column can move, over all tables, with the kind of the strongest path."""
        return _reach(origin, self._reverse)

    def sources_of(self, origin: Origin) -> Deps:
        """`up`, kept to columns of sources (and UNRESOLVED)."""
        return {o: k for o, k in self.up(origin).items() if o not in self.edges}

    def surfaces_of(self, table: str) -> list[Exposure]:
        """The surfaces that a table reaches, directly or through models."""
        reached = {table}
        for model in self.models:  # in build order
            if any(parent in reached for parent in self.parents(model)):
                reached.add(model)
        return [e for e in self.exposures if reached & set(e.reads)]

    def parents(self, model: str) -> list[str]:
        """The tables a model reads."""
        return self._parents.get(model, [])

    @cached_property
    def _parents(self) -> dict[str, list[str]]:
        found: dict[str, dict[str, None]] = {}
        for origin, deps in self.edges.items():
            found.setdefault(origin.table, {}).update(dict.fromkeys(o.table for o in deps if o != UNRESOLVED))
        return {table: sorted(parents) for table, parents in found.items()}

    @cached_property
    def _reverse(self) -> dict[Origin, Deps]:
        found: dict[Origin, Deps] = {}
        for origin, deps in self.edges.items():
            for parent, kind in deps.items():
                found.setdefault(parent, {})[origin] = kind
        return found

    def rows(self) -> list[dict[str, Any]]:
        """The direct edges as rows (table_name, column_name, source_table, source_column, edge_type); `*`: the rows."""
        return [
            {
                "table_name": origin.table,
                "column_name": origin.column,
                "source_table": parent.table,
                "source_column": parent.column,
                "edge_type": kind.name.lower(),
            }
            for origin, deps in self.edges.items()
            for parent, kind in sorted(deps.items())
        ]

    def as_data(self) -> dict[str, Any]:
        """The graph for a page: tables with layer and parents, surfaces, and the edges of every column.

        `columns`: table → column → list of [table, column, kind], empty for a constant; `*` stands for the rows. Columns of
        sources have no entry.
        """
        tables = [*self.sources, *self.models]
        columns: dict[str, dict[str, list[list[str]]]] = {}
        for origin in self.edges:
            columns.setdefault(origin.table, {})[origin.column] = []
        for row in self.rows():
            columns[row["table_name"]][row["column_name"]].append(
                [row["source_table"], row["source_column"], row["edge_type"]]
            )
        return {
            "tables": [
                {"table": table, "layer": table.split("_", 1)[0], "parents": self.parents(table)} for table in tables
            ],
            "surfaces": [
                {"name": e.name, "label": e.label, "kind": e.kind, "reads": list(e.reads)} for e in self.exposures
            ],
            "columns": columns,
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Graph:
        """The graph again, from what `as_data` gave; without problems and keys. Raises KeyError for anything else."""
        edges = {
            Origin(table, column): {Origin(t, c): Kind[kind.upper()] for t, c, kind in parents}
            for table, columns in data["columns"].items()
            for column, parents in columns.items()
        }
        tables = [table["table"] for table in data["tables"]]
        made = set(data["columns"])
        return cls(
            edges,
            tuple(table for table in tables if table in made),
            tuple(table for table in tables if table not in made),
            tuple(Exposure(s["name"], s["label"], s["kind"], tuple(s["reads"])) for s in data["surfaces"]),
        )


def _reach(start: Origin, edges: Mapping[Origin, Deps]) -> Deps:
    """Widest path: per reached column the strongest kind over all paths, a path being as strong as its weakest edge."""
    best: Deps = {}
    todo = [(start, Kind.VALUE)]
    while todo:
        origin, kind = todo.pop()
        for parent, step in edges.get(origin, {}).items():
            through = min(kind, step)
            if through > best.get(parent, 0):
                best[parent] = through
                todo.append((parent, through))
    return best


def _tables_of(model: Model) -> tuple[exp.Expr | None, set[str], str | None]:
    try:
        tree = sqlglot.parse_one(model.sql, dialect=DIALECT)
    except (SqlglotError, RecursionError) as error:
        return None, set(), str(error).splitlines()[0][:200]
    return tree, {table.name.lower() for table in tree.find_all(exp.Table)}, None


def build(
    models: Iterable[Model],
    sources: Mapping[str, Iterable[str]],
    *,
    source_keys: IsKey | None = None,
    exposures: Iterable[Exposure] = (),
) -> Graph:
    """Read every model against the columns of its inputs.

    sources: table → columns of everything that no model makes. source_keys: which source columns are tokens or keys
    (default: by name). A declared column that the SQL does not resolve to gets the edge UNRESOLVED; so does every column
    of a model that does not parse or reads itself.
    """
    by_name = {model.name: model for model in models}
    parsed = {name: _tables_of(model) for name, model in by_name.items()}
    is_source_key = source_keys or (lambda table, column: column.endswith(("_id", "_token")))
    keys: set[Origin] = set()

    def is_key(table: str, column: str) -> bool:
        return Origin(table, column) in keys if table in by_name else is_source_key(table, column)

    schema = {**{t: list(c) for t, c in sources.items()}, **{n: list(m.columns) for n, m in by_name.items()}}
    reader = Reader(schema, is_key)
    edges: dict[Origin, Deps] = {}
    problems: dict[str, str] = {}
    read: set[str] = set()
    ordered = _in_order(by_name, {n: tables for n, (_, tables, _) in parsed.items()})
    for name in ordered:
        tree, tables, problem = parsed[name]
        model = by_name[name]
        if problem is None and any(t in by_name and t not in read for t in tables):
            problem = "reads itself or a model that reads it"
        if tree is None or problem is not None:
            problems[name] = problem or "does not parse"
            edges.update({Origin(name, c): {UNRESOLVED: Kind.VALUE} for c in (*model.columns, ROWS)})
            continue
        lineage = reader.read(tree)
        if lineage.problem is not None:
            problems[name] = lineage.problem
        for column in model.columns:
            edges[Origin(name, column)] = lineage.columns.get(column, {UNRESOLVED: Kind.VALUE})
        edges[Origin(name, ROWS)] = lineage.rows
        keys |= {Origin(name, column) for column in lineage.keys}
        read.add(name)
    used = {o.table for deps in edges.values() for o in deps} - set(by_name) - {UNRESOLVED.table}
    return Graph(edges, tuple(ordered), tuple(sorted(used)), tuple(exposures), problems, frozenset(keys))


def _in_order(models: Mapping[str, Model], reads: Mapping[str, set[str]]) -> list[str]:
    """Inputs before the models that read them; a cycle is left in the order it is met."""
    ordered: dict[str, None] = {}
    visiting: set[str] = set()

    def visit(name: str) -> None:
        if name in ordered or name in visiting:
            return
        visiting.add(name)
        for parent in sorted(reads[name]):
            if parent in models:
                visit(parent)
        ordered[name] = None

    for name in sorted(models):
        visit(name)
    return list(ordered)
