"""Places: venues lie in their district, except those that are wrong on purpose."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from simulation import geo
from tests.unit.simulation import sent


def test_venues_lie_in_their_district_except_the_wrong_ones(tiny: Path) -> None:
    shapes = geo.districts()
    outside, seen = set(), set()
    for u in sent.venues(tiny).values():
        if u["坐标系"] in ("CGCS2000", "WGS-84"):
            seen.add(u["场馆编码"])
            if not geo.inside(shapes[u["行政区划代码"]][1], np.array([[float(u["经度"]), float(u["纬度"])]]))[0]:
                outside.add(u["场馆编码"])
    wrong = set(
        json.loads((tiny / "truth/dirt.json").read_text("utf-8"))["venue.register"]["notes"]["wrong_location_venues"]
    )
    assert len(seen) >= 15
    assert outside == wrong & seen
    assert len(wrong) == 2


def test_point_tests_against_known_answers() -> None:
    square = [[np.array([[121.0, 31.0], [121.1, 31.0], [121.1, 31.1], [121.0, 31.1], [121.0, 31.0]])]]
    points = np.array([[121.05, 31.05], [121.2, 31.05]])
    assert geo.inside(square, points).tolist() == [True, False]
    assert geo.distance_m(square, points[1:])[0] == pytest.approx(0.1 * 111_320 * np.cos(np.radians(31.2)), rel=0.01)


def test_map_offsets_against_published_vectors() -> None:
    assert geo.to_gcj02(116.404, 39.915) == pytest.approx((116.41024449916938, 39.91640428150164), abs=1e-9)
    gcj = geo.to_gcj02(116.404, 39.915)
    assert geo.to_bd09(116.404, 39.915)[0] > gcj[0]
