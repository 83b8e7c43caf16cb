"""Airflow's scheduler with the slow imports done once (``python -m deploy.scheduler``).

LocalExecutor forks its workers, and each worker forks a process per task. What the scheduler has imported before, every task has for
nothing: Great Expectations (3.5 s of CPU) and dbt (1.4 s) would otherwise be imported again by two tasks in three. Only libraries
that start no threads of their own at import are loaded here (Polars, DuckDB and delta-rs are not: forking after their threads exist is
not supported, and they load in 0.1 s).
"""

from __future__ import annotations

import importlib
import logging
import os
import sys

PRELOAD = (
    # before Airflow: it turns on info logging, and this library then prints hundreds of lines at import
    "great_expectations",
    "dbt.cli.main",
    "jsonschema",
    "catalog.contracts",
    "dags.wiring",
    "airflow.sdk.execution_time.task_runner",
    "airflow.providers.standard.operators.python",
)
FORBIDDEN = ("polars", "duckdb", "deltalake")
"""Must not be in memory when workers are forked (tested)."""


def preload() -> None:
    """Import what tasks need; a missing library is the task's error, not the scheduler's."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    for name in PRELOAD:
        try:
            importlib.import_module(name)
        except ImportError as error:
            print(f"deploy.scheduler: {name} is not preloaded: {error}", file=sys.stderr)
    try:
        # validated contracts, cached under name, size and time of each file: a changed contract is read anew by the task
        importlib.import_module("catalog.contracts").load_all()
        importlib.import_module("dags.wiring").sources()
    except Exception as error:  # a faulty contract must fail its own task, with its own code, not the scheduler
        print(f"deploy.scheduler: contracts are not preloaded: {error}", file=sys.stderr)


def main() -> None:
    """Preload, then become ``airflow scheduler``."""
    preload()
    sys.argv = ["airflow", "scheduler", *sys.argv[1:]]
    from airflow.__main__ import main as airflow_main

    airflow_main()


if __name__ == "__main__":
    main()
