"""`tiyu status`: freshness and last outcome of every resource."""

from __future__ import annotations

from datetime import datetime

import typer

from cli.output import AsJson, emit, print_banner
from lake import clock

_OUTCOME_ZH = {"success": "成功", "nothing_new": "没有新数据", "failed": "失败", "running": "运行中"}


def _shanghai(moment: datetime | None) -> str:
    return "—" if moment is None else f"{moment.astimezone(clock.SHANGHAI):%m-%d %H:%M}"


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("status")
    def status(as_json: AsJson = False) -> None:
        """Show, for every source resource, how fresh it is and what became of its last run; then open alerts."""
        from catalog import vocabularies
        from lake import ledger
        from quality.ops import freshness

        rows = freshness()
        alerts = ledger.alerts("open")
        last = {run["resource"]: run["status"] for run in ledger.runs()}
        if not as_json:
            print_banner()
        emit(
            {"resources": [{**row, "last_run": last.get(row["resource"])} for row in rows], "alerts": alerts},
            as_json,
            title="来源资源状态",
            table=[
                {
                    "资源": row["resource"],
                    "名称": row["title"],
                    "状态": vocabularies.name_of("freshness_state", row["state"]),
                    "上次运行": _OUTCOME_ZH.get(last.get(row["resource"], ""), "—"),
                    "数据到": row["latest_data_date"],
                    "最近成功": _shanghai(row["last_success_at"]),
                    "收到 = 入库 + 隔离 + 重复": (
                        f"{row['received_count']:,} = {row['accepted_count']:,} + {row['quarantined_count']:,} + {row['duplicate_count']:,}"
                    ),
                }
                for row in rows
            ],
            note=f"未关闭的运行告警：{len(alerts)}"
            + "".join(
                f"\n  [{vocabularies.name_of('alert_severity', a['severity'])}] {a['rule_code']} {a['subject_id']} {a['message']}"
                for a in alerts
            ),
        )
