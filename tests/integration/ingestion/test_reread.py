"""A contract changes and history follows from the archive: as if the new contract had been there from the beginning."""

from __future__ import annotations

import json
import shutil

import polars as pl
import pytest
import typer
from city import ingest_and_trust
from typer.testing import CliRunner

from catalog import contracts
from ingestion import pipeline
from ingestion.reread import reread
from ingestion.run import ingest
from lake import ledger, tables
from lake.errors import TiyuError
from quality import gate
from quality.reconcile import reconcile

pytestmark = pytest.mark.integration

WATER, REGISTER, TABLE = "supervision.water_reading", "venue.register", "ods_supervision__water_reading"
FILE = contracts.FOLDER / "sources" / "supervision" / "water_reading.odcs.yaml"
NOW = FILE.read_text("utf-8")
DEVICE = NOW[NOW.index("      - name: device_id") : NOW.index("      - name: sampled_at")]
#: A first contract that does not know the device, which the files carry already, and takes any pH.
FIRST = (
    NOW.replace(DEVICE, "")
    .replace("drift: {unknownColumn: stop", "drift: {unknownColumn: ignore")
    .replace("              max: 14\n", "              max: 99\n")
)
#: The second one: the device, a stricter pH, another type of the reading.
SECOND = (
    NOW.replace("version: 1.0.0", "version: 1.1.0")
    .replace("              max: 14\n", "              max: 7.5\n")
    .replace("physicalType: DOUBLE", 'physicalType: "DECIMAL(12,4)"')
)


@pytest.fixture
def contract(monkeypatch):
    """Put another text in the place of the water contract."""
    real = contracts.load_all

    def use(text: str) -> None:
        changed = contracts.read_contract(FILE, text=text)

        def load_all(kind=None, **options):
            return {name: changed if name == WATER else c for name, c in real(kind, **options).items()}

        monkeypatch.setattr(contracts, "load_all", load_all)

    return use


@pytest.fixture
def drop(city, home, tmp_path, monkeypatch):
    """Three days of readings and the register in a folder of their own; the register is taken in."""
    folder = tmp_path / "drop"
    readings = city.folder / "drops" / "supervision" / "water_reading"
    for day in sorted(entry.name for entry in readings.iterdir())[-3:]:
        (folder / "supervision" / "water_reading" / day).mkdir(parents=True)
        for file in sorted((readings / day).iterdir())[:2]:
            shutil.copy(file, folder / "supervision" / "water_reading" / day)
    shutil.copytree(city.folder / "drops" / "venue" / "register", folder / "venue" / "register")
    monkeypatch.setenv("TIYU_CONN_CITY_DROP", f"file://{folder}")
    ingest_and_trust(REGISTER)
    return folder


def take_in() -> None:
    """Several batches, so that their order matters; then the gate."""
    ingest(WATER, max_bytes=3000)
    gate.run_gate([TABLE])


def rows() -> pl.DataFrame:
    frame = pl.scan_delta(tables.path(TABLE)).collect()
    return frame.select(sorted(frame.columns)).sort("_source_object", "_record_no")


def counts() -> list[tuple]:
    return [
        (row["batch_id"], *(row[f"{name}_count"] for name in ("decoded", "accepted", "quarantined", "duplicate")))
        for row in ledger.batches(WATER)
    ]


def balanced() -> None:
    report = reconcile(WATER)
    assert report.ok, report.problems
    assert report.examined >= 3


def test_history_follows_without_a_fetch_and_is_seen_after_the_gate(contract, drop):
    contract(FIRST)
    take_in()
    old, checked = rows(), ledger.checked_version(TABLE)
    assert "device_id" not in old.columns
    contract(SECOND)
    shutil.rmtree(drop / "supervision")  # nothing can be fetched any more
    report = reread(WATER)
    assert (report.from_versions, report.objects) == (
        ["1.0.0"],
        len({row[0] for row in old.select("_source_object").rows()}),
    )
    assert report.batches >= 3
    balanced()
    assert ledger.checked_version(TABLE) == checked, "readers see the old rows until the gate has judged"
    assert pl.scan_delta(tables.path(TABLE), version=checked).collect().height == old.height
    gate.run_gate([TABLE])
    assert ledger.checked_version(TABLE) == tables.version(TABLE)
    now = rows()
    assert now["value"].dtype == pl.Decimal(12, 4)
    assert now["device_id"].is_not_null().any()
    assert report.after["quarantined"] > report.before["quarantined"], "the stricter rule refuses rows of the past"
    assert (
        report.after["accepted"]
        == now.height
        == report.before["accepted"] - (report.after["quarantined"] - report.before["quarantined"])
    )


