"""Grades as the lake stands: persons, minors and tracks counted, decisions recorded once, content looked at."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from catalog import rules_table
from lake import ledger, tables
from quality import grades

pytestmark = pytest.mark.integration

CHECKIN, RESOURCE = "ods_fitness__checkin", "fitness.checkin"
DAY = date(2026, 11, 18)


def checkins(lake, batch: str, persons: list[str], *, minors: int = 0, unit: str = "V310101-001-U01") -> None:
    start = datetime(2026, 11, 18, 1, tzinfo=UTC)
    rows = [
        {
            "checkin_id": f"{batch}-{n}",
            "venue_id": "V310101-001",
            "unit_id": unit,
            "sport_code": "swimming",
            "scanned_at": start + timedelta(minutes=n),
            "person_token": person,
            "is_minor": n < minors,
            "updated_at": start,
        }
        for n, person in enumerate(persons)
    ]
    lake.batch(RESOURCE, batch, {CHECKIN: (rows, [DAY] * len(rows))})
    ledger.set_checked_version(CHECKIN, tables.version(CHECKIN), batch)


def newest(subject: str) -> dict:
    return ledger.grade_decisions(subject)[-1]


def test_adults_seen_once_leave_the_table_at_its_highest_field_and_growth_raises_it(lake):
    checkins(lake, "b1", ["p1", "p2"])
    report = grades.run()
    assert report.ok
    assert report.examined["persons"] == 2
    assert report.examined["fields"] == len([d for d in report.decisions if d["scope"] == "field"])
    assert (newest(CHECKIN)["level"], newest(CHECKIN)["rules"], newest(CHECKIN)["previous_level"]) == ("L3", "field.highest", None)  # fmt: skip

    assert grades.run().decisions == [], "nothing changed, nothing to record"

    checkins(lake, "b2", ["p1", "p3"])
    report = grades.run()
    assert CHECKIN in report.raised
    assert RESOURCE in report.raised
    decided = newest(CHECKIN)
    assert (decided["level"], decided["mark"], decided["previous_level"], decided["person_count"]) == (
        "L4",
        "S",
        "L3",
        3,
    )
    assert decided["rules"] == "field.highest,grading.track.rows_per_person"
    assert "1 人" in decided["evidence"]
    assert decided["author"].startswith("平台分级规则")
    assert newest(RESOURCE)["level"] == "L4"


def test_one_minor_is_enough(lake):
    checkins(lake, "b1", ["p1", "p2"], minors=1)
    grades.run()
    assert newest(CHECKIN)["rules"] == "field.highest,grading.minors.any"
    assert newest(CHECKIN)["level"] == "L4"


def test_many_persons_raise_and_nearly_ten_million_warn(lake, monkeypatch):
    real = rules_table.get

    def small(rule_id, on=None):
        scale = {
            "grading.persons.protection_officer": 4,
            "grading.persons.important_watch": 5,
            "grading.persons.important": 9,
        }
        row = real(rule_id, on)
        return row.model_copy(update={"value_min": scale[rule_id]}) if rule_id in scale else row

    monkeypatch.setattr(rules_table, "get", small)
    checkins(lake, "b1", ["p1", "p2", "p3"])
    grades.run()
    assert newest(CHECKIN)["level"] == "L3"
    checkins(lake, "b2", ["p4", "p5"])
    grades.run()
    assert newest(CHECKIN)["rules"] == "field.highest,grading.persons.protection_officer"
    assert any(a["rule_code"] == grades.WATCH_RULE and a["subject_id"] == CHECKIN for a in ledger.alerts("open"))


def test_content_that_is_graded_too_low_opens_an_alert_and_closes_it(lake):
    checkins(lake, "b1", ["p1", "p2"], unit="19977665544")
    report = grades.run(scan=True)
    assert [row["column"] for row in report.low] == [f"{CHECKIN}.unit_id"]
    assert not report.ok
    assert "2 个非空值中 2 个" in report.low[0]["evidence"]
    assert "19977665544" not in str(report.to_dict())
    assert any(a["rule_code"] == grades.ALERT_RULE for a in ledger.alerts("open"))
    tables.replace_table(CHECKIN, _empty())
    ledger.set_checked_version(CHECKIN, tables.version(CHECKIN), "empty")
    assert grades.run(scan=True).low == []
    assert not any(a["rule_code"] == grades.ALERT_RULE for a in ledger.alerts("open"))


def _empty():
    from catalog import contracts, schemas

    return schemas.ods_schema(contracts.load(RESOURCE).root).empty_table()
