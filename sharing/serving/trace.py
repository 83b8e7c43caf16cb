"""From a number on a screen back to the bytes it came from: KPI → models → ODS tables → batches → source objects.

A KPI row carries `input_versions`, every table behind it with the version read; the ODS tables among them are read at
exactly those versions, and their `_batch_id` and `_source_object` lead to the ledger and the archive.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from catalog import policy
from lake import clock, ledger, query, tables
from lake.errors import EXIT_UNAVAILABLE, EXIT_USAGE, TiyuError
from lake.query import scan_sql
from lake.settings import settings
from protection import redaction
from sharing.serving import describe

KPI_TABLE = "ads_cockpit__kpi"
CITY = "310000"
_REF = re.compile(r"""(?:ref\(\s*['"](\w+)['"]|source\(\s*['"]\w+['"]\s*,\s*['"](\w+)['"])\s*\)""")
AUDIENCE, SURFACE = "analyst", "cli_trace"


@dataclass
class SourceObject:
    """A received object that brought rows for the number. `name` has tokens blanked out."""

    sha256: str
    name: str
    rows: int
    size: int | None
    status: str | None


@dataclass
class SourceBatch:
    """A batch that brought rows for the number."""

    batch_id: str
    rows: int
    status: str | None
    received_at: str | None
    objects: list[SourceObject] = field(default_factory=list)


@dataclass
class SourceTable:
    """An ODS table behind the number, at the version that was read."""

    table: str
    resource: str
    version: int
    rows: int
    batches: list[SourceBatch]
    note: str = ""


@dataclass
class Trace:
    """One KPI row and everything behind it."""

    kpi: dict[str, Any]
    definition: str
    chain: list[dict[str, Any]]  # table, version, layer, reads (the tables behind it)
    sources: list[SourceTable]
    other_inputs: list[str]
    places: dict[str, str]  # what an engineer opens next, by its Chinese name: files of the checkout, the archive

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


def protected(name: str) -> str:
    """An object's name as the policy shows it in a trace: without the token a person's identifier was replaced by."""
    return redaction.redact(name, SURFACE)


def _row(
    con: duckdb.DuckDBPyConnection, kpi: str, variant: str | None, district: str, day: date | None
) -> dict[str, Any]:
    version = query.register(con, KPI_TABLE, "checked", view="kpi")
    if version is None:
        raise TiyuError(
            "TIYU-TRC-0001",
            "还没有可追溯的指标数据",
            "先完成一次构建并通过质量闸门（tiyu build --layer ads）",
            EXIT_UNAVAILABLE,
        )
    codes = [row[0] for row in con.execute("SELECT DISTINCT kpi_code FROM kpi ORDER BY 1").fetchall()]
    if kpi not in codes:
        raise TiyuError("TIYU-TRC-0002", "没有这个指标", f"可用指标：{'、'.join(codes)}", EXIT_USAGE, kpi=kpi)
    found = con.execute(
        "SELECT * FROM kpi WHERE kpi_code = ? AND district_code = ? AND (? IS NULL OR variant_code = ?)"
        " AND (? IS NULL OR ? BETWEEN period_start_date AND period_end_date)"
        " ORDER BY value IS NULL, period_start_date DESC, variant_code NULLS FIRST LIMIT 1",
        [kpi, district, variant, variant, day, day],
    )
    names = [item[0] for item in found.description]
    rows = found.fetchall()
    if not rows:
        raise TiyuError(
            "TIYU-TRC-0003", "该指标在这个区、这一天没有数据", "换一个日期或区划代码，或去掉 --date 取最近一期", EXIT_USAGE,
            kpi=kpi, district=district, date=day,
        )  # fmt: skip
    return _shown(dict(zip(names, rows[0], strict=True)))


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """What the policy lets a trace show of the KPI row; the rest is empty."""
    known = describe.columns().get(KPI_TABLE, {})
    person_level = policy.is_person_level(known.values())
    return {
        name: value
        if name in known
        and policy.decide_column(AUDIENCE, SURFACE, known[name], person_level=person_level).treatment == "plain"
        else None
        for name, value in row.items()
    }


def dependencies() -> dict[str, list[str]]:
    """Table → tables it reads: from dbt's manifest when there is one, else from `ref` and `source` in the model files."""
    manifest = settings().home / "dbt" / "target" / "manifest.json"
    if manifest.is_file():
        nodes = json.loads(manifest.read_text("utf-8"))["nodes"]
        return {
            node["name"]: sorted({unique.split(".")[-1] for unique in node["depends_on"]["nodes"]})
            for node in nodes.values()
            if node["resource_type"] == "model"
        }
    models: list[Path] = sorted((settings().repo_root / "dbt_project" / "models").rglob("*.sql"))
    return {
        file.stem: sorted({ref or source for ref, source in _REF.findall(file.read_text("utf-8"))}) for file in models
    }


