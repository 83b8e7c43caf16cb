"""A small lake of checked source tables, written through the lake's own functions, in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from lake import ledger, tables

SHANGHAI = ZoneInfo("Asia/Shanghai")
FIRST, TODAY = date(2026, 11, 1), date(2026, 11, 20)
VENUES = ("V310101-001", "V310104-001", "V310104-002")


def at(day: date, hour: int, minute: int = 0, second: int = 0) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, second, tzinfo=SHANGHAI).astimezone(UTC)


class SmallLake:
    """Appends rows to ODS tables as an ingest would: schema of the contract, one batch a call, checked at once."""

    def __init__(self) -> None:
        from catalog import contracts, schemas

        self.schemas = {
            obj.table: schemas.ods_schema(obj) for c in contracts.load_all("source").values() for obj in c.objects
        }
        self.batches = 0

    def append(self, table: str, rows: list[dict[str, Any]], *, check: bool = True) -> int:
        self.batches += 1
        schema = self.schemas[table]
        technical = {
            "_batch_id": f"b{self.batches}",
            "_source_object": "o",
            "_ingested_at": datetime(2026, 11, 20, tzinfo=UTC),
        }
        full = [{**dict.fromkeys(schema.names), **technical, "_record_no": n, **row} for n, row in enumerate(rows)]
        version = tables.append(table, pa.Table.from_pylist(full, schema=schema), batch_id=f"b{self.batches}")
        if check:
            ledger.set_checked_version(table, version, "test")
        return version

    def register(self) -> None:
        rows = []
        for n, venue in enumerate(VENUES):
            for unit in (1, 2):
                rows.append(
                    {
                        "register_date": FIRST, "part_date": FIRST, "venue_id": venue, "venue_name": f"馆{n}", "venue_type": "gymnasium",
                        "district_code": venue[1:7], "unit_id": f"{venue}-U{unit:02d}", "unit_name": f"单元{unit}",
                        "unit_type": "pool" if unit == 1 else "court", "sport_code": "swimming" if unit == 1 else "tennis",
                        "area_m2": 100.0 * unit, "capacity_count": 10 + n, "is_public": True, "is_indoor": True,
                        "is_location_consistent": True, "lng": 121.4, "lat": 31.2, "crs": "CGCS2000",
                    }
                )  # fmt: skip
        self.append("ods_venue__register", rows)


@pytest.fixture(scope="session")
def compiled_models(tmp_path_factory):
    """Compiled SQL of every model, once: it does not depend on what a lake holds."""
    from modeling import run

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIYU_HOME", str(tmp_path_factory.mktemp("compile")))
        patch.setenv("TIYU_TODAY", TODAY.isoformat())
        return run.compiled()


@pytest.fixture
def small_lake(tmp_path, monkeypatch) -> Iterator[SmallLake]:
    for key in ("LAKE_ROOT", "TIYU_LEDGER_URL"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("TIYU_HOME", str(tmp_path / "var"))
    monkeypatch.setenv("TIYU_TODAY", TODAY.isoformat())
    monkeypatch.setenv("TIYU_AS_OF", "2026-11-20T12:00+08:00")
    (tmp_path / "var").mkdir()
    from catalog import publish

    publish.publish_reference()
    lake = SmallLake()
    lake.register()
    return lake


def days(count: int = 20) -> list[date]:
    return [FIRST + timedelta(days=n) for n in range(count)]
