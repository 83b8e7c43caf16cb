"""`tiyu quarantine`: refused records, trying them again, taking a batch back."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.output import BATCH_ZH, AsJson, emit, print_table
from cli.role import AsRole


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="Refused records: list them, replay them, withdraw a batch.", no_args_is_help=True)

    @group.command("list")
    def list_(
        resource: Annotated[str | None, typer.Argument(help="One source resource; all of them when left out.")] = None,
        as_role: AsRole = None,
        rows: Annotated[int, typer.Option(help="How many records to show; counts are complete.", min=0)] = 10,
        as_json: AsJson = False,
    ) -> None:
        """Show what is refused and why: counts by resource and rule, the latest records with masked previews."""
        from ingestion.replay import refused

        groups, records = refused(resource, limit=rows)
        emit(
            {"records": sum(group.records for group in groups), "rules": groups, "latest": records},
            as_json,
            table=[
                {
                    "资源": item.resource,
                    "规则": item.rule_id,
                    "条数": item.records,
                    "对象": item.objects,
                    "批次": "、".join(item.batches[:2])
                    + (f" 等 {len(item.batches)} 个" if len(item.batches) > 2 else ""),
                    "整批撤回或扣下": "是" if item.withdrawn else "",
                    "原因": item.reason,
                }
                for item in groups
            ],
            title="隔离区",
        )
        if not as_json and records:
            print_table(
                [
                    {
                        "资源": item.resource,
                        "对象": item.object_name or "",
                        "记录号": item.record_no,
                        "规则": item.rule_id,
                        "预览（已遮蔽）": item.preview or "",
                    }
                    for item in records
                ],
                f"最近 {len(records)} 条",
            )

    @group.command("replay")
    def replay(
        resource: Annotated[str, typer.Argument(help="Source resource, for example venue.booking.")],
        batch: Annotated[
            list[str] | None,
            typer.Option(help="Only this batch (repeatable). A withdrawn or held batch is replayed only when named."),
        ] = None,
        as_json: AsJson = False,
    ) -> None:
        """Decode refused records again from the archive and store those that pass now; nothing is stored twice.

        Run `tiyu gate` on the resource afterwards: what came back becomes visible when it passes.
        """
        from ingestion.replay import replay as run

        report = run(resource, batch or ())
        days = "、".join(day.isoformat() for day in report.part_dates[:10])
        more = f" 等 {len(report.part_dates)} 天" if len(report.part_dates) > 10 else ""
        emit(
            report,
            as_json,
            table=[
                {
                    "批次": item.batch_id,
                    "状态": BATCH_ZH.get(item.status, item.status),
                    "检查": item.examined,
                    "入库": item.accepted,
                    "重复": item.duplicate,
                    "仍隔离": item.still_refused,
                    "重读对象": item.reread,
                }
                for item in report.batches
            ],
            title="重放",
            note=(
                f"检查 {report.examined:,} 条：入库 {report.accepted:,}、重复 {report.duplicate:,}、仍隔离 {report.still_refused:,}"
                + (f"；涉及分区 {days}{more}" if days else "")
                + (
                    f"；另有 {report.left_withdrawn:,} 条属于已撤回或扣下的批次，用 --batch 指明才重放"
                    if report.left_withdrawn
                    else ""
                )
                + (f"\n接着运行 tiyu gate {resource}" if report.accepted else "")
            ),
        )

    @group.command("withdraw")
    def withdraw(
        resource: Annotated[str, typer.Argument(help="Source resource, for example venue.booking.")],
        batches: Annotated[
            list[str], typer.Argument(help="Batch ids, as `tiyu trace` and `tiyu reconcile --json` show them.")
        ],
        reason: Annotated[str, typer.Option(help="Why, for the ledger and the quarantine.")] = "操作员撤回",
        as_json: AsJson = False,
    ) -> None:
        """Take stored batches back into quarantine; the next gate run makes the smaller table visible."""
        from ingestion.replay import withdraw as run

        deleted = run(resource, batches, reason)
        emit(
            {"resource": resource, "batches": batches, "deleted": deleted},
            as_json,
            table=[{"表": table, "撤回行数": count} for table, count in deleted.items()],
            title="撤回",
            note=f"接着运行 tiyu gate {resource}，读者才会看到撤回后的表",
        )

    app.add_typer(group, name="quarantine")
