"""Two-hourly water readings of one day, with the incidents of the last days."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from simulation.city import City
from simulation.incidents import incidents
from simulation.sizes import LAST_DATE
from simulation.times import midnight, stream

ITEMS = ("free_chlorine", "ph", "turbidity", "water_temp", "orp")
UNITS = ("mg/L", "pH", "NTU", "℃", "mV")
DIGITS = (2, 2, 2, 1, 0)
LIMITS = ((0.3, 1.0), (7.0, 7.8), (None, 1.0), (23.0, 30.0), (650.0, None))
"""Limits of GB 37488-2019 table 4 that the ground truth judges readings by (domain reference §4.2)."""


@dataclass(frozen=True)
class WaterDay:
    """One row a reading: pool (index of unit), item index, value, time in local seconds, method 0 online, 1 manual."""

    day: date
    pool: np.ndarray
    item: np.ndarray
    value: np.ndarray
    sampled: np.ndarray
    method: np.ndarray


def incident_pools(city: City) -> tuple[int, int]:
    """The pool that was out of limits and recovered, and the one still out when the city is new (unit indexes)."""
    main = _main_pools(city)
    return main[len(main) // 3], main[2 * len(main) // 3]


def _main_pools(city: City) -> list[int]:
    return [i for i, u in enumerate(city.units) if u.unit_type == "泳池" and u.depth_min and u.depth_min > 1]


def faulty_pool(city: City, number: int) -> int | None:
    """The pool (unit index) that leaves the limits on the ``number``-th day after generation: another one every day."""
    turn = incidents(number).pool_turn
    known = set(incident_pools(city))
    others = [i for i in _main_pools(city) if i not in known]
    return None if turn is None or not others else others[turn * 5 % len(others)]


OUT_OF_LIMITS = {("free_chlorine", "low"): (0.12, 0.05), ("free_chlorine", "high"): (1.62, 0.25),
                 ("ph", "high"): (8.05, 0.2), ("turbidity", "high"): (1.9, 0.4)}  # fmt: skip
"""Lowest value and spread of readings during an incident."""


def _out_of_limits(
    city: City, day: date, item: str, unit: np.ndarray, when: np.ndarray, value: np.ndarray
) -> np.ndarray:
    """Values with the incident of a later day: from six in the morning until eight in the evening."""
    today = incidents((day - LAST_DATE).days)
    if today.number < 1 or today.pool_item != item or today.pool_side is None:
        return value
    hit = (
        (unit == faulty_pool(city, today.number))
        & (when >= midnight(day) + 6 * 3600)
        & (when < midnight(day) + 20 * 3600)
    )
    low, spread = OUT_OF_LIMITS[item, today.pool_side]
    return np.where(hit, low + spread * stream(city.seed, "pool fault", today.number).random(len(unit)), value)


def water_day(city: City, index: int) -> WaterDay:
    """All readings of one day taken before the as-of instant."""
    day = city.first_date + timedelta(days=index)
    rng = stream(city.seed, "water", index)
    pools = np.array([i for i, u in enumerate(city.units) if u.unit_type == "泳池"])
    venue = np.array([city.units[i].venue for i in pools])
    opens = np.array([v.open_s for v in city.venues])[venue]
    closes = np.array([v.close_s for v in city.venues])[venue]
    # The first reading comes before the first session; each pool keeps its own minute.
    slot = opens[:, None] + (pools * 7 % 50 * 60)[:, None] + np.arange(8) * 7_200 + rng.integers(0, 40, (len(pools), 8))
    keep_slot = slot < closes[:, None] - 600
    p_at, s_at = np.nonzero(keep_slot)
    sampled = midnight(day) + slot[p_at, s_at]
    home = stream(city.seed, "pool habits")
    level = {
        0: home.normal(0.6, 0.06, len(city.units)), 1: home.normal(7.4, 0.08, len(city.units)),
        2: home.normal(0.35, 0.08, len(city.units)), 3: home.normal(27.2, 0.6, len(city.units)),
        4: home.normal(735, 14, len(city.units)),
    }  # fmt: skip
    noise = (0.085, 0.09, 0.14, 0.35, 14.0)
    has_orp = pools % 3 == 0
    out_pool, out_item, out_value, out_time = [], [], [], []
    slump, still = incident_pools(city)
    last = midnight(LAST_DATE)
    for item in range(5):
        mine = has_orp[p_at] if item == 4 else np.ones(len(p_at), bool)
        unit, when = pools[p_at[mine]], sampled[mine]
        value = level[item][unit] + rng.normal(0, noise[item], len(unit))
        if item == 0:
            low = (unit == slump) & (when >= last - 3 * 86_400 + 10 * 3600) & (when < last - 2 * 86_400 + 12 * 3600)
            value = np.where(low, 0.14 + 0.05 * rng.random(len(unit)), value)
            # still out when the city is new; put right the evening after
            high = (unit == still) & (when >= last - 86_400 + 11 * 3600) & (when < last + 18 * 3600)
            value = np.where(high, 1.55 + 0.3 * rng.random(len(unit)), value)
        value = _out_of_limits(city, day, ITEMS[item], unit, when, value)
        value = np.maximum(np.round(value, DIGITS[item]), 0.02)
        out_pool.append(unit)
        out_item.append(np.full(len(unit), item))
        out_value.append(value)
        out_time.append(when)
    pool, kind, read, when = (np.concatenate(x) for x in (out_pool, out_item, out_value, out_time))
    order = np.lexsort((kind, pool, when))
    order = order[when[order] < city.now]
    method = np.where(kind == 2, 1, 0)  # turbidity is read by hand
    return WaterDay(day, pool[order], kind[order], read[order], when[order], method[order])


def read_between(w: WaterDay, since: int, until: int) -> WaterDay:
    """The readings taken from one instant on and before another."""
    chosen = (w.sampled >= since) & (w.sampled < until)
    return WaterDay(w.day, w.pool[chosen], w.item[chosen], w.value[chosen], w.sampled[chosen], w.method[chosen])


def compliant(item: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Whether each value is within the limits of its item."""
    low = np.array([-np.inf if a is None else a for a, _ in LIMITS])[item]
    high = np.array([np.inf if b is None else b for _, b in LIMITS])[item]
    return (value >= low) & (value <= high)
