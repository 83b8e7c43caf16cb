"""A small lake of the exchange tables, with the columns of the real ADS models, for tests."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from datetime import date, datetime, time

import polars as pl

from lake import ledger, tables
from sharing.exchange.config import DeliverySpec, Provider
from sharing.outputs import Column

REGISTER = "ads_exchange__venue_register"
WATER = "ads_exchange__water_reading"
DAY = date(2026, 11, 19)


def register_frame(units: int = 5) -> pl.DataFrame:
    """Units of a few venues; one address holds a comma, quotes and a line break."""
    n = list(range(1, units + 1))
    return pl.DataFrame(
        {
            "unit_id": [f"V310101-001-U{i:02d}" for i in n],
            "venue_id": ["V310101-001"] * units,
            "venue_name": ["黄浦体育馆（演示）"] * units,
            "district_code": ["310101"] * units,
            "address": ['某路 1 号, "东门"\n二楼' if i == 1 else f"某路 {i} 号" for i in n],
            "area_m2": [100.5 * i for i in n],
            "capacity_count": [20 * i for i in n],
            "is_indoor": [i % 2 == 0 for i in n],
            "depth_min_m": [None if i % 2 else 1.2 for i in n],
            "register_date": [date(2026, 11, 16)] * units,
            "contact_name": ["不应离开"] * units,
        },
        schema_overrides={"capacity_count": pl.Int64, "depth_min_m": pl.Float64},
    )


def water_frame(days: int = 2, first: date = date(2026, 11, 18), per_day: int = 4, stamp: int = 0) -> pl.DataFrame:
    """Readings: ``per_day`` a day from ``first``; ``stamp`` seconds are added to updated_at."""
    rows = [(first + dt.timedelta(days=d), i) for d in range(days) for i in range(per_day)]
    at = [datetime.combine(day, time(1 + i), tzinfo=dt.UTC) for day, i in rows]
    return pl.DataFrame(
        {
            "reading_id": [f"V310101-001-U01:ph:{day:%Y%m%d}{i:02d}" for day, i in rows],
            "pool_id": ["V310101-001-U01"] * len(rows),
            "district_code": ["310101"] * len(rows),
            "item": ["ph"] * len(rows),
            "value": [7.0 + 0.1 * i for _, i in rows],
            "sampled_at": at,
            "updated_at": [value + dt.timedelta(seconds=stamp) for value in at],
            "part_date": [day for day, _ in rows],
        },
        schema_overrides={
            "sampled_at": pl.Datetime("us", "UTC"),
            "updated_at": pl.Datetime("us", "UTC"),
            "part_date": pl.Date,
        },
    )


def put(table: str, frame: pl.DataFrame, *, checked: bool = True) -> int:
    """Commit a table and let its version pass the gate."""
    version = tables.replace_table(table, frame)
    if checked:
        ledger.set_checked_version(table, version, f"test-{version}")
    return version


def _columns(pairs: list[tuple[str, str, bool]]) -> tuple[Column, ...]:
    return tuple(Column(name, f"{name} 中文名", kind, "L1", "N", required=required) for name, kind, required in pairs)


PROVIDER = Provider("11990000000000000D", "上海市体育局", "测试", True)
REGISTER_SPEC = DeliverySpec(
    "venue.register",
    "体育场馆登记",
    "exchange.venue_register",
    "1.0.0",
    REGISTER,
    "F",
    ("unit_id",),
    _columns(
        [
            ("unit_id", "VARCHAR", True),
            ("venue_id", "VARCHAR", True),
            ("venue_name", "VARCHAR", True),
            ("district_code", "VARCHAR", True),
            ("address", "VARCHAR", False),
            ("area_m2", "DOUBLE", False),
            ("capacity_count", "BIGINT", False),
            ("is_indoor", "BOOLEAN", False),
            ("depth_min_m", "DOUBLE", False),
            ("register_date", "DATE", True),
        ]
    ),
    "307310001/0001",
    ("area_m2", "capacity_count"),
    None,
    None,
    "每日",
    time(8),
    1000000,
    PROVIDER,
)
WATER_SPEC = DeliverySpec(
    "supervision.water_reading",
    "泳池水质读数",
    "exchange.water_reading",
    "1.0.0",
    WATER,
    "I",
    ("reading_id",),
    _columns(
        [
            ("reading_id", "VARCHAR", True),
            ("pool_id", "VARCHAR", True),
            ("district_code", "VARCHAR", True),
            ("item", "VARCHAR", True),
            ("value", "DOUBLE", False),
            ("sampled_at", "TIMESTAMPTZ", True),
            ("updated_at", "TIMESTAMPTZ", True),
            ("part_date", "DATE", True),
        ]
    ),
    "307310005/0001",
    ("value",),
    "updated_at",
    "part_date",
    "每日",
    time(8),
    1000000,
    PROVIDER,
)


def with_column(spec: DeliverySpec, column: Column) -> DeliverySpec:
    """The spec with one more column."""
    return replace(spec, columns=(*spec.columns, column))
