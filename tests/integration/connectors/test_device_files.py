"""Real device files that nobody on the project made. They stay outside the repository: skipped when absent.

Point TIYU_DEVICE_FILES at a folder with ``fit/`` and ``tcx_gpx/``; by default a ``shared/data`` beside the repository.
"""

from __future__ import annotations

import csv
import hashlib
import os
import time
from pathlib import Path

import pytest

from ingestion import connectors, decoders
from lake.errors import TiyuError

FILES = Path(os.environ.get("TIYU_DEVICE_FILES") or Path(__file__).resolve().parents[4] / "shared" / "data")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not (FILES / "fit").is_dir(), reason="real device files are not here"),
]
A, S, L, P = (f"ods_training__activity{suffix}" for suffix in ("", "_session", "_lap", "_sample"))
W = "ods_training__device_wellness"


def read(name: str):
    content = (FILES / name).read_bytes()
    sha = hashlib.sha256(content).hexdigest()
    return decoders.decode({"kind": "activity"}, content, object_name=name, object_sha256=sha, contract=None)


def root(name: str) -> dict:
    (row,) = read(name).tables[A].to_pylist()
    return row


@pytest.mark.parametrize(
    ("name", "samples", "laps", "decoder"),
    [
        ("fit/garmin-fenix-5-run.fit", 21, 1, "fitfast"),
        ("fit/garmin-edge-820-bike.fit", 15, 1, "fitfast"),
        ("fit/activity-small-fenix2-run.fit", 2809, 4, "fitfast"),
        ("fit/developer-types-sample.fit", 3424, 1, "fitfast"),
        ("fit/event_timestamp.fit", 4376, 99, "fitfast"),
        ("fit/2013-02-06-12-11-14.fit", 590, 5, "fitdecode"),
        ("fit/activity-settings.fit", 14, 1, "fitfast"),
        ("tcx_gpx/SW_activity_5039744860.tcx", 96, 5, "lxml"),
        ("tcx_gpx/SW_activity_5039744860.gpx", 96, 0, "lxml"),
    ],
)
def test_counts(name, samples, laps, decoder):
    found = root(name)
    assert (found["sample_count"], found["lap_count"], found["decoder"]) == (samples, laps, decoder)


@pytest.mark.parametrize("stem", ["garmin-fenix-5-run", "garmin-edge-820-bike"])
def test_values_equal_the_records_beside_them(stem):
    with (FILES / f"fit/{stem}-records.csv").open(encoding="utf-8") as stream:
        expected = list(csv.DictReader(stream))
    samples = read(f"fit/{stem}.fit").tables[P].to_pylist()
    assert len(samples) == len(expected)
    names = {"heart_rate_bpm": "heart_rate", "cadence_rpm": "cadence", "speed_m_s": "speed", "distance_m": "distance",
             "altitude_m": "altitude"}  # fmt: skip
    for ours, theirs in zip(samples, expected, strict=True):
        for column, field in names.items():
            assert ours[column] == pytest.approx(float(theirs[field]), abs=1e-6)
        for column, field in (("lat", "position_lat"), ("lng", "position_long")):
            assert ours[column] == pytest.approx(int(theirs[field]) * 180 / 2**31, abs=1e-9)


def test_fenix2_run():
    result = read("fit/activity-small-fenix2-run.fit")
    assert result.tables[P]["heart_rate_bpm"].null_count == 1
    (session,) = result.tables[S].to_pylist()
    assert (session["distance_m"], session["elapsed_s"]) == (9008.22, 2832.0)


def test_pool_swim_with_strap_heart_rate():
    result = read("fit/event_timestamp.fit")
    (session,) = result.tables[S].to_pylist()
    assert session["distance_m"] == pytest.approx(114 * 22.86, abs=0.005)
    rates = [rate for rate in result.tables[P]["heart_rate_bpm"].to_pylist() if rate is not None]
    assert len(rates) > 0.95 * 4376
    assert abs(sum(rates) / len(rates) - session["avg_hr_bpm"]) < 5  # the watch's own mean
    assert max(rates) == session["max_hr_bpm"]


def test_power_of_a_foot_pod():
    assert read("fit/developer-types-sample.fit").tables[P]["power_w"].null_count == 0


def test_zones_of_the_wearer():
    assert root("fit/garmin-fenix-5-run.fit")["resting_hr_bpm"] == 47
    assert root("fit/garmin-edge-820-bike.fit")["max_hr_bpm"] == 183


