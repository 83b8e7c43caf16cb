"""Deliveries to measure with: wearable samples as NDJSON or CSV, a folder of FIT activities, many small files.

All of it is synthetic and follows from the row number alone, so two runs measure the same bytes.
"""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import duckdb
import numpy as np

from simulation import fit

FIRST_DAY = dt.date(2026, 11, 1)
ROWS_PER_DAY = 1_000_000
ATHLETES = 400
REFUSED_EVERY, REPEATED_EVERY = 1_000, 700
"""One row in so many breaks a row rule; one in so many is delivered a second time."""


def samples_sql(rows: int, day: dt.date = FIRST_DAY, rows_per_day: int = ROWS_PER_DAY) -> str:
    """Query of wearable samples: each athlete's device once a second, a million rows a day.

    A heart rate of 999 breaks a rule; every 700th row repeats the one before it. All rows are valid for a reader that
    checks nothing, so that the peers read the same file.
    """
    return f"""
    WITH n AS (
        SELECT CASE WHEN i % {REPEATED_EVERY} = 1 THEN i - 1 ELSE i END AS i FROM range({rows}) AS r(i)
    ), s AS (
        SELECT i, (i % {ATHLETES})::INTEGER AS a,
               TIMESTAMP '{day} 00:00:00' + to_days((i // {rows_per_day})::INTEGER)
                   + to_seconds(((i % {rows_per_day}) // {ATHLETES})) AS t,
               hash(i) AS h
        FROM n
    )
    SELECT 'SHA' || lpad(a::VARCHAR, 6, '0') AS athlete_no,
           'WD-' || lpad((a * 7)::VARCHAR, 6, '0') AS device_no,
           strftime(t, '%Y-%m-%dT%H:%M:%S+08:00') AS sampled_at,
           CASE WHEN i % {REFUSED_EVERY} = 0 THEN 999 ELSE 90 + (h % 100)::INTEGER END AS heart_rate_bpm,
           round(2 + (h % 3000) / 1000.0, 3)::DOUBLE AS speed_m_s,
           70 + (h % 40)::INTEGER AS cadence_rpm,
           100 + (h % 300)::INTEGER AS power_w,
           round(121.4 + (h % 100000) / 1000000.0, 6)::DOUBLE AS lng,
           round(31.2 + (h % 90000) / 1000000.0, 6)::DOUBLE AS lat,
           ['outdoor_run', 'track_run', 'road_ride', 'treadmill'][1 + (h % 4)::INTEGER] AS mode
    FROM s ORDER BY s.i
    """


def write_samples(path: Path, rows: int, kind: str, day: dt.date = FIRST_DAY, rows_per_day: int = ROWS_PER_DAY) -> int:
    """Write one file of samples as ``ndjson`` or ``csv``; returns its size in bytes."""
    form = "FORMAT json" if kind == "ndjson" else "FORMAT csv, HEADER"
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as con:
        con.execute("SET threads = 2")
        con.execute(f"COPY ({samples_sql(rows, day, rows_per_day)}) TO '{path}' ({form})")
    return path.stat().st_size


def write_small_files(folder: Path, count: int) -> None:
    """Files of one sample each."""
    folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as con:
        relation = con.execute(samples_sql(count))
        names = [column[0] for column in relation.description]
        for number, row in enumerate(relation.fetchall()):
            text = json.dumps(dict(zip(names, row, strict=True)))
            (folder / f"sample_{number:06d}.ndjson").write_text(text + "\n", encoding="utf-8")


def fit_activity(number: int) -> bytes:
    """One run of 20 to 60 minutes, a sample a second, with laps, a session and a wearer's profile."""
    rng = np.random.default_rng([20261101, number])
    count = int(rng.integers(1_200, 3_600))
    start = int(dt.datetime(2026, 11, 1, 6, tzinfo=dt.UTC).timestamp()) + number * 600 - fit.FIT_EPOCH
    at = start + np.arange(count)
    heart = np.clip(120 + np.cumsum(rng.normal(0, 0.6, count)), 70, 195).astype(int)
    speed = np.clip(3.2 + rng.normal(0, 0.2, count), 0.5, 9)
    meters = np.cumsum(speed)
    parts = [
        fit.message("file_id", 0, {"type": 4, "manufacturer": 1, "product": 3121, "serial_number": 10_000 + number,
                                   "time_created": start}),
        fit.message("user_profile", 1, {"weight": 680, "resting_heart_rate": 52, "default_max_heart_rate": 191}),
        fit.message("record", 2, {
            "timestamp": at,
            "position_lat": fit.degrees(31.2 + meters * 4e-6),
            "position_long": fit.degrees(121.4 + meters * 4e-6),
            "altitude": np.round((4 + 500 + np.sin(at / 90.0)) * 5).astype(int),
            "heart_rate": heart,
            "cadence": rng.integers(78, 92, count),
            "distance": np.round(meters * 100).astype(int),
            "speed": np.round(speed * 1000).astype(int),
            "power": rng.integers(150, 320, count),
        }),
        *(fit.message("lap", 3, {
            "timestamp": start + end, "message_index": lap, "event": 9, "event_type": 1, "start_time": start + end - 300,
            "total_elapsed_time": 300_000, "total_timer_time": 300_000, "total_distance": 96_000,
            "avg_heart_rate": int(heart[end - 300 : end].mean()), "max_heart_rate": int(heart[end - 300 : end].max()),
            "sport": 1,
        }) for lap, end in enumerate(range(300, count, 300))),
        fit.message("session", 4, {
            "timestamp": start + count, "message_index": 0, "event": 8, "event_type": 1, "start_time": start, "sport": 1,
            "sub_sport": 0, "total_elapsed_time": count * 1000, "total_timer_time": count * 1000,
            "total_distance": int(meters[-1] * 100), "avg_heart_rate": int(heart.mean()),
            "max_heart_rate": int(heart.max()), "first_lap_index": 0, "num_laps": count // 300,
        }),
        fit.message("activity", 5, {"timestamp": start + count, "total_timer_time": count * 1000, "num_sessions": 1,
                                    "type": 0, "event": 26, "event_type": 1, "local_timestamp": start + count + 28_800}),
    ]  # fmt: skip
    return fit.assemble(parts)


def write_fit_folder(folder: Path, count: int) -> None:
    """A folder of activities, ten to an athlete."""
    for number in range(count):
        path = folder / f"SHA{number // 10:06d}" / f"activity_{number:06d}.fit"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(fit_activity(number))
