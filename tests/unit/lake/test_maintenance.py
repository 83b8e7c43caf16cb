"""Upkeep: small files become few without a changed row, and a vacuum never takes what a checked version needs."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from lake import ledger, maintenance, tables
from lake.errors import TiyuError

NAME = "ods_venue__flow_count"
DAY, OTHER = date(2026, 1, 1), date(2026, 1, 2)


def write(count: int, day: date = DAY, first: int = 0) -> None:
    for number in range(first, first + count):
        tables.append(NAME, pl.DataFrame({"value": [number], "part_date": [day]}), batch_id=f"b_{day}_{number}")


def values(version: int | None = None) -> list[int]:
    return sorted(pl.scan_delta(tables.path(NAME), version=version).collect()["value"].to_list())


def test_many_small_files_become_one_and_readers_follow(home):
    write(maintenance.MIN_FILES)
    write(maintenance.MIN_FILES - 1, OTHER, 100)
    ledger.set_checked_version(NAME, int(tables.version(NAME) or 0), "gate")
    before = values()
    done = maintenance.compact(NAME)
    assert (done.partitions, done.files_before, done.files_after) == (1, 15, 8), "the other partition is not worth it"
    assert values() == before
    assert ledger.checked_version(NAME) == tables.version(NAME) == done.version
    assert tables.touched_dates(NAME, done.version - 1, done.version) == set()
    assert maintenance.compact(NAME).partitions == 0, "nothing is left to do"
    assert tables.version(NAME) == done.version, "and nothing is committed"


def test_unjudged_rows_do_not_become_visible_by_a_compaction(home):
    write(4)
    seen = int(tables.version(NAME) or 0)
    ledger.set_checked_version(NAME, seen, "gate")
    write(6, first=4)
    assert maintenance.compact(NAME).partitions == 1
    assert ledger.checked_version(NAME) == seen
    assert values(seen) == [0, 1, 2, 3]


def test_a_vacuum_keeps_the_files_of_checked_versions_and_takes_the_others(home):
    write(4)
    first = int(tables.version(NAME) or 0)
    ledger.set_checked_version(NAME, first, "gate")
    write(6, first=4)
    second = int(tables.version(NAME) or 0)
    maintenance.compact(NAME)
    ledger.set_checked_version(NAME, int(tables.version(NAME) or 0), "gate")
    removed = maintenance.vacuum(NAME, hours=0)
    assert removed == 6, "the files that only unchecked versions used"
    assert values(first) == [0, 1, 2, 3]
    assert values() == list(range(10))
    with pytest.raises(Exception, match=r"(?i)not found|no such file"):
        values(second)
    assert ledger.checked_version(NAME) == tables.version(NAME)


def test_checked_versions_of_days_that_are_over_are_thinned_to_the_last_one(home, monkeypatch):
    now = datetime(2026, 3, 10, 4, 0, tzinfo=UTC)
    for day in (9, 8, 7, 2, 0):
        for minute in (0, 5, 10):
            monkeypatch.setenv("TIYU_AS_OF", (now - timedelta(days=day) + timedelta(minutes=minute)).isoformat())
            monkeypatch.setenv("TIYU_TODAY", (now - timedelta(days=day)).date().isoformat())
            write(1, first=day * 100 + minute)
            ledger.set_checked_version(NAME, int(tables.version(NAME) or 0), "gate")
    versions = [row["version"] for row in ledger.checked_history_of(NAME)]
    assert len(versions) == 15
    assert maintenance.thin(NAME) == 6
    kept = [row["version"] for row in ledger.checked_history_of(NAME)]
    assert kept == [versions[2], versions[5], versions[8], *versions[9:]]
    assert ledger.checked_version(NAME) == versions[-1]
    assert maintenance.thin(NAME) == 0


def test_an_unknown_table_is_named(home):
    write(1)
    with pytest.raises(TiyuError, match="TIYU-LAKE-0005"):
        maintenance.upkeep(["ods_venue__nothing"])
    (only,) = maintenance.upkeep(clean=True)
    assert (only.table, only.removed) == (NAME, 0)
