"""A folder of real device files by the DAG's code path (skips where the files are not at hand)."""

from __future__ import annotations

import gzip
import os
import shutil
import zipfile
from pathlib import Path

import polars as pl
import pytest

from ingestion.run import ingest
from lake import tables
from lake.errors import TiyuError
from quality import quarantine
from quality.reconcile import reconcile

FILES = Path(os.environ.get("TIYU_DEVICE_FILES") or Path(__file__).resolve().parents[4] / "shared" / "data")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not (FILES / "fit").is_dir(), reason="real device files are not beside the repository"),
]


@pytest.fixture
def folder(home, tmp_path):
    """The real files in one flat folder, two of them packed."""
    target = tmp_path / "devices"
    target.mkdir()
    for path in sorted([*(FILES / "fit").glob("*.fit"), *(FILES / "tcx_gpx").iterdir()]):
        shutil.copy(path, target)
    plain = target / "garmin-fenix-5-run.fit"
    with gzip.open(target / "garmin-fenix-5-run.fit.gz", "wb") as packed:
        packed.write(plain.read_bytes())
    plain.unlink()
    with zipfile.ZipFile(target / "edge.zip", "w") as packed:
        packed.write(target / "garmin-edge-820-bike.fit", "garmin-edge-820-bike.fit")
    (target / "garmin-edge-820-bike.fit").unlink()
    return target


def rows(name: str) -> pl.DataFrame:
    return pl.scan_delta(tables.path(name)).collect()


def test_what_a_correct_reader_finds(folder):
    report = ingest("training.activity", folder)
    assert report.decoded == report.accepted + report.quarantined + report.duplicate
    assert reconcile("training.activity").ok

    activities, samples = rows("ods_training__activity"), rows("ods_training__activity_sample")
    sizes = samples.group_by("activity_id").len()
    assert set(sizes["len"]) >= {21, 15, 2809, 3424, 590, 14, 96}
    assert activities["sample_count"].sum() == samples.height
    assert activities["started_at"].dt.year().min() > 2010, "device uptime is not a date: nothing dated 1990"

    big = activities.filter(pl.col("sample_count") == 2809)["activity_id"][0]
    assert samples.filter(pl.col("activity_id") == big)["heart_rate_bpm"].count() == 2808
    session = rows("ods_training__activity_session").filter(pl.col("activity_id") == big)
    assert session["distance_m"][0] == pytest.approx(9008.22, abs=0.01)
    assert rows("ods_training__activity_lap").filter(pl.col("activity_id") == big).height == 4

    ride = activities.filter(pl.col("sample_count") == 96)
    assert ride["file_format"].to_list() == ["tcx"], "the same ride as TCX and GPX is one activity, the richer one"
    walk = activities.filter(pl.col("sample_count") == 14)
    assert walk["is_partial"].to_list() == [False], "whole, damaged, cut and chained: one activity"

    swim = rows("ods_training__activity_session").filter(pl.col("pool_length_unit") == "yd")
    assert (swim["pool_length"][0], swim["active_length_count"][0]) == (25.0, 114)
    assert rows("ods_training__swim_length").height == 166
    assert rows("ods_training__rr_interval").height == 113 + 126
    assert rows("ods_training__developer_value")["field_name"].unique().sort().to_list() == [
        "Distance", "Form Power", "Leg Spring Stiffness", "Speed",
    ]  # fmt: skip
    worn = rows("ods_training__device_wellness")
    assert dict(worn.group_by("record_kind").len().iter_rows()) == {"monitoring": 337, "weight": 2}
    scale = worn.filter(pl.col("record_kind") == "weight").sort("user_no")
    assert scale["user_no"].to_list() == [0, 1]
    assert scale["weight_kg"].to_list() == [75.8, 58.2]

    refused = rows(quarantine.TABLE)
    assert dict(refused.group_by("rule_id").len().iter_rows()) == {
        "TIYU-ING-0301": 1,  # settings
        "decode.damaged_file": 2,
        "decode.no_valid_date": 2,
    }
    salvage = " ".join(refused.filter(pl.col("rule_id") == "decode.damaged_file")["reason"])
    assert "28" in salvage
    assert "14" in salvage


def test_the_same_folder_again_adds_nothing(folder):
    ingest("training.activity", folder)
    before = {name: tables.version(name) for name in tables.all_tables()}
    again = ingest("training.activity", folder)
    assert again.decoded == 0
    assert {name: tables.version(name) for name in tables.all_tables()} == before


def test_a_folder_cannot_be_given_for_an_interface(home, tmp_path):
    with pytest.raises(TiyuError, match="TIYU-ING-"):
        ingest("venue.booking", tmp_path)
