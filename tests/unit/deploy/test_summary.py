"""What a demo run reports about itself, and how the door check writes large figures."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from deploy import doors, summary
from deploy.display import Step
from lake import tables


def test_tables_are_counted_from_the_head(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Rows and bytes of the live files: a replaced version no longer counts."""
    monkeypatch.setenv("TIYU_HOME", str(tmp_path))
    monkeypatch.delenv("LAKE_ROOT", raising=False)
    days = pl.DataFrame({"x": [1, 2, 3], "part_date": [date(2026, 11, 1), date(2026, 11, 2), date(2026, 11, 2)]})
    tables.append("ods_venue__thing", days, batch_id="one")
    tables.append("ods_venue__thing", days.head(1), batch_id="two")
    tables.replace_table("ads_venue__thing", days)
    tables.replace_table("ads_venue__thing", days.head(1))
    found = {row["table"]: row for row in summary.lake_tables()}
    assert {name: row["rows"] for name, row in found.items()} == {"ods_venue__thing": 4, "ads_venue__thing": 1}
    assert found["ods_venue__thing"]["files"] == 3
    on_disk = sum(path.stat().st_size for path in (tmp_path / "lake/ods/ods_venue__thing").rglob("part-*.parquet"))
    assert found["ods_venue__thing"]["bytes"] == on_disk > 0


def test_the_summary_is_written_whole_and_shown(tmp_path: Path) -> None:
    """Every step, table and folder is a line."""
    (tmp_path / "demo").mkdir()
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "file").write_bytes(b"12345")
    steps = summary.steps_of([Step("DAG layers", 110.0, 20.04, "note", "ok")], 100.0)
    assert steps == [{"title": "DAG layers", "start_s": 10.0, "seconds": 20.0, "state": "ok", "note": "note"}]
    values = {
        "size": "tiny", "seed": 1, "seconds": 30.0, "cpu_s": 12.0, "peak_bytes": 2**30, "load_start": 1.0, "load_end": 2.0,
        "steps": steps, "tables": [{"table": "ads_x__y", "version": 0, "rows": 7, "files": 1, "bytes": 10}],
        "folders": {"lake": summary.folder_bytes(tmp_path / "lake")},
    }  # fmt: skip
    path = summary.write(tmp_path, values)
    assert json.loads(path.read_text(encoding="utf-8")) == values
    text = summary.markdown(values)
    for line in ("peak 1.00 GiB", "| DAG layers | 10 | 20 | ok | note |", "| ads_x__y | 7 | 1 | 10 |", "| lake | 5 |"):
        assert line in text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "人", "—"), (8.837, "%", "8.8"), (99_999.0, "人", "99,999"), (100_000.0, "人", "10.0"),
        (215_853.0, "人", "21.6"), (1e8, "人次", "1.00"), (12_345_678_901.0, "人次", "123.46"),
    ],
)  # fmt: skip
def test_large_figures_are_compared_as_the_tiles_write_them(value: float | None, unit: str, text: str) -> None:
    """The same boundaries as the query behind the tiles (dashboards/queries/kpi_card.sql)."""
    assert doors.shown(value, unit) == text
