"""The edges of one query: for every output column, the stored columns that can move it, and how.

The query is read, never run. Two things are followed beside the columns themselves, because both carry information:
which rows *exist* (predicates, joins) and how *often* a row occurs (groupings, joins that multiply). A grouping or
DISTINCT above forgets how often its input rows occurred; an aggregate that counts does not. Names are compared without
case, as DuckDB does. Whatever is not understood - an unknown table, function or column, SQL that does not parse - gives
the edge UNRESOLVED, never no edge.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import duckdb
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from catalog.lineage.edges import ROWS, UNRESOLVED, Deps, Kind, Origin, add, union

DIALECT = "duckdb"
Schema = Mapping[str, Sequence[str]]
"""Table name → its columns in order."""
IsKey = Callable[[str, str], bool]
"""Whether a stored column (table, column) is a token or key."""

_KEY_KEEPING = (exp.Cast, exp.TryCast, exp.Paren, exp.Coalesce, exp.Concat, exp.ConcatWs, exp.DPipe, exp.Trim,
                exp.Lower, exp.Upper, exp.MD5, exp.SHA, exp.SHA2, exp.Min, exp.Max, exp.AnyValue)  # fmt: skip
_BLIND_TO_REPEATS = (exp.Min, exp.Max, exp.ArgMin, exp.ArgMax, exp.LogicalOr, exp.LogicalAnd, exp.ApproxDistinct)
_ORDERED = (exp.First, exp.Last, exp.ArrayAgg, exp.GroupConcat, exp.AnyValue)
Named = tuple[str, str]
"""A column inside a SELECT: (alias of its source, name)."""
_QUERY = (exp.Select, exp.SetOperation)
_MAX_ROUNDS = 20  # a recursive CTE adds at least one edge a round until nothing changes


@dataclass
class Col:
    """A column of a relation: its edges, and whether it is a token or key (None: a constant, neither)."""

    deps: Deps = field(default_factory=dict)
    key: bool | None = False


@dataclass
class Rel:
    """A relation: columns in order, edges of the existence and of the multiplicity of its rows, and of their order.

    complete: whether all columns are known. unique: sets of columns that the SQL itself makes a key of the relation
    (GROUP BY, DISTINCT, a row number with its partition); the empty set means at most one row. A join on all columns of
    such a set cannot multiply rows. Keys that only a test promises are not used: the data might not keep the promise.
    """

    columns: dict[str, Col] = field(default_factory=dict)
    exist: Deps = field(default_factory=dict)
    repeat: Deps = field(default_factory=dict)
    order: Deps = field(default_factory=dict)
    complete: bool = True
    unique: tuple[frozenset[str], ...] = ()


@dataclass(frozen=True)
class QueryLineage:
    """Edges of every output column (row edges included) and of the rows themselves. `problem` says what did not parse."""

    columns: Mapping[str, Deps]
    rows: Deps
    keys: frozenset[str]
    complete: bool
    problem: str | None = None


def _unknown() -> Rel:
    return Rel(exist={UNRESOLVED: Kind.INFLUENCE}, complete=False)


@dataclass
class _Scope:
    """What names mean inside one SELECT."""

    ctes: dict[str, Rel]
    parent: _Scope | None = None
    sources: list[tuple[str, Rel]] = field(default_factory=list)
    merged: dict[str, Col] = field(default_factory=dict)
    aliases: dict[str, exp.Expr] = field(default_factory=dict)
    windows: dict[str, exp.Window] = field(default_factory=dict)
    exist: Deps = field(default_factory=dict)
    repeat: Deps = field(default_factory=dict)
    order: Deps = field(default_factory=dict)
    unique: list[frozenset[Named]] = field(default_factory=list)
    counted_exist: Deps = field(default_factory=dict)  # of the rows below the grouping, which aggregates see
    counted_repeat: Deps = field(default_factory=dict)
    open_aliases: set[str] = field(default_factory=set)
    parameters: set[str] = field(default_factory=set)


@lru_cache(maxsize=1)
def _functions() -> tuple[frozenset[str], frozenset[str]]:
    """(all functions DuckDB knows, those that aggregate)."""
    con = duckdb.connect()
    try:
        rows = con.execute("select distinct lower(function_name), function_type from duckdb_functions()").fetchall()
    finally:
        con.close()
    return frozenset(name for name, _ in rows), frozenset(name for name, kind in rows if kind == "aggregate")


class Reader:
    """Reads queries against a schema. One instance may read many queries."""

    def __init__(self, schema: Schema, is_key: IsKey | None = None) -> None:
        self._schema = {table.lower(): [c.lower() for c in columns] for table, columns in schema.items()}
        self._is_key = is_key or (lambda table, column: column.endswith(("_id", "_token")))

    def read(self, sql: str | exp.Expr) -> QueryLineage:
        """Edges of one query, given as text or syntax tree."""
        try:
            tree = sqlglot.parse_one(sql, dialect=DIALECT) if isinstance(sql, str) else sql
        except (SqlglotError, RecursionError) as error:
            return QueryLineage({}, {UNRESOLVED: Kind.INFLUENCE}, frozenset(), False, str(error).splitlines()[0][:200])
        if not isinstance(tree, (*_QUERY, exp.Values)):
            return QueryLineage({}, {UNRESOLVED: Kind.INFLUENCE}, frozenset(), False, "not a query")
        rel = self._query(tree, {}, None)
        rows = union(rel.exist, rel.repeat, limit=Kind.INFLUENCE)
        return QueryLineage(
            {name: union(column.deps, rows) for name, column in rel.columns.items()},
            rows,
            frozenset(name for name, column in rel.columns.items() if column.key),
            rel.complete,
        )

    # ------------------------------------------------------------------ queries

    def _query(self, node: exp.Expr, ctes: dict[str, Rel], parent: _Scope | None) -> Rel:
        if isinstance(node, exp.Subquery):
            rel = self._query(node.this, self._with(node, ctes, parent), parent)
            return self._cut(node, rel, parent)
        if isinstance(node, exp.Select):
            return self._select(node, self._with(node, ctes, parent), parent)
        if isinstance(node, exp.SetOperation):
            return self._set_operation(node, self._with(node, ctes, parent), parent)
        if isinstance(node, exp.Values):
            return self._values(node, _Scope(ctes, parent))
        if isinstance(node, exp.Table):
            return self._table(node, _Scope(ctes, parent))
        return _unknown()

    def _with(self, node: exp.Expr, ctes: dict[str, Rel], parent: _Scope | None) -> dict[str, Rel]:
        clause = node.args.get("with_")
        if not clause:
            return ctes
        known = dict(ctes)
        for cte in clause.expressions:
            name = cte.alias.lower()
            names = [column.name.lower() for column in cte.args["alias"].columns]
            body = cte.this
            if clause.args.get("recursive") and isinstance(body, exp.SetOperation) and self._reads(body, name):
                known[name] = self._recursive(body, name, names, known, parent)
            else:
                known[name] = _renamed(self._query(body, known, parent), names)
        return known

    def _reads(self, node: exp.Expr, name: str) -> bool:
        return any(table.name.lower() == name and not table.db for table in node.find_all(exp.Table))

    def _recursive(
        self, body: exp.SetOperation, name: str, names: list[str], ctes: dict[str, Rel], parent: _Scope | None
    ) -> Rel:
        """The anchor first, then the whole body against what is known so far, until no edge is added."""
        current = _renamed(self._query(body.this, ctes, parent), names)
        for _ in range(_MAX_ROUNDS):
            found = _renamed(self._query(body, {**ctes, name: current}, parent), names)
            if _shape(found) == _shape(current):
                return found
            current = found
        return _unknown()

    def _set_operation(self, node: exp.SetOperation, ctes: dict[str, Rel], parent: _Scope | None) -> Rel:
        left, right = self._query(node.this, ctes, parent), self._query(node.expression, ctes, parent)
        rel = Rel(complete=left.complete and right.complete)
        if node.args.get("by_name"):
            empty = Col(key=None)
            pairs = {
                n: (left.columns.get(n, empty), right.columns.get(n, empty)) for n in {**left.columns, **right.columns}
            }
        else:
            if len(left.columns) != len(right.columns):
                rel.complete = False
            pairs = {name: (a, b) for (name, a), b in zip(left.columns.items(), right.columns.values(), strict=False)}
        if not rel.complete:
            return Rel(exist=union(left.exist, right.exist, {UNRESOLVED: Kind.INFLUENCE}), complete=False)
        compared = union(*(_tie(a) for a, _ in pairs.values()), *(_tie(b) for _, b in pairs.values()))
        if isinstance(node, exp.Union):
            rel.columns = {n: Col(union(a.deps, b.deps), _both_keys(a.key, b.key)) for n, (a, b) in pairs.items()}
            rel.exist = union(left.exist, right.exist)
            rel.repeat = compared if node.args.get("distinct") else union(left.repeat, right.repeat)
            rel.unique = (frozenset(rel.columns),) if node.args.get("distinct") else ()
        else:  # INTERSECT, EXCEPT: the rows of the left that the right has or has not
            rel.columns = {n: a for n, (a, _) in pairs.items()}
            rel.exist = union(left.exist, right.exist, compared)
            rel.repeat = union(left.repeat, right.repeat)
        return self._cut(node, rel, parent)

    def _cut(self, node: exp.Expr, rel: Rel, parent: _Scope | None) -> Rel:
        """ORDER BY with LIMIT or OFFSET above a set operation or a parenthesis."""
        order = node.args.get("order")
        if order is None and not node.args.get("limit") and not node.args.get("offset"):
            return rel
        scope = _Scope({}, parent, [("", rel)])
        by = self._order(order.expressions, scope) if order else {}
        if node.args.get("limit") or node.args.get("offset"):
            rel.exist = union(rel.exist, rel.repeat, by, limit=Kind.INFLUENCE)
        rel.order = union(rel.order, by)
        return rel

    def _values(self, node: exp.Values, scope: _Scope) -> Rel:
        rel = Rel()
        for row in node.expressions:
            for n, item in enumerate(row.expressions if isinstance(row, exp.Tuple) else [row]):
                add(rel.columns.setdefault(f"col{n}", Col(key=None)).deps, self._expr(item, scope))
        alias = node.args.get("alias")
        return _renamed(rel, [c.name.lower() for c in alias.columns] if alias else [])

    # ------------------------------------------------------------------ SELECT

    def _select(self, node: exp.Select, ctes: dict[str, Rel], parent: _Scope | None) -> Rel:
        scope = _Scope(ctes, parent)
        if node.args.get("from_"):
            self._from(node.args["from_"].this, scope)
        for join in node.args.get("joins") or []:
            self._join(join, scope)
        for lateral in node.args.get("laterals") or []:
            self._source(lateral, scope)
        scope.windows = {w.name.lower(): w for w in node.args.get("windows") or []}
        scope.aliases = {item.alias.lower(): item.this for item in node.expressions if isinstance(item, exp.Alias)}
        scope.counted_exist, scope.counted_repeat = scope.exist, scope.repeat
        if node.args.get("where"):
            add(scope.exist, self._predicate(node.args["where"].this, scope))
            scope.counted_exist = scope.exist
            fixed = self._fixed(node.args["where"].this, scope)
            scope.unique = [names - fixed for names in scope.unique]

        group, having = node.args.get("group"), node.args.get("having")
        aggregates = any(
            self._aggregates(part) for part in [*node.expressions, having, node.args.get("qualify")] if part
        )
        if group or aggregates or having:
            keys = self._group_keys(group, node, scope) if group else []
            by = union(*(self._tie_expr(key, scope) for key in keys))
            scope.counted_exist, scope.counted_repeat = dict(scope.exist), dict(scope.repeat)
            scope.exist = dict(scope.exist) if keys else {}
            scope.repeat = by
            if having:
                add(scope.exist, self._predicate(having.this, scope))
            scope.unique = []
        if node.args.get("qualify"):
            add(scope.exist, self._predicate(node.args["qualify"].this, scope))

        rel = Rel(exist=scope.exist, repeat=scope.repeat, order=scope.order)
        outputs: dict[Named, str] = {}
        for name, column, origin in self._projections(node.expressions, scope, rel):
            rel.columns[name] = column
            if origin is not None:
                outputs.setdefault(origin, name)
        if group or aggregates or having:
            rel.unique = self._grouped_keys(node, keys)
        else:
            rel.unique = tuple(
                frozenset(outputs[c] for c in names) for names in scope.unique if all(c in outputs for c in names)
            )
            rel.unique += tuple(self._numbered(node, scope, outputs))
        self._finish(node, scope, rel)
        return rel

    def _grouped_keys(self, node: exp.Select, keys: Sequence[exp.Expr]) -> tuple[frozenset[str], ...]:
        """The output columns that repeat all group keys, if all of them are output. Grouping sets make no key."""
        group = node.args.get("group")
        if group and any(group.args.get(name) for name in ("grouping_sets", "cube", "rollup")):
            return ()
        by_text: dict[str, str] = {}
        for item in node.expressions:
            name = (item.alias_or_name or item.sql(DIALECT)).lower()
            by_text.setdefault((item.this if isinstance(item, exp.Alias) else item).sql(DIALECT).lower(), name)
            by_text.setdefault(name, name)
        found = [by_text.get((k.this if isinstance(k, exp.Alias) else k).sql(DIALECT).lower()) for k in keys]
        return (frozenset(name for name in found if name),) if all(found) else ()

    def _numbered(self, node: exp.Select, scope: _Scope, outputs: Mapping[Named, str]) -> Iterator[frozenset[str]]:
        """Keys made by row_number(): the partition together with the number, or the partition alone where it is fixed."""
        for item in node.expressions:
            window = item.this if isinstance(item, exp.Alias) else item
            if (
                isinstance(window, exp.Window)
                and isinstance(window.this, exp.RowNumber)
                and not window.args.get("alias")
            ):
                partition = [self._source_of(part, scope) for part in window.args.get("partition_by") or []]
                if all(part in outputs for part in partition):
                    yield frozenset({*(outputs[p] for p in partition if p), item.alias_or_name.lower()})

    def _source_of(self, node: exp.Expr, scope: _Scope) -> Named | None:
        """The source column that an expression names, if it is nothing but a column."""
        if not isinstance(node, exp.Column) or isinstance(node.this, exp.Star):
            return None
        name, table = node.name.lower(), node.table.lower()
        if not table and name in scope.merged:
            return None
        found = [alias for alias, rel in scope.sources if (not table or alias == table) and name in rel.columns]
        return (found[0], name) if len(found) == 1 else None

    def _fixed(self, node: exp.Expr, scope: _Scope, among: Iterable[str] | None = None) -> set[Named]:
        """Columns that a predicate sets equal to something else: to a constant, or with `among` (aliases of a join's
        new side) to anything that does not come from there."""
        if isinstance(node, exp.And):
            return self._fixed(node.this, scope, among) | self._fixed(node.expression, scope, among)
        if isinstance(node, exp.Paren):
            return self._fixed(node.this, scope, among)
        if not isinstance(node, exp.EQ):
            return set()
        found = set()
        for one, other in ((node.this, node.expression), (node.expression, node.this)):
            column = self._source_of(one, scope)
            if column is None or (among is not None and column[0] not in among):
                continue
            others = list(other.find_all(exp.Column, exp.Select))
            if among is None:
                free = not others
            else:
                named = [self._source_of(o, scope) for o in others]
                free = all(n is not None and n[0] not in among for n in named)
            if free:
                found.add(column)
        return found

    def _finish(self, node: exp.Select, scope: _Scope, rel: Rel) -> None:
        """DISTINCT, DISTINCT ON, ORDER BY, LIMIT and sampling."""
        order = node.args.get("order")
        by = self._order(order.expressions, scope) if order else {}
        distinct = node.args.get("distinct")
        if distinct and distinct.args.get("on"):
            keys = (
                distinct.args["on"].expressions if isinstance(distinct.args["on"], exp.Tuple) else [distinct.args["on"]]
            )
            kept = union(scope.repeat, by, limit=Kind.INFLUENCE)
            rel.repeat = union(*(self._tie_expr(key, scope) for key in keys))
            chosen_by = {key.sql(DIALECT).lower() for key in keys}
            values = {item.alias_or_name.lower(): item for item in node.expressions}
            for name, column in rel.columns.items():
                item = values.get(name)
                value = item.this if isinstance(item, exp.Alias) else item
                if value is None or value.sql(DIALECT).lower() not in chosen_by:
                    add(column.deps, kept)
        elif distinct:
            rel.repeat = union(*(_tie(column) for column in rel.columns.values()))
            rel.unique += (frozenset(rel.columns),)
        if node.args.get("limit") or node.args.get("offset") or node.args.get("sample"):
            rel.exist = union(rel.exist, rel.repeat, by, scope.order, limit=Kind.INFLUENCE)
        rel.order = union(rel.order, by)

    def _group_keys(self, group: exp.Group, node: exp.Select, scope: _Scope) -> list[exp.Expr]:
        if group.args.get("all"):
            return [item for item in node.expressions if not self._aggregates(item)]
        found: list[exp.Expr] = []
        pending = list(group.expressions)
        for name in ("grouping_sets", "cube", "rollup"):
            for part in group.args.get(name) or []:
                pending += part.expressions if isinstance(part, exp.Expr) else []
        while pending:
            item = pending.pop(0)
            if isinstance(item, (exp.Tuple, exp.GroupingSets, exp.Cube, exp.Rollup)):
                pending += item.expressions
            elif isinstance(item, exp.Paren):
                pending.append(item.this)
            elif isinstance(item, exp.Literal) and not item.is_string:
                position = int(item.name) - 1
                found.append(node.expressions[position] if position < len(node.expressions) else item)
            else:
                found.append(item)
        return found

    def _projections(
        self, items: Iterable[exp.Expr], scope: _Scope, rel: Rel
    ) -> Iterator[tuple[str, Col, Named | None]]:
        """Name, column, and the source column if it is nothing but that."""
        for item in items:
            if isinstance(item, exp.Star) or (isinstance(item, exp.Column) and isinstance(item.this, exp.Star)):
                yield from self._star(item, scope, rel)
            elif item.find(exp.Columns):
                yield from ((name, column, None) for name, column in self._columns_function(item, scope, rel))
            else:
                name = (item.alias_or_name or item.sql(DIALECT)).lower()
                value = item.this if isinstance(item, exp.Alias) else item
                if any(True for _ in value.find_all(exp.Explode)):
                    unnested = self._expr(value, scope)
                    add(rel.exist, unnested, Kind.INFLUENCE)
                    add(rel.repeat, unnested, Kind.INFLUENCE)
                yield name, Col(self._expr(value, scope), self._key(value, scope)), self._source_of(value, scope)

    def _star(self, item: exp.Expr, scope: _Scope, rel: Rel) -> Iterator[tuple[str, Col, Named | None]]:
        star = item.this if isinstance(item, exp.Column) else item
        only = item.table.lower() if isinstance(item, exp.Column) else None
        dropped = {c.name.lower() for c in star.args.get("except_") or []}
        replaced = {a.alias.lower(): a.this for a in star.args.get("replace") or []}
        renamed = {a.this.name.lower(): a.alias.lower() for a in star.args.get("rename") or []}
        seen: set[str] = set()
        if only is not None and not any(alias == only for alias, _ in scope.sources):
            rel.complete = False  # t.* of a struct or of something unknown
        for alias, source in scope.sources:
            if only is not None and alias != only:
                continue
            rel.complete = rel.complete and source.complete
            for name, column in source.columns.items():
                if name in dropped or (name in seen and only is None and name in scope.merged):
                    continue
                seen.add(name)
                origin: Named | None = (alias, name)
                if name in replaced:
                    column = Col(self._expr(replaced[name], scope), self._key(replaced[name], scope))
                    origin = None
                elif only is None and name in scope.merged:
                    column = scope.merged[name]
                yield renamed.get(name, name), column, origin

    def _columns_function(self, item: exp.Expr, scope: _Scope, rel: Rel) -> Iterator[tuple[str, Col]]:
        """COLUMNS('pattern') or COLUMNS(*), alone or inside an expression: the expression once per matching column."""
        call = next(iter(item.find_all(exp.Columns)))
        pattern = call.this
        value = item.this if isinstance(item, exp.Alias) else item
        for _, source in scope.sources:
            rel.complete = rel.complete and source.complete
            for name in source.columns:
                dropped = (
                    {c.name.lower() for c in (pattern.args.get("except_") or [])}
                    if isinstance(pattern, exp.Star)
                    else set()
                )
                if isinstance(pattern, exp.Literal) and not re.search(pattern.name, name, re.IGNORECASE):
                    continue
                if not isinstance(pattern, (exp.Literal, exp.Star)) or name in dropped:
                    rel.complete = rel.complete and name in dropped
                    continue
                one = exp.column(name)
                filled = one if value is call else value.copy()
                if value is not call:
                    for inner in list(filled.find_all(exp.Columns)):
                        inner.replace(one.copy())
                yield name, Col(self._expr(filled, scope), self._key(filled, scope))

    # ------------------------------------------------------------------ FROM and JOIN

    def _from(self, item: exp.Expr, scope: _Scope) -> None:
        for alias, rel in self._source(item, scope):
            add(scope.exist, rel.exist, Kind.INFLUENCE)
            add(scope.repeat, rel.repeat, Kind.INFLUENCE)
            add(scope.order, rel.order)
            scope.sources.append((alias, rel))
        if len(scope.sources) == 1:
            alias, rel = scope.sources[0]
            scope.unique = [frozenset((alias, name) for name in names) for names in rel.unique]
        for join in item.args.get("joins") or []:
            self._join(join, scope)

    def _source(self, item: exp.Expr, scope: _Scope) -> list[tuple[str, Rel]]:
        alias_node = item.args.get("alias")
        alias = item.alias_or_name.lower()
        names = [c.name.lower() for c in alias_node.columns] if isinstance(alias_node, exp.TableAlias) else []
        if isinstance(item, exp.Subquery) and isinstance(item.this, exp.Table):  # (t join u on ...)
            inner = _Scope(scope.ctes, scope.parent)
            self._from(item.this, inner)
            for join in item.args.get("joins") or []:
                self._join(join, inner)
            add(scope.exist, inner.exist)
            add(scope.repeat, inner.repeat)
            scope.merged.update(inner.merged)
            if not alias:
                return [(name, Rel(rel.columns, complete=rel.complete)) for name, rel in inner.sources]
            joined = Rel(complete=all(rel.complete for _, rel in inner.sources))
            for _, rel in inner.sources:
                joined.columns.update({n: c for n, c in rel.columns.items() if n not in joined.columns})
            return [(alias, _renamed(joined, names))]
        if isinstance(item, exp.Table):
            rel = self._table(item, scope)
        elif isinstance(item, exp.Unnest):
            deps = union(*(self._expr(e, scope) for e in item.expressions))
            rel = Rel({names[0] if names else "unnest": Col(deps)}, union(deps, limit=Kind.INFLUENCE))
            rel.repeat = dict(rel.exist)
            names = []
        elif isinstance(item, exp.Lateral):
            rel = self._query(item.this, scope.ctes, scope)
        else:
            lateral = scope if scope.sources else scope.parent  # DuckDB lets a subquery see what stands before it
            rel = self._query(item, scope.ctes, lateral)
        for pivot in item.args.get("pivots") or []:
            rel = self._pivot(pivot, rel, scope)
            alias = pivot.alias.lower() or alias
        if item.args.get("sample"):
            rel.exist = union(rel.exist, rel.repeat)
        return [(alias, _renamed(rel, names))]

    def _table(self, item: exp.Table, scope: _Scope) -> Rel:
        function = item.this
        if isinstance(function, exp.Func):
            if isinstance(function, exp.GenerateSeries) or function.sql_name().lower() in ("range", "generate_series"):
                deps = union(*(self._expr(e, scope) for e in function.iter_expressions()))
                alias = item.args.get("alias")
                name = alias.name.lower() if alias and not alias.columns else "generate_series"
                return Rel({name: Col(deps)}, union(deps, limit=Kind.INFLUENCE), union(deps, limit=Kind.INFLUENCE))
            return _unknown()
        name = item.name.lower()
        if not item.db and name in scope.ctes:
            found = scope.ctes[name]
            return Rel(
                dict(found.columns),
                dict(found.exist),
                dict(found.repeat),
                dict(found.order),
                found.complete,
                found.unique,
            )
        columns = self._schema.get(name)
        if columns is None:
            return _unknown()
        return Rel(
            {c: Col({Origin(name, c): Kind.VALUE}, self._is_key(name, c)) for c in columns},
            {Origin(name, ROWS): Kind.INFLUENCE},
        )

    def _join(self, join: exp.Join, scope: _Scope) -> None:
        side, kind, method = join.side.upper(), join.kind.upper(), join.method.upper()
        before = list(scope.sources)
        left_exist, left_repeat = dict(scope.exist), dict(scope.repeat)
        new = self._source(join.this, scope)
        right_exist = union(*(rel.exist for _, rel in new), limit=Kind.INFLUENCE)
        right_repeat = union(*(rel.repeat for _, rel in new), limit=Kind.INFLUENCE)
        scope.sources += new
        for nested in join.this.args.get("joins") or []:
            if not isinstance(join.this, exp.Subquery):
                self._join(nested, scope)

        using = [c.name.lower() for c in join.args.get("using") or []]
        if method == "NATURAL":
            left_names = {name for _, rel in before for name in rel.columns}
            using = [name for _, rel in new for name in rel.columns if name in left_names]
        condition: Deps = {}
        if join.args.get("on"):
            condition = self._predicate(join.args["on"], scope)
        for name in using:
            left, right = _find(before, name), _find(new, name)
            left = scope.merged.get(name, left)
            both_keys = bool(left and right and left.key and right.key)
            limit = Kind.LINK if both_keys else Kind.INFLUENCE
            for part in (left, right):
                add(condition, part.deps if part else {UNRESOLVED: Kind.VALUE}, limit)
            if left and right:
                merged = {"RIGHT": right.deps, "FULL": union(left.deps, right.deps)}.get(side, left.deps)
                scope.merged[name] = Col(merged, both_keys)

        if kind in ("SEMI", "ANTI"):
            scope.sources = before
            scope.exist = union(scope.exist, right_exist, condition)
            return
        once = method != "ASOF" and side in ("", "LEFT") and self._once(join, using, new, scope)
        if not once:
            scope.unique = []
        if side == "LEFT":
            # A left row stays whatever the right has: the condition decides what stands beside it and how often.
            self._extend(scope, new, union(condition, right_exist))
            if not once:
                scope.repeat = union(scope.repeat, condition, right_exist, right_repeat)
        elif side == "RIGHT":
            self._extend(scope, before, union(condition, left_exist))
            scope.exist = right_exist
            scope.repeat = union(condition, left_exist, left_repeat, right_repeat)
        elif side == "FULL":
            self._extend(scope, [*before, *new], union(condition, left_exist, right_exist))
            scope.exist = union(scope.exist, right_exist, condition)
            scope.repeat = union(scope.repeat, right_repeat, condition)
        else:
            scope.exist = union(scope.exist, right_exist, condition)
            if not once:
                scope.repeat = union(scope.repeat, right_repeat)

    def _once(self, join: exp.Join, using: Sequence[str], new: Sequence[tuple[str, Rel]], scope: _Scope) -> bool:
        """Whether at most one row of the joined relation can stand beside a row: the join binds a key of it."""
        if len(new) != 1:
            return False
        alias, rel = new[0]
        bound = {name for a, name in self._fixed(join.args["on"], scope, [alias])} if join.args.get("on") else set()
        return any(names <= bound.union(using) for names in rel.unique)

    def _extend(self, scope: _Scope, sources: Sequence[tuple[str, Rel]], deps: Deps) -> None:
        """Columns that an outer join may fill with nulls."""
        names = {id(rel) for _, rel in sources}
        scope.sources = [
            (
                alias,
                Rel(
                    {n: Col(union(c.deps, deps), c.key) for n, c in rel.columns.items()},
                    rel.exist, rel.repeat, rel.order, rel.complete, rel.unique,
                ) if id(rel) in names else rel,
            )
            for alias, rel in scope.sources
        ]  # fmt: skip

    def _pivot(self, pivot: exp.Pivot, rel: Rel, scope: _Scope) -> Rel:
        inner = _Scope(scope.ctes, scope.parent, [("", rel)])
        inner.counted_exist, inner.counted_repeat = rel.exist, rel.repeat
        if pivot.args.get("unpivot"):
            field_node = next(iter(pivot.args.get("fields") or []), None)
            if not isinstance(field_node, exp.In) or len(pivot.args["fields"]) != 1 or len(pivot.expressions) != 1:
                return _unknown()
            listed = [e.this if isinstance(e, exp.PivotAlias) else e for e in field_node.expressions]
            taken = {e.name.lower() for e in listed}
            value = union(*(self._expr(e, inner) for e in listed))
            columns = {n: c for n, c in rel.columns.items() if n not in taken}
            columns[field_node.this.name.lower()] = Col(key=None)
            columns[pivot.expressions[0].name.lower()] = Col(value)
            return Rel(columns, union(rel.exist, value, limit=Kind.INFLUENCE), rel.repeat, complete=rel.complete)
        fields = pivot.args.get("fields") or []
        names = [c.name.lower() for c in pivot.args.get("columns") or []]
        if not fields or not names or not all(isinstance(f, exp.In) for f in fields):
            return _unknown()
        used = {
            c.name.lower()
            for part in [*pivot.expressions, *(f.this for f in fields)]
            for c in part.find_all(exp.Column)
        }
        by = union(*(self._tie_expr(f.this, inner) for f in fields))
        value = union(*(self._expr(e, inner) for e in pivot.expressions), by)
        columns = {n: c for n, c in rel.columns.items() if n not in used}
        repeat = union(*(_tie(c) for c in columns.values()))
        columns |= {name: Col(dict(value)) for name in names}
        return Rel(columns, rel.exist, repeat, complete=rel.complete)

    # ------------------------------------------------------------------ expressions

    def _expr(self, node: exp.Expr | None, scope: _Scope) -> Deps:
        """Edges of the value of an expression."""
        if node is None:
            return {}
        if isinstance(node, exp.Column):
            return dict(self._column(node, scope).deps)
        if isinstance(node, exp.Alias):
            return self._expr(node.this, scope)
        if isinstance(node, exp.Window):
            return self._window(node, scope)
        if isinstance(node, exp.Case):
            return self._case(node, scope)
        if isinstance(node, exp.If):
            return union(
                union(self._expr(node.this, scope), limit=Kind.INFLUENCE),
                self._expr(node.args.get("true"), scope), self._expr(node.args.get("false"), scope),
            )  # fmt: skip
        if isinstance(node, exp.Filter):
            condition = self._predicate(node.expression.this, scope)
            return union(self._expr(node.this, scope), condition)
        if isinstance(node, exp.WithinGroup):
            ordered = [o.this if isinstance(o, exp.Ordered) else o for o in node.expression.expressions]
            return union(self._aggregate(node.this, scope), *(self._expr(o, scope) for o in ordered))
        if isinstance(node, exp.Order):
            return union(self._expr(node.this, scope), self._order(node.expressions, scope))
        if isinstance(node, exp.Exists):
            return self._rows_of(node.this, scope)
        if isinstance(node, exp.In) and node.args.get("query"):
            return union(self._expr(node.this, scope), self._scalar(node.args["query"], scope))
        if isinstance(node, (exp.Subquery, *_QUERY)):
            return self._scalar(node, scope)
        if isinstance(node, exp.Lambda):
            known = scope.parameters
            scope.parameters = known | {p.name.lower() for p in node.expressions}
            try:
                return self._expr(node.this, scope)
            finally:
                scope.parameters = known
        if isinstance(node, exp.Star):
            return union(*(c.deps for _, rel in scope.sources for c in rel.columns.values()))
        if self._is_aggregate(node):
            return self._aggregate(node, scope)
        deps = union(*(self._expr(child, scope) for child in node.iter_expressions()))
        if isinstance(node, exp.Anonymous) and node.name.lower() not in _functions()[0]:
            deps[UNRESOLVED] = Kind.VALUE
        return deps

    def _case(self, node: exp.Case, scope: _Scope) -> Deps:
        deps = union(self._expr(node.this, scope), limit=Kind.INFLUENCE)
        for branch in node.args["ifs"]:
            add(deps, self._expr(branch.this, scope), Kind.INFLUENCE)
            add(deps, self._expr(branch.args.get("true"), scope))
        return add(deps, self._expr(node.args.get("default"), scope))

    def _is_aggregate(self, node: exp.Expr) -> bool:
        if isinstance(node, exp.Anonymous):
            return node.name.lower() in _functions()[1]
        return isinstance(node, (exp.AggFunc, exp.WithinGroup)) and not isinstance(
            node, (exp.RowNumber, exp.Lag, exp.Lead)
        )

    def _aggregates(self, node: exp.Expr) -> bool:
        """Whether an expression aggregates in its own SELECT: not inside a window, not inside a subquery."""
        if isinstance(node, _QUERY):
            return False
        if isinstance(node, exp.Window):
            parts = [*node.this.iter_expressions(), *(node.args.get("partition_by") or [])]
            parts += node.args["order"].expressions if node.args.get("order") else []
            return any(self._aggregates(part) for part in parts)
        return self._is_aggregate(node) or any(self._aggregates(child) for child in node.iter_expressions())

    def _aggregate(self, node: exp.Expr, scope: _Scope) -> Deps:
        """An aggregate: its arguments, and the rows it sees."""
        deps = union(
            *(self._expr(child, scope) for child in node.iter_expressions() if not isinstance(child, exp.Star))
        )
        return union(deps, self._seen(node, scope.counted_exist, scope.counted_repeat), self._sequence(node, scope))

    def _seen(self, node: exp.Expr, exist: Deps, repeat: Deps) -> Deps:
        blind = isinstance(node, _BLIND_TO_REPEATS) or node.find(exp.Distinct) is not None
        seen = union(exist, {} if blind else repeat, limit=Kind.INFLUENCE)
        if isinstance(node, exp.Count) and (node.this is None or isinstance(node.this, exp.Star)):
            for origin in seen:
                if origin.column == ROWS:
                    seen[origin] = Kind.VALUE
        return seen

    def _sequence(self, node: exp.Expr, scope: _Scope) -> Deps:
        return scope.order if isinstance(node, _ORDERED) else {}

    def _window(self, node: exp.Window, scope: _Scope) -> Deps:
        function = node.this
        while isinstance(function, (exp.IgnoreNulls, exp.RespectNulls)):
            function = function.this
        deps: Deps = {}
        if isinstance(function, exp.Filter):
            add(deps, self._predicate(function.expression.this, scope))
            function = function.this
        for child in function.iter_expressions():
            if not isinstance(child, exp.Star):
                add(deps, self._expr(child, scope))
        add(deps, self._seen(function, scope.exist, scope.repeat))
        self._over(node, scope, deps)
        if isinstance(function, exp.Anonymous) and function.name.lower() not in _functions()[0]:
            deps[UNRESOLVED] = Kind.VALUE
        return deps

    def _over(self, node: exp.Window, scope: _Scope, deps: Deps) -> None:
        for part in node.args.get("partition_by") or []:
            add(deps, self._tie_expr(part, scope))
        order = node.args.get("order")
        if order:
            add(deps, self._order(order.expressions, scope))
        spec = node.args.get("spec")
        if spec:
            add(deps, union(*(self._expr(c, scope) for c in spec.iter_expressions()), limit=Kind.INFLUENCE))
        named = node.args.get("alias") or (
            node.this if isinstance(node.this, exp.Identifier) and node.args.get("first") else None
        )
        for name in [named, node.args.get("first")]:
            if isinstance(name, exp.Identifier):
                window = scope.windows.get(name.name.lower())
                if window is None:
                    deps[UNRESOLVED] = Kind.VALUE
                elif window is not node:
                    self._over(window, scope, deps)

    def _order(self, items: Iterable[exp.Expr], scope: _Scope) -> Deps:
        deps: Deps = {}
        for item in items:
            value = item.this if isinstance(item, exp.Ordered) else item
            if not (isinstance(value, exp.Literal) and not value.is_string):  # ORDER BY 1 repeats an output column
                add(deps, self._tie_expr(value, scope))
            else:
                add(deps, union(*(self._expr(a, scope) for a in scope.aliases.values()), limit=Kind.INFLUENCE))
        return deps

    def _scalar(self, node: exp.Expr, scope: _Scope) -> Deps:
        """A subquery used as a value."""
        rel = self._query(node, scope.ctes, scope)
        deps = union(*(c.deps for c in rel.columns.values()))
        if not rel.complete:
            deps[UNRESOLVED] = Kind.VALUE
        return add(deps, union(rel.exist, rel.repeat), Kind.INFLUENCE)

    def _rows_of(self, node: exp.Expr, scope: _Scope) -> Deps:
        """EXISTS: whether the subquery has a row, whatever it selects."""
        return union(self._query(node, scope.ctes, scope).exist, limit=Kind.INFLUENCE)

    # ------------------------------------------------------------------ predicates, ties, keys

    def _predicate(self, node: exp.Expr, scope: _Scope) -> Deps:
        """Edges of a row predicate. Equality of two keys, and a null test on a key, only tie rows together."""
        if isinstance(node, (exp.And, exp.Or, exp.Not, exp.Paren)):
            return union(*(self._predicate(child, scope) for child in node.iter_expressions()))
        if isinstance(node, (exp.EQ, exp.NullSafeEQ)):
            pairs = [(node.this, node.expression)]
            if isinstance(node.this, exp.Tuple) and isinstance(node.expression, exp.Tuple):
                pairs = list(zip(node.this.expressions, node.expression.expressions, strict=False))
            deps: Deps = {}
            for left, right in pairs:
                tied = self._key(left, scope) and self._key(right, scope)
                add(
                    deps,
                    union(self._expr(left, scope), self._expr(right, scope)),
                    Kind.LINK if tied else Kind.INFLUENCE,
                )
            return deps
        if isinstance(node, exp.Is) and isinstance(node.expression, exp.Null):
            return self._tie_expr(node.this, scope)
        if isinstance(node, exp.In) and node.args.get("query"):
            rel = self._query(node.args["query"], scope.ctes, scope)
            tied = self._key(node.this, scope) and all(c.key for c in rel.columns.values()) and rel.complete
            values = union(self._expr(node.this, scope), *(c.deps for c in rel.columns.values()))
            deps = union(values, limit=Kind.LINK if tied else Kind.INFLUENCE)
            if not rel.complete:
                deps[UNRESOLVED] = Kind.INFLUENCE
            return add(deps, rel.exist, Kind.INFLUENCE)
        if isinstance(node, exp.Exists):
            return self._rows_of(node.this, scope)
        return union(self._expr(node, scope), limit=Kind.INFLUENCE)

    def _tie_expr(self, node: exp.Expr, scope: _Scope) -> Deps:
        """Edges of an expression that groups, orders or deduplicates."""
        if isinstance(node, exp.Tuple):
            return union(*(self._tie_expr(e, scope) for e in node.expressions))
        value = node.this if isinstance(node, exp.Alias) else node
        return union(self._expr(value, scope), limit=Kind.LINK if self._key(value, scope) else Kind.INFLUENCE)

    def _key(self, node: exp.Expr, scope: _Scope) -> bool | None:
        """True: a token or key, or made only of such; None: a constant; False: anything else."""
        if isinstance(node, exp.Column):
            return self._column(node, scope).key
        if isinstance(node, (exp.Literal, exp.Null, exp.Boolean, exp.DataType)):
            return None
        if isinstance(node, exp.Tuple):
            return _all_keys(self._key(e, scope) for e in node.expressions)
        if isinstance(node, exp.Case):
            results = [b.args.get("true") for b in node.args["ifs"]] + [node.args.get("default")]
            return _all_keys(self._key(r, scope) for r in results if r is not None)
        if isinstance(node, _KEY_KEEPING):
            return _all_keys(self._key(child, scope) for child in node.iter_expressions())
        if isinstance(node, exp.Subquery) and isinstance(node.this, exp.Select):
            return False
        return None if not node.find(exp.Column, exp.Select, exp.Star) and not isinstance(node, exp.Func) else False

    # ------------------------------------------------------------------ names

    def _column(self, node: exp.Column, scope: _Scope) -> Col:
        if isinstance(node.this, exp.Star):
            alias = node.table.lower()
            parts = [c.deps for name, rel in scope.sources if name == alias for c in rel.columns.values()]
            return Col(union(*parts) if parts else {UNRESOLVED: Kind.VALUE})
        names = [part.name.lower() for part in node.parts]
        found = self._lookup(names, scope)
        return found if found is not None else Col({UNRESOLVED: Kind.VALUE})

    def _lookup(self, names: list[str], scope: _Scope) -> Col | None:
        """A name in the innermost scope that knows it; a.b may be table.column or column.field."""
        current: _Scope | None = scope
        while current is not None:
            found = self._lookup_here(names, current)
            if found is not None:
                return found
            current = current.parent
        return None

    def _lookup_here(self, names: list[str], scope: _Scope) -> Col | None:
        if names[0] in scope.parameters:
            return Col(key=None)
        if len(names) > 1:
            for depth in range(len(names) - 1):  # catalog.schema.table.column, possibly followed by struct fields
                for alias, rel in scope.sources:
                    if alias == names[depth] and (names[depth + 1] in rel.columns or not rel.complete):
                        column = rel.columns.get(names[depth + 1], Col({UNRESOLVED: Kind.VALUE}))
                        return column if depth + 2 == len(names) else Col(dict(column.deps))
        name = names[0]
        if name in scope.merged and len(names) == 1:
            return scope.merged[name]
        matches = [rel.columns[name] for _, rel in scope.sources if name in rel.columns]
        if matches:
            # More than one match is an error in DuckDB unless USING merged it: all of them, to be safe.
            column = matches[0] if len(matches) == 1 else Col(union(*(m.deps for m in matches)), matches[0].key)
            return column if len(names) == 1 else Col(dict(column.deps))
        if name in scope.aliases and name not in scope.open_aliases:
            scope.open_aliases.add(name)
            try:
                value = scope.aliases[name]
                return Col(self._expr(value, scope), self._key(value, scope))
            finally:
                scope.open_aliases.discard(name)
        if len(names) == 1:
            for alias, rel in scope.sources:  # a whole row as a struct
                if alias == name and rel.columns:
                    return Col(union(*(c.deps for c in rel.columns.values())))
        if any(not rel.complete for _, rel in scope.sources):
            return Col({UNRESOLVED: Kind.VALUE})
        return None


def _find(sources: Sequence[tuple[str, Rel]], name: str) -> Col | None:
    return next((rel.columns[name] for _, rel in sources if name in rel.columns), None)


def _renamed(rel: Rel, names: Sequence[str]) -> Rel:
    """The relation with its first columns renamed, as `t(a, b)` does."""
    if not names:
        return rel
    old = list(rel.columns.items())
    new = {name: (names[n] if n < len(names) else name) for n, (name, _) in enumerate(old)}
    columns = {new[name]: column for name, column in old}
    unique = tuple(frozenset(new[name] for name in key) for key in rel.unique)
    return Rel(columns, rel.exist, rel.repeat, rel.order, rel.complete, unique)


def _shape(rel: Rel) -> tuple[object, ...]:
    return ({n: (c.deps, c.key) for n, c in rel.columns.items()}, rel.exist, rel.repeat, rel.complete)


def _tie(column: Col) -> Deps:
    return union(column.deps, limit=Kind.LINK if column.key else Kind.INFLUENCE)


def _both_keys(a: bool | None, b: bool | None) -> bool | None:
    return _all_keys((a, b))


def _all_keys(parts: Iterable[bool | None]) -> bool | None:
    found = list(parts)
    if any(part is False for part in found):
        return False
    return True if any(found) else None


def read_query(sql: str, schema: Schema, is_key: IsKey | None = None) -> QueryLineage:
    """Edges of one query; see Reader."""
    return Reader(schema, is_key).read(sql)
