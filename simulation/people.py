"""Invented persons whose identity numbers and phones cannot belong to anyone.

Identity numbers carry the region ``99`` + four digits, which GB/T 2260 never assigned; birth date, sequence and the check
digit (GB 11643-1999) are well-formed. Phones lie in the block 19900000000–19909999999 reserved here for invention.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulation.sizes import LAST_DATE
from simulation.times import midnight, spread, stream

ID_WEIGHTS = np.array([7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2])
ID_CHECK = np.array(list("10X98765432"))
USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
USCC_WEIGHTS = np.array([pow(3, i, 31) for i in range(17)])

SURNAMES = (
    "赵钱孙李周吴郑王冯陈蒋沈韩杨朱秦许何吕张曹严金魏姜谢邹苏潘葛范彭马方任袁柳史唐薛雷贺汤罗毕郝安常于傅顾孟黄萧尹"
)
GIVEN = "晨晓岚霖昊辰沐阳若溪嘉宁思远雨桐子墨一诺梓涵书瑶景行知秋云舟安然亦凡清越明哲静姝浩然语嫣修远望舒念之怀瑾"


@dataclass(frozen=True)
class People:
    """Persons in contiguous ranges by home district: person ``i`` has ``id_no[i]``, ``id_type[i]``, ``phone[i]``."""

    id_no: np.ndarray
    id_type: np.ndarray
    phone: np.ndarray
    home: np.ndarray
    reach: np.ndarray
    """Cumulative activity weight, for weighted choice by binary search."""
    bounds: np.ndarray
    """First person of each district, plus the end."""

    def choose(self, rng: np.random.Generator, district: np.ndarray, stranger_share: float = 0.25) -> np.ndarray:
        """One active person per row, mostly at home in the row's district index."""
        edges = np.concatenate([[0.0], self.reach])[self.bounds]
        low, high = edges[district], edges[district + 1]
        stranger = rng.random(len(district)) < stranger_share
        low, high = np.where(stranger, 0.0, low), np.where(stranger, edges[-1], high)
        return np.searchsorted(self.reach, low + rng.random(len(district)) * (high - low), side="right").clip(
            0, len(self.reach) - 1
        )


def check_digits(bodies: np.ndarray) -> np.ndarray:
    """Check characters of 17-character resident identity bodies (array of ``U17``)."""
    digits = bodies.astype("U17").view("U1").reshape(len(bodies), 17).astype(np.int64)
    return ID_CHECK[(digits @ ID_WEIGHTS) % 11]


def uscc(index: int, prefix: str = "91") -> str:
    """A well-formed unified social credit code (GB 32100-2015) of the never-assigned region 990000."""
    body = f"MA{index:06d}"
    values = [int(c) if c.isdigit() else ord(c) - 55 for c in body]
    rest = 11 - sum(v * w for v, w in zip(values, (3, 7, 9, 10, 5, 8, 4, 2), strict=True)) % 11
    code = prefix + "990000" + body + {10: "X", 11: "0"}.get(rest, str(rest))
    total = int(np.dot([USCC_ALPHABET.index(c) for c in code], USCC_WEIGHTS))
    return code + USCC_ALPHABET[(31 - total % 31) % 31]


def make_people(seed: int, count: int, district_weight: np.ndarray) -> People:
    """``count`` persons spread over the districts by weight. Deterministic by seed."""
    rng = stream(seed, "people")
    per = spread(count, district_weight)
    bounds = np.concatenate([[0], np.cumsum(per)])
    home = np.repeat(np.arange(len(per)), per)
    # Ages of people who exercise: school children, a broad middle, active pensioners.
    band = rng.choice(4, count, p=[0.09, 0.45, 0.28, 0.18])
    low, high = np.array([7, 18, 40, 60]), np.array([18, 40, 60, 84])
    born_days = midnight(LAST_DATE) // 86_400 - (
        (low[band] + rng.random(count) * (high[band] - low[band])) * 365.25
    ).astype(np.int64)
    born = np.datetime_as_string(born_days.astype("datetime64[D]"), unit="D")
    born = np.char.replace(born, "-", "")
    index = rng.permutation(count).astype(np.int64)
    region = np.char.add("99", np.char.zfill((index % 10_000).astype("U4"), 4))
    order = np.char.zfill((index // 10_000 * 7 % 1000).astype("U3"), 3)
    bodies = np.char.add(np.char.add(region, born), order)
    id_no = np.char.add(bodies, check_digits(bodies))
    kind = rng.choice(3, count, p=[0.95, 0.03, 0.02])
    number = np.char.zfill(index.astype("U8"), 8)
    id_no = np.where(
        kind == 1,
        np.char.add("ZZ", number),
        np.where(kind == 2, np.char.add("H", (99_000_000 + index).astype("U8")), id_no),
    )
    phone = (19_900_000_000 + rng.permutation(count)).astype("U11")
    reach = np.cumsum(rng.gamma(0.6, 1.0, count) + 0.02)
    return People(id_no, np.array(["resident_id", "passport", "hk_mo_tw"])[kind], phone, home, reach, bounds)


def person_names(rng: np.random.Generator, count: int) -> list[str]:
    """Invented Chinese names of two or three characters."""
    first = rng.integers(0, len(SURNAMES), count)
    a, b = rng.integers(0, len(GIVEN), count), rng.integers(0, len(GIVEN), count)
    short = rng.random(count) < 0.2
    return [SURNAMES[f] + GIVEN[x] + ("" if s else GIVEN[y]) for f, x, y, s in zip(first, a, b, short, strict=True)]
