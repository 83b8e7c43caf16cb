"""`tiyu status`: freshness and last outcome of every resource."""

from __future__ import annotations

import typer

from cli.output import AsJson, emit

_STATE_ZH = {"fresh": "正常", "late": "逾期", "failed": "失败", "never": "未汇聚"}


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("status")
    def status(as_json: AsJson = False) -> None:
        """Show, for every source resource, how fresh it is and what became of its last run; then open alerts."""
        from lake import ledger
        from quality.ops import freshness

        rows = freshness()
        alerts = ledger.alerts("open")
        emit(
            {"resources": rows, "alerts": alerts},
            as_json,
            title="来源资源状态",
            table=[
                {
                    "资源": row["resource"],
                    "名称": row["title"],
                    "状态": _STATE_ZH.get(row["state"], row["state"]),
                    "数据到": row["latest_data_date"],
                    "最近成功": row["last_success_at"],
                    "收到": row["received_count"],
                    "入库": row["accepted_count"],
                    "隔离": row["quarantined_count"],
                    "重复": row["duplicate_count"],
                }
                for row in rows
            ],
            note=f"未关闭的运行告警：{len(alerts)}"
            + "".join(f"\n  [{a['severity']}] {a['rule_code']} {a['subject_id']} {a['message']}" for a in alerts),
        )
