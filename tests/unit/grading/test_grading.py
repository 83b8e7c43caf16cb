"""From item to field, table and resource level: each rule raised, each threshold at its boundary, each defect found."""

from __future__ import annotations

import datetime as dt
import shutil

import pytest
import yaml

from catalog import check, columns, contracts
from catalog.checks import grading as grading_check
from catalog.checks.base import Context, execute
from catalog.columns import ColumnRow
from catalog.detectors.content import Finding
from catalog.grading import classify, declarations, fields
from catalog.grading import tables as table_rules
from catalog.grading.tables import Facts
from catalog.problems import DeclarationError

ON = dt.date(2026, 11, 20)


def row(column: str, grade: str | None = "L1", mark: str | None = "N", **values) -> ColumnRow:
    empty = {
        "title_zh": None,
        "description": "x",
        "unit": None,
        "identifier_kind": None,
        "origin": "t",
        "type": "VARCHAR",
    }
    return {"table": "dwd_x__y", "column": column, "grade": grade, "pi_mark": mark, **empty, **values}  # type: ignore[typeddict-item]


def low(*rows: ColumnRow, content=None) -> dict[str, str]:
    suggestions = fields.suggest(list(rows), content)
    return {d.suggestion.column: d.suggestion.level for d in fields.disagreements(list(rows), suggestions, ON) if not d.accepted}  # fmt: skip


@pytest.mark.parametrize(
    ("column", "level"), [("id_card_no", "L4"), ("mobile_no", "L4"), ("full_name", "L3"), ("home_address", "L3"), ("avg_hr_bpm", "L4")]
)  # fmt: skip
def test_a_raw_item_declared_low_is_found(column, level):
    assert low(row(column)) == {column: level}
    assert low(row(column, level, "S")) == {}
    assert low(row(column, level, "N")) == {column: level}, "the level alone is not enough: the mark is missing"
    assert low(row(column, None, None)) == {column: level}


def test_a_token_weighs_one_step_less_and_no_more():
    assert low(row("phone_token", "L3", "P")) == {}
    assert low(row("phone_token", "L2", "P")) == {"phone_token": "L3"}


def test_a_place_is_personal_only_beside_a_person():
    assert low(row("lng")) == {}
    assert low(row("lng"), row("person_token", "L3", "P")) == {"lng": "L4"}
    assert low(row("lng"), row("contact_phone_token", "L3", "P")) == {}, "a venue's contact does not make it a person"


def test_a_count_of_items_is_no_item():
    assert low(row("phone_count"), row("has_position"), row("heart_rate_share")) == {}


def test_content_speaks_where_the_name_does_not():
    hit = Finding("note", "id_no", 100, 3, 0)
    assert low(row("note"), content={("dwd_x__y", "note"): [hit]}) == {"note": "L4"}


def test_an_override_counts_until_it_expires_and_not_below_its_level(monkeypatch):
    made = declarations.Override(column="dwd_x__y.full_name", item="person_name", level="L2", reason="公开的裁判员姓名", approver="某处", approved="2026-01-01", expires="2027-01-01")  # fmt: skip
    monkeypatch.setattr(declarations, "overrides", lambda: (made,))
    assert low(row("full_name", "L2", "P")) == {}
    assert low(row("full_name", "L1", "P")) == {"full_name": "L3"}
    monkeypatch.setattr(declarations, "overrides", lambda: (made.model_copy(update={"expires": ON}),))
    assert low(row("full_name", "L2", "P")) == {"full_name": "L3"}


