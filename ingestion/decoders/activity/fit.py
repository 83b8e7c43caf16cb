"""FIT files: chained sequences, fast native decoding, and the careful Python decoder for what that refuses.

Rules (FIT protocol): a file may chain sequences, each ``header | records | CRC-16``; a header CRC of 0000 means "not
computed"; the first ``file_id`` names the kind of file; chest straps deliver heart rate after a swim in ``hr``
messages with their own clock of 1/1024 s, twelve bits a beat.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import struct
from dataclasses import dataclass
from typing import Any

import fitdecode
import fitfast
import numpy as np

from ingestion.decoders.activity.model import (
    EARLIEST,
    FIT_EPOCH,
    LATEST,
    SAMPLE_FIELDS,
    Activity,
    DamagedError,
    Floats,
    NotActivityError,
    real,
    session_from_samples,
    valid_time,
    whole,
)

HR_CARRY_S = 10.0  # a beat older than this says nothing about now

# sample column → record fields that may hold it, best first
_COLUMNS: dict[str, tuple[str, ...]] = {
    "heart_rate_bpm": ("heart_rate",),
    "speed_m_s": ("enhanced_speed", "speed"),
    "cadence_rpm": ("cadence",),
    "power_w": ("power",),
    "altitude_m": ("enhanced_altitude", "altitude"),
    "distance_m": ("distance",),
    "lng": ("position_long",),
    "lat": ("position_lat",),
}


@dataclass
class _Sequence:
    """One decoded sequence: messages by name, and the ``record`` messages as columns."""

    messages: dict[str, list[dict[Any, Any]]]
    records: dict[str, Floats]
    record_count: int
    decoder: str


def read_fit(data: bytes) -> Activity:
    """Read a FIT activity. Raises DamagedError or NotActivityError."""
    parts, tail_problem = _split(data)
    sequences: list[_Sequence] = []
    problem: tuple[str, int] | None = None
    salvageable = 0
    for number, (start, end, is_short) in enumerate(parts, start=1):
        sequence, reason, count = _decode(data[start:end], is_short)
        salvageable += count
        if sequence is not None:
            sequences.append(sequence)
        elif problem is None:
            problem = (f"第 {number} 段（共 {len(parts)} 段）{reason}", start)
    if problem is None and tail_problem is not None:
        problem = tail_problem
    if problem is not None:
        raise DamagedError(f"FIT 文件损坏：{problem[0]}", salvageable, problem[1])
    return _assemble(sequences)


def _split(data: bytes) -> tuple[list[tuple[int, int, bool]], tuple[str, int] | None]:
    """Cut at FIT headers. Each part is (start, end, is shorter than its header says); zero padding at the end is
    ignored, any other remainder is a problem."""
    parts: list[tuple[int, int, bool]] = []
    offset = 0
    while offset < len(data):
        header_size = data[offset]
        if len(data) - offset < 12 or header_size < 12 or data[offset + 8 : offset + 12] != b".FIT":
            if parts and not any(data[offset:]):
                break
            return parts, ("文件头不完整或不是 FIT 文件头", offset)
        (body_size,) = struct.unpack_from("<I", data, offset + 4)
        end = offset + header_size + body_size + 2
        parts.append((offset, min(end, len(data)), end > len(data)))
        offset = end
    return parts, None if parts else ("文件是空的", 0)


def _decode(part: bytes, is_short: bool) -> tuple[_Sequence | None, str, int]:
    """(sequence or None, reason when None, records read)."""
    if not is_short:
        try:
            messages = fitfast.parse(part)
            records = fitfast.records(part)
            count = len(messages.pop("record", ()))
            if not count or all(len(column) == count for column in records.values()):
                return _Sequence(messages, records, count, "fitfast"), "", count
        except (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
            raise
        except BaseException:  # a panic of the native code is no Exception; the careful decoder judges
            pass
    return _decode_carefully(part, is_short)


def _decode_carefully(part: bytes, is_short: bool) -> tuple[_Sequence | None, str, int]:
    messages: dict[str, list[dict[Any, Any]]] = {}
    reason = ""
    try:
        reader = fitdecode.FitReader(
            part, check_crc=fitdecode.CrcCheck.RAISE, error_handling=fitdecode.ErrorHandling.IGNORE
        )
        for frame in reader:
            if frame.frame_type == fitdecode.FIT_FRAME_DATA:
                messages.setdefault(frame.name, []).append(_plain(frame))
    except fitdecode.FitCRCError:
        reason = "校验和不符"
    except fitdecode.FitEOFError:
        reason = "数据在记录中间结束，文件被截断"
    except Exception as error:  # its own errors and, on damaged input, KeyError, struct.error and others
        reason = "文件被截断" if is_short else f"内部结构无法解读（{type(error).__name__}）"
    found = messages.pop("record", [])
    if reason:
        return None, reason, len(found)
    names = {name for record in found for name in record if isinstance(name, str)}
    records = {}
    for name in names:
        values = [record.get(name) for record in found]
        with contextlib.suppress(TypeError, ValueError):  # texts and arrays are no columns
            column = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
            if column.ndim == 1:
                records[name] = column
    for name in ("position_lat", "position_long"):
        if name in records:
            records[name] = records[name] * (180.0 / 2**31)
    return _Sequence(messages, records, len(found), "fitdecode"), "", len(found)


def _plain(frame: Any) -> dict[Any, Any]:
    """A fitdecode message in fitfast's shape: Unix seconds, no developer fields, no empty fields."""
    values: dict[Any, Any] = {}
    for item in frame.fields:
        value = item.value
        if value is None or (item.field_def is None and item.name in values):
            continue
        if item.field_def is not None and item.field_def.is_dev:
            continue
        if isinstance(value, dt.datetime):
            value = value.timestamp()
        elif item.name in ("timestamp", "start_time", "time_created") and isinstance(value, int):
            value = value + FIT_EPOCH  # uptime seconds, left as they are by the decoder
        if item.name in ("product", "garmin_product", "favero_product"):
            values["product"] = item.raw_value  # the number, as the fast decoder gives it
            continue
        if item.name == "event_timestamp_12":
            value = bytes(item.raw_value) if isinstance(item.raw_value, tuple | list | bytes) else value
        values[item.name] = value
    return values


