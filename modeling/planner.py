"""Which dates of a model must be computed again.

Every commit of a model records the version of each input it was computed from (``tiyu.inputs``), the fingerprint of
its definition (``tiyu.definition``) and the business date (``tiyu.business_date``). The planner compares that record
with what is visible now, collects the dates the inputs touched in between, widens them by the model's declared reach
and merges them into ranges. A range becomes two literal DATEs in the SQL, the only form that prunes Delta files.

The promise is that an incremental build equals a full one; whatever the planner cannot know makes it say "full".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Literal

INPUTS = "tiyu.inputs"
DEFINITION = "tiyu.definition"
BUSINESS_DATE = "tiyu.business_date"
MAX_RANGES = 30  # more separate ranges than this cost more commits than the rows saved

Action = Literal["full", "windows", "none"]
Clock = Literal["none", "window", "full"]
Strategy = Literal["table", "replace_window", "merge"]
TouchedDates = Callable[[str, int | None, int], "set[date] | None"]


@dataclass(frozen=True, order=True)
class DateRange:
    """Both ends included."""

    start: date
    end: date

    def days(self) -> int:
        """How many dates the range covers."""
        return (self.end - self.start).days + 1


@dataclass(frozen=True)
class ModelSpec:
    """What the planner knows of a model.

    lookback_days / lookahead_days: a row of date *d* reads input rows of ``[d - lookback, d + lookahead]``.
    unbounded: a row may read any date, so any change means a full build.
    clock: ``window`` - rows of dates before the business date differ from rows after it; ``full`` - any row may
    depend on the business date.
    """

    name: str
    layer: str
    strategy: Strategy
    inputs: tuple[str, ...]
    definition: str
    column: str = "part_date"
    keys: tuple[str, ...] = ()
    partition_by: tuple[str, ...] = ()
    lookback_days: int = 0
    lookahead_days: int = 0
    unbounded: bool = False
    clock: Clock = "none"
    columns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Recorded:
    """What the newest commit of a model says it was built from."""

    inputs: Mapping[str, int | None]
    definition: str
    business_date: date | None

    def metadata(self) -> dict[str, str]:
        """The record as commit metadata."""
        return {
            INPUTS: json.dumps(dict(sorted(self.inputs.items()))),
            DEFINITION: self.definition,
            BUSINESS_DATE: self.business_date.isoformat() if self.business_date else "",
        }


@dataclass(frozen=True)
class Plan:
    """What to do with one model and why (``reason`` is for the log and the report)."""

    model: str
    action: Action
    reason: str
    ranges: tuple[DateRange, ...] = ()
    inputs: Mapping[str, int | None] = field(default_factory=dict)


def recorded_from(history: Iterable[Mapping[str, Any]]) -> Recorded | None:
    """The record in a table's history (newest first); maintenance commits carry none and are passed over."""
    for entry in history:
        if INPUTS in entry:
            business_date = entry.get(BUSINESS_DATE)
            return Recorded(
                inputs=json.loads(entry[INPUTS]),
                definition=entry.get(DEFINITION, ""),
                business_date=date.fromisoformat(business_date) if business_date else None,
            )
    return None


def merge_ranges(dates: Iterable[date], lookback_days: int = 0, lookahead_days: int = 0) -> tuple[DateRange, ...]:
    """Output ranges affected by touched input dates: an input of *t* is read by rows of ``[t - lookahead, t + lookback]``.

    Overlapping and adjacent ranges are merged; more than ``MAX_RANGES`` become one covering range.
    """
    merged: list[DateRange] = []
    for day in sorted(set(dates)):
        start, end = day - timedelta(days=lookahead_days), day + timedelta(days=lookback_days)
        if merged and start <= merged[-1].end + timedelta(days=1):
            merged[-1] = DateRange(merged[-1].start, max(end, merged[-1].end))
        else:
            merged.append(DateRange(start, end))
    if len(merged) > MAX_RANGES:
        return (DateRange(merged[0].start, merged[-1].end),)
    return tuple(merged)


def plan(
    spec: ModelSpec,
    recorded: Recorded | None,
    current: Mapping[str, int | None],
    business_date: date,
    touched_dates: TouchedDates,
    *,
    full_refresh: bool = False,
) -> Plan:
    """Decide what to build of one model.

    recorded: the record of its newest commit, None when it was never built. current: the version of every input that
    this build will read (None: nothing visible yet).
    """
    inputs = {name: current.get(name) for name in spec.inputs}

    def full(reason: str) -> Plan:
        return Plan(spec.name, "full", reason, inputs=inputs)

    if full_refresh:
        return full("requested")
    if recorded is None:
        return full("never built")
    if recorded.definition != spec.definition:
        return full("definition changed")
    if set(recorded.inputs) != set(inputs):
        return full("inputs changed")

    clock_moved = recorded.business_date != business_date
    if spec.clock == "full" and clock_moved:
        return full("business date changed")

    whole = spec.strategy == "table" or spec.unbounded
    touched: set[date] = set()
    changed: list[str] = []
    for name, version in inputs.items():
        before = recorded.inputs[name]
        if version == before:
            continue
        if version is None or before is None or version < before:
            return full(f"{name} is another table than before")
        dates = touched_dates(name, before, version)
        if dates is None:
            return full(f"{name} changed as a whole")
        if not dates:
            continue  # maintenance only: no row differs
        if whole:
            return full(f"{name} changed")
        touched |= dates
        changed.append(name)
    ranges = merge_ranges(touched, spec.lookback_days, spec.lookahead_days)

    if spec.clock == "window" and clock_moved:
        if recorded.business_date is None or whole:
            return full("business date changed")
        first, last = sorted((recorded.business_date, business_date))
        passed = {first + timedelta(days=n) for n in range((last - first).days)}
        ranges = merge_ranges(passed | {r.start + timedelta(days=n) for r in ranges for n in range(r.days())})
        changed.append("business date")

    if not ranges:
        return Plan(spec.name, "none", "nothing changed", inputs=inputs)
    return Plan(spec.name, "windows", "changed: " + ", ".join(changed), ranges, inputs)
