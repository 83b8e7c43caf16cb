"""Placeholders in compiled SQL become literals, offsets included."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from modeling import literals
from modeling.planner import DateRange

SQL = (
    "select '@versions:t1,t2@' as v where part_date between date '1000-06-17' and date '9000-07-15' "
    "and part_date < date '2999-07-01' and part_date <> date '2999-06-30' and at <= timestamptz '2999-07-01 00:00:00+00' "
    "and x = date '2026-01-01'"
)


def render(window):
    return literals.render(
        SQL,
        window=window,
        business_date=date(2026, 11, 20),
        as_of=datetime(2026, 11, 20, 4, tzinfo=UTC),
        versions=lambda table: {table: 3, "ods": 1},
    )


def test_every_placeholder_is_replaced_and_other_dates_are_left():
    assert render(DateRange(date(2026, 3, 1), date(2026, 3, 2))) == (
        "select '{\"ods\": 1, \"t1\": 3, \"t2\": 3}' as v where part_date between date '2026-02-15' and date '2026-03-16' "
        "and part_date < date '2026-11-20' and part_date <> date '2026-11-19' and at <= timestamptz '2026-11-20 04:00:00+00' "
        "and x = date '2026-01-01'"
    )


def test_without_a_window_the_scan_stays_full():
    assert "between date '1000-06-17' and date '9000-07-15'" in render(None)


def test_an_offset_that_would_not_be_recognised_is_refused():
    with pytest.raises(ValueError, match="placeholder year"):
        literals.shifted(literals.WINDOW_FROM_BASE, -200)
