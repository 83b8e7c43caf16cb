"""A small simulated city for integration tests: generated once a session, served on loopback."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEED = 20260101
#: venue.register first: the others refer to it.
RESOURCES = (
    "venue.register",
    "venue.booking",
    "venue.entry",
    "event.filing",
    "fitness.checkin",
    "supervision.water_reading",
    "training.athlete",
    "training.activity",
)


@dataclass(frozen=True)
class City:
    """A generated city: its folder and the truth written beside it."""

    folder: Path

    def truth(self, name: str) -> Any:
        """One JSON file of the ground truth."""
        return json.loads((self.folder / "truth" / f"{name}.json").read_text("utf-8"))


def generate(folder: Path) -> City:
    """The `tiny` city."""
    from simulation.__main__ import main

    assert main(["generate", "--size", "tiny", "--seed", str(SEED), "--out", str(folder)]) == 0
    return City(folder)


@contextlib.contextmanager
def connected(city: City, monkeypatch) -> Iterator[None]:
    """Serve the city's REST APIs and point the connections of the platform at it."""
    from simulation import api

    tokens = json.loads((city.folder / "tokens.json").read_text("utf-8"))
    with api.start(city.folder, port_venue=0, port_fitness=0) as servers:
        monkeypatch.setenv("TIYU_CONN_CITY_DROP", f"file://{city.folder / 'drops'}")
        for name in ("venue", "fitness"):
            url = getattr(servers, f"{name}_url")
            monkeypatch.setenv(f"TIYU_CONN_{name.upper()}_API", url.replace("http://", f"http://:{tokens[name]}@"))
        yield


def ingest_and_trust(resource: str):
    """Ingest a resource and mark its tables checked, for tests that are not about the gate."""
    from catalog import contracts
    from ingestion.run import ingest
    from lake import ledger, tables

    report = ingest(resource)
    for obj in contracts.load(resource).objects:
        version = tables.version(obj.table)
        if version is not None:
            ledger.set_checked_version(obj.table, version, "test")
    return report
