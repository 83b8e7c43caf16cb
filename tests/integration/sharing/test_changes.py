"""`tiyu diff`: what changed between two checked versions, counted per partition, shown as the analyst may see it."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pyarrow as pa
import pytest
import typer
from typer.testing import CliRunner

from catalog import contracts, schemas
from lake import ledger, tables
from lake.errors import TiyuError
from sharing.serving.changes import HIDDEN, changes

pytestmark = pytest.mark.integration

DAYS = [date(2026, 11, 16) + timedelta(days=n) for n in range(4)]
USE = "dws_venue__daily_use"


def use(day: date, venue: str, visits: int, peak: datetime | None = None) -> dict:
    return {"venue_id": venue, "part_date": day, "visit_count": visits, "peak_at": peak}


def write_use(rows: list[dict], start: date, end: date) -> int:
    schema = {"venue_id": pl.String, "part_date": pl.Date, "visit_count": pl.Int64, "peak_at": pl.Datetime("us", "UTC")}
    version = tables.replace_window(USE, pl.DataFrame(rows, schema=schema), "part_date", start, end)
    ledger.set_checked_version(USE, version, "test")
    return version


@pytest.fixture
def restated(home, monkeypatch):
    """Four days of two venues, checked on the 19th; on the 20th two days are restated."""
    monkeypatch.setenv("TIYU_TODAY", "2026-11-19")
    monkeypatch.setenv("TIYU_AS_OF", "2026-11-19T12:00:00+08:00")
    first = write_use([use(day, venue, 10) for day in DAYS for venue in ("A", "B")], DAYS[0], DAYS[-1])
    monkeypatch.setenv("TIYU_TODAY", "2026-11-20")
    monkeypatch.setenv("TIYU_AS_OF", "2026-11-20T12:00:00+08:00")
    again = [use(DAYS[2], "A", 12), use(DAYS[2], "C", 3), use(DAYS[3], "A", 10), use(DAYS[3], "B", 10)]
    write_use(again, DAYS[2], DAYS[3])
    return first


def test_counts_per_partition_by_key(restated):
    found = changes(USE, str(restated))
    assert (found.added, found.removed, found.changed) == (1, 1, 1)
    assert found.key == ["venue_id", "part_date"]
    assert found.partitions_read == 2, "only the partitions that a commit names"
    (partition,) = found.partitions  # the 19th was written again with the same content
    assert partition.part_date == DAYS[2]
    assert found.changed_columns == {"visit_count": 1}
    changed = next(row for row in found.rows if row.change == "changed")
    assert changed.key["venue_id"] == "A"
    assert changed.values == {"visit_count": [10, 12]}


def test_rows_of_one_day_and_past_days_before_days_to_come(restated):
    to_come = date(2026, 11, 22)
    write_use([use(to_come, "A", 0)], to_come, to_come)
    assert [row.part_date for row in changes(USE, str(restated)).rows] == [*[DAYS[2]] * 3, to_come]
    of_a_day = changes(USE, str(restated), day=to_come)
    assert [row.part_date for row in of_a_day.rows] == [to_come]
    assert (of_a_day.added, of_a_day.changed) == (2, 1), "the counts stay complete"
    assert changes(USE, str(restated), day=DAYS[0]).rows == []


@pytest.mark.parametrize("since", ["yesterday", "2026-11-19", "0", "v1"])
def test_since_may_be_a_day_or_a_version(restated, since):
    since = str(restated) if since in ("0", "v1") else since
    found = changes(f"dws.{USE}", since)
    assert (found.from_version, found.added) == (restated, 1)
    assert found.from_as_of == "2026-11-19 12:00"


def test_nothing_changed_since_today(restated):
    found = changes(USE, "2026-11-20")
    assert (found.from_version, found.partitions) == (found.to_version, [])


def test_only_touched_partitions_are_read(restated):
    """The files of an untouched partition are gone, and nobody notices."""
    day = DAYS[0].isoformat()
    from pathlib import Path

    files = list(Path(tables.path(USE)).glob(f"part_date={day}/*.parquet"))
    assert files
    for file in files:
        file.unlink()
    assert changes(USE, str(restated)).changed == 1
    for file in Path(tables.path(USE)).glob(f"part_date={DAYS[2].isoformat()}/*.parquet"):
        file.unlink()
    with pytest.raises(TiyuError, match="TIYU-DIF-0005"):
        changes(USE, str(restated))


@pytest.mark.parametrize(
    ("table", "since", "code"),
    [
        ("dws_venue__nothing", "yesterday", "TIYU-DIF-0001"),
        ("ops_ingest__quarantine", "yesterday", "TIYU-DIF-0001"),
        (USE, "77", "TIYU-DIF-0002"),
        (USE, "soon", "TIYU-DIF-0003"),
        (USE, "2026-11-01", "TIYU-DIF-0004"),
    ],
)
def test_what_cannot_be_compared_says_why(restated, table, since, code):
    with pytest.raises(TiyuError, match=code):
        changes(table, since)


def _ods(table: str, rows: list[dict], batch: str) -> int:
    obj = next(o for c in contracts.load_all("source").values() for o in c.objects if o.table == table)
    schema = schemas.ods_schema(obj)
    technical = {"_batch_id": batch, "_source_object": "0" * 64, "_ingested_at": datetime(2026, 11, 20, tzinfo=UTC)}
    full = [{**technical, "_record_no": n, **row} for n, row in enumerate(rows, 1)]
    data = pa.table({f.name: pa.array([row.get(f.name) for row in full], f.type) for f in schema}, schema=schema)
    version = tables.append(table, data, batch_id=batch)
    ledger.set_checked_version(table, version, "test")
    return version


def test_the_analyst_sees_no_token_no_l4_value_and_no_exact_time(home):
    from protection import tokens

    token = tokens.token("athlete_no", "SHA900900")
    table = "ods_training__activity"
    first = _ods(table, [{"activity_id": "a1", "athlete_token": token, "max_hr_bpm": 187, "part_date": DAYS[0]}], "b1")
    at = datetime(2026, 11, 16, 1, 23, 45, tzinfo=UTC)
    row = {"activity_id": "a2", "athlete_token": token, "max_hr_bpm": 191, "started_at": at, "part_date": DAYS[0]}
    _ods(table, [row], "b2")
    found = changes(table, str(first))
    (added,) = found.rows
    assert added.change == "added"
    assert (added.key | added.values)["started_at"].isoformat() == "2026-11-16T09:00:00"
    text = json.dumps(found.to_dict(), default=str)
    assert token not in text
    assert "max_hr_bpm" not in text
    assert "191" not in text
    assert "_batch_id" not in text


def test_a_change_in_a_hidden_column_is_not_given_away_and_of_a_token_only_the_fact(home):
    day, at = DAYS[0], datetime(2026, 11, 16, 1, tzinfo=UTC)

    def write(table: str, row: dict) -> int:
        obj = next(o for c in contracts.load_all("source").values() for o in c.objects if o.table == table)
        technical = {"part_date": day, "_batch_id": "b", "_source_object": "0", "_record_no": 1, "_ingested_at": at}
        schema = schemas.ods_schema(obj)
        full = {**technical, **row}
        data = pa.table({f.name: pa.array([full.get(f.name)], f.type) for f in schema}, schema=schema)
        version = tables.replace_window(table, data, "part_date", day, day)
        ledger.set_checked_version(table, version, "test")
        return version

    activity = {"activity_id": "a1", "athlete_token": "athlete_no_k1_one", "started_at": at}
    one = write("ods_training__activity", {**activity, "max_hr_bpm": 180})
    write("ods_training__activity", {**activity, "max_hr_bpm": 190})
    assert changes("ods_training__activity", str(one)).partitions == []
    one = write("ods_venue__booking", {"booking_id": "k1", "updated_at": at, "person_phone_token": "phone_k1_one"})
    write("ods_venue__booking", {"booking_id": "k1", "updated_at": at, "person_phone_token": "phone_k1_two"})
    found = changes("ods_venue__booking", str(one))
    assert found.changed_columns == {"person_phone_token": 1}
    assert found.rows[0].values == {"person_phone_token": HIDDEN}


def test_a_table_without_partitions_or_key_is_compared_as_a_bag(home):
    frame = pl.DataFrame({"sport_code": ["a", "a", "b"], "sport_name": ["甲", "甲", "乙"]})
    name = "dim_sport"
    first = tables.replace_table(name, frame)
    ledger.set_checked_version(name, first, "test")
    from sharing.serving import changes as module

    version = tables.replace_table(
        name, frame.head(1).vstack(pl.DataFrame({"sport_code": ["c"], "sport_name": ["丙"]}))
    )
    ledger.set_checked_version(name, version, "test")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("catalog.columns.table_keys", lambda *_: {})
        found = module.changes(name, str(first))
    assert (found.added, found.removed, found.changed) == (1, 2, 0)
    assert found.partitions_read is None


def test_a_new_column_is_named_and_old_rows_count_as_changed(home):
    name = "dim_district"
    first = tables.replace_table(name, pl.DataFrame({"district_code": ["310101"], "district_name": ["黄浦区"]}))
    ledger.set_checked_version(name, first, "test")
    frame = pl.DataFrame({"district_code": ["310101"], "district_name": ["黄浦区"], "street_count": [10]})
    ledger.set_checked_version(name, tables.replace_table(name, frame), "test")
    found = changes(name, str(first))
    assert found.columns_added == ["street_count"]
    assert found.changed_columns == {"street_count": 1}


def test_the_command_prints_both_ways(restated):
    from cli import diff

    app = typer.Typer()
    diff.register(app)
    app.command("other")(lambda: None)
    shown = CliRunner().invoke(app, ["diff", USE])
    assert shown.exit_code == 0, shown.output
    assert "共新增 1 行、消失 1 行、改变 1 行（读了 2 个分区）" in shown.output
    data = json.loads(CliRunner().invoke(app, ["diff", USE, "--since", str(restated), "--json"]).stdout)
    assert data["partitions"] == [{"part_date": "2026-11-18", "added": 1, "removed": 1, "changed": 1}]


def test_every_checked_table_of_the_catalogue_has_a_key():
    from catalog.columns import table_keys

    keys = table_keys()
    assert len(keys) > 25
    assert keys["dwd_venue__booking"] == ("booking_id",)
    assert keys["ods_venue__booking"] == ("booking_id", "updated_at")
