"""Grades as the data stands: persons counted in the lake, tables and resources raised by them, every decision recorded.

A decision is written only when its level, mark, rules or author changed, or the persons in it grew by a tenth, so that
the history reads as a history.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import duckdb

from catalog import columns, contracts
from catalog.columns import ColumnRow
from catalog.detectors import content
from catalog.detectors.content import Finding
from catalog.grading import declarations, fields
from catalog.grading import tables as table_rules
from catalog.grading.tables import Facts, PersonColumns, TableLevel
from lake import clock, ledger, query, tables
from lake.query import quote_name, scan_sql

ALERT_RULE = "GR-01"
WATCH_RULE = "GR-02"
SAMPLE_ROWS = 50_000
"""Rows of a table looked at by the content detectors (the first of its checked version)."""
_GROWN = 1.1


@dataclass
class GradeReport:
    """One grading run. examined: subjects looked at; decisions: what was recorded anew; low: columns whose content or
    name suggests more than is declared, without an approved exception."""

    examined: dict[str, int]
    decisions: list[dict[str, Any]] = field(default_factory=list)
    raised: list[str] = field(default_factory=list)
    low: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.low and all(self.examined.get(name) for name in ("fields", "tables", "resources"))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {**asdict(self), "ok": self.ok}


def count(con: duckdb.DuckDBPyConnection, table: str, version: int, who: PersonColumns) -> Facts:
    """Rows, persons, minors and tracked persons in one version of a table, in one pass over its person column."""
    person = quote_name(who.person)
    minor = f"coalesce(bool_or({quote_name(who.minor)}), false)" if who.minor else "false"
    least = int(declarations.threshold("grading.track.rows_per_person"))
    row = con.execute(
        f"SELECT coalesce(sum(n), 0), count(*), count(*) FILTER (WHERE minor), count(*) FILTER (WHERE n >= {least}) FROM "
        f"(SELECT count(*) AS n, {minor} AS minor FROM {scan_sql(table, version)} WHERE {person} IS NOT NULL GROUP BY {person})"
    ).fetchone()
    assert row is not None
    rows, persons, minors, tracked = (int(value) for value in row)
    return Facts(table, version, rows, persons, minors, tracked if who.has_track else 0)


def scan_table(con: duckdb.DuckDBPyConnection, table: str, version: int, known: Iterable[ColumnRow]) -> list[Finding]:
    """What the content detectors find in a sample of a table's free columns (no code lists, tokens or masked texts)."""
    relation = f"(SELECT * FROM {scan_sql(table, version)} LIMIT {SAMPLE_ROWS})"
    described = {row["column"]: row for row in known}
    texts, numbers = [], []
    for name, kind in ((row[0], row[1]) for row in con.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()):
        if name not in described or name.endswith("_token") or described[name]["identifier_kind"]:
            continue
        if kind == "VARCHAR":
            texts.append(name)
        elif kind in ("BIGINT", "DOUBLE", "INTEGER"):
            numbers.append(name)
    return content.scan(con, relation, texts) + content.scan_numbers(con, relation, numbers)


def run(*, scan: bool = False) -> GradeReport:
    """Grade every field, table and resource by what the lake holds now, and record what changed.

    scan: also look at the content of the checked tables (seconds; the nightly run does, the one after each layer run
    does not). Columns graded below what is suggested open the alert GR-01 and make the report not ok; a table with
    persons towards ten million opens GR-02.
    """
    described = columns.describe_all()
    by_table: dict[str, list[ColumnRow]] = {}
    for row in described:
        by_table.setdefault(row["table"], []).append(row)
    before = {(row["scope"], row["subject"]): row for row in ledger.grade_decisions()}
    versions = ledger.checked_versions()
    found: dict[tuple[str, str], list[Finding]] = {}
    levels: dict[str, TableLevel] = {}
    facts: dict[str, Facts] = {}
    con = query.connect()
    try:
        for table, rows in by_table.items():
            version = versions.get(table)
            if version is not None and scan and tables.layer_of(table) == "ods":
                for finding in scan_table(con, table, version, rows):
                    found.setdefault((table, finding.column), []).append(finding)
            who = table_rules.person_columns(rows)
            if who is not None and version is not None:
                facts[table] = count(con, table, version, who)
            levels[table] = table_rules.decide(table, rows, facts.get(table))
    finally:
        con.close()
    suggestions = fields.suggest(described, found)
    report = GradeReport(
        {
            "fields": len(described),
            "tables": len(levels),
            "tables_counted": len(facts),
            "resources": len(contracts.load_all()),
            "persons": max((f.persons for f in facts.values()), default=0),
        }
    )
    wanted = [*_field_rows(described, suggestions), *_table_rows(levels, facts), *_resource_rows(levels, facts)]
    now = clock.utc_now()
    for new in wanted:
        old = before.get((new["scope"], new["subject"]))
        if _same(old, new):
            continue
        report.decisions.append({**new, "previous_level": old["level"] if old else None, "decided_at": now})
        if old and old["level"] < new["level"]:
            report.raised.append(new["subject"])
    ledger.record_grades(report.decisions)
    _judge(report, described, suggestions)
    _watch(levels)
    return report


