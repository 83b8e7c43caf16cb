"""`tiyu build`: compute the layers (dbt) from checked data."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.output import AsJson, emit


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command("build", help="Build DIM/DWD, DWS and ADS from checked versions; only what changed is computed.")
    def build(
        layer: Annotated[
            str | None,
            typer.Option("--layer", help="One layer: dwd (with the dimensions), dws or ads. Default: all three."),
        ] = None,
        full_refresh: Annotated[bool, typer.Option("--full-refresh", help="Compute every row again.")] = False,
        as_json: AsJson = False,
    ) -> None:
        from modeling import run

        layers = run.LAYERS if layer is None else (layer,)
        reports = [run.build(name, full_refresh=full_refresh) for name in layers]  # type: ignore[arg-type]
        rows = [
            {
                "分层": report.layer,
                "模型": model.model,
                "方式": {"full": "全量", "windows": "增量", "none": "仅检验"}[model.action],
                "日期范围": "，".join(model.ranges),
                "行数": model.rows,
                "版本": model.version,
                "原因": model.reason,
            }
            for report in reports
            for model in report.models
        ]
        note = "；".join(
            f"{report.layer}：构建 {len(report.models)}，无变化 {len(report.skipped)}，"
            f"检验通过 {report.tests_passed}/{report.tests_examined}，{report.seconds} 秒"
            for report in reports
        )
        emit([report.as_dict() for report in reports], as_json, table=rows, title="分层构建", note=note)
