"""Deliveries and their contract: a held batch enters by a person's decision only, corrections leave their trace."""

from __future__ import annotations

import datetime as dt
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "unit" / "ingestion"))

import meters
from meter_lake import METER, TABLE, books, row, stored

from catalog import contracts
from catalog.checks.base import execute
from ingestion import batch_list, drift_check, trial
from ingestion.rebuild import rebuild
from ingestion.replay import replay
from ingestion.reread import reread
from ingestion.run import ingest
from lake import ledger, tables
from quality import gate, quarantine, row_events
from quality.ops import publish_ops
from simulation.city import build_city
from simulation.records import reference
from simulation.records.write import encode
from simulation.sizes import SIZES

pytestmark = pytest.mark.integration


def alerts(code: str) -> list[str]:
    return [item["subject_id"] for item in ledger.alerts("open") if item["rule_code"] == code]


TWO_ROWS = {"rules": [{"kind": "rows", "min": 2, "messageZh": "一天不到两条"}]}


def test_a_held_batch_enters_by_name_only(declare, deliver):
    declare(batch=TWO_ROWS)
    done = deliver("a.csv", row(), row("M2", amount="?")).batches[0]
    assert done.status == "partial"  # two were delivered
    held = deliver("b.csv", row("M3"))
    assert [(b.status, b.accepted, b.quarantined) for b in held.batches] == [("held", 0, 1)]
    assert held.batches[0].quarantined_by_rule == {"venue.meter.batch.rows": 1}
    assert stored("meter_id") == [("M1",)]
    assert alerts("IN-03") == [held.batches[0].batch_id]
    books()
    assert deliver("c.csv", row("M4"), row("M5")).batches[0].status == "accepted"  # the next ones go on
    assert replay(METER).left_withdrawn == 1
    back = replay(METER, [held.batches[0].batch_id])
    assert (back.accepted, back.still_refused) == (1, 0)
    assert stored("meter_id") == [("M1",), ("M3",), ("M4",), ("M5",)]
    assert alerts("IN-03") == []
    assert [f["outcome"] for f in ledger.findings(held.batches[0].batch_id)] == ["released"]
    assert replay(METER, [held.batches[0].batch_id]).accepted == 0
    books()
    gate.run_gate([TABLE])


def test_a_crash_before_the_books_are_closed_holds_the_same_batch(declare, deliver, monkeypatch):
    declare(batch=TWO_ROWS)

    def crash(*_):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "finish_batch", crash)
        with pytest.raises(SystemExit):
            deliver("b.csv", row("M3"))
    report = ingest(METER)
    assert (report.recovered_batches, report.batches[0].status) == (1, "held")
    assert quarantine.counts(METER) == {(METER, report.batches[0].batch_id): 1}
    assert stored("meter_id") == []
    books()


def test_a_released_batch_stays_released_when_history_is_read_again(declare, deliver):
    declare(batch=TWO_ROWS)
    released = deliver("a.csv", row("M1")).batches[0].batch_id
    replay(METER, [released])
    held = deliver("b.csv", row("M2")).batches[0].batch_id
    declare("1.1.0", batch=TWO_ROWS)
    report = reread(METER)
    assert (report.batches, report.withdrawn_left) == (1, 1)
    assert stored("meter_id") == [("M1",)]
    assert {b["batch_id"]: b["status"] for b in ledger.batches(METER)}[held] == "held"
    declare("1.2.0", batch=TWO_ROWS)
    reread(METER)
    assert stored("meter_id") == [("M1",)]
    books()


def test_a_ledger_made_again_knows_what_is_held(declare, deliver, home):
    declare(batch=TWO_ROWS)
    deliver("a.csv", row("M1"), row("M2"))
    held = deliver("b.csv", row("M3")).batches[0].batch_id
    before = {b["batch_id"]: (b["status"], b["quarantined_count"]) for b in ledger.batches(METER)}
    ledger.disconnect()
    for file in home.rglob("*.db*"):
        file.unlink()
    rebuild()
    assert {b["batch_id"]: (b["status"], b["quarantined_count"]) for b in ledger.batches(METER)} == before
    assert replay(METER, [held]).accepted == 1
    books()


def test_a_warning_lets_the_batch_in_and_goes_with_the_next_good_one(declare, deliver):
    declare(batch={"rules": [{"kind": "previous", "share": 0.5, "severity": "warn", "messageZh": "行数变化大"}]})
    assert deliver("a.csv", row("M1"), row("M2")).batches[0].batch_findings[0].examined == 0
    deliver("b.csv", *(row(f"M{n}") for n in range(10, 17)))
    assert alerts("IN-04") == [METER]
    deliver("c.csv", *(row(f"M{n}") for n in range(20, 27)))
    assert alerts("IN-04") == []
    assert len(stored("meter_id")) == 16


def test_a_gap_to_what_is_stored_is_seen(declare, deliver):
    rule = {"kind": "continuity", "column": "seq_no", "by": ["meter_id"], "after": "stored", "messageZh": "断号"}
    declare(batch={"rules": [rule]})
    deliver("a.csv", row(seq_no="1", day="2026-11-17"), row("M2", seq_no="90", day="2026-11-17"))
    assert deliver("b.csv", row(seq_no="2")).batches[0].status == "accepted"
    gap = deliver("c.csv", row(seq_no="4", day="2026-11-20")).batches[0]
    assert gap.status == "held"
    assert gap.batch_findings[0].message_zh == "断号（缺 1 个，1 组有断档，最早缺 3）"


