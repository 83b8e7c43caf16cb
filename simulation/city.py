"""The standing city: districts, venues, units and who visits them. Built once from the seed, the same for every day."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from math import floor

import numpy as np

from simulation import geo
from simulation.people import People, make_people, person_names, uscc
from simulation.sizes import AS_OF_HOUR, LAST_DATE, Size
from simulation.times import AFTERNOON, MORNING, noon, spread, stream

POPULATION = {  # 2020 census, domain reference §6.4
    "310101": 662_030, "310104": 1_113_078, "310105": 693_051, "310106": 975_707, "310107": 1_239_800,
    "310109": 757_498, "310110": 1_242_548, "310112": 2_653_489, "310113": 2_235_218, "310114": 1_834_258,
    "310115": 5_681_512, "310116": 822_776, "310117": 1_909_713, "310118": 1_271_424, "310120": 1_140_872,
    "310151": 637_921,
}  # fmt: skip
MORNING_SHARE = 0.3
"""Share of a day's visits that has happened by noon."""
CENTRAL = {"310101", "310104", "310105", "310106", "310107", "310109", "310110"}

SPORTS = {
    "badminton": "羽毛球", "basketball": "篮球", "football": "足球", "swimming": "游泳", "table_tennis": "乒乓球",
    "tennis": "网球", "volleyball": "排球", "fitness": "健身", "climbing": "攀岩", "athletics": "田径", "running": "跑步",
    "cycling": "骑行", "martial_arts": "武术", "dance": "广场舞", "other": "其他",
}  # fmt: skip

COURT = {  # sport -> (area m2, approved people, indoor)
    "badminton": (120.0, 8, True), "basketball": (608.0, 16, True), "table_tennis": (60.0, 6, True),
    "tennis": (670.0, 6, False), "football": (1_050.0, 20, False), "volleyball": (360.0, 16, True),
}  # fmt: skip
AREA = {"fitness": (420.0, 60, True), "climbing": (260.0, 30, True), "athletics": (5_200.0, 120, False),
        "martial_arts": (180.0, 30, True), "dance": (200.0, 40, True)}  # fmt: skip

TYPES = {  # venue type (Chinese label as the register writes it) -> (share, name suffixes, unit menu)
    "体育馆": (0.20, ("体育馆", "综合馆"), ("badminton", "badminton", "basketball", "table_tennis", "volleyball")),
    "市民健身中心": (0.28, ("社区市民健身中心", "市民健身中心"), ("fitness", "table_tennis", "badminton", "dance")),
    "综合体育中心": (0.12, ("都市运动中心",), ("basketball", "football", "climbing", "badminton", "tennis")),
    "体育场": (0.10, ("体育场",), ("athletics", "football", "tennis", "basketball")),
    "学校体育场地": (0.12, ("学校体育馆", "中学运动场"), ("basketball", "volleyball", "table_tennis")),
    "球类馆": (0.18, ("羽毛球馆", "球馆"), ("badminton", "badminton", "table_tennis", "martial_arts", "fitness")),
}
POOL_TYPE = "游泳馆"
POOL_NAMES = ("游泳馆", "水上中心", "游泳健身馆")
OWNERSHIP = {"体育馆": "公有", "市民健身中心": "公有", "综合体育中心": "公有", "体育场": "公有",
             "学校体育场地": "教育系统", "球类馆": "民营", POOL_TYPE: "公有"}  # fmt: skip

WORDS_A = "澄云映清和星海沁朗晴岚霁锦瑞景颐悦启翰璟"
WORDS_B = "波澜川禾帆舟桥溪泽屿林岸汀湾野洲桐榆"


@dataclass(frozen=True)
class Venue:
    """One registered venue. ``open_s``/``close_s`` are seconds of the day; ``shown`` is what the register says."""

    venue_id: str
    name: str
    venue_type: str
    ownership: str
    uscc: str
    district: int
    district_code: str
    street: str
    address: str
    lng: float
    lat: float
    crs: str
    is_public: bool
    open_s: int
    close_s: int
    contact: str
    phone: str
    has_turnstile: bool
    first_date: date
    last_date: date


