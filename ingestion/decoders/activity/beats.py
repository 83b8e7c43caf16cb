"""Files that hold nothing but intervals between beats: one number a line (milliseconds, or seconds), or a NumPy array.

They say neither date nor person; the date is in the file's name (``202609010700_rr.txt``), as the drop names its files,
in Shanghai time. Such a recording is an activity with one session that is no training (a measurement at rest).
"""

from __future__ import annotations

import datetime as dt
import io
import re
from zoneinfo import ZoneInfo

import numpy as np

from ingestion.decoders.activity.model import SAMPLE_FIELDS, Activity, Floats, Problem, Reading, valid_time

_NAMED_TIME = re.compile(r"(?:^|[^0-9])(20\d{6})(\d{4})?[^0-9]")
_HOME = ZoneInfo("Asia/Shanghai")
_MAGIC = b"\x93NUMPY"
_LINES = re.compile(rb"\s*(?:[A-Za-z_ ()\[\]]{1,40}\r?\n)?(?:\s*\d{1,5}(?:\.\d{1,12})?\s*(?:\r?\n|$)){10,}\s*")
_HEAD = 4096


def is_beats(name: str, content: bytes) -> bool:
    """Whether a file holds intervals only: a NumPy array, or a text of numbers, under a name that says so."""
    leaf = name.rsplit("/", 1)[-1].lower()
    if not leaf.endswith((".rr", ".hrv", ".txt", ".csv", ".npy")):
        return False
    if content[:6] == _MAGIC:
        return leaf.endswith(".npy")
    whole = content[: content.rfind(b"\n", 0, _HEAD) + 1] if len(content) > _HEAD else content
    return _LINES.fullmatch(whole) is not None


def read_beats(name: str, content: bytes) -> Reading:
    """Read such a file; intervals that are no numbers make it a damaged one."""
    if content[:6] == _MAGIC:
        found = np.load(io.BytesIO(content), allow_pickle=False)
        values: Floats = np.asarray(found, dtype=np.float64).ravel()
    else:
        lines = content.split()
        if lines and not lines[0][:1].isdigit():
            lines = lines[next((n for n, line in enumerate(lines) if line[:1].isdigit()), len(lines)) :]
        values = np.array(lines, dtype=np.float64)
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        return Reading(problems=[Problem("decode.damaged_file", "心跳间期文件中没有数值；可挽救 0 条采样")])
    if np.median(values) < 10.0:  # seconds: no heart beats every ten milliseconds
        values = values * 1000.0
    activity = Activity("rr", "numpy", identity=content, rr_ms=np.round(values, 3))
    activity.started_at = _time_of(name)
    activity.samples = {column: np.zeros(0) for column in ("sampled_at", *SAMPLE_FIELDS)}
    seconds = float(values.sum() / 1000.0)
    activity.sessions = [
        {
            "started_at": activity.started_at,
            "elapsed_s": seconds,
            "timer_s": seconds,
            "avg_hr_bpm": round(60_000.0 / float(values.mean())),
            "sport": None,
            "sub_sport": None,
            "is_training": False,
        }
    ]
    return Reading([activity])


def _time_of(name: str) -> float | None:
    found = _NAMED_TIME.search("/" + name.rsplit("/", 1)[-1])
    if not found:
        return None
    try:
        moment = dt.datetime.strptime(found[1] + (found[2] or "0000"), "%Y%m%d%H%M").replace(tzinfo=_HOME)
    except ValueError:
        return None
    return valid_time(moment.timestamp())
