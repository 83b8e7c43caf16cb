"""A synthetic lake with every table the sites read, under the real contracts; enough to look at the pages."""

from __future__ import annotations

import datetime as dt
from datetime import date, datetime

import polars as pl

from lake import ledger, properties, tables
from tests.unit.exchange import synthetic as exchange_data
from tests.unit.open_data import synthetic as open_data

DAY = date(2026, 11, 19)
AS_OF = datetime(2026, 11, 20, 4, tzinfo=dt.UTC)


def _put(table: str, rows: list[dict], **types) -> None:
    frame = pl.DataFrame(rows, schema_overrides=types, strict=False)
    ledger.set_checked_version(table, tables.replace_table(table, frame), "test")


def _complete(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Add the contract's columns that the synthetic frame lacks, with plausible values."""
    from catalog.contracts import load_all

    fill = {"VARCHAR": "演示", "DOUBLE": 12.5, "BIGINT": 2, "BOOLEAN": True, "DATE": DAY, "TIMESTAMPTZ": AS_OF}
    contract = next(c for c in load_all().values() if c.output and c.output.table == table)
    missing = [p for p in contract.root.properties if p.name not in frame.columns]
    return frame.with_columns(pl.lit(fill[p.type.upper()]).alias(p.name) for p in missing)


def fill() -> None:
    """Write everything; the business clock is expected at 2026-11-20 12:00 Shanghai."""
    properties.set("is_demo", "true")
    for table, frame in (
        (exchange_data.REGISTER, exchange_data.register_frame(40)),
        (exchange_data.WATER, exchange_data.water_frame(30, date(2026, 10, 21), 12)),
        (open_data.DIRECTORY, open_data.directory_frame()),
        (open_data.VISITS, open_data.visits_frame(60)),
    ):
        ledger.set_checked_version(table, tables.replace_table(table, _complete(table, frame)), "test")
    sports = ["羽毛球", "篮球", "游泳", "健身", "乒乓球", "足球", "网球"]
    _put(
        "ads_cockpit__sport_day",
        [
            {
                "part_date": DAY,
                "district_code": "310101",
                "sport_code": f"s{i}",
                "sport_name": name,
                "visit_count": 900 - 97 * i,
            }
            for i, name in enumerate(sports)
        ],
    )
    _put(
        "ads_cockpit__district_day",
        [{"part_date": DAY, "district_code": "310101", "district_name": "黄浦区", "visit_count": 10}],
    )
    kpis = [
        ("V-06", "入场人次与高峰在场人数", "entries", "入场人次", 18432.0, "人次"),
        ("R-03", "泳池水质合格率", "", "", 97.6, "%"),
        ("V-04", "预订履约率", "", "", 86.4, "%"),
    ]
    _put(
        "ads_cockpit__kpi",
        [
            {
                "kpi_code": c,
                "kpi_name": n,
                "variant_code": v,
                "variant_name": vn,
                "period_type": "day",
                "period_start_date": DAY,
                "district_code": "310000",
                "value": value,
                "unit": unit,
                "as_of_at": AS_OF,
                "coverage_pct": 98.0,
                "quality": "ok",
                "quality_note": "",
            }
            for c, n, v, vn, value, unit in kpis
        ],
        as_of_at=pl.Datetime("us", "UTC"),
    )
    _put(
        "ads_cockpit__official_figure",
        [
            {
                "indicator_code": "department_events",
                "indicator_name": "体育部门主办的赛事活动场次",
                "figure_year": 2023,
                "value": 18754.0,
                "unit": "场次",
                "document": "上海市全民健身发展公告",
                "method_note": "体育部门牵头，不含市场主体自办",
                "provenance": "V2",
                "kpi_code": "E-01",
                "variant_code": "department",
                "list_date": DAY,
            }
        ],
    )
    _put(
        "ads_cockpit__headline",
        [
            {
                "district_code": "310000",
                "position": 1,
                "kind": "昨日概况",
                "sentence": "2026-11-19 全市到访 21,043 人次，闸机入场 18,432 人次，泳池水质合格率 97.6%。",
            },
            {
                "district_code": "310000",
                "position": 2,
                "kind": "最大变化",
                "sentence": "青浦区昨日到访 812 人次，比上周同日的 604 人次增加 34.4%，为各区变化最大。",
            },
            {
                "district_code": "310000",
                "position": 3,
                "kind": "需要关注",
                "sentence": "浦东新区某泳池：余氯 0.18 mg/L，责任单位浦东新区体育局，请于 2026-11-20 14:00 前处置。",
            },
        ],
    )
    names = {
        "venue.register": "体育场馆登记",
        "venue.booking": "场地预订",
        "venue.entry": "闸机通行",
        "event.filing": "赛事填报",
        "training.activity": "训练活动文件",
        "fitness.checkin": "一码健身扫码",
        "supervision.water_reading": "泳池水质读数",
    }
    states = ["fresh", "fresh", "fresh", "late", "fresh", "failed", "fresh"]
    _put(
        "ads_cockpit__freshness",
        [
            {
                "resource": r,
                "title": t,
                "update_cycle": "daily",
                "state": s,
                "reason": None
                if s == "fresh"
                else "数据源接口无法访问（TIYU-ING-0120）"
                if s == "failed"
                else "应于 11-20 10:00 前更新",
                "latest_data_date": DAY,
                "last_success_at": AS_OF,
                "received_count": 100_000 * (i + 1) + 37,
                "accepted_count": 100_000 * (i + 1),
                "quarantined_count": 25,
                "duplicate_count": 12,
            }
            for i, ((r, t), s) in enumerate(zip(names.items(), states, strict=True))
        ],
        last_success_at=pl.Datetime("us", "UTC"),
    )
    _put(
        "ads_supervision__alert",
        [
            {
                "alert_id": "a1",
                "rule_code": "AL-03",
                "severity": "red",
                "subject_name": "浦东演示游泳馆 1 号池",
                "district_code": "310115",
                "district_name": "浦东新区",
                "observed_text": "游离余氯 0.18 mg/L",
                "threshold_text": "应在 0.3 至 1.0 mg/L 之间",
                "basis_text": "GB 37488-2019",
                "is_law": True,
                "opened_at": AS_OF,
                "owner_name": "浦东新区体育局",
                "deadline_at": AS_OF + dt.timedelta(hours=2),
                "status": "open",
            }
        ],
        opened_at=pl.Datetime("us", "UTC"),
        deadline_at=pl.Datetime("us", "UTC"),
    )
