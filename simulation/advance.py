"""Move a generated city on to the next day: what happened between its last noon and the next one.

The present always stands at noon. A day adds the afternoon and evening of the day it leaves and the morning of the day it
reaches. What was written before never changes; the same city moved on as often is the same, byte for byte. The truth is
computed first, from the days before any dirt; then the sources write, each with its dirt and the day's incidents.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from simulation.bookings import booking_counts, booking_day, slot_days, told_between
from simulation.city import City, build_city
from simulation.events import Event, make_events
from simulation.incidents import Incidents, incidents
from simulation.records.all import FEEDS
from simulation.records.write import deliver
from simulation.sizes import BOOKING_AHEAD_DAYS, LAST_DATE, SIZES, as_of
from simulation.sources import Sources
from simulation.times import AFTERNOON, MORNING, noon, stream
from simulation.training import training_between
from simulation.truth import Truth
from simulation.visits import join, known_between, visit_day, visit_half
from simulation.water import faulty_pool, read_between, water_day

TODAY = "today.json"
"""Where the present of a moved city stands and what happens on that day; absent on day 0. Written last."""
INTERFACES = {"venue.booking": "venue", "fitness.checkin": "fitness"}
"""Sources that are interfaces: when they are down they answer 503. The others deliver files: then nothing comes."""
BOOKINGS_TOLD_DAYS = 3
"""How many days after its slot a booking can still change."""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def today(out: Path | str) -> dict[str, Any]:
    """Where a city's present stands: ``number`` of days since generation, ``as_of``, what is ``down``, ``incidents``."""
    path = Path(out) / TODAY
    if path.exists():
        return dict(json.loads(path.read_text("utf-8")))
    return {"number": 0, "today": LAST_DATE.isoformat(), "as_of": as_of().isoformat(), "down": None, "incidents": None}


def advance(
    out: Path | str, to: int | None = None, *, uninterrupted: bool = False, say: Callable[[str], None] = _say
) -> dict[str, Any]:
    """Move the city in ``out`` on by one day, or to day ``to``; returns the new ``today``.

    ``uninterrupted``: the last of these days has no source down, as when history is handed over before an outage begins.
    A killed run is simply run again. Raises FileNotFoundError when ``out`` holds no city, ValueError for a day behind it.
    """
    out = Path(out)
    world = json.loads((out / "world.json").read_text("utf-8"))
    number = int(today(out)["number"])
    target = number + 1 if to is None else to
    if target < number:
        raise ValueError(f"the city stands at day {number}; it cannot go back to day {target}")
    if target == number:
        return today(out)
    size = SIZES[world["size"]]
    city = build_city(size if world["days"] == size.days else size.shortened(world["days"]), world["seed"])
    for n in range(number + 1, target + 1):
        _one_day(city.at(n), out, incidents(n), uninterrupted and n == target, say)
    return today(out)


def _one_day(city: City, out: Path, plan: Incidents, uninterrupted: bool, say: Callable[[str], None]) -> None:
    events = make_events(city)
    _truth(city, events).write(out / "truth")
    sources = Sources(city, out)
    if plan.down and plan.down not in INTERFACES and not uninterrupted:
        sources.held = {plan.down}
    sources.waiting = _waiting(out, plan.number)
    shutil.rmtree(sources.waiting, ignore_errors=True)
    _flows(city, sources)
    _files(city, sources, plan, events)
    _deliver_backlog(_waiting(out, plan.number - 1), sources.drops)
    for feed in FEEDS:
        deliver(feed, city, city.today, sources, out / "truth")
    for api in sources.record_apis.values():
        api.write_all(city.today)
    sources.ledger.write(out / "truth" / f"day_{city.today:%Y%m%d}")
    pool = faulty_pool(city, plan.number)
    state = {
        "number": plan.number,
        "today": city.today.isoformat(),
        "as_of": as_of(city.today).isoformat(),
        "down": None if uninterrupted else plan.down,
        "incidents": {**plan.as_dict(), "pool_id": None if pool is None else city.units[pool].unit_id},
    }
    partial = out / f"{TODAY}.partial"
    partial.write_text(json.dumps(state, ensure_ascii=False, indent=1) + "\n", "utf-8")
    os.replace(partial, out / TODAY)
    say(f"simulation: {city.today} is day {plan.number}; {sum(sources.ledger.true.values()):,} true records")


def _truth(city: City, events: list[Event]) -> Truth:
    """Everything that is true now, computed from the first day on: what a late message changed is changed in it."""
    truth, wanted = Truth(city), booking_counts(city)
    for index, day in enumerate(slot_days(city)):
        truth.bookings(booking_day(city, index, int(wanted[index])))
        if day <= city.today:
            truth.visits(visit_day(city, index))
            truth.water(water_day(city, index))
    truth.events(events)
    return truth


def _flows(city: City, sources: Sources) -> None:
    """What happened and was told since the last noon."""
    since, until = noon(city.yesterday), city.now
    last = city.size.days - 1 + city.number
    evening = join(visit_half(city, last - 1, MORNING), visit_half(city, last - 1, AFTERNOON))
    for visits, part in ((evening, "pm"), (visit_half(city, last, MORNING), "")):
        fresh = known_between(visits, since, until)
        sources.checkins(fresh, part)
        sources.entries(fresh, part)
    for index, part in ((last - 1, "pm"), (last, "")):
        sources.water(read_between(water_day(city, index), since, until), part)
    wanted = booking_counts(city)
    for index in range(max(0, last - BOOKINGS_TOLD_DAYS), last + BOOKING_AHEAD_DAYS + 1):
        fresh_bookings = told_between(booking_day(city, index, int(wanted[index])), since, until)
        if len(fresh_bookings.update_row):
            sources.bookings(fresh_bookings, f"d{city.number:02d}")
    sources.checkin_api.write_all(city.today)
    sources.booking_api.write_all(city.today)


def _files(city: City, sources: Sources, plan: Incidents, events: list[Event]) -> None:
    """Device files, the weekly register, and the filing workbooks of this day."""
    rate = city.size.device_files / city.size.days
    sources.device_files(training_between(city, max(1, int(stream(city.seed, "files", city.number).poisson(rate)))))
    if sources.is_snapshot_day(city.today):
        sources.register(city.today)
        sources.roster(city.today)
    if plan.mended:
        before = city.yesterday
        sources.filings(before, noon(before - timedelta(days=1)), noon(before), events, suffix="_更正")
    sources.filings(city.today, noon(city.yesterday), city.now, events, without=plan.lost_column)


def _waiting(out: Path, number: int) -> Path:
    """Where files lie that a source could not deliver on that day."""
    return out / "waiting" / f"{number:04d}"


def _deliver_backlog(waiting: Path, drops: Path) -> None:
    """The source is up again: its files of yesterday arrive. Copied first, removed after, so that a kill loses none."""
    for path in sorted(p for p in waiting.rglob("*") if p.is_file()):
        target = drops / path.relative_to(waiting)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target.with_name(f".{target.name}.partial"))
        os.replace(target.with_name(f".{target.name}.partial"), target)
    shutil.rmtree(waiting, ignore_errors=True)
