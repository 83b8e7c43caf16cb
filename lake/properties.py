"""Properties of the lake itself, stored in the lake so that they travel with the data.

One small Delta table, ``ops_ingest__lake_property`` (name, value). ``is_demo`` and ``demo_scale`` are set once, when
a lake is filled from the simulated city; every surface asks :func:`demo_banner`.
"""

from __future__ import annotations

import polars as pl

from lake import tables

TABLE = "ops_ingest__lake_property"
DEMO_BANNER = "演示数据，非真实统计"


def _all() -> dict[str, str]:
    if not tables.exists(TABLE):
        return {}
    frame = pl.scan_delta(tables.path(TABLE)).collect()
    return dict(zip(frame["name"], frame["value"], strict=True))


def get(name: str, default: str | None = None) -> str | None:
    """The value of a property, or ``default``."""
    return _all().get(name, default)


def set(name: str, value: str) -> None:
    """Store a property; nothing is written when it already has that value."""
    current = _all()
    if current.get(name) == value:
        return
    current[name] = value
    names = sorted(current)
    tables.replace_table(TABLE, pl.DataFrame({"name": names, "value": [current[key] for key in names]}))


def is_demo() -> bool:
    """Whether the lake holds simulated data."""
    return get("is_demo") == "true"


def demo_banner() -> str:
    """The text every surface must carry in a demo, or an empty string."""
    return DEMO_BANNER if is_demo() else ""
