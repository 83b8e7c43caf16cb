"""What the readers of device files share: one parsed activity, and the ways a file can fail to be one."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# FIT: a date_time below 0x10000000 counts seconds since the device was switched on, it is not a date (FIT protocol,
# profile type date_time). In Unix seconds that bound is 1998-07-03; nobody wore a recording device before it.
FIT_EPOCH = 631_065_600
EARLIEST = float(FIT_EPOCH + 0x10000000)
LATEST = 4_102_444_800.0  # 2100-01-01

SAMPLE_FIELDS = (
    "heart_rate_bpm",
    "speed_m_s",
    "cadence_rpm",
    "power_w",
    "altitude_m",
    "distance_m",
    "lng",
    "lat",
)

SPORT_CODES = frozenset(
    (
        "badminton",
        "basketball",
        "football",
        "swimming",
        "table_tennis",
        "tennis",
        "volleyball",
        "fitness",
        "climbing",
        "athletics",
        "running",
        "cycling",
        "martial_arts",
        "dance",
        "other",
    )
)
# Device words → sport codes of the catalogue. What has no code of its own is "other".
_SPORTS = {
    "soccer": "football",
    "biking": "cycling",
    "ride": "cycling",
    "virtualride": "cycling",
    "e_biking": "cycling",
    "road_biking": "cycling",
    "mountain_biking": "cycling",
    "1": "cycling",  # Strava's number in GPX
    "run": "running",
    "trail_running": "running",
    "treadmill_running": "running",
    "9": "running",  # Strava's number in GPX
    "swim": "swimming",
    "lap_swimming": "swimming",
    "open_water_swimming": "swimming",
    "training": "fitness",
    "fitness_equipment": "fitness",
    "strength_training": "fitness",
    "cardio_training": "fitness",
    "hiit": "fitness",
    "jump_rope": "fitness",
    "rock_climbing": "climbing",
    "floor_climbing": "climbing",
    "bouldering": "climbing",
    "boxing": "martial_arts",
    "mixed_martial_arts": "martial_arts",
}
_RACKET = {"badminton", "table_tennis", "tennis"}
_NAMED_SPORT = re.compile(r"_([a-z][a-z_]*)\.(?:fit|tcx|gpx)(?:\.gz|\.zip)?$", re.IGNORECASE)


class NotActivityError(Exception):
    """The file is sound but is no activity (settings, goals …). ``kind`` is the device's word for what it is."""

    def __init__(self, kind: str):
        super().__init__(kind)
        self.kind = kind


class RouteError(NotActivityError):
    """A route, course or plan: places without the times at which somebody was there."""


@dataclass
class Problem:
    """A stretch of a file that cannot be read: rule, Chinese reason, half-open byte range in the unpacked file (None:
    the whole file)."""

    rule_id: str
    reason: str
    byte_from: int | None = None
    byte_to: int | None = None


@dataclass
class DeveloperValues:
    """What an app on the device added to the standard fields, one name: ``item_no`` (numbers from 1 of samples, laps
    or sessions, as ``scope`` says) and ``values`` side by side."""

    scope: str
    name: str
    unit: str | None
    item_no: npt.NDArray[np.int64]
    values: Floats


@dataclass
class Activity:
    """One activity. Times are Unix seconds or None; ``samples`` holds float arrays of one length with NaN for
    what was not measured, and ``sampled_at`` in Unix seconds. ``identity`` is what the activity's number is made of;
    ``utc_offset_min`` the wearer's clock against UTC; ``rr_ms`` the intervals between beats in order; ``is_partial``
    says that the file was damaged and more may have been in it, ``unread`` where that stands."""

    file_format: str
    decoder: str
    identity: bytes = field(default=b"", repr=False)
    device_maker: str | None = None
    device_product: str | None = None
    started_at: float | None = None
    utc_offset_min: int | None = None
    sport: str | None = None
    sub_sport: str | None = None
    max_hr_bpm: int | None = None
    resting_hr_bpm: int | None = None
    sessions: list[dict[str, Any]] = field(default_factory=list)
    laps: list[dict[str, Any]] = field(default_factory=list)
    lengths: list[dict[str, Any]] = field(default_factory=list)
    samples: dict[str, Floats] = field(default_factory=dict)
    rr_ms: Floats = field(default_factory=lambda: np.zeros(0))
    developer: list[DeveloperValues] = field(default_factory=list)
    is_partial: bool = False
    unread: tuple[int, int] | None = None

    @property
    def sample_count(self) -> int:
        return len(self.samples["sampled_at"]) if self.samples else 0

    @property
    def activity_id(self) -> str:
        """First 32 hex digits of the SHA-256 of ``identity``."""
        return hashlib.sha256(self.identity).hexdigest()[:32]


