"""Literals that a compiled model carries in place of values known only when it runs.

A compiled model is valid SQL over everything (which dbt's contract check and unit tests need); just before it runs,
the store puts the window, the business date and the input versions in their place. The placeholder dates lie in years
that no data has, so a plain scan is the widest window. ``dbt_project/macros/clock.sql`` writes them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta

from modeling.planner import DateRange

WINDOW_FROM_BASE = date(1000, 7, 1)
WINDOW_TO_BASE = date(9000, 7, 1)
BUSINESS_DATE_BASE = date(2999, 7, 1)

_DATE = re.compile(r"date '((?:1000|9000|2999)-\d\d-\d\d)'")
_AS_OF = "timestamptz '2999-07-01 00:00:00+00'"
_VERSIONS = re.compile(r"'@versions:([a-z0-9_,]+)@'")


def render(
    sql: str,
    *,
    window: DateRange | None,
    business_date: date,
    as_of: datetime,
    versions: Callable[[str], Mapping[str, int | None]],
) -> str:
    """Replace the placeholders of a compiled model. window None keeps the full scan.

    versions: the input versions, downstream to source, that stand behind one table.
    """

    def date_literal(match: re.Match[str]) -> str:
        value = date.fromisoformat(match.group(1))
        if value.year == BUSINESS_DATE_BASE.year:
            return f"date '{(business_date + (value - BUSINESS_DATE_BASE)).isoformat()}'"
        if window is None:
            return match.group(0)
        base, edge = (WINDOW_FROM_BASE, window.start) if value.year == 1000 else (WINDOW_TO_BASE, window.end)
        return f"date '{(edge + (value - base)).isoformat()}'"

    def versions_literal(match: re.Match[str]) -> str:
        merged: dict[str, int | None] = {}
        for table in match.group(1).split(","):
            merged.update(versions(table))
        return "'" + json.dumps(dict(sorted(merged.items()))) + "'"

    sql = _DATE.sub(date_literal, sql)
    sql = sql.replace(_AS_OF, f"timestamptz '{as_of.astimezone(UTC).strftime('%Y-%m-%d %H:%M:%S')}+00'")
    return _VERSIONS.sub(versions_literal, sql)


def shifted(base: date, days: int) -> date:
    """A placeholder ``days`` away from its base; both must lie in the same year to be recognised."""
    value = base + timedelta(days=days)
    if value.year != base.year:
        raise ValueError(f"offset of {days} days leaves the placeholder year")
    return value
