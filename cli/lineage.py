"""`tiyu lineage`: where a column comes from and where it goes."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.output import AsJson, emit
from lake.errors import EXIT_USAGE, TiyuError


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("lineage", help="The columns that decide TABLE.COLUMN, up to the sources, and those it decides.")
    def lineage(
        column: Annotated[str, typer.Argument(help="TABLE.COLUMN; TABLE.* stands for the rows of the table.")],
        up: Annotated[bool, typer.Option("--up", help="Only where it comes from.")] = False,
        down: Annotated[bool, typer.Option("--down", help="Only where it goes, down to the surfaces.")] = False,
        as_json: AsJson = False,
    ) -> None:
        from catalog import columns
        from catalog.lineage import Kind, Origin
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
        words = {Kind.VALUE: "取值", Kind.INFLUENCE: "影响", Kind.LINK: "关联"}
        rows = []
        for wanted, label, reached in (
            (up or both, "上游", graph.up(origin)), (down or both, "下游", graph.down(origin)),
        ):  # fmt: skip
            if wanted:
                rows += [
                    {"方向": label, "表": o.table, "列": "（行）" if o.column == "*" else o.column, "方式": words[kind]}
                    for o, kind in sorted(reached.items(), key=lambda item: (-item[1], item[0]))
                ]
        surfaces = [] if up and not down else [e.label for e in graph.surfaces_of(table)]
        emit(
            {"column": column, "edges": rows, "surfaces": surfaces}, as_json, table=rows, title=f"{column} 的血缘",
            note=f"{len(rows)} 列；到达的界面：{'、'.join(surfaces) or '无'}",
        )  # fmt: skip
