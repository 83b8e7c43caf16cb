"""What a record-keeping source is: its columns, its form, its rhythm, its rows before any dirt, and its slips."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import numpy as np

from simulation.city import City
from simulation.sizes import LAST_DATE

Row = dict[str, Any]
"""One record, by the source's own column names. None is an empty field."""

HISTORY_DAYS = 13
"""How many days before the city was generated these systems were connected; what they knew then comes first."""


@dataclass(frozen=True)
class Form:
    """How a delivery is written. kind: csv, ndjson, xlsx, xml, parquet or api; stem: first part of the file's name, and in XML
    what a record is called. inside: member of a JSON record → the columns that stand in it."""

    kind: str
    stem: str
    encoding: str = "utf-8"
    title: str = ""
    sheet: str = ""
    api: str = ""
    api_id: str = ""
    api_time: str = ""
    inside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def extension(self) -> str:
        return self.kind


@dataclass(frozen=True)
class Feed:
    """One source. Rows are asked for by delivery day; everything is drawn from the seed and the day alone.

    rows: (city, day, since) → what became known after noon of ``since`` (None: everything that is handed over first) and by
    noon of ``day``. key: column that a slip gets a value of its own in. slips: kind → the fields that are wrong.
    """

    resource: str
    columns: tuple[str, ...]
    form: Form
    due: Callable[[City, date], bool]
    rows: Callable[[City, date, date | None], list[Row]]
    key: str
    slips: Mapping[str, Row] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Folder of the drop that its files are laid into."""
        return self.resource.replace(".", "/")

    def starts(self, city: City) -> date:
        """The day of the first delivery."""
        return max(city.first_date, LAST_DATE - timedelta(days=HISTORY_DAYS))

    def delivers(self, city: City, day: date) -> bool:
        """Whether something is delivered on a day: always on the first one."""
        start = self.starts(city)
        return day == start or (day > start and self.due(city, day))

    def before(self, city: City, day: date) -> date | None:
        """The delivery before that of ``day``; None for the first."""
        start = self.starts(city)
        while day > start:
            day -= timedelta(days=1)
            if self.delivers(city, day):
                return day
        return None


def bounded(rng: np.random.Generator, mean: float, spread: float, low: float, high: float) -> float:
    """A value around a mean that stays within what the source's own rules allow."""
    return float(min(high, max(low, rng.normal(mean, spread))))


# ------------------------------------------------------------------ rhythms
def daily(city: City, day: date) -> bool:
    """Every day."""
    del city, day
    return True


def weekly(city: City, day: date) -> bool:
    """Every seventh day, with the register's snapshots."""
    return (day - city.first_date).days % 7 == 0


def monthly(on: int) -> Callable[[City, date], bool]:
    """On one day of each month."""
    return lambda city, day: day.day == on


def yearly(month: int, on: int) -> Callable[[City, date], bool]:
    """On one day of the year."""
    return lambda city, day: (day.month, day.day) == (month, on)


def days_between(since: date | None, day: date, first: date) -> list[date]:
    """Calendar days that a delivery of daily records holds: those that ended after the last delivery, before ``day``."""
    start = first if since is None else since
    return [start + timedelta(days=n) for n in range((day - start).days)]


def month_before(day: date) -> tuple[date, date]:
    """First and last day of the last whole month before ``day``."""
    last = day.replace(day=1) - timedelta(days=1)
    return last.replace(day=1), last
