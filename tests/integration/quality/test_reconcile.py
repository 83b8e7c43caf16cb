"""Both balances, each kind of imbalance found on its own."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest
import sqlalchemy as sa

from lake import ledger, tables
from lake.settings import settings
from quality import ops, quarantine, reconcile

pytestmark = pytest.mark.integration

DAY = date(2026, 11, 18)
WATER = "supervision.water_reading"


@pytest.fixture
def water(checked_lake):
    assert reconcile.reconcile(WATER).ok
    return checked_lake


def problems(resource: str = WATER) -> str:
    report = reconcile.reconcile(resource)
    assert not report.ok
    return "；".join(report.problems)


def set_batch(**values) -> None:
    with ledger.transaction() as connection:
        connection.execute(sa.update(ledger.batch).where(ledger.batch.c.batch_id == "good-1").values(**values))


def test_a_report_that_examined_nothing_is_not_ok(home):
    report = reconcile.reconcile()
    assert report.examined == 0
    assert not report.ok


def test_balanced_batches(water):
    report = reconcile.reconcile()
    assert report.ok
    assert report.examined == 2
    row = next(row for row in report.balances if row.resource == WATER)
    assert (row.decoded, row.accepted, row.in_lake, row.objects_archived) == (3, 3, 3, 1)
    assert report.to_dict()["ok"]
    assert {row["结论"] for row in report.rows} == {"平"}


def test_records_that_do_not_add_up(water):
    set_batch(decoded_count=4)
    found = problems()
    assert "≠ 解码 4" in found
    assert "decoded 之和 3 与批次 4 不等" in found


def test_rows_missing_from_the_lake(water):
    tables.delete("ods_supervision__water_reading", "_record_no = 1", part_dates=[DAY])
    assert "湖中有 2 行，台账记接受 3 行" in problems()


def test_rows_nobody_accepted(water):
    rows = water.head("ods_supervision__water_reading").with_columns(pl.lit("stranger").alias("_batch_id"))
    tables.append("ods_supervision__water_reading", rows.to_arrow(), batch_id="stranger")
    assert "台账中没有的批次" in problems()


def test_object_missing_from_the_archive(water):
    for file in (settings().archive_root / WATER).rglob("*.tiyu"):
        file.unlink()
    assert "1 个对象不在归档中" in problems()


def test_quarantine_that_disagrees(water):
    with ledger.transaction() as connection:
        for table in (ledger.batch, ledger.batch_object):
            connection.execute(
                sa.update(table).where(table.c.batch_id == "good-1").values(quarantined_count=1, decoded_count=4)
            )
    assert "隔离区有 0 条，台账记隔离 1 条" in problems()


def test_unfinished_batch(water):
    set_batch(status="archived")
    assert "尚未处理完" in problems()


def test_objects_of_a_run_that_do_not_add_up(water):
    run = "run-good-1"  # the run that opened the batch, whichever run finished it
    ledger.start_run(run, WATER, ledger.utc_now())
    ledger.finish_run(run, "success", received_objects=3, duplicate_objects=1, batch_id="good-1")
    assert "收到 3 个对象 ≠ 新 1 + 重复 1" in problems()


def test_child_rows_are_reconciled_per_parent(lake):
    lake.activity("fine")
    assert reconcile.reconcile("training.activity").ok
    lake.activity("wrong", declared_laps=2)
    assert "lap_count" in problems("training.activity")
    lake.activity("orphan", lap_activity="nobody")
    assert "找不到父记录" in problems("training.activity")


# --- ops tables ------------------------------------------------------------------------------------------------------


def test_ops_tables_are_published_once_and_only_again_when_something_changed(water):
    written = ops.publish_ops()
    assert set(written.values()) == {True}
    assert len(written) == 6
    versions = ledger.checked_versions()
    assert set(ops.publish_ops().values()) == {False}
    assert ledger.checked_versions() == versions
    fresh = {row["resource"]: row for row in water.visible("ops_ingest__freshness").to_dicts()}
    assert fresh["venue.register"]["state"] == "fresh"
    assert fresh[WATER]["state"] == "late", "an hourly source whose data ends two days ago"
    assert fresh[WATER]["received_count"] == 3
    assert [fresh[name]["is_missing"] for name in ("venue.register", "training.activity")] == [False, True]
    assert fresh["training.activity"]["state"] == "never"
    assert water.visible("ops_ingest__outcome").height == 2
    assert set(water.visible("ops_quality__result")["outcome"]) == {"pass"}
    grading = water.visible("ops_quality__grading")
    assert grading.height > 20
    assert (grading["graded_count"] <= grading["column_count"]).all()
    assert water.visible(quarantine.TABLE).height == 0
    water.readings("more", hour=8)
    assert ops.publish_ops() == {
        "ops_ingest__outcome": True,
        "ops_ingest__finding": False,
        "ops_ingest__freshness": True,
        "ops_quality__result": False,
        "ops_quality__grading": False,
        "ops_quality__grade_decision": False,
    }


def test_a_failed_run_and_a_late_source_are_shown(water, monkeypatch):
    monkeypatch.setenv("TIYU_AS_OF", "2026-11-30T12:00:00+08:00")
    states = {row["resource"]: row["state"] for row in ops.freshness()}
    assert states["venue.register"] == "late"
    ledger.start_run("r2", WATER, ledger.utc_now())
    ledger.finish_run("r2", "failed", error_code="TIYU-ING-0001")
    assert {row["resource"]: row["state"] for row in ops.freshness()}[WATER] == "failed"
