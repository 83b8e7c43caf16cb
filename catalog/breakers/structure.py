"""Does the SQL do what a breaker says, and which query shows from the data whether that protects anybody?

The column is followed upwards through the compiled model: casts, rounding, arithmetic with constants, a default, a
CASE that hides small groups, CTEs, unions. It must end in the aggregate that the declared kind names; anything that
hands out the value of one person (max, min, any value, a list, a concatenation, a hash, a window) is refused. The query
of evidence is that same SQL with the group's statistics carried along beside the column, so it cannot describe another
aggregation than the one that is published, and a cell that the model hides does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from catalog.breakers.declaration import KINDS, Breaker
from catalog.lineage.query import DIALECT

NUMBERS = ("persons", "distinct_sensitive", "largest", "second", "total")
"""Columns of the statistics a group carries, prefixed by `_e_` inside the query of evidence."""

_AGGREGATE: dict[str, tuple[type[exp.Expression], ...]] = {
    "count": (exp.Count, exp.CountIf),
    "hidden_flag": (exp.Count,),
    "total": (exp.Sum,),
    "mean": (exp.Avg,),
    "quantile": (exp.Median, exp.PercentileCont, exp.PercentileDisc, exp.Quantile, exp.ApproxQuantile),
    "share": (exp.Count, exp.CountIf, exp.Sum, exp.Avg),
}
_ONE_PERSON = {
    exp.Max: "max 给出某一个人的值", exp.Min: "min 给出某一个人的值", exp.AnyValue: "any_value 给出某一个人的值",
    exp.First: "first 给出某一个人的值", exp.Last: "last 给出某一个人的值", exp.ArgMax: "arg_max 给出某一个人的值",
    exp.ArgMin: "arg_min 给出某一个人的值", exp.Mode: "mode 给出某一个人的值",
    exp.GroupConcat: "拼接列出了每一个人的值", exp.ArrayAgg: "列表列出了每一个人的值",
    exp.MD5: "没有密钥的散列可以逐个试出原值", exp.MD5Digest: "没有密钥的散列可以逐个试出原值",
    exp.SHA: "没有密钥的散列可以逐个试出原值", exp.SHA2: "没有密钥的散列可以逐个试出原值",
    exp.Window: "窗口函数给每一个人一行", exp.Substring: "截取仍是个人的一部分标识", exp.Left: "截取仍是个人的一部分标识",
    exp.Right: "截取仍是个人的一部分标识",
}  # fmt: skip
_BANDS = (exp.Floor, exp.IntDiv, exp.Div, exp.Mul, exp.Sub, exp.Add, exp.Mod, exp.Paren, exp.Cast, exp.Round, exp.Case,
          exp.If, exp.DateTrunc, exp.TimestampTrunc, exp.Year, exp.Extract, exp.Column, exp.Literal, exp.Null, exp.And,
          exp.Or, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Between, exp.DataType, exp.Identifier, exp.Var, exp.Neg,
          exp.Concat, exp.Is, exp.DateDiff)  # fmt: skip
_COARSENS = (exp.Floor, exp.IntDiv, exp.Case, exp.DateTrunc, exp.TimestampTrunc, exp.Year, exp.Extract)


class Refused(Exception):
    """The SQL is not what the breaker says; the message is Chinese."""


@dataclass(frozen=True)
class _Found:
    """Where a column ends. `hides`: for a flag, the value of the flag that says a cell is hidden."""

    select: exp.Select
    value: exp.Expression
    hides: bool | None = None


def evidence_sql(sql: str, column: str, breaker: Breaker) -> str:
    """The query that gives, in one row, what a certificate needs: groups, smallest_group, l_diversity, top1_share,
    top2_share, p_percent (shares and percent as fractions; null without a group).

    Raises Refused when the SQL does not do what the breaker declares.
    """
    try:
        tree = sqlglot.parse_one(sql, dialect=DIALECT)
    except SqlglotError as error:
        raise Refused("模型的 SQL 无法解析") from error
    if not isinstance(tree, exp.Query):
        raise Refused("模型不是一条查询")
    if breaker.kind == "band":
        return _band_sql(tree, column, breaker)
    found = _follow(tree, column.lower(), {}, breaker, top=True)
    hides = next((f.hides for f in found if f.hides is not None), None)
    shown = (
        f"not {_quoted(column)}" if hides else _quoted(column) if hides is False else f"{_quoted(column)} is not null"
    )
    numbers = {name: f"_e_{name}" for name in NUMBERS}
    if hides is None:  # a cell of nobody that says zero tells of nobody; one that says more has persons we do not know
        shown += f" and ({numbers['persons']} is not null or {_quoted(column)} <> 0)"
    return (
        "select count(*) as groups, min(coalesce({persons}, 0)) as smallest_group,\n"
        "  min(coalesce({distinct_sensitive}, 0)) as l_diversity,\n"
        "  max({largest} / nullif({total}, 0)) as top1_share, max(({largest} + {second}) / nullif({total}, 0)) as top2_share,\n"
        "  min(({total} - {largest} - {second}) / nullif({largest}, 0)) as p_percent\nfrom (\n"
    ).format(**numbers) + f"{tree.sql(DIALECT)}\n) as evidence\nwhere {shown}"


def _quoted(name: str) -> str:
    return exp.to_identifier(name, quoted=True).sql(DIALECT)


# ---------------------------------------------------------------------- following a column, adding the statistics


def _follow(
    query: exp.Query, column: str, ctes: dict[str, exp.CTE], breaker: Breaker, *, top: bool = False
) -> list[_Found]:
    """Find the aggregate behind an output column and add the statistics to every query on the way (in place)."""
    if isinstance(query, exp.Subquery):
        return _follow(query.this, column, ctes, breaker)
    clause = query.args.get("with_")
    known = {**ctes, **{cte.alias.lower(): cte for cte in clause.expressions}} if clause else ctes
    if isinstance(query, exp.SetOperation):
        if not isinstance(query, exp.Union) or query.args.get("distinct") or query.args.get("by_name"):
            raise Refused("汇总之后只允许 union all")
        position = _position(query, column)
        found: list[_Found] = []
        for side in (query.this, query.expression):
            name = _name_at(side, position)
            found += _follow(side, name, known, breaker)
        return found
    if not isinstance(query, exp.Select):
        raise Refused("列的来源不是一条查询")
    projection = _projection(query, column)
    if projection is None:
        return _pass_star(query, column, known, breaker)
    value = projection.this if isinstance(projection, exp.Alias) else projection
    inner, hides = _peel(value, breaker)
    if isinstance(inner, (exp.Literal, exp.Null)):
        _add_empty(query)
        return []
    if isinstance(inner, exp.Column):
        return [
            _Found(f.select, f.value, f.hides if hides is None else hides) for f in _pass(query, inner, known, breaker)
        ]
    _check_value(inner, breaker)
    if query.args.get("distinct") or query.args.get("qualify") or query.args.get("limit"):
        raise Refused("汇总查询不能带 distinct、qualify 或 limit")
    _instrument(query, inner, breaker, top)
    return [_Found(query, inner, hides)]


def _pass(query: exp.Select, column: exp.Column, ctes: dict[str, exp.CTE], breaker: Breaker) -> list[_Found]:
    """The column comes unchanged from a source of this query: follow it there and carry the statistics through."""
    if query.args.get("group") or query.args.get("having") or query.args.get("distinct"):
        raise Refused("同一列被再次汇总，无法核对每组人数")
    alias, source = _source(query, column)
    found = _into(source, column.name.lower(), ctes, breaker)
    for name in NUMBERS:
        query.select(exp.alias_(exp.column(f"_e_{name}", alias or None), f"_e_{name}"), copy=False)
    return found


def _pass_star(query: exp.Select, column: str, ctes: dict[str, exp.CTE], breaker: Breaker) -> list[_Found]:
    stars = [
        item for item in query.expressions
        if isinstance(item, exp.Star) or (isinstance(item, exp.Column) and isinstance(item.this, exp.Star))
    ]  # fmt: skip
    sources = _sources(query)
    if len(stars) != 1 or len(sources) != 1 or query.args.get("group") or query.args.get("distinct"):
        raise Refused(f"找不到列 {column} 的来源")
    return _into(next(iter(sources.values())), column, ctes, breaker)  # the star carries the statistics along


def _into(source: exp.Expression, column: str, ctes: dict[str, exp.CTE], breaker: Breaker) -> list[_Found]:
    if isinstance(source, exp.Subquery):
        return _follow(source.this, column, ctes, breaker)
    if isinstance(source, exp.Table) and not source.db and source.name.lower() in ctes:
        cte = ctes[source.name.lower()]
        if any(name.endswith("_e_persons") for name in cte.this.named_selects):
            raise Refused("同一汇总被用了两次，无法核对")
        before = {name: other for name, other in ctes.items() if other is not cte}
        return _follow(cte.this, column, before, breaker)
    raise Refused("本模型没有对该列做汇总：值直接来自输入表")


def _sources(query: exp.Select) -> dict[str, exp.Expression]:
    from_ = query.args.get("from_")
    items = ([from_.this] if from_ else []) + [join.this for join in query.args.get("joins") or []]
    return {item.alias_or_name.lower(): item for item in items}


def _source(query: exp.Select, column: exp.Column) -> tuple[str, exp.Expression]:
    sources = _sources(query)
    if column.table:
        if column.table.lower() not in sources:
            raise Refused(f"找不到列 {column.name} 的来源")
        return column.table, sources[column.table.lower()]
    if len(sources) != 1:
        raise Refused(f"列 {column.name} 没有写明来自哪个表")
    alias, source = next(iter(sources.items()))
    return alias, source


def _projection(query: exp.Select, column: str) -> exp.Expression | None:
    return next((item for item in query.expressions if item.alias_or_name.lower() == column), None)


def _position(query: exp.Query, column: str) -> int:
    names = [name.lower() for name in query.named_selects]
    if column not in names:
        raise Refused(f"找不到列 {column}")
    return names.index(column)


def _name_at(query: exp.Query, position: int) -> str:
    names = query.named_selects
    if position >= len(names):
        raise Refused("union 两侧的列数不同")
    return names[position].lower()


def _peel(value: exp.Expression, breaker: Breaker) -> tuple[exp.Expression, bool | None]:
    """What stands inside casts, rounding, constants, a default and a CASE that hides; for a flag which value hides."""
    hides: bool | None = None
    while True:
        default = isinstance(value, exp.Coalesce) and all(
            isinstance(e, (exp.Literal, exp.Null)) for e in value.expressions
        )
        if default or isinstance(value, (exp.Cast, exp.Paren, exp.Round)):
            value = value.this
        elif isinstance(value, (exp.Mul, exp.Add, exp.Sub)) or (isinstance(value, exp.Div) and breaker.kind != "share"):
            sides = [s for s in (value.this, value.expression) if not isinstance(s, exp.Literal)]
            if len(sides) != 1:
                return value, hides
            value = sides[0]
        elif isinstance(value, exp.Case):
            results = [b.args.get("true") for b in value.args["ifs"]] + [value.args.get("default")]
            kept = {r.sql(DIALECT): r for r in results if r is not None and not isinstance(r, (exp.Literal, exp.Null))}
            if len(kept) != 1:
                return value, hides
            value = next(iter(kept.values()))
        elif breaker.kind == "hidden_flag" and isinstance(value, (exp.LT, exp.LTE, exp.GT, exp.GTE)):
            left, right = value.this, value.expression
            if _constant(right):
                hides, value = isinstance(value, (exp.LT, exp.LTE)), left
            elif _constant(left):
                hides, value = isinstance(value, (exp.GT, exp.GTE)), right
            else:
                raise Refused("标志必须是人数与门槛的比较")
        elif breaker.kind == "hidden_flag" and isinstance(value, exp.Not):
            raise Refused("标志请直接写成比较，不要取反")
        else:
            return value, hides


def _constant(node: exp.Expression) -> bool:
    """A literal, or a scalar taken from the rules table."""
    tables = [t.name.lower() for t in node.find_all(exp.Table)]
    if tables:
        return set(tables) == {"ods_reference__rule"}
    return node.find(exp.Column) is None


def _check_value(value: exp.Expression, breaker: Breaker) -> None:
    """The expression must be the kind's aggregate and nothing else."""
    for node in value.walk():
        reason = next((text for kind, text in _ONE_PERSON.items() if isinstance(node, kind)), None)
        if reason:
            raise Refused(reason)
        if isinstance(node, exp.Anonymous):
            raise Refused(f"函数 {node.name} 不在允许之列")
        if isinstance(node, (exp.Select, exp.SetOperation)):
            raise Refused("汇总表达式里不能有子查询")
    allowed = _AGGREGATE[breaker.kind]
    title = KINDS[breaker.kind].title_zh
    if breaker.kind == "share":
        parts = [p.this if isinstance(p, exp.Cast) else p for p in _share_parts(value)]
        if not all(isinstance(part, allowed) for part in parts):
            raise Refused(f"降级措施声明为{title}，但该列不是两个汇总之比或平均")
        return
    bare = value.this if isinstance(value, exp.Filter) else value
    if isinstance(bare, exp.WithinGroup):
        bare = bare.this
    if not isinstance(bare, allowed):
        raise Refused(f"降级措施声明为{title}，但该列不是{title}")
    if breaker.kind == "hidden_flag" and bare.find(exp.Distinct) is None:
        raise Refused("标志必须以不同的人数为准（count(distinct …)）")


