"""History that is restated: files sent again, a backfill of days, a contract change re-read from the archive.

After each of them the layers follow by partition, and an incremental build equals a full one, row for row.
"""

from __future__ import annotations

import os
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from test_incremental_equals_full import TODAY, VENUES, build_all, only, rows_of

from catalog import contracts
from ingestion.backfill import backfill
from ingestion.reread import reread
from ingestion.run import ingest
from lake import ledger, tables
from quality.reconcile import reconcile

pytestmark = pytest.mark.data

WATER, TABLE = "supervision.water_reading", "ods_supervision__water_reading"
MODELS = ("dwd_supervision__water_reading", "dws_supervision__daily_water")
FILE = contracts.FOLDER / "sources" / "supervision" / "water_reading.odcs.yaml"
FIRST = date(2026, 11, 10)


@pytest.fixture
def drop(small_lake, tmp_path, monkeypatch):
    """Five days of readings of one pool, one file a day."""
    from protection import keys

    keys.ensure()
    monkeypatch.setenv("TIYU_AS_OF", f"{TODAY.isoformat()}T12:00:00+08:00")
    folder = tmp_path / "drop"
    monkeypatch.setenv("TIYU_CONN_CITY_DROP", f"file://{folder}")
    for n in range(5):
        send(folder, FIRST + timedelta(days=n), [7.2, 7.4, 7.6 + n / 10])
    return folder


def send(folder, day: date, values: list[float], hour: int = 9) -> None:
    """A file of pH readings, an hour apart, complete long enough ago to be taken."""
    target = folder / "supervision" / "water_reading" / f"{day:%Y%m%d}" / f"water_{day:%Y%m%d}_09.csv"
    target.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{VENUES[0]}-U01,D-1,{day} {hour + n:02d}:00:00,ph,{value},pH,online" for n, value in enumerate(values)]
    target.write_text("\n".join(["pool_id,device_id,sampled_at,item,value,unit,method", *lines]) + "\n", "utf-8")
    old = target.stat().st_mtime - 3600
    os.utime(target, (old, old))


def follow(compiled_models, today: date = TODAY) -> dict[str, str]:
    """Let the new ODS head be seen and build; returns what was done to each model."""
    ledger.set_checked_version(TABLE, tables.version(TABLE), "test")
    base, sql = only(compiled_models[0], MODELS), compiled_models[1]
    done = build_all(base, sql, today)
    return {name: done.plans[name].action for name in MODELS}


def equals_full(compiled_models) -> None:
    """Row for row, for tables that hold rows."""
    base, sql = only(compiled_models[0], MODELS), compiled_models[1]
    incremental = {name: rows_of(name) for name in MODELS}
    assert all(incremental.values())
    build_all(base, sql, TODAY, full=True)
    assert {name for name in MODELS if rows_of(name) != incremental[name]} == set()
    report = reconcile(WATER)
    assert report.ok, report.problems


def test_layers_follow_restated_history_and_equal_a_full_rebuild(drop, compiled_models, monkeypatch):
    ingest(WATER)
    follow(compiled_models)
    first = {name: rows_of(name) for name in MODELS}

    # the source sends a day again with a reading it had left out: taken by the scheduled ingest
    send(drop, FIRST, [7.2, 7.4, 7.6, 8.9])
    assert ingest(WATER).accepted == 1
    assert set(follow(compiled_models).values()) == {"windows"}
    assert rows_of(MODELS[0]) != first[MODELS[0]]
    equals_full(compiled_models)

    # an operator reads two days again; only those change, though a third was sent again as well
    for n in (1, 2, 3):
        send(drop, FIRST + timedelta(days=n), [7.2, 7.4, 7.6 + n / 10, 6.1])
    before = {name: rows_of(name) for name in MODELS}
    report = backfill(WATER, FIRST + timedelta(days=1), FIRST + timedelta(days=2))
    assert report.ingest.accepted == 2
    assert report.part_dates == {TABLE: [FIRST + timedelta(days=1), FIRST + timedelta(days=2)]}
    assert set(follow(compiled_models).values()) == {"windows"}
    changed = {row[-1] for row in set(rows_of(MODELS[0])) ^ set(before[MODELS[0]])}
    assert changed == {FIRST + timedelta(days=1), FIRST + timedelta(days=2)}
    equals_full(compiled_models)

    # the contract changes: a stricter rule refuses readings of the past, which the layers must lose
    text = FILE.read_text("utf-8").replace("version: 1.0.0", "version: 1.1.0")
    stricter = contracts.read_contract(FILE, text=text.replace("              max: 14\n", "              max: 7.9\n"))
    real = contracts.load_all
    monkeypatch.setattr(
        contracts,
        "load_all",
        lambda kind=None, **options: {k: stricter if k == WATER else v for k, v in real(kind, **options).items()},
    )
    before = {name: rows_of(name) for name in MODELS}
    done = reread(WATER)
    assert done.after["quarantined"] - done.before["quarantined"] == 2, "8.9 and 8.0"
    follow(compiled_models)
    assert len(rows_of(MODELS[0])) == len(before[MODELS[0]]) - 2
    equals_full(compiled_models)
