"""The ledger is gone: it is made again from archive and tables, and what follows equals an undisturbed run."""

from __future__ import annotations

import json
import re
import shutil

import polars as pl
import pytest
import typer
from city import ingest_and_trust
from typer.testing import CliRunner

from ingestion import pipeline
from ingestion.rebuild import rebuild
from ingestion.replay import replay
from ingestion.run import ingest
from lake import ledger, tables
from lake.errors import TiyuError
from lake.settings import settings
from quality import gate
from quality.reconcile import reconcile

pytestmark = pytest.mark.integration

WATER, REGISTER, ACTIVITY = "supervision.water_reading", "venue.register", "training.activity"


@pytest.fixture
def filled(city, home, tmp_path, monkeypatch):
    """Register, device files and two batches of readings; a withdrawn batch and an unreadable file among them."""
    folder = tmp_path / "drop"
    readings = city.folder / "drops" / "supervision" / "water_reading"
    days = sorted(entry.name for entry in readings.iterdir())
    target = folder / "supervision" / "water_reading"
    for day in days[-3:-1]:
        (target / day).mkdir(parents=True)
        for file in sorted((readings / day).iterdir())[:3]:
            shutil.copy(file, target / day)
    shutil.copytree(city.folder / "drops" / "venue", folder / "venue")
    monkeypatch.setenv("TIYU_CONN_CITY_DROP", f"file://{folder}")
    ingest_and_trust(REGISTER)
    ingest(WATER)
    first = next(target.glob("*/*.csv"))
    (target / days[-1]).mkdir()
    (target / days[-1] / f"water_{days[-1]}_09.csv").write_text("not,a,known,header\n1,2,3,4\n", "utf-8")
    shutil.copy(first, target / days[-1] / f"water_{days[-1]}_08.csv")
    (target / days[-1] / f"water_{days[-1]}_08.csv").write_text(first.read_text("utf-8") + "\n", "utf-8")
    ingest(WATER)
    return folder


def lose() -> None:
    ledger.disconnect()
    for file in settings().home.glob("ledger.db*"):
        file.unlink()


def outcome() -> dict:
    """All that must be the same as before the loss."""
    # a withdrawn batch has no rows left to tell its dates
    timeless = ("finished_at", "failures", "first_part_date", "last_part_date")
    batches = [{k: v for k, v in row.items() if k not in timeless} for row in ledger.batches()]
    return {
        "batches": batches,
        "objects": [ledger.objects(row["batch_id"]) for row in batches],
        "watermarks": {name: ledger.get_watermark(name) for name in (WATER, REGISTER)},
        "signatures": {name: ledger.known_signatures(name) for name in (WATER, REGISTER)},
    }


def rows(table: str) -> pl.DataFrame:
    frame = pl.scan_delta(tables.path(table)).collect()
    return frame.sort(frame.columns)


def balanced() -> None:
    report = reconcile(WATER)
    assert report.ok, report.problems


def test_every_batch_comes_back_as_it_was(filled):
    balanced()
    before, heads = outcome(), {name: tables.version(name) for name in tables.all_tables()}
    assert {row["status"] for row in before["batches"]} >= {"partial"}
    assert any(item["status"] == "refused" for items in before["objects"] for item in items)
    assert sum(row["duplicate_count"] for row in before["batches"]) > 0
    lose()
    report = rebuild()
    assert (report.batches, report.unfinished) == (len(before["batches"]), 0)
    assert outcome() == before
    balanced()
    assert ledger.checked_versions() == {}, "nothing is believed to be checked"
    assert ingest(REGISTER).status == "nothing_new"
    gate.run_gate(["ods_venue__register"])
    assert ingest(WATER).status == "nothing_new"
    gate.run_gate(["ods_supervision__water_reading"])
    assert {name: tables.version(name) for name in heads} == heads, "no table was written again"
    assert ledger.checked_version("ods_supervision__water_reading") == heads["ods_supervision__water_reading"]