def _share_parts(value: exp.Expression) -> list[exp.Expression]:
    """The aggregates that a share consists of."""
    if isinstance(value, (exp.Paren, exp.Round)):
        return _share_parts(value.this)
    if isinstance(value, (exp.Div, exp.Mul)):
        found = []
        for side in (value.this, value.expression):
            if not isinstance(side, exp.Literal):
                found += _share_parts(side)
        return found
    if isinstance(value, exp.Nullif):
        return _share_parts(value.this)
    return [value]


def _keys(query: exp.Select, breaker: Breaker) -> list[exp.Expression]:
    group = query.args.get("group")
    if not group:
        return []
    if group.args.get("all") or any(group.args.get(n) for n in ("grouping_sets", "cube", "rollup")):
        raise Refused("汇总必须写明分组列（不用 group by all、grouping sets）")
    named = {item.alias.lower(): item.this for item in query.expressions if isinstance(item, exp.Alias)}
    keys = []
    for key in group.expressions:
        if isinstance(key, exp.Literal) and not key.is_string:
            item = query.expressions[int(key.name) - 1]
            key = item.this if isinstance(item, exp.Alias) else item
        elif isinstance(key, exp.Column) and not key.table and key.name.lower() in named:
            replaced = named[key.name.lower()]
            key = key if replaced.find(exp.AggFunc) else replaced
        if any(c.name.lower() == breaker.subject for c in key.find_all(exp.Column)):
            raise Refused(f"按 {breaker.subject} 分组：每组就是一个人")
        keys.append(key)
    return keys