def _same(old: dict[str, Any] | None, new: dict[str, Any]) -> bool:
    """Whether a decision says nothing new: same level, mark and rules, and no tenth more persons than then."""
    if old is None or any(old[key] != new[key] for key in ("level", "mark", "rules", "author")):
        return False
    return (new["person_count"] or 0) <= _GROWN * (old["person_count"] or 0)


def _row(scope: str, subject: str, level: str, mark: str, rules: str, evidence: str, author: str) -> dict[str, Any]:
    return {
        "scope": scope, "subject": subject, "level": level, "mark": mark, "rules": rules, "evidence": evidence,
        "author": author, "affected_object": None, "degree": None, "person_count": None, "table_version": None,
    }  # fmt: skip


def _field_rows(described: list[ColumnRow], suggestions: list[fields.Suggestion]) -> list[dict[str, Any]]:
    """The declared level of every column, with the rule that explains it and who stands for it."""
    grading = declarations.load()
    by_column: dict[tuple[str, str], list[fields.Suggestion]] = {}
    for suggestion in suggestions:
        by_column.setdefault((suggestion.table, suggestion.column), []).append(suggestion)
    approved = {override.column: override for override in declarations.overrides()}
    rows = []
    for column in described:
        hits = by_column.get((column["table"], column["column"]), [])
        subject = f"{column['table']}.{column['column']}"
        level, mark = column["grade"] or "L4", column["pi_mark"] or "S"
        override = approved.get(subject)
        row = _row("field", subject, level, mark, "declared", "契约或模型声明", "契约与模型声明")
        if hits:
            top = max(hits, key=lambda hit: (hit.level, hit.rule))
            row |= {
                "rules": ",".join(sorted({hit.rule for hit in hits})),
                "evidence": "；".join(hit.evidence for hit in hits),
                "affected_object": top.object,
                "degree": top.degree,
                "author": grading.author,
            }
        if override is not None:
            row |= {"author": override.approver, "evidence": f"{row['evidence']}；例外理由：{override.reason}"}
        rows.append(row)
    return rows


def _table_rows(levels: dict[str, TableLevel], facts: dict[str, Facts]) -> list[dict[str, Any]]:
    author = declarations.load().author
    rows = []
    for table, decided in levels.items():
        evidence = [f"最高列 {decided.base}", *(entry.evidence for entry in (*decided.raises, *decided.warnings))]
        row = _row(
            "table", table, decided.level, decided.mark,
            ",".join(["field.highest", *(entry.rule for entry in decided.raises)]), "；".join(evidence), author,
        )  # fmt: skip
        if table in facts:
            row |= {"person_count": facts[table].persons, "table_version": facts[table].version}
        rows.append(row)
    return rows


def _resource_rows(levels: dict[str, TableLevel], facts: dict[str, Facts]) -> list[dict[str, Any]]:
    """Resource = highest of its tables; for an output, of the columns it hands out and no more."""
    author = declarations.load().author
    rows = []
    for contract in contracts.load_all().values():
        if contract.output is not None:
            mark = max((str(prop.pi_mark) for prop in contract.root.properties), key="NPS".index)
            rows.append(
                _row("resource", contract.id, contract.grade, mark, "field.highest", "输出列的最高级别", author)
            )
            continue
        own = [levels[obj.table] for obj in contract.objects if obj.table in levels]
        level = declarations.highest(*(item.level for item in own))
        mark = max((item.mark for item in own), key="NPS".index)
        raising = sorted({entry.rule for item in own for entry in item.raises})
        row = _row(
            "resource", contract.id, level, mark, ",".join(["table.highest", *raising]),
            "；".join(f"{item.table} {item.level}" for item in own), author,
        )  # fmt: skip
        persons = [facts[obj.table].persons for obj in contract.objects if obj.table in facts]
        row["person_count"] = max(persons, default=None)
        rows.append(row)
    return rows


def _judge(report: GradeReport, described: list[ColumnRow], suggestions: list[fields.Suggestion]) -> None:
    """Columns declared too low, and the watch on many persons, become alerts that close by themselves."""
    low = [item for item in fields.disagreements(described, suggestions, clock.today()) if not item.accepted]
    for item in low:
        suggestion = item.suggestion
        report.low.append(
            {
                "column": f"{suggestion.table}.{suggestion.column}",
                "declared": item.declared_level,
                "suggested": suggestion.level,
                "rule": suggestion.rule,
                "evidence": suggestion.evidence,
            }
        )
    if low:
        ledger.open_alert(
            ALERT_RULE, "catalog", "grading", severity="orange",
            message=f"{len(low)} 列的分级低于规则建议", evidence={"columns": [row["column"] for row in report.low[:20]]},
        )  # fmt: skip
    else:
        ledger.close_alert(ALERT_RULE, "catalog", "grading")


def _watch(levels: dict[str, TableLevel]) -> None:
    """Many persons change no grade yet, but somebody must know before ten million are reached."""
    for table, decided in levels.items():
        if decided.warnings:
            ledger.open_alert(
                WATCH_RULE, "table", table, severity="yellow",
                message="涉及的人数接近一千万，将适用重要数据处理者的义务",
                evidence={entry.rule: entry.evidence for entry in decided.warnings},
            )  # fmt: skip
        else:
            ledger.close_alert(WATCH_RULE, "table", table)
