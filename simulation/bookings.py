"""Bookings of one slot day with their whole history: created, amended, cancelled, checked in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np

from simulation.city import COURT, City
from simulation.sizes import BOOKING_AHEAD_DAYS, LAST_DATE
from simulation.times import midnight, noon, spread, stream

STATUS = np.array(["booked", "checked_in", "cancelled"])
FREE_CANCEL_S = 2 * 3600
NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class BookingDay:
    """One row a booking (its final state at the as-of instant) and one row an update as the API will send it."""

    day: date
    number: np.ndarray
    unit: np.ndarray
    person: np.ndarray
    channel: np.ndarray
    start: np.ndarray
    end: np.ndarray
    created: np.ndarray
    amount: np.ndarray
    cancelled: np.ndarray
    checked_in: np.ndarray
    update_row: np.ndarray
    """Row of the booking that the update belongs to."""
    update_status: np.ndarray
    update_at: np.ndarray
    update_amount: np.ndarray
    late_updates: int


def slot_days(city: City) -> list[date]:
    """Days that slots are booked for: the period itself and a week ahead."""
    return [city.first_date + timedelta(days=i) for i in range(city.size.days + city.number + BOOKING_AHEAD_DAYS)]


def booking_counts(city: City) -> np.ndarray:
    """Bookings drawn per slot day; weekends are busier. Days that the generated city did not reach are like the others."""
    days = slot_days(city)
    first = city.size.days + BOOKING_AHEAD_DAYS
    shape = np.array([0.85, 0.85, 0.9, 0.9, 1.05, 1.5, 1.45])
    weight = np.array([shape[d.weekday()] for d in days])
    noise = stream(city.seed, "booking weights").normal(1, 0.05, first).clip(0.8, 1.2)
    drawn = spread(city.size.bookings, weight[:first] * noise)
    later = [
        round(
            city.size.bookings * weight[i] / weight[:first].sum() * stream(city.seed, "later slots", i).normal(1, 0.05)
        )
        for i in range(first, len(days))
    ]
    return np.concatenate([drawn, np.array(later, np.int64)])


def booking_day(city: City, index: int, count: int) -> BookingDay:
    """Up to ``count`` bookings of slot day ``index``: never two at once for one court; nothing later than as-of."""
    day = city.first_date + timedelta(days=index)
    rng = stream(city.seed, "bookings", index)
    base, now = midnight(day), city.now
    active = city.active(day)
    bookable = np.array([i for i, u in enumerate(city.units) if u.sport in COURT and active[u.venue]])
    venue = np.array([u.venue for u in city.units])[bookable]
    hours = np.arange(6, 22)
    opened = np.array([v.open_s for v in city.venues])[venue][:, None] <= hours * 3600
    opened &= (hours + 1) * 3600 <= np.array([v.close_s for v in city.venues])[venue][:, None]
    taste = np.exp(-(((hours - 19.0) / 1.8) ** 2) / 2) + 0.15
    if day.weekday() >= 5:
        taste = np.exp(-(((hours - 15.0) / 4.0) ** 2) / 2) + 0.2
    weight = np.where(opened, taste * city.visit_weight[venue][:, None] ** 0.3, 0.0).ravel()
    count = min(count, int((weight > 0).sum() * 0.8))
    # The smallest of exponential races are a weighted choice without replacement: a court is booked once an hour.
    race = np.where(weight > 0, rng.exponential(1.0, len(weight)) / np.maximum(weight, 1e-12), np.inf)
    chosen = np.sort(np.argpartition(race, count - 1)[:count])
    unit, hour = bookable[chosen // len(hours)], hours[chosen % len(hours)]

    start = base + hour * 3600
    channel = rng.choice(4, count, p=[0.34, 0.33, 0.24, 0.09])
    lead = np.clip(rng.exponential(40 * 3600, count) + 20 * 60, 20 * 60, BOOKING_AHEAD_DAYS * 86_400).astype(np.int64)
    lead = np.where(channel == 3, rng.integers(60, 900, count), lead)
    created = start - lead
    fate = rng.random(count)
    fate = np.where(channel == 3, 1.0, fate)  # who books at the desk is there
    cancels = fate < 0.13
    absent = (fate >= 0.13) & (fate < 0.21)
    before = (rng.random(count) * lead * 0.95).astype(np.int64)
    # A handful cancel exactly at the free limit, one second inside and one second outside it.
    edge = rng.integers(0, 60, count)
    before = np.where(edge < 3, FREE_CANCEL_S + edge - 1, before)
    cancelled = np.where(cancels, np.maximum(start - before, created + 30), NEVER)
    cancelled = np.minimum(cancelled, np.where(cancels, start - 1, NEVER))
    checked = np.where(~cancels & ~absent, np.maximum(start + rng.integers(-900, 1200, count), created + 20), NEVER)
    # On the day the generated city ends with, mornings are told at once: so it was when it was generated.
    late = (
        (checked < NEVER)
        & (rng.random(count) < 0.03)
        & ((day < LAST_DATE) | (start >= noon(max(day, LAST_DATE)) + 3_600))
    )
    told_checked = np.where(
        late, base + 86_400 + rng.integers(3_600, 9 * 3600, count), checked + rng.integers(1, 30, count)
    )
    told_created = created + rng.integers(1, 6, count)
    told_cancelled = np.where(cancels, cancelled + rng.integers(0, 20, count), NEVER)
    told_late, cancelled, checked = _told_days_later(city, day, absent, start, created, cancelled, checked)
    cancels = cancels | (told_late & (cancelled < NEVER))
    told_checked = np.where(told_late & (checked < NEVER), _days_later(city, day, count), told_checked)
    told_cancelled = np.where(told_late & (cancelled < NEVER), _days_later(city, day, count), told_cancelled)
    amount = np.round(rng.choice([20, 30, 40, 50, 60, 80, 100, 120, 150], count) * 1.0, 2)
    amended = (rng.random(count) < 0.015) & ~(cancels & ~told_late) & (lead > 7_200)
    told_amended = created + lead // 2

    # Future events have not happened yet. A late message about the past arrives before as-of by construction.
    exists = told_created <= now
    has_cancel = exists & cancels & (told_cancelled <= now)
    has_check = exists & (checked < NEVER) & (np.where(checked < NEVER, told_checked, 0) <= now)
    has_amend = exists & amended & (told_amended <= now)
    keep = np.flatnonzero(exists)
    # A number once given stays: what was known when the city was generated first, then in the order of booking.
    told = told_created[keep]
    keep = keep[np.argsort(np.where(told <= noon(LAST_DATE), 0, told), kind="stable")]
    place = np.full(count, -1)
    place[keep] = np.arange(len(keep))

    rows, status, at, money = [], [], [], []
    new_amount = amount + 10.0
    for mask, code, told, value in (
        (exists, 0, told_created, amount),
        (has_amend, 0, told_amended, new_amount),
        (has_check, 1, told_checked, np.where(has_amend, new_amount, amount)),
        (has_cancel, 2, told_cancelled, amount),
    ):
        rows.append(place[mask])
        status.append(np.full(int(mask.sum()), code))
        at.append(told[mask])
        money.append(value[mask])
    return BookingDay(
        day=day, number=np.arange(1, len(keep) + 1), unit=unit[keep],
        person=city.people.choose(rng, city.venue_district[np.array([u.venue for u in city.units])[unit]])[keep],
        channel=channel[keep], start=start[keep], end=start[keep] + 3600, created=created[keep], amount=amount[keep],
        cancelled=np.where(has_cancel, cancelled, NEVER)[keep], checked_in=np.where(has_check, checked, NEVER)[keep],
        update_row=np.concatenate(rows), update_status=np.concatenate(status), update_at=np.concatenate(at),
        update_amount=np.concatenate(money), late_updates=int(((late | told_late) & (has_check | has_cancel)).sum()),
    )  # fmt: skip


TOLD_LATE_FROM = LAST_DATE - timedelta(days=1)
"""First slot day of which a venue's system reports changes two days later."""


