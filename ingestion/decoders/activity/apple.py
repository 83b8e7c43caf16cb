"""The export of Apple's Health app: ``export.xml`` in a .zip, one flat list of records, read as a stream.

Taken are workouts (activities), the heart rate measured during them (their samples), and the records of `_RECORDS` and
daily summaries (wellness). What the wearer is (birth date, sex, blood type) and other kinds of record (medicines, cycle,
nutrition …) are not: no purpose of the platform needs them. A document type declaration is part of the format; one that
declares an entity is refused unread.
"""

from __future__ import annotations

import io
import re
from collections import defaultdict
from typing import Any

import numpy as np
import polars as pl
from lxml import etree

from ingestion.decoders.activity import wellness
from ingestion.decoders.activity.model import SAMPLE_FIELDS, Activity, Problem, Reading, real, valid_time

_MILE_M = 1609.344
_UNITS = {
    "m": 1.0, "km": 1000.0, "mi": _MILE_M, "ft": 0.3048, "yd": 0.9144, "kg": 1.0, "lb": 0.45359237, "g": 0.001, "st": 6.35029318,
    "kcal": 1.0, "cal": 1.0, "kj": 1 / 4.184, "min": 60.0, "s": 1.0, "hr": 3600.0, "h": 3600.0, "ms": 1.0, "%": 100.0,
    "count/min": 1.0, "count/s": 60.0, "count": 1.0, "mmhg": 1.0,
}  # fmt: skip
"""Factor to the unit of the column, by the export's word in lower case; a fraction is what it calls per cent."""

# type without its prefix → kind of record, column
_RECORDS: dict[str, tuple[str, str]] = {
    "StepCount": ("steps", "step_count"),
    "DistanceWalkingRunning": ("distance", "distance_m"),
    "DistanceCycling": ("distance", "distance_m"),
    "DistanceSwimming": ("distance", "distance_m"),
    "ActiveEnergyBurned": ("energy", "energy_kcal"),
    "HeartRate": ("heart_rate", "heart_rate_bpm"),
    "RestingHeartRate": ("resting_heart_rate", "resting_hr_bpm"),
    "HeartRateVariabilitySDNN": ("hrv", "hrv_ms"),
    "BodyMass": ("weight", "weight_kg"),
    "LeanBodyMass": ("weight", "muscle_mass_kg"),
    "BodyFatPercentage": ("weight", "body_fat_pct"),
    "BloodPressureSystolic": ("blood_pressure", "systolic_mmhg"),
    "BloodPressureDiastolic": ("blood_pressure", "diastolic_mmhg"),
    "OxygenSaturation": ("spo2", "spo2_pct"),
    "RespiratoryRate": ("respiration", "respiration_rpm"),
    "SleepAnalysis": ("sleep", "sleep_stage"),
}
_ACTIVITY_TYPES = {
    "DistanceWalkingRunning": "walking_running",
    "DistanceCycling": "cycling",
    "DistanceSwimming": "swimming",
}
_PREFIX = re.compile(r"^HK(?:Quantity|Category)TypeIdentifier|^HKWorkoutActivityType|^HKCategoryValueSleepAnalysis")
_TIME = "%Y-%m-%d %H:%M:%S %z"
_ROOT = b"<HealthData"
_TAGS = ("{*}Record", "{*}Workout", "{*}ActivitySummary")


def is_export(head: bytes) -> bool:
    """Whether a document is such an export, by its beginning (the declaration of its type may be long)."""
    return _ROOT in head or b"<!DOCTYPE HealthData" in head


