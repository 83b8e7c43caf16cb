"""Contracts: what is refused and why, and what the sources promise to the rest of the platform."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from catalog import contracts, schemas, types
from catalog.problems import DeclarationError
from lake.errors import TiyuError

BOOKING = contracts.FOLDER / "sources" / "venue" / "booking.odcs.yaml"
TEXT = BOOKING.read_text(encoding="utf-8")


def problems_of(text: str, path: Path = BOOKING) -> str:
    with pytest.raises(DeclarationError, match="TIYU-CAT-0001") as caught:
        contracts.read_contract(path, text=text)
    return "\n".join(caught.value.problems)


def test_the_unchanged_file_is_accepted():
    assert contracts.read_contract(BOOKING, text=TEXT).id == "venue.booking"


REFUSED = {
    "key unknown to ODCS at the root": ("status: active", "status: active\nstatuss: active", "statuss"),
    "typo in a nested ODCS object": ("  usage: ", "  ussage: ", "ussage"),
    "typo in a team": ("team:\n  name:", "team:\n  naem:", "naem"),
    "typo in a tiyu root property": ("retention:", "retension:", "retension"),
    "typo deep in a tiyu object": ("expectedDays: 30", "expectedDay: 30", "expectedDay"),
    "typo in a row rule": ("messageZh: \"金额必须大于等于 0\"", "message: \"金额必须大于等于 0\"", "messageZh"),
    "unknown rule kind": ("kind: compare", "kind: compares", "compares"),
    "column without a grade": ("        classification: L2\n", "", "not graded"),
    "grade that does not exist": ("classification: L2", "classification: L5", "not graded"),
    "column without a description": ("        description: \"预订应付金额\"\n", "", "description: missing"),
    "unknown code list": ("codeList: booking_status", "codeList: booking_state", "unknown code list booking_state"),
    "unknown unit": ("unit: CNY", "unit: CNYY", "unknown unit CNYY"),
    "unknown type": ("physicalType: \"DECIMAL(12,2)\"", "physicalType: MONEY", "unknown type MONEY"),
    "identifier below L3": (
        "classification: L3\n        customProperties: [{property: tiyu, value: {piMark: P, identifierKind: phone",
        "classification: L2\n        customProperties: [{property: tiyu, value: {piMark: P, identifierKind: phone",
        "L3 or higher",
    ),
    "identifier without a personal mark": (
        "{piMark: P, identifierKind: phone}",
        "{piMark: N, identifierKind: phone}",
        "needs piMark",
    ),
    "identifier that is neither token nor masked": ("name: person_phone_token", "name: person_phone", "token"),
    "rule over a column that does not exist": ("column: amount_cny", "column: amount", "unknown columns"),
    "a date without quotes": ("status: active\n", "status: 2026-01-01\n", "contract.status: 2026-01-01 is read as a date; put it"),
    "a number as a key": ("status: active\n", "status: active\n1: x\n", "contract.1: a key must be text"),
    "duplicate YAML key": ("status: active\n", "status: active\nstatus: draft\n", "written twice"),
    "dedup over a column that does not exist": ("dedup: [booking_id, updated_at]", "dedup: [id]", "column id"),
    "partDate over a text column": ("partDate: slot_start_at", "partDate: booking_id", "partDate column"),
    "no custom property": (
        "customProperties: [{property: tiyu, value: {piMark: P, unit: CNY}}]",
        "customProperties: []",
        "exactly one custom property",
    ),
    "second custom property beside tiyu": (
        "customProperties: [{property: tiyu, value: {piMark: P, unit: CNY}}]",
        "customProperties: [{property: tiyu, value: {piMark: P, unit: CNY}}, {property: tyui, value: {mask: name}}]",
        "exactly one custom property",
    ),
    "unknown connector": ("connector: {kind: rest,", "connector: {kind: rets,", "rets"),
    "unknown connector option": ("cursorParam: cursor", "cursorParm: cursor", "cursorParm"),
    "conditional sharing without a condition": ("condition: ", "basis: ", "needs condition"),
    "wrong version of the standard": ("apiVersion: v3.2.0", "apiVersion: v3.1.0", "apiVersion"),
    "id that does not match the file": ("id: venue.booking", "id: venue.bookings", "file must be"),
    "technical column name": ("name: amount_cny", "name: _batch_id", "not allowed"),
    "rule id used twice": ("column: amount_cny\n              min: 0", "column: amount_cny\n              id: slot.length\n              min: 0", "used twice"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_faulty_contract_is_refused(case):
    before, after, expected = REFUSED[case]
    assert before in TEXT, "the case no longer matches the file"
    assert expected in problems_of(TEXT.replace(before, after, 1))


def test_all_problems_are_listed_at_once():
    text = TEXT.replace("classification: L2", "classification: L9", 1).replace("unit: CNY", "unit: X", 1)
    text = text.replace("codeList: channel", "codeList: nope", 1)
    assert len(problems_of(text).splitlines()) >= 2


def test_load_all_and_unknown_id():
    assert set(contracts.load_all("source")) == {
        "venue.booking", "venue.entry", "venue.facility", "venue.flow_count", "venue.heartbeat", "venue.payment", "venue.register", "venue.safety_event", "venue.slot",
        "event.approval", "event.assessment", "event.filing", "event.registration", "event.result",
        "training.activity", "training.athlete", "training.body_test", "training.education_record", "training.health_exam", "training.injury", "training.kinematics", "training.plan", "training.session_log",
        "fitness.checkin", "fitness.elder_home", "fitness.instructor", "fitness.physique_test", "fitness.student_fitness",
        "supervision.complaint", "supervision.duty_roster", "supervision.inspection", "supervision.licence", "supervision.prepaid_balance", "supervision.prepaid_contract", "supervision.water_reading",
        "reference.district_code", "reference.holiday", "reference.official_figure", "reference.population", "reference.training_base", "reference.weather_warning",
    }  # fmt: skip
    assert {c.output.table for c in contracts.load_all("exchange").values()} == {
        "ads_exchange__venue_register",
        "ads_exchange__water_reading",
    }
    assert {c.output.table for c in contracts.load_all("open").values()} == {
        "ads_open__venue_directory",
        "ads_open__daily_visit",
    }
    with pytest.raises(TiyuError, match="TIYU-CAT-0002"):
        contracts.load("venue.nothing")


def test_a_new_file_is_seen_without_restart(tmp_path):
    folder = tmp_path / "sources" / "venue"
    folder.mkdir(parents=True)
    assert contracts.load_all(folder=tmp_path) == {}
    (folder / "booking.odcs.yaml").write_text(TEXT, encoding="utf-8")
    assert list(contracts.load_all(folder=tmp_path)) == ["venue.booking"]


@pytest.mark.parametrize(
    ("contract_id", "tables", "part_date", "dedup"),
    [
        ("venue.register", ["ods_venue__register"], "register_date", ["register_date", "unit_id"]),
        ("venue.booking", ["ods_venue__booking"], "slot_start_at", ["booking_id", "updated_at"]),
        ("venue.entry", ["ods_venue__entry"], "passed_at", ["device_id", "seq_no"]),
        ("event.filing", ["ods_event__filing"], "start_date", ["filing_id", "updated_at"]),
        (
            "training.activity",
            [
                "ods_training__activity",
                "ods_training__activity_session",
                "ods_training__activity_lap",
                "ods_training__activity_sample",
                "ods_training__swim_length",
                "ods_training__rr_interval",
                "ods_training__developer_value",
                "ods_training__device_wellness",
            ],
            "local_date",
            ["activity_id"],
        ),
        (
            "training.athlete",
            ["ods_training__athlete"],
            "roster_date",
            ["roster_date", "athlete_token", "squad_code", "joined_date"],
        ),
        ("fitness.checkin", ["ods_fitness__checkin"], "scanned_at", ["checkin_id"]),
        (
            "supervision.water_reading",
            ["ods_supervision__water_reading"],
            "sampled_at",
            ["pool_id", "item", "sampled_at"],
        ),
    ],
)
def test_source_tables_dates_and_keys(contract_id, tables, part_date, dedup):
    contract = contracts.load(contract_id)
    assert [o.table for o in contract.objects] == tables
    assert contract.root.part_date == part_date
    assert contract.root.dedup == dedup
    assert [o.table for o in contract.roots] == [
        tables[0],
        *(["ods_training__device_wellness"] if len(tables) > 1 else []),
    ]
    for child in contract.objects[1:]:
        if not child.is_root:
            assert (child.parent, child.parent_key, child.part_date) == (tables[0], ["activity_id"], None)


def test_no_raw_identifier_is_a_stored_column():
    stored = {(p.identifier_kind, p.protection, p.grade, p.name) for c in contracts.load_all("source").values()
              for o in c.objects for p in o.properties if p.identifier_kind}  # fmt: skip
    assert {(kind, protection) for kind, protection, _, _ in stored} == {
        ("phone", "token"),
        ("id_no", "token"),
        ("athlete_no", "token"),
        ("name", "mask"),
        ("uscc", None),
    }
    assert all(grade == "L3" for _, protection, grade, _ in stored if protection)


def test_raw_names():
    checkin = contracts.load("fitness.checkin").root
    assert checkin.by_name["person_token"].raw_name == "raw__id_no"
    assert checkin.by_name["phone_token"].raw_name == "raw__phone"
    assert contracts.load("venue.register").root.by_name["operator_uscc"].raw_name == "operator_uscc"


def test_ods_schema_has_declared_then_technical_columns():
    obj = contracts.load("venue.booking").root
    schema = schemas.ods_schema(obj)
    assert schema.names[: len(obj.properties)] == [p.name for p in obj.properties]
    assert schema.names[-5:] == ["_batch_id", "_record_no", "_source_object", "_ingested_at", "part_date"]
    assert schema.field("amount_cny").type == pa.decimal128(12, 2)
    assert schema.field("slot_start_at").type == pa.timestamp("us", tz="UTC")
    assert schema.field("_record_no").type == pa.int64()
    assert schema.field("part_date").type == pa.date32()


@pytest.mark.parametrize("text", ["MONEY", "varchar", "DECIMAL(39,2)", "DECIMAL(2,5)", "TIMESTAMP", ""])
def test_types_outside_the_list_are_refused(text):
    assert not types.is_known(text)
    with pytest.raises(ValueError, match="not allowed"):
        types.arrow_type(text)


def test_published_json_schema_is_current():
    published = json.loads((contracts.FOLDER / "tiyu.schema.json").read_text(encoding="utf-8"))
    assert published == contracts.tiyu_json_schema(), "run `tiyu catalog schema`"
    assert published["$defs"]["TiyuProperty"]["additionalProperties"] is False


def test_published_json_schema_judges_like_the_models():
    from jsonschema import Draft202012Validator

    schema = contracts.tiyu_json_schema()
    validator = Draft202012Validator(schema)
    raw = contracts.load("venue.booking").raw
    root = raw["customProperties"][0]["value"]
    assert validator.is_valid({"root": root})
    assert not validator.is_valid({"root": {**root, "retension": "x"}})
