"""Sources that keep records: what they deliver when, that it fits together, and that each slip happens."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from simulation.city import City, build_city
from simulation.records import supervision
from simulation.records.all import FEEDS
from simulation.records.feed import Feed
from simulation.records.write import encode
from simulation.sizes import LAST_DATE, SIZES
from tests.unit.simulation import sent
from tests.unit.simulation.conftest import SEED

BY_NAME = {feed.resource: feed for feed in FEEDS}


@pytest.fixture(scope="module")
def city() -> City:
    return build_city(SIZES["tiny"], SEED)


@pytest.fixture(scope="module")
def truth(tiny: Path) -> Callable[[str], list[dict[str, Any]]]:
    """The rows of a source as they were before anything was spoiled."""

    def rows(resource: str) -> list[dict[str, Any]]:
        files = sorted((tiny / "truth" / "records" / resource).glob("*.ndjson"))
        return [json.loads(line) for path in files for line in path.read_text("utf-8").splitlines()]

    return rows


@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.resource)
def test_every_source_delivers_its_own_columns_and_every_slip(feed: Feed, tiny: Path, truth: Any) -> None:
    rows = truth(feed.resource)
    assert rows
    assert all(set(row) == set(feed.columns) for row in rows)
    assert len(feed.slips) >= 3
    dirt = json.loads((tiny / "truth/dirt.json").read_text("utf-8"))[feed.resource]
    assert {kind for kind, n in dirt["bad_rows"].items() if n and kind != "total"} == set(feed.slips)
    counts = json.loads((tiny / "truth/counts.json").read_text("utf-8"))[feed.resource]
    assert counts["distinct_true_records"] == len(rows)
    assert counts["duplicate_records"] > 0
    for slip in feed.slips.values():
        assert set(slip) <= set(feed.columns)
    assert feed.key in feed.columns


def test_what_belongs_together_is_together(tiny: Path, truth: Any) -> None:
    """Each pair: every value of the first column is one of the second's."""
    units = set(sent.venues(tiny))
    bookings = {json.loads(body)["booking_id"] for body in sent.api(tiny, "bookings")}
    filings = {row["填报编号"] for row in sent.filings(tiny)}
    pairs: dict[str, tuple[set[Any], set[Any]]] = {
        "payments and bookings": ({r["booking_id"] for r in truth("venue.payment")}, bookings),
        "facilities and units": ({r["单元编码"] for r in truth("venue.facility")}, units),
        "slots and units": ({r["unit_id"] for r in truth("venue.slot")}, units),
        "rosters and pools": ({r["泳池编码"] for r in truth("supervision.duty_roster")}, units),
        "registrations and filings": ({r["filing_id"] for r in truth("event.registration")}, filings),
        "permits and filings": ({r["填报编号"] for r in truth("event.approval")}, filings),
        "results and registrations": (
            {r["报名编号"] for r in truth("event.result")}, {r["registration_id"] for r in truth("event.registration")},
        ),
        "gates that pass people and heartbeats": (
            {r["device_id"] for r in sent.good_entries(tiny) if r["device_id"].endswith("-1")}, {r["device_id"] for r in truth("venue.heartbeat")},
        ),
        "sessions and athletes": ({r["athlete_no"] for r in truth("training.session_log")}, {f"SHA{n:06d}" for n in range(1, 21)}),
    }  # fmt: skip
    for name, (inner, outer) in pairs.items():
        assert inner, name
        assert inner <= outer, (name, sorted(inner - outer)[:3])


def test_a_refund_follows_a_payment_of_no_less(truth: Any) -> None:
    paid = {r["booking_id"]: r["amount_cny"] for r in truth("venue.payment") if r["kind"] == "payment"}
    refunds = [r for r in truth("venue.payment") if r["kind"] == "refund"]
    assert refunds
    known = [
        r for r in refunds if r["booking_id"] in paid
    ]  # what was booked before these systems were connected is not known
    assert len(known) > len(refunds) / 2
    assert all(r["amount_cny"] <= paid[r["booking_id"]] for r in known)