def test_reading_again_and_starting_anew_give_the_same_rows(contract, drop, home, tmp_path, monkeypatch):
    contract(FIRST)
    take_in()
    contract(SECOND)
    reread(WATER)
    gate.run_gate([TABLE])
    mine, batches = rows(), counts()
    ledger.disconnect()
    shutil.copytree(home / "keys", tmp_path / "other" / "keys")
    monkeypatch.setenv("TIYU_HOME", str(tmp_path / "other"))
    ingest_and_trust(REGISTER)
    take_in()
    assert mine.equals(rows())
    assert counts() == batches, "the same batches under the same names"
    assert mine.height > 30


def test_ingest_says_what_to_do_when_columns_changed(contract, drop):
    contract(FIRST)
    take_in()
    contract(SECOND)
    with pytest.raises(TiyuError, match="TIYU-ING-0013") as caught:
        ingest(WATER)
    assert caught.value.context["columns"] == "device_id、value"
    assert "tiyu reread" in caught.value.hint_zh
    reread(WATER)
    assert ingest(WATER).status == "nothing_new"


def test_nothing_happens_without_a_new_version(contract, drop):
    with pytest.raises(TiyuError, match="TIYU-ING-0014"):
        reread(WATER)
    contract(FIRST)
    take_in()
    before = tables.version(TABLE)
    with pytest.raises(TiyuError, match="TIYU-ING-0014"):
        reread(WATER)
    contract(SECOND)
    reread(WATER)
    with pytest.raises(TiyuError, match="TIYU-ING-0014"):
        reread(WATER)
    contract(FIRST)
    with pytest.raises(TiyuError, match="TIYU-ING-0016"):
        reread(WATER)
    assert before < tables.version(TABLE)
    with pytest.raises(TiyuError, match="TIYU-ING-0001"):
        reread("no.such")


def test_a_layout_that_old_files_do_not_have_stops_before_anything_changes(contract, drop):
    take_in()
    before, batches = rows(), counts()
    contract(NOW.replace("version: 1.0.0", "version: 2.0.0").replace("physicalName: method", "physicalName: 检测方式"))
    with pytest.raises(TiyuError, match="TIYU-ING-0015") as caught:
        reread(WATER)
    assert caught.value.context["unreadable"] == caught.value.context["objects"] > 0
    assert rows().equals(before)
    assert counts() == batches


@pytest.mark.parametrize(
    ("step", "again"),
    [
        ("before the tables are emptied", lambda: reread(WATER)),
        ("between two batches", lambda: ingest(WATER)),
        ("before a batch is closed", lambda: reread(WATER)),
    ],
)
def test_killed_in_the_middle_it_is_finished_by_the_next_run(contract, drop, step, again, monkeypatch):
    contract(FIRST)
    take_in()
    contract(SECOND)
    with monkeypatch.context() as patch:
        calls = 0

        def dies(real, at):
            def call(*arguments, **options):
                nonlocal calls
                calls += 1
                if calls == at:
                    raise KeyboardInterrupt
                return real(*arguments, **options)

            return call

        if step == "before the tables are emptied":
            patch.setattr(pipeline, "empty_tables", dies(pipeline.empty_tables, 1))
        elif step == "between two batches":
            patch.setattr(pipeline, "process", dies(pipeline.process, 2))
        else:
            patch.setattr(ledger, "finish_batch", dies(ledger.finish_batch, 2))
        with pytest.raises(KeyboardInterrupt):
            reread(WATER)
    with pytest.raises(TiyuError, match="TIYU-QG-0006"):
        gate.run_gate([TABLE])  # rows are missing: nothing may be judged now
    again()
    balanced()
    gate.run_gate([TABLE])
    interrupted = rows()
    contract(SECOND.replace("version: 1.1.0", "version: 1.2.0"))
    reread(WATER)
    kept = [name for name in interrupted.columns if name != "_batch_id"]
    assert rows().select(kept).equals(interrupted.select(kept))


def test_a_withdrawn_batch_stays_withdrawn_and_a_watermark_where_it_is(contract, drop):
    contract(FIRST)
    take_in()
    first = ledger.batches(WATER)[0]["batch_id"]
    gate.withdraw_batches(WATER, [first], "疑似错误")
    mark = ledger.get_watermark(WATER)
    contract(SECOND)
    report = reread(WATER)
    assert report.withdrawn_left == 1
    assert [row["batch_id"] for row in ledger.batches(WATER, "withdrawn")] == [first]
    assert ledger.get_watermark(WATER) == mark
    balanced()
    gate.run_gate([TABLE])
    assert rows().filter(pl.col("_batch_id") == first).is_empty()


def test_the_command(contract, drop):
    from cli import reread as command

    app = typer.Typer()
    command.register(app)
    app.command("other")(lambda: None)
    contract(FIRST)
    take_in()
    contract(SECOND)
    result = CliRunner().invoke(app, ["reread", WATER])
    assert result.exit_code == 0, result.output
    assert "按契约 1.1.0 重读" in result.output
    contract(SECOND.replace("version: 1.1.0", "version: 1.2.0"))
    data = json.loads(CliRunner().invoke(app, ["reread", WATER, "--json"]).stdout)
    assert data["before"] == data["after"]
