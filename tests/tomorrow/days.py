"""Days of a demo without its services: what the DAGs do, called in their order, on a simulated city and a mock center.

**State** of an installation, as compared here: the rows of every checked table of the lake, of every serving file, the newest version
of each open dataset, and the tables that the center holds. Left out is how and when it got there: which batch, file, record and run
brought a row (`ARRIVAL`), how often the same record was received, when a source last brought something (a register that did not change
since day 0 was handed over later to a demo that began later), which versions were read, the platform's own log (`ops_*`), and
how the newest delivery of a source arrived (`reason`, alert IN-01). Identity keys are the same on both sides, so tokens compare.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from catalog import contracts
from ingestion.catch_up import waves
from simulation import api
from simulation.advance import advance, today
from simulation.center.service import Behaviour, work
from simulation.center.state import State
from simulation.generate import generate
from simulation.sizes import Size

_SOURCES = contracts.fetched()
RESOURCES = [name for wave in waves(_SOURCES, _SOURCES) for name in wave]
"""Every source of the contracts; the register first, as in the demo."""
ARRIVAL = frozenset(
    {
        "_batch_id", "_record_no", "_source_object", "_ingested_at", "input_versions", "checked_version", "built_at",
        "received_count", "accepted_count", "quarantined_count", "duplicate_count", "reason",
        "last_success_at",
    }
)  # fmt: skip


class Installation:
    """One state folder with its city and its center, in this process."""

    def __init__(
        self, folder: Path, size: Size, seed: int, patch: pytest.MonkeyPatch, keys_of: Installation | None = None
    ):
        self.folder, self.patch = folder, patch
        self.home, self.city = folder / "home", folder / "city"
        self.failed: list[tuple[int, str]] = []
        generate(size, seed, self.city, say=lambda text: None)
        if keys_of is not None:
            shutil.copytree(keys_of.home / "keys", self.home / "keys")

    def use(self, served: api.Running) -> None:
        """Point this process at the installation; the business clock is the city's present."""
        for name in ("LAKE_ROOT", "TIYU_LEDGER_URL", "TIYU_TODAY", "TIYU_EXCHANGE_RECEIPT_KEY"):
            self.patch.delenv(name, raising=False)
        self.patch.setenv("TIYU_HOME", str(self.home))
        self.patch.setenv("TIYU_AS_OF", today(self.city)["as_of"])
        for name, value in served.connections.items():
            self.patch.setenv(name, value)

    def ingest(self, served: api.Running, *, gate: bool = True) -> None:
        """Every source; one that cannot be had does not stop the others. Without ``gate`` what came is trusted (quicker)."""
        from ingestion.run import ingest
        from lake import ledger, tables
        from lake.errors import EXIT_UNAVAILABLE, TiyuError
        from protection import keys
        from quality.gate import run_gate

        self.use(served)
        keys.ensure()
        for resource in RESOURCES:
            try:
                ingest(resource)
            except TiyuError as error:
                if error.exit_code != EXIT_UNAVAILABLE:
                    raise
                self.failed.append((today(self.city)["number"], resource))
                continue
            names = [obj.table for obj in contracts.load(resource).objects]
            if gate:
                run_gate(names)
                continue
            for name in names:
                ledger.set_checked_version(name, int(tables.version(name) or 0), "test")

    def fetch_again(self, served: api.Running, first: date, last: date) -> dict[str, int]:
        """An operator's backfill of every source over these days; accepted rows by resource."""
        from ingestion.backfill import backfill
        from quality.gate import run_gate

        self.use(served)
        accepted = {}
        for resource in RESOURCES:
            accepted[resource] = backfill(resource, first, last).ingest.accepted
            run_gate([obj.table for obj in contracts.load(resource).objects])
        return accepted

    def build_and_share(self, served: api.Running, *, full: bool = False) -> None:
        """Layers, serving files, deliveries and answers, open data. ``full``: every model from scratch."""
        from catalog.publish import publish_reference
        from dags.verbs import publish_serving
        from lake import tables
        from modeling.run import LAYERS, build
        from quality.gate import run_gate
        from quality.ops import publish_ops
        from sharing.exchange import receipts, run
        from sharing.open_data.build import build_open_data

        self.use(served)
        publish_reference()
        publish_ops()
        for layer in LAYERS:
            build(layer, full_refresh=full)
        run_gate([name for name in tables.all_tables() if tables.layer_of(name) == "ads"])
        publish_ops()
        publish_serving()
        run.run_exchange()
        self.center()
        run.mend_refused()
        self.center()
        receipts.receive()
        build_open_data()

    def center(self) -> None:
        """One pass of the center."""
        state = State(self.folder / "center")
        try:
            work(self.home / "exchange/outbox", self.home / "exchange/inbox", state, Behaviour(world=self.city))
        finally:
            state.close()

    def live(self, days: int, each: Any = None) -> None:
        """Day 0, then one day after the other."""
        with api.start(self.city) as served:
            for number in range(days + 1):
                if number:
                    advance(self.city, say=lambda text: None)
                self.ingest(served)
                self.build_and_share(served)
                if each is not None:
                    each(number)

    def begin_at(self, day: int) -> None:
        """History up to the day before, handed over at once; then that day."""
        with api.start(self.city) as served:
            advance(self.city, day - 1, uninterrupted=True, say=lambda text: None)
            self.ingest(served)
            advance(self.city, say=lambda text: None)
            self.ingest(served)
            self.build_and_share(served)

    def state(self) -> dict[str, Any]:
        """Name → rows and digest (see the module's definition)."""
        return {**self._lake(), **self._serving(), **self._open(), **self._held()}

    def differs_from_truth(self) -> list[str]:
        """KPI rows whose numerator or denominator is not what the city knows to be true; empty when all are."""
        from lake import query

        self.patch.setenv("TIYU_HOME", str(self.home))
        truth = f"read_csv('{self.city}/truth/kpi*.csv', union_by_name => true, all_varchar => true)"
        keys = "kpi_code, coalesce(variant_code, '') as variant, period_start_date::date as day, district_code"
        numbers = "numerator::double as n, denominator::double as d"
        with query.connect() as con:
            assert query.register(con, "ads_cockpit__kpi", "checked") is not None
            # a district without a denominator has no row in the truth; D-06 is no matter of the city
            found = con.execute(
                f"""with t as (select {keys}, {numbers} from {truth}),
                k as (select {keys}, {numbers} from ads_cockpit__kpi)
                select t.kpi_code, t.variant, t.day, t.district_code, t.n, t.d, k.n, k.d from t
                left join k using (kpi_code, variant, day, district_code)
                where k.n is distinct from t.n or (t.d is not null and k.d is distinct from t.d) order by all"""
            ).fetchall()
            examined = con.execute(f"select count(*) from {truth}").fetchone()
        assert examined is not None
        assert examined[0] > 100
        return [" ".join(map(str, row)) for row in found]

    def _lake(self) -> dict[str, Any]:
        from lake import ledger, query, tables

        self.patch.setenv("TIYU_HOME", str(self.home))
        found: dict[str, Any] = {}
        with query.connect() as con:
            con.execute("set timezone='Asia/Shanghai'")
            for name in tables.all_tables():
                version = ledger.checked_version(name)
                if not name.startswith("ops_") and version is not None:
                    found[f"lake/{name}"] = _digest(con, query.scan_sql(name, version), name)
        return found

    def _serving(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for path in sorted((self.home / "serving").rglob("*.duckdb")):
            con = duckdb.connect(str(path), read_only=True)
            con.execute("set timezone='Asia/Shanghai'")
            for schema, name in con.execute(
                "select schema_name, table_name from duckdb_tables() order by all"
            ).fetchall():
                if not name.startswith(("ops_", "catalog_")):
                    found[f"{path.stem}/{schema}.{name}"] = _digest(con, f'"{schema}"."{name}"', name)
            con.close()
        return found

    def _open(self) -> dict[str, Any]:
        found = {}
        for listing in sorted((self.home / "open").glob("*/versions.json")):
            newest = json.loads(listing.read_text("utf-8"))[-1]
            data = (listing.parent / newest["version"] / newest["formats"]["csv"]).read_bytes()
            found[f"open/{listing.parent.name}"] = (newest["row_count"], hashlib.sha256(data).hexdigest())
        return found

    def _held(self) -> dict[str, Any]:
        if not (self.folder / "center").is_dir():
            return {}
        state = State(self.folder / "center")
        try:
            codes = [row[0] for row in state.db.execute("select distinct resource_code from record").fetchall()]
            return {f"center/{code}": (len(state.table(code)), state.table(code)) for code in codes}
        finally:
            state.close()


def _digest(con: duckdb.DuckDBPyConnection, source: str, name: str) -> tuple[int, str]:
    columns = sorted(
        row[0] for row in con.execute(f"describe select * from {source}").fetchall() if row[0] not in ARRIVAL
    )
    row = "md5(concat_ws('|', " + ", ".join(f'coalesce(cast("{c}" as varchar), chr(0))' for c in columns) + "))"
    where = " where rule_code <> 'IN-01'" if name == "ads_supervision__alert" else ""
    found = con.execute(
        f"select count(*), md5(string_agg(h, '' order by h)) from (select {row} as h from {source}{where})"
    ).fetchone()
    assert found is not None
    return int(found[0]), str(found[1])


def compare(expected: dict[str, Any], found: dict[str, Any]) -> int:
    """How many rows are the same; fails with the names of the tables that differ, and when there was nothing to compare."""
    different = [
        f"{name} ({expected.get(name, ('no',))[0]} and {found.get(name, ('no',))[0]} rows)"
        for name in sorted({*expected, *found})
        if expected.get(name) != found.get(name)
    ]
    assert not different, different
    examined = sum(rows for rows, _ in found.values())
    assert examined, "nothing was compared"
    return int(examined)
