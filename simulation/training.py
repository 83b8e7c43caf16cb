"""Device files of athletes: FIT mostly, some TCX and GPX, plain or compressed."""

from __future__ import annotations

import gzip
import io
import zipfile
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl

from simulation import fit, geo
from simulation.city import City
from simulation.times import UTC_OFFSET, midnight, spread, stream, to_date

PROFILE = {  # sport -> FIT sport, sub sport, outdoor, m/s, minutes, share
    "running": (1, 0, True, 3.4, 55, 0.36),
    "cycling": (2, 0, True, 8.2, 80, 0.22),
    "swimming": (5, 17, False, 1.2, 50, 0.14),
    "fitness": (4, 0, False, 0.0, 45, 0.12),
    "football": (7, 0, True, 2.1, 70, 0.10),
    "basketball": (6, 0, False, 1.9, 60, 0.06),
}
MAKERS = ((1, 3_121), (23, 61), (123, 212), (294, 809))


@dataclass(frozen=True)
class Track:
    """One recorded session: instants in UTC seconds, one array entry a sample. Absent measures are None."""

    athlete_no: str
    sport: str
    start: int
    """Local seconds."""
    at: np.ndarray
    heart_rate: np.ndarray
    distance: np.ndarray | None
    speed: np.ndarray | None
    cadence: np.ndarray | None
    power: np.ndarray | None
    altitude: np.ndarray | None
    lng: np.ndarray | None
    lat: np.ndarray | None
    max_hr: int
    resting_hr: int
    weight_kg: float
    serial: int


@dataclass(frozen=True)
class DeviceFile:
    """A file as the drop receives it."""

    path: str
    data: bytes
    is_copy: bool = False
    is_damaged: bool = False


def _own(city: City, athlete: int) -> tuple[np.random.Generator, str]:
    """The stream of everything that does not change about an athlete, and its first draw: the favourite sport."""
    own = stream(city.seed, "athlete", athlete)
    sports = list(PROFILE)
    return own, sports[int(own.choice(len(sports), p=[PROFILE[s][5] for s in sports]))]


def favourite_sport(city: City, athlete: int) -> str:
    """What an athlete trains most."""
    return _own(city, athlete)[1]


def _track(city: City, rng: np.random.Generator, athlete: int, day: date) -> Track | None:
    own, favourite = _own(city, athlete)
    sports = list(PROFILE)
    share = np.array([PROFILE[s][5] for s in sports])
    max_hr, resting, weight = int(own.integers(176, 205)), int(own.integers(38, 62)), float(own.uniform(50, 88))
    home = own.uniform(-0.004, 0.004, 2)
    district = int(own.integers(16))
    sport = favourite if rng.random() < 0.72 else sports[int(rng.choice(len(sports), p=share))]
    _, _, outdoor, pace, minutes, _ = PROFILE[sport]
    hour = rng.choice([6.2, 9.0, 15.2, 18.4], p=[0.22, 0.33, 0.32, 0.13])
    start = midnight(day) + int(hour * 3600) + int(rng.integers(0, 3_000))
    length = int(np.clip(rng.normal(minutes, minutes * 0.25), 15, 170) * 60)
    if start + length > city.now:
        return None
    # Most devices record when something changes, about every five seconds; a few record each second.
    step = 1 if rng.random() < 0.04 else 5
    n = length // step
    second = np.arange(n) * step
    share_done = second / length
    effort = rng.uniform(0.58, 0.8) + 0.1 * share_done + rng.uniform(0.02, 0.13) * np.sin(second / rng.uniform(60, 260))
    effort *= 1 - np.exp(-second / 150.0) * 0.35
    wander = np.cumsum(rng.normal(0, 0.004, n))
    hr = resting + (max_hr - resting) * (effort + wander - wander.mean())
    hr = np.clip(hr, resting + 4, max_hr - 1).round().astype(np.int64)
    gap = rng.random(n) < 0.004
    gap |= np.roll(gap, 1) | np.roll(gap, 2)
    hr = np.where(gap, 255, hr)  # the strap loses contact
    if gap.all():
        hr[0] = resting + 40
    distance = speed = cadence = power = altitude = lng = lat = None
    if pace:
        speed = np.clip(pace * (0.72 + 0.35 * effort / effort.max()) * rng.normal(1, 0.05, n), 0.2, pace * 1.6)
        distance = np.cumsum(speed * step)
    if sport in ("running", "cycling"):
        cadence = np.clip(rng.normal(84, 4, n), 40, 120).round()
    if sport == "cycling":
        power = np.clip(rng.normal(190, 45, n) * effort * 1.3, 0, 900).round()
    if outdoor:
        centre = _centres(city)[district] + home
        heading = np.cumsum(rng.normal(0, 0.09, n))
        move = (speed if speed is not None else np.zeros(n)) * step * (0.3 if sport == "football" else 1.0)
        x, y = np.cumsum(np.cos(heading) * move), np.cumsum(np.sin(heading) * move)
        limit = 60.0 if sport == "football" else 2_500.0  # out and back: the track folds at the edge of its ground
        x, y = (
            limit - np.abs((x + limit) % (4 * limit) - 2 * limit),
            limit - np.abs((y + limit) % (4 * limit) - 2 * limit),
        )
        lng = centre[0] + x / (geo.M_PER_DEG * 0.855)
        lat = centre[1] + y / geo.M_PER_DEG
        altitude = 4 + 2 * np.sin(second / 400.0) + np.cumsum(rng.normal(0, 0.02, n))
    return Track(
        f"SHA{athlete + 1:06d}", sport, start, start - UTC_OFFSET + second, hr, distance, speed, cadence, power,
        altitude, lng, lat, max_hr, resting, weight, 3_900_000_000 + athlete,
    )  # fmt: skip


