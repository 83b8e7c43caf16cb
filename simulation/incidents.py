"""What goes wrong on each day after the city was generated, and what gets well again: decided by the day alone.

Every seventh day is calm: everything that was missing has arrived, so the platform's figures equal the truth again.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Any

from simulation.sizes import LAST_DATE

CALM_EVERY = 7
DOWN = ("fitness.checkin", "supervision.water_reading", "venue.booking", "training.activity", "venue.entry")
"""Sources that fail in turn: an interface answers 503, a file source delivers nothing. The backlog comes the next day."""

LOST_COLUMNS = ("举办区划代码", "更新时间", "主办单位类别", "预计人数")
"""Columns that a district's clerk deletes from the filing workbook, in turn."""

POOL_FAULTS = (("free_chlorine", "low"), ("ph", "high"), ("free_chlorine", "high"), ("turbidity", "high"))
REFUSALS = ("damaged", "rows", "catalogue")
"""Why the center turns the day's first increment down, in turn: it was damaged on the way; a limit of the center's own is
wrong, so that it refuses rows that are right; its catalogue does not know the resource's version yet. Sent again as the
next batch of the same business date, it is taken."""


@dataclass(frozen=True)
class Incidents:
    """The incidents of one day. ``None``: does not happen today.

    down: resource that cannot be had. returned: resource whose backlog arrives. lost_column: missing in today's filing
    workbook. mended: whether yesterday's workbook arrives again, whole. pool_turn: which pool (in turn) leaves the
    limits at six in the morning and returns in the evening. refusal: why the center turns one delivery down.
    """

    number: int
    day: date
    down: str | None
    returned: str | None
    lost_column: str | None
    mended: bool
    pool_turn: int | None
    pool_item: str | None
    pool_side: str | None
    refusal: str | None

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {**asdict(self), "day": self.day.isoformat()}


def incidents(number: int) -> Incidents:
    """What happens on the ``number``-th day after generation; day 0 and every seventh day are calm."""
    before = number - 1
    item, side = POOL_FAULTS[before % len(POOL_FAULTS)]
    calm = _calm(number)
    return Incidents(
        number=number,
        day=LAST_DATE + timedelta(days=number),
        down=_down(number),
        returned=_down(before),
        lost_column=_lost(number),
        mended=_lost(before) is not None,
        pool_turn=None if calm else before,
        pool_item=None if calm else item,
        pool_side=None if calm else side,
        refusal=None if calm else REFUSALS[before % len(REFUSALS)],
    )


def _calm(number: int) -> bool:
    return number < 1 or number % CALM_EVERY == 0


def _down(number: int) -> str | None:
    return None if _calm(number) else DOWN[(number % CALM_EVERY - 1) % len(DOWN)]


def _lost(number: int) -> str | None:
    """Every other day, so that the mended workbook has a day of its own."""
    if _calm(number) or number % CALM_EVERY % 2 == 0:
        return None
    return LOST_COLUMNS[(number - 1) // 2 % len(LOST_COLUMNS)]