def _contribution(value: exp.Expression, breaker: Breaker) -> str:
    """What one person adds to the cell, as an aggregate over that person's rows."""
    aggregate = value.this if isinstance(value, exp.Filter) else value
    if isinstance(aggregate, exp.Sum):
        return f"sum(abs({aggregate.this.sql(DIALECT)}))"
    if isinstance(aggregate, exp.Avg):
        return f"sum(abs({aggregate.this.sql(DIALECT)}))"
    if isinstance(aggregate, exp.Count) and not isinstance(aggregate.this, (exp.Star, exp.Distinct)) and aggregate.this:
        return f"count({aggregate.this.sql(DIALECT)})"
    if isinstance(aggregate, exp.Count) and not isinstance(aggregate.this, exp.Distinct):
        return "count(*)"
    if isinstance(aggregate, exp.CountIf):
        return f"count(*) filter ({aggregate.this.sql(DIALECT)})"
    return "1"


def _instrument(query: exp.Select, value: exp.Expression, breaker: Breaker, top: bool) -> None:
    """Turn the aggregating SELECT into one that carries the statistics of each group beside its columns (in place)."""
    keys = _keys(query, breaker)
    _known_column(query, breaker.subject, "subject")
    clause = query.args.get("with_")
    persons = exp.Select()
    for part in ("from_", "joins", "laterals", "where", "windows"):
        if query.args.get(part):
            node = query.args[part]
            persons.set(part, [n.copy() for n in node] if isinstance(node, list) else node.copy())
    texts = [key.sql(DIALECT) for key in keys]
    sensitive = breaker.sensitive or "null"
    for n, text in enumerate(texts):
        persons.select(f"{text} as _e_k{n}", dialect=DIALECT, copy=False)
    subject = _qualified(query, breaker.subject)
    persons.select(
        f"{_contribution(value, breaker)} as _e_part", f"min({sensitive}) as _e_sensitive",
        dialect=DIALECT, copy=False,
    )  # fmt: skip
    persons.where(f"{subject} is not null", dialect=DIALECT, copy=False)
    if isinstance(value, exp.Filter):
        persons.where(value.expression.this.copy(), copy=False)
    persons.group_by(*texts, subject, dialect=DIALECT, copy=False)

    key_list = "".join(f"_e_k{n}, " for n in range(len(keys)))
    statistics = (
        f"select {key_list}count(*) as _e_persons, count(distinct _e_sensitive) as _e_distinct_sensitive, "
        "cast(max(_e_part) as double) as _e_largest, cast(coalesce(max(_e_part, 2)[2], 0) as double) as _e_second, "
        f"cast(sum(_e_part) as double) as _e_total from ({persons.sql(DIALECT)}) as _e_by_person where _e_part > 0"
        + (f" group by {key_list.rstrip(', ')}" if keys else " having count(*) > 0")
    )
    original = query.copy()
    original.set("with_", None)
    for n, text in enumerate(texts):
        original.select(f"{text} as _e_k{n}", dialect=DIALECT, copy=False)
    join = " and ".join(f"_e_cell._e_k{n} is not distinct from _e_stat._e_k{n}" for n in range(len(keys))) or "true"
    dropped = f" exclude ({key_list.rstrip(', ')})" if keys else ""
    wrapped = sqlglot.parse_one(
        f"select _e_cell.*{dropped}, {', '.join(f'_e_stat._e_{n} as _e_{n}' for n in NUMBERS)} "
        f"from ({original.sql(DIALECT)}) as _e_cell left join ({statistics}) as _e_stat on {join}",
        dialect=DIALECT,
    )
    for part in list(query.args):
        query.set(part, None)
    for part, node in wrapped.args.items():
        query.set(part, node)
    if clause:
        query.set("with_", clause)


