"""Every column of every dbt model: is it graded and marked at least as high as the lineage computes?

It needs the compiled SQL, so it stands in the room that runs dbt and is handed to `catalog.check.run(more=…)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from catalog import breakers, propagation
from catalog.breakers.certificate import floor_problems
from catalog.breakers.structure import Refused
from catalog.checks.base import Check, Context, Findings
from catalog.lineage import Graph, Kind, Origin
from catalog.propagation import ComputedColumn
from modeling import certify, lineage

Loader = Callable[[], tuple[Graph, Mapping[str, str]]]
"""Gives the graph and the compiled SQL of every model."""

_EDGES = {Kind.VALUE: "取值", Kind.INFLUENCE: "影响", Kind.LINK: "关联"}


def accepted(
    context: Context, sql: Mapping[str, str]
) -> tuple[dict[Origin, breakers.Breaker], list[tuple[Origin, str]]]:
    """The breakers whose declaration holds: readable, on a model's column, of a kind that the SQL really is, and not
    lower than the kind may go. And what is wrong with the others."""
    good, bad = breakers.load(context.dbt_models)
    problems = [(origin, f"降级措施声明不合格：{text}") for origin, texts in bad.items() for text in texts]
    holds: dict[Origin, breakers.Breaker] = {}
    for origin, breaker in good.items():
        row = context.tables.get(origin.table, {}).get(origin.column)
        if origin.table not in sql or row is None:
            problems.append((origin, "降级措施只能声明在 dbt 模型的列上"))
            continue
        wrong = floor_problems(breaker, str(row["grade"]), str(row["pi_mark"]))
        try:
            breakers.evidence_sql(sql[origin.table], origin.column, breaker)
        except Refused as error:
            wrong.append(str(error))
        if wrong:
            problems += [(origin, f"降级措施不成立：{text}") for text in wrong]
        else:
            holds[origin] = breaker
    return holds, problems


def because(column: ComputedColumn) -> str:
    """The inputs that give the computed grade, for a message."""
    return "、".join(f"{origin}（{_EDGES[kind]}）" for origin, kind in column.because) or "无法解析的来源"


def examine(context: Context, found: Findings, graph: Graph, sql: Mapping[str, str]) -> None:
    """Count models and columns and record what is lower than computed, unresolved or wrongly declared as broken."""
    dbt_tables = {row["table"] for row in context.columns if row["origin"].endswith((".yml", ".yaml"))}
    found.count("models", len(graph.models))
    for model, problem in graph.problems.items():
        found.add("lineage_model", model, f"模型无法解析，其全部列按 L4 计：{problem}")
    for table in sorted(dbt_tables - set(graph.models) - {t for t in dbt_tables if t.startswith(("ods_", "ops_"))}):
        found.add("lineage_missing", table, "模型有说明，但没有参与血缘计算")
    holds, problems = accepted(context, sql)
    found.count("breakers", len(holds) + len({origin for origin, _ in problems}))
    for origin, text in problems:
        found.add("breaker", str(origin), text)
    if context.lake:
        examined, stale = certify.stored_problems(sql)
        found.count("certificates", examined)
        for where, text in stale:
            found.add("certificate", where, text)
    computed = propagation.compute(graph, context.tables, holds)
    found.count("lineage_columns", len(computed))
    found.count("lineage_edges", sum(len(deps) for deps in graph.edges.values()))
    # What is below its computed grade only because a column before it has none is one finding: that column's.
    alone = propagation.compute(graph, context.tables, holds, ungraded=propagation.LOWEST)
    follows = [
        f"{strict.table}.{strict.column}"
        for strict, own in zip(computed, alone, strict=True)
        if strict.lowered and not strict.broken and not own.lowered
    ]
    if follows:
        found.add(
            "grade_unknown", follows[0],
            f"来源中有列没有定级或没有个人信息标识，按 L4、S 计，因此 {len(follows)} 列（这一列起）低于血缘计算的级别；"
            "先给那些列定级（见“列”一项的问题），再检查",
        )  # fmt: skip
    for strict, column in zip(computed, alone, strict=True):
        where = f"{column.table}.{column.column}"
        if not column.resolved:
            found.add("lineage_unresolved", where, "来源不能完全解析，按 L4、S 计")
        if column.declared_grade is None:
            continue  # ungraded: the check of columns says so
        if column.lowered and not column.broken:
            found.add(
                "grade_lowered", where,
                f"声明为 {column.declared_grade} {column.declared_mark}，按血缘应为 {column.computed_grade} "
                f"{column.computed_mark}：{because(column)}；请提高级别，或声明降级措施",
            )  # fmt: skip
        if column.broken and not strict.lowered:
            found.add("breaker_idle", where, "声明了降级措施，但级别并不低于血缘计算的结果，请删除")


def check(load: Loader = lineage.load) -> Check:
    """The check; `load` replaces compiling the project (used by tests)."""

    def run(context: Context, found: Findings) -> None:
        graph, sql = load()
        examine(context, found, graph, sql)

    return Check(
        "propagation",
        "血缘与级别传播",
        run,
        counts={"models": "模型", "lineage_columns": "模型列", "lineage_edges": "血缘边"},
        may_be_none={"breakers": "降级措施", "certificates": "证书"},
    )