def test_a_batch_in_the_middle_is_finished_by_the_next_ingest(filled, monkeypatch):
    target = sorted((filled / "supervision" / "water_reading").iterdir())[0]
    text = sorted(target.glob("*.csv"))[0].read_text("utf-8")
    (target / f"water_{target.name}_23.csv").write_text(re.sub(r"(\d\d):\d\d:\d\d", r"\1:59:01", text), "utf-8")
    with monkeypatch.context() as patch:

        def dies(*arguments, **options):
            raise KeyboardInterrupt

        patch.setattr(pipeline, "write_rows", dies)
        with pytest.raises(KeyboardInterrupt):
            ingest(WATER)
    lose()
    assert rebuild().unfinished == 1
    gate.run_gate(["ods_venue__register"])
    report = ingest(WATER)
    assert report.recovered_batches == 1
    assert report.received_objects == 0, "finished from the archive; nothing is fetched again"
    balanced()


def test_withdrawn_and_replayed_batches_come_back(filled):
    first = ledger.batches(WATER)[0]["batch_id"]
    gate.withdraw_batches(WATER, [first], "疑似错误")
    withdrawn = outcome()
    lose()
    assert rebuild().withdrawn == 1
    got = outcome()
    assert got["batches"] == withdrawn["batches"]
    balanced()
    ledger.set_checked_version("ods_venue__register", tables.version("ods_venue__register"), "test")
    replay(WATER, [first])
    balanced()
    replayed, height = outcome()["batches"], rows("ods_supervision__water_reading").height
    lose()
    assert rebuild().decisions > 0
    assert outcome()["batches"] == replayed
    balanced()
    ledger.set_checked_version("ods_venue__register", tables.version("ods_venue__register"), "test")
    assert replay(WATER).accepted == 0, "what a replay stored is not stored again"
    assert rows("ods_supervision__water_reading").height == height


def test_a_damaged_file_is_kept_and_a_good_one_is_not_touched(filled):
    with pytest.raises(TiyuError, match="TIYU-LED-0010"):
        rebuild()
    before = outcome()
    ledger.disconnect()
    file = settings().home / "ledger.db"
    for side in settings().home.glob("ledger.db-*"):
        side.unlink()
    file.write_bytes(b"not a database" * 1000)
    report = rebuild()
    assert report.kept
    assert outcome() == before
    assert (settings().home / report.kept).read_bytes().startswith(b"not a database")


def test_what_the_archive_does_not_describe_is_refused(filled):
    lists = list((settings().archive_root / WATER / "batches").glob("*.json"))
    assert len(lists) == 2
    for name in lists:
        name.unlink()
    lose()
    with pytest.raises(TiyuError, match="TIYU-LED-0011"):
        rebuild()


def test_lists_hold_no_raw_identifier(city, sources):
    ingest_and_trust(REGISTER)
    ingest(ACTIVITY)
    text = "".join(file.read_text("utf-8") for file in (settings().archive_root / ACTIVITY / "batches").glob("*.json"))
    names = {path.parent.name for path in (city.folder / "drops" / "training").rglob("*") if path.is_file()}
    numbers = {name for name in names if name.startswith("SHA")}
    assert numbers
    assert [number for number in numbers if number in text] == []
    before = ledger.batches(ACTIVITY)
    lose()
    rebuild()
    after = ledger.batches(ACTIVITY)
    assert [{**row, "finished_at": None} for row in after] == [{**row, "finished_at": None} for row in before]


def test_the_command(filled):
    from cli import ledger as command

    app = typer.Typer()
    command.register(app)
    app.command("other")(lambda: None)
    lose()
    data = json.loads(CliRunner().invoke(app, ["ledger", "rebuild", "--json"]).stdout)
    assert data["batches"] >= 3
    lose()
    assert "tiyu gate" in CliRunner().invoke(app, ["ledger", "rebuild"]).output
