"""Code lists, rules table and KPI definitions: contents that others rely on, and what is refused."""

from __future__ import annotations

from datetime import date

import duckdb
import pytest

from catalog import kpis, rules_table, units, vocabularies
from catalog.problems import DeclarationError
from lake.errors import TiyuError


def test_districts_are_the_sixteen_with_the_census_sum():
    rows = vocabularies.load("district")
    assert len(rows) == 16
    assert sum(r["population_count"] for r in rows) == 24_870_895
    assert sum(r["street_count"] for r in rows) == 215
    assert {r["code"] for r in rows} >= {"310101", "310115", "310151"}


def test_sport_codes_cover_the_interface():
    assert vocabularies.codes("sport") == [
        "badminton",
        "basketball",
        "football",
        "swimming",
        "table_tennis",
        "tennis",
        "volleyball",
        "fitness",
        "climbing",
        "athletics",
        "running",
        "cycling",
        "martial_arts",
        "dance",
        "other",
    ]


def test_mapping_in_sql_equals_mapping_in_python():
    """Every spelling of every list, through DuckDB; unknown spellings stay visible and NULL stays NULL."""
    examined = 0
    with duckdb.connect() as con:
        for name in vocabularies.names():
            expected = vocabularies.mapping(name)
            sql = vocabularies.map_sql(name, "x")
            query = f"SELECT x, {sql} FROM (SELECT unnest(?) AS x)"
            assert dict(con.execute(query, [list(expected)]).fetchall()) == expected
            assert con.execute(query, [[" no such code ", None]]).fetchall() == [
                (" no such code ", "no such code"),
                (None, None),
            ]
            examined += len(expected)
    assert examined > 300


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("sport", "羽毛球", "badminton"),
        ("sport", "Biking", "cycling"),
        ("yes_no", "是", "true"),
        ("unit_type", "泳池", "pool"),
        ("organizer_type", "体育部门", "sports_department"),
        ("event_status", "已举办", "held"),
        ("channel", "一网通办", "ywtb"),
    ],
)
def test_source_spellings(name, text, code):
    assert vocabularies.mapping(name)[text.lower()] == code


def test_unknown_list():
    with pytest.raises(TiyuError, match="TIYU-CAT-0004"):
        vocabularies.load("no_such_list")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"title": "t", "values": []}, "no values"),
        ({"title": "t"}, "keys must be"),
        ({"title": "t", "value": [], "values": []}, "keys must be"),
        ({"title": "t", "values": [{"code": "a"}]}, "code (text) and name"),
        ({"title": "t", "values": [{"code": True, "name": "是"}]}, "code (text) and name"),
        ({"title": "t", "values": [{"code": "a", "name": "甲"}, {"code": "b", "name": "甲"}]}, "already stands for"),
        (
            {"title": "t", "values": [{"code": "a", "name": "甲"}, {"code": "b", "name": "乙", "spelings": []}]},
            "unknown keys",
        ),
    ],
)
def test_faulty_vocabulary(content, expected):
    assert expected in " ".join(vocabularies.check_vocabulary(content))


def test_units():
    assert units.is_known("m2")
    assert units.is_known("℃")
    assert not units.is_known("furlong")


# ------------------------------------------------------------------ rules table
ROW = {
    "rule_id": "a.b",
    "subject": "a",
    "item": "b",
    "standard": "GB 1",
    "clause": "1",
    "value_min": 1,
    "unit": "m",
    "effective_from": "2020-01-01",
    "provenance": "V2 [S1]",
    "is_law": True,
    "note_zh": "说明",
}


@pytest.mark.parametrize(
    ("item", "low", "high"),
    [
        ("free_chlorine", 0.3, 1.0),
        ("ph", 7.0, 7.8),
        ("turbidity", None, 1.0),
        ("water_temp", 23, 30),
        ("orp", 650, None),
    ],
)
def test_pool_water_limits_of_gb37488(item, low, high):
    row = rules_table.get(f"water.{item}", date(2026, 11, 20))
    assert (row.value_min, row.value_max, row.standard) == (low, high, "GB 37488-2019")
    assert row.is_law is (item in {"free_chlorine", "ph", "turbidity"})


def test_a_rule_is_not_in_force_before_its_date():
    assert rules_table.get("water.ph", date(2019, 11, 1)).rule_id == "water.ph"
    with pytest.raises(KeyError):
        rules_table.get("water.ph", date(2019, 10, 31))