def _days_later(city: City, day: date, count: int) -> np.ndarray:
    """Instants in the morning two days after the slot day."""
    rng = stream(city.seed, "told days later", day.toordinal())
    return midnight(day) + 2 * 86_400 + rng.integers(8 * 3_600, 11 * 3_600, count)


def _told_days_later(
    city: City,
    day: date,
    absent: np.ndarray,
    start: np.ndarray,
    created: np.ndarray,
    cancelled: np.ndarray,
    checked: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A third of the no-shows are none: a venue reports two days later who came, and who had cancelled in time.

    Returns which bookings that is, and the instants of cancelling and checking in with them.
    """
    if day < TOLD_LATE_FROM:
        return np.zeros(len(absent), bool), cancelled, checked
    rng = stream(city.seed, "late changes", day.toordinal())
    late = absent & (rng.random(len(absent)) < 0.35)
    gone = late & (rng.random(len(absent)) < 0.5)
    cancelled = np.where(gone, np.maximum(start - FREE_CANCEL_S - 600, created + 30), cancelled)
    checked = np.where(late & ~gone, np.maximum(start + 300, created + 20), checked)
    return late, cancelled, checked


def told_between(b: BookingDay, since: int, until: int) -> BookingDay:
    """The same bookings with the updates that were told after one instant and up to another."""
    chosen = (b.update_at > since) & (b.update_at <= until)
    return replace(
        b,
        update_row=b.update_row[chosen], update_status=b.update_status[chosen], update_at=b.update_at[chosen],
        update_amount=b.update_amount[chosen], late_updates=int((b.update_at[chosen] > midnight(b.day) + 86_400).sum()),
    )  # fmt: skip
