"""`tiyu compact`: few large files instead of many small ones, and old files gone."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.output import AsJson, emit


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("compact")
    def compact(
        names: Annotated[
            list[str] | None, typer.Argument(help="Tables. Default: every table of the lake.", show_default=False)
        ] = None,
        clean: Annotated[
            bool,
            typer.Option(
                "--clean", help="Also delete files that no checked version and no version of the last 7 days needs."
            ),
        ] = False,
        as_json: AsJson = False,
    ) -> None:
        """Merge small data files of tables; no row changes, readers keep every checked version."""
        from ingestion import upkeep

        done = upkeep.compact(names or (), clean=clean)
        emit(
            done,
            as_json,
            title="数据文件整理",
            table=[
                {
                    "表": item.table,
                    "整理的分区": item.partitions,
                    "文件（前）": item.files_before,
                    "文件（后）": item.files_after,
                    "删除的文件": item.removed,
                }
                for item in done
                if item.partitions or item.removed
            ],
            note=f"查看了 {len(done)} 张表",
        )
