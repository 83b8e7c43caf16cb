"""The quality gate on real Delta tables, with real contracts and the real Great Expectations."""

from __future__ import annotations

import json
from datetime import date, timedelta

import duckdb
import polars as pl
import pyarrow as pa
import pytest

from lake import clock, ledger, tables
from lake.errors import TiyuError
from quality import checks, engine, gate, quarantine, reconcile, withdrawal

pytestmark = pytest.mark.integration

DAY = date(2026, 11, 18)
BAD = 99.0  # a pH nobody can measure


@pytest.fixture
def water(checked_lake):
    """A lake with a register and a first good batch of readings, all checked."""
    return checked_lake


def test_good_batch_becomes_visible_at_exactly_the_judged_version(water, names):
    assert ledger.checked_version(names.water) == tables.version(names.water)
    assert water.visible(names.water).height == 3
    outcomes = {row["outcome"] for row in ledger.quality_results(table_name=names.water)}
    assert outcomes == {"pass"}
    assert all(row["examined_count"] == 3 for row in ledger.quality_results(table_name=names.water))


def test_bad_batch_then_good_one_shows_only_the_good(water, names):
    before = ledger.checked_version(names.water)
    water.readings("bad", DAY + timedelta(days=1), values=[7.1, BAD])

    with pytest.raises(TiyuError) as caught:
        gate.run_gate([names.water])
    assert caught.value.code == "TIYU-QG-0001"
    assert ledger.checked_version(names.water) == before
    assert set(water.visible(names.water)["_batch_id"]) == {"good-1"}
    assert {alert["subject_id"] for alert in ledger.alerts("open")} == {names.water, "bad"}

    # withdrawn: out of the head, into the quarantine, the ledger still balances
    assert "bad" not in set(water.head(names.water)["_batch_id"])
    refused = pl.scan_delta(tables.path(quarantine.TABLE)).collect()
    assert refused["batch_id"].to_list() == ["bad", "bad"]
    assert sorted(refused["record_no"]) == [1, 2]
    assert refused["preview"].null_count() == 2
    batch = ledger.batches("supervision.water_reading", "withdrawn")[0]
    assert (batch["accepted_count"], batch["quarantined_count"], batch["decoded_count"]) == (0, 2, 2)

    water.readings("good-2", DAY + timedelta(days=1), hour=3)
    report = gate.run_gate([names.water])
    assert report.ok
    assert report.examined == 3
    assert set(water.visible(names.water)["_batch_id"]) == {"good-1", "good-2"}
    assert [alert["subject_id"] for alert in ledger.alerts("open")] == ["bad"], "a withdrawn batch needs a person"
    assert ledger.checked_version(names.water) == tables.version(names.water)
    balances = reconcile.reconcile("supervision.water_reading")
    assert balances.ok, balances.problems
    assert balances.examined == 3


def test_bad_and_good_batch_in_the_same_partition(water, names):
    water.readings("bad", values=[BAD], hour=5)
    water.readings("good-2", hour=6)
    with pytest.raises(TiyuError):
        gate.run_gate([names.water])
    assert gate.run_gate([names.water]).ok, "the next run moves on with the good batch alone"
    assert set(water.visible(names.water)["_batch_id"]) == {"good-1", "good-2"}


def test_a_withdrawn_batch_alone_leaves_nothing_to_examine(water, names):
    water.readings("bad", DAY + timedelta(days=1), values=[BAD])
    with pytest.raises(TiyuError):
        gate.run_gate([names.water])
    report = gate.run_gate([names.water])
    assert [verdict.outcome for verdict in report.tables] == [gate.NOTHING]
    assert water.visible(names.water).height == 3


def test_first_batch_ever_is_bad(lake, names):
    lake.register()
    gate.run_gate([names.register])
    lake.readings("bad", values=[BAD])
    with pytest.raises(TiyuError):
        gate.run_gate([names.water])
    assert gate.run_gate([names.water]).ok
    assert lake.visible(names.water).height == 0


def test_nothing_changed_is_nothing_to_examine(water, names):
    before = ledger.checked_version(names.water)
    report = gate.run_gate([names.water])
    assert [verdict.outcome for verdict in report.tables] == [gate.NOTHING]
    assert report.examined == 0
    assert ledger.checked_version(names.water) == before


