"""The state after n days equals that of a demo begun at day n; on calm days the figures equal the truth again.

``make test-tomorrow`` runs fourteen days; ``make test`` has a sample (tests/integration/test_tomorrow.py).
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lake import clock
from simulation import api
from simulation.incidents import DOWN, incidents
from simulation.sizes import SIZES
from tests.tomorrow.days import Installation, compare

pytestmark = pytest.mark.integration
DAYS = 14
SEED = 20260101


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Fourteen days one after the other, with the state noted on the way."""
    with pytest.MonkeyPatch.context() as patch:
        here = Installation(tmp_path_factory.mktemp("lived"), SIZES["tiny"], SEED, patch)
        noted: dict[int, dict[str, Any]] = {}
        settled: dict[int, list[str]] = {}

        def each(number: int) -> None:
            if number in (3, DAYS):
                noted[number] = here.state()
            if incidents(number).down is None and number:
                settled[number] = here.differs_from_truth()

        here.live(DAYS, each)
        yield here, noted, settled


@pytest.mark.parametrize("day", [3, DAYS])
def test_the_state_after_n_days_is_that_of_a_demo_begun_at_day_n(
    lived: Any, day: int, tmp_path: Path, patch: Any
) -> None:
    here, noted, _ = lived
    begun = Installation(tmp_path, SIZES["tiny"], SEED, patch, keys_of=here)
    begun.begin_at(day)
    assert compare(noted[day], begun.state()) > 100_000


def test_only_the_source_that_is_down_fails_and_only_on_its_days(lived: Any) -> None:
    here, _, _ = lived
    interfaces = {"venue.booking", "fitness.checkin"}
    planned = [(n, incidents(n).down) for n in range(DAYS + 1) if incidents(n).down in interfaces]
    assert here.failed == planned
    assert len(planned) >= 4
    assert set(DOWN) > interfaces


def test_on_a_calm_day_every_figure_is_true_again(lived: Any) -> None:
    """Late changes, outages, lost columns: whatever was missing has arrived, and past days are restated."""
    _, _, settled = lived
    assert set(settled) == {7, 14}
    assert settled == {7: [], 14: []}


def test_every_delivery_was_taken_in_the_end(lived: Any) -> None:
    from sharing.exchange import receipts

    here, _, _ = lived
    here.patch.setenv("TIYU_HOME", str(here.home))
    answers = receipts.answers("supervision.water_reading")
    turned = [a for a in answers if a.receipt["status"] != "ACCEPTED"]
    assert len(turned) == sum(incidents(n).refusal is not None for n in range(DAYS + 1))
    assert {a.receipt["status"] for a in turned} == {"REJECTED", "PARTIAL"}
    assert {a.state for a in answers} == {"accepted", "superseded"}
    assert {a.row["sequence"] for a in answers} == {1, 2}
    assert receipts.unacknowledged() == []


def test_open_data_has_a_version_a_day(lived: Any) -> None:
    import json

    here, _, _ = lived
    versions = json.loads((here.home / "open/daily_visits/versions.json").read_text("utf-8"))
    assert len(versions) == DAYS + 1
    assert len({v["data_date"] for v in versions}) == DAYS + 1
    newest = here.home / "open/daily_visits" / versions[-1]["version"]
    assert pl.read_csv(newest / "daily_visits.csv").height == versions[-1]["row_count"]
    log = (newest / "CHANGELOG.md").read_text("utf-8")
    assert all(v["version"] in log for v in versions)


def test_a_backfill_of_every_source_changes_nothing_and_a_full_rebuild_is_the_same(lived: Any) -> None:
    """Last of this module: fourteen days of late, lost and restated records were built in increments."""
    here, noted, _ = lived
    with api.start(here.city) as served:
        here.use(served)
        last = clock.today()
        accepted = here.fetch_again(served, last - timedelta(days=6), last)
        assert set(accepted.values()) == {0}, accepted
        here.build_and_share(served, full=True)
    assert compare(noted[DAYS], here.state()) > 100_000
