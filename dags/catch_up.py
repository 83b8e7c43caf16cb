"""Many small sources in one run, on an operator's word: after an outage, or at the start of a demonstration.

Each source also has a DAG of its own with a schedule of its own (``dags.ingest``); this one only saves starting dozens of them.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, AssetAlias, Param, task

from dags import wiring

RUNBOOK = """### 一次接入多个来源

手工触发，依次接入所选来源（默认全部）并通过质量闸门：被引用的来源在先，一个来源失败不影响其余。与各来源自己的 DAG 是同一条路，
同时运行也不会重复入库。

**Runbook:** 失败时任务日志末尾列出失败的来源与错误代码；`tiyu status` 看各来源，本机重现：`tiyu ingest 来源` 与 `tiyu gate 来源`。
修复后重新触发，已完成的不会重做。
"""

SOURCES = {source.resource: source for source in wiring.sources()}
CHANGED = AssetAlias("caught_up", group="lake")
"""Stands for the tables of whichever sources were brought up to date."""

with DAG(
    "catch_up",
    schedule=None,
    default_args=wiring.task_defaults(wiring.DEFAULT_OWNER, "writer_catch_up", minutes=120),
    params={
        "resources": Param(list(SOURCES), type="array", items={"type": "string", "enum": list(SOURCES)}, title="来源"),
    },
    **wiring.dag_defaults("一次接入多个来源", RUNBOOK),
) as catch_up:

    @task(outlets=[CHANGED])
    def ingest(*, params: dict[str, Any], outlet_events: Any = None) -> Any:
        """Fetch, load and judge; what passed is visible downstream."""
        chosen = [SOURCES[name] for name in params["resources"]]
        for connection in sorted({source.connection for source in chosen}):
            wiring.use_connection(connection)
        result = wiring.verb("ingestion.catch_up:catch_up", resources=[source.resource for source in chosen])
        for source in chosen:
            outlet_events[CHANGED].add(source.asset, extra={"reason": "catch_up"})
        return result

    ingest()
