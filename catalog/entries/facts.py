"""What changes from day to day about an entry: freshness, what is visible of its tables, quality history.

Read from the lake and its ledger at the versions that are visible; nothing is declared here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import duckdb

from catalog.entries.model import Entry
from lake import ledger, query, tables
from lake.query import scan_sql

FRESHNESS = "ops_ingest__freshness"
RESULTS = "ops_quality__result"
RUNS_KEPT = 30


@dataclass(frozen=True)
class TableFacts:
    """A table as readers see it: `version` is the checked one; None when nothing is visible yet."""

    table: str
    version: int | None
    row_count: int | None = None
    latest_part_date: date | None = None


@dataclass(frozen=True)
class QualityRun:
    """One judgement of one table: how many rules, rows examined, rules and rows that failed."""

    table: str
    checked_at: datetime
    outcome: str
    rule_count: int
    examined_count: int
    failed_rules: tuple[str, ...]
    failed_count: int


@dataclass(frozen=True)
class Facts:
    """Everything of one entry. `freshness` has one row a source it rests on (columns of `ops_ingest__freshness`)."""

    entry: str
    tables: tuple[TableFacts, ...] = ()
    freshness: tuple[dict[str, Any], ...] = ()
    quality: tuple[QualityRun, ...] = field(default=())

    @property
    def latest_part_date(self) -> date | None:
        """The latest business date that is visible."""
        return max((t.latest_part_date for t in self.tables if t.latest_part_date), default=None)

    @property
    def state(self) -> str:
        """The worst freshness of the sources it rests on: failed, never, late, fresh; `unknown` without a source."""
        states = {row["state"] for row in self.freshness}
        return next((state for state in ("failed", "never", "late", "fresh") if state in states), "unknown")


def sources_of(entry: Entry, entries: dict[str, Entry]) -> list[str]:
    """The source entries that an entry rests on, itself included if it is one."""
    found, open_, seen = [], [entry.id], set()
    while open_:
        current = open_.pop()
        if current in seen:
            continue
        seen.add(current)
        if entries[current].kind == "source":
            found.append(current)
        open_ += entries[current].upstream
    return sorted(found)


def load(entries: dict[str, Entry], only: list[str] | None = None) -> dict[str, Facts]:
    """Facts by entry id; `only`: the ids wanted. Without a lake every entry has empty facts."""
    wanted = [entries[name] for name in (only if only is not None else entries)]
    con = query.connect()
    try:
        fresh = {row["resource"]: row for row in _rows(con, FRESHNESS)}
        history = _quality(con)
        return {
            entry.id: Facts(
                entry=entry.id,
                tables=tuple(_table(con, table.name) for table in entry.tables),
                freshness=tuple(fresh[name] for name in sources_of(entry, entries) if name in fresh),
                quality=tuple(run for table in entry.tables for run in history.get(table.name, ())),
            )
            for entry in wanted
        }
    finally:
        con.close()


def _table(con: duckdb.DuckDBPyConnection, name: str) -> TableFacts:
    version = ledger.checked_version(name)
    if version is None or not tables.exists(name):
        return TableFacts(name, version)
    dated = any(field.name == "part_date" for field in tables.open_table(name, version).schema().fields)
    latest = "max(part_date)" if dated else "NULL::DATE"
    count, last = con.execute(f"SELECT count(*), {latest} FROM {scan_sql(name, version)}").fetchall()[0]
    return TableFacts(name, version, int(count), last)


def _rows(con: duckdb.DuckDBPyConnection, name: str) -> list[dict[str, Any]]:
    version = ledger.checked_version(name)
    if version is None:
        return []
    return con.execute(f"SELECT * FROM {scan_sql(name, version)}").pl().to_dicts()


def _quality(con: duckdb.DuckDBPyConnection) -> dict[str, list[QualityRun]]:
    """Table → its latest judgements, newest first."""
    version = ledger.checked_version(RESULTS)
    if version is None:
        return {}
    rows = con.execute(
        f"""
        SELECT
            table_name,
            max(checked_at) AS checked_at,
            CASE WHEN bool_or(outcome = 'error') THEN 'error' WHEN bool_or(outcome = 'fail') THEN 'fail' ELSE 'pass' END
                AS outcome,
            count(*) AS rule_count,
            max(examined_count) AS examined_count,
            list(rule_id ORDER BY rule_id) FILTER (outcome <> 'pass') AS failed_rules,
            sum(failed_count) AS failed_count
        FROM {scan_sql(RESULTS, version)}
        GROUP BY table_name, run_id
        QUALIFY row_number() OVER (PARTITION BY table_name ORDER BY max(checked_at) DESC, run_id) <= {RUNS_KEPT}
        ORDER BY table_name, checked_at DESC
        """
    ).fetchall()
    found: dict[str, list[QualityRun]] = {}
    for table, checked_at, outcome, rules, examined, failed, failed_rows in rows:
        run = QualityRun(table, checked_at, outcome, rules, examined, tuple(failed or ()), int(failed_rows or 0))
        found.setdefault(table, []).append(run)
    return found
