"""FIT files: chained sequences, fast native decoding, and the careful Python decoder for what that refuses.

Rules (FIT protocol): a file may chain sequences, each ``header | records | CRC-16``; a header CRC of 0000 means "not
computed"; a sequence whose ``file_id`` says *activity* begins an activity, what follows without one (a strap's stored
beats) or with another kind (settings) belongs to it; chest straps deliver heart rate after a swim in ``hr`` messages
with their own clock of 1/1024 s, twelve bits a beat. What stands before the damage in a damaged sequence is read and
marked partial.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import struct
from dataclasses import dataclass, field
from typing import Any

import fitdecode
import fitfast
import numpy as np

from ingestion.decoders.activity import wellness
from ingestion.decoders.activity.fit_frames import without_records
from ingestion.decoders.activity.model import (
    EARLIEST,
    FIT_EPOCH,
    LATEST,
    SAMPLE_FIELDS,
    Activity,
    DeveloperValues,
    Floats,
    NotActivityError,
    Problem,
    Reading,
    RouteError,
    real,
    session_from_samples,
    valid_time,
    whole,
)
from protection.masking import personal_numbers

HR_CARRY_S = 10.0  # a beat older than this says nothing about now
YARD_M = 0.9144
_LENGTH_TYPES = {"0": "idle", "1": "active"}
_ROUTES = frozenset(("course", "segment", "segment_list", "workout", 5, 6, 34, 35))

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
_STANDARD = frozenset(
    ("timestamp", "start_time", "total_elapsed_time", "total_timer_time", "total_distance", "sport", "sub_sport",
     "avg_heart_rate", "max_heart_rate", *(name for names in _COLUMNS.values() for name in names))
)  # fmt: skip
_DEVELOPER = "developer"  # key under which the careful decoder keeps an app's fields apart


@dataclass
class _Sequence:
    """One decoded sequence: messages by name, and the ``record`` messages as columns. ``reason`` says why it is not
    whole, ``unread`` where the part that could not be read stands in the file. ``apps`` maps the names of an app's
    fields to their units."""

    messages: dict[str, list[dict[Any, Any]]]
    records: dict[str, Floats]
    record_count: int
    decoder: str
    apps: dict[str, str | None] = field(default_factory=dict)
    reason: str | None = None
    unread: tuple[int, int] | None = None
    bytes_at: tuple[int, int] = (0, 0)

    @property
    def kind(self) -> Any:
        """What its ``file_id`` says it is; None without one."""
        found = self.messages.get("file_id")
        return found[0].get("type", "unknown") if found else None


def read_fit(data: bytes) -> Reading:
    """Read a FIT file. Raises NotActivityError for a sound file with neither activities nor wellness records."""
    parts, tail_problem = _split(data)
    sequences = []
    for start, end, is_short in parts:
        sequence = _decode(data[start:end], is_short)
        sequence.bytes_at = (start, end)
        if sequence.unread is not None:
            sequence.unread = (start + sequence.unread[0], start + sequence.unread[1])
        sequences.append(sequence)
    groups: list[list[_Sequence]] = []
    for sequence in sequences:
        if not groups or (sequence.kind in ("activity", 4) and _has_kind(groups[-1])) or wellness.is_wellness(sequence):
            groups.append([sequence])
        else:
            groups[-1].append(sequence)
    reading = Reading()
    salvaged = sum(sequence.record_count for sequence in sequences)
    for number, sequence in enumerate(sequences, start=1):
        if sequence.reason is not None:
            where = f"第 {number} 段（共 {len(parts)} 段）"
            reason = f"FIT 文件损坏：{where}{sequence.reason}；可挽救 {salvaged} 条采样"
            reading.problems.append(Problem("decode.damaged_file", reason, *(sequence.unread or sequence.bytes_at)))
    if tail_problem is not None:
        reason, offset = tail_problem
        reading.problems.append(
            Problem("decode.damaged_file", f"FIT 文件损坏：{reason}；可挽救 {salvaged} 条采样", offset, len(data))
        )
    others: list[Any] = []
    for group in groups:
        if wellness.is_wellness(group[0]):
            reading.wellness.extend(wellness.read_fit(sequence.messages) for sequence in group)
        elif _is_activity(group):
            activity = _assemble(group)
            start, end = group[0].bytes_at[0], group[-1].bytes_at[1]
            activity.identity = data if len(groups) == 1 else data[start:end]
            if activity.sample_count or activity.sessions:
                reading.activities.append(activity)
        else:
            others.append(group[0].kind)
    if others and not (reading.activities or reading.wellness or reading.problems):
        error = RouteError if any(kind in _ROUTES for kind in others) else NotActivityError
        raise error(str(others[0] or "unknown"))
    return reading


def _has_kind(group: list[_Sequence]) -> bool:
    """Whether a group has its activity: another one begins the next group. Settings may stand before their activity."""
    return any(sequence.kind in ("activity", 4) for sequence in group) or wellness.is_wellness(group[0])


def _is_activity(group: list[_Sequence]) -> bool:
    kinds = [sequence.kind for sequence in group if sequence.kind is not None]
    if any(kind in ("activity", 4) for kind in kinds):
        return True
    return not kinds and any(sequence.record_count or sequence.messages.get("session") for sequence in group)


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


def _decode(part: bytes, is_short: bool) -> _Sequence:
    if not is_short:
        try:
            thin = without_records(part)
            messages = fitfast.parse(thin.data if thin else part)
            apps = _apps(messages)
            # a name of its own for an app's field that is also a standard one would take the standard one's place
            if not (_STANDARD & apps.keys()):
                records = fitfast.records(part)  # checks the CRC and the structure of the whole
                count = thin.records if thin else len(messages.pop("record", ()))
                if not count or all(len(column) == count for column in records.values()):
                    return _Sequence(messages, records, count, "fitfast", apps)
        except (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
            raise
        except BaseException:  # a panic of the native code is no Exception; the careful decoder judges
            pass
    return _decode_carefully(part, is_short)


def _apps(messages: dict[str, list[dict[Any, Any]]]) -> dict[str, str | None]:
    """Names and units of the fields that apps on the device declared."""
    found: dict[str, str | None] = {}
    for message in messages.get("field_description", ()):
        name, unit = (_joined(message.get(key)) for key in ("field_name", "units"))
        if name:
            found[name] = unit
    return found


def _joined(value: Any) -> str | None:
    text = "".join(str(item) for item in value if item) if isinstance(value, list | tuple) else value
    return str(text).strip("\0 ") or None if text is not None else None


def _decode_carefully(part: bytes, is_short: bool) -> _Sequence:
    messages: dict[str, list[dict[Any, Any]]] = {}
    reason = None
    read_to = 0
    try:
        reader = fitdecode.FitReader(
            part,
            check_crc=fitdecode.CrcCheck.RAISE,
            error_handling=fitdecode.ErrorHandling.IGNORE,
            keep_raw_chunks=True,
        )
        for frame in reader:
            if frame.frame_type == fitdecode.FIT_FRAME_DATA:
                messages.setdefault(frame.name, []).append(_plain(frame))
            if frame.chunk is not None:
                read_to = frame.chunk.offset + len(frame.chunk.bytes)
    except fitdecode.FitCRCError:
        reason, read_to = "校验和不符", 0  # anything in the sequence may be wrong
    except fitdecode.FitEOFError:
        reason = "数据在记录中间结束，文件被截断"
    except Exception as error:  # its own errors and, on damaged input, KeyError, struct.error and others
        reason = "文件被截断" if is_short else f"内部结构无法解读（{type(error).__name__}）"
    found = messages.pop("record", [])
    apps = _apps(messages)
    names = {name for record in found for name in record if isinstance(name, str) and name != _DEVELOPER}
    records = _columns_of(found, names)
    for name in ("position_lat", "position_long"):
        if name in records:
            records[name] = records[name] * (180.0 / 2**31)
    own = [record.get(_DEVELOPER, {}) for record in found]
    records |= {_app_key(name): column for name, column in _columns_of(own, set(apps)).items()}
    unread = None if reason is None else (read_to, len(part))
    return _Sequence(messages, records, len(found), "fitdecode", apps, reason, unread)


def _app_key(name: str) -> str:
    """The key of an app's column: as the fast decoder has it, except where that is the name of a standard field."""
    return f"{_DEVELOPER}.{name}" if name in _STANDARD else name


