"""What two days bring into ODS is what one delivery of both brings, for every source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simulation import api
from simulation.advance import advance
from simulation.incidents import incidents
from simulation.sizes import SIZES
from tests.tomorrow.days import Installation, compare

pytestmark = pytest.mark.integration
SEED = 20260101


def quiet(text: str) -> None:
    del text


def test_sources_day_by_day_bring_what_they_bring_at_once(tmp_path: Path, monkeypatch: Any) -> None:
    size = SIZES["tiny"].shortened(3)
    lived = Installation(tmp_path / "lived", size, SEED, monkeypatch)
    with api.start(lived.city) as served:
        lived.ingest(served, gate=False)
        first = lived.state()
        for _ in range(2):
            advance(lived.city, say=quiet)
            lived.ingest(served, gate=False)
    assert lived.failed == [(1, incidents(1).down)]
    begun = Installation(tmp_path / "begun", size, SEED, monkeypatch, keys_of=lived)
    with api.start(begun.city) as served:
        advance(begun.city, 1, uninterrupted=True, say=quiet)
        begun.ingest(served, gate=False)
        advance(begun.city, say=quiet)
        begun.ingest(served, gate=False)
    assert begun.failed == []
    state = lived.state()
    assert len(state) >= 9
    assert {name for name in state if state[name] != first[name]} >= {
        "lake/ods_venue__booking",
        "lake/ods_event__filing",
        "lake/ods_fitness__checkin",
    }
    assert compare(state, begun.state()) > 10_000


def test_another_state_is_told_apart() -> None:
    """The comparison fails when one row differs, when a table is missing, and when it looked at nothing."""
    one = {"lake/t": (3, "a")}
    assert compare(one, {"lake/t": (3, "a")}) == 3
    for other in ({"lake/t": (3, "b")}, {}, {"lake/t": (3, "a"), "lake/u": (0, "")}):
        with pytest.raises(AssertionError):
            compare(one, other)
    with pytest.raises(AssertionError, match="nothing"):
        compare({}, {})
