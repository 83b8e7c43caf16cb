"""District outlines, coordinate systems and the map of the cockpit."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import shapely

from catalog import geo, vocabularies
from lake.errors import TiyuError

PEOPLES_SQUARE = (121.4737, 31.2304)


def test_outlines_are_the_sixteen_districts():
    assert set(geo.districts()) == set(vocabularies.codes("district"))


def test_missing_outlines_are_an_error(monkeypatch):
    monkeypatch.setattr(geo.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TiyuError, match="TIYU-CAT-0007"):
        geo.districts.__wrapped__()


def test_point_in_its_district():
    lng, lat = PEOPLES_SQUARE
    codes = ["310101", "310151", "310101", "310199", None]
    result = geo.point_in_district([lng, lng, None, lng, lng], [lat] * 5, codes)
    assert result.to_pylist() == [True, False, None, None, None]
    assert geo.point_in_district([], [], []).to_pylist() == []


def test_tolerance_is_one_kilometre():
    """Points pushed east of a district's easternmost vertex by 0.9 km and 1.1 km."""
    outline = geo.districts()["310120"]
    vertices = shapely.get_coordinates(outline)
    lng, lat = vertices[vertices[:, 0].argmax()]
    degree = geo.METRES_PER_DEGREE * np.cos(np.radians(geo.REFERENCE_LAT))
    points = pl.DataFrame({"lng": [lng + 900 / degree, lng + 1100 / degree], "lat": [lat, lat], "code": ["310120"] * 2})
    assert geo.point_in_district(points["lng"], points["lat"], points["code"]).to_pylist() == [True, False]


def test_coordinate_vectors():
    lng, lat = geo.wgs84_to_gcj02(np.array([116.404]), np.array([39.915]))
    assert lng[0] == pytest.approx(116.41024449916938, abs=1e-12)
    assert lat[0] == pytest.approx(39.91640428150164, abs=1e-12)
    system = np.array(["GCJ-02", "CGCS2000", "BD-09"], dtype=object)
    x, y = geo.to_wgs84(
        np.array([116.41024449916938, 116.404, 116.41036949371029]),
        np.array([39.91640428150164, 39.915, 39.92133699351021]),
        system,
    )
    assert (x[0], y[0]) == (pytest.approx(116.404, abs=1e-9), pytest.approx(39.915, abs=1e-9))
    assert (x[1], y[1]) == (116.404, 39.915)
    gcj = geo.wgs84_to_gcj02(x[2:], y[2:])
    assert gcj[0][0] == pytest.approx(116.404, abs=1e-5)  # the BD-09 inverse is approximate by its nature
    assert gcj[1][0] == pytest.approx(39.915, abs=1e-5)
