"""Device files: the encoder's FIT is read by two independent decoders, and damage is seen by both."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections import Counter
from pathlib import Path

import fitdecode
import fitfast
import gpxpy
import pytest
from lxml import etree

from simulation.fit import crc16


def contents(tiny: Path) -> list[tuple[str, bytes]]:
    found = []
    for path in sorted((tiny / "drops/training/activity").rglob("*")):
        if path.suffix == ".gz":
            found.append((path.stem, gzip.decompress(path.read_bytes())))
        elif path.suffix == ".zip":
            with zipfile.ZipFile(path) as z:
                found += [(n, z.read(n)) for n in z.namelist()]
        elif path.is_file():
            found.append((path.name, path.read_bytes()))
    return found


def slowly(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    return crc


@pytest.mark.parametrize("size", [1, 2, 127, 128, 129, 1_000])
def test_crc_equals_the_bitwise_one(size: int) -> None:
    data = bytes(i * 37 % 251 for i in range(size))
    assert crc16(data) == slowly(data)


def test_both_decoders_read_every_whole_file_and_refuse_the_damaged_one(tiny: Path) -> None:
    whole = damaged = 0
    for name, data in contents(tiny):
        if not name.endswith(".fit"):
            continue
        try:
            fast = fitfast.message_counts(data)
        except fitfast.FitDecodeError:
            damaged += 1
            with pytest.raises(fitdecode.FitError):
                list(fitdecode.FitReader(io.BytesIO(data), check_crc=fitdecode.CrcCheck.RAISE))
            continue
        whole += 1
        with fitdecode.FitReader(io.BytesIO(data), check_crc=fitdecode.CrcCheck.RAISE) as reader:
            slow = Counter(m.name for m in reader if isinstance(m, fitdecode.FitDataMessage))
        assert dict(slow) == {k: n for k, n in fast.items() if n}
        assert {"file_id", "user_profile", "record", "lap", "session", "activity"} <= slow.keys()
    assert whole >= 25
    assert damaged == 1


def test_values_survive(tiny: Path) -> None:
    data = next(d for n, d in contents(tiny) if n.endswith("running.fit"))
    records, session = fitfast.records(data), fitfast.parse(data)["session"][0]
    profile = fitfast.parse(data)["user_profile"][0]
    assert session["sport"] == "running"
    assert abs(records["distance"].max() - session["total_distance"]) < 0.02
    assert 30 < profile["resting_heart_rate"] < profile["default_max_heart_rate"] < 210
    assert 120.8 < records["position_long"].min() < records["position_long"].max() < 122.3
    assert session["max_heart_rate"] == max(h for h in records["heart_rate"] if h == h)


def test_tcx_and_gpx_are_readable(tmp_path: Path) -> None:
    from simulation.city import build_city
    from simulation.sizes import SIZES
    from simulation.times import stream
    from simulation.training import _track, to_gpx, to_tcx

    city = build_city(SIZES["tiny"], 7)
    rng = stream(7, "test")
    track = next(t for i in range(20) if (t := _track(city, rng, i, city.first_date)) and t.sport == "running")
    points = [p for s in gpxpy.parse(to_gpx(track, rng).decode()).tracks[0].segments for p in s.points]
    tree = etree.fromstring(to_tcx(track, rng))
    names = {"t": "http://www.garmin.com/xmlschemas/TrainingCenterDatabase/v2"}
    assert len(points) == len(tree.findall(".//t:Trackpoint", names)) == len(track.at) > 100
    assert points[0].time.timestamp() == track.at[0]
