"""The raw archive, read through once a week: every object there, whole, and what its name says."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task

from dags import wiring

RUNBOOK = """### 原始归档检查

每周把归档里的每个对象解密、核对一遍：历史数据往往多年后才会重读，损坏要在备份或来源还在的时候发现。只读，不改动任何内容。

**Runbook:** 本机重现：`tiyu archive check`，它列出缺失或损坏的对象（TIYU-ARC-0011）。来源还有该文件时用 `tiyu backfill` 取回，否则从备份放回原位，再运行一次。
"""

with DAG(
    "archive_check",
    schedule=wiring.cron("30 1 * * 0"),
    default_args=wiring.task_defaults(wiring.DEFAULT_OWNER, "reader_archive", minutes=120),
    **wiring.dag_defaults("原始归档检查", RUNBOOK),
) as archive_check:

    @task
    def check() -> Any:
        """Open every archived object and compare it with its name; fails when one is missing or damaged."""
        return wiring.verb("ingestion.inspection:require_whole")

    check()