_CENTRES: dict[int, np.ndarray] = {}


def _centres(city: City) -> np.ndarray:
    """One training ground per district, the same for all athletes of the district."""
    if city.seed not in _CENTRES:
        rng = stream(city.seed, "training grounds")
        _CENTRES[city.seed] = np.vstack([geo.points_in(c, 1, rng, margin_m=800) for c in city.codes])
    return _CENTRES[city.seed]


def to_fit(t: Track, rng: np.random.Generator) -> bytes:
    """The track as a FIT activity with user profile, laps of about ten minutes, session and activity."""
    maker, product = MAKERS[t.serial % len(MAKERS)]
    stamp = t.at - fit.FIT_EPOCH
    start, step = int(stamp[0]), int(t.at[1] - t.at[0])
    end = int(stamp[-1]) + step
    kind, sub = PROFILE[t.sport][0], PROFILE[t.sport][1]
    record: dict[str, np.ndarray | int] = {"timestamp": stamp}
    if t.lat is not None and t.lng is not None and t.altitude is not None:
        record["position_lat"], record["position_long"] = fit.degrees(t.lat), fit.degrees(t.lng)
        record["altitude"] = np.round((t.altitude + 500) * 5)
    record["heart_rate"] = t.heart_rate
    if t.distance is not None and t.speed is not None:
        record["distance"], record["speed"] = np.round(t.distance * 100), np.round(t.speed * 1000)
    if t.cadence is not None:
        record["cadence"] = t.cadence
    if t.power is not None:
        record["power"] = t.power

    edges = np.unique(np.concatenate([np.arange(0, len(stamp), max(1, 600 // step)), [len(stamp)]]))
    if len(edges) > 2 and edges[-1] - edges[-2] < 12:
        edges = np.delete(edges, -2)
    known = np.where(t.heart_rate == 255, 0, t.heart_rate)
    beats = np.add.reduceat(known, edges[:-1])
    counted = np.maximum(np.add.reduceat((t.heart_rate != 255).astype(int), edges[:-1]), 1)
    highest = np.maximum.reduceat(known, edges[:-1])
    starts = stamp[edges[:-1]]
    ends = np.concatenate([stamp[edges[1:-1]], [end]])
    lap: dict[str, np.ndarray | int] = {
        "timestamp": ends, "message_index": np.arange(len(starts)), "event": 9, "event_type": 1, "start_time": starts,
        "total_elapsed_time": (ends - starts) * 1000, "total_timer_time": (ends - starts) * 1000,
        "avg_heart_rate": np.round(beats / counted), "max_heart_rate": highest, "sport": kind,
    }  # fmt: skip
    session: dict[str, np.ndarray | int] = {
        "timestamp": end, "message_index": 0, "event": 8, "event_type": 1, "start_time": start, "sport": kind,
        "sub_sport": sub, "total_elapsed_time": (end - start) * 1000, "total_timer_time": (end - start) * 1000,
        "avg_heart_rate": round(float(known.sum() / max(1, (known > 0).sum()))), "max_heart_rate": int(known.max()),
        "first_lap_index": 0, "num_laps": len(starts),
    }  # fmt: skip
    if t.distance is not None:
        covered = np.concatenate([[0.0], t.distance[edges[1:] - 1]])
        lap["total_distance"] = np.round(np.diff(covered) * 100)
        session["total_distance"] = round(float(t.distance[-1]) * 100)
    return fit.assemble([
        fit.message("file_id", 0, {"type": 4, "manufacturer": maker, "product": product, "serial_number": t.serial,
                                   "time_created": start}),
        fit.message("user_profile", 1, {"weight": int(t.weight_kg * 10), "resting_heart_rate": t.resting_hr,
                                        "default_max_heart_rate": t.max_hr}),
        fit.message("event", 2, {"timestamp": start, "event": 0, "event_type": 0, "event_group": 0}),
        fit.message("record", 3, record),
        fit.message("event", 2, {"timestamp": end, "event": 0, "event_type": 4, "event_group": 0}),
        fit.message("lap", 4, lap),
        fit.message("session", 5, session),
        fit.message("activity", 6, {"timestamp": end, "total_timer_time": (end - start) * 1000, "num_sessions": 1, "type": 0,
                                    "event": 26, "event_type": 1, "local_timestamp": end + UTC_OFFSET}),
    ])  # fmt: skip


def _frame(t: Track) -> pl.DataFrame:
    if t.lat is None or t.lng is None or t.altitude is None or t.distance is None:
        raise ValueError("a track without positions has no TCX or GPX form")
    return pl.DataFrame({"at": t.at, "lat": t.lat.round(6), "lng": t.lng.round(6), "alt": t.altitude.round(1),
                         "dist": t.distance.round(1), "hr": t.heart_rate}).with_columns(
        pl.from_epoch("at", time_unit="s").dt.strftime("%Y-%m-%dT%H:%M:%SZ").alias("time")
    )  # fmt: skip


def to_tcx(t: Track, rng: np.random.Generator) -> bytes:
    """The track as a Garmin TrainingCenterDatabase v2 document with one lap."""
    f = _frame(t)
    heart = pl.when(pl.col("hr") < 255).then(
        pl.format("<HeartRateBpm><Value>{}</Value></HeartRateBpm>", "hr")).otherwise(pl.lit(""))  # fmt: skip
    points = f.select(pl.format(
        "<Trackpoint><Time>{}</Time><Position><LatitudeDegrees>{}</LatitudeDegrees><LongitudeDegrees>{}</LongitudeDegrees>"
        "</Position><AltitudeMeters>{}</AltitudeMeters><DistanceMeters>{}</DistanceMeters>{}</Trackpoint>",
        "time", "lat", "lng", "alt", "dist", heart)).to_series()  # fmt: skip
    known = t.heart_rate[t.heart_rate < 255]
    sport = {"running": "Running", "cycling": "Biking"}.get(t.sport, "Other")
    seconds = int(t.at[-1] - t.at[0])
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<TrainingCenterDatabase xmlns="http://www.garmin.com/xmlschemas/TrainingCenterDatabase/v2"><Activities>'
        f'<Activity Sport="{sport}"><Id>{f["time"][0]}</Id><Lap StartTime="{f["time"][0]}">'
        f"<TotalTimeSeconds>{seconds}.0</TotalTimeSeconds><DistanceMeters>{f['dist'][-1]}</DistanceMeters><Calories>0</Calories>"
        f"<AverageHeartRateBpm><Value>{round(known.mean())}</Value></AverageHeartRateBpm>"
        f"<MaximumHeartRateBpm><Value>{known.max()}</Value></MaximumHeartRateBpm>"
        "<Intensity>Active</Intensity><TriggerMethod>Manual</TriggerMethod><Track>\n"
        + "\n".join(points)
        + "\n</Track></Lap></Activity></Activities></TrainingCenterDatabase>\n"
    ).encode()


def to_gpx(t: Track, rng: np.random.Generator) -> bytes:
    """The track as GPX 1.1 with the heart-rate extension."""
    f = _frame(t)
    heart = pl.when(pl.col("hr") < 255).then(pl.format(
        "<extensions><gpxtpx:TrackPointExtension><gpxtpx:hr>{}</gpxtpx:hr></gpxtpx:TrackPointExtension></extensions>", "hr",
    )).otherwise(pl.lit(""))  # fmt: skip
    points = f.select(
        pl.format('<trkpt lat="{}" lon="{}"><ele>{}</ele><time>{}</time>{}</trkpt>', "lat", "lng", "alt", "time", heart)
    ).to_series()
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<gpx version="1.1" creator="simulation" xmlns="http://www.topografix.com/GPX/1/1" '
        'xmlns:gpxtpx="http://www.garmin.com/xmlschemas/TrackPointExtension/v1">'
        f"<metadata><time>{f['time'][0]}</time></metadata><trk><name>{t.sport}</name><type>{t.sport}</type><trkseg>\n"
        + "\n".join(points)
        + "\n</trkseg></trk></gpx>\n"
    ).encode()


def packed(data: bytes, name: str, how: str) -> tuple[str, bytes]:
    """File name and bytes after compression (``''``, ``gz`` or ``zip``), without any clock in them."""
    if how == "gz":
        return f"{name}.gz", gzip.compress(data, 6, mtime=0)
    if how == "zip":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as z:
            z.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), data)
        return f"{name}.zip", buffer.getvalue()
    return name, data


def files_per_day(city: City) -> np.ndarray:
    weight = np.array([0.25 if d == city.last_date else 0.6 if d.weekday() == 6 else 1.0 for d in city.days()])
    return spread(city.size.device_files, weight)


def training_between(city: City, count: int) -> list[DeviceFile]:
    """``count`` device files of sessions that ended between the last noon and this one, each by another athlete."""
    rng = stream(city.seed, "training later", city.number)
    since = city.now - 86_400
    files: list[DeviceFile] = []
    for athlete in rng.permutation(city.size.athletes):
        if len(files) == count:
            break
        day = city.yesterday if rng.random() < 0.6 else city.today
        track = _track(city, rng, int(athlete), day)
        if track is not None and int(track.at[-1]) + UTC_OFFSET >= since:
            files.append(_device_file(rng, track))
    return files


def training_day(city: City, index: int, count: int) -> list[DeviceFile]:
    """``count`` device files of one day (fewer on the last morning), each by another athlete."""
    day = city.first_date + timedelta(days=index)
    rng = stream(city.seed, "training", index)
    files: list[DeviceFile] = []
    waiting = list(rng.permutation(city.size.athletes))
    while waiting and len(files) < count:
        track = _track(city, rng, int(waiting.pop()), day)
        if track is None:
            continue
        files.append(_device_file(rng, track))
    return files


def _device_file(rng: np.random.Generator, track: Track) -> DeviceFile:
    """The file a device (and the phone it is paired with) makes of a session."""
    kind = "fit"
    if track.sport in ("running", "cycling"):
        kind = str(rng.choice(["fit", "tcx", "gpx"], p=[0.86, 0.08, 0.06]))
    data = {"fit": to_fit, "tcx": to_tcx, "gpx": to_gpx}[kind](track, rng)
    minute = track.start % 86_400 // 60
    stem = f"{to_date(track.start):%Y%m%d}{minute // 60:02d}{minute % 60:02d}_{track.sport}.{kind}"
    name, payload = packed(data, stem, str(rng.choice(["", "gz", "zip"], p=[0.8, 0.12, 0.08])))
    return DeviceFile(f"{track.athlete_no}/{name}", payload)