def read_apple(data: bytes) -> Reading:
    """Read an export; of a broken one what stands before the damage."""
    start = data.find(_ROOT)
    if re.search(rb"<!ENTITY", data[: start if start >= 0 else len(data)], re.IGNORECASE):
        reason = "苹果健康导出声明了实体，出于安全不予解析；可挽救 0 条记录"
        return Reading(problems=[Problem("decode.damaged_file", reason)])
    found: dict[str, list[Any]] = defaultdict(list)
    workouts: list[dict[str, Any]] = []
    problem: Problem | None = None
    try:
        for _, element in etree.iterparse(
            io.BytesIO(data), tag=_TAGS, resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
        ):
            _take(element, found, workouts)
            # what was read is let go, so that a long export never stands in memory as a tree
            if _local(element.getparent()) != "Correlation":
                element.clear()
                while element.getprevious() is not None:
                    del element.getparent()[0]
    except etree.XMLSyntaxError as error:
        count = len(found["type"]) + len(workouts)
        reason = f"苹果健康导出不是完整合法的 XML（第 {error.lineno} 行）；可挽救 {count} 条记录"
        problem = Problem("decode.damaged_file", reason)
    reading = Reading(problems=[problem] if problem else [])
    rows, beats = _wellness(found)
    if rows["record_kind"]:
        reading.wellness.append(rows)
    for workout in workouts:
        activity = _activity(workout, beats)
        activity.is_partial = problem is not None
        reading.activities.append(activity)
    return reading


def _local(element: Any) -> str:
    return str(element.tag).rsplit("}", 1)[-1] if element is not None and isinstance(element.tag, str) else ""


def _take(element: Any, found: dict[str, list[Any]], workouts: list[dict[str, Any]]) -> None:
    name = _local(element)
    get = element.get
    if name == "Workout":
        totals = {
            _PREFIX.sub("", item.get("type") or ""): (item.get("sum"), item.get("unit"))
            for item in element.iterchildren("{*}WorkoutStatistics")
        }
        workouts.append({**element.attrib, "totals": totals})
    elif name == "ActivitySummary":
        day = get("dateComponents")
        if day:
            _row(found, "summary", f"{day} 00:00:00 +0000", None, None, None, element.attrib)
    elif _local(element.getparent()) != "Correlation":  # what stands in one stands in the list as well
        kind = _PREFIX.sub("", get("type") or "")
        if kind in _RECORDS:
            _row(found, kind, get("startDate"), get("endDate"), get("value"), get("unit"), {})


def _row(found: dict[str, list[Any]], kind: str, start: Any, end: Any, value: Any, unit: Any, summary: Any) -> None:
    for key, item in (("type", kind), ("start", start), ("end", end), ("value", value), ("unit", unit)):
        found[key].append(item)
    found["summary"].append(dict(summary) if summary else None)


def _wellness(found: dict[str, list[Any]]) -> tuple[dict[str, list[Any]], pl.DataFrame]:
    """Records as wellness columns; and times (Unix seconds) and rates of all heart beats measured, in order."""
    rows: dict[str, list[Any]] = {name: [] for name in wellness.COLUMNS}
    frame = pl.DataFrame(
        {key: found[key] for key in ("type", "start", "end", "value", "unit")},
        schema=dict.fromkeys(("type", "start", "end", "value", "unit"), pl.String),
    ).with_columns(summary=pl.Series(found["summary"], dtype=pl.Object) if found["summary"] else pl.lit(None))
    factors = pl.col("unit").str.to_lowercase().replace_strict(_UNITS, default=None, return_dtype=pl.Float64)
    frame = frame.with_columns(
        _seconds("start").alias("at"),
        _seconds("end").alias("until"),
        _offset("start").alias("offset"),
        (pl.col("value").cast(pl.Float64, strict=False) * factors).alias("number"),
    )
    for (kind,), part in frame.partition_by("type", as_dict=True, maintain_order=True).items():
        count = part.height
        made: dict[str, list[Any]] = {
            "recorded_at": part["at"].to_list(),
            "utc_offset_min": part["offset"].to_list(),
            "is_shared": [False] * count,
        }
        if kind == "summary":
            summaries = part["summary"].to_list()
            # a summary is of the wearer's date, whose zone it does not tell: it stands at midnight, offset 0
            made["record_kind"] = ["activity_summary"] * count
            made["energy_kcal"] = [
                _measure(s, "activeEnergyBurned", s.get("activeEnergyBurnedUnit")) for s in summaries
            ]
            made["active_s"] = [_measure(s, "appleExerciseTime", "min") for s in summaries]
            made["stand_h"] = [_measure(s, "appleStandHours", None) for s in summaries]
        else:
            record_kind, column = _RECORDS[str(kind)]
            made["record_kind"] = [record_kind] * count
            made["ended_at"] = part["until"].to_list()
            if column == "sleep_stage":
                made[column] = [None if v is None else _PREFIX.sub("", v)[:40] for v in part["value"].to_list()]
            else:
                made[column] = part["number"].to_list()
            if kind in _ACTIVITY_TYPES:
                made["activity_type"] = [_ACTIVITY_TYPES[str(kind)]] * count
        for name in wellness.COLUMNS:
            rows[name].extend(made.get(name) or [None] * count)
    beats = frame.filter((pl.col("type") == "HeartRate") & pl.col("at").is_not_null() & pl.col("number").is_not_null())
    return rows, beats.select("at", "number").sort("at")