def test_design_and_memory_are_never_law():
    rows = rules_table.load_all()
    assert len(rows) >= 23
    weak = [r for r in rows if "DESIGN" in r.provenance or "K-" in r.provenance]
    assert len(weak) >= 15
    assert not any(r.is_law for r in weak)
    assert {"booking.cancel_lead", "event.filing_lead", "disclosure.k_open", "AL-03", "AL-10", "AL-19", "QG-01"} <= {
        r.rule_id for r in rows
    }


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"provenance": "DESIGN"}, "must not be marked as law"),
        ({"provenance": "K-H"}, "must not be marked as law"),
        ({"provenance": "V2 [S1], value K-M"}, "must not be marked as law"),
        ({"provenance": "我听说"}, "must not be marked as law"),
        ({"provenance": "somewhere", "is_law": False}, "provenance must begin"),
        ({"clause": None}, "needs standard and clause"),
        ({"unit": None}, "a value needs a unit"),
        ({"unit": "furlong"}, "unknown unit"),
        ({"value_max": 0.5}, "value_min is above"),
        ({"effective_to": "2019-01-01"}, "effective_to is before"),
        ({"note": "typo"}, "Extra inputs"),
    ],
)
def test_faulty_rule_row(change, expected):
    _, problems = rules_table.check_rows({"rules": [{**ROW, **change}]}, "t")
    assert expected in " ".join(problems)


def test_good_rule_row_and_empty_file():
    assert rules_table.check_rows({"rules": [ROW]}, "t")[1] == []
    assert rules_table.check_rows({"rules": []}, "t")[1]


def test_two_rules_for_one_thing_at_one_time(tmp_path):
    line = '  - {{rule_id: {0}, subject: a, item: b, effective_from: "{1}", provenance: DESIGN, is_law: false, note_zh: 说明{2}}}\n'
    first = line.format("r1", "2020-01-01", ', effective_to: "2021-12-31"')
    file = tmp_path / "x.yaml"
    file.write_text("rules:\n" + first + line.format("r2", "2022-01-01", ""), encoding="utf-8")
    assert len(rules_table.load_all(tmp_path)) == 2
    file.write_text("rules:\n" + first + line.format("r2", "2021-12-31", ""), encoding="utf-8")
    with pytest.raises(DeclarationError, match="TIYU-CAT-0008"):
        rules_table.load_all(tmp_path)


# ------------------------------------------------------------------ KPIs
def test_kpis_of_the_cockpit():
    found = kpis.load_all()
    assert set(found) >= {"V-04", "V-05", "V-06", "V-07", "E-01", "E-03", "F-01", "R-03", "D-02", "D-06"}
    assert [v.code for v in found["E-01"].rows()] == ["platform", "department", "assessed"]
    assert [v.code for v in found["V-06"].rows()] == ["entries", "peak"]
    assert [v.code for v in found["V-04"].rows()] == [""]


def test_event_target_belongs_to_one_population_and_ends_with_the_plan():
    targets = {v.code: v.target for v in kpis.load_all()["E-01"].rows()}
    assert targets["department"] is None
    assert targets["assessed"] is None
    assert (targets["platform"].value, targets["platform"].end_date) == (3000, date(2025, 12, 31))
    assert targets["platform"].scalable


def test_a_published_figure_stands_beside_one_population_only(tmp_path):
    file = kpis.FOLDER / "E-01.yaml"
    text = file.read_text("utf-8")
    (tmp_path / file.name).write_text(text, "utf-8")
    assert set(kpis.load_all(tmp_path)) == {"E-01"}
    twice = text.replace("published: assessed_events", "published: department_events")
    assert twice != text
    (tmp_path / file.name).write_text(twice, "utf-8")
    with pytest.raises(DeclarationError) as raised:
        kpis.load_all(tmp_path)
    assert raised.value.problems == ["published department_events: named by more than one variant"]


def test_faulty_kpis():
    good = kpis.load_all()["V-04"].model_dump()
    assert kpis.check_kpi(good, "V-04.yaml")[1] == []
    for change, expected in [
        ({"unit": "furlong"}, "unknown unit"),
        ({"definitions": "typo"}, "Extra inputs"),
        ({"numerator": None}, "numerator is missing"),
        ({"sources": []}, "at least 1 item"),
        ({"code": "V4"}, "should match pattern"),
    ]:
        _, problems = kpis.check_kpi({**good, **change}, "V-04.yaml")
        assert expected in " ".join(problems), change
    assert kpis.check_kpi(good, "V-99.yaml")[1]