@dataclass
class Reading:
    """Everything one unpacked file gives. ``wellness`` holds columns of one length each (see `wellness.COLUMNS`)."""

    activities: list[Activity] = field(default_factory=list)
    wellness: list[dict[str, list[Any]]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


_MIN_FINGERPRINT = 10  # fewer samples than these are alike by chance
_MAX_FINGERPRINT = 60  # these are enough, and a damaged file mostly still has them


def channels(samples: dict[str, Floats]) -> int:
    """How many kinds of measure the samples hold; a position counts once."""
    return sum(bool(np.isfinite(samples[name]).any()) for name in SAMPLE_FIELDS if name != "lat") if samples else 0


def fingerprints(samples: dict[str, Floats]) -> tuple[str | None, str | None]:
    """What an activity looks like whatever clock, format or device maker's export it went through.

    The first is made of the seconds of its first sixty samples counted from the first one, the other of seconds and
    heart rate where there is one. None where fewer than ten samples, or a heart rate that never moves, would have to do.
    """
    if not samples:
        return None, None
    times = samples["sampled_at"]
    known = np.isfinite(times)
    heart = known & np.isfinite(samples["heart_rate_bpm"])
    return _digest(times[known]), _digest(times[heart], samples["heart_rate_bpm"][heart])


def _digest(times: Floats, values: Floats | None = None) -> str | None:
    if len(times) < _MIN_FINGERPRINT:
        return None
    order = np.argsort(times, kind="stable")[:_MAX_FINGERPRINT]
    if values is not None and len(np.unique(values[order])) < 3:
        return None
    relative = np.round(times[order] - times[order[0]]).astype("<i8")
    made = hashlib.blake2b(relative.tobytes(), digest_size=8)
    if values is not None:
        made.update(np.round(values[order]).astype("<i8").tobytes())
    return made.hexdigest()


def valid_time(value: Any) -> float | None:
    """A Unix time that is a date, else None."""
    if not isinstance(value, int | float) or not math.isfinite(value) or not EARLIEST <= value < LATEST:
        return None
    return float(value)


def whole(value: Any) -> int | None:
    """A positive 32-bit whole number, rounded, else None: devices write 0 for "not known"."""
    if not isinstance(value, int | float) or not math.isfinite(value) or not 0 < value < 2**31:
        return None
    return round(value)


def real(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def sport_code(sport: Any, sub_sport: Any = None) -> str:
    """The catalogue's sport code for a device's words."""
    word = str(sport or "").strip().lower().replace(" ", "_")
    sub = str(sub_sport or "").strip().lower().replace(" ", "_")
    if word in ("racket", "", "generic", "other", "all") and sub in _RACKET:
        return sub
    if word in SPORT_CODES and word != "other":
        return word
    return _SPORTS.get(word) or (_SPORTS.get(sub, "other") if word in ("", "generic", "other") else "other")


def sport_of_name(name: str) -> str | None:
    """The sport that a file name tells (``202609010730_badminton.fit``), when it is a known code."""
    found = _NAMED_SPORT.search(name.rsplit("/", 1)[-1])
    code = found.group(1).lower() if found else None
    return code if code in SPORT_CODES else None


def session_from_samples(activity: Activity) -> dict[str, Any] | None:
    """A session for a file that has samples but states no session: first to last sample."""
    if not activity.sample_count:
        return None
    times = activity.samples["sampled_at"]
    times = times[np.isfinite(times)]
    if not len(times):
        return None
    heart = activity.samples["heart_rate_bpm"]
    heart = heart[np.isfinite(heart)]
    distance = activity.samples["distance_m"]
    distance = distance[np.isfinite(distance)]
    elapsed = float(times.max() - times.min())
    return {
        "started_at": float(times.min()),
        "elapsed_s": elapsed,
        "timer_s": elapsed,
        "distance_m": float(distance.max()) if len(distance) else None,
        "avg_hr_bpm": round(float(heart.mean())) if len(heart) else None,
        "max_hr_bpm": round(float(heart.max())) if len(heart) else None,
        "sport": activity.sport,
        "sub_sport": activity.sub_sport,
    }