@pytest.mark.parametrize(
    ("name", "rule", "salvageable", "partial"),
    [
        ("fit/antfs-dump.63.fit", "decode.no_valid_date", 686, []),
        ("fit/DeveloperData.fit", "decode.no_valid_date", 3, []),
        ("fit/activity-activity-filecrc.fit", "decode.damaged_file", 28, [False, True]),
        ("fit/activity-unexpected-eof.fit", "decode.damaged_file", 14, [True]),
    ],
)
def test_quarantined_with_a_reason_and_salvaged(name, rule, salvageable, partial):
    result = read(name)
    (issue,) = result.issues
    assert issue.rule_id == rule
    assert f"可挽救 {salvageable} 条" in issue.reason_zh
    assert result.tables[A]["is_partial"].to_pylist() == partial
    assert result.tables[P].num_rows == (salvageable if partial else 0)


def test_settings_are_no_activity():
    with pytest.raises(TiyuError) as caught:
        read("fit/Settings.fit")
    assert caught.value.code == "TIYU-ING-0301"


def test_monitoring_has_whole_times():
    found = read("fit/MonitoringFile.fit")
    times = found.tables[W]["recorded_at"].to_pylist()
    assert (len(times), found.tables[A].num_rows, found.root_count) == (337, 0, 337)
    assert times == sorted(times)
    assert {time.date().isoformat() for time in times} == {"2014-12-27", "2014-12-28"}


def test_two_persons_on_one_scale():
    found = read("fit/WeightScaleMultiUser.fit").tables[W].to_pylist()
    assert [(row["user_no"], row["weight_kg"], row["is_shared"]) for row in found] == [(0, 75.8, True), (1, 58.2, True)]


def test_beat_intervals_and_lengths():
    assert read("fit/garmin-fenix-5-run.fit").tables["ods_training__rr_interval"]["rr_ms"].to_pylist()[:2] == [
        1093,
        1165,
    ]
    swim = read("fit/event_timestamp.fit")
    kinds = swim.tables["ods_training__swim_length"]["length_type"].to_pylist()
    (session,) = swim.tables[S].to_pylist()
    assert (kinds.count("active"), session["active_length_count"]) == (114, 114)
    assert (session["pool_length"], session["pool_length_unit"]) == (25.0, "yd")


def test_fields_of_an_app():
    values = read("fit/developer-types-sample.fit").tables["ods_training__developer_value"]
    names = set(values["field_name"].to_pylist())
    assert names == {"Distance", "Form Power", "Leg Spring Stiffness", "Speed"}
    assert values.num_rows == 4 * 3424


def test_one_ride_in_two_formats_agrees():
    tcx, gpx = (read(f"tcx_gpx/SW_activity_5039744860.{kind}") for kind in ("tcx", "gpx"))
    assert tcx.tables[A]["started_at"] == gpx.tables[A]["started_at"]
    assert tcx.tables[P]["sampled_at"] == gpx.tables[P]["sampled_at"]
    for column in ("heart_rate_bpm", "lat", "lng"):
        assert tcx.tables[P][column].to_pylist() == pytest.approx(gpx.tables[P][column].to_pylist(), abs=1e-9), column


def test_whole_folder_is_accounted_for():
    connector = connectors.create({"kind": "file_drop"}, None, lambda _: False, from_dir=FILES / "fit")
    objects = []
    for item in connector.fetch({}, max_bytes=1 << 30):
        content = item.open().read()
        objects.append((hashlib.sha256(content).hexdigest(), item.name, content))
    results = list(decoders.decode_many({"kind": "activity"}, objects, None))
    roots = {sha: count for result in results for sha, count in result.root_counts.items()}
    refused = {sha for result in results for sha in result.refusals}
    assert len(objects) == len(roots) + len(refused)
    assert sum(roots.values()) == sum(r.tables[A].num_rows + r.tables[W].num_rows + len(r.issues) for r in results)
    earliest = min(t for r in results for t in r.tables[P]["sampled_at"].to_pylist())
    assert earliest.year > 2000


def test_native_decoder_is_many_times_faster():
    import fitdecode
    import fitfast

    content = (FILES / "fit/developer-types-sample.fit").read_bytes()
    began = time.process_time()
    fitfast.parse(content)
    fitfast.records(content)
    fast = time.process_time() - began
    began = time.process_time()
    list(fitdecode.FitReader(content))
    slow = time.process_time() - began
    print(f"fitdecode / fitfast on developer-types-sample.fit: {slow / fast:.1f}")
    assert slow > 5 * fast