def test_content_free_commit_moves_the_version_without_examining(water, names):
    tables.append(names.water, water.head(names.water).clear().to_arrow(), batch_id="empty")
    report = gate.run_gate([names.water])
    assert report.tables[0].outcome == gate.NOTHING
    assert ledger.checked_version(names.water) == tables.version(names.water)


def test_rows_that_vanish_are_a_failure(water, names):
    tables.delete(names.water, "part_date >= '2026-01-01'", part_dates=[DAY])
    with pytest.raises(TiyuError) as caught:
        gate.run_gate([names.water])
    assert caught.value.code == "TIYU-QG-0001"
    assert checks.EXAMINED_RULE in caught.value.context["rules"]
    assert water.visible(names.water).height == 3


def test_a_batch_half_in_the_lake_is_not_judged(water, names, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "finish_batch", lambda *args: None)  # the ingest died just before its last step
        water.readings("half", hour=7)
    before = ledger.checked_version(names.water)
    with pytest.raises(TiyuError) as caught:
        gate.run_gate([names.water])
    assert caught.value.code == "TIYU-QG-0006"
    assert ledger.checked_version(names.water) == before


def test_folders_of_killed_runs_are_removed_and_none_is_left(water, names):
    root = tables.settings().home / "tmp"
    stale, running = root / "gate-999999999-x", root / "gate-1-x"
    for folder in (stale, running):
        folder.mkdir(parents=True)
    water.readings("good-2", hour=9)
    assert gate.run_gate([names.water]).ok
    assert [folder.name for folder in root.glob("gate-*")] == [running.name]


def test_duplicate_keys_withdraw_the_newcomer(water, names):
    water.readings("copy")  # same pool, item and times as good-1
    with pytest.raises(TiyuError) as caught:
        gate.run_gate([names.water])
    assert "dedup" in caught.value.context["rules"]
    assert caught.value.context["withdrawn"] == "copy"
    assert set(water.head(names.water)["_batch_id"]) == {"good-1"}


