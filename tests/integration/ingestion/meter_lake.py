"""What tests of the declared meters ask of the lake."""

from __future__ import annotations

import polars as pl

from lake import tables
from quality.reconcile import reconcile

METER, TABLE = "venue.meter", "ods_venue__meter"


def row(meter="M1", day="2026-11-19", **values) -> dict[str, str]:
    return {"meter_id": meter, "read_date": day, **values}


def stored(*columns: str) -> list[tuple]:
    if not tables.exists(TABLE):
        return []
    return pl.scan_delta(tables.path(TABLE)).select(columns).collect().sort(columns).rows()


def books() -> None:
    report = reconcile(METER)
    assert report.ok, report.problems
