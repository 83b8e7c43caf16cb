"""Build the layers: reference and platform tables, then DIM/DWD, DWS, ADS, then the quality gate of ADS."""

from __future__ import annotations

import itertools
from typing import Any

from airflow.sdk import DAG, task

from dags import wiring

RUNBOOK = """### 分层建模

发布参考数据与平台运行数据 → 明细层（dim、dwd）→ 汇总层（dws）→ 应用层（ads）→ 应用层质量闸门。每层一个任务，只重算变动日期。

**Runbook:** 失败任务日志中的 dbt 模型名即出错位置；本机重现：`tiyu build --layer dwd`。修复后清除失败任务即可续跑；任一层失败时，
下游继续使用上一次通过检查的版本。
"""

with DAG(
    "layers",
    schedule=wiring.after([source.asset for source in wiring.sources()], latest="30 5 * * *"),
    default_args=wiring.task_defaults(wiring.DEFAULT_OWNER, "writer_layers", minutes=120),
    **wiring.dag_defaults("分层建模", RUNBOOK),
) as layers:

    @task(inlets=[source.asset for source in wiring.sources()])
    def reference() -> Any:
        """Vocabularies, rules, KPI definitions and the platform's own figures become tables."""
        published = wiring.verb("catalog.publish:publish_reference")
        wiring.verb("quality.ops:publish_ops")
        return published

    @task
    def build(layer: str) -> Any:
        """Run dbt for one layer; its checked versions move when its tests pass."""
        return wiring.verb("modeling.run:build", layer=layer)

    @task(outlets=[wiring.ADS_TABLES])
    def gate(*, outlet_events: Any = None) -> Any:
        """Judge the changed partitions of every ADS table."""
        from lake import ledger, tables

        names = [name for name in tables.all_tables() if tables.layer_of(name) == "ads"]
        result = wiring.verb("quality.gate:run_gate", names)
        wiring.verb("quality.grades:run")  # more persons, minors or tracks may have raised a table
        wiring.verb("quality.ops:publish_ops")  # the verdicts of this run belong to this run, not to the next one
        main = "ads_cockpit__kpi"
        outlet_events[wiring.ADS_TABLES].extra = {"tables": len(names), "version": ledger.checked_version(main)}
        return result

    steps: list[Any] = [reference()]
    steps += [build.override(task_id=layer)(layer) for layer in ("dwd", "dws", "ads")]
    steps.append(gate())
    for _earlier, _later in itertools.pairwise(steps):
        _earlier >> _later