@dataclass(frozen=True)
class Unit:
    """One court, pool or area of a venue."""

    unit_id: str
    venue: int
    name: str
    unit_type: str
    sport: str
    area_m2: float
    capacity: int
    indoor: bool
    depth_min: float | None
    depth_max: float | None


@dataclass
class City:
    """Everything that does not change from day to day, with the weights that days are drawn from."""

    size: Size
    seed: int
    codes: list[str]
    names: list[str]
    venues: list[Venue]
    units: list[Unit]
    people: People
    wrong_location: list[str]
    capacity: np.ndarray
    venue_district: np.ndarray
    turnstile: np.ndarray
    visit_weight: np.ndarray
    today: date = LAST_DATE
    """The day the present stands at: ``LAST_DATE`` when generated, later after ``advance``."""
    clock: dict[bool, np.ndarray] = field(default_factory=dict)
    checkins_of_day: np.ndarray = field(default_factory=lambda: np.zeros(0))
    ins_of_day: np.ndarray = field(default_factory=lambda: np.zeros(0))
    bookings_of_day: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def first_date(self) -> date:
        return self.size.first_date

    @property
    def last_date(self) -> date:
        return self.today

    @property
    def yesterday(self) -> date:
        return self.today - timedelta(days=1)

    @property
    def now(self) -> int:
        """As-of instant in local seconds."""
        return noon(self.today)

    @property
    def number(self) -> int:
        """How many days the present has moved on since the city was generated."""
        return (self.today - LAST_DATE).days

    def at(self, number: int) -> City:
        """The same city on its ``number``-th day after generation."""
        return replace(self, today=LAST_DATE + timedelta(days=number))

    def days(self) -> list[date]:
        return [self.first_date + timedelta(days=i) for i in range(self.size.days + self.number)]

    def amount(self, drawn: np.ndarray, index: int, half: str) -> int:
        """How much of a daily flow happens on day ``index`` (or in one half of it).

        ``drawn`` holds the days a city is generated with, the last of them as a morning. Later days are like the last
        whole day of the same weekday, give or take; a morning has the share that the last day was generated with.
        """
        last = self.size.days - 1
        if index < last or (index == last and half == MORNING):
            return int(drawn[index])
        weekday = (self.first_date + timedelta(days=index)).weekday()
        alike = max(i for i in range(last) if (self.first_date + timedelta(days=i)).weekday() == weekday or last < 7)
        noise = min(max(stream(self.seed, "later days", index).normal(1, 0.04), 0.88), 1.12)
        share = MORNING_SHARE if half == MORNING else 1 - MORNING_SHARE
        return int(drawn[alike] * noise * share)

    def active(self, day: date) -> np.ndarray:
        """Mask of venues in business on ``day``."""
        return np.array([v.first_date <= day <= v.last_date for v in self.venues])

    def arrival(self, rng: np.random.Generator, venue: np.ndarray, day: date, half: str = "") -> np.ndarray:
        """Seconds of the day of one arrival per row, by venue opening hours and the shape of the weekday.

        ``half``: only before noon (and a little less: what happened is known by noon), or only from noon on.
        """
        cdf = self.clock[day.weekday() >= 5][venue]
        if half == MORNING:
            quarter = AS_OF_HOUR * 4 - 1
            cdf = np.minimum(cdf / np.maximum(cdf[:, quarter - 1 : quarter], 1e-9), 1.0)
        u = rng.random((len(venue), 1))
        if half == AFTERNOON:
            before = cdf[:, AS_OF_HOUR * 4 - 1 : AS_OF_HOUR * 4]
            u = before + u * (1 - before)
        return (cdf <= u).sum(1) * 900 + rng.integers(0, 900, len(venue))


def day_weights(days: list[date], rng: np.random.Generator) -> np.ndarray:
    """Relative business of each day: weekends and the National Day week are busy, autumn cools, the last is a morning."""
    shape = np.array([0.92, 0.88, 0.9, 0.93, 1.05, 1.45, 1.36])
    weight = np.array([shape[d.weekday()] for d in days])
    weight = np.where([(d.month, d.day) >= (10, 1) and (d.month, d.day) <= (10, 7) for d in days], 1.55, weight)
    cooling = np.array([1.12 - 0.002 * max(0, (d - date(2026, 8, 23)).days) for d in days])
    weight = weight * cooling * rng.normal(1, 0.04, len(days)).clip(0.85, 1.15)
    weight[-1] *= MORNING_SHARE
    return weight


