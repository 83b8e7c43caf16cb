"""The Health app's export and files of beat intervals."""

from __future__ import annotations

import io

import numpy as np
import pytest

from lake.errors import TiyuError
from tests.unit.ingestion_decoders.test_activity import BEAT, A, P, S, W, first, pack, run

DTD = '<?xml version="1.0" encoding="UTF-8"?><!DOCTYPE HealthData [<!ELEMENT HealthData ANY> {0}]>'
Q = "HKQuantityTypeIdentifier"
ME = '<Me HKCharacteristicTypeIdentifierDateOfBirth="1990-01-01"/>'


def record(kind: str, value: str, unit: str, start: str = "2026-09-01 07:00:00 +0800", prefix: str = Q) -> str:
    return (
        f'<Record type="{prefix}{kind}" sourceName="x" unit="{unit}" startDate="{start}" endDate="{start}" value="{value}">'
        '<MetadataEntry key="k" value="v"/></Record>'
    )


def export(*items: str, entity: str = "") -> bytes:
    return (DTD.format(entity) + "<HealthData>" + ME + "".join(items) + "</HealthData>").encode()


WORKOUT = (
    '<Workout workoutActivityType="HKWorkoutActivityTypeRunning" duration="30" durationUnit="min" sourceName="x"'
    ' startDate="2026-09-01 00:30:00 +0800" endDate="2026-09-01 01:00:00 +0800"><WorkoutStatistics'
    f' type="{Q}DistanceWalkingRunning" sum="5" unit="km"/></Workout>'
)
BEATS = [record("HeartRate", str(120 + n), "count/min", f"2026-09-01 00:{30 + n}:00 +0800") for n in range(3)]


def test_a_workout_is_an_activity_with_the_heart_rate_measured_in_it():
    found = run(export(WORKOUT, *BEATS, record("HeartRate", "60", "count/min")), "export.xml")
    root, session = first(found, A), first(found, S)
    assert (root["file_format"], root["sport_code"], root["utc_offset_min"]) == ("apple_health", "running", 480)
    assert root["local_date"].isoformat() == "2026-09-01"
    assert (session["distance_m"], session["timer_s"], session["elapsed_s"]) == (5000.0, 1800.0, 1800.0)
    assert (session["avg_hr_bpm"], session["max_hr_bpm"]) == (121, 122)
    assert found.tables[P]["heart_rate_bpm"].to_pylist() == [120, 121, 122]
    assert found.tables[W].num_rows == 4, "heart rates stay records of their own as well"


@pytest.mark.parametrize(
    ("kind", "value", "unit", "record_kind", "column", "stored"),
    [
        ("StepCount", "329", "count", "steps", "step_count", 329),
        ("DistanceCycling", "2", "mi", "distance", "distance_m", 3218.688),
        ("BodyMass", "150", "lb", "weight", "weight_kg", pytest.approx(68.04, abs=0.01)),
        ("BodyFatPercentage", "0.2", "%", "weight", "body_fat_pct", 20.0),
        ("OxygenSaturation", "0.97", "%", "spo2", "spo2_pct", 97.0),
        ("RestingHeartRate", "48", "count/min", "resting_heart_rate", "resting_hr_bpm", 48),
        ("HeartRateVariabilitySDNN", "61.5", "ms", "hrv", "hrv_ms", 61.5),
        ("ActiveEnergyBurned", "418.4", "kJ", "energy", "energy_kcal", pytest.approx(100.0)),
        ("StepCount", "many", "count", "steps", "step_count", None),
        ("StepCount", "5", "furlong", "steps", "step_count", None),
    ],
)
def test_units_are_converted_and_what_is_no_number_stays_null(kind, value, unit, record_kind, column, stored):
    row = first(run(export(record(kind, value, unit)), "export.xml"), W)
    assert (row["record_kind"], row[column]) == (record_kind, stored)
    assert row["recorded_at"].isoformat() == "2026-08-31T23:00:00+00:00"


