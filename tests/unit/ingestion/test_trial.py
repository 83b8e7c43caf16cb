"""A contract tried on a sample says what would become of it, and leaves nothing behind."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))

import meters

from benchmarks.ingest.data import fit_activity
from catalog import contracts
from cli.main import build_app
from ingestion import trial
from lake.errors import TiyuError

HEAD = ",".join(meters.COLUMNS)


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No installation at all."""
    home = tmp_path / "none"
    monkeypatch.setenv("TIYU_HOME", str(home))
    monkeypatch.setenv("TIYU_TODAY", "2026-11-20")
    for name in ("LAKE_ROOT", "TIYU_LEDGER_URL"):
        monkeypatch.delenv(name, raising=False)
    yield
    assert not home.exists(), "a trial wrote something"


def sample(*lines: str, head: str = HEAD) -> dict[str, bytes]:
    return {"a.csv": "\n".join([head, *lines, ""]).encode()}


def test_a_sample_that_satisfies():
    done = trial.run(
        meters.contract(), sample("M1,2026-11-18,1,2.5,x,,,", "M2,2026-11-18,2,,x,是,2026-11-18 08:00:00,")
    )
    assert done.ok
    assert (done.decoded, done.accepted, done.quarantined, done.duplicate) == (2, 2, 0, 0)
    amount = next(column for column in done.columns if column.column == "amount")
    assert (amount.rows, amount.filled, amount.parsed) == (2, 1, 1)


def test_every_kind_of_trouble_is_told_with_its_place():
    contract = meters.contract(
        rules=[{"kind": "range", "column": "amount", "max": 5, "messageZh": "读数过大"}],
        batch={"rules": [{"kind": "rows", "min": 99, "messageZh": "行数太少"}]},
    )
    lines = [
        "M1,2026-11-18,1,2,,,,",
        "M1,2026-11-18,1,3,,,,",
        "M1,2026-11-18,1,2,,,,",
        "M2,2026-11-18,1,9,,,,",
        "M3,soon,1,1,,,,",
        "M4,2026-11-18",
    ]
    done = trial.run(contract, sample(*lines))
    assert not done.ok
    assert (done.decoded, done.accepted, done.quarantined, done.duplicate) == (6, 1, 4, 1)
    rules = {rule.rule_id: (rule.effect, rule.records, [number for _, number in rule.first]) for rule in done.rules}
    assert rules == {
        "decode.field_count": ("拒收", 1, [6]),
        "venue.meter.amount.range": ("拒收", 1, [4]),
        "venue.meter.dedup.conflict": ("拒收", 1, [2]),
        "venue.meter.read_date.type": ("拒收", 1, [5]),
        "venue.meter.batch.rows": ("整批扣下", 1, []),
    }
    assert any("onChanged" in text for text in done.suggestions)
    assert [preview["record_no"] for preview in done.previews] == [4, 5]


def test_columns_that_are_missing_or_new():
    assert [o["code"] for o in trial.run(meters.contract(), sample(head=HEAD + ",why")).refused_objects] == [
        "TIYU-ING-0211"
    ]
    waiting = trial.run(
        meters.contract(drift={"unknownColumn": "add"}), sample("M1,2026-11-18,,,,,,,x", head=HEAD + ",why")
    )
    assert (waiting.ok, waiting.accepted, waiting.unknown_columns) == (False, 1, ["why"])
    ignored = trial.run(
        meters.contract(drift={"unknownColumn": "ignore"}), sample("M1,2026-11-18,,,,,,,x", head=HEAD + ",why")
    )
    assert ignored.ok
    lacking = trial.run(
        meters.contract(drift={"missingColumn": "ignore"}), sample("M1,2026-11-18", head="meter_id,read_date")
    )
    assert lacking.ok
    assert any("amount" in text and "全空" in text for text in lacking.suggestions)


def test_what_could_be_declared_is_suggested_without_showing_a_value():
    lines = [f"M{n},2026-11-18,{n},1,{'secret' if n % 2 else 'hidden'},,,x" for n in range(40)]
    done = trial.run(meters.contract(), sample(*lines))
    said = "\n".join(done.suggestions)
    assert "样本中从不为空：列seq_no（seq_no）" in said
    assert "列state（state）只有 2 种取值" in said
    assert "列declared（declared）过半的值读不成 BIGINT" in said
    assert "secret" not in said


def test_commas_between_thousands_are_recognised():
    lines = [
        f"M{n},2026-11-18,{n},{amount},a,,,x" for n, amount in enumerate(["1", '"1,250"', '"12,250.5"', "x", '"1,25"'])
    ]
    done = trial.run(meters.contract(), sample(*lines))
    said = "\n".join(done.suggestions)
    assert '有 2 个值带千分位逗号：在该列写 read: {thousands: ","}' in said
    assert "1,250" not in said


def test_a_device_file_is_tried_though_it_holds_no_texts():
    done = trial.run(
        contracts.load("training.activity"), {"athlete_no_k1_aaaaaaaaaaaaaaaaaaaaaaaaaa/a.fit": fit_activity(1)}
    )
    assert (done.decoded, done.accepted) == (1, 1)
    started = next(column for column in done.columns if column.column == "started_at")
    assert (started.rows, started.filled, started.parsed, started.grouped) == (1, 1, 1, 0)


def test_a_reference_that_cannot_be_looked_up_is_said_to_be_open():
    declared = [
        {
            "kind": "reference",
            "column": "meter_id",
            "table": "ods_venue__register",
            "targetColumn": "venue_id",
            "messageZh": "未登记",
        }
    ]
    done = trial.run(meters.contract(rules=declared), sample("M1,2026-11-18,,,,,,"))
    assert done.ok
    assert done.open_references == ["venue.meter.meter_id.reference"]


def test_restated_rows_and_tombstones_are_tried_too():
    contract = meters.contract(
        dedup={"key": ["meter_id"], "onChanged": "newest"}, deletes={"by": "tombstone", "pattern": "gone"}
    )
    done = trial.run(
        contract, {**sample("M1,2026-11-18,,1,,,,", "M1,2026-11-18,,2,,,,"), "gone.csv": b"meter_id\nM1\nM9\n"}
    )
    assert (done.decoded, done.accepted, done.quarantined) == (4, 3, 1)


def test_the_command_takes_a_contract_from_anywhere(tmp_path):
    draft, file = tmp_path / "my draft.yaml", tmp_path / "a.csv"
    draft.write_text(meters.text(), "utf-8")
    file.write_bytes(sample("M1,2026-11-18,,1,,,,")["a.csv"])
    run = CliRunner().invoke
    done = run(build_app(), ["contract", "test", str(draft), "--sample", str(file), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["accepted"] == 1
    file.write_bytes(sample("M1,bad,,1,,,,")["a.csv"])
    shown = run(build_app(), ["contract", "test", str(draft), "--sample", str(file)])
    assert shown.exit_code == 1
    assert "venue.meter.read_date.type" in shown.output
    assert "a.csv 第 1 条" in shown.output
    assert "样本不符合契约；没有写入任何数据" in shown.output


def test_without_a_sample_and_without_an_archive_it_says_what_to_give():
    with pytest.raises(TiyuError, match="TIYU-CAT-0020"):
        trial.samples_of(meters.contract())