def _add_empty(query: exp.Select) -> None:
    """A branch of a union whose column is a constant has no group."""
    for name in NUMBERS:
        kind = "bigint" if name in ("persons", "distinct_sensitive") else "double"
        query.select(f"cast(null as {kind}) as _e_{name}", dialect=DIALECT, copy=False)


def _qualified(query: exp.Select, column: str) -> str:
    """The subject as the aggregation itself writes it (with its table, where it does)."""
    written = [c for c in query.find_all(exp.Column) if c.name.lower() == column and c.table]
    return written[0].sql(DIALECT) if written else column


def _known_column(query: exp.Select, column: str, what: str) -> None:
    if not _sources(query):
        raise Refused(f"汇总没有来源，找不到 {what} 列 {column}")


# ---------------------------------------------------------------------- bands


def _band_sql(tree: exp.Query, column: str, breaker: Breaker) -> str:
    """Evidence of a band: the smallest class of persons that share all columns named in `group`."""
    values = _band_values(tree, column.lower(), {})
    if not values:
        raise Refused("找不到分档的表达式")
    for value in values:
        for node in value.walk():
            reason = next((text for kind, text in _ONE_PERSON.items() if isinstance(node, kind)), None)
            if reason:
                raise Refused(reason)
            if not isinstance(node, _BANDS):
                raise Refused(f"分档表达式里不能有 {node.key}")
        if not any(isinstance(node, _COARSENS) for node in value.walk()):
            raise Refused("值没有变粗：缺少取整、截断到时段或分档")
    names = [n.lower() for n in tree.named_selects]
    group = [*dict.fromkeys([*breaker.group, column])]
    missing = [n for n in [*group, breaker.subject, breaker.sensitive or column] if n not in names]
    if missing:
        raise Refused(f"结果中没有列 {'、'.join(missing)}")
    listed = ", ".join(_quoted(n) for n in group)
    return (
        "select count(*) as groups, min(persons) as smallest_group, min(distinct_sensitive) as l_diversity,\n"
        "  null as top1_share, null as top2_share, null as p_percent\nfrom (\n"
        f"  select {listed}, count(distinct {_quoted(breaker.subject)}) as persons,\n"
        f"    count(distinct {_quoted(str(breaker.sensitive))}) as distinct_sensitive\n"
        f"  from (\n{tree.sql(DIALECT)}\n  ) as published where {_quoted(breaker.subject)} is not null group by {listed}\n"
        ") as evidence"
    )


