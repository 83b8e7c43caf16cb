"""`tiyu lineage`: where a column comes from and where it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import AsJson, emit
from lake.errors import EXIT_USAGE, TiyuError

if TYPE_CHECKING:
    from catalog.lineage.edges import Deps


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("lineage", help="The columns that decide TABLE.COLUMN, up to the sources, and those it decides.")
    def lineage(
        column: Annotated[str, typer.Argument(help="TABLE.COLUMN; TABLE.* stands for the rows of the table.")],
        up: Annotated[bool, typer.Option("--up", help="Only where it comes from.")] = False,
        down: Annotated[bool, typer.Option("--down", help="Only where it goes, down to the surfaces.")] = False,
        as_json: AsJson = False,
    ) -> None:
        from catalog import columns, entries
        from catalog.lineage import Origin
        from modeling import lineage as project

        table, _, name = column.partition(".")
        known = {(row["table"], row["column"]) for row in columns.describe_all()}
        if (table, name) not in known and not (name == "*" and any(t == table for t, _ in known)):
            raise TiyuError(
                "TIYU-LIN-0001", "没有这一列", "写成 表名.列名；用 tiyu describe 表名 查看列", EXIT_USAGE, column=column
            )
        graph, _ = project.load()
        origin = Origin(table, name)
        both = up == down
        found = [
            *([("上游", graph.up(origin), [*reversed(graph.models), *graph.sources])] if up or both else []),
            *([("下游", graph.down(origin), list(graph.models))] if down or both else []),
        ]
        surfaces = [] if up and not down else [e.label for e in graph.surfaces_of(table)]
        titles = {t.name: entry.title_zh for entry in entries.load_all().values() for t in entry.tables}
        edges = [
            {"direction": direction, "table": o.table, "column": o.column, "edge_type": kind.name.lower()}
            for direction, reached, _ in found
            for o, kind in sorted(reached.items())
        ]
        emit(
            {"column": column, "edges": edges, "surfaces": surfaces}, as_json, title=f"{column} 的血缘",
            table=[row for direction, reached, order in found for row in _by_table(direction, reached, order, titles)],
            note=f"{len(edges)} 项，在 {len({edge['table'] for edge in edges})} 张表中；到达的界面：{'、'.join(surfaces) or '无'}\n"
            "取值：值由它得出；影响：由它决定取哪些行或哪个值；关联：只用来对上行，不传递级别",
        )  # fmt: skip


def _by_table(direction: str, reached: Deps, order: list[str], titles: dict[str, str]) -> list[dict[str, Any]]:
    """One row a table, nearest layer first: its columns by kind of edge."""
    from catalog.lineage import Kind

    words = {Kind.VALUE: "取值", Kind.INFLUENCE: "影响", Kind.LINK: "关联"}
    rows = []
    for table in sorted(
        {o.table for o in reached}, key=lambda name: order.index(name) if name in order else len(order)
    ):
        named: dict[str, list[str]] = {word: [] for word in words.values()}
        for origin, kind in sorted(reached.items()):
            if origin.table == table:
                named[words[kind]].append("（行）" if origin.column == "*" else origin.column)
        listed = {word: "、".join(names) for word, names in named.items()}
        rows.append({"方向": direction, "表": table, "名称": titles.get(table, ""), **listed})
    return rows
