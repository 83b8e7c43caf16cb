"""`tiyu backfill`: history is read again; known is recognised, changed arrives as a restatement, the books hold."""

from __future__ import annotations

import json
import shutil
from datetime import date

import polars as pl
import pytest
import typer
from city import ingest_and_trust
from typer.testing import CliRunner

from ingestion.backfill import backfill, dates_in
from ingestion.run import ingest
from lake import ledger, tables
from lake.errors import TiyuError
from quality.reconcile import reconcile

pytestmark = pytest.mark.integration

WATER, BOOKING, REGISTER = "supervision.water_reading", "venue.booking", "venue.register"


@pytest.fixture
def drop(city, sources, tmp_path, monkeypatch):
    """A private copy of two days of readings and of the register, taken in."""
    folder = tmp_path / "drop"
    readings = city.folder / "drops" / "supervision" / "water_reading"
    days = sorted(entry.name for entry in readings.iterdir())[-3:-1]
    for day in days:
        shutil.copytree(readings / day, folder / "supervision" / "water_reading" / day)
    shutil.copytree(city.folder / "drops" / "venue" / "register", folder / "venue" / "register")
    monkeypatch.setenv("TIYU_CONN_CITY_DROP", f"file://{folder}")
    ingest_and_trust(REGISTER)
    ingest(WATER)
    return folder, [date.fromisoformat(f"{day[:4]}-{day[4:6]}-{day[6:]}") for day in days]


def balanced(resource: str) -> None:
    report = reconcile(resource)
    assert report.ok, report.problems


def test_unchanged_history_changes_nothing(drop):
    _, (first, last) = drop
    before = tables.version("ods_supervision__water_reading")
    report = backfill(WATER, first, last)
    assert report.ingest.received_objects == report.ingest.duplicate_objects > 0
    assert report.part_dates == {}
    assert tables.version("ods_supervision__water_reading") == before
    balanced(WATER)


def test_a_corrected_file_of_one_day_touches_that_day_only(drop):
    folder, (first, _) = drop
    file = sorted((folder / "supervision" / "water_reading").glob("*/*.csv"))[0]
    lines = file.read_text("utf-8").splitlines()
    header = lines[0].split(",")
    row = next(line.split(",") for line in lines[1:] if line.split(",")[header.index("item")] == "ph")
    at = header.index("sampled_at")
    row[at] = row[at][:-8] + "23:59:58" if row[at][-6] != "+" else row[at].replace(row[at][11:19], "23:59:58")
    changed = "\n".join([*lines, ",".join(row)]) + "\n"
    other = sorted((folder / "supervision" / "water_reading").glob("*/*.csv"))[-1]
    for target, text in ((file, changed), (other, other.read_text("utf-8") + "\n")):
        target.write_text(text, "utf-8")
    height = pl.scan_delta(tables.path("ods_supervision__water_reading")).collect().height
    report = backfill(WATER, first, first)
    assert report.ingest.received_objects == len(list(file.parent.iterdir())), "only files of the day"
    assert report.ingest.accepted == 1
    assert report.ingest.duplicate + report.ingest.quarantined + 1 == report.ingest.decoded
    assert report.part_dates == {"ods_supervision__water_reading": [first]}
    assert pl.scan_delta(tables.path("ods_supervision__water_reading")).collect().height == height + 1
    balanced(WATER)
    assert ingest(WATER).received_objects == 1, "the scheduled ingest still finds the other changed file"
    balanced(WATER)


def test_an_interface_is_asked_since_the_first_day_and_its_watermark_stays(sources):
    ingest_and_trust(REGISTER)
    ingest(BOOKING)
    mark = ledger.get_watermark(BOOKING)
    before = tables.version("ods_venue__booking")
    rows = pl.scan_delta(tables.path("ods_venue__booking")).collect().height
    report = backfill(BOOKING, date(2026, 11, 17), date(2026, 11, 18), max_bytes=1)
    assert report.ingest.decoded > 0
    assert report.ingest.accepted == 0, "every record is known"
    assert pl.scan_delta(tables.path("ods_venue__booking")).collect().height == rows
    assert tables.version("ods_venue__booking") == before
    assert report.part_dates == {}
    assert ledger.get_watermark(BOOKING) == mark
    balanced(BOOKING)


def test_restated_history_of_an_interface_arrives(sources):
    """The lake lost its bookings' last days (as if the interface had left them out); the backfill brings them."""
    ingest_and_trust(REGISTER)
    ingest(BOOKING)
    whole = pl.scan_delta(tables.path("ods_venue__booking")).collect()
    lost = whole.filter(pl.col("updated_at") >= pl.datetime(2026, 11, 18, time_zone="UTC"))
    assert lost.height > 0
    days = sorted(lost["part_date"].unique().to_list())
    tables.delete("ods_venue__booking", "updated_at >= '2026-11-18T00:00:00Z'", part_dates=days)
    report = backfill(BOOKING, date(2026, 11, 18), date(2026, 11, 20))
    assert report.ingest.accepted == lost.height
    assert report.part_dates["ods_venue__booking"] == days
    keys = ["booking_id", "updated_at"]
    now = pl.scan_delta(tables.path("ods_venue__booking")).collect()
    assert now.select(keys).sort(keys).equals(whole.select(keys).sort(keys))


@pytest.mark.parametrize(
    ("name", "days"),
    [
        ("venue/register/场馆登记_20261118.csv", [date(2026, 11, 18)]),
        ("SHA000123/202611180930_running.fit", [date(2026, 11, 18)]),
        ("2026-11-18/x.csv", [date(2026, 11, 18)]),
        ("20261118/entry_20261119_07.ndjson", [date(2026, 11, 18), date(2026, 11, 19)]),
        ("a/20261399.csv", []),
        ("a/1202611180.csv", []),
        ("plain.csv", []),
    ],
)
def test_dates_in_names(name, days):
    assert dates_in(name) == days


def test_wrong_ranges(home):
    for first, last in ((date(2026, 11, 2), date(2026, 11, 1)), (date(2030, 1, 1), date(2030, 1, 2))):
        with pytest.raises(TiyuError, match="TIYU-ING-0012"):
            backfill(WATER, first, last)
    with pytest.raises(TiyuError, match="TIYU-ING-0001"):
        backfill("no.such", date(2026, 11, 1), date(2026, 11, 2))


def test_the_command(drop):
    from cli import backfill as command

    app = typer.Typer()
    command.register(app)
    app.command("other")(lambda: None)
    _, (first, last) = drop
    arguments = ["backfill", WATER, "--from", first.isoformat(), "--to", last.isoformat()]
    assert "没有任何分区变化" in CliRunner().invoke(app, arguments).output
    data = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert data["ingest"]["received_objects"] > 0


def test_a_source_that_cannot_give_its_past_again_says_so(home, monkeypatch):
    from ingestion import connectors

    monkeypatch.setitem(connectors.MODULES, "file_drop", connectors.MODULES["mqtt"])
    with pytest.raises(TiyuError) as caught:
        backfill(WATER, date(2026, 11, 1), date(2026, 11, 2))
    assert (caught.value.code, caught.value.exit_code) == ("TIYU-ING-0105", 2)


def test_every_connector_says_what_it_can_read_again():
    from ingestion import connectors

    rest = connectors.of_kind("rest")
    assert (rest.reach({}), rest.reach({"since_param": None})) == ("since", "whole")
    assert connectors.of_kind("file_drop").reach({}) == "dated"
