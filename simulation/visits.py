"""One business day of visits: one-code check-ins and turnstile passages, before any dirt."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date, timedelta
from typing import Any

import numpy as np

from simulation.city import City
from simulation.sizes import LAST_DATE
from simulation.times import AFTERNOON, MORNING, midnight, noon, stream

LINKED_SHARE = 0.6
"""Share of turnstile entries that a one-code check-in opened."""

PURPOSES = np.array(["entry", "rental", "activity"])
CHANNELS = np.array(["ywtb", "laihudong", "venue_app", "onsite"])
METHODS = np.array(["code", "card", "staff", "face"])


@dataclass(frozen=True)
class Checkins:
    """Columns of the day's check-ins; ``number`` makes the id, ``unit`` is -1 when unknown."""

    number: np.ndarray
    venue: np.ndarray
    unit: np.ndarray
    person: np.ndarray
    scanned: np.ndarray
    updated: np.ndarray
    purpose: np.ndarray
    channel: np.ndarray


@dataclass(frozen=True)
class Passages:
    """Columns of the day's turnstile passages; ``checkin`` is the number of the check-in that opened it or -1."""

    venue: np.ndarray
    gate: np.ndarray
    seq: np.ndarray
    unit: np.ndarray
    is_in: np.ndarray
    method: np.ndarray
    passed: np.ndarray
    checkin: np.ndarray


@dataclass(frozen=True)
class VisitDay:
    day: date
    checkins: Checkins
    passages: Passages


def _pick(rng: np.random.Generator, weight: np.ndarray, count: int) -> np.ndarray:
    cdf = np.cumsum(weight)
    return np.searchsorted(cdf, rng.random(count) * cdf[-1], side="right").clip(0, len(weight) - 1)


def _visitors(city: City, rng: np.random.Generator, venue: np.ndarray, earlier: Checkins | None) -> np.ndarray:
    """One person per check-in; nobody checks in twice at one venue on one day, so a scan is a stay.

    ``earlier``: check-ins of the same day that count as well.
    """
    district = city.venue_district[venue]
    person = city.people.choose(rng, district)
    taken = np.zeros(0, np.int64) if earlier is None else _stays(city, earlier.venue, earlier.person)
    for attempt in range(60):
        stays = _stays(city, venue, person)
        _, first = np.unique(stays, return_index=True)
        again = np.ones(len(person), bool)
        again[first] = False
        again |= np.isin(stays, taken)
        if not again.any():
            return person
        # The keen few would be drawn over and over: later attempts take anyone.
        person[again] = (
            city.people.choose(rng, district[again])
            if attempt < 6
            else rng.integers(0, city.size.people, int(again.sum()))
        )
    raise ValueError("more check-ins at one venue than there are persons")


def _stays(city: City, venue: np.ndarray, person: np.ndarray) -> np.ndarray:
    """One number per venue and person."""
    return venue.astype(np.int64) * city.size.people + person


def crowded(city: City) -> tuple[int, int]:
    """The two turnstile venues of the load incident (one above 90 %, one above 100 % of capacity on yesterday)."""
    gated = [int(v) for v in np.flatnonzero(city.turnstile) if city.capacity[v] >= 60]
    gated.sort(key=lambda v: (city.capacity[v], v))
    return gated[0], gated[1]


def _plateau(city: City, day: date, arrive: np.ndarray, leave: np.ndarray, venue: np.ndarray) -> tuple[np.ndarray, ...]:
    """Extra arrivals that lift two venues to about 95 % and 106 % of capacity between 18:50 and 19:20."""
    base = midnight(day)
    rng = stream(city.seed, "crowd")
    extra_in, extra_out, extra_venue = [], [], []
    for target, share in zip(crowded(city), (0.95, 1.06), strict=True):
        mine = venue == target
        ends = base + np.arange(18 * 3600 + 50 * 60, 19 * 3600 + 20 * 60 + 1, 300)
        inside = ((arrive[mine] < ends[:, None]) & (leave[mine] >= ends[:, None])).sum(1).max()
        capacity = int(city.capacity[target])
        count = (int(capacity * share) + (1 if share > 1 else 0)) - int(inside)
        extra_in.append(base + 18 * 3600 + 10 * 60 + rng.integers(0, 38 * 60, count))
        extra_out.append(base + 19 * 3600 + 25 * 60 + rng.integers(0, 50 * 60, count))
        extra_venue.append(np.full(count, target))
    return np.concatenate(extra_in), np.concatenate(extra_out), np.concatenate(extra_venue)


