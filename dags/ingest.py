"""One ingest DAG per source contract: fetch and load, then the quality gate.

A new source is one contract file; its DAG appears by itself.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task

from dags import wiring

RUNBOOK = """### 数据接入：{title}（`{resource}`）

取回全部待接入对象，先加密归档，再逐行校验、换成标记，写入 {tables}；随后质量闸门检查本次改动的全部分区，通过后下游才可见。

**Runbook:** `tiyu status` 看最近一次结果 → `tiyu reconcile {resource}` 看收支是否平衡 → 任务日志（Logs）末尾 TIYU- 开头的错误代码
见 `docs/error_codes.md`。来源不可用（退出码 3）会自动重试；数据问题不重试：联系来源负责人（{owner}），修复后重新触发本 DAG，
重复触发不会重复入库。
"""


def ingest_dag(source: wiring.Source) -> DAG:
    """Wire the two tasks of one source."""
    doc = RUNBOOK.format(
        title=source.title,
        resource=source.resource,
        tables="、".join(f"`{t}`" for t in source.tables),
        owner=source.owner,
    )
    with DAG(
        source.dag_id,
        schedule=wiring.ingest_schedule(source),
        default_args=wiring.task_defaults(source.owner, source.pool, minutes=60),
        **wiring.dag_defaults(f"接入 {source.title}", doc),
    ) as dag:

        @task
        def ingest(resource: str, connection: str) -> Any:
            """Fetch, archive, decode, judge and load every pending object."""
            wiring.use_connection(connection)
            return wiring.verb("ingestion.run:ingest", resource=resource)

        @task(outlets=[source.asset])
        def gate(tables: list[str], report: Any, *, outlet_events: Any = None) -> Any:
            """Judge the changed partitions; only then do the checked versions move."""
            result = wiring.verb("quality.gate:run_gate", tables)
            from lake import ledger

            accepted = report.get("accepted") if isinstance(report, dict) else None
            outlet_events[source.asset].extra = {"rows": accepted, "version": ledger.checked_version(tables[0])}
            return result

        gate(list(source.tables), ingest(source.resource, source.connection))
    return dag


for _source in wiring.sources():
    globals()[_source.dag_id] = ingest_dag(_source)
