"""`tiyu quarantine`: refused records, trying them again, giving them up, taking a batch back."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.output import BATCH_ZH, AsJson, emit, print_table
from cli.role import AsRole, acting
from lake import clock

Rule = Annotated[str | None, typer.Option(help="Only this rule, as the list names it.")]
Batch = Annotated[str | None, typer.Option(help="Only this batch: id, or its first characters.")]
Object = Annotated[str | None, typer.Option("--object", help="Only this object: sha256, or its first characters.")]
Record = Annotated[int | None, typer.Option(help="Only this record number of the object.")]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(
        help="Refused records: list, show, replay or discard them, withdraw a batch.", no_args_is_help=True
    )

    @group.command("list")
    def list_(
        resource: Annotated[str | None, typer.Argument(help="One source resource; all of them when left out.")] = None,
        rule: Rule = None,
        batch: Batch = None,
        sha256: Object = None,
        discarded: Annotated[
            bool, typer.Option("--discarded", help="What was given up, by whom and why, instead.")
        ] = False,
        as_role: AsRole = None,
        rows: Annotated[int, typer.Option(help="How many records to show; counts are complete.", min=0)] = 10,
        as_json: AsJson = False,
    ) -> None:
        """Show what is refused and why: counts by resource and rule, the latest records with masked previews."""
        from ingestion.refused import Filter, discards, refused

        if discarded:
            given_up = discards(resource)
            emit(
                {"records": sum(item.records for item in given_up), "discarded": given_up},
                as_json,
                table=[
                    {
                        "编号": item.decision,
                        "资源": item.resource,
                        "条数": item.records,
                        "时间": f"{item.at.astimezone(clock.SHANGHAI):%Y-%m-%d %H:%M}",
                        "账号": item.account,
                        "理由": item.reason,
                    }
                    for item in given_up
                ],
                title="已放弃的隔离记录",
                note="取回：tiyu quarantine discard --undo 编号" if given_up else "",
            )
            return
        groups, records = refused(resource, limit=rows, only=Filter(resource, rule, batch, sha256))
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
                        "文件": item.object_name or "",
                        "对象#记录号": f"{item.object[:12]}#{item.record_no}",
                        "规则": item.rule_id,
                        "预览（已遮蔽）": item.preview or "",
                    }
                    for item in records
                ],
                f"最近 {len(records)} 条",
            )

    @group.command("show")
    def show(
        resource: Annotated[str, typer.Argument(help="Source resource, for example venue.booking.")],
        rule: Rule = None,
        batch: Batch = None,
        sha256: Object = None,
        record: Record = None,
        as_role: AsRole = None,
        rows: Annotated[int, typer.Option(help="How many records to show.", min=1)] = 5,
        as_json: AsJson = False,
    ) -> None:
        """Show refused records one by one: masked preview, rule, where in the object, and how to mend it."""
        from ingestion import sources
        from ingestion.refused import Filter
        from ingestion.refused import show as run

        sources.contract_of(resource)
        found = run(Filter(resource, rule, batch, sha256, record), limit=rows)
        if as_json:
            emit({"records": found}, True)
            return
        for item in found:
            place = f"第 {item.record_no} 条" if item.record_no else "整个对象"
            if item.byte_to is not None:
                place += f"，字节 {item.byte_from:,}–{item.byte_to:,}"
            print_table(
                [
                    {"": name, "内容": text}
                    for name, text in (
                        ("文件", item.object_name or ""),
                        ("对象", item.object),
                        ("位置", place),
                        ("规则", item.rule_id),
                        ("原因", item.reason),
                        ("预览（已遮蔽）", item.preview or "不显示"),
                        (
                            "批次",
                            f"{item.batch_id}（{BATCH_ZH.get(item.batch_status, item.batch_status)}，契约 {item.contract_version}）",
                        ),
                        ("怎样修", item.remedy),
                    )
                ],
                item.resource,
            )

    @group.command("discard")
    def discard(
        resource: Annotated[str | None, typer.Argument(help="Source resource, for example venue.booking.")] = None,
        reason: Annotated[str, typer.Option(help="Why, for the ledger.")] = "",
        rule: Rule = None,
        batch: Batch = None,
        sha256: Object = None,
        record: Record = None,
        undo: Annotated[
            str | None, typer.Option(help="Take this discard back, as `list --discarded` names it.")
        ] = None,
        as_json: AsJson = False,
    ) -> None:
        """Give refused records up: who and why is kept, they stay in the archive, and it can be taken back (--undo).

        They are no longer listed nor replayed; `tiyu reconcile` counts them. Narrow it by rule, batch, object or record.
        """
        from ingestion import refused

        if undo:
            done = refused.take_back(undo)
            emit(done, as_json, note=f"已取回 {done.records:,} 条，重新列为隔离：{done.resource}")
            return
        who = acting("quarantine discard")
        done = refused.discard(refused.Filter(resource, rule, batch, sha256, record), reason, who.account)
        emit(
            done,
            as_json,
            note=f"已放弃 {done.resource} 的 {done.records:,} 条（{done.batches} 个批次），原件仍在归档；取回：tiyu quarantine discard --undo {done.decision}",
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
                    "原因更新": item.rejudged,
                    "让位": item.gave_way,
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
                + (
                    f"\n{report.gave_way:,} 条后到的记录与先到的同一主键、内容不同，已让位转入隔离（dedup.conflict）：以先到的为准，有疑问请与来源核对"
                    if report.gave_way
                    else ""
                )
                + (
                    f"\n另见 {report.now_unfit:,} 条已入库的记录按现在的规则不合格：规则收紧了，重放不收回已入库的；提高契约版本后运行 tiyu reread {resource}"
                    if report.now_unfit
                    else ""
                )
                + (f"\n接着运行 tiyu gate {resource}" if report.accepted or report.gave_way else "")
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