def _scope(con: duckdb.DuckDBPyConnection, table: str, version: int, district: str, versions: dict[str, Any]) -> str:
    """SQL condition that keeps the rows of one district (TRUE for the city or when a table knows no place)."""
    if district == CITY:
        return "TRUE"
    columns = {row[0] for row in con.execute(f"DESCRIBE SELECT * FROM {scan_sql(table, version)}").fetchall()}
    literal = query.quote_literal(district)
    if "district_code" in columns:
        return f"district_code = {literal}"
    for column, dimension, key in (("venue_id", "dim_venue", "venue_id"), ("pool_id", "dim_venue_unit", "unit_id")):
        at = versions.get(dimension) or ledger.checked_version(dimension)
        if column in columns and at is not None:
            if dimension == "dim_venue":
                return f"{column} IN (SELECT {key} FROM {scan_sql(dimension, at)} WHERE district_code = {literal})"
            venue_at = versions.get("dim_venue") or ledger.checked_version("dim_venue")
            if venue_at is not None:
                venues = f"SELECT venue_id FROM {scan_sql('dim_venue', venue_at)} WHERE district_code = {literal}"
                return f"{column} IN (SELECT {key} FROM {scan_sql(dimension, at)} WHERE venue_id IN ({venues}))"
    return "TRUE"


def _source(
    con: duckdb.DuckDBPyConnection,
    table: str,
    resource: str,
    version: int,
    row: dict[str, Any],
    versions: dict[str, Any],
) -> SourceTable:
    scope = _scope(con, table, version, row["district_code"], versions)
    start, end = row["period_start_date"], row["period_end_date"]
    grouped = f"SELECT _batch_id, _source_object, count(*) FROM {scan_sql(table, version)} WHERE {{}} AND {scope} GROUP BY ALL ORDER BY ALL"
    found = con.execute(grouped.format(f"part_date BETWEEN DATE '{start}' AND DATE '{end}'")).fetchall()
    note = ""
    if not found:  # a periodic snapshot (the venue register): the last one before the period was in force
        latest = con.execute(
            f"SELECT max(part_date) FROM {scan_sql(table, version)} WHERE part_date <= DATE '{end}' AND {scope}"
        ).fetchall()[0][0]
        if latest is not None:
            found = con.execute(grouped.format(f"part_date = DATE '{latest}'")).fetchall()
            note = f"周期内没有新数据，沿用 {latest} 的一期"
    known = {batch["batch_id"]: batch for batch in ledger.batches(resource)}
    batches: dict[str, SourceBatch] = {}
    names: dict[str, dict[str, Any]] = {}
    for batch_id, sha256, count in found:
        if batch_id not in batches:
            record = known.get(batch_id)
            received = record["started_at"].astimezone(clock.SHANGHAI) if record else None
            batches[batch_id] = SourceBatch(
                batch_id, 0, record["status"] if record else None, f"{received:%Y-%m-%d %H:%M:%S}" if received else None
            )
            names |= {entry["sha256"]: entry for entry in ledger.objects(batch_id)}
        entry = names.get(sha256)
        batches[batch_id].rows += count
        batches[batch_id].objects.append(
            SourceObject(
                sha256,
                protected(entry["name"]) if entry else "（台账中没有该对象）",
                count,
                entry["size"] if entry else None,
                entry["status"] if entry else None,
            )
        )
    for batch in batches.values():
        batch.objects.sort(
            key=lambda entry: (entry.name, entry.sha256)
        )  # by name: of dated files, in the order of time
    return SourceTable(
        table, resource, version, sum(batch.rows for batch in batches.values()), list(batches.values()), note
    )


