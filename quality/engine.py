"""Great Expectations on DuckDB: many tables judged in one context, each rule by its own outcome.

Facts this module rests on (Great Expectations is pinned to 1.24.1; `tests/integration/quality` keeps them true):

* GX closes the SQL connection before it fetches, which DuckDB does not survive, unless the dialect is listed as
  "persisted". One private attribute is extended for that.
* One failing query would abort the transaction and make every later rule fail too, so the dialect used here does not
  open transactions at all: a rule that crashes is an error of its own.
* GX formats the query text (`{}`) and SQLAlchemy looks for `:name` in it. Predicates therefore live in the judged
  view as boolean columns and never pass through either.
* At result format BASIC an `UnexpectedRowsExpectation` reports a count and no row. Exception texts do carry values,
  so only the exception's class is kept.
"""

from __future__ import annotations

import enum
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import duckdb

from catalog import policy
from catalog.policy import Facet
from lake import storage
from lake.query import quote_literal, quote_name, scan_sql
from lake.settings import settings
from quality.checks import Check, TableChecks

Outcome = Literal["pass", "fail", "error"]
Range = tuple[date, date]
MAX_RANGES = 30


@dataclass(frozen=True)
class Target:
    """A table at one version, cut to the partitions to judge; `ranges` None means all rows."""

    checks: TableChecks
    version: int
    ranges: tuple[Range, ...] | None

    @property
    def table(self) -> str:
        return self.checks.table


@dataclass(frozen=True)
class Judgement:
    """What became of one check: `failed_count` counts rows (kind row) or groups; `error` is an exception class."""

    check: Check
    outcome: Outcome
    failed_count: int
    error: str | None = None


def ranges_of(days: set[date]) -> tuple[Range, ...]:
    """Merge dates into runs; more than MAX_RANGES runs become one covering range (see docs: OR does not prune)."""
    runs: list[Range] = []
    for day in sorted(days):
        if runs and (day - runs[-1][1]).days <= 1:
            runs[-1] = (runs[-1][0], day)
        else:
            runs.append((day, day))
    return tuple(runs) if len(runs) <= MAX_RANGES else ((runs[0][0], runs[-1][1]),)


def rows_sql(table: str, version: int, ranges: Sequence[Range] | None, part_column: str | None = "part_date") -> str:
    """SELECT over one version of a table with literal partition ranges, one scan a range, because only that prunes."""
    scan = scan_sql(table, version)
    if ranges is None or part_column is None:
        return f"SELECT * FROM {scan}"
    column = quote_name(part_column)
    return " UNION ALL ".join(
        f"SELECT * FROM {scan} WHERE {column} BETWEEN DATE '{start}' AND DATE '{end}'" for start, end in ranges
    )


def judged_sql(target: Target) -> str:
    """The judged view: the rows plus one boolean column `_broken_i` for each row check."""
    flags = [
        f"(({check.expression}) IS NOT TRUE) AS _broken_{number}"
        for number, check in enumerate(target.checks.checks)
        if check.kind == "row"
    ]
    rows = rows_sql(target.table, target.version, target.ranges, target.checks.part_column)
    return f"SELECT *{''.join(', ' + flag for flag in flags)} FROM ({rows}) AS judged"


def _lay_out(con: duckdb.DuckDBPyConnection, name: str, target: Target) -> bool:
    """Make the relation GX reads: a table with every predicate evaluated once over one scan of the lake.

    Only what the checks need is kept: the flags, the keys, or all columns where a group condition names them. When a
    predicate raises, a view takes the table's place, so that exactly the rules concerned become errors. Returns
    whether it is a table.
    """
    whole = any(check.kind == "table" for check in target.checks.checks)
    keys = [column for check in target.checks.checks if check.kind == "key" for column in check.columns]
    part = [target.checks.part_column] if target.checks.part_column else []
    flags = [f"_broken_{number}" for number, check in enumerate(target.checks.checks) if check.kind == "row"]
    columns = "*" if whole else ", ".join(quote_name(column) for column in dict.fromkeys([*part, *keys, *flags]))
    try:
        con.execute(f"CREATE TABLE {name} AS SELECT {columns} FROM ({judged_sql(target)}) AS judged")
    except duckdb.Error:
        con.execute(f"CREATE VIEW {name} AS {judged_sql(target)}")
        return False
    return True


