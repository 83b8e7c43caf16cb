"""What a city sent, read back from its files by means that the generator does not use."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow.parquet as pq


def venues(out: Path) -> dict[str, dict[str, str]]:
    """Latest register row by unit, of the rows that satisfy the register's rules."""
    units: dict[str, dict[str, str]] = {}
    for path in sorted((out / "drops/venue/register").glob("*.csv")):
        for row in csv.DictReader(io.StringIO(path.read_bytes().decode("gb18030", errors="replace"))):
            if int(row["单元编码"][-2:]) < 90:
                units[row["单元编码"]] = row
    return units


def entries(out: Path) -> list[list[str]]:
    """Lines of the entry files, one list a file."""
    return [p.read_text("utf-8").splitlines() for p in sorted((out / "drops/venue/entry").rglob("*.ndjson"))]


def api(out: Path, name: str) -> list[str]:
    return [
        body for p in sorted((out / "api").glob(f"{name}-*.parquet")) for body in pq.read_table(p)["body"].to_pylist()
    ]


def water(out: Path) -> list[list[dict[str, str]]]:
    files = sorted((out / "drops/supervision/water_reading").rglob("*.csv"))
    return [list(csv.DictReader(io.StringIO(p.read_text("utf-8")))) for p in files]


def filings(out: Path) -> list[dict[str, Any]]:
    rows = []
    for path in sorted((out / "drops/event/filing").glob("*.xlsx")):
        sheet = openpyxl.load_workbook(path)["赛事填报"]
        header = [c.value for c in sheet[2]]
        rows += [dict(zip(header, r, strict=True)) for r in sheet.iter_rows(min_row=3, values_only=True)]
    return rows


def good_entries(out: Path) -> list[dict[str, Any]]:
    """Distinct passages that satisfy the rules."""
    known = {u["场馆编码"] for u in venues(out).values()}
    as_of = json.loads((out / "world.json").read_text("utf-8"))["as_of"]
    rows = {line: json.loads(line) for file in entries(out) for line in file}.values()
    return [
        r
        for r in rows
        if r["venue_id"] in known and r["direction"] in ("in", "out") and isinstance(r["seq_no"], int)
        and not r["passed_at"].startswith("2026-02-30") and r["passed_at"] < as_of
    ]  # fmt: skip


def truth(out: Path, kpi: str, variant: str = "", file: str = "kpi") -> dict[tuple[str, str], tuple[int, int | None]]:
    """(period start, district) to (numerator, denominator)."""
    with (out / f"truth/{file}.csv").open(encoding="utf-8") as f:
        return {
            (r["period_start_date"], r["district_code"]): (int(r["numerator"]), int(r["denominator"]) if r["denominator"] else None)
            for r in csv.DictReader(f)
            if r["kpi_code"] == kpi and r["variant_code"] == variant
        }  # fmt: skip


def repeated(rows: list[Any]) -> int:
    """How many rows are copies of an earlier one."""
    return sum(n - 1 for n in Counter(rows).values())


def rows_of_day(out: Path, name: str, day: str) -> list[dict[str, Any]]:
    """What one file of an interface's store holds."""
    return [json.loads(body) for body in pq.read_table(out / f"api/{name}-{day}.parquet")["body"].to_pylist()]
