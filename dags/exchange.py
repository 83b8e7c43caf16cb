"""Deliver to the city big-data center: once a business day, complete or not at all.

The partition key of a run, when it has one, is the business date to deliver; without it the verb delivers what is due.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task

from dags import wiring

RUNBOOK = """### 数据交换

按接口规范把当日应交付的资源写入发件箱；没有数据的日子交付零行；同一批次不会交付两次。

**Runbook:** `tiyu exchange status` 看应交、已交、迟交 → `tiyu exchange verify` 校验 → 重新触发本 DAG 只补缺失的交付；
补指定业务日期：以分区键 `YYYY-MM-DDT00:00:00` 触发。
"""

with DAG(
    "exchange",
    schedule=wiring.after([wiring.ADS_TABLES], latest="0 7 * * *"),
    default_args=wiring.task_defaults(wiring.DEFAULT_OWNER, "writer_exchange", minutes=60),
    **wiring.dag_defaults("数据交换", RUNBOOK),
) as exchange:

    @task(inlets=[wiring.ADS_TABLES])
    def deliver(*, dag_run: Any = None) -> Any:
        """Write the deliveries that are due."""
        from datetime import date

        key = getattr(dag_run, "partition_key", None)
        return wiring.verb(
            "sharing.exchange.run:run_exchange", business_date=date.fromisoformat(key[:10]) if key else None
        )

    deliver()
