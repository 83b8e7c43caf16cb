"""What a contract declares of its source is done to rows and deliveries: late ones, corrections, batch rules."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import polars as pl
import pyarrow as pa
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import meters

from catalog import contracts, rules
from catalog.contracts.behaviour import Correction
from catalog.problems import DeclarationError
from ingestion import batch_rules, decoders, split
from ingestion.batch_rules import Delivery, Finding
from protection import keys

NOON = datetime(2026, 11, 20, 12, tzinfo=ZoneInfo("Asia/Shanghai"))
A, B = "a" * 64, "b" * 64


def row(meter="M1", day="2026-11-19", **values) -> dict[str, str]:
    return {"meter_id": meter, "read_date": day, **values}


# ------------------------------------------------------------------------------------------------ late
@pytest.mark.parametrize(("day", "refused"), [("2026-11-15", 0), ("2026-11-14", 1), ("2026-11-25", 0)])
def test_what_comes_too_late_is_refused_on_the_day_after_the_last(day, refused):
    found = meters.judged(
        meters.contract(late={"expectedDays": 2, "refuseAfterDays": 5}), row(day=day, amount="1"), as_of=NOON
    )
    assert found.refused["rule_id"].to_list() == ["venue.meter.late.refused"] * refused


def test_without_a_limit_late_rows_are_accepted():
    found = meters.judged(meters.contract(late={"expectedDays": 2}), row(day="2020-01-01"), as_of=NOON)
    assert (found.accepted.height, found.refused.height) == (1, 0)


# ------------------------------------------------------------------------------------------------ corrections
TYPO = {
    "id": "letter_o", "where": "meter_id = 'M1'", "column": "amount", "from": "1O", "to": "10",
    "reason": "终端把零写成字母", "approvedBy": "数据处", "expires": "2026-11-30",
}  # fmt: skip


def test_a_correction_mends_only_the_rows_it_names_before_any_rule():
    found = meters.judged(
        meters.contract(corrections=[TYPO]), row(amount="1O"), row("M2", amount="1O"), row(amount="7"), as_of=NOON
    )
    assert found.accepted["amount"].to_list() == [10.0, 7.0]
    assert found.refused["rule_id"].to_list() == ["venue.meter.amount.type"]
    assert found.corrected.rows() == [(A, 2, "letter_o")]
    assert found.examined["venue.meter.correction.letter_o"] == 3


@pytest.mark.parametrize(
    ("column", "wrong", "right"), [("athlete_name", "阙雀丝", "雒雀丝"), ("athlete_token", "SHA900901", "SHA900902")]
)
def test_a_correction_mends_an_identifier_before_its_mask_or_token_is_made(column, wrong, right, tmp_path, monkeypatch):
    """Delivered text of an identifier stands under another name than what is stored of it."""
    monkeypatch.setenv("TIYU_HOME", str(tmp_path))
    keys.ensure()
    plain = contracts.load("training.athlete")
    mended = Correction.model_validate(
        {**TYPO, "where": "squad_code = 'SQ01'", "column": column, "from": wrong, "to": right}
    )
    root = plain.root.model_copy(update={"corrections": (mended,)})
    contract = plain.model_copy(update={"objects": [root]})
    person = {"名册日期": "2026-11-16", "运动员编号": "SHA900901", "姓名": "阙雀丝", "运动队": "SQ01", "队内编号": "1", "主项": "跑步",
              "入队日期": "2026-01-01", "离队日期": None}  # fmt: skip
    source = contract.root.by_name[column].source_name
    first, second = meters.judged(contract, person, {**person, "运动队": "SQ02"}, as_of=NOON).accepted[column]
    assert [first, second] == meters.judged(plain, {**person, source: right}, person, as_of=NOON).accepted[
        column
    ].to_list()
    assert first != second


def test_corrections_follow_each_other_and_an_empty_value_is_one_too():
    filled = {**TYPO, "id": "filled", "where": "true", "from": None, "to": "1O"}
    found = meters.judged(meters.contract(corrections=[filled, TYPO]), row(), row("M2"), as_of=NOON)
    assert found.accepted["amount"].to_list() == [10.0]
    assert sorted(found.corrected["correction_id"]) == ["filled", "filled", "letter_o"]
    emptied = {**TYPO, "id": "emptied", "from": "-", "to": None}
    assert (
        meters.judged(meters.contract(corrections=[emptied]), row(amount="-"), as_of=NOON).accepted["amount"][0] is None
    )


def test_a_correction_ends_after_its_day():
    last, after = datetime(2026, 11, 30, 23, 59, tzinfo=NOON.tzinfo), datetime(2026, 12, 1, tzinfo=NOON.tzinfo)
    for instant, count in ((last, 1), (after, 0)):
        assert (
            meters.judged(meters.contract(corrections=[TYPO]), row(amount="1O"), as_of=instant).corrected.height
            == count
        )


# ------------------------------------------------------------------------------------------------ renames
OLD = [{"from": "reading", "to": "amount", "validTo": "2026-11-18"}]


def renamed(*rows: dict[str, str | None], new: bool) -> split.Split:
    """Rows of an object that bears the old name, and the new one as well or not."""
    item = meters.contract(renames=OLD)
    table = meters.delivered(*rows)
    table = table.append_column("reading", pa.array([row.get("reading") for row in rows], pa.string()))
    con = split.connect_for(item)
    try:
        return split.split_text(con, item, table if new else table.drop_columns(["amount"]), NOON)
    finally:
        con.close()


def test_an_old_name_is_read_until_its_last_day():
    found = renamed(row(day="2026-11-18", reading="7"), row(day="2026-11-19", reading="8"), new=False)
    assert found.accepted["amount"].to_list() == [7.0]
    assert found.refused.select("_record_no", "rule_id").rows() == [(3, "venue.meter.renamed.reading")]
    assert "只在 –2026-11-18 之间使用，此日期的记录应写作“amount”" in found.refused["reason"][0]


def test_old_and_new_name_together_must_agree():
    day = "2026-11-18"
    rows = [
        row(day=day, amount="1"),
        row(day=day, reading="2"),
        row(day=day, amount="3", reading="3"),
        row(day=day, amount="4", reading="5"),
    ]
    found = renamed(*rows, new=True)
    assert found.accepted["amount"].to_list() == [1.0, 2.0, 3.0]
    assert found.refused.select("_record_no", "rule_id").rows() == [(5, "venue.meter.renamed.reading.twice")]


def test_a_header_may_bear_the_old_name_and_unknown_columns_are_remembered_where_they_may_be():
    head = "meter_id,read_date,seq_no,reading,state,is_gone,changed_at,declared"
    for policy, more, refused, unknown in (
        ("stop", "", None, {}), ("stop", ",why", "TIYU-ING-0211", {}), ("add", ",why", None, {"a.csv": ["why"]}), ("ignore", ",why", None, {"a.csv": ["why"]}),
    ):  # fmt: skip
        item = meters.contract(renames=OLD, drift={"unknownColumn": policy})
        content = f"{head}{more}\nM1,2026-11-18,1,7,,,,{',x' if more else ''}\n".encode()
        done = next(decoders.decode_many(item.server, [(A, "a.csv", content)], item))
        assert [error.code for error in done.refusals.values()] == ([refused] if refused else [])
        assert done.unknown == unknown
    without = f"{head.replace('reading,', '')}\n".encode()
    done = next(decoders.decode_many(item.server, [(A, "a.csv", without)], item))
    assert done.refusals[A].code == "TIYU-ING-0210"
    numbered = f"{head},310101199001011234\n".encode()
    assert next(decoders.decode_many(item.server, [(A, "a.csv", numbered)], item)).unknown == {
        "a.csv": ["（列名疑似含个人信息）"]
    }


def test_records_of_json_may_bear_the_old_name():
    item = meters.contract(decoder={"kind": "ndjson"}, renames=OLD, drift={"unknownColumn": "add"})
    lines = b'{"meter_id":"M1","read_date":"2026-11-18","reading":7}\n{"meter_id":"M2","read_date":"2026-11-18","amount":8,"why":1}\n'
    done = next(decoders.decode_many(item.server, [(A, "a.json", lines)], item))
    assert done.unknown == {"a.json": ["why"]}
    con = split.connect_for(item)
    found = split.split_text(con, item, done.tables["ods_venue__meter"], NOON)
    con.close()
    assert found.accepted["amount"].to_list() == [7.0, 8.0]


# ------------------------------------------------------------------------------------------------ batch rules
def examined(rule: dict, *rows: dict, decoded=None, refused=0, previous=None, control=None, names=None) -> Finding:
    manifest = {"manifest": {"pattern": r"\.json$"}} if rule.get("declaredIn") == "manifest" else {}
    contract = meters.contract(batch={"rules": [{"messageZh": "规则", **rule}], **manifest})
    part = meters.judged(contract, *rows, as_of=NOON)
    found = batch_rules.examine(
        Delivery(
            contract, "b_1", NOON, decoded if decoded is not None else {A: len(rows)}, refused, part.facts,
            names or {A: "venue/meter/a.csv", B: "venue/meter/b.csv"}, part.accepted["part_date"].min(), control or {}, previous,
        )
    )  # fmt: skip
    assert len(found) == 1
    return found[0]


CASES = {
    "enough rows": ({"kind": "rows", "min": 2}, [row(), row()], {}, True),
    "too few rows": ({"kind": "rows", "min": 2}, [row()], {}, False),
    "nothing at all": ({"kind": "rows", "min": 1}, [], {"decoded": {A: 0}}, False),
    "too many rows": ({"kind": "rows", "max": 1}, [row(), row()], {}, False),
    "an object with too few": ({"kind": "rows", "per": "object", "min": 2}, [row()], {"decoded": {A: 5, B: 1}}, False),
    "as many refused as allowed": ({"kind": "refused_share", "max": 0.5}, [row(), row()], {"refused": 1}, True),
    "too many refused": ({"kind": "refused_share", "max": 0.4}, [row(), row()], {"refused": 1}, False),
    "no refusal of nothing": ({"kind": "refused_share", "max": 0}, [], {"decoded": {}}, True),
    "all values there": ({"kind": "required_values", "column": "state", "values": ["x"]}, [row(state="x")], {}, True),
    "a value missing": ({"kind": "required_values", "column": "state", "values": ["x", "y"]}, [row(state="x")], {}, False),
    "a refused row was delivered all the same": (
        {"kind": "required_values", "column": "state", "values": ["x"]}, [row(state="x", amount="?")], {}, True,
    ),
    "dates without a gap": ({"kind": "continuity", "column": "part_date"}, [row(day="2026-11-18"), row()], {}, True),
    "a date missing": ({"kind": "continuity", "column": "read_date"}, [row(day="2026-11-17"), row()], {}, False),
    "as many missing as allowed": (
        {"kind": "continuity", "column": "read_date", "maxMissing": 1}, [row(day="2026-11-17"), row()], {}, True,
    ),
    "numbers run by meter": (
        {"kind": "continuity", "column": "seq_no", "by": ["meter_id"]},
        [row(seq_no="1"), row(seq_no="2"), row("M2", seq_no="8"), row("M2", seq_no="9")], {}, True,
    ),
    "a number missing of one meter": (
        {"kind": "continuity", "column": "seq_no", "by": ["meter_id"]},
        [row(seq_no="1"), row(seq_no="2"), row("M2", seq_no="7"), row("M2", seq_no="9")], {}, False,
    ),
    "repeated numbers are no gap": ({"kind": "continuity", "column": "seq_no"}, [row(seq_no="1"), row(seq_no="1"), row(seq_no="2")], {}, True),
    "the declared number of rows": ({"kind": "total", "declaredIn": "column", "column": "declared"}, [row(declared="2"), row()], {}, True),
    "fewer rows than declared": ({"kind": "total", "declaredIn": "column", "column": "declared"}, [row(declared="3"), row()], {}, False),
    "two declared totals": ({"kind": "total", "declaredIn": "column", "column": "declared"}, [row(declared="2"), row(declared="1")], {}, False),
    "no declared total": ({"kind": "total", "declaredIn": "column", "column": "declared"}, [row(), row()], {}, False),
    "the declared sum": (
        {"kind": "total", "of": "amount", "declaredIn": "column", "column": "declared"},
        [row(amount="0.1", declared="1"), row(amount="0.9")], {}, True,
    ),
    "another sum": (
        {"kind": "total", "of": "amount", "declaredIn": "column", "column": "declared"},
        [row(amount="0.1", declared="1"), row(amount="0.8")], {}, False,
    ),
    "within the tolerance": (
        {"kind": "total", "of": "amount", "declaredIn": "column", "column": "declared", "tolerance": 0.2},
        [row(amount="0.1", declared="1"), row(amount="0.8")], {}, True,
    ),
    "the manifest agrees": (
        {"kind": "total", "declaredIn": "manifest"}, [row()], {"control": {B: b'{"name": "a.csv", "rows": 1}'}}, True,
    ),
    "the manifest says more": (
        {"kind": "total", "declaredIn": "manifest"}, [row()], {"control": {B: b'{"objects": [{"name": "a.csv", "rows": 2}]}'}}, False,
    ),
    "the manifest agrees on a sum": (
        {"kind": "total", "of": "amount", "declaredIn": "manifest"}, [row(amount="2")],
        {"control": {B: b'{"name": "a.csv", "totals": {"amount": 2}}'}}, True,
    ),
    "no manifest came": ({"kind": "total", "declaredIn": "manifest"}, [row()], {}, False),
    "a manifest that cannot be read": ({"kind": "total", "declaredIn": "manifest"}, [row()], {"control": {B: b"{"}}, False),
    "a manifest of another file": (
        {"kind": "total", "declaredIn": "manifest"}, [row()],
        {"control": {B: b'{"objects": [{"name": "a.csv", "rows": 1}, {"name": "z.csv", "rows": 1}]}'}}, False,
    ),
    "fresh to the end of its day": ({"kind": "freshness", "column": "read_date", "maxAgeHours": 12}, [row()], {}, True),
    "older than allowed": ({"kind": "freshness", "column": "read_date", "maxAgeHours": 11.9}, [row()], {}, False),
    "a moment fresh enough": (
        {"kind": "freshness", "column": "changed_at", "maxAgeHours": 1}, [row(changed_at="2026-11-20 11:00:00")], {}, True,
    ),
    "nothing to tell the age by": ({"kind": "freshness", "column": "changed_at", "maxAgeHours": 1}, [row()], {}, False),
    "the first batch has no other before it": ({"kind": "previous", "share": 0.1}, [row()], {}, True),
    "about as many as before": ({"kind": "previous", "share": 0.5}, [row()], {"previous": 2.0}, True),
    "half as many as before": ({"kind": "previous", "share": 0.49}, [row()], {"previous": 2.0}, False),
    "many more than before": ({"kind": "previous", "share": 0.5}, [row(), row()], {"previous": 1.0}, False),
    "more files are no more rows a file": ({"kind": "previous", "share": 0.1}, [row()], {"previous": 2.0, "decoded": {A: 2, B: 2}}, True),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_batch_rule(case):
    rule, rows, delivery, ok = CASES[case]
    found = examined(rule, *rows, **delivery)
    assert (found.ok, found.outcome) == (ok, "pass" if ok else "stop"), found.message_zh
    assert bool(found.found) is not ok
    assert found.rule_id == f"venue.meter.batch.{rule['kind']}"


def test_runs_of_several_chunks_are_one():
    contract = meters.contract(batch={"rules": [{"kind": "continuity", "column": "seq_no", "messageZh": "断号"}]})
    parts = [
        meters.judged(contract, *(row(seq_no=str(n)) for n in numbers), as_of=NOON).facts
        for numbers in ((1, 3), (2, 4, 4))
    ]
    delivery = Delivery(contract, "b_1", NOON, {A: 5}, 0, pl.concat(parts), {A: "a"})
    assert batch_rules.examine(delivery)[0].ok
    delivery.facts = parts[0]
    assert batch_rules.examine(delivery)[0].message_zh == "断号（缺 1 个，1 组有断档，最早缺 2）"


def test_a_warning_is_not_a_stop():
    assert examined({"kind": "rows", "min": 2, "severity": "warn"}, row()).outcome == "warn"


# ------------------------------------------------------------------------------------------------ what is refused
NEWEST = {"key": ["meter_id"], "onChanged": "newest"}
WRONG = {
    "by without newest": ({"dedup": {"key": ["meter_id"], "by": "changed_at"}}, "belongs to onChanged newest"),
    "keep with newest": ({"dedup": {**NEWEST, "onSame": "keep"}}, "no single row to replace"),
    "a text cannot be newer": ({"dedup": {**NEWEST, "by": "state"}}, "must be a date"),
    "newer by the key": ({"dedup": {**NEWEST, "by": "meter_id"}}, "dedup.by"),
    "an unknown word": ({"dedup": {"key": ["meter_id"], "onChanged": "latest"}}, "newest"),
    "late limit below the usual": ({"late": {"expectedDays": 9, "refuseAfterDays": 5}}, "below expectedDays"),
    "deletes that cannot change a row": ({"deletes": {"by": "column", "column": "is_gone"}}, "needs onChanged newest"),
    "deletes by a text": ({"dedup": NEWEST, "deletes": {"by": "column", "column": "state"}}, "must be a column of type"),
    "absence without snapshots": ({"dedup": NEWEST, "deletes": {"by": "absence"}}, "needs delivery snapshot"),
    "absence of dated snapshots": (
        {"dedup": {**NEWEST, "key": ["meter_id", "read_date"]}, "delivery": "snapshot", "deletes": {"by": "absence"}},
        "kept whole",
    ),
    "a pattern that is none": ({"dedup": NEWEST, "deletes": {"by": "tombstone", "pattern": "("}}, "not a regular expression"),
    "a rename of nothing": ({"renames": [{"from": "old", "to": "nix", "validTo": "2026-01-01"}]}, "no column has the physicalName"),
    "a rename from a column": ({"renames": [{"from": "state", "to": "amount", "validTo": "2026-01-01"}]}, "cannot be an old name"),
    "a rename for ever": ({"renames": [{"from": "old", "to": "amount"}]}, "needs validFrom or validTo"),
    "a correction without reason": ({"corrections": [{**TYPO, "reason": ""}]}, "reason"),
    "a correction for ever": ({"corrections": [{k: v for k, v in TYPO.items() if k != "expires"}]}, "expires"),
    "a correction of nothing": ({"corrections": [{**TYPO, "to": "1O"}]}, "changes nothing"),
    "a correction of no column": ({"corrections": [{**TYPO, "column": "nix"}]}, "no column that the source delivers"),
    "a correction twice": ({"corrections": [TYPO, TYPO]}, "declared twice"),
    "a batch rule over no column": ({"batch": {"rules": [{"kind": "continuity", "column": "nix", "messageZh": "x"}]}}, "does not exist"),
    "continuity of a text": ({"batch": {"rules": [{"kind": "continuity", "column": "state", "messageZh": "x"}]}}, "whole number"),
    "freshness of a number": (
        {"batch": {"rules": [{"kind": "freshness", "column": "amount", "maxAgeHours": 1, "messageZh": "x"}]}}, "a date or a time",
    ),
    "a total of a text": (
        {"batch": {"rules": [{"kind": "total", "of": "state", "declaredIn": "column", "column": "declared", "messageZh": "x"}]}},
        "must be a number",
    ),
    "a total in no manifest": ({"batch": {"rules": [{"kind": "total", "declaredIn": "manifest", "messageZh": "x"}]}}, "manifest belongs"),
    "two batch rules of one name": (
        {"batch": {"rules": [{"kind": "rows", "min": 1, "messageZh": "x"}, {"kind": "rows", "max": 9, "messageZh": "x"}]}}, "used twice",
    ),
    "an unknown code list": (
        {"batch": {"rules": [{"kind": "required_values", "column": "state", "codeList": "hobby", "messageZh": "x"}]}}, "unknown code list",
    ),
    "a drift policy that is none": ({"drift": {"unknownColumn": "keep"}}, "unknownColumn"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_contract_that_makes_no_sense_is_refused(case):
    behaviour, told = WRONG[case]
    with pytest.raises(DeclarationError, match="TIYU-CAT-0001") as caught:
        meters.contract(**behaviour)
    assert told in "\n".join(caught.value.problems)


def test_a_list_of_columns_is_a_dedup_rule():
    plain, said = meters.contract().root, meters.contract(dedup={"key": ["meter_id", "read_date"]}).root
    assert plain.dedup_rule == said.dedup_rule
    assert plain.dedup == ["meter_id", "read_date"]


# ------------------------------------------------------------------------------------------------ row rules
def test_two_references_into_one_table_are_both_looked_up(monkeypatch):
    """Each keeps its own column; the second used to take the first one's table away."""

    def register(con, name, version):
        con.execute(f"create or replace view {name} as select 'M1' as meter_id, 'open' as state")
        return 1

    monkeypatch.setattr(split.query, "register", register)
    declared = [
        {"kind": "reference", "column": column, "table": "ods_venue__state", "messageZh": "未登记"}
        for column in ("meter_id", "state")
    ]
    found = meters.judged(
        meters.contract(rules=declared), row(state="open"), row(state="shut"), row("M2", state="open"), as_of=NOON
    )
    assert found.accepted["_record_no"].to_list() == [2]
    assert found.refused["rule_id"].to_list() == ["venue.meter.state.reference", "venue.meter.meter_id.reference"]