def _assemble(sequences: list[_Sequence]) -> Activity:
    def messages(name: str) -> list[dict[Any, Any]]:
        return [message for sequence in sequences for message in sequence.messages.get(name, ())]

    record_count = sum(sequence.record_count for sequence in sequences)
    file_ids = messages("file_id")
    kind = file_ids[0].get("type") if file_ids else None
    if kind not in ("activity", 4) and (kind is not None or not (record_count or messages("session"))):
        raise NotActivityError(str(kind or "unknown"))
    # A chained activity's samples belong to the file; a chained settings file has none.
    samples = {
        name: np.concatenate([_column(sequence, fields) for sequence in sequences])
        for name, fields in {"sampled_at": ("timestamp",), **_COLUMNS}.items()
    }
    times = samples["sampled_at"]
    times[~((times >= EARLIEST) & (times < LATEST))] = np.nan
    _spread_heart_rate(samples, messages("hr"), sequences)

    first = file_ids[0] if file_ids else {}
    activity = Activity("fit", "fitdecode" if any(s.decoder == "fitdecode" for s in sequences) else "fitfast")
    activity.device_maker = _text(first.get("manufacturer"))
    activity.device_product = _text(first.get("product"))
    activity.samples = samples
    sports = messages("session") or messages("sport")
    if sports:
        activity.sport = _text(sports[0].get("sport"))
        activity.sub_sport = _text(sports[0].get("sub_sport"))
    for message in messages("session"):
        activity.sessions.append(
            {
                "started_at": valid_time(message.get("start_time")),
                "elapsed_s": real(message.get("total_elapsed_time")),
                "timer_s": real(message.get("total_timer_time")),
                "distance_m": real(message.get("total_distance")),
                "avg_hr_bpm": whole(message.get("avg_heart_rate")),
                "max_hr_bpm": whole(message.get("max_heart_rate")),
                "sport": _text(message.get("sport")),
                "sub_sport": _text(message.get("sub_sport")),
            }
        )
    for message in messages("lap"):
        activity.laps.append(
            {
                "started_at": valid_time(message.get("start_time")),
                "elapsed_s": real(message.get("total_elapsed_time")),
                "distance_m": real(message.get("total_distance")),
                "avg_hr_bpm": whole(message.get("avg_heart_rate")),
            }
        )
    if not activity.sessions:
        session = session_from_samples(activity)
        activity.sessions = [session] if session else []
    # What the training zones were computed from comes first, then what the wearer entered.
    activity.max_hr_bpm = _first(messages("zones_target"), "max_heart_rate") or _first(
        messages("user_profile"), "default_max_heart_rate", "default_max_running_heart_rate",
        "default_max_biking_heart_rate",
    )  # fmt: skip
    activity.resting_hr_bpm = _first(messages("user_profile"), "resting_heart_rate")
    starts = [item["started_at"] for item in activity.sessions if item["started_at"] is not None]
    finite = times[np.isfinite(times)]
    if starts:
        activity.started_at = min(starts)
    elif len(finite):
        activity.started_at = float(finite.min())
    else:
        activity.started_at = valid_time(first.get("time_created"))
    return activity