def _columns_of(rows: list[dict[Any, Any]], names: set[str]) -> dict[str, Floats]:
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        with contextlib.suppress(TypeError, ValueError):  # texts and arrays are no columns
            column = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
            if column.ndim == 1:
                columns[name] = column
    return columns


def _plain(frame: Any) -> dict[Any, Any]:
    """A fitdecode message in fitfast's shape: Unix seconds, no empty fields; an app's fields apart."""
    values: dict[Any, Any] = {}
    for item in frame.fields:
        value = item.value
        if value is None:
            continue
        if item.field_def is not None and item.field_def.is_dev:
            values.setdefault(_DEVELOPER, {})[str(item.name)] = value
            continue
        if item.field_def is None and item.name in values:
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

    # A chained activity's samples belong to it; chained settings have none.
    samples = {
        name: np.concatenate([_column(sequence, fields) for sequence in sequences])
        for name, fields in {"sampled_at": ("timestamp",), **_COLUMNS}.items()
    }
    times = samples["sampled_at"]
    times[~((times >= EARLIEST) & (times < LATEST))] = np.nan
    _spread_heart_rate(samples, messages("hr"), sequences)

    first = (messages("file_id") or [{}])[0]
    activity = Activity("fit", "fitdecode" if any(s.decoder == "fitdecode" for s in sequences) else "fitfast")
    activity.device_maker = _text(first.get("manufacturer"))
    activity.device_product = _text(first.get("product"))
    activity.samples = samples
    activity.utc_offset_min = _utc_offset(messages("activity"))
    sports = messages("session") or messages("sport")
    if sports:
        activity.sport = _text(sports[0].get("sport"))
        activity.sub_sport = _text(sports[0].get("sub_sport"))
    for message in messages("session"):
        pool, unit = _pool(message)
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
                "is_training": message.get("sport") not in ("transition", 3),
                "pool_length": pool,
                "pool_length_unit": unit,
                "active_length_count": whole(message.get("num_active_lengths")),
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
    activity.lengths = _lengths(messages("length"), activity.sessions)
    if not activity.sessions:
        session = session_from_samples(activity)
        activity.sessions = [session] if session else []
    # What the training zones were computed from comes first, then what the wearer entered.
    activity.max_hr_bpm = _first(messages("zones_target"), "max_heart_rate") or _first(
        messages("user_profile"), "default_max_heart_rate", "default_max_running_heart_rate",
        "default_max_biking_heart_rate",
    )  # fmt: skip
    activity.resting_hr_bpm = _first(messages("user_profile"), "resting_heart_rate")
    activity.rr_ms = _beat_intervals(messages("hrv"))
    activity.developer = _developer(sequences)
    damaged = [sequence.unread or sequence.bytes_at for sequence in sequences if sequence.reason is not None]
    activity.is_partial = bool(damaged)
    activity.unread = (damaged[0][0], damaged[-1][1]) if damaged else None
    starts = [item["started_at"] for item in activity.sessions if item["started_at"] is not None]
    finite = times[np.isfinite(times)]
    if starts:
        activity.started_at = min(starts)
    elif len(finite):
        activity.started_at = float(finite.min())
    else:
        activity.started_at = valid_time(first.get("time_created"))
    return activity