def _clock(venues: list[Venue], weekend: bool) -> np.ndarray:
    """Cumulative arrival probability by quarter of an hour, one row a venue, zero outside opening hours."""
    peaks: list[tuple[float, float, float]] = (
        [(10, 1.6, 1.0), (15, 1.9, 1.1), (19, 1.4, 0.9)]
        if weekend
        else [(7.5, 0.9, 0.55), (12.2, 0.9, 0.4), (19, 1.3, 1.5)]
    )
    hour = (np.arange(96) + 0.5) / 4
    pmf = 0.08 + sum(h * np.exp(-(((hour - c) / w) ** 2) / 2) for c, w, h in peaks)
    start = np.arange(96) * 900
    first = np.array([v.open_s for v in venues])[:, None]
    last = np.array([v.close_s for v in venues])[:, None] - 45 * 60
    table = np.where((start >= first) & (start + 900 <= last), pmf, 0.0)
    return np.cumsum(table, 1) / table.sum(1, keepdims=True)


def build_city(size: Size, seed: int) -> City:
    """Draw venues, units, persons and weights. The same size and seed give the same city."""
    shapes = geo.districts()
    codes, names = list(shapes), [shapes[c][0] for c in shapes]
    population = np.array([POPULATION[c] for c in codes], float)
    rng = stream(seed, "venues")
    least = 1 if size.venues < 48 else 2
    per = least + spread(size.venues - least * 16, population**0.8 * np.where([c in CENTRAL for c in codes], 1.3, 1.0))
    district = np.repeat(np.arange(16), per)
    n = size.venues

    pool_venues = max(1, round(size.pools * 0.72))
    is_pool = np.zeros(n, bool)
    # Pools go to every district in turn, so that water quality exists everywhere when there are enough of them.
    rank_in_district = np.concatenate([np.arange(k) for k in per])
    is_pool[np.argsort(rank_in_district * 1000 + rng.permutation(n), kind="stable")[:pool_venues]] = True
    pools_of = np.where(is_pool, 1, 0)
    pools_of[rng.choice(np.flatnonzero(is_pool), size.pools - pool_venues, replace=size.pools > 2 * pool_venues)] += 1
    kinds = list(TYPES)
    kind = rng.choice(len(kinds), n, p=np.array([TYPES[k][0] for k in kinds]) / sum(TYPES[k][0] for k in kinds))

    turnstile = np.zeros(n, bool)
    wanted = round(n * size.turnstile_share)
    turnstile[np.argsort(rank_in_district % 5 * 10 + rng.random(n) * 12, kind="stable")[:wanted]] = True

    days = size.days
    opened = np.full(n, size.first_date)
    closed = np.full(n, LAST_DATE + timedelta(days=365))
    quiet = np.flatnonzero(~is_pool & ~turnstile & (rank_in_district > 0))
    if days >= 30 and len(quiet) >= 2:  # one venue opens and one closes, both on a day of a register snapshot
        opened[quiet[0]] = size.first_date + timedelta(days=28)
        closed[quiet[1]] = size.first_date + timedelta(days=62)

    contacts = person_names(rng, n)
    phone_at = rng.integers(0, 90_000, n)
    places = {c: geo.points_in(c, int(k), rng) for c, k in zip(codes, per, strict=True)}
    wrong = rng.choice(n, 2 if n < 100 else 12, replace=False)
    venues: list[Venue] = []
    used: set[str] = set()
    for v in range(n):
        d, code = int(district[v]), codes[int(district[v])]
        number = int(rank_in_district[v]) + 1
        label = POOL_TYPE if is_pool[v] else kinds[int(kind[v])]
        suffixes = POOL_NAMES if is_pool[v] else TYPES[label][1]
        short = names[d].removesuffix("新区").removesuffix("区")
        while True:
            word = str(rng.choice(list(WORDS_A))) + str(rng.choice(list(WORDS_B)))
            name = f"{short}{word}{suffixes[int(rng.integers(len(suffixes)))]}"
            if name in used and n > 600:
                name = f"{short}{word}{suffixes[0]}（{number}号）"
            if name not in used:
                break
        used.add(name)
        lng, lat = (float(x) for x in places[code][number - 1])
        if v in wrong:  # a swapped-in point of another district: a warning, never a refusal
            other = codes[(d + 8) % 16]
            lng, lat = (float(x) for x in geo.points_in(other, 1, rng, margin_m=500)[0])
        crs = str(rng.choice(["CGCS2000", "WGS-84", "GCJ-02", "BD-09"], p=[0.86, 0.07, 0.05, 0.02]))
        if crs == "GCJ-02":
            lng, lat = geo.to_gcj02(lng, lat)
        elif crs == "BD-09":
            lng, lat = geo.to_bd09(lng, lat)
        street = str(rng.choice(list(WORDS_A))) + str(rng.choice(list(WORDS_B))) + ("街道" if code in CENTRAL else "镇")
        road = str(rng.choice(list(WORDS_B))) + str(rng.choice(list(WORDS_A))) + "路"
        hours = (
            [(6, 21.5), (7, 21), (8, 22), (9, 21)][int(rng.integers(4))]
            if not is_pool[v]
            else [(6.5, 21), (8, 21.5), (9, 21)][int(rng.integers(3))]
        )
        venues.append(
            Venue(
                venue_id=f"V{code}-{number:03d}", name=name, venue_type=label, ownership=OWNERSHIP[label],
                uscc=uscc(v + 1, "91" if OWNERSHIP[label] == "民营" else "12"), district=d, district_code=code,
                street=street, address=f"上海市{names[d]}{road}{int(rng.integers(1, 1999))}号",
                lng=round(lng, 6), lat=round(lat, 6), crs=crs, is_public=OWNERSHIP[label] != "民营",
                open_s=int(hours[0] * 3600), close_s=int(hours[1] * 3600), contact=contacts[v],
                phone=str(19_909_900_000 + int(phone_at[v])), has_turnstile=bool(turnstile[v]),
                first_date=opened[v], last_date=closed[v],
            )
        )  # fmt: skip

    units: list[Unit] = []
    for v, venue in enumerate(venues):
        number = 0
        for p in range(int(pools_of[v])):
            number += 1
            child = p > 0
            area = float(rng.choice([80, 100, 150])) if child else float(rng.choice([250, 375, 500, 525, 1050, 1250]))
            deep = (0.6, 0.8) if child else (1.2, float(rng.choice([1.5, 1.8, 2.0])))
            units.append(
                Unit(f"{venue.venue_id}-U{number:02d}", v, "儿童池" if child else "标准池" if p == 0 else f"{p + 1}号池",
                     "泳池", "swimming", area, floor(area / 2.5), True, *deep)
            )  # fmt: skip
        menu = ("fitness",) if is_pool[v] else TYPES[venue.venue_type][2]
        extra = int(rng.integers(0, 2)) if is_pool[v] else int(rng.integers(2, 6))
        for k in range(extra):
            number += 1
            sport = menu[k % len(menu)]
            court = sport in COURT
            area, allowed, indoor = (COURT if court else AREA)[sport]
            area = round(area * float(rng.uniform(0.9, 1.15)), 1)
            units.append(
                Unit(f"{venue.venue_id}-U{number:02d}", v, f"{number}号{SPORTS[sport]}{'场' if court else '区'}",
                     "场地" if court else "区域", sport, area, allowed, indoor, None, None)
            )  # fmt: skip

    capacity = np.bincount([u.venue for u in units], weights=[u.capacity for u in units], minlength=n).astype(np.int64)
    # A gym of eight people at a busy gate would live above its capacity: crowds follow capacity.
    pull = capacity**0.8 * (population / population.mean())[district] ** 0.3 * rng.gamma(12, 1 / 12, n)
    people = make_people(seed, size.people, population)
    city = City(size, seed, codes, names, venues, units, people, sorted(venues[int(w)].venue_id for w in wrong),
                capacity, district, turnstile, pull)  # fmt: skip
    city.clock = {w: _clock(venues, w) for w in (False, True)}
    weights = day_weights(city.days(), stream(seed, "day weights"))
    city.checkins_of_day = spread(size.checkins, weights)
    # Every `in` has its `out`, except those still inside at the as-of instant.
    city.ins_of_day = spread(size.passages // 2, weights)
    return city
