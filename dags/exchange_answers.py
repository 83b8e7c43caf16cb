"""Read the answers of the city big-data center, and send again what it turned down."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task

from dags import wiring

RUNBOOK = """### 交换回执

读取市大数据中心的回执（全部接收、部分接收、整批拒收及拒收文件），记入台账并开、关预警；被拒收的批次以同一业务日期的下一批次号
自动重交一次，再被拒收则保留预警 EC-01，由人工处理。

**Runbook:** `tiyu exchange status` 看应交、已交、已接收、被拒收、迟交 → `tiyu exchange receive` 读取回执 →
拒收文件在 `$TIYU_HOME/exchange/inbox`；更正后 `tiyu exchange run --resend 资源 日期`。
"""

with DAG(
    "exchange_answers",
    schedule=wiring.cron("*/15 7-20 * * *"),
    default_args=wiring.task_defaults(wiring.DEFAULT_OWNER, "writer_exchange", minutes=30),
    **wiring.dag_defaults("交换回执", RUNBOOK),
) as exchange_answers:

    @task
    def receive() -> Any:
        """Record the receipts that wait."""
        return wiring.verb("sharing.exchange.receipts:receive")

    @task
    def mend() -> Any:
        """Send again, once, what was turned down."""
        return wiring.verb("sharing.exchange.run:mend_refused")

    receive() >> mend()