def test_a_manifest_is_no_record_and_its_totals_are_compared(declare, deliver):
    declare(
        batch={
            "rules": [{"kind": "total", "declaredIn": "manifest", "messageZh": "与清单不符"}],
            "manifest": {"pattern": r"\.json$"},
        }
    )
    deliver("a.csv", row("M1"), row("M2"), take_in=False)
    good = deliver("a.json", content=json.dumps({"objects": [{"name": "a.csv", "rows": 2}]})).batches[0]
    assert (good.status, good.objects, good.decoded) == ("accepted", 2, 2)
    deliver("b.csv", row("M3"), take_in=False)
    assert deliver("b.json", content=json.dumps({"name": "b.csv", "rows": 2})).batches[0].status == "held"
    books()


def test_corrections_are_counted_and_traced_to_the_record(declare, deliver):
    typo = {
        "id": "letter_o", "where": "true", "column": "amount", "from": "1O", "to": "10",
        "reason": "终端把零写成字母", "approvedBy": "数据处", "expires": "2026-11-30",
    }  # fmt: skip
    declare(corrections=[typo])
    done = deliver(
        "a.csv", row("M1", amount="1O"), row("M2", amount="3"), row("M3", amount="1O", read_date="")
    ).batches[0]
    assert done.corrected_by_rule == {"venue.meter.correction.letter_o": 2}
    assert stored("meter_id", "amount") == [("M1", 10.0), ("M2", 3.0)]
    publish_ops()
    noted = pl.scan_delta(tables.path("ops_ingest__finding")).collect().to_dicts()
    assert [(n["kind"], n["outcome"], n["examined_count"], n["found_count"], n["message"]) for n in noted] == [
        ("correction", "applied", 3, 2, "终端把零写成字母")
    ]
    traced = row_events.of("corrected", batches=[done.batch_id]).sort("record_no")
    assert traced.select("record_no", "rule_id").rows() == [(n, "venue.meter.correction.letter_o") for n in (1, 3)]
    replay(METER)
    assert row_events.of("corrected").height == 2  # a replay of the refused one notes nothing twice
    books()


def test_late_rows_are_refused_as_of_their_arrival_and_the_gate_agrees(declare, deliver, monkeypatch):
    declare(late={"expectedDays": 1, "refuseAfterDays": 3})
    done = deliver("a.csv", row("M1", "2026-11-17"), row("M2", "2026-11-16")).batches[0]
    assert done.quarantined_by_rule == {"venue.meter.late.refused": 1}
    monkeypatch.setenv("TIYU_TODAY", "2026-12-20")  # a month later the row that was in time still is
    assert gate.run_gate([TABLE]).ok
    assert any(r["rule_id"] == "venue.meter.late.refused" for r in ledger.quality_results(table_name=TABLE))
    declare(late={"expectedDays": 1, "refuseAfterDays": 4})
    assert replay(METER).accepted == 1


def test_the_commands_say_what_held_the_batch(declare, deliver, monkeypatch):
    declare(batch=TWO_ROWS)
    deliver("b.csv", row("M3"), take_in=False)
    from cli.main import build_app

    result = CliRunner().invoke(build_app(), ["ingest", METER])
    assert result.exit_code == 1
    assert "venue.meter.batch.rows" in result.output
    assert "整批扣下" in result.output
    assert "一天不到两条（收到 1 条，应不少于 2 条）" in result.output
    assert [content["done"] for content in batch_list.read_all(METER)] == [True]


def to_catalogue() -> list[tuple[str, str]]:
    """What `tiyu catalog check --lake` says of columns that nobody has catalogued."""
    seen = SimpleNamespace(contracts=list(contracts.load_all("source").values()), lake=True)
    return [(problem.code, problem.where) for problem in execute(drift_check.check(), seen).problems]


def test_an_unknown_column_waits_in_the_archive_until_it_is_graded(declare, deliver):
    declare(drift={"unknownColumn": "add"})
    content = f"{','.join(meters.COLUMNS)},why\nM1,2026-11-19,,,,,,,broken\n"
    done = deliver("a.csv", content=content).batches[0]
    assert (done.status, done.unknown_columns) == ("accepted", {"why": 1})
    assert alerts("IN-05") == [METER]
    assert to_catalogue() == [("uncatalogued_column", "venue.meter.why")]
    publish_ops()
    assert pl.scan_delta(tables.path("ops_ingest__finding")).collect().is_empty()  # a header may hold anything
    declare("1.1.0", state_from="why", drift={"unknownColumn": "ignore"})
    reread(METER)
    assert stored("meter_id", "state") == [("M1", "broken")]
    assert to_catalogue() == []
    books()


def test_a_contract_is_tried_on_the_newest_batch_of_the_archive(declare, deliver):
    declare()
    deliver("a.csv", row("M1", amount="1"), row("M2", amount="?"))
    before = {table: tables.version(table) for table in tables.all_tables()}
    contract = contracts.load_all("source")[METER]
    done = trial.run(contract, trial.samples_of(contract))
    assert (done.ok, done.accepted, done.quarantined) == (False, 1, 1)
    assert {table: tables.version(table) for table in tables.all_tables()} == before
    assert len(ledger.batches(METER)) == 1


@pytest.mark.parametrize(("left_out", "effect"), [(None, None), ("310151", "整批扣下")])
def test_a_population_list_without_a_district_is_held(left_out, effect):
    """The one declared source whose deliveries must be complete, with its own form."""
    feed = reference.PEOPLE
    day = dt.date(2026, 11, 20)
    rows = [
        row for row in reference.population(build_city(SIZES["tiny"], 1), day, None) if row["行政区划代码"] != left_out
    ]
    assert len(rows) == (16 if left_out is None else 15)
    done = trial.run(contracts.load(feed.resource), {"a.xlsx": encode(feed.form, feed.columns, rows, day)})
    found = {rule.rule_id: rule.effect for rule in done.rules if ".batch." in rule.rule_id}
    assert list(found.values()) == ([effect] if effect else [])
    assert done.ok == (effect is None)
