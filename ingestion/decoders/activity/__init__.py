"""Decoder ``activity``: FIT, TCX and GPX files of sports devices, Apple Health exports and beat intervals, plain or in
.gz or .zip.

Gives typed tables named as the contract's ODS tables, all with ``_record_no`` of their root record (numbered from 1
over everything an object holds, file after file):

* ``ods_training__activity``: one row an activity, several where a file chains several; ``activity_id`` = first 32 hex
  digits of the SHA-256 of the *unpacked* file (of its own part, where there are several), so the same file is the same
  activity however it was packed. ``athlete_token`` is not set here.
* ``ods_training__activity_session``, ``__activity_lap``, ``__activity_sample``, ``__swim_length``, ``__rr_interval``,
  ``__developer_value``: children by ``activity_id``, numbered from 1 in file order. Units: metres, seconds, m/s, bpm,
  rpm, watt, milliseconds between beats, degrees WGS-84; times UTC microseconds.
* ``ods_training__device_wellness``: root records too, one row a message of a wellness or scale file.

A damaged stretch, or an activity that names no valid date, is one issue; what could be read of a damaged file is an
activity that says ``is_partial``. A sound file that is no activity refuses the object (TIYU-ING-0301, a route 0303),
as does another kind of file (0302). In a .zip these are issues of single files. Rules and their tests:
docs/device_files.md.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from ingestion.decoders.activity import wellness
from ingestion.decoders.activity.apple import is_export, read_apple
from ingestion.decoders.activity.beats import is_beats, read_beats
from ingestion.decoders.activity.fit import read_fit
from ingestion.decoders.activity.model import (
    SAMPLE_FIELDS,
    Activity,
    NotActivityError,
    Problem,
    Reading,
    RouteError,
    channels,
    fingerprints,
    sport_code,
    sport_of_name,
)
from ingestion.decoders.activity.packed import Entry, unpack
from ingestion.decoders.activity.xml import read_xml
from ingestion.decoders.base import RECORD_NO, SOURCE_OBJECT, Decoded, DecodeIssue, refusal
from lake.errors import TiyuError

__all__ = ["BATCH_BYTES", "CHUNK_BYTES", "OPTIONS", "TABLES", "decode_chunk"]

OPTIONS: dict[str, type | tuple[type, ...]] = {"path_fields": str}  # path_fields is read by the pipeline
MAX_XML_BYTES = 64 * 1024 * 1024  # one TCX or GPX file unpacked; its tree and points take some twentyfold
CHUNK_BYTES = 8 * 1024 * 1024  # device files unfold some twentyfold
BATCH_BYTES = 64 * 1024 * 1024  # measured: 14 MB of memory for 1 MB of device files until the batch is written

_AT = pa.timestamp("us", tz="UTC")
_HOME_OFFSET_MIN = 8 * 60  # the wearer's clock where a file does not tell it: Asia/Shanghai
_ACTIVITY, _SESSION, _LAP, _SAMPLE, _LENGTH, _BEAT, _APP, _WELLNESS = (
    f"ods_training__{name}"
    for name in (
        "activity", "activity_session", "activity_lap", "activity_sample", "swim_length", "rr_interval",
        "developer_value", "device_wellness",
    )
)  # fmt: skip
_ORIGIN = [(RECORD_NO, pa.int64()), (SOURCE_OBJECT, pa.string())]
TABLES: dict[str, pa.Schema] = {
    _ACTIVITY: pa.schema(
        [
            ("activity_id", pa.string()),
            ("file_format", pa.string()),
            ("device_maker", pa.string()),
            ("device_product", pa.string()),
            ("started_at", _AT),
            ("local_date", pa.date32()),
            ("utc_offset_min", pa.int32()),
            ("sport_code", pa.string()),
            ("sub_sport", pa.string()),
            ("elapsed_s", pa.float64()),
            ("distance_m", pa.float64()),
            ("max_hr_bpm", pa.int32()),
            ("resting_hr_bpm", pa.int32()),
            ("session_count", pa.int64()),
            ("lap_count", pa.int64()),
            ("sample_count", pa.int64()),
            ("length_count", pa.int64()),
            ("interval_count", pa.int64()),
            ("value_count", pa.int64()),
            ("channel_count", pa.int32()),
            ("has_position", pa.bool_()),
            ("is_partial", pa.bool_()),
            ("unread_byte_from", pa.int64()),
            ("unread_byte_to", pa.int64()),
            ("time_fingerprint", pa.string()),
            ("heart_fingerprint", pa.string()),
            ("decoder", pa.string()),
            *_ORIGIN,
        ]
    ),
    _SESSION: pa.schema(
        [
            ("activity_id", pa.string()),
            ("session_no", pa.int32()),
            ("started_at", _AT),
            ("elapsed_s", pa.float64()),
            ("timer_s", pa.float64()),
            ("distance_m", pa.float64()),
            ("avg_hr_bpm", pa.int32()),
            ("max_hr_bpm", pa.int32()),
            ("sport_code", pa.string()),
            ("is_training", pa.bool_()),
            ("pool_length", pa.float64()),
            ("pool_length_unit", pa.string()),
            ("active_length_count", pa.int32()),
            *_ORIGIN,
        ]
    ),
    _LAP: pa.schema(
        [
            ("activity_id", pa.string()),
            ("lap_no", pa.int32()),
            ("started_at", _AT),
            ("elapsed_s", pa.float64()),
            ("distance_m", pa.float64()),
            ("avg_hr_bpm", pa.int32()),
            *_ORIGIN,
        ]
    ),
    _SAMPLE: pa.schema(
        [
            ("activity_id", pa.string()),
            ("sample_no", pa.int32()),
            ("sampled_at", _AT),
            ("heart_rate_bpm", pa.int32()),
            *((name, pa.float64()) for name in SAMPLE_FIELDS[1:]),
            *_ORIGIN,
        ]
    ),
    _LENGTH: pa.schema(
        [
            ("activity_id", pa.string()),
            ("length_no", pa.int32()),
            ("session_no", pa.int32()),
            ("started_at", _AT),
            ("elapsed_s", pa.float64()),
            ("length_type", pa.string()),
            ("swim_stroke", pa.string()),
            ("stroke_count", pa.int32()),
            *_ORIGIN,
        ]
    ),
    _BEAT: pa.schema([("activity_id", pa.string()), ("rr_no", pa.int32()), ("rr_ms", pa.float64()), *_ORIGIN]),
    _APP: pa.schema(
        [
            ("activity_id", pa.string()),
            ("value_scope", pa.string()),
            ("item_no", pa.int32()),
            ("field_name", pa.string()),
            ("field_unit", pa.string()),
            ("value", pa.float64()),
            *_ORIGIN,
        ]
    ),
    _WELLNESS: pa.schema(
        [
            ("wellness_id", pa.string()),
            ("local_date", pa.date32()),
            *(
                (
                    name,
                    pa.string()
                    if name in wellness.TEXTS
                    else pa.bool_()
                    if name == "is_shared"
                    else _AT
                    if name.endswith("_at")
                    else pa.int32()
                    if name in wellness.WHOLE
                    else pa.float64(),
                )
                for name in wellness.COLUMNS
            ),
            *_ORIGIN,
        ]
    ),
}


@dataclass
class _Found:
    """What an object holds: (record number, name that may tell the sport, activity), (first record number, wellness
    columns), issues; ``records`` root records in all."""

    activities: list[tuple[int, str, Activity]] = field(default_factory=list)
    wellness: list[tuple[int, dict[str, list[Any]]]] = field(default_factory=list)
    issues: list[DecodeIssue] = field(default_factory=list)
    records: int = 0

    def next_no(self, count: int = 1) -> int:
        self.records += count
        return self.records - count + 1


def decode_chunk(options: dict[str, Any], objects: list[tuple[str, str, bytes]]) -> Decoded:
    """Decode a chunk of objects into the tables. Never raises for what an object holds."""
    rows: dict[str, list[dict[str, Any]]] = {_ACTIVITY: [], _SESSION: [], _LAP: [], _LENGTH: []}
    found_activities: list[_Owned] = []
    found_wellness: list[pa.Table] = []
    issues: list[DecodeIssue] = []
    refusals: dict[str, TiyuError] = {}
    root_counts: dict[str, int] = {}
    # The native FIT decoder works without the interpreter lock: two threads read 1.6 times as fast as one.
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(_try_object, objects))
    for (sha, _, _), outcome in zip(objects, outcomes, strict=True):
        if isinstance(outcome, TiyuError):
            refusals[sha] = outcome
            continue
        root_counts[sha] = outcome.records
        issues.extend(outcome.issues)
        for record_no, label, activity in outcome.activities:
            activity_id = activity.activity_id
            origin = {"activity_id": activity_id, RECORD_NO: record_no, SOURCE_OBJECT: sha}
            _add(rows, activity, label, origin)
            found_activities.append((activity, activity_id, record_no, sha))
        for first_no, columns in outcome.wellness:
            found_wellness.append(_wellness_table(columns, first_no, sha))
    tables = {table: pa.Table.from_pylist(found_rows, schema=TABLES[table]) for table, found_rows in rows.items()}
    tables[_SAMPLE] = _sample_table([item for item in found_activities if item[0].sample_count])
    tables[_BEAT] = _beat_table([item for item in found_activities if len(item[0].rr_ms)])
    tables[_APP] = _app_table([item for item in found_activities if item[0].developer])
    tables[_WELLNESS] = TABLES[_WELLNESS].empty_table()
    if found_wellness:
        tables[_WELLNESS] = wellness.with_identities(pa.concat_tables(found_wellness))
    return Decoded(tables, issues, sum(root_counts.values()), root_counts, refusals)


_Owned = tuple[Activity, str, int, str]
"""Activity, its number, its record and its object."""


def _try_object(item: tuple[str, str, bytes]) -> _Found | TiyuError:
    try:
        return _read_object(*item)
    except TiyuError as error:
        return error


def _not_activity(error: NotActivityError, name: str) -> TiyuError:
    """The refusal of an object that is nothing but one sound file of another kind."""
    if isinstance(error, RouteError):
        return refusal(
            "TIYU-ING-0303",
            "文件是路线或课程，没有经过的时间，不是运动记录",
            "只有地点而没有时间的文件不能证明练过；请报送设备实际记录的活动；文件已留存，未入库",
            object_name=name,
            kind=error.kind,
        )
    return refusal(
        "TIYU-ING-0301",
        "文件完好，但不是运动记录",
        "设置、目标等设备文件不属于本资源，请只报送运动与健康监测记录；文件已留存，未入库",
        object_name=name,
        kind=error.kind,
    )


def _read_object(sha: str, name: str, content: bytes) -> _Found:
    entries = unpack(name, content)
    kinds = [_kind(entry) for entry in entries]
    if "apple" in kinds:  # the same data once more, as a clinical document
        entries = [entry for entry in entries if not entry.name.endswith("export_cda.xml")]
        kinds = [_kind(entry) for entry in entries]
    if not any(kinds) and not any(entry.problem for entry in entries):
        raise refusal(
            "TIYU-ING-0302",
            "不是可识别的设备文件",
            "请报送 FIT、TCX、GPX、苹果健康导出或心跳间期文件；文件已留存，未入库",
            object_name=name,
        )
    found = _Found()

    def issue(entry: Entry, problem: Problem) -> None:
        start, end = problem.byte_from or 0, problem.byte_to or len(entry.content)
        if entry.is_packed:  # a place in the unpacked file is none in the object
            start, end = 0, len(content)
        found.issues.append(DecodeIssue(found.next_no(), start, end, problem.rule_id, problem.reason, None, sha))

    for entry, kind in zip(entries, kinds, strict=True):
        try:
            reading = _read_entry(entry, kind)
        except NotActivityError as error:
            told = _not_activity(error, name)
            if len(entries) == 1:
                raise told from None
            rule_id = "decode.route" if isinstance(error, RouteError) else "decode.not_activity"
            issue(entry, Problem(rule_id, f"{told.message_zh}（{error.kind}）"))
            continue
        label = entry.name if sport_of_name(entry.name) else name
        undated = [activity for activity in reading.activities if activity.started_at is None]
        for activity in reading.activities:
            if activity.started_at is not None:
                found.activities.append((found.next_no(), label, activity))
        for columns in reading.wellness:
            if count := len(columns["record_kind"]):
                found.wellness.append((found.next_no(count), columns))
        for problem in reading.problems:
            issue(entry, problem)
        for activity in undated:
            if activity.is_partial:
                continue  # its damage is told already, and what is left of it cannot be dated
            why = "文件名中没有日期" if activity.file_format == "rr" else "设备时钟未校准，只有开机秒数"
            count = activity.sample_count or len(activity.rr_ms)
            reason = f"文件中没有有效日期（{why}），无法归入任何一天；可挽救 {count} 条采样"
            issue(entry, Problem("decode.no_valid_date", reason))
    return found


def _read_entry(entry: Entry, kind: str | None) -> Reading:
    if entry.problem is not None:
        return Reading(problems=[Problem("decode.damaged_archive", entry.problem)])
    if kind is None:
        reason = "压缩包中的这个文件不是可识别的设备文件"
        return Reading(problems=[Problem("decode.unsupported_file", reason)])
    if kind in ("tcx", "gpx") and len(entry.content) > MAX_XML_BYTES:
        return Reading(problems=[Problem("decode.too_large", "文件解开后过大，疑似压缩炸弹")])
    try:
        if kind == "fit":
            return read_fit(entry.content)
        if kind == "apple":
            return read_apple(entry.content)
        if kind == "beats":
            return read_beats(entry.name, entry.content)
        return read_xml(entry.content, kind)
    except NotActivityError:
        raise
    except Exception as error:  # a reader stumbled over damage that no check foresaw: the file is kept, with a reason
        reason = f"文件内容无法解读（{type(error).__name__}）；可挽救 0 条采样"
        return Reading(problems=[Problem("decode.damaged_file", reason)])


def _kind(entry: Entry) -> str | None:
    """fit, tcx, gpx, apple, beats by content, else by name; None for anything else."""
    head = entry.content[:4096]
    if head[8:12] == b".FIT":
        return "fit"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        if b"<TrainingCenterDatabase" in head:
            return "tcx"
        if b"<gpx" in head:
            return "gpx"
        if is_export(head):
            return "apple"
    if is_beats(entry.name, entry.content):
        return "beats"
    name = entry.name.lower().removesuffix(".gz").removesuffix(".zip")
    return next((kind for kind in ("fit", "tcx", "gpx") if name.endswith("." + kind)), None)


def _add(rows: dict[str, list[dict[str, Any]]], activity: Activity, name: str, origin: dict[str, Any]) -> None:
    sport = _sport(activity.sport, activity.sub_sport, name)
    offset = _HOME_OFFSET_MIN if activity.utc_offset_min is None else activity.utc_offset_min
    time_print, heart_print = fingerprints(activity.samples)
    unread = activity.unread or (None, None)
    rows[_ACTIVITY].append(
        {
            **origin,
            "file_format": activity.file_format,
            "device_maker": activity.device_maker,
            "device_product": activity.device_product,
            "started_at": _micro(activity.started_at),
            "local_date": _local_date(activity.started_at, offset),
            "utc_offset_min": activity.utc_offset_min,
            "sport_code": sport,
            "sub_sport": activity.sub_sport,
            "elapsed_s": _total(activity, "elapsed_s"),
            "distance_m": _total(activity, "distance_m"),
            "max_hr_bpm": activity.max_hr_bpm,
            "resting_hr_bpm": activity.resting_hr_bpm,
            "session_count": len(activity.sessions),
            "lap_count": len(activity.laps),
            "sample_count": activity.sample_count,
            "length_count": len(activity.lengths),
            "interval_count": len(activity.rr_ms),
            "value_count": sum(len(item.values) for item in activity.developer),
            "channel_count": channels(activity.samples) + bool(len(activity.rr_ms)),
            "has_position": bool(
                activity.samples and (np.isfinite(activity.samples["lat"]) & np.isfinite(activity.samples["lng"])).any()
            ),
            "is_partial": activity.is_partial,
            "unread_byte_from": unread[0],
            "unread_byte_to": unread[1],
            "time_fingerprint": time_print,
            "heart_fingerprint": heart_print,
            "decoder": activity.decoder,
        }
    )
    for number, session in enumerate(activity.sessions, start=1):
        rows[_SESSION].append(
            {
                "is_training": True,
                **origin,
                **session,
                "session_no": number,
                "started_at": _micro(session["started_at"]),
                "sport_code": _sport(session.get("sport"), session.get("sub_sport"), name),
            }
        )
    for number, lap in enumerate(activity.laps, start=1):
        rows[_LAP].append({**origin, **lap, "lap_no": number, "started_at": _micro(lap["started_at"])})
    for number, length in enumerate(activity.lengths, start=1):
        rows[_LENGTH].append({**origin, **length, "length_no": number, "started_at": _micro(length["started_at"])})


def _local_date(seconds: float | None, offset_min: int) -> int | None:
    """The wearer's calendar date as days since 1970, as Arrow stores it."""
    return None if seconds is None else int((seconds + offset_min * 60) // 86_400)


def _total(activity: Activity, name: str) -> float | None:
    known = [session[name] for session in activity.sessions if session.get(name) is not None]
    return float(sum(known)) if known else None


def _sport(sport: str | None, sub_sport: str | None, name: str) -> str:
    """The device's sport; where it has none of its own words for it, the sport in the file's name."""
    code = sport_code(sport, sub_sport)
    return code if code != "other" else sport_of_name(name) or code


def _micro(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1_000_000)


def _sample_table(found: list[_Owned]) -> pa.Table:
    schema = TABLES[_SAMPLE]
    if not found:
        return schema.empty_table()
    counts = np.array([activity.sample_count for activity, _, _, _ in found])
    times = np.concatenate([activity.samples["sampled_at"] for activity, _, _, _ in found])
    no_time = ~np.isfinite(times)
    micro = np.where(no_time, 0, np.round(times * 1e6)).astype(np.int64)
    heart = np.concatenate([activity.samples["heart_rate_bpm"] for activity, _, _, _ in found])
    no_heart = ~(np.abs(heart) < 2**31)
    columns = _origin(found, counts)
    columns["sample_no"] = pa.array(_numbers(counts), pa.int32())
    columns["sampled_at"] = pa.array(micro, mask=no_time).cast(_AT)
    columns["heart_rate_bpm"] = pa.array(np.where(no_heart, 0, np.round(heart)).astype(np.int32), mask=no_heart)
    for name in SAMPLE_FIELDS[1:]:
        column = np.concatenate([activity.samples[name] for activity, _, _, _ in found])
        columns[name] = pa.array(column, pa.float64(), mask=~np.isfinite(column))
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def _origin(found: list[_Owned], counts: np.ndarray) -> dict[str, Any]:
    """Columns that tell the activity, record and object of each of its rows."""
    owner = pa.array(np.repeat(np.arange(len(found)), counts))
    return {
        "activity_id": pa.array([activity_id for _, activity_id, _, _ in found], pa.string()).take(owner),
        RECORD_NO: pa.array([record_no for _, _, record_no, _ in found], pa.int64()).take(owner),
        SOURCE_OBJECT: pa.array([sha for _, _, _, sha in found], pa.string()).take(owner),
    }


def _numbers(counts: np.ndarray) -> np.ndarray:
    """1, 2, 3 … within each owner."""
    return np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts) + 1


