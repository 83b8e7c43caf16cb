"""TCX and GPX files, read in one pass with a parser that follows no reference and loads nothing."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import numpy as np
from lxml import etree

from ingestion.decoders.activity.model import (
    SAMPLE_FIELDS,
    Activity,
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

_TCX_POINT = {
    "LatitudeDegrees": "lat",
    "LongitudeDegrees": "lng",
    "AltitudeMeters": "altitude_m",
    "DistanceMeters": "distance_m",
    "Cadence": "cadence_rpm",
    "RunCadence": "cadence_rpm",
    "Speed": "speed_m_s",
    "Watts": "power_w",
}
_GPX_POINT = {
    "ele": "altitude_m",
    "hr": "heart_rate_bpm",
    "heartrate": "heart_rate_bpm",
    "cad": "cadence_rpm",
    "cadence": "cadence_rpm",
    "power": "power_w",
    "PowerInWatts": "power_w",
    "speed": "speed_m_s",
    "distance": "distance_m",
}


_TCX_ACTIVITY = ("Activity", "MultiSportSession")


class _Points:
    """Values collected by point number, turned into arrays at the end."""

    def __init__(self) -> None:
        self.count = 0
        self.group: list[int] = []  # lap or segment of each point
        self.times: list[float] = []
        self._values: dict[str, tuple[list[int], list[Any]]] = {name: ([], []) for name in SAMPLE_FIELDS}

    def add(self, group: int) -> None:
        self.count += 1
        self.group.append(group)
        self.times.append(np.nan)

    def set(self, name: str, value: Any) -> None:
        positions, values = self._values[name]
        positions.append(self.count - 1)
        values.append(value)

    def set_time(self, text: str | None) -> None:
        moment = parse_time(text)
        self.times[-1] = np.nan if moment is None else moment

    def samples(self) -> dict[str, Floats]:
        """The points as columns, without those that repeat the last point of the lap before."""
        columns: dict[str, Floats] = {"sampled_at": np.array(self.times, dtype=np.float64)}
        for name, (positions, values) in self._values.items():
            column = np.full(self.count, np.nan)
            if positions:
                column[positions] = _floats(values)
            columns[name] = column
        if not self.count:
            return columns
        group = np.array(self.group)
        repeated = np.zeros(self.count, dtype=bool)
        repeated[1:] = group[1:] != group[:-1]
        for name in ("sampled_at", "lat", "lng"):
            column = columns[name]
            same = (column[1:] == column[:-1]) | (np.isnan(column[1:]) & np.isnan(column[:-1]))
            repeated[1:] &= same
        repeated &= np.isfinite(columns["sampled_at"])
        return {name: column[~repeated] for name, column in columns.items()}


def read_xml(data: bytes, file_format: str) -> Reading:
    """Read a TCX or GPX file; of a broken document what stands before the damage. Raises NotActivityError, and
    RouteError for places without times."""
    body = data.lstrip(b" \t\r\n")  # some exporters put blanks before the XML declaration
    problem: Problem | None = None
    damage = 0
    try:
        root = etree.fromstring(body, _parser())
    except (etree.XMLSyntaxError, ValueError) as error:
        line, column = getattr(error, "position", (0, 0))
        damage = len(data) - len(body) + _offset_of(body, line, column)
        where = f"第 {line} 行" if line else "开头"
        problem = Problem(
            "decode.damaged_file", f"{file_format.upper()} 文件不是完整合法的 XML（{where}）", damage, len(data)
        )
        root = _salvage(body)
    if root is not None and root.getroottree().docinfo.doctype:
        reason = f"{file_format.upper()} 文件含有文档类型声明，出于安全不予解析；可挽救 0 条采样"
        return Reading(problems=[Problem("decode.damaged_file", reason)])
    try:
        activities = _activities(root, data) if root is not None else []
    except NotActivityError:
        if problem is None:
            raise
        activities = []
    reading = Reading(activities)
    if problem is not None:
        count = sum(activity.sample_count for activity in activities)
        problem.reason += f"；可挽救 {count} 条采样"
        reading.problems.append(problem)
        reading.activities = [activity for activity in activities if activity.sample_count]
        for activity in reading.activities:
            activity.is_partial, activity.unread = True, (damage, len(data))
    return reading


def _activities(root: Any, data: bytes) -> list[Activity]:
    name = _local(root)
    if name == "TrainingCenterDatabase":
        holders = [element for element in root if _local(element) == "Activities"]
        parts = [element for holder in holders for element in holder if _local(element) in _TCX_ACTIVITY]
        if not parts:
            kinds = {_local(element) for element in root.iter("{*}Course", "{*}Workout")}
            raise RouteError("tcx:course") if kinds else NotActivityError("tcx")
        found = []
        for part in parts:
            activity = _read_tcx(part)
            activity.identity = data if len(parts) == 1 else etree.tostring(part, method="c14n")
            found.append(activity)
        return found
    if name == "gpx":
        activity = _read_gpx(root)
        activity.identity = data
        return [activity]
    raise NotActivityError(f"xml:{name[:40]}")


def _offset_of(body: bytes, line: int, column: int) -> int:
    """Byte place of a line and column, both from 1."""
    place = 0
    for _ in range(line - 1):
        after = body.find(b"\n", place)
        if after < 0:
            break
        place = after + 1
    return min(place + max(column - 1, 0), len(body))


def _parser(recover: bool = False) -> etree.XMLParser:
    return etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, recover=recover
    )


def _salvage(body: bytes) -> Any:
    """The tree of what can still be read of a broken document; None when nothing can."""
    try:
        return etree.fromstring(body, _parser(recover=True))
    except (etree.XMLSyntaxError, ValueError):
        return None


def _read_tcx(root: Any) -> Activity:
    """One ``Activity``, or a ``MultiSportSession`` whose legs are the sessions of one activity."""
    points = _Points()
    activity = Activity("tcx", "lxml")
    lap: dict[str, Any] | None = None
    session: dict[str, Any] | None = None
    # iter() gives document order: a value belongs to the activity, lap and point that began last.
    for element in root.iter(
        "{*}Activity", "{*}Transition", "{*}Lap", "{*}Trackpoint", "{*}Time", "{*}Value", "{*}TotalTimeSeconds", "{*}Name", "{*}Id",
        *("{*}" + name for name in _TCX_POINT),
    ):  # fmt: skip
        name = _local(element)
        parent = _local(element.getparent()) if element.getparent() is not None else ""
        text = element.text
        if name == "Activity":
            session = {"sport": element.get("Sport"), "sub_sport": None, "is_training": True, "laps": []}
            activity.sessions.append(session)
        elif name in ("Lap", "Transition") and (session is not None or name == "Transition"):
            if name == "Transition":
                session = {"sport": "transition", "sub_sport": None, "is_training": False, "laps": []}
                activity.sessions.append(session)
            assert session is not None
            lap = {
                "started_at": valid_time(parse_time(element.get("StartTime"))),
                "elapsed_s": None,
                "distance_m": None,
                "avg_hr_bpm": None,
                "max_hr_bpm": None,
                "first_point": points.count,
            }
            session["laps"].append(lap)
            activity.laps.append(lap)
        elif name == "Trackpoint":
            points.add(len(activity.laps))
        elif name == "Time" and parent == "Trackpoint":
            points.set_time(text)
        elif name == "Value" and parent == "HeartRateBpm":
            points.set("heart_rate_bpm", text)
        elif name == "Value" and lap is not None and parent == "AverageHeartRateBpm":
            lap["avg_hr_bpm"] = whole(_number(text))
        elif name == "Value" and lap is not None and parent == "MaximumHeartRateBpm":
            lap["max_hr_bpm"] = whole(_number(text))
        elif name == "TotalTimeSeconds" and lap is not None:
            lap["elapsed_s"] = real(_number(text))
        elif name == "DistanceMeters" and parent in ("Lap", "Transition") and lap is not None:
            lap["distance_m"] = real(_number(text))
        elif name == "Name" and parent == "Creator":
            activity.device_product = _product(text)
        elif name == "Id" and parent == "Activity" and session is not None:
            session["started_at"] = valid_time(parse_time(text))
        elif name in _TCX_POINT and points.count and parent in ("Trackpoint", "Position", "TPX"):
            points.set(_TCX_POINT[name], text)
    activity.samples = points.samples()
    for session in activity.sessions:
        laps = session.pop("laps")
        times = [item["elapsed_s"] for item in laps if item["elapsed_s"] is not None]
        distances = [item["distance_m"] for item in laps if item["distance_m"] is not None]
        session["started_at"] = session.get("started_at") or next(
            (item["started_at"] for item in laps if item["started_at"] is not None), None
        )
        session["timer_s"] = sum(times) if times else None
        session["elapsed_s"] = session["timer_s"]
        session["distance_m"] = sum(distances) if distances else None
        weighted = [
            (item["avg_hr_bpm"], item["elapsed_s"]) for item in laps if item["avg_hr_bpm"] and item["elapsed_s"]
        ]
        seconds = sum(weight for _, weight in weighted)
        session["avg_hr_bpm"] = round(sum(rate * weight for rate, weight in weighted) / seconds) if seconds else None
        session["max_hr_bpm"] = max((item["max_hr_bpm"] for item in laps if item["max_hr_bpm"]), default=None)
    if len(activity.sessions) == 1:
        whole_time = session_from_samples(activity)
        if whole_time is not None:  # pauses count into elapsed, not into the timer
            elapsed = whole_time["elapsed_s"]
            activity.sessions[0]["elapsed_s"] = max(elapsed, activity.sessions[0]["timer_s"] or 0.0)
    return _finish(activity)


def _read_gpx(root: Any) -> Activity:
    points = _Points()
    has_time = False
    activity = Activity("gpx", "lxml", device_product=_product(root.get("creator")))
    segment = 0
    tracks: list[dict[str, Any]] = []
    for element in root.iter(
        "{*}trk", "{*}trkseg", "{*}trkpt", "{*}time", "{*}type", *("{*}" + name for name in _GPX_POINT)
    ):
        name = _local(element)
        if name == "trk":
            tracks.append({"type": None, "first": points.count})
        elif name == "trkseg":
            segment += 1
        elif name == "trkpt":
            points.add(segment)
            points.set("lat", element.get("lat"))
            points.set("lng", element.get("lon"))
        elif name in ("time", "type"):
            parent = _local(element.getparent())
            if name == "time" and parent == "trkpt":
                points.set_time(element.text)
                has_time = True
            elif name == "type" and parent == "trk":
                tracks[-1]["type"] = (element.text or "").strip() or None
        elif points.count and any(_local(item) == "trkpt" for item in element.iterancestors()):
            points.set(_GPX_POINT[name], element.text)
    if not has_time:
        raise (
            RouteError("gpx:route")
            if points.count or next(root.iter("{*}rtept"), None) is not None
            else (NotActivityError("gpx"))
        )
    activity.samples = points.samples()
    activity.sport = tracks[0]["type"]
    session = session_from_samples(activity)
    activity.sessions = [session] if session else []
    return _finish(activity)


def _finish(activity: Activity) -> Activity:
    times = activity.samples["sampled_at"]
    times[[valid_time(value) is None for value in times.tolist()]] = np.nan
    for name, limit in (("lat", 90.0), ("lng", 180.0)):
        column = activity.samples[name]
        column[~(np.abs(column) <= limit)] = np.nan
    for session in activity.sessions:
        session["started_at"] = valid_time(session.get("started_at"))
    starts = [session["started_at"] for session in activity.sessions if session["started_at"] is not None]
    finite = times[np.isfinite(times)]
    activity.started_at = min(starts) if starts else (float(finite.min()) if len(finite) else None)
    if activity.sport is None and activity.sessions:
        activity.sport = activity.sessions[0]["sport"]
    return activity


def parse_time(text: str | None) -> float | None:
    """ISO 8601 as Unix seconds; without an offset it is UTC, as both formats prescribe."""
    if not text:
        return None
    try:
        moment = dt.datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    try:
        return moment.timestamp()
    except (ValueError, OverflowError):
        return None


def _product(text: str | None) -> str | None:
    """The product's name; None where the text is one that an owner gave to the device (张三的手表, 张三's Watch)."""
    name = (text or "").strip()[:60]
    is_owners = personal_numbers(name) or "的" in name or re.search(r"['\u2019]s\b", name)
    return None if is_owners else name or None


def _local(element: Any) -> str:
    tag = element.tag
    return tag.rsplit("}", 1)[-1] if isinstance(tag, str) else ""


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _floats(values: list[Any]) -> Floats:
    try:
        column = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = [_number(value) for value in values]
        column = np.array([np.nan if value is None else value for value in numbers], dtype=np.float64)
    column[~np.isfinite(column)] = np.nan
    return column
