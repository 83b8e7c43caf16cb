"""`tiyu scratch`: an analyst's own tables, kept for 30 days and never exported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.account import Account, account_name
from cli.output import AsJson, emit

if TYPE_CHECKING:
    from sharing.serving.scratch import Scratch


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(
        help="An analyst's own tables: kept for 30 days, graded like their inputs, never exported.",
        no_args_is_help=True,
    )
    app.add_typer(group, name="scratch")

    @group.command("create")
    def create(
        name: Annotated[str, typer.Argument(help="Name of the new table; query it as scratch.NAME.")],
        query: Annotated[str, typer.Argument(help="SQL on the analyst file and your own scratch tables.")],
        account: Account = None,
        as_json: AsJson = False,
    ) -> None:
        """Keep the result of a query; it inherits the highest grade of the tables the query reads."""
        from sharing.serving import scratch

        _show(scratch.create(account_name(account), name, query), as_json)

    @group.command("upload")
    def upload(
        file: Annotated[Path, typer.Argument(help="CSV file, UTF-8 or GB18030, column names in the first line.")],
        name: Annotated[str | None, typer.Option("--name", help="Name of the table; default the file's name.")] = None,
        grade: Annotated[
            str | None, typer.Option("--grade", help="L1 to L3, as you declare it; default the highest you may have.")
        ] = None,
        account: Account = None,
        as_json: AsJson = False,
    ) -> None:
        """Load a CSV file to join with. Identity and telephone numbers are refused."""
        from sharing.serving import scratch

        _show(scratch.upload(account_name(account), file, name or file.stem, grade), as_json)

    @group.command("list")
    def listing(account: Account = None, as_json: AsJson = False) -> None:
        """Your scratch tables with grade, origin, rows and day of expiry."""
        from sharing.serving import scratch

        found = scratch.tables(account_name(account))
        emit([one.to_dict() for one in found], as_json, table=[_row(one) for one in found],
             note="" if found else "没有草稿表")  # fmt: skip

    @group.command("drop")
    def drop(
        name: Annotated[str, typer.Argument(help="Table to remove.")], account: Account = None, as_json: AsJson = False
    ) -> None:
        """Remove one scratch table."""
        from sharing.serving import scratch

        gone = scratch.drop(account_name(account), name)
        emit(gone.to_dict(), as_json, note=f"已删除草稿表 {gone.name}（{gone.row_count:,} 行）")

    @group.command("expire")
    def expire(as_json: AsJson = False) -> None:
        """Drop every account's expired tables (the serve DAG does it too)."""
        from sharing.serving import scratch

        gone = scratch.expire()
        rows = [{"账号": account, **_row(table)} for account, table in gone]
        emit(
            [{"account": a, **t.to_dict()} for a, t in gone], as_json, table=rows, note=f"到期删除 {len(gone)} 张草稿表"
        )


def _show(made: Scratch, as_json: bool) -> None:
    emit(
        made.to_dict(),
        as_json,
        note=f"草稿表 scratch.{made.name}：{made.row_count:,} 行，分级 {made.grade}（{made.pi_mark}），来自 {made.inputs}，"
        f"{made.expires_at:%Y-%m-%d} 到期；不得导出",
    )


def _row(one: Scratch) -> dict[str, Any]:
    return {
        "草稿表": one.name, "分级": one.grade, "标识": one.pi_mark, "来源": {"query": "查询", "upload": "上传"}[one.origin],
        "输入": one.inputs, "行数": one.row_count, "到期": f"{one.expires_at:%Y-%m-%d}",
    }  # fmt: skip