def _beat_table(found: list[_Owned]) -> pa.Table:
    schema = TABLES[_BEAT]
    if not found:
        return schema.empty_table()
    counts = np.array([len(activity.rr_ms) for activity, _, _, _ in found])
    columns = _origin(found, counts)
    columns["rr_no"] = pa.array(_numbers(counts), pa.int32())
    columns["rr_ms"] = pa.array(np.concatenate([activity.rr_ms for activity, _, _, _ in found]), pa.float64())
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def _app_table(found: list[_Owned]) -> pa.Table:
    schema = TABLES[_APP]
    if not found:
        return schema.empty_table()
    groups = [(owned, item) for owned in found for item in owned[0].developer]
    counts = np.array([len(item.values) for _, item in groups])
    columns = _origin([owned for owned, _ in groups], counts)
    group = pa.array(np.repeat(np.arange(len(groups)), counts))
    for name, values in (
        ("value_scope", [item.scope for _, item in groups]),
        ("field_name", [item.name for _, item in groups]),
        ("field_unit", [item.unit for _, item in groups]),
    ):
        columns[name] = pa.array(values, pa.string()).take(group)
    columns["item_no"] = pa.array(np.concatenate([item.item_no for _, item in groups]), pa.int32())
    columns["value"] = pa.array(np.concatenate([item.values for _, item in groups]), pa.float64())
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def _wellness_table(columns: dict[str, list[Any]], first_no: int, sha: str) -> pa.Table:
    schema = TABLES[_WELLNESS]
    count = len(columns["record_kind"])
    arrays: dict[str, pa.Array] = {}
    for name in wellness.COLUMNS:
        values: list[Any] = columns[name]
        if name.endswith("_at"):
            values = [_micro(value) for value in values]
        elif name in wellness.WHOLE:
            values = [None if value is None else round(value) for value in values]
        arrays[name] = pa.array(values, schema.field(name).type)
    offsets = columns["utc_offset_min"]
    days = [
        _local_date(moment, _HOME_OFFSET_MIN if offset is None else offset)
        for moment, offset in zip(columns["recorded_at"], offsets, strict=True)
    ]
    arrays["local_date"] = pa.array(days, pa.date32())
    arrays["wellness_id"] = pa.nulls(count, pa.string())
    arrays[RECORD_NO] = pa.array(np.arange(first_no, first_no + count), pa.int64())
    arrays[SOURCE_OBJECT] = pa.array([sha] * count, pa.string())
    return pa.table({name: arrays[name] for name in schema.names}, schema=schema)
