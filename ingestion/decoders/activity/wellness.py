"""What devices record outside activities: days of monitoring, scales, blood pressure, sleep.

One row is one message or record of the device. Values the device left empty stay empty. A scale that several persons
use tells them apart by ``user_profile_index``; whose they are is not known then, so such a file belongs to nobody
(``is_shared``). Profiles of the users (age, sex, height) are not taken: no purpose of the platform needs them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ingestion.decoders.activity.model import FIT_EPOCH, Floats, valid_time
from lake import query
from lake.sql import quote_name

COLUMNS = (
    "record_kind",
    "recorded_at",
    "ended_at",
    "utc_offset_min",
    "user_no",
    "is_shared",
    "activity_type",
    "step_count",
    "cycle_count",
    "distance_m",
    "active_s",
    "energy_kcal",
    "stand_h",
    "heart_rate_bpm",
    "resting_hr_bpm",
    "hrv_ms",
    "weight_kg",
    "body_fat_pct",
    "muscle_mass_kg",
    "bone_mass_kg",
    "hydration_pct",
    "systolic_mmhg",
    "diastolic_mmhg",
    "spo2_pct",
    "respiration_rpm",
    "stress_score",
    "sleep_stage",
)
TEXTS = frozenset(("record_kind", "activity_type", "sleep_stage"))
WHOLE = frozenset(
    ("utc_offset_min", "user_no", "step_count", "heart_rate_bpm", "resting_hr_bpm", "systolic_mmhg", "diastolic_mmhg")
)

# FIT message → kind of record, and column → (field, factor)
_FIT: dict[str, tuple[str, dict[str, tuple[str, float]]]] = {
    "monitoring": (
        "monitoring",
        {
            "cycle_count": ("cycles", 1.0),
            "distance_m": ("distance", 1.0),
            "active_s": ("active_time", 1.0),
            "energy_kcal": ("active_calories", 1.0),
            "heart_rate_bpm": ("heart_rate", 1.0),
        },
    ),
    "monitoring_hr_data": ("resting_heart_rate", {"resting_hr_bpm": ("current_day_resting_heart_rate", 1.0)}),
    "weight_scale": (
        "weight",
        {
            "weight_kg": ("weight", 1.0),
            "body_fat_pct": ("percent_fat", 1.0),
            "muscle_mass_kg": ("muscle_mass", 1.0),
            "bone_mass_kg": ("bone_mass", 1.0),
            "hydration_pct": ("percent_hydration", 1.0),
        },
    ),
    "blood_pressure": (
        "blood_pressure",
        {
            "systolic_mmhg": ("systolic_pressure", 1.0),
            "diastolic_mmhg": ("diastolic_pressure", 1.0),
            "heart_rate_bpm": ("heart_rate", 1.0),
        },
    ),
    "stress_level": ("stress", {"stress_score": ("stress_level_value", 1.0)}),
    "spo2_data": ("spo2", {"spo2_pct": ("reading_spo2", 1.0)}),
    "respiration_rate": ("respiration", {"respiration_rpm": ("respiration_rate", 1.0)}),
    "sleep_level": ("sleep", {}),
    "hrv_value": ("hrv", {"hrv_ms": ("value", 1.0)}),
}
_WALKED = ("walking", "running", 6, 1)


def is_wellness(sequence: Any) -> bool:
    """Whether a FIT sequence is a wellness file: by its kind, or by its messages when it is of a newer kind."""
    if sequence.kind in ("activity", 4, None):
        return False
    return any(sequence.messages.get(name) for name in _FIT)


def read_fit(messages: dict[str, list[dict[Any, Any]]]) -> dict[str, list[Any]]:
    """The wellness messages of a FIT sequence as columns (`COLUMNS`), message kind after message kind."""
    info = messages.get("monitoring_info", [])
    start = valid_time(info[0].get("timestamp")) if info else None
    offset = _offset(info)
    users = {message.get("user_profile_index") for message in messages.get("weight_scale", ())}
    users |= {message.get("user_profile_index") for message in messages.get("blood_pressure", ())}
    shared = len(users - {None}) > 1 or len(messages.get("user_profile", ())) > 1
    rows: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for name, (kind, columns) in _FIT.items():
        found = messages.get(name, [])
        if not found:
            continue
        times = _full_times(found, start)
        made: dict[str, list[Any]] = {
            column: _values(found, source, factor) for column, (source, factor) in columns.items()
        }
        made["record_kind"] = [kind] * len(found)
        made["recorded_at"] = times
        made["utc_offset_min"] = [offset] * len(found)
        made["user_no"] = [_index(message.get("user_profile_index")) for message in found]
        made["is_shared"] = [shared] * len(found)
        if name == "monitoring":
            made["activity_type"] = [_word(message.get("activity_type")) for message in found]
            # the profile's "cycles" of somebody on foot are pairs of steps
            steps = _values(found, "steps", 1.0)
            made["step_count"] = [
                value * 2 if value is not None and message.get("activity_type") in _WALKED else told
                for value, told, message in zip(made["cycle_count"], steps, found, strict=True)
            ]
        if name == "sleep_level":
            made["sleep_stage"] = [_word(message.get("sleep_level")) for message in found]
        if name == "stress_level":
            stamps = [valid_time(message.get("stress_level_time")) for message in found]
            made["recorded_at"] = [stamp or time for stamp, time in zip(stamps, times, strict=True)]
            # negative scores say why there is none
            made["stress_score"] = [None if value is None or value < 0 else value for value in made["stress_score"]]
        for column in COLUMNS:
            rows[column].extend(made.get(column) or [None] * len(found))
    return rows


def _offset(info: list[dict[Any, Any]]) -> int | None:
    for message in info:
        local, moment = valid_time(message.get("local_timestamp")), valid_time(message.get("timestamp"))
        if local is not None and moment is not None and abs(local - moment) <= 14 * 3600:
            return round((local - moment) / 900) * 15
    return None


def _full_times(messages: list[dict[Any, Any]], start: float | None) -> list[float | None]:
    """Unix seconds of each message. One with only the low 16 bits of its time follows the last whole time by less than
    2^16 seconds (18.2 h)."""
    whole = np.array([_number(message.get("timestamp")) for message in messages])
    low = np.array([_number(message.get("timestamp_16")) for message in messages])
    fit: Floats = whole - FIT_EPOCH
    has_whole = np.isfinite(fit)
    bits: npt.NDArray[np.int64] = np.where(has_whole, fit, np.where(np.isfinite(low), low, 0)).astype(np.int64) & 0xFFFF
    base = np.nan if start is None else start - FIT_EPOCH
    first = 0 if np.isnan(base) else int(base) & 0xFFFF
    steps = np.diff(np.concatenate([[first], bits])) & 0xFFFF
    travelled = np.cumsum(steps)
    anchor = np.maximum.accumulate(np.where(has_whole, np.arange(len(fit)), -1))
    from_anchor = np.where(anchor >= 0, fit[anchor] + travelled - travelled[anchor], base + travelled)
    seconds = np.where(has_whole, fit, np.where(np.isfinite(low), from_anchor, np.nan)) + FIT_EPOCH
    return [valid_time(float(value)) for value in seconds]


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else np.nan


def _values(messages: list[dict[Any, Any]], name: str, factor: float) -> list[Any]:
    found = [message.get(name) for message in messages]
    return [float(value) * factor if isinstance(value, int | float) else None for value in found]


def _index(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) else None


def _word(value: Any) -> str | None:
    return None if value is None else str(value)[:40]


def with_identities(rows: pa.Table) -> pa.Table:
    """The rows with ``wellness_id`` made of what each says: the same record in another file or export has the same."""
    said = ", ".join(f"coalesce(cast({quote_name(name)} as varchar), '')" for name in COLUMNS)
    con = query.connect(spill=False)
    try:
        con.register("rows", rows)
        made = con.execute(f"select md5(concat_ws('|', {said})) as wellness_id from rows").to_arrow_table()
    finally:
        con.close()
    column = made["wellness_id"].cast(pa.string())
    return rows.set_column(rows.schema.get_field_index("wellness_id"), "wellness_id", column)