def _band_values(query: exp.Query, column: str, ctes: dict[str, exp.CTE]) -> list[exp.Expression]:
    """The expressions that make a column, followed through bare columns."""
    if isinstance(query, exp.Subquery):
        return _band_values(query.this, column, ctes)
    clause = query.args.get("with_")
    known = {**ctes, **{cte.alias.lower(): cte for cte in clause.expressions}} if clause else ctes
    if isinstance(query, exp.SetOperation):
        position = _position(query, column)
        sides: Sequence[exp.Query] = (query.this, query.expression)
        return [v for side in sides for v in _band_values(side, _name_at(side, position), known)]
    if not isinstance(query, exp.Select):
        raise Refused("列的来源不是一条查询")
    projection = _projection(query, column)
    if projection is None:
        raise Refused(f"找不到列 {column} 的来源")
    value = projection.this if isinstance(projection, exp.Alias) else projection
    while isinstance(value, (exp.Cast, exp.Paren)):
        value = value.this
    if isinstance(value, exp.Column):
        _, source = _source(query, value)
        if isinstance(source, exp.Subquery):
            return _band_values(source.this, value.name.lower(), known)
        if isinstance(source, exp.Table) and not source.db and source.name.lower() in known:
            return _band_values(known[source.name.lower()].this, value.name.lower(), known)
        raise Refused("值没有变粗：直接来自输入表")
    return [value]
