"""Upkeep of the lake: small files merged every hour, old files removed once a night."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task

from dags import wiring

RUNBOOK = """### {title}

{what}数据行不变，已检版本都保留。

**Runbook:** 本机重现：`tiyu compact`（加 `--clean` 同时清理旧文件）。失败不影响读取，重跑即可；TIYU-LAKE-0002 表示与写入冲突，稍后重试。
"""


def maintenance_dag(dag_id: str, title: str, what: str, schedule: str, clean: bool) -> DAG:
    """Wire one kind of upkeep."""
    with DAG(
        dag_id,
        schedule=wiring.cron(schedule),
        default_args=wiring.task_defaults(wiring.DEFAULT_OWNER, "writer_maintenance", minutes=60),
        **wiring.dag_defaults(title, RUNBOOK.format(title=title, what=what)),
    ) as dag:

        @task
        def compact(clean: bool) -> Any:
            """Merge small data files; with `clean` also remove files that nobody can ask for."""
            return wiring.verb("ingestion.upkeep:compact", clean=clean)

        compact(clean)
    return dag


compaction = maintenance_dag(
    "compaction",
    "小文件合并",
    "消息流每隔几秒提交一次，产生许多小文件；每小时合并一次。",
    "15 * * * *",
    clean=False,
)
cleaning = maintenance_dag(
    "cleaning",
    "旧文件清理",
    "每天凌晨合并小文件，并删除已没有任何已检版本需要、超过 7 天的旧文件。",
    "45 3 * * *",
    clean=True,
)
