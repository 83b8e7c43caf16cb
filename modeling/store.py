"""dbt-duckdb plugin: shows the lake to dbt and stores a model as a Delta table.

The lake is registered once, when the in-memory DuckDB of the invocation is opened; every table is a view at one
version. A model is streamed from DuckDB into Delta without being held in Python.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt.adapters.duckdb.utils import TargetConfig
from duckdb import DuckDBPyConnection

from lake import query, steps, tables
from lake.errors import EXIT_INTERNAL, EXIT_USAGE, TiyuError
from lake.settings import settings
from modeling import literals, session
from modeling.planner import DateRange, ModelSpec, Plan, Recorded

BATCH_ROWS = 65_536


def register_table(
    con: DuckDBPyConnection, layer: str, name: str, version: int | None, columns: tuple[tuple[str, str], ...]
) -> None:
    """Create the view ``layer.name`` at a version; an empty view with the declared columns when nothing is visible."""
    target = f"{query.quote_name(layer)}.{query.quote_name(name)}"
    if version is not None:
        con.execute(f"create or replace view {target} as select * from {query.scan_sql(name, version)}")
        return
    empty = ", ".join(f"cast(null as {data_type}) as {query.quote_name(column)}" for column, data_type in columns)
    con.execute(f"create or replace view {target} as select {empty} where false")


def contract_select(sql: str, spec: ModelSpec) -> str:
    """The model's rows with exactly the contract's columns in the contract's order."""
    columns = ", ".join(query.quote_name(name) for name, _ in spec.columns)
    return f"select {columns} from (\n{sql}\n) as model_rows"


def register_lake(con: DuckDBPyConnection, run: session.Session) -> int:
    """Show every source and model of the project at the version this invocation starts from; returns how many."""
    layers = {schema for schema, _ in run.sources.values()} | {spec.layer for spec in run.specs.values()}
    for layer in sorted(layers):
        con.execute(f"create schema if not exists {query.quote_name(layer)}")
    for name, (schema, columns) in run.sources.items():
        register_table(con, schema, name, run.checked(name), columns)
    for name, spec in run.specs.items():
        register_table(con, spec.layer, name, run.checked(name), spec.columns)
    return len(run.sources) + len(run.specs)


def build_model(con: DuckDBPyConnection, run: session.Session, name: str, sql: str) -> Plan:
    """Plan one model, write what the plan asks for and show the model at its new head.

    ``sql`` is the compiled model with its placeholders (see modeling.literals).
    """
    spec = run.specs[name]
    plan = run.plan(name)
    run.plans[name] = plan
    if (
        plan.action == "full"
        and spec.strategy == "table"
        and not run.full_refresh
        and _same_content(con, run, spec, sql)
    ):
        plan = run.plans[name] = replace(plan, action="none", reason=f"{plan.reason}; same content")
    if plan.action != "none":
        _write(con, run, spec, plan, sql)
    register_table(con, spec.layer, name, tables.version(name), spec.columns)
    return plan


def _write(con: DuckDBPyConnection, run: session.Session, spec: ModelSpec, plan: Plan, sql: str) -> None:
    record = Recorded(plan.inputs, spec.definition, run.business_date)

    def rows(window: DateRange | None) -> pa.RecordBatchReader:
        text = literals.render(
            sql, window=window, business_date=run.business_date, as_of=run.as_of, versions=run.input_versions
        )
        # Computed to the end before it is streamed: DuckDB 1.5.5 waits for ever on a streamed result of many unions (the KPI
        # table at city size did). The temporary table spills, and a scan of it streams safely.
        con.execute(f"create or replace temp table model_rows as {contract_select(text, spec)}")
        return counted(con.execute("select * from model_rows").to_arrow_reader(BATCH_ROWS), run.rows, spec.name)

    def metadata(kept: Recorded) -> dict[str, Any]:
        return {**kept.metadata(), "tiyu.model": spec.name, "tiyu.run_id": run.run_id}

    run.rows[spec.name] = 0
    if plan.action == "full":
        run.built[spec.name] = tables.replace_table(
            spec.name, rows(None), metadata=metadata(record), partition_by=spec.partition_by
        )
        return
    before = run.recorded(spec.name)
    if before is None:
        raise TiyuError(
            "TIYU-DBT-0007", "增量构建缺少上次构建的记录", "用 --full-refresh 重建", EXIT_INTERNAL, table=spec.name
        )
    for window in plan.ranges:
        # Only the last commit may claim the new inputs: after a crash in between, all ranges are done again.
        kept = record if window == plan.ranges[-1] else before
        if spec.strategy == "merge":
            run.built[spec.name] = tables.merge(
                spec.name,
                rows(window),
                spec.keys,
                window=(spec.column, window.start, window.end),
                metadata=metadata(kept),
            )
        else:
            run.built[spec.name] = tables.replace_window(
                spec.name, rows(window), spec.column, window.start, window.end, metadata=metadata(kept)
            )


def _same_content(con: DuckDBPyConnection, run: session.Session, spec: ModelSpec, sql: str) -> bool:
    """Whether a small whole-table model would be written again with exactly the rows its head has.

    A new version of equal content would ripple through everything downstream; inputs such as quality results change
    often without changing a row here. The definition must be the same, or the record of it would be lost.
    """
    before = run.recorded(spec.name)
    head = tables.version(spec.name)
    if before is None or head is None or before.definition != spec.definition:
        return False
    text = contract_select(
        literals.render(
            sql, window=None, business_date=run.business_date, as_of=run.as_of, versions=run.input_versions
        ),
        spec,
    )
    now = f"select * from {query.scan_sql(spec.name, head)}"
    fingerprint = "select count(*), bit_xor(hash(content)), sum(hash(content)) from ({}) as content"
    columns = ", ".join(query.quote_name(name) for name, _ in spec.columns)
    return bool(
        con.execute(fingerprint.format(text)).fetchone()
        == con.execute(fingerprint.format(f"select {columns} from ({now})")).fetchone()
    )


def counted(reader: pa.RecordBatchReader, counts: dict[str, int], name: str) -> pa.RecordBatchReader:
    """The same stream, adding the rows that pass to ``counts[name]``."""

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in reader:
            counts[name] += batch.num_rows
            yield batch

    return pa.RecordBatchReader.from_batches(reader.schema, batches())


class Plugin(BasePlugin):
    """Registered in profiles.yml; dbt-duckdb makes one per environment."""

    _connection: DuckDBPyConnection | None = None

    def configure_connection(self, conn: DuckDBPyConnection) -> None:
        """Load Delta and register every source and model of the project as a view."""
        query.load_delta(conn)
        conn.execute("set global TimeZone = 'UTC'")
        spill = settings().home / "tmp" / f"dbt-{os.getpid()}"
        conn.execute(f"set global temp_directory = {query.quote_literal(str(spill))}")
        self._connection = conn
        run = session.current()
        if run is not None:
            register_lake(conn, run)

    def store(self, target_config: TargetConfig) -> None:
        """Build one model as planned and show it at its new version."""
        run = session.current()
        if run is None or self._connection is None:
            raise TiyuError("TIYU-DBT-0005", "不能直接用 dbt 写入数据表", "请用 tiyu build 构建分层数据", EXIT_USAGE)
        name = str(target_config.relation.identifier)
        layer = run.specs[name].layer.replace("dim", "dwd")  # dimensions are built in the step of the details
        steps.enter(layer)
        cursor = self._connection.cursor()
        try:
            build_model(cursor, run, name, target_config.config["sql"])
        finally:
            cursor.close()
            steps.enter(f"gate-{layer}")  # what dbt does with a layer after writing it is testing it
