"""Building a layer with real dbt on a small lake: what becomes visible, and what does not."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from lake import ledger, query, tables
from lake.errors import TiyuError
from modeling import project, run

pytestmark = pytest.mark.data
FIRST, VENUE = date(2026, 11, 1), "V310101-001"


def booking(name: str, day: date, updated: int) -> dict:
    start = datetime(day.year, day.month, day.day, 2, tzinfo=UTC)
    return {
        "booking_id": name, "venue_id": VENUE, "unit_id": f"{VENUE}-U02", "sport_code": "tennis", "channel": "ywtb", "status": "booked",
        "slot_start_at": start, "slot_end_at": start, "created_at": start, "part_date": day,
        "updated_at": datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=updated),
    }  # fmt: skip


def test_formulas(tmp_path, monkeypatch):
    monkeypatch.setenv("TIYU_HOME", str(tmp_path))
    monkeypatch.setenv("TIYU_TODAY", "2026-11-20")
    report = run.unit_tests()
    assert report.tests_passed == report.tests_examined >= 15


def test_a_failing_test_keeps_the_layer_invisible_until_it_is_repaired(small_lake):
    small_lake.append("ods_venue__booking", [booking("b1", FIRST, 1), booking("b2", FIRST, 1)])
    first = run.build("dwd")
    assert first.tests_passed == first.tests_examined >= 30
    assert {model.action for model in first.models} == {"full"}
    assert first.checked["dwd_venue__booking"] == tables.version("dwd_venue__booking") == 0
    assert ledger.checked_version("dwd_venue__booking") == 0

    # Moved by more days than the model reaches: two rows of one booking remain.
    small_lake.append("ods_venue__booking", [booking("b1", FIRST + timedelta(days=16), 2)])
    with pytest.raises(TiyuError) as caught:
        run.build("dwd")
    assert caught.value.code == "TIYU-DBT-0002"
    assert caught.value.context["model"] == "dwd_venue__booking"
    assert "unique_grain" in caught.value.context["test"]
    assert caught.value.context["failing_rows"] == 1
    assert ledger.checked_version("dwd_venue__booking") == 0
    assert tables.version("dwd_venue__booking") == 1

    # Nothing new arrived, but the unchecked head is tested again, not taken for good.
    with pytest.raises(TiyuError, match="TIYU-DBT-0002"):
        run.build("dwd")

    repaired = run.build("dwd", full_refresh=True, select=["dwd_venue__booking"])
    assert repaired.checked == {"dwd_venue__booking": 2}
    con = query.connect()
    try:
        rows = con.execute(
            f"select booking_id, part_date from {query.scan_sql('dwd_venue__booking', 2)} order by all"
        ).fetchall()
    finally:
        con.close()
    assert rows == [("b1", FIRST + timedelta(days=16)), ("b2", FIRST)]
    quiet = run.build("dwd")
    assert quiet.models == []
    assert len(quiet.skipped) == len(first.models)


def test_unchecked_source_rows_are_not_read(small_lake):
    small_lake.append("ods_venue__booking", [booking("b1", FIRST, 1)])
    small_lake.append("ods_venue__booking", [booking("b2", FIRST, 1)], check=False)
    report = run.build("dwd", select=["dim_district", "dim_venue", "dwd_venue__booking"])
    assert {model.model: model.rows for model in report.models}["dwd_venue__booking"] == 1


def test_a_rule_that_does_not_exist_stops_the_build(small_lake, monkeypatch):
    monkeypatch.setattr(project, "rules_used", lambda manifest: {"booking.cancel_lead": {"a"}, "no.such_rule": {"b"}})
    with pytest.raises(TiyuError) as caught:
        run.build("dwd")
    assert caught.value.code == "TIYU-DBT-0004"
    assert caught.value.context["rules"] == ["no.such_rule"]


@pytest.mark.parametrize("arguments", [{"layer": "gold"}, {"layer": "dwd", "select": ["ads_cockpit__kpi"]}])
def test_unknown_layer_or_model(small_lake, arguments):
    with pytest.raises(TiyuError, match="TIYU-DBT-0010"):
        run.build(**arguments)
