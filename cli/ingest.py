"""`tiyu ingest`: bring everything pending of one source into the lake."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.output import AsJson, emit, print_table


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("ingest")
    def ingest(
        resource: Annotated[str, typer.Argument(help="Source resource, for example venue.booking.")],
        from_dir: Annotated[
            Path | None,
            typer.Option(
                "--from",
                exists=True,
                file_okay=False,
                help="Take every file below this folder instead of the contract's place (file sources only).",
            ),
        ] = None,
        max_mib: Annotated[
            int | None,
            typer.Option(
                help="Close a batch after this many MiB of source objects.", show_default="128; device files 64", min=1
            ),
        ] = None,
        as_json: AsJson = False,
    ) -> None:
        """Fetch, archive, check and store what is pending; print the balanced account.

        Exit code 1 when an object was refused as a whole or a batch rule held the batch (all is archived and quarantined,
        an alert is open).
        """
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        from ingestion.run import ingest as run

        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=as_json,
        ) as bar:
            task = bar.add_task(resource, total=None)
            report = run(
                resource,
                from_dir,
                max_bytes=max_mib << 20 if max_mib else None,
                progress=lambda text, done, total: bar.update(
                    task, description=text, completed=done, total=total or None
                ),
            )
        emit(report, as_json, note=_sentence(report))
        if not as_json:
            rules = {rule: count for batch in report.batches for rule, count in batch.quarantined_by_rule.items()}
            if rules:
                print_table([{"隔离规则": rule, "条数": count} for rule, count in sorted(rules.items())], "隔离原因")
            if report.refusals:
                print_table(
                    [{"文件": r.object_name, "代码": r.code, "原因": r.message} for r in report.refusals],
                    "整体拒收的文件",
                )
            noted = [item for batch in report.batches for item in batch.batch_findings if not item.ok]
            if noted:
                print_table(
                    [{"批次规则": f.rule_id, "处理": _FINDING_ZH[f.outcome], "说明": f.message_zh} for f in noted],
                    "批次规则",
                )
            mended = [item for batch in report.batches for item in batch.corrected_by_rule.items()]
            if mended:
                print_table([{"更正": rule, "条数": count} for rule, count in mended], "按契约更正")
        if report.refusals or any(batch.status == "held" for batch in report.batches):
            raise typer.Exit(1)


_FINDING_ZH = {"stop": "整批扣下", "warn": "提示"}


def _sentence(report) -> str:
    if report.status == "nothing_new":
        return (
            f"{report.resource}：没有新数据（收到对象 {report.received_objects}，其中重复 {report.duplicate_objects}）"
        )
    return (
        f"{report.resource}：收到对象 {report.received_objects}（重复 {report.duplicate_objects}）；"
        f"解码 {report.decoded:,} = 入库 {report.accepted:,} + 隔离 {report.quarantined:,} + 重复 {report.duplicate:,}；用时 {report.seconds:.1f} 秒"
    )
