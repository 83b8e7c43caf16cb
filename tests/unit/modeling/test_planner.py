"""The planner decides which dates are computed again. Pure functions, no lake."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from modeling import planner
from modeling.planner import DateRange, ModelSpec, Recorded

TODAY = date(2026, 11, 20)
DAY = date(2026, 11, 10)


def spec(**changes) -> ModelSpec:
    values = {
        "name": "dwd_venue__visit",
        "layer": "dwd",
        "strategy": "replace_window",
        "inputs": ("a", "b"),
        "definition": "d1",
        **changes,
    }
    return ModelSpec(**values)


def decide(model: ModelSpec, current: dict, touched: dict | None = None, *, before: Recorded | None = None, **options):
    recorded = before or Recorded({"a": 1, "b": 1}, "d1", TODAY)
    asked: list[tuple] = []

    def touched_dates(name, after, upto):
        asked.append((name, after, upto))
        return (touched or {}).get(name, set())

    return planner.plan(model, recorded, current, TODAY, touched_dates, **options), asked


def test_nothing_changed_builds_nothing_and_asks_nothing():
    plan, asked = decide(spec(), {"a": 1, "b": 1})
    assert plan.action == "none"
    assert asked == []


def test_touched_dates_between_recorded_and_current_become_ranges():
    plan, asked = decide(spec(), {"a": 3, "b": 1}, {"a": {DAY, DAY + timedelta(days=1), DAY + timedelta(days=5)}})
    assert asked == [("a", 1, 3)]
    assert plan.action == "windows"
    assert plan.ranges == (
        DateRange(DAY, DAY + timedelta(days=1)),
        DateRange(DAY + timedelta(days=5), DAY + timedelta(days=5)),
    )
    assert plan.inputs == {"a": 3, "b": 1}


def test_reach_widens_in_the_right_direction():
    # A row of d reads [d - 2, d + 6]: an input of t is read by rows of [t - 6, t + 2].
    assert planner.merge_ranges([DAY], 2, 6) == (DateRange(DAY - timedelta(days=6), DAY + timedelta(days=2)),)


def test_thirty_ranges_stay_and_one_more_becomes_one_covering_range():
    apart = [DAY + timedelta(days=2 * n) for n in range(planner.MAX_RANGES)]
    assert len(planner.merge_ranges(apart)) == planner.MAX_RANGES
    one_more = [*apart, apart[-1] + timedelta(days=2)]
    assert planner.merge_ranges(one_more) == (DateRange(one_more[0], one_more[-1]),)


@pytest.mark.parametrize(
    ("model", "current", "touched", "before"),
    [
        (spec(), {"a": 2, "b": 1}, {"a": None}, None),  # an input was replaced as a whole
        (spec(definition="d2"), {"a": 1, "b": 1}, None, None),
        (spec(inputs=("a", "b", "c")), {"a": 1, "b": 1, "c": 1}, None, None),
        (spec(unbounded=True), {"a": 2, "b": 1}, {"a": {DAY}}, None),
        (spec(strategy="table"), {"a": 2, "b": 1}, {"a": {DAY}}, None),
        (spec(), {"a": 0, "b": 1}, None, None),  # an input went back
        (spec(), {"a": None, "b": 1}, None, None),  # an input vanished
        (spec(), {"a": 1, "b": 1}, None, Recorded({"a": 1, "b": None}, "d1", TODAY)),  # an input appeared
        (spec(clock="full"), {"a": 1, "b": 1}, None, Recorded({"a": 1, "b": 1}, "d1", TODAY - timedelta(days=1))),
    ],
)
def test_whatever_cannot_be_bounded_is_built_in_full(model, current, touched, before):
    plan, _ = decide(model, current, touched, before=before)
    assert plan.action == "full", plan.reason


def test_never_built_and_requested_are_full():
    assert planner.plan(spec(), None, {"a": 1, "b": 1}, TODAY, lambda *_: set()).action == "full"
    plan, _ = decide(spec(), {"a": 1, "b": 1}, full_refresh=True)
    assert plan.action == "full"


def test_maintenance_commit_of_an_input_changes_nothing():
    plan, _ = decide(spec(unbounded=True), {"a": 2, "b": 1}, {"a": set()})
    assert plan.action == "none"


@pytest.mark.parametrize(("old", "new"), [(18, 20), (20, 18)])
def test_clock_window_covers_the_days_that_passed_in_both_directions(old, new):
    before = Recorded({"a": 1, "b": 1}, "d1", date(2026, 11, old))
    plan = planner.plan(spec(clock="window"), before, {"a": 1, "b": 1}, date(2026, 11, new), lambda *_: set())
    assert plan.ranges == (DateRange(date(2026, 11, 18), date(2026, 11, 19)),)


def test_clock_window_adds_to_touched_dates():
    before = Recorded({"a": 1, "b": 1}, "d1", date(2026, 11, 19))
    plan = planner.plan(spec(clock="window", lookback_days=1), before, {"a": 2, "b": 1}, TODAY, lambda *_: {DAY})
    assert plan.ranges == (DateRange(DAY, DAY + timedelta(days=1)), DateRange(date(2026, 11, 19), date(2026, 11, 19)))


def test_record_survives_commit_metadata_and_skips_maintenance():
    record = Recorded({"b": None, "a": 4}, "d1", TODAY)
    history = [{"version": 9, "operation": "OPTIMIZE"}, {"version": 8, **record.metadata()}, {"version": 7}]
    assert planner.recorded_from(history) == record
    assert planner.recorded_from([{"version": 0}]) is None
