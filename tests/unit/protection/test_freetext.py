"""Identifiers in the free texts of rows: hidden whole at the door, as the policy says on the way out."""

from __future__ import annotations

import duckdb
import polars as pl
import pytest

from catalog import policy
from protection import freetext, redaction
from protection.redaction import GONE

PHONE = "19909987341"
VALUES = {
    "id_no": "990199199003077136",
    "bank_card": "6222020000000000018",
    "phone": PHONE,
    "email": "mail@canary.invalid",
    "plate_no": "沪Z87341",
    "person_token": "phone_k1_abcdefghijklmnopqrstuvwxyz",
    "credential": "user:secret",
}


def _text(kind: str) -> str:
    value = VALUES[kind]
    return f"见 https://{value}@host/x" if kind == "credential" else f"请找 {value} 预约"


def test_every_kind_that_messages_are_searched_for_is_searched_for_here():
    assert set(VALUES) == {kind for kind, *_ in freetext.PATTERNS} == {kind for kind, *_ in redaction.PATTERNS}


@pytest.mark.parametrize("kind", sorted(VALUES))
def test_each_kind_is_hidden_and_without_its_pattern_it_is_not(kind, monkeypatch):
    texts = pl.Series(["体育场", _text(kind), None, ""])
    hidden = freetext.hidden(texts)
    assert VALUES[kind] not in str(hidden.to_list())
    assert hidden[1].count(GONE) == 1
    assert (hidden[0], hidden[2], hidden[3]) == ("体育场", None, "")
    others = tuple(entry for entry in freetext.PATTERNS if entry[0] != kind)
    monkeypatch.setattr(freetext, "PATTERNS", others)
    assert VALUES[kind] in str(freetext.hidden(texts).to_list())


@pytest.mark.parametrize(
    "written",
    [
        PHONE,
        "199 0998 7341",
        "199-0998-7341",
        "+86 19909987341",
        "１９９０９９８７３４１",
        f"电话{PHONE}转",
        f"({PHONE})",
    ],
)
def test_the_quick_look_lets_no_spelling_pass(written):
    """`MAYBE` only saves work: what the patterns change it must let through, in Polars and in DuckDB."""
    assert GONE in freetext.hidden(pl.Series([written]))[0]
    with duckdb.connect() as con:
        con.execute("CREATE TEMP TABLE t AS SELECT ? AS v", [written])
        assert freetext.clean_table(con, "t", ["v"], "public", "open_data") == {"v": 1}
        assert con.execute("FROM t").fetchall() == freetext.hidden(pl.Series([written])).to_frame().rows()


def test_numbers_that_are_no_identifiers_stay():
    """A permit that begins with a region code, a device's serial number, an area, an instant: nothing of theirs is lost."""
    texts = ["3101042026111900", "BK20261119000001", "V310104-977-U01", "2026-11-19 14:00:00", "面积 12345.678901", "021-64370000",
             "沪公体许〔2026〕310104", "6222020000000000001"]  # fmt: skip
    assert freetext.hidden(pl.Series(texts)).to_list() == texts
    assert redaction.redact("3000000000000004") != "3000000000000004", "a message loses such a number all the same"


def test_the_way_out_asks_the_policy():
    texts = pl.Series([f"电话{PHONE}"])
    assert freetext.cleaned(texts, "operations", "quarantine").to_list() == ["电话199****7341"]
    for audience, surface in (
        (*policy.CHANNELS["open"],),
        (*policy.CHANNELS["exchange"],),
        ("analyst", "serving_file"),
    ):
        assert freetext.cleaned(texts, audience, surface).to_list() == [f"电话{GONE}"], surface


def test_names_of_a_delivery():
    names = pl.Series(["阙雀丝", "高峰", None, "Ada Lovelace"])
    texts = pl.Series(["找阙雀丝老师", "高峰时段", "ask Ada Lovelace", None])
    # two characters may be any word: they are looked for in their own row only
    assert freetext.without_names(texts, names).to_list() == [f"找{GONE}老师", "高峰时段", f"ask {GONE}", None]
    with duckdb.connect() as con:
        con.execute(
            "CREATE TABLE t AS FROM (VALUES ('高峰找高峰', ' 高峰 '), ('高峰', NULL), ('丁', '丁'), (NULL, '丁一')) AS v(text, name)"
        )
        rows = con.execute(f"SELECT {freetext.without_name_sql('text', ['name'])} FROM t").fetchall()
    assert rows == [(f"{GONE}找{GONE}",), ("高峰",), ("丁",), (None,)]


def test_a_key_that_names_a_person():
    values = [PHONE, f"D{PHONE}", f"D-{PHONE}", "a@b.cn", "D-0001", None]
    with duckdb.connect() as con:
        con.register("t", pl.DataFrame({"v": values}).to_arrow())
        found = [row[0] for row in con.execute(f"SELECT {freetext.no_contact_sql('v')} FROM t").fetchall()]
    assert found == [False, True, False, False, True, True]


def test_cleaning_a_table_says_how_many_values_changed():
    with duckdb.connect() as con:
        con.execute(
            "CREATE TEMP TABLE t AS SELECT '电话' || (CASE WHEN i < 3 THEN '19909987341' ELSE '无' END) AS v FROM range(5) r(i)"
        )
        assert freetext.clean_table(con, "t", ["v"], "public", "open_data") == {"v": 3}
        assert freetext.clean_table(con, "t", ["v"], "public", "open_data") == {"v": 0}
        assert con.execute("SELECT count(*) FILTER (v = '电话' || ?) FROM t", [GONE]).fetchone() == (3,)
