"""The squads and who belonged to which on which day. A squad is of one sport, and an athlete's favourite sport leads to it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from simulation.city import City
from simulation.people import person_names
from simulation.sizes import LAST_DATE
from simulation.times import stream
from simulation.training import PROFILE, favourite_sport

SQUADS = {sport: f"SQ{number:02d}" for number, sport in enumerate(
    ("running", "cycling", "swimming", "fitness", "football", "basketball"), 1)}  # fmt: skip
MOVED = LAST_DATE - timedelta(days=4)
"""First day of those who changed squads, the day after their last in the old one."""
LEFT = LAST_DATE - timedelta(days=6)
"""Last day of those who left."""


@dataclass(frozen=True)
class Membership:
    """One athlete in one squad from ``joined`` to ``left``, both included (None: still there)."""

    athlete_no: str
    name: str
    squad: str
    sport: str
    member_no: int
    joined: date
    left: date | None

    def on(self, day: date) -> bool:
        """Whether the athlete is in the squad on a day."""
        return self.joined <= day and (self.left is None or day <= self.left)


def memberships(city: City) -> list[Membership]:
    """Every membership there was or is, by athlete: each twentieth athlete changed squads, each twentieth left."""
    rng = stream(city.seed, "squads")
    names = person_names(rng, city.size.athletes)
    since = rng.integers(150, 1_500, city.size.athletes)
    sports = list(PROFILE)
    worn: dict[str, int] = dict.fromkeys(SQUADS.values(), 0)
    found: list[Membership] = []

    def join(athlete: int, sport: str, joined: date, left: date | None) -> None:
        squad = SQUADS[sport]
        worn[squad] += 1
        found.append(Membership(f"SHA{athlete + 1:06d}", names[athlete], squad, sport, worn[squad], joined, left))

    for athlete in range(city.size.athletes):
        sport = favourite_sport(city, athlete)
        joined = LAST_DATE - timedelta(days=int(since[athlete]))
        if athlete % 20 == 3:
            other = sports[(sports.index(sport) + 1) % len(sports)]
            join(athlete, other, joined, MOVED - timedelta(days=1))
            join(athlete, sport, MOVED, None)
        else:
            join(athlete, sport, joined, LEFT if athlete % 20 == 11 else None)
    return found


def members_on(city: City, day: date) -> dict[str, int]:
    """Squad → members on a day, squads without any left out."""
    squads, counts = np.unique([m.squad for m in memberships(city) if m.on(day)], return_counts=True)
    return {str(squad): int(count) for squad, count in zip(squads, counts, strict=True)}