def test_sleep_summary_and_what_is_not_taken():
    sleep = record("SleepAnalysis", "HKCategoryValueSleepAnalysisAsleepDeep", "", prefix="HKCategoryTypeIdentifier")
    summary = (
        '<ActivitySummary dateComponents="2026-09-01" activeEnergyBurned="700.5" activeEnergyBurnedUnit="kcal"'
        + (' appleExerciseTime="89" appleStandHours="16"/>')
    )
    cycle = record("MenstrualFlow", "1", "", prefix="HKCategoryTypeIdentifier")
    twice = f'<Correlation type="x">{record("BloodPressureSystolic", "121", "mmHg")}</Correlation>'
    found = run(export(sleep, summary, cycle, twice, record("BloodPressureSystolic", "121", "mmHg")), "export.xml")
    rows = {row["record_kind"]: row for row in found.tables[W].to_pylist()}
    assert found.root_count == len(rows) == 3
    assert rows["sleep"]["sleep_stage"] == "AsleepDeep"
    told = rows["activity_summary"]
    assert (told["energy_kcal"], told["active_s"], told["stand_h"]) == (700.5, 5340.0, 16.0)
    assert told["local_date"].isoformat() == "2026-09-01"
    assert rows["blood_pressure"]["systolic_mmhg"] == 121


def test_entities_are_refused_and_nothing_is_read(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("7", encoding="utf-8")
    body = export(record("StepCount", "&x;", "count"), entity=f'<!ENTITY x SYSTEM "file://{secret}">')
    found = run(body, "export.xml")
    (issue,) = found.issues
    assert "实体" in issue.reason_zh
    assert found.tables[W].num_rows == 0


def test_a_cut_export_is_quarantined_and_its_records_salvaged():
    whole = export(record("StepCount", "1", "count"), WORKOUT, record("StepCount", "2", "count"))
    found = run(whole[:-60], "export.xml")
    (issue,) = found.issues
    assert (issue.rule_id, found.tables[A]["is_partial"].to_pylist()) == ("decode.damaged_file", [True])
    assert found.tables[W].num_rows >= 1


def test_the_zip_of_an_export_and_its_second_delivery():
    one = run(
        pack(("apple_health_export/export.xml", export(WORKOUT)), ("apple_health_export/export_cda.xml", b"<x/>")),
        "e.zip",
    )
    later = run(export(WORKOUT, record("StepCount", "1", "count")), "export.xml")
    assert (one.root_count, one.issues) == (1, [])
    assert first(one, A)["activity_id"] == first(later, A)["activity_id"], (
        "the next export holds the same workout again"
    )


RR = [812.5 + n for n in range(40)]


def npy(values: list[float]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array(values))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("202609010700_rr.txt", "\n".join(map(str, RR)).encode()),
        ("202609010700_rr.csv", ("RR (ms)\r\n" + "\r\n".join(map(str, RR))).encode()),
        ("202609010700_rr.txt", "\n".join(str(value / 1000) for value in RR).encode()),
        ("202609010700_rr.npy", npy(RR)),
    ],
)
def test_intervals_between_beats_are_a_recording_that_is_no_training(name, content):
    found = run(content, f"SHA000001/{name}")
    assert found.tables[BEAT]["rr_ms"].to_pylist() == RR
    root, session = first(found, A), first(found, S)
    assert (root["file_format"], root["interval_count"], root["started_at"].isoformat()) == (
        "rr", 40, "2026-08-31T23:00:00+00:00",
    )  # fmt: skip
    assert (session["is_training"], session["avg_hr_bpm"]) == (False, 72)


def test_intervals_without_a_date_are_not_dated():
    (issue,) = run(npy(RR), "series.npy").issues
    assert issue.rule_id == "decode.no_valid_date"
    assert "40 条" in issue.reason_zh


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"note\n" + b"text here\n" * 20, b"1\n2\n"])
def test_another_text_is_no_recording(content):
    with pytest.raises(TiyuError) as caught:
        run(content, "202609010700_rr.txt")
    assert caught.value.code == "TIYU-ING-0302"


def test_an_array_of_objects_is_never_loaded():
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (issue,) = run(buffer.getvalue(), "202609010700_rr.npy").issues
    assert issue.rule_id == "decode.damaged_file"
