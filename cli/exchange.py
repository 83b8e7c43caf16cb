"""`tiyu exchange`: deliveries to the city big-data center."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.output import AsJson, emit


def _resent(answer: Any, others: list[Any]) -> bool:
    """Whether a refused batch already has a successor of the same business date."""
    mine = answer.row
    return any(
        (o.row["resource"], o.row["business_date"]) == (mine["resource"], mine["business_date"])
        and o.row["sequence"] > mine["sequence"]
        for o in others
    )


def _standing(open_ones: list[Any], refused: list[str]) -> list[str]:
    """What the receiver has not confirmed, by what is to be done about it."""
    from sharing.exchange import receipts

    again = [a for a in open_ones if a.receipt and _resent(a, open_ones)]
    turned_down = [a for a in open_ones if a.state in ("rejected", "partial") and a not in again]
    lost = [a for a in open_ones if a.state == "lost"]
    waiting = [a for a in open_ones if a.state in ("pending", "unanswered") and a not in again]
    lines = [f"未获确认 {len(open_ones)} 个批次"]
    words = {"等回执": waiting, "已由同日后续批次更正，等后者的回执": again, "接收方恢复后丢失，由下一批次补齐": lost}
    for word, group in words.items():
        if group:
            lines.append(f"  {word}：{'、'.join(a.row['delivery_id'] for a in group[:5])}" + ("…" if group[5:] else ""))
    for a in turned_down:
        why = receipts.reasons(json.loads(a.receipt["body"])) or "未写原因"
        lines.append(f"  {receipts.STATES_ZH[a.state]}：{a.row['delivery_id']}（{why}）")
        lines.append(f"    更正后运行 {receipts.resend_command(a.row)}")
    if refused:
        lines.append(f"未采信的回执 {len(refused)} 份（tiyu exchange receive 说明原因）：{'、'.join(refused[:5])}")
    return lines


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(
        help="Scheduled deliveries to the city big-data center: run, receive, verify, status.", no_args_is_help=True
    )

    @group.command("run")
    def run(
        resource_arg: Annotated[
            str | None, typer.Argument(metavar="[RESOURCE]", help="Only this resource, e.g. venue.register.")
        ] = None,
        date_arg: Annotated[
            str | None, typer.Argument(metavar="[DATE]", help="Business date YYYY-MM-DD; default yesterday.")
        ] = None,
        date: Annotated[str | None, typer.Option(help="Business date YYYY-MM-DD; default yesterday.")] = None,
        resource: Annotated[str | None, typer.Option(help="Only this resource, e.g. venue.register.")] = None,
        sequence: Annotated[
            int | None, typer.Option(min=1, help="Batch number of the day; 2, 3 … are corrections.")
        ] = None,
        resend: Annotated[
            bool,
            typer.Option(
                "--resend",
                help="Send a day again: mended as the next sequence when it was refused, else the lost batch byte for byte.",
            ),
        ] = False,
        full_resync: Annotated[
            bool,
            typer.Option(
                "--full-resync",
                help="Start an increment over from everything; on a day that was sent, as its next batch.",
            ),
        ] = False,
        as_json: AsJson = False,
    ) -> None:
        """Read the answers that wait, then deliver what is due. Running it again writes nothing."""
        import datetime

        from lake.errors import EXIT_USAGE, TiyuError
        from sharing.exchange.run import run_exchange

        resource, date = resource or resource_arg, date or date_arg
        try:
            day = datetime.date.fromisoformat(date) if date else None
        except ValueError:
            raise TiyuError("TIYU-EXC-0016", "日期不合法", "写成 YYYY-MM-DD", EXIT_USAGE, date=date) from None
        report = run_exchange(day, resource=resource, sequence=sequence, resend=resend, full_resync=full_resync)
        actions = {
            "sent": "已交付",
            "already_sent": "早已交付，未写任何文件",
            "adopted": "补记台账",
            "resent": "已重发",
        }
        emit(
            report.as_dict(),
            as_json,
            table=[
                {
                    "资源": d.resource,
                    "批次": d.batch_id,
                    "结果": actions[d.action],
                    "行数": d.row_count,
                    "新增": d.insert_count,
                    "修改": d.update_count,
                    "删除": d.delete_count,
                }
                for d in report.deliveries
            ],
            title=f"数据交换 业务日期 {report.business_date}",
        )
        if not as_json:
            for item in report.deliveries:
                typer.echo(f"目录：{item.path}")  # a path must survive copying: no wrapping

    @group.command("receive")
    def receive(as_json: AsJson = False) -> None:
        """Read the receiver's receipts; exit code 1 when one is refused or a delivery was turned down."""
        from sharing.exchange.receipts import receive as read_receipts

        report = read_receipts()
        outcomes = {"recorded": "已记录", "known": "早已记录", "refused": "未采信"}
        said = {"ACCEPTED": "全部接收", "PARTIAL": "部分接收", "REJECTED": "整批拒收"}
        emit(
            report.as_dict(),
            as_json,
            table=[
                {
                    "回执": r.name,
                    "结果": outcomes[r.outcome],
                    "答复": said.get(r.status or "", ""),
                    "拒收行": r.rows_bad,
                    "原因": r.code or r.reasons or "",
                }
                for r in report.receipts
            ],
            title="回执",
            note=f"读取 {len(report.receipts)} 份，新记录 {sum(r.outcome == 'recorded' for r in report.receipts)} 份"
            + (
                f"；未读取 {len(report.unread)} 个文件（回执须名为 批次标识.receipt.json）：{'、'.join(report.unread[:5])}"
                if report.unread
                else ""
            ),
        )
        if not as_json:
            for r in report.receipts:
                if r.message:
                    typer.echo(r.message)
            if any(r.outcome == "recorded" and r.status != "ACCEPTED" for r in report.receipts):
                typer.echo("有批次未全部接收：tiyu exchange status 列出原因与下一步")
        if not report.ok:
            raise typer.Exit(1)

    @group.command("verify")
    def verify(
        folder: Annotated[
            Path, typer.Argument(help="One delivery folder, a day, a whole outbox, or the exchange folder.")
        ],
        as_json: AsJson = False,
    ) -> None:
        """Check deliveries from their files alone; exit code 1 when any check fails."""
        from sharing.exchange.verify import find_deliveries
        from sharing.exchange.verify import verify as verify_one

        reports = [verify_one(path) for path in find_deliveries(folder)]
        words = {"pass": "通过", "fail": "不通过", "error": "未能检查"}
        if len(reports) == 1:
            table = [
                {
                    "代码": c.code,
                    "检查": c.title_zh,
                    "结果": words[c.outcome],
                    "查了": c.examined,
                    "问题": "；".join(c.problems),
                }
                for c in reports[0].results
            ]
        else:
            table = [
                {
                    "批次": (r.manifest or {}).get("batch_id") or r.folder.name,
                    "行数": (r.manifest or {}).get("row_count"),
                    "通过": f"{sum(c.outcome == 'pass' for c in r.results)}/{len(r.results)}",
                    "问题": "；".join(f"{c.code} {p}" for c in r.results for p in c.problems),
                }
                for r in reports
            ]
        emit(
            {
                "ok": all(r.ok for r in reports),
                "examined": len(reports),
                "deliveries": [r.as_dict() for r in reports],
            },
            as_json,
            table=table,
            title="交付核对",
            note=f"核对 {len(reports)} 个交付，{sum(r.ok for r in reports)} 个通过",
        )
        if not all(r.ok for r in reports):
            raise typer.Exit(1)

    @group.command("status")
    def show(
        days: Annotated[int, typer.Option(min=1, help="How many business dates back.")] = 7,
        as_json: AsJson = False,
    ) -> None:
        """Due, sent, accepted, rejected and late by business date and resource; exit code 1 when something needs doing.

        The first batch of a day is judged as in time or late; rows and answer are those of the newest batch of the day.
        """
        from lake.clock import SHANGHAI
        from sharing.exchange import receipts
        from sharing.exchange.run import STATES_ZH, status

        calendar = status(days)
        # However old: what is not acknowledged stays here until it is.
        open_ones = receipts.unacknowledged()
        wrong = [a for a in open_ones if a.state not in ("pending", "lost") and not _resent(a, open_ones)]
        refused = receipts.refused()
        overdue = sum(item.state == "overdue" for item in calendar)
        emit(
            {
                "overdue": overdue,
                "sent": sum(item.sent_at is not None for item in calendar),
                "late": sum(item.state == "late" for item in calendar),
                "accepted": sum(item.answer == "accepted" for item in calendar),
                "rejected": sum(item.answer in ("rejected", "partial") for item in calendar),
                "unacknowledged": [{"batch_id": a.row["delivery_id"], "answer": a.state} for a in open_ones],
                "refused_receipts": refused,
                "calendar": calendar,
            },
            as_json,
            table=[
                {
                    "业务日期": item.business_date,
                    "资源": item.resource,
                    "方式": {"F": "全量", "I": "增量"}[item.mode],
                    "应交": f"{item.due_at.astimezone(SHANGHAI):%m-%d %H:%M}",
                    "首批已交": f"{item.sent_at.astimezone(SHANGHAI):%m-%d %H:%M}" if item.sent_at else "",
                    "状态": STATES_ZH[item.state] + (f" {item.late_hours} 小时" if item.late_hours else ""),
                    "最新批次": f"{item.sequence:04d}" if item.sequence else "",
                    "行数": item.newest_row_count,
                    "回执": receipts.STATES_ZH[item.answer] if item.answer else "",
                }
                for item in calendar
            ],
            title="交付日历（北京时间）",
            note="\n".join(_standing(open_ones, refused)),
        )
        if overdue or wrong or refused:
            raise typer.Exit(1)

    app.add_typer(group, name="exchange")
