"""`tiyu backfill`: read a source's history again."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from cli.output import AsJson, emit, print_table

_REACH = {
    "dated": "按文件名中的日期选取",
    "since": "起点以来有更新的全部记录，接口没有终点",
    "whole": "数据源目前持有的全部记录，不分日期",
}


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("backfill")
    def backfill(
        resource: Annotated[str, typer.Argument(help="Source resource, for example venue.booking.")],
        first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day, YYYY-MM-DD.")],
        last: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day, YYYY-MM-DD.")],
        max_mib: Annotated[
            int | None,
            typer.Option(
                help="Close a batch after this many MiB of source objects.", show_default="128; device files 64", min=1
            ),
        ] = None,
        as_json: AsJson = False,
    ) -> None:
        """Fetch the history of a source again, seen or not; known records are duplicates, changed ones restatements.

        Files are chosen by the date in their name; an interface or a table gives everything updated since the first day, or all
        that it holds when it has no watermark. A source that cannot give its past again is refused (TIYU-ING-0105). Exit code
        1 when an object was refused as a whole. Run `tiyu gate` and `tiyu build` afterwards: layers follow by partition.
        """
        from ingestion.backfill import backfill as run

        report = run(resource, first.date(), last.date(), max_bytes=max_mib << 20 if max_mib else None)
        done = report.ingest
        days = {table: f"{len(dates)} 个：{_span(dates)}" for table, dates in report.part_dates.items()}
        emit(
            report,
            as_json,
            note=(
                f"{resource}：重读 {report.first} 至 {report.last}（{_REACH[report.reach]}），收到对象 {done.received_objects}（内容未变 {done.duplicate_objects}）；"
                f"解码 {done.decoded:,} = 入库 {done.accepted:,} + 隔离 {done.quarantined:,} + 重复 {done.duplicate:,}"
                + (f"；文件名中没有日期、未选取的文件 {report.undated_files} 个" if report.undated_files else "")
                + (f"\n接着运行 tiyu gate {resource}，再运行 tiyu build" if days else "\n没有任何分区变化")
            ),
        )
        if not as_json and days:
            print_table([{"表": table, "触及的分区": text} for table, text in days.items()], "触及的分区")
        if done.refusals:
            raise typer.Exit(1)


def _span(dates: list) -> str:
    shown = "、".join(day.isoformat() for day in dates[:8])
    return shown if len(dates) <= 8 else f"{shown} … {dates[-1].isoformat()}"