def visit_day(city: City, index: int) -> VisitDay:
    """All check-ins and passages of the ``index``-th business day as far as they have happened; needs no other day."""
    day = city.first_date + timedelta(days=index)
    if day < LAST_DATE:
        return _visits(city, index, "")
    morning = visit_half(city, index, MORNING)
    return morning if day == city.last_date else join(morning, visit_half(city, index, AFTERNOON))


def visit_half(city: City, index: int, half: str) -> VisitDay:
    """Who arrived in one half of a day from ``LAST_DATE`` on. Who came in the morning may leave after noon.

    A half never changes when the present moves on; it only gets longer at its end.
    """
    return _visits(city, index, half, None if half == MORNING else _visits(city, index, MORNING).checkins)


def join(first: VisitDay, second: VisitDay) -> VisitDay:
    """The two halves of a day as one."""

    def both(a: Any, b: Any) -> dict[str, np.ndarray]:
        return {f.name: np.concatenate([getattr(a, f.name), getattr(b, f.name)]) for f in fields(a)}

    return VisitDay(
        first.day,
        Checkins(**both(first.checkins, second.checkins)),
        Passages(**both(first.passages, second.passages)),
    )


def known_between(v: VisitDay, since: int, until: int) -> VisitDay:
    """What became known after one instant and up to another."""

    def some(a: Any, chosen: np.ndarray) -> dict[str, np.ndarray]:
        return {f.name: getattr(a, f.name)[chosen] for f in fields(a)}

    c, p = v.checkins, v.passages
    return VisitDay(
        v.day,
        Checkins(**some(c, (c.updated > since) & (c.updated <= until))),
        Passages(**some(p, (p.passed >= since) & (p.passed < until))),
    )