@pytest.mark.parametrize("step", ["_quarantine", "_erase"])
def test_a_crash_between_the_steps_of_a_withdrawal_is_repaired(water, names, monkeypatch, step):
    water.readings("bad", DAY + timedelta(days=1), values=[BAD, 7.0])

    class Killed(BaseException):
        pass

    def killed(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(withdrawal, step, killed)
        with pytest.raises(Killed):
            gate.run_gate([names.water])
    assert "bad" in set(water.head(names.water)["_batch_id"])
    report = gate.run_gate([names.water])  # repairs first, then finds nothing new to examine
    assert report.repaired == {names.water: 2}
    assert "bad" not in set(water.head(names.water)["_batch_id"])
    assert pl.scan_delta(tables.path(quarantine.TABLE)).collect().height == 2
    assert reconcile.reconcile("supervision.water_reading").ok
    assert gate.run_gate([names.water]).repaired == {}


def test_all_tables_of_a_contract_move_or_stay_together(lake, names):
    lake.activity("one")
    assert gate.run_gate([names.training[0]]).ok
    checked = {name: ledger.checked_version(name) for name in names.training}
    assert None not in checked.values()
    lake.activity("two")
    lap = names.training[2]
    rows = lake.head(lap).filter(pl.col("_batch_id") == "two")
    tables.delete(lap, "_batch_id = 'two'", part_dates=[DAY])
    tables.append(lap, rows.with_columns(pl.lit(None).cast(pl.Int32).alias("lap_no")).to_arrow(), batch_id="two-broken")
    with pytest.raises(TiyuError):
        gate.run_gate([names.training[0]])
    assert {name: ledger.checked_version(name) for name in names.training} == checked
    assert all(set(lake.head(name)["_batch_id"]) == {"one"} for name in names.training)
    refused = pl.scan_delta(tables.path(quarantine.TABLE)).collect()
    assert refused["table_name"].to_list() == [names.training[0]], "one quarantine row per root record"
    assert reconcile.reconcile("training.activity").ok


def test_a_rule_that_crashes_is_an_error_and_no_verdict(water, names, monkeypatch):
    real = gate.ods_checks

    def with_broken_rule(contract, table):
        found = real(contract, table)
        broken = checks.Check("crash", "row", "会出错的规则", "CAST(pool_id AS INTEGER) > 0")
        unbound = checks.Check("unbound", "row", "引用了不存在的列", "no_such_column > 0")
        return checks.TableChecks(
            found.table, (broken, unbound, *found.checks), found.may_be_empty, found.part_column, found.references
        )

    monkeypatch.setattr(gate, "ods_checks", with_broken_rule)
    before = ledger.checked_version(names.water)
    water.readings("good-2", hour=4)
    with pytest.raises(TiyuError) as caught:
        gate.run_gate([names.water])
    assert caught.value.code == "TIYU-QG-0002"
    assert caught.value.exit_code == 4
    assert ledger.checked_version(names.water) == before
    assert "good-2" in set(water.head(names.water)["_batch_id"]), "nothing is withdrawn on an error"
    run = ledger.quality_results(table_name=names.water)[-1]["run_id"]
    outcomes = {row["rule_id"]: row["outcome"] for row in ledger.quality_results(run)}
    assert outcomes.pop("crash") == outcomes.pop("unbound") == "error"
    assert set(outcomes.values()) == {"pass"}, "one crashing rule does not make another one fail"


def test_results_never_hold_values(lake, names):
    canary = "CANARY-7F3A"
    lake.register()
    gate.run_gate([names.register])
    lake.POOL = canary
    lake.readings("bad", values=[BAD])
    with pytest.raises(TiyuError) as caught:
        gate.run_gate([names.water])
    written = json.dumps([ledger.quality_results(), ledger.alerts(), ledger.batches()], default=str, ensure_ascii=False)
    assert canary not in written
    assert canary not in str(caught.value)
    for file in tables.settings().home.rglob("*"):
        if file.is_file() and "/lake/ods/" not in str(file):
            assert canary.encode() not in file.read_bytes(), file


def test_errors_of_great_expectations_carry_no_values(lake, monkeypatch, names):
    """Exception texts quote the offending value; only the class may be kept."""
    canary = "CANARY-9C1D"
    check = checks.Check("crash", "row", "会出错", f"CAST(item || '{canary}' AS INTEGER) > 0")
    lake.register()
    lake.readings("one")
    target = engine.Target(checks.TableChecks(names.water, (check,)), tables.version(names.water), None)
    judgement = engine.judge(gate.query.connect(), [target])[names.water][0]
    assert judgement.outcome == "error"
    assert canary not in str(judgement.error)
    assert judgement.error == "ConversionException"


def test_partitions_outside_the_change_are_not_read(water, names):
    water.readings("good-2", DAY + timedelta(days=1))
    target = gate._prepare(duckdb.connect(), names.register, None)  # nothing changed there
    assert target.target is None
    con = gate.query.connect()
    from catalog import contracts

    work = gate._prepare(con, names.water, contracts.load("supervision.water_reading"))
    assert work.verdict.examined == 3, "only the new day, not the six rows of the table"
    plan = con.execute(
        "EXPLAIN ANALYZE " + engine.rows_sql(names.water, work.target.version, work.target.ranges)
    ).fetchall()[0][1]
    assert "1/2" in plan, "one file of two scanned"


def test_many_ranges_become_one_covering_range():
    days = {DAY + timedelta(days=2 * n) for n in range(31)}
    assert engine.ranges_of(days) == ((min(days), max(days)),)
    assert len(engine.ranges_of(set(sorted(days)[:30]))) == 30
    assert engine.ranges_of({DAY, DAY + timedelta(days=1)}) == ((DAY, DAY + timedelta(days=1)),)


# --- ADS -----------------------------------------------------------------------------------------------------------


def _kpi(**changes) -> pa.Table:
    row = {
        "kpi_code": "V-04",
        "kpi_name": "预约签到率",
        "variant_code": "",
        "variant_name": "",
        "period_type": "day",
        "period_start_date": DAY,
        "period_end_date": DAY,
        "district_code": "310000",
        "district_name": "上海市",
        "numerator": 8.0,
        "denominator": 10.0,
        "value": 80.0,
        "unit": "%",
        "target": None,
        "target_document": None,
        "as_of_at": clock.as_of(),
        "quality": "ok",
        "input_versions": "{}",
        "part_date": DAY,
    }
    frame = pl.DataFrame([{**row, **changes}])
    schema = {
        "kpi_name": pl.String,
        "target": pl.Float64,
        "target_document": pl.String,
        "as_of_at": pl.Datetime("us", "UTC"),
        "value": pl.Float64,
    }
    return frame.with_columns([pl.col(name).cast(kind) for name, kind in schema.items()]).to_arrow()


def _write_kpi(**changes) -> None:
    tables.replace_window("ads_cockpit__kpi", _kpi(**changes), "part_date", DAY, DAY)


def test_ads_failure_keeps_the_checked_version_and_the_rows(home):
    _write_kpi()
    assert gate.run_gate(["ads_cockpit__kpi"]).ok
    before = ledger.checked_version("ads_cockpit__kpi")
    _write_kpi(numerator=11.0)
    with pytest.raises(TiyuError) as caught:
        gate.run_gate(["ads_cockpit__kpi"])
    assert "kpi.ratio" in caught.value.context["rules"]
    assert ledger.checked_version("ads_cockpit__kpi") == before
    assert ledger.alerts("open")[0]["subject_id"] == "ads_cockpit__kpi"
    assert pl.scan_delta(tables.path("ads_cockpit__kpi")).collect()["numerator"][0] == 11.0
    _write_kpi(numerator=9.0)
    assert gate.run_gate(["ads_cockpit__kpi"]).ok
    assert ledger.alerts("open") == []


def test_each_kpi_rule_fails_on_its_own_kind_of_error(home):
    """One broken row a day, so that each rule meets exactly its own kind of error among otherwise good rows."""
    broken = [
        ("kpi.value_finite", {"value": float("nan")}),
        ("kpi.value_not_negative", {"value": -1.0}),
        ("kpi.value_when_ok", {"value": None}),
        ("kpi.quality_code", {"quality": "good"}),
        ("kpi.period_type", {"period_type": "week"}),
        ("kpi.period_order", {"period_end_date": DAY - timedelta(days=400)}),
        ("kpi.ratio", {"numerator": 11.0}),
        ("kpi.target_has_document", {"target": 3000.0}),
        ("district:district_code", {"district_code": "310199"}),
        ("not_null:kpi_name", {"kpi_name": None}),
    ]
    frames = []
    for number, (_, changes) in enumerate(broken):
        day = {"period_start_date": DAY - timedelta(days=number), "part_date": DAY - timedelta(days=number)}
        frames.append(_kpi(**day, **changes))
    frames.append(_kpi(kpi_code="R-03", district_code="310101"))  # a district without its city row
    tables.replace_window("ads_cockpit__kpi", pa.concat_tables(frames), "part_date", DAY - timedelta(days=20), DAY)
    with pytest.raises(TiyuError):
        gate.run_gate(["ads_cockpit__kpi"])
    failed = {row["rule_id"]: row["failed_count"] for row in ledger.quality_results() if row["outcome"] == "fail"}
    assert failed == {rule: 1 for rule, _ in broken} | {"kpi.city_row": 2}
    assert ledger.checked_version("ads_cockpit__kpi") is None


def test_duplicate_kpi_rows_fail(home):
    twice = pa.concat_tables([_kpi(), _kpi()])
    tables.replace_window("ads_cockpit__kpi", twice, "part_date", DAY, DAY)
    with pytest.raises(TiyuError):
        gate.run_gate(["ads_cockpit__kpi"])
    failed = {row["rule_id"] for row in ledger.quality_results() if row["outcome"] == "fail"}
    assert any(rule.startswith("unique:") for rule in failed)


def test_an_emptied_ads_partition_fails_unless_the_table_may_be_empty(home):
    tables.replace_window("ads_cockpit__kpi", _kpi().slice(0, 0), "part_date", DAY, DAY)
    with pytest.raises(TiyuError) as caught:
        gate.run_gate(["ads_cockpit__kpi"])
    assert checks.EXAMINED_RULE in caught.value.context["rules"]
    assert checks.load_declarations()["ads_supervision__alert"]["may_be_empty"]


def test_undeclared_and_foreign_tables_are_refused(home):
    tables.replace_table("ads_cockpit__unknown", pl.DataFrame({"a": [1]}))
    for names, code in (
        (["ads_cockpit__unknown"], "TIYU-QG-0003"),
        (["dwd_venue__visit"], "TIYU-QG-0005"),
        ([], "TIYU-QG-0005"),
        (["ods_x__y"], "TIYU-QG-0003"),
    ):
        with pytest.raises(TiyuError) as caught:
            gate.run_gate(names)
        assert caught.value.code == code
