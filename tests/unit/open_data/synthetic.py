"""Synthetic open tables with the columns of the real ADS models, and dataset settings for them."""

from __future__ import annotations

import datetime as dt
from datetime import date

import polars as pl

from lake import ledger, tables
from sharing.open_data.config import DatasetSpec, Licence, raw_config
from sharing.outputs import Column

DIRECTORY = "ads_open__venue_directory"
VISITS = "ads_open__daily_visit"
DISTRICTS = {
    "310101": "黄浦区",
    "310104": "徐汇区",
    "310105": "长宁区",
    "310106": "静安区",
    "310107": "普陀区",
    "310109": "虹口区",
    "310110": "杨浦区",
    "310112": "闵行区",
    "310113": "宝山区",
    "310114": "嘉定区",
    "310115": "浦东新区",
    "310116": "金山区",
    "310117": "松江区",
    "310118": "青浦区",
    "310120": "奉贤区",
    "310151": "崇明区",
}


def directory_frame(venues: int = 60) -> pl.DataFrame:
    """Venues spread over the districts, coordinates in several systems."""
    codes = list(DISTRICTS)
    n = range(venues)
    at = [codes[(i * i + i) % 16] for i in n]
    return pl.DataFrame(
        {
            "venue_id": [f"V{code}-{i:03d}" for i, code in zip(n, at, strict=True)],
            "venue_name": [f"{DISTRICTS[code]}市民球馆{i}号" for i, code in zip(n, at, strict=True)],
            "venue_type": ["comprehensive" if i % 3 else "pool" for i in n],
            "venue_type_name": ["综合体育馆" if i % 3 else "游泳馆" for i in n],
            "district_code": at,
            "district_name": [DISTRICTS[code] for code in at],
            "street_name": [f"演示{i % 7}街道" for i in n],
            "address": [f"演示路 {100 + i} 号" for i in n],
            "lng": [121.3 + i % 10 * 0.03 for i in n],
            "lat": [31.1 + i % 8 * 0.03 for i in n],
            "crs": ["CGCS2000" if i % 5 else "GCJ-02" for i in n],
            "is_public": [i % 4 != 0 for i in n],
            "open_time": ["08:00"] * venues,
            "close_time": ["21:30"] * venues,
            "unit_count": [3 + i % 9 for i in n],
            "contact_name": ["不应离开"] * venues,
        },
        schema_overrides={"unit_count": pl.Int64},
    ).sort("venue_id")


def visits_frame(days: int = 30, last: date = date(2026, 11, 19), k: int = 20) -> pl.DataFrame:
    """Visits of every district and day, the small ones suppressed."""
    start = last - dt.timedelta(days=days - 1)
    rows = []
    for d in range(days):
        day = start + dt.timedelta(days=d)
        for i, (code, name) in enumerate(DISTRICTS.items()):
            people = (i * 37 + d * 13 + (40 if day.weekday() >= 5 else 0)) % 190 + 5
            hidden = people < k
            rows.append((day, code, name, None if hidden else people * 2, None if hidden else people, hidden))
    return pl.DataFrame(
        rows,
        orient="row",
        schema={
            "part_date": pl.Date,
            "district_code": pl.String,
            "district_name": pl.String,
            "visit_count": pl.Int64,
            "person_count": pl.Int64,
            "is_suppressed": pl.Boolean,
        },
    )


def put(table: str, frame: pl.DataFrame) -> int:
    """Commit a table and let its version pass the gate."""
    version = tables.replace_table(table, frame)
    ledger.set_checked_version(table, version, f"test-{version}")
    return version


def _columns(pairs: list[tuple[str, str, str, str | None]]) -> tuple[Column, ...]:
    return tuple(
        Column(name, title, kind, "L1", "N", unit=unit, required=kind != "BIGINT") for name, title, kind, unit in pairs
    )


def specs() -> list[DatasetSpec]:
    """Dataset settings as the loader gives them, with synthetic contracts."""
    config = raw_config()
    licence = Licence(config["licence"]["id"], config["licence"]["title"], config["licence"]["text"], False)

    def spec(table, title, description, key, columns, k, count, grain):
        options = config["datasets"][table]
        return DatasetSpec(
            options["name"],
            title,
            description,
            "以现场公告为准",
            f"open.{options['name']}",
            "1.0.0",
            table,
            key,
            columns,
            k,
            count,
            licence,
            "无条件开放",
            None,
            "每日",
            "《上海市数据条例》第四十一条",
            ("体育", "上海"),
            "文化体育",
            grain,
            options.get("geo"),
            options["chart"],
            config["preview_rows"],
            config["publisher"],
            config["canonical"],
        )

    directory = _columns(
        [
            ("venue_id", "场馆编码", "VARCHAR", None),
            ("venue_name", "场馆名称", "VARCHAR", None),
            ("venue_type", "场馆类型", "VARCHAR", None),
            ("venue_type_name", "场馆类型名称", "VARCHAR", None),
            ("district_code", "行政区划代码", "VARCHAR", None),
            ("district_name", "行政区", "VARCHAR", None),
            ("street_name", "街镇", "VARCHAR", None),
            ("address", "地址", "VARCHAR", None),
            ("lng", "经度", "DOUBLE", "deg"),
            ("lat", "纬度", "DOUBLE", "deg"),
            ("crs", "坐标系", "VARCHAR", None),
            ("is_public", "是否公共场馆", "BOOLEAN", None),
            ("open_time", "开放时间", "VARCHAR", None),
            ("close_time", "关闭时间", "VARCHAR", None),
            ("unit_count", "场地单元数", "BIGINT", "count"),
        ]
    )
    visits = _columns(
        [
            ("part_date", "日期", "DATE", None),
            ("district_code", "行政区划代码", "VARCHAR", None),
            ("district_name", "行政区", "VARCHAR", None),
            ("visit_count", "到访人次", "BIGINT", "visit"),
            ("is_suppressed", "是否抑制", "BOOLEAN", None),
        ]
    )
    return [
        spec(
            DIRECTORY,
            "公共体育场馆名录",
            "全市公共体育场馆的名称、地址、开放时间与坐标。",
            ("venue_id",),
            directory,
            None,
            None,
            "一个场馆",
        ),
        spec(
            VISITS,
            "体育场馆每日到访人次（分区）",
            "各区体育场馆每日到访人次，人数不足的单元格已抑制。",
            ("part_date", "district_code"),
            visits,
            20,
            "person_count",
            "一个区的一天",
        ),
    ]