def _visits(city: City, index: int, half: str, earlier: Checkins | None = None) -> VisitDay:
    day = city.first_date + timedelta(days=index)
    # A later afternoon is drawn on its own, so that its morning stays what it was.
    rng = stream(city.seed, "visits later" if half == AFTERNOON else "visits", index)
    base = midnight(day)
    weight = np.where(city.active(day), city.visit_weight, 0.0)
    close = np.array([v.close_s for v in city.venues])

    n_in = city.amount(city.ins_of_day, index, half)
    venue = _pick(rng, np.where(city.turnstile, weight, 0.0), n_in)
    arrive = base + city.arrival(rng, venue, day, half)
    stay = np.clip(rng.lognormal(np.log(75 * 60), 0.35, n_in), 20 * 60, 180 * 60).astype(np.int64)
    leave = np.minimum(arrive + stay, base + close[venue] - rng.integers(60, 900, n_in))
    if day == LAST_DATE - timedelta(days=1):
        more_in, more_out, more_venue = _plateau(city, day, arrive, leave, venue)
        arrive, leave = np.concatenate([arrive, more_in]), np.concatenate([leave, more_out])
        venue, n_in = np.concatenate([venue, more_venue]), n_in + len(more_in)
    linked = rng.random(n_in) < LINKED_SHARE

    # Units: swimmers pass a gate at the pool in half of the pool venues; other gates stand at the main door.
    first_pool = np.full(len(city.venues), -1)
    units_of = np.zeros((len(city.venues), 2), np.int64)
    of_venue = np.array([u.venue for u in city.units])
    units_of[:, 0] = np.searchsorted(of_venue, np.arange(len(city.venues)), side="left")
    units_of[:, 1] = np.searchsorted(of_venue, np.arange(len(city.venues)), side="right")
    for i in reversed([i for i, u in enumerate(city.units) if u.unit_type == "泳池"]):
        first_pool[city.units[i].venue] = i
    at_pool = (first_pool[venue] >= 0) & (venue % 2 == 0)
    gate = np.where(at_pool, 3, rng.integers(1, 3, n_in))
    unit = np.where(at_pool, first_pool[venue], -1)

    # Check-ins: those that opened a turnstile, then those at a desk or a venue without one.
    n_check = city.amount(city.checkins_of_day, index, half)
    link_at = np.flatnonzero(linked)[:n_check]
    linked = np.zeros(n_in, bool)
    linked[link_at] = True
    n_free = n_check - len(link_at)
    free_venue = _pick(rng, weight * np.where(city.turnstile, 0.12, 1.0), n_free)
    free_at = base + city.arrival(rng, free_venue, day, half)
    gated_free = city.turnstile[free_venue]
    purpose = np.where(gated_free, rng.choice(3, n_free, p=[0, 0.6, 0.4]), rng.choice(3, n_free, p=[0.76, 0.14, 0.1]))
    span = units_of[free_venue]
    free_unit = span[:, 0] + (rng.random(n_free) * (span[:, 1] - span[:, 0])).astype(np.int64)
    free_unit = np.where(rng.random(n_free) < 0.55, free_unit, -1)

    c_venue = np.concatenate([venue[link_at], free_venue])
    c_unit = np.concatenate([unit[link_at], free_unit])
    scanned = np.concatenate([arrive[link_at] - rng.integers(3, 40, len(link_at)), free_at])
    c_purpose = np.concatenate([np.zeros(len(link_at), np.int64), purpose])
    person = _visitors(city, rng, c_venue, earlier)
    late = (rng.random(n_check) < 0.02) & (half != MORNING)
    # A hand scanner that was offline uploads its scans the next morning.
    updated = scanned + rng.integers(1, 90, n_check)
    updated = np.where(late, base + 86_400 + rng.integers(1_800, 9 * 3600, n_check), updated)
    if half == MORNING:
        updated = np.minimum(updated, noon(day))
    elif half == AFTERNOON:
        updated = np.maximum(updated, noon(day) + 1)
    before = 0 if earlier is None else len(earlier.number)
    checkins = Checkins(
        number=before + np.arange(1, n_check + 1), venue=c_venue, unit=c_unit, person=person, scanned=scanned,
        updated=updated,
        purpose=c_purpose, channel=rng.choice(4, n_check, p=[0.34, 0.36, 0.22, 0.08]),
    )  # fmt: skip

    method = np.where(linked, 0, rng.choice([1, 2, 3], n_in, p=[0.62, 0.2, 0.18]))
    number = np.full(n_in, -1)
    number[link_at] = before + np.arange(1, len(link_at) + 1)
    p = {
        "venue": np.concatenate([venue, venue]),
        "gate": np.concatenate([gate, gate]),
        "unit": np.concatenate([unit, unit]),
        "is_in": np.concatenate([np.ones(n_in, bool), np.zeros(n_in, bool)]),
        "method": np.concatenate([method, method]),
        "passed": np.concatenate([arrive, leave]),
        "checkin": np.concatenate([number, np.full(n_in, -1)]),
    }
    keep = p["passed"] < city.now
    order = np.flatnonzero(keep)[np.lexsort((~p["is_in"][keep], p["venue"][keep], p["passed"][keep]))]
    p = {k: v[order] for k, v in p.items()}
    # Device counters carry the date, so a day needs to know nothing about the days before it.
    device = p["venue"] * 10 + p["gate"]
    by_device = np.argsort(device, kind="stable")
    starts = np.concatenate([[0], np.flatnonzero(np.diff(device[by_device])) + 1]) if len(device) else np.zeros(0, int)
    rank = np.empty(len(device), np.int64)
    rank[by_device] = np.arange(len(device)) - np.repeat(starts, np.diff(np.concatenate([starts, [len(device)]])))
    seq = int(day.strftime("%y%m%d")) * 100_000 + (50_000 if half == AFTERNOON else 0) + rank + 1
    return VisitDay(day, checkins, Passages(seq=seq, **p))