def _keys(target: Target, check: Check) -> str:
    part = [target.checks.part_column] if target.checks.part_column else []
    return ", ".join(quote_name(column) for column in dict.fromkeys([*part, *check.columns]))


def _expectation_sql(target: Target, number: int, check: Check) -> str:
    if check.kind == "row":
        return f"SELECT 1 AS broken FROM {{batch}} WHERE _broken_{number}"
    if check.kind == "key":
        return f"SELECT 1 AS broken FROM {{batch}} GROUP BY {_keys(target, check)} HAVING count(*) > 1"
    condition = check.expression.replace("{", "{{").replace("}", "}}").replace(":", "\\:")
    grouped = f" GROUP BY {', '.join(quote_name(column) for column in check.columns)}" if check.columns else ""
    return f"SELECT 1 AS broken FROM {{batch}}{grouped} HAVING ({condition}) IS NOT TRUE"


def failing_batches_sql(target: Target, number: int, check: Check) -> str:
    """Which batches brought the rows that break a row or key check (selects `_batch_id` from the view `judged`)."""
    if check.kind == "row":
        return f"SELECT DISTINCT _batch_id FROM judged WHERE _broken_{number}"
    return f"SELECT DISTINCT _batch_id FROM (SELECT _batch_id FROM judged QUALIFY count(*) OVER (PARTITION BY {_keys(target, check)}) > 1)"


def bindable(con: duckdb.DuckDBPyConnection, target: Target) -> Target:
    """Replace each predicate that cannot even be bound by one that raises, so that it becomes an *error* in GX.

    Without this a renamed column would make the whole view, and with it every other rule, unusable.
    """
    rows = rows_sql(target.table, target.version, target.ranges, target.checks.part_column)
    checks = []
    for check in target.checks.checks:
        if check.kind == "row":
            try:
                con.execute(f"PREPARE gate_probe AS SELECT ({check.expression}) IS NOT TRUE FROM ({rows}) AS judged")
                con.execute("DEALLOCATE gate_probe")
            except duckdb.Error:
                check = Check(
                    check.rule_id, "row", check.message_zh, "error('rule cannot be bound')::BOOLEAN", check.columns
                )
        checks.append(check)
    table = target.checks
    return Target(
        TableChecks(table.table, tuple(checks), table.may_be_empty, table.part_column, table.references, table.skipped),
        target.version,
        target.ranges,
    )