def _utc_offset(messages: list[dict[Any, Any]]) -> int | None:
    """Minutes by which the wearer's clock was ahead of UTC, in quarter-hours (no zone uses anything finer)."""
    for message in messages:
        local, moment = message.get("local_timestamp"), valid_time(message.get("timestamp"))
        if isinstance(local, dt.datetime):
            local = local.replace(tzinfo=dt.UTC).timestamp()
        if moment is None or valid_time(local) is None:
            continue
        offset = round((float(local) - moment) / 900) * 15  # type: ignore[arg-type]
        if -12 * 60 <= offset <= 14 * 60:
            return offset
    return None


def _pool(session: dict[Any, Any]) -> tuple[float | None, str | None]:
    """Length of the pool in the unit it was built in: a 25-yard pool is 25 yd, though the file says 22.86 m."""
    length = real(session.get("pool_length"))
    if not length:
        return None, None
    if session.get("pool_length_unit") in ("statute", 1):
        return round(length / YARD_M, 2), "yd"
    return length, "m"


def _lengths(messages: list[dict[Any, Any]], sessions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pool lengths in file order, each with the session it was swum in; what a session counts as swum is what the
    lengths say, where there are any. A length of which only the start is known is kept as that."""
    starts = [item["started_at"] if item["started_at"] is not None else -np.inf for item in sessions]
    order = np.argsort(starts, kind="stable")
    found = []
    for message in messages:
        start = valid_time(message.get("start_time"))
        kind = message.get("length_type")
        number = None
        if len(sessions) == 1:
            number = 1
        elif sessions and start is not None:
            place = int(np.searchsorted(np.array(starts)[order], start, side="right")) - 1
            number = int(order[max(place, 0)]) + 1
        found.append(
            {
                "session_no": number,
                "started_at": start,
                "elapsed_s": real(message.get("total_elapsed_time")),
                "length_type": _LENGTH_TYPES.get(str(kind), _text(kind)),
                "swim_stroke": _text(message.get("swim_stroke")),
                "stroke_count": whole(message.get("total_strokes")),
            }
        )
    for number, session in enumerate(sessions, start=1):
        mine = [item for item in found if item["session_no"] == number]
        if any(item["length_type"] is not None for item in mine):
            session["active_length_count"] = sum(item["length_type"] == "active" for item in mine)
    return found


def _beat_intervals(messages: list[dict[Any, Any]]) -> Floats:
    """RR intervals in milliseconds, in order; ``hrv`` messages hold seconds, up to five a message, unused ones empty."""
    groups = [_list(message.get("time")) for message in messages]
    flat = np.array([np.nan if item is None else item for group in groups for item in group], dtype=np.float64)
    return np.round(flat[np.isfinite(flat) & (flat < 65.0)] * 1000.0, 3)  # 65.535 s: not a value


def _developer(sequences: list[_Sequence]) -> list[DeveloperValues]:
    """Numbers that apps added to samples, laps and sessions."""
    found: list[DeveloperValues] = []
    done = dict.fromkeys(("record", "lap", "session"), 0)
    for sequence in sequences:
        for name, unit in sequence.apps.items():
            shown = f"app_field_{len(found) + 1}" if personal_numbers(name) else name[:64]
            for scope, message in (("sample", "record"), ("lap", "lap"), ("session", "session")):
                if message == "record":
                    column = sequence.records.get(_app_key(name), np.zeros(0))
                else:
                    column = _columns_of(
                        [{name: _app_value(item, name)} for item in sequence.messages.get(message, ())], {name}
                    ).get(name, np.zeros(0))
                place = np.flatnonzero(np.isfinite(column))
                if len(place):
                    found.append(
                        DeveloperValues(scope, shown, unit and unit[:32], place + 1 + done[message], column[place])
                    )
        done["record"] += sequence.record_count
        for message in ("lap", "session"):
            done[message] += len(sequence.messages.get(message, ()))
    return found


def _app_value(message: dict[Any, Any], name: str) -> Any:
    own = message.get(_DEVELOPER)
    return own.get(name) if isinstance(own, dict) else message.get(name)


def _column(sequence: _Sequence, fields: tuple[str, ...]) -> Floats:
    """The first of ``fields`` that has values, filled up from the others."""
    column = np.full(sequence.record_count, np.nan)
    for name in fields:
        found = sequence.records.get(name)
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