def trace(kpi: str, *, district: str = CITY, day: date | None = None, variant: str | None = None) -> Trace:
    """Trace a KPI value of a district (default: whole city) on a day (default: the latest period with a value).

    Batches and objects are listed for the resources the KPI rests on (its declared `sources`); other tables behind
    it appear in the chain. Raises TIYU-TRC-0001 nothing built yet, 0002 unknown KPI, 0003 no value there.
    """
    from catalog import contracts, kpis

    con = query.connect()
    try:
        row = _row(con, kpi, variant, district, day)
        versions: dict[str, Any] = json.loads(row.get("input_versions") or "{}")
        declared = kpis.load_all().get(kpi)
        reads = dependencies()
        order = {layer: position for position, layer in enumerate(reversed(tables.LAYERS))}
        chain = [
            {
                "table": table,
                "layer": tables.layer_of(table),
                "version": versions[table],
                "reads": [name for name in reads.get(table, []) if name in versions],
            }
            for table in sorted(versions, key=lambda name: (order[tables.layer_of(name)], name))
        ]
        chain.insert(
            0,
            {
                "table": KPI_TABLE,
                "layer": "ads",
                "version": ledger.checked_version(KPI_TABLE),
                "reads": _direct(reads, versions),
            },
        )
        by_table = {obj.table: c.id for c in contracts.load_all("source").values() for obj in c.objects}
        wanted = set(declared.sources) if declared else set()
        behind = {name: by_table[name] for name in versions if name in by_table and versions[name] is not None}
        chosen = {name: resource for name, resource in behind.items() if resource in wanted} or behind
        sources = [_source(con, name, chosen[name], int(versions[name]), row, versions) for name in sorted(chosen)]
        others = sorted(name for name in versions if tables.layer_of(name) in ("ods", "ops") and name not in chosen)
        return Trace(row, declared.definition if declared else "", chain, sources, others, _places(kpi, chain, sources))
    finally:
        con.close()


def _places(kpi: str, chain: list[dict[str, Any]], sources: list[SourceTable]) -> dict[str, str]:
    """The files behind a trace: definition, SQL of every table on the way, contracts; and where the archive keeps the objects."""
    from catalog import contracts, kpis

    root = settings().repo_root
    files = {file.stem: file.relative_to(root) for file in sorted((root / "dbt_project" / "models").rglob("*.sql"))}
    found = {"指标定义": str((kpis.FOLDER / f"{kpi}.yaml").relative_to(root))}
    found |= {f"{step['table']} 的 SQL": str(files[step["table"]]) for step in chain if step["table"] in files}
    for source in sources:
        found[f"{source.resource} 的契约"] = str(contracts.load_all("source")[source.resource].path.relative_to(root))
        found[f"{source.resource} 的归档（密封）"] = str(
            settings().archive_root / source.resource / "<sha256 前两位>" / "<sha256>.tiyu"
        )
    return found


def _direct(reads: dict[str, list[str]], versions: dict[str, Any]) -> list[str]:
    """The inputs of the KPI table that this row really used: those no other table of the row reads."""
    below = {name for table in versions for name in reads.get(table, [])}
    direct = [name for name in reads.get(KPI_TABLE, []) if name in versions and name not in below]
    return direct or sorted(set(versions) - below)


__all__ = ["SourceBatch", "SourceObject", "SourceTable", "Trace", "dependencies", "protected", "trace"]