def _great_expectations() -> Any:
    """Import Great Expectations quietly, without telemetry, ready for DuckDB. Costs about 3 s, so it is done late."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    logging.getLogger("great_expectations").setLevel(logging.ERROR)  # Airflow turns info logging on before GX loads
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import great_expectations as gx
        from great_expectations.execution_engine import sqlalchemy_execution_engine as engine
        from sqlalchemy.dialects import registry

    logging.getLogger("great_expectations").setLevel(logging.ERROR)  # its import sets a level of its own
    if "duckdb" not in [str(getattr(entry, "value", entry)) for entry in engine._PERSISTED_CONNECTION_DIALECTS]:
        dialect = enum.Enum("dialect", {"DUCKDB": "duckdb"}, type=str)
        extended: Any = (*engine._PERSISTED_CONNECTION_DIALECTS, dialect.DUCKDB)
        engine._PERSISTED_CONNECTION_DIALECTS = extended
    registry.register("duckdb.judged", "quality.duckdb_dialect", "JudgedDialect")
    registry.register("duckdb.lake", "quality.duckdb_dialect", "LakeDialect")
    return gx


def _clear_stale(root: Path) -> None:
    """Remove the folders of gate runs that were killed; those of running processes are left alone."""
    for folder in root.glob("gate-*-*"):
        pid = folder.name.split("-")[1]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _ephemeral_context(gx: Any, folder: Path) -> Any:
    """A GX context in memory; the docs folder it always creates goes where it will be removed with the views."""
    before = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        return gx.get_context(mode="ephemeral")
    finally:
        tempfile.tempdir = before


def _exception_class(info: Any) -> str | None:
    """The class of the exception GX caught, or None; `info` is flat or keyed by metric."""
    if not isinstance(info, dict):
        return None
    entries = [info] if "raised_exception" in info else [entry for entry in info.values() if isinstance(entry, dict)]
    for entry in entries:
        if entry.get("raised_exception"):
            message = str(entry.get("exception_message") or "")
            if found := storage.from_text(message):
                raise found  # neither a pass nor a rule that is wrong
            start = message.find("_duckdb.")
            return message[start + len("_duckdb.") :].split(")")[0] if start >= 0 else "Exception"
    return None


def result_format() -> str:
    """How much GX may put into a result: counts only, unless the policy allows values on the surface of quality results."""
    shown = policy.decide("operations", "quality_result", Facet("L1", "N", None)).treatment
    return "BASIC" if shown == "absent" else "COMPLETE"


def judge(
    con: duckdb.DuckDBPyConnection, targets: Sequence[Target], registered: dict[str, int] | None = None
) -> dict[str, list[Judgement]]:
    """Let Great Expectations judge every check of every target; returns judgements per table, in check order.

    `con` is a lake connection in which the tables that predicates name are registered as views; `registered` says at
    which versions. A check for which GX gives no result is an error, never a pass.
    """
    if not targets:
        return {}
    gx = _great_expectations()
    import great_expectations.expectations as gxe

    root = settings().home / "tmp"
    root.mkdir(parents=True, exist_ok=True)
    _clear_stale(root)
    folder = Path(tempfile.mkdtemp(prefix=f"gate-{os.getpid()}-", dir=root))
    try:
        file = folder / "judged_rows.duckdb"
        con.execute(f"ATTACH {quote_literal(str(file))} AS judged_rows")
        try:
            laid_out = [_lay_out(con, f"judged_rows.main.judged_{n}", target) for n, target in enumerate(targets)]
            if not all(laid_out):
                for name, version in (registered or {}).items():
                    con.execute(
                        f"CREATE VIEW judged_rows.main.{quote_name(name)} AS SELECT * FROM {scan_sql(name, version)}"
                    )
        finally:
            con.execute("DETACH judged_rows")

        context = _ephemeral_context(gx, folder)
        context.variables.progress_bars = {"globally": False}
        source = context.data_sources.add_sql(
            "lake",
            connection_string=f"duckdb+{'judged' if all(laid_out) else 'lake'}:///{file}",
            kwargs={
                "connect_args": {"config": {"threads": 2, "memory_limit": "2GB", "allow_unsigned_extensions": True}}
            },
        )
        verdicts: dict[str, list[Judgement]] = {}
        for number, target in enumerate(targets):
            suite = gx.ExpectationSuite(
                name=target.table,
                expectations=[
                    gxe.UnexpectedRowsExpectation(
                        unexpected_rows_query=_expectation_sql(target, position, check), meta={"check": position}
                    )
                    for position, check in enumerate(target.checks.checks)
                ],
            )
            asset = source.add_table_asset(target.table, table_name=f"judged_{number}")
            definition = context.validation_definitions.add(
                gx.ValidationDefinition(
                    name=target.table,
                    data=asset.add_batch_definition_whole_table(target.table),
                    suite=context.suites.add(suite),
                )
            )
            verdicts[target.table] = _read(definition.run(result_format=result_format()), target)
        return verdicts
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _read(result: Any, target: Target) -> list[Judgement]:
    """Turn a GX result into judgements, by the position each expectation carries, never by list order."""
    by_position = {entry.expectation_config.meta["check"]: entry for entry in result.results}
    judgements = []
    for position, check in enumerate(target.checks.checks):
        entry = by_position.get(position)
        count = None if entry is None else entry.result.get("observed_value")
        error = "NoResult" if entry is None else _exception_class(entry.exception_info)
        if error is None and not isinstance(count, int):
            error = "NoCount"
        if entry is None or error is not None:
            judgements.append(Judgement(check, "error", 0, error))
        else:
            judgements.append(Judgement(check, "pass" if entry.success and count == 0 else "fail", int(count or 0)))
    return judgements


def literal_list(values: Sequence[str]) -> str:
    """Values as an SQL list of literals."""
    return ", ".join(quote_literal(value) for value in values)
