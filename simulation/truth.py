"""Ground truth of the KPIs, computed from the clean event log by code that shares nothing with the platform.

Definitions are those of the team's interface: see ``simulation/README.md``. The value of a ratio is in per cent, as its unit says.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from simulation.bookings import FREE_CANCEL_S, NEVER, BookingDay
from simulation.city import City
from simulation.events import Event
from simulation.ledger import RESOURCES
from simulation.squads import members_on
from simulation.times import midnight
from simulation.visits import VisitDay
from simulation.water import WaterDay, compliant

CITY_CODE = "310000"
ALL = ""
"""Variant code of a KPI without variants."""
COLUMNS = ("kpi_code", "variant_code", "period_type", "period_start_date", "period_end_date", "district_code", "numerator",
           "denominator", "value")  # fmt: skip
TIMELY_DAYS = 20


@dataclass(frozen=True)
class Row:
    kpi: str
    variant: str
    period: str
    start: date
    end: date
    district: str
    numerator: int
    denominator: int | None

    def texts(self) -> list[str]:
        value = self.numerator if self.denominator is None else 100.0 * self.numerator / self.denominator
        return [self.kpi, self.variant, self.period, self.start.isoformat(), self.end.isoformat(), self.district,
                str(self.numerator), "" if self.denominator is None else str(self.denominator), repr(value)]  # fmt: skip


class Truth:
    """Collects one day after the other and writes the truth files; memory does not grow with the days."""

    def __init__(self, city: City) -> None:
        self.city = city
        self.rows: list[Row] = []
        self.daily: list[tuple[str, str, int, int]] = []
        self.month: tuple[int, int] | None = None
        self.seen = np.zeros((16, city.size.people), bool)
        self.codes = np.array(city.codes)
        self.venue_capacity = city.capacity

    def _counted(self, day: date) -> bool:
        return self.city.first_date <= day <= self.city.yesterday

    def _ratio(self, kpi: str, day: date, part: np.ndarray, whole: np.ndarray, district: np.ndarray) -> None:
        """Rows of a daily ratio: each district with a denominator, then the city."""
        top = np.bincount(district, weights=part, minlength=16).astype(int)
        bottom = np.bincount(district, weights=whole, minlength=16).astype(int)
        for d in np.flatnonzero(bottom):
            self.rows.append(Row(kpi, ALL, "day", day, day, self.codes[d], int(top[d]), int(bottom[d])))
        if bottom.sum():
            self.rows.append(Row(kpi, ALL, "day", day, day, CITY_CODE, int(top.sum()), int(bottom.sum())))

    def bookings(self, b: BookingDay) -> None:
        """V-04 and V-05 of the slot day."""
        if not self._counted(b.day):
            return
        district = self.city.venue_district[np.array([u.venue for u in self.city.units])[b.unit]]
        in_time = (b.cancelled < NEVER) & (b.cancelled <= b.start - FREE_CANCEL_S)
        due = ~in_time
        came = b.checked_in < NEVER
        self._ratio("V-04", b.day, due & came, due, district)
        self._ratio("V-05", b.day, due & ~came, np.ones(len(due)), district)

    def water(self, w: WaterDay) -> None:
        """R-03 of the day."""
        if self._counted(w.day):
            district = self.city.venue_district[np.array([u.venue for u in self.city.units])[w.pool]]
            self._ratio("R-03", w.day, compliant(w.item, w.value), np.ones(len(w.item)), district)

    def visits(self, v: VisitDay) -> None:
        """V-06, V-07, the daily visits and the persons of F-01."""
        if not self._counted(v.day):
            return
        self._people(v)
        p, city = v.passages, self.city
        district = city.venue_district[p.venue]
        entries = np.bincount(district[p.is_in], minlength=16)
        passed = np.bincount(district, minlength=16)
        # People inside at the end of each five minutes, never below zero.
        flow = np.zeros((len(city.venues), 288), np.int64)
        np.add.at(flow, (p.venue, (p.passed - midnight(v.day)) // 300), np.where(p.is_in, 1, -1))
        peak = np.maximum(flow.cumsum(1).max(1), 0)
        load = np.where(np.bincount(p.venue, minlength=len(peak)) > 0, peak / self.venue_capacity, -1.0)
        for d in np.flatnonzero(passed):
            self._load_rows(v.day, self.codes[d], int(entries[d]), peak, np.where(city.venue_district == d, load, -1.0))
        if passed.sum():
            self._load_rows(v.day, CITY_CODE, int(entries.sum()), peak, load)

    def _load_rows(self, day: date, district: str, entries: int, peak: np.ndarray, load: np.ndarray) -> None:
        self.rows.append(Row("V-06", "entries", "day", day, day, district, entries, None))
        self.rows.append(Row("V-06", "peak", "day", day, day, district, int(peak[load >= 0].max()), None))
        top = int(np.argmax(load))  # the first of equals has the lowest venue_id
        self.rows.append(Row("V-07", ALL, "day", day, day, district, int(peak[top]), int(self.venue_capacity[top])))

    def _people(self, v: VisitDay) -> None:
        if self.month != (v.day.year, v.day.month):
            self._close_month(v.day - timedelta(days=1))
            self.month = (v.day.year, v.day.month)
        c, city = v.checkins, self.city
        here = city.venue_district[c.venue]
        self.seen[here, c.person] = True
        # A visit: one `in` (its check-in not counted again), or a check-in without one.
        p = v.passages
        linked = p.checkin[p.is_in & (p.checkin >= 0)]
        alone = np.ones(len(c.number), bool)
        alone[linked - 1] = False
        visits = np.bincount(city.venue_district[p.venue[p.is_in]], minlength=16) + np.bincount(
            here[alone], minlength=16
        )
        pairs = np.unique(here.astype(np.int64) * city.size.people + c.person)
        persons = np.bincount(pairs // city.size.people, minlength=16)
        for d in range(16):
            if visits[d]:
                self.daily.append((v.day.isoformat(), self.codes[d], int(visits[d]), int(persons[d])))
        self.daily.append((v.day.isoformat(), CITY_CODE, int(visits.sum()), len(np.unique(c.person))))

    def _close_month(self, end: date) -> None:
        if self.month is None:
            return
        start = date(self.month[0], self.month[1], 1)
        for d in range(16):
            if self.seen[d].any():
                self.rows.append(Row("F-01", ALL, "month", start, end, self.codes[d], int(self.seen[d].sum()), None))
        self.rows.append(Row("F-01", ALL, "month", start, end, CITY_CODE, int(self.seen.any(0).sum()), None))
        self.seen[:] = False

    def events(self, events: list[Event]) -> None:
        """E-01 (year to date) and E-03 (month)."""
        city, end = self.city, self.city.yesterday
        year = date(end.year, 1, 1)
        code = [city.codes[e.district] for e in events]
        held = [e.final_at is not None and not e.cancelled for e in events]
        length = [max(0, (min(e.end, end) - max(e.start, year)).days + 1) for e in events]
        for variant, use in (
            ("platform", [n if h else 0 for n, h in zip(length, held, strict=True)]),
            ("department", [n if h and e.organizer_type == "体育部门" else 0 for n, h, e in zip(length, held, events, strict=True)]),
            ("assessed", [int(h and n > 0 and e.is_assessed and e.level in ("国际", "全国")) for n, h, e in zip(length, held, events, strict=True)]),
        ):  # fmt: skip
            total: dict[str, int] = {}
            for c, n in zip(code, use, strict=True):
                total[c] = total.get(c, 0) + n
            for c in sorted(k for k, n in total.items() if n):
                self.rows.append(Row("E-01", variant, "year", year, end, c, total[c], None))
            self.rows.append(Row("E-01", variant, "year", year, end, CITY_CODE, sum(total.values()), None))
        timely: dict[tuple[date, str], list[int]] = {}
        for e, c in zip(events, code, strict=True):
            if e.cancelled or e.start > end:
                continue
            for key in (c, CITY_CODE):
                pair = timely.setdefault((e.start.replace(day=1), key), [0, 0])
                pair[0] += (e.start - e.filed).days >= TIMELY_DAYS
                pair[1] += 1
        for (month, key), (top, bottom) in sorted(timely.items()):
            last = (month.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
            self.rows.append(Row("E-03", ALL, "month", month, min(last, end), key, top, bottom))

    def write(self, folder: Path) -> None:
        """``kpi.csv`` (whole periods), ``kpi_partial.csv`` (months that began before the data), ``squads.csv`` (members on the
        last day) and ``daily_visits.csv``."""
        self._close_month(self.city.yesterday)
        last = self.city.last_date
        self.rows.append(Row("D-02", ALL, "day", last, last, CITY_CODE, len(RESOURCES), len(RESOURCES)))
        folder.mkdir(parents=True, exist_ok=True)
        rows = sorted(self.rows, key=lambda r: (r.kpi, r.variant, r.start, r.district))
        partial = [r for r in rows if r.period == "month" and r.start < self.city.first_date]
        whole = [r for r in rows if not (r.period == "month" and r.start < self.city.first_date)]
        for name, chosen in (("kpi", whole), ("kpi_partial", partial)):
            with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as f:
                out = csv.writer(f, lineterminator="\n")
                out.writerow(COLUMNS)
                out.writerows(r.texts() for r in chosen)
        with (folder / "squads.csv").open("w", encoding="utf-8", newline="") as f:
            out = csv.writer(f, lineterminator="\n")
            out.writerow(("squad_code", "members"))
            out.writerows(sorted(members_on(self.city, last).items()))
        with (folder / "daily_visits.csv").open("w", encoding="utf-8", newline="") as f:
            out = csv.writer(f, lineterminator="\n")
            out.writerow(("part_date", "district_code", "visits", "persons"))
            out.writerows(sorted(self.daily))