def _seconds(column: str) -> pl.Expr:
    return pl.col(column).str.to_datetime(_TIME, time_zone="UTC", strict=False).dt.epoch("ms").cast(pl.Float64) / 1000.0


def _offset(column: str) -> pl.Expr:
    """Minutes east of UTC, from the end of the text (``+0800``)."""
    text = pl.col(column).str.extract_groups(r"([+-])(\d{2})(\d{2})$")
    minutes = text.struct[1].cast(pl.Int32, strict=False) * 60 + text.struct[2].cast(pl.Int32, strict=False)
    return pl.when(text.struct[0] == "-").then(-minutes).otherwise(minutes)


def _measure(values: Any, name: str, unit: str | None) -> float | None:
    try:
        number = float(values[name])
    except (KeyError, TypeError, ValueError):
        return None
    return real(number * _UNITS.get((unit or "count").lower(), 1.0))


def _activity(workout: dict[str, Any], beats: pl.DataFrame) -> Activity:
    said = "|".join(
        str(workout.get(name)) for name in ("workoutActivityType", "startDate", "endDate", "sourceName", "duration")
    )
    times = pl.DataFrame(
        {"a": [workout.get("startDate")], "b": [workout.get("endDate")]}, schema={"a": pl.String, "b": pl.String}
    )
    start, end, offset = times.select(_seconds("a").alias("s"), _seconds("b").alias("e"), _offset("a").alias("o")).row(
        0
    )
    sport = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", _PREFIX.sub("", workout.get("workoutActivityType") or "")).lower()
    activity = Activity("apple_health", "lxml", identity=said.encode(), sport=sport or None)
    activity.started_at, activity.utc_offset_min = valid_time(start), offset
    mine = beats.filter((pl.col("at") >= (start or np.inf)) & (pl.col("at") <= (end or -np.inf)))
    activity.samples = {name: np.full(mine.height, np.nan) for name in SAMPLE_FIELDS}
    activity.samples["sampled_at"] = mine["at"].to_numpy().copy()
    activity.samples["heart_rate_bpm"] = mine["number"].to_numpy().copy()
    distance = _measure(workout, "totalDistance", workout.get("totalDistanceUnit"))
    for kind, (total, unit) in workout["totals"].items():
        if kind.startswith("Distance") and distance is None:
            distance = _measure({"x": total}, "x", unit)
    rates = activity.samples["heart_rate_bpm"]
    activity.sessions = [
        {
            "started_at": activity.started_at,
            "elapsed_s": None if start is None or end is None else end - start,
            "timer_s": _measure(workout, "duration", workout.get("durationUnit") or "min"),
            "distance_m": distance or None,  # 0 where nothing was measured
            "avg_hr_bpm": round(float(rates.mean())) if len(rates) else None,
            "max_hr_bpm": round(float(rates.max())) if len(rates) else None,
            "sport": activity.sport,
            "sub_sport": None,
        }
    ]
    return activity
