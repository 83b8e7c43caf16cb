"""Entries: what is derived and what a table may say of itself; the register of codes; facts; the check against a lake."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime

import polars as pl
import pyarrow as pa
import pytest

from catalog import check, entries, publish
from catalog.entries import access, codes, declared, facts, sheet
from lake import ledger, tables
from lake.errors import TiyuError

DAY = date(2026, 11, 27)


@pytest.fixture(scope="module")
def found():
    return entries.load_all()


def test_every_source_table_and_output_has_an_entry(found):
    kinds = {entry.kind for entry in found.values()}
    assert kinds == {"source", "reference", "platform", "table", "exchange", "open", "dashboard"}
    stored = [table.name for entry in found.values() if entry.layer != "out" for table in entry.tables]
    assert len(stored) == len(set(stored)) >= 49


def test_lineage_by_tables_reaches_from_the_open_dataset_to_the_source(found):
    visits = found["open.daily_visits"]
    assert visits.upstream == ("ads_open__daily_visit",)
    assert {"fitness.checkin", "venue.entry"} <= set(facts.sources_of(visits, found))
    assert "dwd_venue__visit" in found["dwd_fitness__checkin"].downstream
    assert "dashboard.cockpit" in found["ads_cockpit__kpi"].downstream
    assert "ods_reference__rule" in found["dwd_supervision__water_reading"].upstream  # named by a macro only


def test_what_is_not_declared_is_derived(found):
    visit = found["dwd_venue__visit"]
    assert (visit.grade, visit.pi_mark, visit.owner_name, visit.update_cycle) == ("L3", "P", "群众体育处", "daily")
    assert (visit.share.type, visit.open.type) == ("conditional", "closed")
    assert "一码健身" in visit.origin_zh
    assert "3 年" in visit.retention
    assert "《" in visit.legal_basis
    training = found["dws_training__weekly_load"]
    assert (training.grade, training.share.type, training.open.type) == ("L4", "denied", "closed")
    assert found["training.activity"].crs == "WGS-84"
    assert found["dashboard.cockpit"].share.type == "conditional"
    assert found["dashboard.coach"].share.type == "denied", "a page says no more of its terms than what it shows allows"
    assert found["dim_venue"].crs == "见坐标系列"
    assert {c.letter for c in found["venue.booking"].columns} >= {"C", "Y", "T", "D"}


def test_an_entry_is_found_by_the_table_it_stores():
    assert entries.load("ods_training__activity_sample").id == "training.activity"
    with pytest.raises(TiyuError, match="TIYU-CAT-0013"):
        entries.load("dwd_moon__landing")


def test_sheet_names_the_core_elements_in_their_order(found):
    names = [name for name, _ in sheet.lines(found["venue.booking"])]
    assert names[:7] == [
        "信息资源分类", "信息资源名称", "信息资源代码", "信息资源提供方", "信息资源提供方代码", "信息资源摘要", "信息资源格式",
    ]  # fmt: skip
    assert names[7:16] == [
        "信息项信息", "共享类型", "共享条件", "共享方式", "是否向社会开放", "开放条件", "更新周期", "发布日期", "关联资源",
    ]  # fmt: skip


def test_ways_to_an_entry_follow_its_terms(found):
    denied = {way.audience_zh: way for way in access.ways(found["training.activity"])}
    assert not denied["其他部门"].allowed
    assert not denied["公众与企业"].allowed
    assert "第二十八条" in denied["其他部门"].steps_zh[0]
    free = {way.audience_zh: way for way in access.ways(found["open.venue_directory"])}
    assert free["其他部门"].allowed
    assert free["公众与企业"].allowed
    assert [denied["公众与企业"].word_zh, free["公众与企业"].word_zh] == ["不提供", "可用"]
    asked = access.ways(found["venue.booking"])[1]
    assert asked.word_zh == "须申请"
    assert asked.allowed
    assert any("场景" in step for step in asked.steps_zh)


# ------------------------------------------------------------------ codes
@pytest.fixture
def folder(tmp_path):
    shutil.copytree(entries.FOLDER, tmp_path / "entries", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return tmp_path / "entries"


def test_assign_appends_and_never_touches_what_is_there(folder):
    before = codes.register(folder).codes
    done = codes.assign([("venue.closure", "venue"), ("venue.booking", "venue"), ("dim_x", "reference")], DAY, folder)
    after = codes.register(folder).codes
    assert after[: len(before)] == before
    assert set(done.codes) == {"venue.closure", "dim_x"}
    assert all(codes.CODE.match(code) for code in done.codes.values())
    assert codes.problems(codes.register(folder), declared.provider(folder)) == []
    assert codes.assign([("venue.closure", "venue")], DAY, folder).codes == {}


def test_the_code_of_a_withdrawn_entry_is_not_given_again(folder):
    found = codes.register(folder)
    last = max(line.code for line in found.codes if line.code.startswith("003/"))
    gone = codes.Withdrawn(code=last, withdrawn_on=DAY, reason_zh="来源停用")
    codes.write(found.model_copy(update={"withdrawn": (gone,)}), folder)
    done = codes.assign([("training.new", "training")], DAY, folder)
    assert not done.codes["training.new"].endswith(last)
    entry = next(line.entry for line in found.codes if line.code == last)
    assert entry not in codes.register(folder).by_entry()


def test_a_renamed_entry_keeps_its_code(folder):
    found = codes.register(folder)
    line = found.by_entry()["venue.booking"]
    moved = codes.Renamed(code=line.code, entry="venue.reservation", renamed_on=DAY)
    codes.write(found.model_copy(update={"renamed": (moved,)}), folder)
    assert codes.register(folder).by_entry()["venue.reservation"].code == line.code
    assert codes.problems(codes.register(folder), declared.provider(folder)) == []


def test_a_new_prefix_keeps_the_former_code_known(folder):
    file = folder / "provider.yaml"
    text = file.read_text("utf-8")
    block = text[text.index("  - effective_from") : text.index("domains:")]
    file.write_text(
        text.replace(block, block + block.replace("2026-01-01", "2027-01-01").replace('"310"', '"311"')), "utf-8"
    )
    provider = declared.provider(folder)
    assert provider.prefix.digits == "307311"
    assert codes.former("001/0002", provider) == ("307310001/0002",)
    assert codes.of("venue.booking", folder) == "307311001/0002"


def test_the_credit_code_of_production_replaces_the_placeholder(monkeypatch):
    assert declared.provider().uscc_is_synthetic
    monkeypatch.setenv("TIYU_EXCHANGE_USCC", "91310000MA1FL5XXXX")
    assert (declared.provider().uscc, declared.provider().uscc_is_synthetic) == ("91310000MA1FL5XXXX", False)
    report = check.run(only=["elements"])
    assert "provider_code" in {problem.code for problem in report.problems}


# ------------------------------------------------------------------ against a lake
def found_in_lake(**more):
    report = check.run(lake=True, only=["codes", "bindings"], **more)
    return report, {(problem.code, problem.where) for problem in report.problems}


def test_bindings_are_judged_against_the_tables_stored(home):
    publish.publish_reference()
    report, problems = found_in_lake()
    assert report.examined["stored_tables"] == len(publish.TABLES)
    assert report.examined["bound"] == len(publish.TABLES) + 3  # a table on demand; the pages are judged by declaration
    assert ("dead_binding", "dwd_venue__visit→dwd_venue__visit") in problems
    assert {code for code, _ in problems} == {"dead_binding"}
    assert not [where for _, where in problems if where.startswith("ops_ingest__lake_property")]  # written on demand

    tables.replace_table("ods_reference__sport", pa.table({"sport_code": ["a"], "secret": ["b"]}))
    tables.replace_table("dws_venue__stray", pa.table({"a": [1]}))
    _, problems = found_in_lake()
    assert {
        ("undescribed", "ods_reference__sport.secret"),
        ("dead_column", "ods_reference__sport.sport_name"),
        ("uncatalogued", "dws_venue__stray"),
    } <= problems


def test_an_empty_lake_is_no_clean_lake(home):
    assert ("nothing_examined", "stored_tables") in found_in_lake()[1]


def test_a_code_published_in_the_lake_cannot_be_taken_back(home, folder):
    publish.publish_reference()
    assert found_in_lake()[0].examined["published_codes"] == len(entries.load_all())
    register = codes.register(folder)
    last = max(line.code for line in register.codes if line.code.startswith("001/"))
    kept = tuple(line for line in register.codes if line.code != last)  # the last of its class leaves no gap
    codes.write(register.model_copy(update={"codes": kept}), folder)
    assert not list(codes.problems(codes.register(folder), declared.provider(folder)))
    codes.assign([(next(line.entry for line in register.codes if line.code == last), "event")], DAY, folder)
    report, problems = found_in_lake(entries_folder=folder)
    assert ("code_changed", f"307310{last}") in problems
    assert len(report.problems) >= 1


def test_facts_tell_what_is_visible_how_fresh_and_how_good(home):
    publish.publish_reference()
    at = datetime(2026, 11, 19, 3, tzinfo=UTC)
    fresh = pl.DataFrame(
        {"resource": ["fitness.checkin", "venue.entry"], "state": ["fresh", "late"], "latest_data_date": [DAY, DAY]}
    )
    rows = [
        {"run_id": run, "table_name": "ads_open__daily_visit", "rule_id": rule, "layer": "ads", "outcome": outcome,
         "examined_count": 10, "failed_count": failed, "checked_at": when}
        for run, rule, outcome, failed, when in [
            ("r1", "a", "pass", 0, at), ("r1", "b", "fail", 3, at), ("r2", "a", "pass", 0, at.replace(hour=5)),
        ]
    ]  # fmt: skip
    for name, frame in ((facts.FRESHNESS, fresh), (facts.RESULTS, pl.DataFrame(rows))):
        ledger.set_checked_version(name, tables.replace_table(name, frame), "test")
    all_entries = entries.load_all()
    known = facts.load(all_entries, ["ads_open__daily_visit", "ods_reference__district", "open.daily_visits"])
    visits = known["ads_open__daily_visit"]
    assert visits.state == "late"
    assert {row["resource"] for row in visits.freshness} == {
        "fitness.checkin",
        "venue.entry",
    }
    assert [(run.outcome, run.rule_count, run.failed_rules, run.failed_count) for run in visits.quality] == [
        ("pass", 1, (), 0), ("fail", 2, ("b",), 3),
    ]  # fmt: skip
    assert visits.tables[0].version is None
    assert known["ods_reference__district"].tables[0].row_count == 16
    assert known["ods_reference__district"].state == "unknown"


def test_facts_without_a_lake_are_empty(home):
    known = facts.load(entries.load_all(), ["venue.booking"])["venue.booking"]
    assert (known.state, known.quality, known.latest_part_date) == ("unknown", (), None)
