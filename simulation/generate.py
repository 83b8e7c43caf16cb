"""Write a simulated city to a folder, one business day after the other."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from simulation.bookings import booking_counts, booking_day, slot_days
from simulation.city import City, build_city
from simulation.events import make_events
from simulation.records.all import FEEDS
from simulation.records.write import deliver
from simulation.sizes import BOOKING_AHEAD_DAYS, CITY_VENUES, SIZES, Size, as_of
from simulation.sources import Sources
from simulation.times import midnight
from simulation.training import files_per_day
from simulation.truth import Truth
from simulation.visits import crowded, visit_day
from simulation.water import incident_pools, water_day

GENERATOR_VERSION = 7
"""Raised whenever the same seed would give other bytes; a folder of an older version is generated again."""

MARKER = ".tiyu-simulation"
PARTS = ("drops", "api", "truth", "waiting")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _claim(out: Path) -> None:
    """Make ``out`` ours and empty. Raises FileExistsError when it holds data we did not write."""
    out.mkdir(parents=True, exist_ok=True)
    if not (out / MARKER).exists():
        foreign = [p for p in (*PARTS, "world.json") if (out / p).exists()]
        if foreign:
            raise FileExistsError(
                f"{out} holds {', '.join(foreign)} that this program did not write; choose another folder"
            )
        (out / MARKER).write_text("written by python -m simulation generate\n", "utf-8")
    for name in ("world.json", "today.json"):
        (out / name).unlink(missing_ok=True)
    for part in PARTS:
        shutil.rmtree(out / part, ignore_errors=True)


def _tokens(out: Path) -> None:
    """Random bearer tokens, readable by the owner only; kept when they exist, since data does not depend on them."""
    path = out / "tokens.json"
    if not path.exists():
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as f:
            json.dump({"venue": secrets.token_urlsafe(24), "fitness": secrets.token_urlsafe(24)}, f)
    path.chmod(0o600)


def generate(
    size: str | Size, seed: int, out: Path | str, *, force: bool = False, say: Callable[[str], None] = _say
) -> dict[str, Any]:
    """Generate the city and return the contents of ``world.json``.

    The same size, seed and generator version give the same bytes (tokens excepted). A finished folder of the same
    city is left as it is unless ``force``; an unfinished one is written again from the start.
    Raises KeyError for an unknown size, FileExistsError when ``out`` holds foreign data.
    """
    chosen = SIZES[size] if isinstance(size, str) else size
    out = Path(out)
    world_file = out / "world.json"
    if world_file.exists() and not force:
        world = json.loads(world_file.read_text("utf-8"))
        if (world["size"], world["seed"], world["generator_version"], world["days"]) == (
            chosen.name,
            seed,
            GENERATOR_VERSION,
            chosen.days,
        ):
            _tokens(out)
            say(f"simulation: {out} already holds {chosen.name} with seed {seed}")
            return dict(world)
    started = time.monotonic()
    _claim(out)
    _tokens(out)
    city = build_city(chosen, seed)
    sources, truth, events = Sources(city, out), Truth(city), make_events(city)
    _write_days(city, sources, truth, started, say)
    _write_filings(city, sources, events)
    _write_records(city, sources, out / "truth")
    truth.events(events)
    sources.ledger.notes["venue.register"]["wrong_location_venues"] = city.wrong_location
    truth.write(out / "truth")
    sources.ledger.write(out / "truth")
    world = _world(city, sources)
    world_file.write_text(json.dumps(world, ensure_ascii=False, indent=1) + "\n", "utf-8")
    sent = sum(c["records_sent"] for c in world["counts"].values())
    say(f"simulation: {chosen.name} seed {seed}: {sent:,} records in {time.monotonic() - started:.1f} s")
    return world


def _write_days(city: City, sources: Sources, truth: Truth, started: float, say: Callable[[str], None]) -> None:
    snapshots = set(sources.snapshot_days())
    wanted, files = booking_counts(city), files_per_day(city)
    told = started
    for index, day in enumerate(slot_days(city)):
        bookings = booking_day(city, index, int(wanted[index]))
        sources.bookings(bookings)
        truth.bookings(bookings)
        # No slot day further ahead can bring an update of this day or an earlier one.
        sources.booking_api.flush(day - timedelta(days=BOOKING_AHEAD_DAYS + 1))
        if day <= city.last_date:
            visits, water = visit_day(city, index), water_day(city, index)
            sources.checkins(visits)
            sources.entries(visits)
            sources.checkin_api.flush(day - timedelta(days=1))
            sources.water(water)
            sources.training(index, int(files[index]))
            if day in snapshots:
                sources.register(day)
                sources.roster(day)
            truth.visits(visits)
            truth.water(water)
        if time.monotonic() - told > 1:
            told = time.monotonic()
            say(f"simulation: {day} ({index + 1}/{len(wanted)}) check-ins {sources.ledger.true['fitness.checkin']:,}")
    sources.booking_api.flush(city.last_date)
    sources.checkin_api.flush(city.last_date)


def _write_filings(city: City, sources: Sources, events: list[Any]) -> None:
    since = -(1 << 40)
    for day in sources.snapshot_days():
        upto = min(midnight(day) + 12 * 3600, city.now)
        sources.filings(day, since, upto, events)
        since = upto


def _write_records(city: City, sources: Sources, truth: Path) -> None:
    """The record-keeping sources: what each handed over first, and its deliveries since."""
    for feed in FEEDS:
        day = feed.starts(city)
        while day <= city.last_date:
            deliver(feed, city, day, sources, truth)
            day += timedelta(days=1)
    for api in sources.record_apis.values():
        api.flush(city.last_date)


def _world(city: City, sources: Sources) -> dict[str, Any]:
    size = city.size
    load, water = crowded(city), incident_pools(city)
    return {
        "size": size.name, "seed": city.seed, "generator_version": GENERATOR_VERSION, "days": size.days,
        "first_date": city.first_date.isoformat(), "last_date": city.last_date.isoformat(),
        "yesterday": city.yesterday.isoformat(), "as_of": as_of().isoformat(), "demo_scale": size.demo_scale,
        "demo_scale_note": f"venues of this size ÷ {CITY_VENUES} venues of the city size; scales population and targets",
        "venues": size.venues, "units": len(city.units), "pools": size.pools, "turnstile_venues": int(city.turnstile.sum()),
        "people": size.people, "athletes": size.athletes, "tokens_file": "tokens.json", "drops": "drops",
        "incidents": {
            "load_over_90_pct": city.venues[load[0]].venue_id, "load_over_100_pct": city.venues[load[1]].venue_id,
            "chlorine_recovered": city.units[water[0]].unit_id, "chlorine_still_open": city.units[water[1]].unit_id,
        },
        "counts": sources.ledger.counts(),
    }  # fmt: skip