def test_a_value_of_the_wrong_type_is_told_by_name_and_kind():
    found = meters.judged(
        meters.contract(), row(amount="many"), row(changed_at="soon"), row(is_gone="perhaps"), as_of=NOON
    )
    assert found.refused["reason"].to_list() == [
        "列amount（amount）不是有效的数值",
        "列changed_at（changed_at）不是有效的日期时间",
        "列is_gone（is_gone）不是有效的是否（是、否、true、false、1、0）",
    ]


KINDS = [
    ({"kind": "not_null", "column": "state"}, row(state="x"), row()),
    ({"kind": "range", "column": "amount", "max": 5}, row(amount="5"), row(amount="5.1")),
    ({"kind": "pattern", "column": "state", "pattern": "^x$"}, row(state="x"), row(state="xx")),
    ({"kind": "in_list", "column": "state", "values": ["x"]}, row(state="x"), row(state="y")),
    ({"kind": "compare", "left": "seq_no", "op": "<=", "right": "declared"}, row(seq_no="1", declared="1"), row(seq_no="2", declared="1")),
    ({"kind": "check_digit", "column": "state", "standard": "GB32100"}, row(state="91350100M000100Y43"), row(state="91350100M000100Y44")),
    ({"kind": "phone", "column": "state"}, row(), row(state="12345")),
    (
        {"kind": "expression", "id": "x.y", "sql": "amount < 5 OR state = 'x'", "columns": ["amount", "state"]},
        row(amount="9", state="x"), row(amount="9", state="y"),
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", KINDS, ids=lambda case: case[0]["kind"])
def test_every_kind_of_row_rule_works_on_a_declared_source(case):
    rule, good, bad = case
    contract = meters.contract(rules=[{"messageZh": "不符", **rule}])
    found = meters.judged(contract, good, bad, as_of=NOON)
    assert found.accepted["_record_no"].to_list() == [2]
    assert found.refused.select("_record_no", "reason").rows() == [(3, "不符")]
    stored = [r for r in rules.compile_object(contract.root, with_raw=False) if r.message_zh == "不符"]
    with duckdb.connect() as con:  # and, from the same declaration, on what is stored
        con.register("stored", found.accepted.to_arrow())
        assert con.execute(f"select bool_and({stored[0].predicate}) from stored").fetchone() == (True,)
