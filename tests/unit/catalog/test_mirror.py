"""Meaning, grade and mark stand in the Delta schemas from the first commit, and follow a change without touching rows."""

from __future__ import annotations

import subprocess
import sys
from datetime import date

import pyarrow as pa
import pytest

from catalog import mirror, publish
from lake import ledger, tables

TABLE, DAY = "dws_venue__daily_use", date(2026, 11, 19)


def stored(table: str) -> dict[str, dict[str, str]]:
    return {field.name: dict(field.metadata) for field in tables.open_table(table).schema().fields}


def rows() -> pa.Table:
    return pa.table({"venue_id": ["V1"], "visit_count": pa.array([3], pa.int64()), "part_date": [DAY]})


def test_every_reference_table_carries_its_words_and_a_second_run_commits_nothing(home):
    publish.publish_reference()
    examined = 0
    for table in publish.TABLES:
        assert tables.version(table.name) == 0
        for metadata in stored(table.name).values():
            examined += 1
            assert metadata[mirror.GRADE] == "L1"
            assert metadata[mirror.COMMENT]
    assert examined >= 70
    assert mirror.refresh() == {}


@pytest.mark.parametrize("stream", [False, True])
def test_replaced_windowed_and_appended_tables_keep_them(home, stream):
    data = rows()
    tables.replace_table(TABLE, data.to_reader() if stream else data, partition_by=("part_date",))
    assert stored(TABLE)["visit_count"][mirror.UNIT] == "visit"
    tables.replace_window(TABLE, data, "part_date", DAY, DAY)
    assert stored(TABLE)["venue_id"][mirror.MARK] == "N"
    tables.append("ods_venue__entry", pa.table({"venue_id": ["V1"], "part_date": [DAY]}), batch_id="b1")
    assert stored("ods_venue__entry")["part_date"][mirror.GRADE] == "L1"


def test_a_changed_meaning_costs_a_commit_that_touches_nothing(home, monkeypatch):
    version = tables.replace_table(TABLE, rows(), partition_by=("part_date",))
    ledger.set_checked_version(TABLE, version, "test")
    known = mirror.all_words()
    changed = {**known, TABLE: {**known[TABLE], "visit_count": {**known[TABLE]["visit_count"], mirror.GRADE: "L2"}}}
    monkeypatch.setattr(mirror, "all_words", lambda: changed)
    assert mirror.refresh() == {TABLE: 1}
    assert stored(TABLE)["visit_count"][mirror.GRADE] == "L2"
    assert tables.version(TABLE) == version + 1 == ledger.checked_version(TABLE)
    assert tables.touched_dates(TABLE, version, version + 1) == set()
    assert mirror.refresh() == {}


def test_an_unchecked_head_does_not_become_visible_by_its_words(home, monkeypatch):
    first = tables.replace_table(TABLE, rows(), partition_by=("part_date",))
    ledger.set_checked_version(TABLE, first, "test")
    tables.replace_window(TABLE, rows(), "part_date", DAY, DAY)
    known = mirror.all_words()
    changed = {**known, TABLE: {**known[TABLE], "venue_id": {mirror.COMMENT: "另一个说法"}}}
    monkeypatch.setattr(mirror, "all_words", lambda: changed)
    assert mirror.refresh() == {TABLE: 1}
    assert ledger.checked_version(TABLE) == first


def test_the_catalogue_does_not_load_delta():
    """The cockpit's environment has no Delta: importing the catalogue must not need it."""
    code = "import sys, catalog; sys.exit('deltalake' in sys.modules or 'polars' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_one_table_is_described_as_among_all():
    known = mirror.all_words()
    assert len(known) > 80
    assert [table for table, words in known.items() if mirror.words(table) != words] == []
    assert mirror.words("no_such_table") == {}
