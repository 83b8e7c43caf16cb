"""Quarantine rows: one schema, nothing unknown, nothing twice."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pytest

from lake import clock, tables
from quality import quarantine


def rows(**more) -> pa.Table:
    values = {
        "batch_id": "b",
        "resource": "x.y",
        "rule_id": "r",
        "reason": "坏",
        "quarantined_at": clock.utc_now(),
        **more,
    }
    return pa.table({name: [value] for name, value in values.items()})


def test_missing_optional_columns_become_null():
    table = quarantine.conform(rows(record_no=7))
    assert table.schema == quarantine.SCHEMA
    assert table.column("record_no").to_pylist() == [7]
    assert table.column("preview").null_count == 1


@pytest.mark.parametrize("broken", [{"phone": "1"}, {"reason": None}, {"rule_id": None}])
def test_unknown_columns_and_missing_reasons_are_refused(broken):
    with pytest.raises(ValueError, match="quarantine column"):
        quarantine.conform(rows(**broken))


def test_a_batch_is_written_once(home):
    quarantine.append_quarantine(rows(), "b")
    quarantine.append_quarantine(rows(), "b")
    quarantine.append_quarantine(rows(), "b:withdrawn")
    assert pl.scan_delta(tables.path(quarantine.TABLE)).collect().height == 2
    assert quarantine.append_quarantine(quarantine.empty(), "c") is None
    assert quarantine.counts("x.y") == {("x.y", "b"): 2}
