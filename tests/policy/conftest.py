"""A small lake with canaries: invented persons who went through tokenisation, and their raw details."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import polars as pl
import pyarrow as pa
import pytest

from catalog import contracts, publish, schemas
from lake import clock, ledger, properties, tables

CANARIES = SimpleNamespace(
    id_no="990199199001014578", phone="19912345678", name="金丝雀甲", athlete="SHA900900", track=121.4737
)
DAYS = [date(2026, 11, 17), date(2026, 11, 18)]


def _ods(table: str, rows: list[dict]) -> pa.Table:
    obj = next(o for c in contracts.load_all("source").values() for o in c.objects if o.table == table)
    schema = schemas.ods_schema(obj)
    technical = {"_batch_id": "b1", "_source_object": "0" * 64, "_ingested_at": clock.utc_now()}
    full = [{**technical, "_record_no": n, **row} for n, row in enumerate(rows, 1)]
    return pa.table({f.name: pa.array([row.get(f.name) for row in full], f.type) for f in schema}, schema=schema)


def append(table: str, rows: list[dict], batch_id: str = "b1") -> None:
    """Append ODS rows and let readers see them."""
    tables.append(table, _ods(table, rows), batch_id=batch_id)
    ledger.set_checked_version(table, tables.version(table), "test")


def fill() -> None:
    """Check-ins, bookings, the register with a contact, a heart-rate track, and one KPI table."""
    from protection import masking, tokens

    def token(kind, value):
        return tokens.token(kind, value)

    masked = pl.DataFrame({"n": [CANARIES.name]}).select(masking.masked("name", pl.col("n")))["n"][0]
    at = datetime(2026, 11, 17, 1, 23, 45, tzinfo=UTC)
    properties.set("is_demo", "true")
    publish.publish_reference()
    append(
        "ods_fitness__checkin",
        [
            {
                "checkin_id": f"c{n}",
                "venue_id": "V310101-001",
                "scanned_at": at + timedelta(days=n),
                "purpose": "entry",
                "id_type": "resident_id",
                "person_token": token("id_no", CANARIES.id_no),
                "phone_token": token("phone", CANARIES.phone),
                "birth_year": 1990,
                "is_minor": False,
                "part_date": DAYS[n],
            }
            for n in range(2)
        ],
    )
    append(
        "ods_venue__booking",
        [
            {
                "booking_id": "k1",
                "venue_id": "V310101-001",
                "slot_start_at": at,
                "person_phone_token": token("phone", CANARIES.phone),
                "amount_cny": None,
                "part_date": DAYS[0],
            }
        ],
    )
    append(
        "ods_venue__register",
        [
            {
                "register_date": DAYS[0],
                "venue_id": "V310101-001",
                "unit_id": "V310101-001-U01",
                "contact_name": masked,
                "contact_phone_token": token("phone", CANARIES.phone),
                "part_date": DAYS[0],
            }
        ],
    )
    append(
        "ods_training__activity",
        [
            {
                "activity_id": "a1",
                "athlete_token": token("athlete_no", CANARIES.athlete),
                "max_hr_bpm": 187,
                "part_date": DAYS[0],
            }
        ],
    )
    append(
        "ods_training__activity_sample",
        [
            {
                "activity_id": "a1",
                "sample_no": 1,
                "sampled_at": at,
                "heart_rate_bpm": 187,
                "lng": CANARIES.track,
                "part_date": DAYS[0],
            }
        ],
    )
    tables.replace_table("dim_district", pl.DataFrame({"district_code": ["310101"], "district_name": ["黄浦区"]}))
    ledger.set_checked_version("dim_district", 0, "test")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A home with both serving files published; returns canaries, their tokens and the report."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LAKE_ROOT", "TIYU_LEDGER_URL"):
            patch.delenv(name, raising=False)
        root = tmp_path_factory.mktemp("served") / "home"
        patch.setenv("TIYU_HOME", str(root))
        patch.setenv("TIYU_TODAY", "2026-11-20")
        patch.setenv("TIYU_AS_OF", "2026-11-20T12:00:00+08:00")
        from protection import keys, tokens
        from sharing.serving.publish import publish_serving

        keys.ensure()
        fill()
        report = publish_serving()
        stored = [
            tokens.token("id_no", CANARIES.id_no),
            tokens.token("phone", CANARIES.phone),
            tokens.token("athlete_no", CANARIES.athlete),
        ]
        yield SimpleNamespace(
            home=root, report=report, canaries=CANARIES, stored_tokens=stored, append=append, days=DAYS
        )
