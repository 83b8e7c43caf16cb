"""What a name and what values say; every kind is shown found and, in a form one digit off, not found."""

from __future__ import annotations

import duckdb
import pytest

from catalog.contracts import load_all
from catalog.detectors import content, names
from catalog.grading import declarations


def id_no(seventeen: str) -> str:
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return seventeen + "10X98765432"[sum(int(a) * w for a, w in zip(seventeen, weights, strict=True)) % 11]


ID = id_no("99010119900307123")  # 990101 is no region


@pytest.fixture
def con():
    connection = duckdb.connect()
    yield connection
    connection.close()


def found(con, *values: str) -> dict[str, tuple[int, int]]:
    con.execute("create or replace table t (v varchar)")
    con.executemany("insert into t values (?)", [[value] for value in values])
    return {hit.kind: (hit.hits, hit.whole) for hit in content.scan(con, "t", ["v"])}


@pytest.mark.parametrize(
    ("text", "kind", "whole"),
    [
        (ID, "id_no", 1),
        (f"备注：本人{ID}，请核对", "id_no", 0),
        (f"{ID[:6]} {ID[6:14]} {ID[14:]}", "id_no", 1),
        ("".join(chr(ord(c) + 0xFEE0) for c in ID), "id_no", 1),
        (ID.lower(), "id_no", 1),
        ("990101900307123".replace("99", "31", 1), "id_no_15", 1),
        ("19977665544", "phone", 1),
        ("请打+86 199-7766-5544", "phone", 0),
        ("4111 1111 1111 1111", "bank_card", 1),
        ("91350100M000100Y43", "uscc", 1),
        ("someone@example.org", "email", 1),
        ("某某路100弄5号301室", "home_address", 1),
        ("徐汇区某某北路1111号", "address", 1),
        ("121.473701,31.230416", "coordinate", 1),
        ("北纬31.230416 121.473701", "coordinate", 1),
        ("出生日期：1990-03-07", "birth_date", 1),
        ("王小明", "person_name", 1),
    ],
)
def test_each_kind_is_found(con, text, kind, whole):
    assert found(con, text) == {kind: (1, whole)}


@pytest.mark.parametrize(
    "text",
    [
        ID[:-1] + ("1" if ID[-1] != "1" else "2"),  # check character off by one
        id_no("99010119901307123"),  # month 13
        id_no("99010121900307123"),  # not born yet
        "1997766554",  # ten digits
        "91997766554412",  # digits around it
        "4111111111111112",  # Luhn
        "91350100M000100Y44",  # check character
        "20261120143000",
        "1763600000000",
        "V310112-001-U01",
        "b_0f3a91b2c4d5e6f7a8b9c0d1e2f30142",
        "121.47,31.23",  # a block of houses, not a point
        "徐汇区",
        "2026-11-20",
        "半程马拉松",
    ],
)
def test_what_is_none_is_not_found(con, text):
    assert found(con, text) == {}


def test_a_kind_without_check_character_needs_most_values(con):
    assert found(con, "310101900307123", *["订单完成"] * 3) == {}
    assert found(con, "王小明", "游泳馆", "篮球馆") == {}


def test_counts_are_of_values_and_objects_are_named(con):
    con.execute("create table r (v varchar, _source_object varchar, _record_no bigint)")
    con.executemany("insert into r values (?, ?, ?)", [[ID, "a", 4], ["x", "a", 5], [f"x{ID}", "b", 2], [ID, "b", 9], [None, "b", 10]])  # fmt: skip
    (hit,) = content.scan(con, "r", ["v"])
    assert (hit.examined, hit.hits, hit.share) == (4, 3, 0.75)
    assert content.objects_with(con, "r", "v", "id_no") == {"a": (1, 4), "b": (2, 2)}


def test_numbers(con):
    con.execute("create table n as select 19977665544 + i as p, 121.400013 + i / 1000.0 as x, 60 + i as hr from range(50) r(i)")  # fmt: skip
    hits = {hit.column: hit.kind for hit in content.scan_numbers(con, "n", ["p", "x", "hr"])}
    assert hits == {"p": "phone", "x": "coordinate"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("idCardNo", "id_no"), ("ID_NO", "id_no"), ("身份证号码", "id_no"), ("sfzhm", "id_no"), ("certNo", "id_no"),
        ("contactPhone", "phone"), ("phonenumber", "phone"), ("联系电话", "phone"), ("lxdh", "phone"),
        ("bankAccountNo", "bank_card"), ("银行卡号", "bank_card"), ("operator_uscc", "uscc"), ("contact_name", "person_name"),
        ("姓名", "person_name"), ("homeAddress", "home_address"), ("家庭住址", "home_address"), ("longitude", "coordinate"),
        ("纬度", "coordinate"), ("dateOfBirth", "birth_date"), ("出生日期", "birth_date"), ("年龄", "birth_year"),
        ("maxHR_bpm", "heart_rate"), ("静息心率", "heart_rate"), ("faceTemplate", "biometric"), ("病史", "health"),
    ],
)  # fmt: skip
def test_names_that_speak(name, kind):
    assert [hit.kind for hit in names.detect(name)] == [kind]


@pytest.mark.parametrize(
    "name",
    ["venue_name", "id_type", "证件类型", "ip_address", "age_band", "平均年龄", "crs", "坐标系", "has_position", "checkin_id",
     "amount_cny", "latency_s", "message", "percentage", "image_url", "sub_sport", "planned_visit_count", "手机型号"],
)  # fmt: skip
def test_names_that_say_nothing(name):
    assert names.detect(name) == []


def test_every_kind_a_detector_knows_has_a_weight():
    weights = {item.item for item in declarations.load().items}
    known = {kind.kind for kind in names.kinds()} | set(content.kinds())
    assert known <= weights
    assert len(known) > 20


def test_the_real_contracts_identifiers_are_all_recognised_by_name():
    wanted = {"id_no": "id_no", "phone": "phone", "name": "person_name", "athlete_no": "athlete_no", "uscc": "uscc"}
    examined = 0
    for contract in load_all("source").values():
        for obj in contract.objects:
            for prop in obj.properties:
                if prop.identifier_kind:
                    examined += 1
                    hits = {hit.kind for hit in names.detect(prop.name, prop.source_name, prop.title_zh)}
                    assert wanted[prop.identifier_kind] in hits, prop.name
    assert examined >= 8
