"""The oracle of lineage: change one column of one table, run the queries again, see which output columns moved.

A column has moved when the bag of its values differs. What moved depends on what was changed, whatever the SQL looks
like; so an edge that the oracle sees and the engine does not is a hole. The reverse proves nothing: a change may happen
not to show. Several changes are tried on each column for that reason, until every output column has moved.

Columns that DuckDB's own plan does not read are not tried one by one: all of them are changed at once, and nothing may
move. The plan is taken without what the optimizer concludes from the values, since those are what is changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field

import duckdb
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.lineage import lineage as plain_lineage

Column = tuple[str, str]


def changes(name: str, kind: str) -> Iterator[tuple[str, str]]:
    """(what, SELECT list item that replaces the column): expressions over a row numbered `rn`."""
    quoted = f'"{name}"'
    kind = kind.upper()
    yield "null", f"cast(null as {kind})"
    yield (
        "permuted",
        f"case when rn = count(*) over () then first_value({quoted}) over (order by rn) else lead({quoted}) over (order by rn) end",
    )
    yield (
        "rotated",
        f"case when rn > count(*) over () - 7 then first_value({quoted}) over (order by rn) else lead({quoted}, 7) over (order by rn) end",
    )
    yield "half null", f"case when rn % 2 = 0 then {quoted} end"
    if kind == "BOOLEAN":
        yield "true", "true"
        yield "false", "false"
        yield "flipped", f"case when rn % 3 = 0 then not {quoted} else {quoted} end"
    elif kind.startswith(("BIGINT", "INTEGER", "DOUBLE", "DECIMAL", "SMALLINT", "FLOAT")):
        yield "large", f"cast(9999 as {kind})"
        yield "small", f"cast(-1 as {kind})"
        yield "shifted", f"cast(case when rn % 3 = 0 then {quoted} * 2 + 3 else {quoted} end as {kind})"
    elif kind == "DATE":
        yield "late", "date '2026-11-19'"
        yield "early", "date '2020-02-01'"
        yield "shifted", f"cast(case when rn % 3 = 0 then {quoted} + 3 else {quoted} end as date)"
        yield "month", f"cast(case when rn % 3 = 0 then {quoted} - 40 else {quoted} end as date)"
    elif kind.startswith("TIMESTAMP"):
        yield "late", f"cast('2026-11-19 12:00:00' as {kind})"
        yield "early", f"cast('2020-02-01 00:00:00' as {kind})"
        yield "hours", f"case when rn % 3 = 0 then {quoted} + interval 5 hour else {quoted} end"
        yield "seconds", f"case when rn % 3 = 0 then {quoted} + interval 7 second else {quoted} end"
        yield "days", f"case when rn % 3 = 0 then {quoted} - interval 2 day else {quoted} end"
    elif kind == "VARCHAR":
        yield "other", "'~other~'"
        yield "most frequent", f"mode({quoted}) over ()"
        yield "mixed", f"case when rn % 3 = 0 then '~' || rn else {quoted} end"
        yield "third null", f"case when rn % 3 <> 0 then {quoted} end"
    elif kind.endswith("[]"):
        yield "longer", f"case when rn % 2 = 0 then list_append({quoted}, 'z') else {quoted} end"


ENOUGH = ("null", "permuted", "other", "large", "small", "late", "early", "flipped", "longer")
"""The changes of a run from source to surface: empty, mixed up, extreme. Between neighbours all are tried."""


@dataclass
class Observed:
    """What was seen. changed: how many changes were tried, of how many columns (`tried`); failed: changes after which a
    query could not run; unread: columns changed all at once, because no plan reads them; stirred: what moved all the
    same, which must be nothing."""

    edges: dict[Column, set[Column]] = field(default_factory=dict)
    changed: int = 0
    tried: int = 0
    failed: list[str] = field(default_factory=list)
    unread: int = 0
    stirred: list[str] = field(default_factory=list)
    cpu_seconds: float = 0.0

    def add(self, output: Column, source: Column) -> None:
        self.edges.setdefault(output, set()).add(source)

    def count(self) -> int:
        return sum(len(sources) for sources in self.edges.values())

    def as_data(self) -> dict:
        """JSON-able form; `merged` reads it."""
        edges = [[*output, *source] for output, sources in self.edges.items() for source in sorted(sources)]
        return {**asdict(self), "edges": edges}

    @classmethod
    def merged(cls, parts: Iterable[dict]) -> Observed:
        """The parts of a run, seen as one."""
        whole = cls()
        for part in parts:
            for table, column, source, source_column in part["edges"]:
                whole.add((table, column), (source, source_column))
            for name in ("changed", "tried", "unread", "cpu_seconds"):
                setattr(whole, name, getattr(whole, name) + part[name])
            whole.failed += part["failed"]
            whole.stirred += part["stirred"]
        return whole


@dataclass(frozen=True)
class Query:
    """A named query: its SQL, the relation it fills, the tables it reads."""

    name: str
    relation: str
    sql: str
    reads: frozenset[str]


class Oracle:
    """Runs queries in order against tables of a DuckDB connection. `relation_of`: where a table lives."""

    def __init__(self, con: duckdb.DuckDBPyConnection, tables: Mapping[str, str], queries: Iterable[Query]) -> None:
        self.con = con
        self.tables = dict(tables)
        self.queries = list(queries)
        self.relation = {**self.tables, **{q.name: q.relation for q in self.queries}}
        self.columns: dict[str, list[tuple[str, str]]] = {}
        con.execute("create schema if not exists kept")
        for name in self.tables:
            con.execute(
                f'create table kept."{name}" as select *, row_number() over () as rn from {self.relation[name]}'
            )
            self._learn(name)
        self.base: dict[str, tuple] = {}
        for query in self.queries:
            self._fill(query)
            self._learn(query.name)
            con.execute(
                f'create table kept."{query.name}" as select *, row_number() over () as rn from {query.relation}'
            )
        for name in self.relation:
            self.base[name] = self._fingerprint(name)

    def _learn(self, name: str) -> None:
        described = self.con.execute(f"describe {self.relation[name]}").fetchall()
        self.columns[name] = [(row[0], row[1]) for row in described]

    def _fill(self, query: Query) -> None:
        self.con.execute(f"create or replace table {query.relation} as {query.sql}")

    def _fingerprint(self, name: str) -> tuple:
        """Count of rows, fingerprint of the rows as a bag, fingerprint of each column as a bag."""
        listed = [f'"{column}"' for column, _ in self.columns[name]]
        parts = [f"sum(cast(hash({column}) as hugeint))" for column in listed]
        row = f"sum(cast(hash(row({', '.join(listed)})) as hugeint))"
        return self.con.execute(f"select count(*), {row}, {', '.join(parts)} from {self.relation[name]}").fetchone()

    def rows(self, name: str) -> int:
        return self.base[name][0]

    def _put(self, name: str, replaced: Mapping[str, str]) -> None:
        others = ", ".join(f'{replaced[c]} as "{c}"' if c in replaced else f'"{c}"' for c, _ in self.columns[name])
        self.con.execute(f'create or replace table {self.relation[name]} as select {others} from kept."{name}"')

    def restore(self, name: str) -> None:
        self.con.execute(f'create or replace table {self.relation[name]} as select * exclude (rn) from kept."{name}"')

    def _changes(self, name: str, column: str, kind: str, keep: Iterable[str] | None) -> Iterator[str]:
        """Changes of a column, as the kinds of change and the tables that they make stand in the relation itself."""
        for what, expression in changes(column, kind):
            if keep is None or what in keep:
                self._put(name, {column: expression})
                yield what

    def read_by(self, query: Query) -> dict[str, set[str]]:
        """Table → columns that DuckDB's plan of a query reads, whatever the values."""
        self.con.execute("set disabled_optimizers = 'statistics_propagation,filter_pushdown'")
        try:
            plan = self.con.execute(f"explain (format json) {query.sql}").fetchall()[0][1]
        finally:
            self.con.execute("reset disabled_optimizers")
        found: dict[str, set[str]] = {}
        todo = list(json.loads(plan))
        while todo:
            node = todo.pop()
            todo += node.get("children", [])
            about = node.get("extra_info", {})
            if "Table" in about:
                read = about.get("Projections", [])
                table = about["Table"].rsplit(".", 1)[-1].strip('"')
                found.setdefault(table, set()).update([read] if isinstance(read, str) else read)
        return found

    def end_to_end(self, keep: Iterable[str] | None = ENOUGH, part: tuple[int, int] = (0, 1)) -> Observed:
        """Change every column of the tables, rebuild everything downstream that can differ, and see what moved.

        keep: only these kinds of change (None: all). part: (k, n) takes the k-th of n parts of the columns.
        """
        seen = Observed()
        read: dict[str, set[str]] = {}
        for query in self.queries:
            for name, columns in self.read_by(query).items():
                read.setdefault(name, set()).update(columns)
        number, of = part
        for table, column, kind in [(t, *c) for t in self.tables for c in self.columns[t]][number::of]:
            if column not in read.get(table, set()):
                seen.unread += 1  # `direct` changes it beside the other unread columns
                continue
            seen.tried += 1
            for what in self._changes(table, column, kind, keep):
                seen.changed += 1
                for name in self._rebuild(table, (table, column), seen, what):
                    self.restore(name)
            self.restore(table)
        return seen

    def _rebuild(self, table: str, source: Column, seen: Observed, what: str) -> list[str]:
        dirty, touched = {table}, []
        if self._fingerprint(table)[1] == self.base[table][1]:
            return touched
        for query in self.queries:
            if not query.reads & dirty:
                continue
            touched.append(query.name)
            try:
                self._fill(query)
            except duckdb.Error as error:
                seen.failed.append(f"{source[0]}.{source[1]} {what} -> {query.name}: {type(error).__name__}")
                self.restore(query.name)
                continue
            now, before = self._fingerprint(query.name), self.base[query.name]
            self._note(query.name, source, seen, (now[0], *now[2:]))
            if now[:2] != before[:2]:
                dirty.add(query.name)
        return touched

    def _note(self, name: str, source: Column, seen: Observed, now: tuple) -> None:
        """Record which columns moved. now: count of rows, then a fingerprint of each column."""
        before = self.base[name]
        for n, (column, _) in enumerate(self.columns[name]):
            if now[0] != before[0] or now[n + 1] != before[n + 2]:
                seen.add((name, column.lower()), source)

    def _columns_now(self, query: Query) -> tuple:
        """Count of rows and fingerprint of each column, without writing the result down."""
        parts = [f'sum(cast(hash("{column}") as hugeint))' for column, _ in self.columns[query.name]]
        return self.con.execute(f"select count(*), {', '.join(parts)} from ({query.sql}) t").fetchall()[0]

    def direct(self, only: Iterable[str] | None = None, part: tuple[int, int] = (0, 1)) -> Observed:
        """For each query, change every column of every table it reads, and run that query alone.

        part: (k, n) takes the k-th of n parts of the pairs of query and table.
        """
        seen = Observed()
        wanted = None if only is None else set(only)
        pairs = [(q, t) for q in self.queries if wanted is None or q.name in wanted for t in sorted(q.reads)]
        for query, table in pairs[part[0] :: part[1]]:
            read = self.read_by(query).get(table, set())
            outputs = [(query.name, column.lower()) for column, _ in self.columns[query.name]]
            self._together(query, table, [c for c in self.columns[table] if c[0] not in read], seen)
            for column, kind in self.columns[table]:
                if column not in read:
                    continue
                seen.tried += 1
                for what in self._changes(table, column, kind, None):
                    seen.changed += 1
                    try:
                        now = self._columns_now(query)
                    except duckdb.Error as error:
                        seen.failed.append(f"{table}.{column} {what} -> {query.name}: {type(error).__name__}")
                        continue
                    self._note(query.name, (table, column), seen, now)
                    if all((table, column) in seen.edges.get(o, ()) for o in outputs):
                        break  # everything has moved: there is nothing more to see
            self.restore(table)
        return seen

    def _together(self, query: Query, table: str, unread: list[tuple[str, str]], seen: Observed) -> None:
        """Change all unread columns of a table at once, twice; what moves is noted in `stirred`."""
        seen.unread += len(unread)
        base = self.base[query.name]
        for wanted in ("null", "permuted") if unread else ():
            self._put(table, {c: dict(changes(c, kind))[wanted] for c, kind in unread})
            seen.changed += 1
            if self._columns_now(query) != (base[0], *base[2:]):
                seen.stirred.append(f"{table} {wanted} -> {query.name}")


def plain_edges(sql: str, schema: Mapping[str, Mapping[str, str]], columns: Iterable[str]) -> dict[str, set[Column]]:
    """What sqlglot's own lineage finds for each column; a column it fails on has no edges."""
    try:
        tree = sqlglot.parse_one(sql, dialect="duckdb")
    except SqlglotError:
        return {column: set() for column in columns}
    for table in tree.find_all(exp.Table):
        table.set("db", None)
        table.set("catalog", None)
    nested: dict[str, object] = {table: dict(of) for table, of in schema.items()}
    found: dict[str, set[Column]] = {}
    try:  # all columns at once is much faster; one that fails takes the others with it
        nodes = {n.lower(): node for n, node in plain_lineage(None, tree, nested, dialect="duckdb").items()}
    except Exception:  # whatever it stumbles over
        nodes = {}
    for column in columns:
        try:
            node = nodes.get(column) or plain_lineage(column, tree, nested, dialect="duckdb")
        except Exception:  # it has no answer
            found[column] = set()
            continue
        found[column] = {
            (leaf.expression.name.lower(), leaf.name.rsplit(".", 1)[-1].strip('"').lower())
            for leaf in node.walk()
            if not leaf.downstream and isinstance(leaf.expression, exp.Table)
        }
    return found
