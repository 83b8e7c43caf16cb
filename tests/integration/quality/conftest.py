"""A small lake filled the way ingestion fills it: rows in ODS tables, batch and objects in the ledger, objects archived."""

from __future__ import annotations

import hashlib
import shutil
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import polars as pl
import pytest

from catalog import contracts, schemas
from lake import clock, ledger, tables
from lake.settings import settings

DAY = date(2026, 11, 18)


def _table(table: str, rows: list[dict], batch_id: str, sha256: str, days: list[date]):
    obj = next(o for c in contracts.load_all("source").values() for o in c.objects if o.table == table)
    schema = schemas.ods_schema(obj)
    full = [
        {
            **row,
            "_batch_id": batch_id,
            "_record_no": number,
            "_source_object": sha256,
            "_ingested_at": clock.utc_now(),
            "part_date": day,
        }
        for number, (row, day) in enumerate(zip(rows, days, strict=True), 1)
    ]
    arrays = {field.name: [row.get(field.name) for row in full] for field in schema}
    import pyarrow as pa

    return pa.table({field.name: pa.array(arrays[field.name], field.type) for field in schema}, schema=schema)


class Lake:
    """Writes batches; `day` rows of the register and of water readings."""

    POOL = "V310101-001-U01"

    def batch(self, resource: str, batch_id: str, content: dict[str, tuple[list[dict], list[date]]]) -> None:
        """Append one batch (table → rows, part dates) and record it as ingestion does."""
        contract = contracts.load(resource)
        sha256 = hashlib.sha256(batch_id.encode()).hexdigest()
        ledger.engine()  # a run is entered before its first object is stored
        path = settings().archive_root / resource / sha256[:2] / f"{sha256}.tiyu"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"sealed")
        rows, days = content[contract.root.table]
        counts = {"decoded_count": len(rows), "accepted_count": len(rows), "quarantined_count": 0, "duplicate_count": 0}
        now = clock.utc_now()
        ledger.open_batch(
            {
                "batch_id": batch_id,
                "resource": resource,
                "contract_version": contract.version,
                "run_id": f"run-{batch_id}",
                "status": "archived",
                "object_count": 1,
                "as_of_at": clock.as_of(),
                "started_at": now,
            },
            [
                {
                    "batch_id": batch_id,
                    "seq": 0,
                    "sha256": sha256,
                    "resource": resource,
                    "name": f"{batch_id}.csv",
                    "media_type": "text/csv",
                    "size": 6,
                    "status": "archived",
                }
            ],
            {},
        )
        for table, (table_rows, table_days) in content.items():
            tables.append(table, _table(table, table_rows, batch_id, sha256, table_days), batch_id=batch_id)
        ledger.finish_batch(
            batch_id,
            {"status": "accepted", "first_part_date": min(days), "last_part_date": max(days), **counts},
            [
                {
                    "seq": 0,
                    "status": "accepted",
                    "reason": None,
                    "decoded": len(rows),
                    "accepted": len(rows),
                    "quarantined": 0,
                    "duplicate": 0,
                }
            ],
        )

    def register(self) -> None:
        """One venue with one pool, so that readings have something to refer to."""
        row = {
            "register_date": DAY,
            "venue_id": "V310101-001",
            "unit_id": self.POOL,
            "venue_name": "演示游泳馆",
            "venue_type": "swimming_pool",
            "ownership_type": "public",
            "district_code": "310101",
            "address": "演示路 1 号",
            "unit_name": "一号池",
            "unit_type": "pool",
            "sport_code": "swimming",
            "is_public": True,
            "capacity_count": 100,
            "area_m2": 400.0,
        }
        self.batch("venue.register", "register", {"ods_venue__register": ([row], [DAY])})

    def readings(self, batch_id: str, day: date = DAY, *, values: list[float] | None = None, hour: int = 1) -> None:
        """A batch of pH readings of the pool, one a minute."""
        values = [7.2, 7.3, 7.4] if values is None else values
        start = datetime(day.year, day.month, day.day, hour, tzinfo=UTC)
        rows = [
            {
                "pool_id": self.POOL,
                "device_id": "D1",
                "sampled_at": start + timedelta(minutes=number),
                "item": "ph",
                "value": value,
                "unit": "pH",
                "method": "online",
            }
            for number, value in enumerate(values)
        ]
        self.batch("supervision.water_reading", batch_id, {"ods_supervision__water_reading": (rows, [day] * len(rows))})

    def activity(self, batch_id: str, *, declared_laps: int = 1, lap_activity: str = "a1") -> None:
        """One activity with one session, lap and sample; the lap may be made to belong to another activity."""
        at = datetime(2026, 11, 18, 1, tzinfo=UTC)
        activity = f"{batch_id}-a1"
        root = {
            "activity_id": activity,
            "file_format": "fit",
            "started_at": at,
            "sport_code": "running",
            "session_count": 1,
            "lap_count": declared_laps,
            "sample_count": 1,
            "has_position": False,
            "is_partial": False,
            "local_date": DAY,
            "decoder": "test",
        }
        lap = f"{batch_id}-{lap_activity}"
        self.batch(
            "training.activity",
            batch_id,
            {
                "ods_training__activity": ([root], [DAY]),
                "ods_training__activity_session": (
                    [
                        {
                            "activity_id": activity,
                            "session_no": 1,
                            "started_at": at,
                            "sport_code": "running",
                            "is_training": True,
                        }
                    ],
                    [DAY],
                ),
                "ods_training__activity_lap": ([{"activity_id": lap, "lap_no": 1, "started_at": at}], [DAY]),
                "ods_training__activity_sample": ([{"activity_id": activity, "sample_no": 1, "sampled_at": at}], [DAY]),
            },
        )

    def visible(self, table: str) -> pl.DataFrame | None:
        """What a reader sees: the checked version, or None."""
        version = ledger.checked_version(table)
        return None if version is None else pl.scan_delta(tables.path(table), version=version).collect()

    def head(self, table: str) -> pl.DataFrame:
        return pl.scan_delta(tables.path(table)).collect()


@pytest.fixture(scope="session")
def checked_home(tmp_path_factory):
    """A home with a register and a first good batch of readings, gated once for the whole session."""
    root = tmp_path_factory.mktemp("checked") / "home"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LAKE_ROOT", "TIYU_LEDGER_URL"):
            patch.delenv(name, raising=False)
        patch.setenv("TIYU_HOME", str(root))
        patch.setenv("TIYU_TODAY", "2026-11-20")
        patch.setenv("TIYU_AS_OF", "2026-11-20T12:00:00+08:00")
        from protection import keys
        from quality import gate

        keys.ensure()
        lake = Lake()
        lake.register()
        lake.readings("good-1")
        report = gate.run_gate(["ods_supervision__water_reading", "ods_venue__register"])
        assert report.ok
        assert report.examined == 4
        ledger.engine().dispose()
    return root


@pytest.fixture
def checked_lake(home, checked_home) -> Lake:
    """A private copy of the checked home."""
    shutil.copytree(checked_home, home, dirs_exist_ok=True)
    return Lake()


@pytest.fixture
def lake(home) -> Lake:
    """An empty lake with helpers."""
    return Lake()


@pytest.fixture
def names() -> SimpleNamespace:
    return SimpleNamespace(
        water="ods_supervision__water_reading",
        register="ods_venue__register",
        training=[
            "ods_training__activity",
            "ods_training__activity_session",
            "ods_training__activity_lap",
            "ods_training__activity_sample",
        ],
    )
