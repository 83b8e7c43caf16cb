"""`tiyu diff`: what changed in a table since an earlier checked version."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from cli.output import AsJson, emit, print_table
from cli.role import AsRole

_CHANGE_ZH = {"added": "新增", "removed": "消失", "changed": "改变"}


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("diff")
    def diff(
        table: Annotated[str, typer.Argument(help="Table name, with or without its schema: dwd_venue__booking.")],
        since: Annotated[
            str, typer.Option(help="A checked version's number, a date YYYY-MM-DD (end of that day) or 'yesterday'.")
        ] = "yesterday",
        as_role: AsRole = None,
        limit: Annotated[int, typer.Option(help="How many changed rows to show; counts are complete.", min=0)] = 20,
        day: Annotated[
            datetime | None, typer.Option("--date", formats=["%Y-%m-%d"], help="Show rows of this date only.")
        ] = None,
        as_json: AsJson = False,
    ) -> None:
        """Show rows added, removed and changed per partition between two checked versions, as the analyst may see them."""
        from sharing.serving.changes import changes

        found = changes(table, since, limit=limit, day=day.date() if day else None)
        if as_json:
            emit(found.to_dict(), True)
            return
        _show(found)


def _show(found: Any) -> None:
    read = "整表比较" if found.partitions_read is None else f"读了 {found.partitions_read} 个分区"
    columns = "、".join(f"{name}（{count:,}）" for name, count in found.changed_columns.items())
    shape = [f"新列：{'、'.join(found.columns_added)}"] if found.columns_added else []
    shape += [f"去掉的列：{'、'.join(found.columns_removed)}"] if found.columns_removed else []
    head = (
        f"{found.table}　{found.title}：已检版本 v{found.from_version}（截至 {found.from_as_of}）"
        f"→ v{found.to_version}（截至 {found.to_as_of}）"
    )
    if not found.partitions:
        emit(None, False, note="\n".join([head, f"内容没有变化（{read}）", *shape]))
        return
    emit(None, False, note=head)
    print_table(
        [
            {"分区": str(item.part_date or "整表"), "新增": item.added, "消失": item.removed, "改变": item.changed}
            for item in found.partitions
        ]
    )
    total = f"共新增 {found.added:,} 行、消失 {found.removed:,} 行、改变 {found.changed:,} 行（{read}）"
    emit(None, False, note="\n".join([total, *([f"改变的列：{columns}"] if columns else []), *shape]))
    if found.rows:
        print_table(
            [_row(row) for row in found.rows],
            f"前 {len(found.rows)} 行（先列已过的日子；--date 只看一天，--limit 多看几行）",
        )


def _row(row: Any) -> dict[str, Any]:
    values = "；".join(
        f"{name}：{' → '.join(_text(value) for value in pair)}" if isinstance(pair, list) else f"{name}：{_text(pair)}"
        for name, pair in row.values.items()
        if pair is not None
    )
    key = "、".join(_text(value) for value in row.key.values())
    return {"分区": str(row.part_date or "—"), "变化": _CHANGE_ZH[row.change], "主键": key, "内容": values}


def _text(value: Any) -> str:
    return "空" if value is None else str(value)
