"""Cut the serving files: one read-only DuckDB file per audience, swapped in by rename."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task

from dags import wiring

RUNBOOK = """### 服务文件

把通过检查的应用层数据切成各受众的只读文件（驾驶舱、各区、分析师、告警），写好后改名换入；随后更新数据目录网站。

**Runbook:** 本机重现：`tiyu serve`、`tiyu catalog site`。失败时各界面继续使用上一份文件；文件打不开时检查 `$TIYU_HOME/serving` 的磁盘空间与权限。
"""

with DAG(
    "serve",
    schedule=wiring.after([wiring.ADS_TABLES], latest="0 6 * * *"),
    default_args=wiring.task_defaults(wiring.DEFAULT_OWNER, "writer_serving", minutes=60),
    **wiring.dag_defaults("服务文件", RUNBOOK),
) as serve:

    @task(inlets=[wiring.ADS_TABLES])
    def publish() -> Any:
        """Write and swap the serving files."""
        return wiring.verb("dags.verbs:publish_serving")

    @task
    def catalogue() -> Any:
        """The catalogue site with the newest freshness, row counts and quality history."""
        return wiring.verb("sharing.sites.catalogue:build")

    publish() >> catalogue()
