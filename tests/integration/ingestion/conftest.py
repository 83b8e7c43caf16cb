"""A source that tests declare as they need it (`meters`): its contract, its drop folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "unit" / "ingestion"))
sys.path.insert(0, str(Path(__file__).parent))

import meters
from meter_lake import METER

from catalog import contracts
from ingestion.run import ingest
from protection import keys


@pytest.fixture
def declare(monkeypatch):
    """Put a contract of the meters beside those of the platform."""
    real = contracts.load_all

    def use(version: str = "1.0.0", *, state_from: str = "state", **behaviour) -> None:
        text = meters.text(**behaviour).replace("version: 1.0.0", f"version: {version}")
        text = text.replace("physicalName: state", f"physicalName: {state_from}")
        changed = contracts.read_contract(meters.PATH, text=text)

        def load_all(kind=None, **options):
            return {**real(kind, **options), METER: changed}

        monkeypatch.setattr(contracts, "load_all", load_all)

    return use


@pytest.fixture
def deliver(home, tmp_path, monkeypatch):
    """Lay a file into the drop folder and take it in; times are those of noon of the business day."""
    keys.ensure()
    folder = tmp_path / "drop"
    monkeypatch.setenv("TIYU_CONN_CITY_DROP", f"file://{folder}")
    monkeypatch.setenv("TIYU_TODAY", "2026-11-20")

    def lay(name: str, *rows: dict[str, str], content: str | None = None, take_in: bool = True):
        (folder / "venue" / "meter").mkdir(parents=True, exist_ok=True)
        lines = [
            ",".join(meters.COLUMNS),
            *(",".join(row.get(column, "") for column in meters.COLUMNS) for row in rows),
        ]
        (folder / "venue" / "meter" / name).write_text(
            content if content is not None else "\n".join(lines) + "\n", "utf-8"
        )
        return ingest(METER) if take_in else None

    return lay