def test_balances_roll_and_hold_what_the_contracts_brought(truth: Any) -> None:
    signed: dict[tuple[str, str], float] = {}
    for r in truth("supervision.prepaid_contract"):
        key = (r["统一社会信用代码"], r["签订日期"])
        signed[key] = signed.get(key, 0.0) + r["合同金额"]
    before: dict[str, float] = {}
    rows = sorted(truth("supervision.prepaid_balance"), key=lambda r: r["余额日期"])
    assert len(rows) > 10
    for r in rows:
        assert r["当日预收"] == signed.get((r["统一社会信用代码"], r["余额日期"]), 0.0)
        assert r["期初余额"] == before.get(r["统一社会信用代码"], r["期初余额"])
        assert r["期末余额"] == round(r["期初余额"] + r["当日预收"] - r["当日兑付"] - r["当日退款"], 2)
        before[r["统一社会信用代码"]] = r["期末余额"]
    assert sum(r["当日预收"] for r in rows) == sum(signed.values()) > 0


@pytest.mark.parametrize(("area", "guards"), [(200, 3), (250, 3), (251, 4), (500, 4), (501, 5), (1_050, 7), (1_250, 7)])
def test_guards_of_a_pool_at_the_boundaries_of_the_standard(area: float, guards: int, city: City) -> None:
    """Test vectors of the domain reference 4.2."""
    from dataclasses import replace

    assert supervision.required_guards(replace(city.units[0], area_m2=float(area))) == guards


WEEKS = 6
RHYTHM = {  # deliveries in the six weeks after generation
    **dict.fromkeys(
        ("venue.payment", "venue.heartbeat", "venue.safety_event", "event.registration", "training.session_log", "training.kinematics",
         "fitness.physique_test", "supervision.duty_roster", "supervision.prepaid_contract", "supervision.prepaid_balance",
         "supervision.complaint", "reference.weather_warning"), 42),
    **dict.fromkeys(
        ("venue.slot", "event.approval", "event.result", "event.assessment", "training.plan", "training.injury", "fitness.elder_home",
         "supervision.licence", "supervision.inspection"), 6),
    **dict.fromkeys(("training.body_test", "training.health_exam", "reference.training_base", "fitness.student_fitness"), 1),
    **dict.fromkeys(("venue.facility", "fitness.instructor"), 2),  # 1 December and 1 January
    "reference.district_code": 1,
    **dict.fromkeys(
        ("training.education_record", "reference.holiday", "reference.population", "reference.official_figure"), 0),
}  # fmt: skip


def test_the_days_after_bring_what_the_rhythm_says(city: City) -> None:
    assert set(RHYTHM) == set(BY_NAME)
    days = [LAST_DATE + timedelta(days=n) for n in range(1, 7 * WEEKS + 1)]
    assert {name: sum(feed.delivers(city, day) for day in days) for name, feed in BY_NAME.items()} == RHYTHM


@pytest.mark.parametrize("feed", [f for f in FEEDS if RHYTHM[f.resource] == 42], ids=lambda feed: feed.resource)
def test_a_daily_source_brings_something_new_on_each_of_the_next_days(feed: Feed, city: City) -> None:
    seen: set[str] = set()
    for number in (1, 2, 3):
        day = LAST_DATE + timedelta(days=number)
        rows = feed.rows(city.at(number), day, feed.before(city, day))
        lines = {json.dumps(row, default=str) for row in rows}
        quiet = feed.resource == "event.registration" or (
            feed.resource == "training.session_log" and day.weekday() == 0
        )
        assert lines or quiet, number  # no session on a Sunday, which Monday would tell of
        assert not lines & seen, "what was told is not told again"
        seen |= lines
    assert seen


def test_a_delivery_does_not_depend_on_how_far_the_city_has_moved(city: City) -> None:
    """What came on one day is the same, asked for on that day or later: the past is not written again."""
    day = LAST_DATE + timedelta(days=2)
    for feed in FEEDS:
        if feed.delivers(city, day):
            assert feed.rows(city.at(2), day, feed.before(city, day)) == feed.rows(
                city.at(3), day, feed.before(city, day)
            ), feed.resource


@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.resource)
def test_the_same_rows_are_the_same_bytes(feed: Feed, truth: Any) -> None:
    if feed.form.kind == "api":
        return
    rows = truth(feed.resource)[:20]
    data = encode(feed.form, feed.columns, rows, date(2026, 11, 20))
    assert data == encode(feed.form, feed.columns, rows, date(2026, 11, 20))
    if feed.form.kind == "csv":
        header, *lines = data.decode(feed.form.encoding).splitlines()
        assert header == ",".join(feed.columns)
        assert len(lines) == len(rows)
