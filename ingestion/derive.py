"""Derived attributes: what a row says about a person or place, computed while the raw value is in memory only."""

from __future__ import annotations

from datetime import datetime

import duckdb
import polars as pl

from catalog import geo
from catalog.contracts import ObjectSpec, PropertySpec
from catalog.contracts.model import OF_LISTS
from lake import clock
from lake.errors import EXIT_INTERNAL, TiyuError
from lake.sql import quote_whole

#: Birth date inside an 18-character resident identity number (GB 11643): characters 7 to 14.
_BIRTH_DATE = "try_cast(try_strptime(case when length({id}) = 18 then substr({id}, 7, 8) end, '%Y%m%d') as DATE)"
_ADULT_YEARS = 18


def _birth_year(inputs: list[str]) -> str:
    return f"cast(year({_BIRTH_DATE.format(id=quote_whole(inputs[0]))}) as INTEGER)"


def _is_minor(inputs: list[str]) -> str:
    """Under 18 on the Shanghai date of the event, never on the date of loading (domain reference §4.9)."""
    birth = _BIRTH_DATE.format(id=quote_whole(inputs[0]))
    event = f"cast(timezone('Asia/Shanghai', {quote_whole(inputs[1])}) as DATE)"
    return f"{event} < cast({birth} + INTERVAL {_ADULT_YEARS} YEAR as DATE)"


_SQL = {"birth_year": _birth_year, "is_minor": _is_minor}


def add_derived(con: duckdb.DuckDBPyConnection, obj: ObjectSpec, relation: str, as_of: datetime | None = None) -> None:
    """Add the derived columns of a contract object to a temporary table in memory.

    ``as_of`` is the business instant at which the batch came in (default: now); ``delivered_on`` is its Shanghai date, so a batch
    that is processed again later keeps its date.

    ``point_in_district`` compares coordinates with the district outlines (1 km tolerance, display quality only, hence
    a warning and never a refusal).
    """
    for prop in obj.properties:
        if (
            prop.derive is None or prop.derive.function in OF_LISTS
        ):  # those came with the elements (`split.split_items`)
            continue
        name = quote_whole(prop.name)
        con.execute(f"alter table {relation} add column {name} {prop.type}")
        if prop.derive.function in _SQL:
            con.execute(f"update {relation} set {name} = {_SQL[prop.derive.function](prop.derive.inputs)}")
        elif prop.derive.function == "delivered_on":
            day = (as_of or clock.as_of()).astimezone(clock.SHANGHAI).date()
            con.execute(f"update {relation} set {name} = DATE '{day.isoformat()}'")
        elif prop.derive.function == "point_in_district":
            _point_in_district(con, prop, relation)
        else:
            raise TiyuError(
                "TIYU-ING-0004",
                "契约使用了未知的派生函数",
                "在 ingestion/derive.py 登记该函数",
                EXIT_INTERNAL,
                function=prop.derive.function,
            )


def _point_in_district(con: duckdb.DuckDBPyConnection, prop: PropertySpec, relation: str) -> None:
    assert prop.derive is not None
    names = ("lng", "lat", "district_code", "crs")
    columns = dict(zip(names, map(quote_whole, prop.derive.inputs), strict=True))
    selected = ", ".join(f"{column} as {name}" for name, column in columns.items())
    present = " and ".join(f"{columns[name]} is not null" for name in names[:3])
    points = con.execute(f"select distinct {selected} from {relation} where {present}").pl()
    inside = geo.point_in_district(*(points[name] for name in names))
    con.register("_points", points.with_columns(pl.Series("inside", inside, dtype=pl.Boolean)).to_arrow())
    same = " and ".join(f"{relation}.{column} is not distinct from p.{name}" for name, column in columns.items())
    con.execute(f"update {relation} set {quote_whole(prop.name)} = p.inside from _points p where {same}")
    con.unregister("_points")
