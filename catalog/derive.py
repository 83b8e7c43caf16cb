"""Columns computed at ingestion from the row itself.

`birth_year` and `is_minor` are SQL over raw values in memory; `point_in_district` needs polygons and is computed by
`catalog.geo.point_in_district` on Arrow arrays.
"""

from __future__ import annotations

from catalog.contracts.model import PropertySpec
from catalog.rules import normalised, quote
from lake.errors import TiyuError

ADULT_YEARS = 18


def sql(prop: PropertySpec) -> str | None:
    """DuckDB expression of a derived column over ODS and raw columns; None when it is not an SQL derivation.

    birth_year: inputs (raw id number, document type). is_minor: additionally the instant at which age counts; under
    18 on that Shanghai calendar date. Both are NULL for other documents and for numbers without a real birth date.
    Raises TiyuError TIYU-CAT-0006 for a column that is not derived.
    """
    if prop.derive is None:
        raise TiyuError("TIYU-CAT-0006", "该列不是推算列", "检查契约中的 derive", 4, column=prop.name)
    if prop.derive.function == "point_in_district":
        return None
    number, kind = (quote(c) for c in prop.derive.inputs[:2])
    birth = (
        f"CASE WHEN {kind} = 'resident_id' AND length({normalised(number)}) = 18 "
        f"THEN CAST(try_strptime(substr({normalised(number)}, 7, 8), '%Y%m%d') AS DATE) END"
    )
    if prop.derive.function == "birth_year":
        return f"CAST(year({birth}) AS INTEGER)"
    at = quote(prop.derive.inputs[2])
    return f"(({birth}) + INTERVAL {ADULT_YEARS} YEAR > CAST(timezone('Asia/Shanghai', {at}) AS DATE))"
