"""Read history again on an operator's word: from the source (a range of days) or from the archive (a new contract version).

The parameters are those of ``tiyu backfill`` and ``tiyu reread``; the layers follow.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, AssetAlias, Param, task

from dags import wiring

RUNBOOK = """### 回补与重读

手工触发，选资源与来历：`source` 向来源重取一段日期的历史（更正的文件、补报的数据）；`archive` 在契约版本提高之后，从归档按新契约
重读全部历史，不再取数。随后质量闸门判定，再触发分层建模，下游按变动的日期跟随。

**Runbook:** 本机重现：`tiyu backfill 资源 --from 起 --to 止` 或 `tiyu reread 资源`，然后 `tiyu gate 资源`、`tiyu build`。中断后重新触发即可，
不会重复入库；契约读不了旧文件时（TIYU-ING-0015）不作任何改动。
"""

SOURCES = {source.resource: source for source in wiring.sources()}
CHANGED = AssetAlias("backfilled", group="lake")
"""Stands for the table of whichever resource was read again."""

with DAG(
    "backfill",
    schedule=None,
    default_args=wiring.task_defaults(wiring.DEFAULT_OWNER, "writer_backfill", minutes=120),
    params={
        "resource": Param(next(iter(SOURCES)), enum=list(SOURCES), title="资源"),
        "history": Param("source", enum=["source", "archive"], title="来历：source 来源，archive 归档"),
        "first": Param(None, type=["null", "string"], format="date", title="第一天（来历为 source 时必填）"),
        "last": Param(None, type=["null", "string"], format="date", title="最后一天（来历为 source 时必填）"),
    },
    **wiring.dag_defaults("回补与重读", RUNBOOK),
) as backfill:

    @task
    def read(*, params: dict[str, Any]) -> Any:
        """Bring the asked-for history in; what is known already is recognised."""
        from datetime import date

        resource = params["resource"]
        wiring.use_connection(SOURCES[resource].connection)
        if params["history"] == "archive":
            return wiring.verb("ingestion.reread:reread", resource=resource)
        first, last = (date.fromisoformat(params[name]) if params[name] else None for name in ("first", "last"))
        return wiring.verb("ingestion.backfill:backfill", resource=resource, first=first, last=last)

    @task(outlets=[CHANGED])
    def gate(*, params: dict[str, Any], outlet_events: Any = None) -> Any:
        """Judge the changed partitions; only then do the checked versions move."""
        source = SOURCES[params["resource"]]
        result = wiring.verb("quality.gate:run_gate", list(source.tables))
        outlet_events[CHANGED].add(source.asset, extra={"reason": "backfill"})
        return result

    follow = TriggerDagRunOperator(task_id="layers", trigger_dag_id="layers")

    read() >> gate() >> follow
