"""How large a simulated city is, and the calendar it lives in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone

SHANGHAI = timezone(timedelta(hours=8))
LAST_DATE = date(2026, 11, 20)
"""The day a fresh city stands at (day 0). ``advance`` moves on from here."""
AS_OF_HOUR = 12
"""Hour of the last date (Asia/Shanghai) after which nothing has happened yet."""

CITY_VENUES = 1200
"""Venues of the ``city`` size; ``demo_scale`` of a smaller size is its venues divided by this."""

BOOKING_AHEAD_DAYS = 7
EVENT_AHEAD_DAYS = 60


@dataclass(frozen=True)
class Size:
    """Magnitudes of one simulated city. Counts are totals over all ``days`` unless said otherwise."""

    name: str
    venues: int
    pools: int
    days: int
    people: int
    checkins: int
    passages: int
    bookings: int
    events: int
    athletes: int
    device_files: int
    turnstile_share: float = 0.4

    @property
    def first_date(self) -> date:
        return LAST_DATE - timedelta(days=self.days - 1)

    @property
    def demo_scale(self) -> float:
        return round(self.venues / CITY_VENUES, 4)

    def shortened(self, days: int) -> Size:
        """The same city observed for fewer days: flows shrink with the days, stock (venues, people) does not."""
        if not 3 <= days <= self.days:
            raise ValueError(f"days must be between 3 and {self.days}")
        share = days / self.days
        return replace(
            self,
            days=days,
            checkins=int(self.checkins * share),
            passages=int(self.passages * share),
            bookings=int(self.bookings * share),
            events=max(40, int(self.events * share)),
            device_files=max(40, int(self.device_files * share)),
        )


SIZES = {
    "tiny": Size("tiny", 20, 8, 10, 1_500, 5_000, 6_000, 2_000, 40, 20, 40),
    "small": Size("small", 60, 25, 90, 30_000, 200_000, 220_000, 60_000, 300, 200, 1_200),
    "city": Size("city", CITY_VENUES, 883, 90, 600_000, 4_000_000, 4_400_000, 1_200_000, 7_700, 4_000, 24_000),
}


def as_of(day: date = LAST_DATE) -> datetime:
    """The instant the simulated present stands at when it has reached ``day``."""
    return datetime(day.year, day.month, day.day, AS_OF_HOUR, tzinfo=SHANGHAI)
