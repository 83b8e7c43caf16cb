"""Decoder ``activity``: FIT, TCX and GPX files of sports devices, plain or in .gz or .zip.

Gives four typed tables named as the contract's ODS tables, all with ``_record_no`` of the root record (1, or the place
of the file in a .zip):

* ``ods_training__activity``: one row a file; ``activity_id`` = first 32 hex digits of the SHA-256 of the *unpacked*
  file, so the same file is the same activity however it was packed. ``athlete_token`` is not set here.
* ``ods_training__activity_session``, ``__activity_lap``, ``__activity_sample``: children by ``activity_id``, numbered
  from 1 in file order. Units: metres, seconds, m/s, bpm, rpm, watt, degrees WGS-84; times UTC microseconds.

A damaged file, or one that names no valid date, is one issue (the reason tells how many samples could be salvaged);
a sound file that is no activity refuses the object (TIYU-ING-0301), as does another kind of file (0302). In a .zip
these are issues of single files.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from ingestion.decoders.activity.fit import read_fit
from ingestion.decoders.activity.model import (
    SAMPLE_FIELDS,
    Activity,
    DamagedError,
    NotActivityError,
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
_ACTIVITY, _SESSION, _LAP, _SAMPLE = (
    "ods_training__activity",
    "ods_training__activity_session",
    "ods_training__activity_lap",
    "ods_training__activity_sample",
)
_ORIGIN = [(RECORD_NO, pa.int64()), (SOURCE_OBJECT, pa.string())]
TABLES: dict[str, pa.Schema] = {
    _ACTIVITY: pa.schema(
        [
            ("activity_id", pa.string()),
            ("file_format", pa.string()),
            ("device_maker", pa.string()),
            ("device_product", pa.string()),
            ("started_at", _AT),
            ("sport_code", pa.string()),
            ("sub_sport", pa.string()),
            ("max_hr_bpm", pa.int32()),
            ("resting_hr_bpm", pa.int32()),
            ("session_count", pa.int64()),
            ("lap_count", pa.int64()),
            ("sample_count", pa.int64()),
            ("has_position", pa.bool_()),
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
}


def decode_chunk(options: dict[str, Any], objects: list[tuple[str, str, bytes]]) -> Decoded:
    """Decode a chunk of objects into the four tables. Never raises for what an object holds."""
    rows: dict[str, list[dict[str, Any]]] = {_ACTIVITY: [], _SESSION: [], _LAP: []}
    samples: list[tuple[Activity, str, int, str]] = []
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
        found, problems = outcome
        root_counts[sha] = len(found) + len(problems)
        issues.extend(problems)
        for record_no, activity_id, entry_name, activity in found:
            origin = {"activity_id": activity_id, RECORD_NO: record_no, SOURCE_OBJECT: sha}
            _add(rows, activity, entry_name, origin)
            if activity.sample_count:
                samples.append((activity, activity_id, record_no, sha))
    tables = {table: pa.Table.from_pylist(found_rows, schema=TABLES[table]) for table, found_rows in rows.items()}
    tables[_SAMPLE] = _sample_table(samples)
    return Decoded(tables, issues, sum(root_counts.values()), root_counts, refusals)


def _try_object(
    item: tuple[str, str, bytes],
) -> tuple[list[tuple[int, str, str, Activity]], list[DecodeIssue]] | TiyuError:
    try:
        return _read_object(*item)
    except TiyuError as error:
        return error


def _read_object(sha: str, name: str, content: bytes) -> tuple[list[tuple[int, str, str, Activity]], list[DecodeIssue]]:
    entries = unpack(name, content)
    kinds = [_kind(entry) for entry in entries]
    if not any(kinds) and not any(entry.problem for entry in entries):
        raise refusal(
            "TIYU-ING-0302",
            "不是 FIT、TCX 或 GPX 运动文件",
            "请只报送设备导出的运动记录；文件已留存，未入库",
            object_name=name,
        )
    found: list[tuple[int, str, str, Activity]] = []
    issues: list[DecodeIssue] = []

    def issue(record_no: int, rule_id: str, reason: str, byte_from: int = 0) -> None:
        in_place = not entries[record_no - 1].is_packed
        start = byte_from if in_place else 0
        issues.append(DecodeIssue(record_no, start, len(content), rule_id, reason, None, sha))

    for record_no, (entry, kind) in enumerate(zip(entries, kinds, strict=True), start=1):
        if entry.problem is not None:
            issue(record_no, "decode.damaged_archive", entry.problem)
            continue
        if kind is None:
            issue(record_no, "decode.unsupported_file", "压缩包中的这个文件不是 FIT、TCX 或 GPX 运动文件")
            continue
        if kind != "fit" and len(entry.content) > MAX_XML_BYTES:
            issue(record_no, "decode.too_large", "文件解开后过大，疑似压缩炸弹")
            continue
        try:
            activity = read_fit(entry.content) if kind == "fit" else read_xml(entry.content, kind)
        except DamagedError as error:
            reason = f"{error.reason}；可挽救 {error.salvageable} 条采样"
            issue(record_no, "decode.damaged_file", reason, error.offset)
            continue
        except NotActivityError as error:
            if len(entries) == 1:
                raise refusal(
                    "TIYU-ING-0301",
                    "文件完好，但不是运动记录",
                    "设置、监测、体重等设备文件不属于本资源，请只报送运动记录；文件已留存，未入库",
                    object_name=name,
                    kind=error.kind,
                ) from None
            issue(record_no, "decode.not_activity", f"文件完好，但不是运动记录（{error.kind}）")
            continue
        except (
            Exception
        ) as error:  # a reader stumbled over damage that no check foresaw: the file is kept, with a reason
            issue(record_no, "decode.damaged_file", f"文件内容无法解读（{type(error).__name__}）；可挽救 0 条采样")
            continue
        if activity.started_at is None:
            count = activity.sample_count
            reason = f"文件中没有有效日期（设备时钟未校准，只有开机秒数），无法归入任何一天；可挽救 {count} 条采样"
            issue(record_no, "decode.no_valid_date", reason)
            continue
        activity_id = hashlib.sha256(entry.content).hexdigest()[:32]
        label = entry.name if sport_of_name(entry.name) else name
        found.append((record_no, activity_id, label, activity))
    return found, issues


def _kind(entry: Entry) -> str | None:
    """fit, tcx, gpx by content, else by name; None for anything else."""
    head = entry.content[:4096]
    if head[8:12] == b".FIT":
        return "fit"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        if b"<TrainingCenterDatabase" in head:
            return "tcx"
        if b"<gpx" in head:
            return "gpx"
    name = entry.name.lower().removesuffix(".gz").removesuffix(".zip")
    return next((kind for kind in ("fit", "tcx", "gpx") if name.endswith("." + kind)), None)


def _add(rows: dict[str, list[dict[str, Any]]], activity: Activity, name: str, origin: dict[str, Any]) -> None:
    sport = _sport(activity.sport, activity.sub_sport, name)
    rows[_ACTIVITY].append(
        {
            **origin,
            "file_format": activity.file_format,
            "device_maker": activity.device_maker,
            "device_product": activity.device_product,
            "started_at": _micro(activity.started_at),
            "sport_code": sport,
            "sub_sport": activity.sub_sport,
            "max_hr_bpm": activity.max_hr_bpm,
            "resting_hr_bpm": activity.resting_hr_bpm,
            "session_count": len(activity.sessions),
            "lap_count": len(activity.laps),
            "sample_count": activity.sample_count,
            "has_position": bool(
                activity.samples and (np.isfinite(activity.samples["lat"]) & np.isfinite(activity.samples["lng"])).any()
            ),
            "decoder": activity.decoder,
        }
    )
    for number, session in enumerate(activity.sessions, start=1):
        rows[_SESSION].append(
            {
                **origin,
                **session,
                "session_no": number,
                "started_at": _micro(session["started_at"]),
                "sport_code": _sport(session.get("sport"), session.get("sub_sport"), name),
            }
        )
    for number, lap in enumerate(activity.laps, start=1):
        rows[_LAP].append({**origin, **lap, "lap_no": number, "started_at": _micro(lap["started_at"])})


def _sport(sport: str | None, sub_sport: str | None, name: str) -> str:
    """The device's sport; where it has none of its own words for it, the sport in the file's name."""
    code = sport_code(sport, sub_sport)
    return code if code != "other" else sport_of_name(name) or code


def _micro(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1_000_000)


def _sample_table(found: list[tuple[Activity, str, int, str]]) -> pa.Table:
    schema = TABLES[_SAMPLE]
    if not found:
        return schema.empty_table()
    counts = np.array([activity.sample_count for activity, _, _, _ in found])
    owner = np.repeat(np.arange(len(found)), counts)
    number = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts) + 1
    times = np.concatenate([activity.samples["sampled_at"] for activity, _, _, _ in found])
    no_time = ~np.isfinite(times)
    micro = np.where(no_time, 0, np.round(times * 1e6)).astype(np.int64)
    heart = np.concatenate([activity.samples["heart_rate_bpm"] for activity, _, _, _ in found])
    no_heart = ~(np.abs(heart) < 2**31)
    columns: dict[str, Any] = {
        "activity_id": pa.array([activity_id for _, activity_id, _, _ in found], pa.string()).take(pa.array(owner)),
        "sample_no": pa.array(number, pa.int32()),
        "sampled_at": pa.array(micro, mask=no_time).cast(_AT),
        "heart_rate_bpm": pa.array(np.where(no_heart, 0, np.round(heart)).astype(np.int32), mask=no_heart),
    }
    for name in SAMPLE_FIELDS[1:]:
        column = np.concatenate([activity.samples[name] for activity, _, _, _ in found])
        columns[name] = pa.array(column, pa.float64(), mask=~np.isfinite(column))
    columns[RECORD_NO] = pa.array([record_no for _, _, record_no, _ in found], pa.int64()).take(pa.array(owner))
    columns[SOURCE_OBJECT] = pa.array([sha for _, _, _, sha in found], pa.string()).take(pa.array(owner))
    return pa.table(columns, schema=schema)
