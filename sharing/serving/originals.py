"""Values that an audience sees plain and the lake keeps masked: asked for by the person's token while a file is cut.

The archive alone holds them, and reading it is the work of another room: whoever publishes hands in how (`Recall`). What is
asked for is kept in a temporary table of a connection that does not spill, and goes into the audience's own file only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import duckdb
import polars as pl

from lake.errors import EXIT_INTERNAL, TiyuError
from lake.query import quote_literal, quote_name
from sharing.serving import policy
from sharing.serving.policy import Audience, Column

if TYPE_CHECKING:
    from sharing.serving.publish import Plan

#: Source, masked column, column of the person's token, tokens → frame (token, value) of those that can be read again.
Recall = Callable[[str, str, str, Sequence[str]], pl.DataFrame]


def load(
    con: duckdb.DuckDBPyConnection, who: Audience, sources: list[tuple[Plan, str]], recall: Recall | None
) -> tuple[int, int]:
    """Make the temporary table `originals` (kind, token, value) for the persons in the rows to be written; returns how many
    values could be read again and how many could not, whose masked spelling is shown.

    Raises TIYU-SRV-0005 when a table does not tell whose value it is, TIYU-SRV-0008 when nobody said how to read.
    """
    con.execute("CREATE OR REPLACE TEMP TABLE originals (kind VARCHAR, token VARCHAR, value VARCHAR)")
    persons: dict[str, list[str]] = {}
    for plan, rows in sources:
        for kind in sorted({kind_of(column) for column, treatment in plan.shown if treatment == "original"}):
            by = who.originals[kind].by
            if by not in plan.types:
                raise TiyuError(
                    "TIYU-SRV-0005", "策略按某列认人，但表中没有这一列", "修改 catalog/policy 中该受众的 originals，或为该表补上这一列", EXIT_INTERNAL,
                    table=plan.table, column=by,
                )  # fmt: skip
            persons.setdefault(kind, []).append(f"SELECT {quote_name(by)} AS token FROM ({rows}) AS t")
    known = unknown = 0
    for kind, selects in persons.items():
        tokens = con.execute(
            f"SELECT DISTINCT token FROM ({' UNION ALL '.join(selects)}) WHERE token IS NOT NULL ORDER BY token"
        ).pl()["token"]
        if tokens.is_empty():
            continue
        if recall is None:
            raise TiyuError(
                "TIYU-SRV-0008", "这个受众的文件须从归档读回原值，调用者没有给出读法", "用 tiyu serve 或调度任务发布", EXIT_INTERNAL,
                audience=who.title, kind=kind,
            )  # fmt: skip
        source = who.originals[kind]
        found = recall(source.source, source.column, source.by, tokens.to_list()).unique("token")
        con.register("recalled", found.select("token", "value").to_arrow())
        con.execute("INSERT INTO originals SELECT ?, token, value FROM recalled", [kind])
        con.unregister("recalled")
        known, unknown = known + found.height, unknown + tokens.len() - found.height
    return known, unknown


def kind_of(column: Column) -> str:
    """The identifier kind of a column that is shown as an original."""
    return str(policy.identifier_kind(column))


def shown(who: Audience, column: Column, alias: str) -> tuple[str, str]:
    """(join, expression) that put a column's original, where there is one, in the place of what the row `src` holds."""
    kind = kind_of(column)
    join = (
        f"LEFT JOIN originals AS {alias} ON {alias}.kind = {quote_literal(kind)}"
        f" AND {alias}.token = src.{quote_name(who.originals[kind].by)}"
    )
    name = quote_name(column.name)
    return join, f"coalesce({alias}.value, src.{name}) AS {name}"


__all__ = ["Recall", "kind_of", "load", "shown"]
