"""One day more: the same state, whichever way it was reached; and each effect of the day is there."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lake import clock, ledger, query
from simulation.incidents import incidents
from simulation.sizes import SIZES
from tests.tomorrow.days import Installation, compare

pytestmark = pytest.mark.integration
SEED = 20260101


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small city of four days, and one day more."""
    with pytest.MonkeyPatch.context() as patch:
        here = Installation(tmp_path_factory.mktemp("lived"), SIZES["tiny"].shortened(4), SEED, patch)
        here.live(1)
        yield here


def rows(table: str) -> pl.DataFrame:
    with query.connect() as con:
        assert query.register(con, table, "checked") is not None
        return con.execute(f"select * from {table}").pl()


def test_what_each_user_sees_of_the_day(lived: Any) -> None:
    from sharing.exchange import receipts
    from sharing.serving.changes import changes

    plan = incidents(1)
    assert clock.today() == plan.day
    assert lived.failed == [(1, plan.down)]
    fresh = {row["resource"]: row for row in rows("ads_cockpit__freshness").to_dicts()}
    assert fresh[plan.down]["state"] == "failed"
    assert "接口无法访问" in fresh[plan.down]["reason"]
    assert plan.lost_column in fresh["event.filing"]["reason"]
    opened = rows("ads_supervision__alert").filter(pl.col("status") == "open")
    pool = json.loads((lived.city / "today.json").read_text("utf-8"))["incidents"]["pool_id"]
    assert {("AL-03", pool), ("AL-19", plan.down), ("IN-01", "event.filing")} <= set(
        opened.select("rule_code", "subject_id").rows()
    )
    assert opened.filter(pl.col("owner_name").is_null() | pl.col("deadline_at").is_null()).is_empty()
    found = changes("dws_venue__daily_use", "yesterday", limit=0)
    assert next(p.changed for p in found.partitions if p.part_date == date(2026, 11, 19)) > 0
    water = [a for a in receipts.answers("supervision.water_reading") if a.row["business_date"] == clock.yesterday()]
    assert [(a.row["sequence"], a.receipt["status"], a.state) for a in water] == [
        (1, "REJECTED", "superseded"),
        (2, "ACCEPTED", "accepted"),
    ]
    versions = json.loads((lived.home / "open/daily_visits/versions.json").read_text("utf-8"))
    assert [v["data_date"] for v in versions] == ["2026-11-19", "2026-11-20"]
    assert ledger.checked_version("ads_cockpit__kpi") is not None


def test_the_state_is_that_of_a_demo_begun_at_that_day(lived: Any, tmp_path: Path) -> None:
    state = lived.state()
    begun = Installation(tmp_path, SIZES["tiny"].shortened(4), SEED, lived.patch, keys_of=lived)
    begun.begin_at(1)
    assert compare(state, begun.state()) > 50_000