@pytest.mark.parametrize("missing", ["reason", "approver", "expires"])
def test_an_override_needs_a_reason_an_approver_and_an_end(tmp_path, missing):
    entry = {"column": "a.b", "item": "phone", "level": "L2", "reason": "理由理由理由", "approver": "某处", "approved": "2026-01-01", "expires": "2027-01-01"}  # fmt: skip
    del entry[missing]
    (tmp_path / "overrides.yaml").write_text(yaml.safe_dump({"overrides": [entry]}), "utf-8")
    with pytest.raises(DeclarationError, match="TIYU-GRD-0002"):
        declarations.overrides(tmp_path)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda d: d["levels"].update(extreme="L1"), "higher degree"),
        (lambda d: d["decision_table"].pop("person"), "six objects"),
        (lambda d: d["decision_table"]["person"].pop("none"), "must say all"),
        (lambda d: d["items"].append(d["items"][0]), "twice"),
        (lambda d: d["items"][0].update(degre="none"), "Extra inputs"),
    ],
)
def test_a_wrong_declaration_is_refused(tmp_path, change, word):
    content = yaml.safe_load((declarations.FOLDER / "grading.yaml").read_text("utf-8"))
    change(content)
    (tmp_path / "grading.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), "utf-8")
    with pytest.raises(DeclarationError, match=word):
        declarations.load(tmp_path)


def test_decision_table_of_gbt_43697():
    table = declarations.load().decision_table
    assert [table["national_security"][d] for d in ("extreme", "serious", "general")] == ["core", "core", "important"]
    for subject in ("economy", "social_order", "public_interest"):
        assert [table[subject][d] for d in ("extreme", "serious", "general")] == ["core", "important", "general"]
    for subject in ("organisation", "person"):
        assert {table[subject][d] for d in ("extreme", "serious", "general")} == {"general"}


PERSON = [row("person_token", "L3", "P"), row("venue_id"), row("passed_at", "L3", "P", type="TIMESTAMPTZ"), row("is_minor", "L3", "P")]  # fmt: skip


def level(**counts) -> str:
    return table_rules.decide("dwd_x__y", PERSON, Facts("dwd_x__y", 1, counts.pop("rows", 1), **counts)).level


def test_a_table_is_its_highest_field_when_nothing_raises_it():
    assert table_rules.decide("t", [row("a", "L1"), row("b", "L2")], None).level == "L2"
    assert table_rules.decide("t", [row("a", "L1"), row("b", None)], None).level == "L4", "ungraded counts as L4"
    with pytest.raises(ValueError, match="no described column"):
        table_rules.decide("t", [], None)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"persons": 10}, "L3"),
        ({"persons": 10, "minors": 1}, "L4"),
        ({"persons": 10, "tracked": 1}, "L4"),
        ({"persons": 99_999}, "L3"),
        ({"persons": 100_000}, "L4"),
        ({"persons": 9_999_999}, "L4"),
    ],
)
def test_what_rows_add_up_to_raises_the_table(counts, expected):
    assert level(**counts) == expected


def test_towards_ten_million_persons_a_watch_and_then_a_duty():
    def decide(persons: int):
        return table_rules.decide("dwd_x__y", PERSON, Facts("dwd_x__y", 1, 1, persons=persons))

    assert [w.rule for w in decide(7_999_999).warnings] == []
    assert [w.rule for w in decide(8_000_000).warnings] == ["grading.persons.important_watch"]
    assert "grading.persons.important" not in {r.rule for r in decide(9_999_999).raises}
    assert "grading.persons.important" in {r.rule for r in decide(10_000_000).raises}


def test_many_person_rows_are_at_least_l3():
    assert table_rules.decide("t", [row("person_token", "L2", "P")], Facts("t", 1, 10_000_000, persons=5)).level == "L3"


def test_the_check_passes_on_the_project_and_counts():
    found = execute(grading_check.CHECK, Context())
    assert found.problems == []
    assert found.examined["graded_columns"] > 600
    assert found.examined["grade_suggestions"] > 30


def test_a_contract_column_declared_low_fails_the_catalogue_check(tmp_path):
    folder = tmp_path / "contracts"
    shutil.copytree(contracts.FOLDER, folder)
    path = folder / "sources" / "event" / "filing.odcs.yaml"
    text = path.read_text("utf-8")
    assert text.count("name: place_name\n") == 1
    path.write_text(text.replace("name: place_name\n", "name: home_address\n"), "utf-8")
    report = check.run(folder=folder, only=["grading"])
    assert [(p.code, p.where) for p in report.problems] == [("grade_low", "ods_event__filing.home_address")]


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ({"column": "ods_no__table.x", "expires": "2099-01-01"}, "override_dead"),
        ({"column": "ods_event__filing.place_name", "expires": "2099-01-01"}, "override_unused"),
        ({"column": "ods_event__filing.place_name", "expires": "2026-01-02"}, "override_expired"),
    ],
)
def test_exceptions_are_checked_themselves(monkeypatch, entry, code):
    made = declarations.Override(
        item="phone", level="L1", reason="理由理由理由", approver="某处", approved="2026-01-01", **entry
    )
    monkeypatch.setattr(declarations, "overrides", lambda: (made,))
    problems = {p.code for p in execute(grading_check.CHECK, Context()).problems}
    assert code in problems


def test_fifteen_labels_for_every_resource():
    examined = 0
    for contract in contracts.load_all().values():
        labels = classify.labels(contract)
        assert len(labels) == 15
        assert all(labels.values())
        examined += 1
    assert examined >= 11


def test_the_level_of_every_column_is_explained_by_its_declaration():
    rows = columns.describe_all()
    assert {s.level for s in fields.suggest(rows)} <= {"L1", "L2", "L3", "L4"}
