"""When a resource counts as late."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest

from quality import ops


def contract(hours, grace=0, due_time=None):
    return SimpleNamespace(cycle_hours=hours, grace_hours=grace, due_time=due_time)


NOON = datetime(2026, 11, 20, 4, tzinfo=UTC)  # 12:00 in Shanghai


@pytest.mark.parametrize(
    ("given", "success", "latest", "due"),
    [
        (contract(24, 6), NOON, date(2026, 11, 20), NOON + timedelta(hours=30)),
        (contract(1, 3), NOON, None, NOON + timedelta(hours=4)),
        # what arrived ends the day before yesterday: the clock starts at the end of that Shanghai day
        (contract(24), NOON, date(2026, 11, 18), datetime(2026, 11, 19, 16, tzinfo=UTC)),
        # data of the future (bookings) does not make a source fresher than its last arrival
        (contract(24), NOON, date(2026, 12, 24), NOON + timedelta(hours=24)),
        # a due time later on the due day wins
        (contract(24, 0, "18:00"), NOON, None, datetime(2026, 11, 21, 10, tzinfo=UTC)),
        (contract(24, 0, "08:00"), NOON, None, NOON + timedelta(hours=24)),
    ],
)
def test_due_at(given, success, latest, due):
    assert ops.due_at(given, success, latest) == due


@pytest.mark.parametrize(
    ("state", "success", "missing"),
    [
        ("fresh", None, False),
        ("never", None, True),
        ("late", datetime(2026, 11, 18, 4, tzinfo=UTC), True),
        # the business day began at 2026-11-19 16:00 UTC
        ("failed", datetime(2026, 11, 19, 16, tzinfo=UTC), False),
        ("failed", datetime(2026, 11, 19, 15, 59, tzinfo=UTC), True),
        ("late", datetime(2026, 11, 19, 16, tzinfo=UTC), False),
    ],
)
def test_a_source_is_missing_until_it_brings_something_that_day(monkeypatch, state, success, missing):
    monkeypatch.setenv("TIYU_TODAY", "2026-11-20")
    monkeypatch.delenv("TIYU_AS_OF", raising=False)
    assert ops.is_missing(state, success) is missing
