"""Events and their filings: what was filed, changed and held until the as-of instant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from simulation.city import SPORTS, WORDS_A, WORDS_B, City
from simulation.people import person_names, uscc
from simulation.sizes import EVENT_AHEAD_DAYS, LAST_DATE
from simulation.times import midnight, noon, stream

LEVELS = ("国际", "全国", "市级", "区级", "街镇", "单位")
LEVEL_SHARE = (0.05, 0.08, 0.17, 0.38, 0.24, 0.08)
ORGANIZERS = ("体育部门", "其他政府部门", "协会", "企业", "社会组织")
ORGANIZER_SHARE = (0.3, 0.12, 0.26, 0.2, 0.12)
NATURES = ("竞赛", "群众活动", "青少年赛事", "表演展示", "商业赛事", "节庆活动")
LEVEL_NAME = ("国际", "全国", "上海市", "区", "街镇", "职工")
KIND = {"running": "路跑赛", "cycling": "骑行赛", "swimming": "游泳赛", "fitness": "健身挑战赛", "dance": "展演"}


@dataclass(frozen=True)
class Event:
    """One filed event in its latest state, and the dates of its history (None: has not happened)."""

    filing_id: str
    name: str
    organizer: str
    organizer_uscc: str
    organizer_type: str
    sport: str
    level: str
    nature: str
    is_assessed: bool
    district: int
    venue_id: str | None
    place: str
    start: date
    end: date
    expected: int
    participants: int | None
    high_risk: bool
    permit: str | None
    filed: date
    contact: str
    phone: str
    filed_at: int
    announced_at: int | None
    final_at: int | None
    cancelled: bool

    def state(self, upto: int) -> tuple[str, int]:
        """Chinese status and the instant of the last change, as known at ``upto``."""
        if self.final_at is not None and self.final_at <= upto:
            return ("已取消" if self.cancelled else "已举办"), self.final_at
        if self.announced_at is not None and self.announced_at <= upto:
            return "已公告", self.announced_at
        return "已填报", self.filed_at


def make_events(city: City) -> list[Event]:
    """All events that have been filed by the as-of instant and start within the period or soon after it."""
    rng = stream(city.seed, "events")
    count = city.size.events
    span = city.size.days + EVENT_AHEAD_DAYS
    days = [city.first_date + timedelta(days=i) for i in range(span)]
    weight = np.array([[0.5, 0.4, 0.4, 0.5, 0.8, 2.6, 2.2][d.weekday()] for d in days])
    weight[city.size.days :] *= 0.35  # not everything ahead has been filed yet
    start_at = np.sort(rng.choice(span, count, p=weight / weight.sum()))
    district = rng.choice(16, count, p=np.bincount(city.venue_district, minlength=16) / len(city.venues))
    level = rng.choice(6, count, p=LEVEL_SHARE)
    who = rng.choice(5, count, p=ORGANIZER_SHARE)
    length = rng.choice([1, 1, 2, 2, 3, 4], count)
    lead = np.clip(rng.normal(34, 14, count), 2, 90).astype(int)
    lead = np.where(rng.random(count) < 0.06, 20, lead)  # exactly at the limit
    lead = np.where(rng.random(count) < 0.03, 19, lead)
    contacts = person_names(rng, count)
    events = []
    for i in range(count):
        start = days[int(start_at[i])]
        # Who starts far ahead must have filed already to be known.
        filed = min(start - timedelta(days=int(lead[i])), LAST_DATE - timedelta(days=1))
        drawn = (i, start, int(length[i]), filed, int(district[i]), int(level[i]), int(who[i]), contacts[i])
        events.append(_event(city, rng, *drawn))
    return events + [e for n in range(1, city.number + 1) for e in _filed_on(city, n) if e.filed_at <= city.now]


def _filed_on(city: City, number: int) -> list[Event]:
    """The events filed on the ``number``-th day after the city was generated."""
    rng = stream(city.seed, "filed later", number)
    filed = LAST_DATE + timedelta(days=number)
    count = max(1, int(rng.poisson(city.size.events / (city.size.days + EVENT_AHEAD_DAYS))))
    share = np.bincount(city.venue_district, minlength=16) / len(city.venues)
    contacts = person_names(rng, count)
    return [
        _event(
            city, rng, 100_000 + number * 200 + n, filed + timedelta(days=int(rng.integers(8, 50))), int(rng.integers(1, 4)), filed,
            int(rng.choice(16, p=share)), int(rng.choice(6, p=LEVEL_SHARE)), int(rng.choice(5, p=ORGANIZER_SHARE)), contacts[n],
        )
        for n in range(count)
    ]  # fmt: skip


def _event(
    city: City,
    rng: np.random.Generator,
    number: int,
    start: date,
    length: int,
    filed: date,
    district: int,
    level: int,
    who: int,
    contact: str,
) -> Event:
    sport_codes = [s for s in SPORTS if s != "other"]
    now = city.now
    end = start + timedelta(days=length - 1)
    sport = sport_codes[int(rng.integers(len(sport_codes)))]
    d = district
    local = [v for v in city.venues if v.district == d]
    venue = local[int(rng.integers(len(local)))] if rng.random() < 0.55 else None
    word = str(rng.choice(list(WORDS_A))) + str(rng.choice(list(WORDS_B)))
    short = city.names[d].removesuffix("新区").removesuffix("区")
    where = short if level >= 3 else ""
    name = f"2026{where}{LEVEL_NAME[level]}“{word}杯”{SPORTS[sport]}{KIND.get(sport, '公开赛')}"
    expected = int(
        rng.choice(
            [60, 120, 240, 400, 800, 999, 1_000, 1_500, 4_999, 5_000],
            p=[0.2, 0.2, 0.2, 0.15, 0.1, 0.03, 0.03, 0.05, 0.02, 0.02],
        )
    )
    filed_at = midnight(filed) + int(rng.integers(9 * 3600, 17 * 3600))
    announced_at = filed_at + int(rng.integers(1, 4)) * 86_400
    cancelled = bool(rng.random() < 0.05)
    final_at = (
        midnight(start) - int(rng.integers(1, 3)) * 86_400 + 50_000
        if cancelled
        else midnight(end) + 86_400 + 9 * 3600 + int(rng.integers(0, 7_200))
    )
    if cancelled:
        announced_at = min(announced_at, final_at - 3_600)
        final_at = max(final_at, filed_at + 1_800)
        announced_at = announced_at if announced_at > filed_at else filed_at + 600
    announced_at = min(announced_at, final_at - 60)
    done = not cancelled and final_at <= now
    # A city that has just been generated draws the turnout of what is over; who ends later has a stream of its own.
    turnout = rng if final_at <= noon(LAST_DATE) else stream(city.seed, "turnout", number)
    no = None
    if expected >= 1_000 and rng.random() < 0.95:
        no = f"沪公(活)演字〔2026〕{number + 1:05d}号"
    return Event(
        filing_id=f"EV2026{number + 1:06d}", name=name, organizer=f"{short}{word}{('体育局', '文化和旅游局', '体育协会', '体育发展有限公司', '体育促进中心')[int(who)]}",
        organizer_uscc=uscc(500_000 + number, ("11", "11", "51", "91", "52")[int(who)]), organizer_type=ORGANIZERS[int(who)],
        sport=sport, level=LEVELS[int(level)], nature=NATURES[int(rng.integers(6))],
        is_assessed=bool(level <= 1 and rng.random() < 0.8), district=d,
        venue_id=venue.venue_id if venue else None, place=venue.name if venue else f"{city.names[d]}{word}广场",
        start=start, end=end, expected=expected,
        participants=int(expected * turnout.uniform(0.6, 1.1)) if done else None,
        high_risk=sport == "climbing", permit=no, filed=filed, contact=contact,
        phone=str(19_909_800_000 + int(rng.integers(0, 90_000))), filed_at=filed_at,
        announced_at=announced_at if announced_at <= now else None, final_at=final_at if final_at <= now else None,
        cancelled=cancelled and final_at <= now,
    )  # fmt: skip
