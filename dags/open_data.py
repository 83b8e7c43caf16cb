"""Build the open datasets: files, metadata and pages of each new version."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task

from dags import wiring

RUNBOOK = """### 开放数据

从通过检查的应用层生成开放数据集的文件、元数据与网页；内容不变则不产生新版本，已发布的版本永不重算。

**Runbook:** 本机重现：`tiyu open-data build`。失败时已发布版本不受影响；发布前请核对许可与脱敏清单。
"""

with DAG(
    "open_data",
    schedule=wiring.after([wiring.ADS_TABLES], latest="30 7 * * *"),
    default_args=wiring.task_defaults(wiring.DEFAULT_OWNER, "writer_open", minutes=60),
    **wiring.dag_defaults("开放数据", RUNBOOK),
) as open_data:

    @task(inlets=[wiring.ADS_TABLES])
    def build() -> Any:
        """Publish a new version where the content changed."""
        return wiring.verb("sharing.open_data.build:build_open_data")

    build()