def _column(sequence: _Sequence, fields: tuple[str, ...]) -> Floats:
    """The first of ``fields`` that has values, filled up from the others."""
    column = np.full(sequence.record_count, np.nan)
    for field in fields:
        found = sequence.records.get(field)
        if found is not None:
            column = np.where(np.isnan(column), found, column)
    return column


def _spread_heart_rate(samples: dict[str, Floats], messages: list[dict[Any, Any]], sequences: list[_Sequence]) -> None:
    """Give each sample without a heart rate the mean of the strap's beats since the sample before it, or the last
    beat when there was none in between and it is at most HR_CARRY_S old."""
    if not messages or not len(samples["sampled_at"]):
        return
    beats = [_beats(sequence.messages.get("hr", [])) for sequence in sequences]
    when = np.concatenate([item[0] for item in beats])
    bpm = np.concatenate([item[1] for item in beats])
    keep = np.isfinite(when) & np.isfinite(bpm) & (bpm > 0)
    order = np.argsort(when[keep], kind="stable")
    when, bpm = when[keep][order], bpm[keep][order]
    if not len(when):
        return
    times = samples["sampled_at"]
    position = np.flatnonzero(np.isfinite(times))
    position = position[np.argsort(times[position], kind="stable")]
    upto = np.searchsorted(when, times[position], side="right")
    distinct = np.unique(times[position])  # samples of one second share their beats
    since_distinct = np.searchsorted(when, np.concatenate([[-np.inf], distinct[:-1]]), side="right")
    since = since_distinct[np.searchsorted(distinct, times[position])]
    total = np.concatenate([[0.0], np.cumsum(bpm)])
    count = upto - since
    last = np.maximum(upto - 1, 0)
    carried = (upto > 0) & (times[position] - when[last] <= HR_CARRY_S)
    mean = np.where(count > 0, (total[upto] - total[since]) / np.maximum(count, 1), bpm[last])
    mean[~carried] = np.nan
    heart = samples["heart_rate_bpm"]
    fill = np.isnan(heart[position])
    heart[position[fill]] = np.round(mean[fill])


def _beats(messages: list[dict[Any, Any]]) -> tuple[Floats, Floats]:
    """Times (Unix seconds) and rates of the beats in ``hr`` messages of one sequence.

    An anchor message has a date and the strap's clock; the following ones give each beat as the low twelve bits of
    that clock. A message before any anchor has no date and is left out.
    """
    when: list[Floats] = []
    rate: list[Floats] = []
    anchor: float | None = None  # Unix seconds at strap clock 0
    clock = 0
    for message in messages:
        bpm = np.array([np.nan if item is None else item for item in _list(message.get("filtered_bpm"))], dtype=float)
        stamps = _list(message.get("event_timestamp"))
        packed = message.get("event_timestamp_12")
        moment = valid_time(message.get("timestamp"))
        if moment is not None and stamps and stamps[0] is not None:
            clock = round(stamps[-1] * 1024)
            anchor = moment + float(message.get("fractional_timestamp") or 0.0) - stamps[0]
            times = np.array(stamps, dtype=float) + anchor
        elif anchor is not None and isinstance(packed, bytes):
            low = _twelve_bits(packed)
            steps = np.diff(np.concatenate([[clock & 0xFFF], low])) & 0xFFF
            clocks = clock + np.cumsum(steps)
            clock = int(clocks[-1]) if len(clocks) else clock
            times = clocks / 1024.0 + anchor
        else:
            continue
        size = min(len(times), len(bpm))
        when.append(times[:size])
        rate.append(bpm[:size])
    if not when:
        return np.zeros(0), np.zeros(0)
    return np.concatenate(when), np.concatenate(rate)


def _twelve_bits(packed: bytes) -> np.ndarray:
    raw = np.frombuffer(packed[: len(packed) // 3 * 3], dtype=np.uint8).astype(np.int64).reshape(-1, 3)
    low = raw[:, 0] | ((raw[:, 1] & 0x0F) << 8)
    high = (raw[:, 1] >> 4) | (raw[:, 2] << 4)
    return np.stack([low, high], axis=1).ravel()


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _first(messages: list[dict[Any, Any]], *names: str) -> int | None:
    for name in names:
        for message in messages:
            found = whole(message.get(name))
            if found is not None:
                return found
    return None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


assert set(_COLUMNS) == set(SAMPLE_FIELDS)
