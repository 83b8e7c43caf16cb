"""The peers, each in a process of its own: ``python peers.py NAME SOURCE TARGET [ROWS]``.

Runs in the peers' environment (requirements/bench.txt) and imports nothing of the platform.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import probe


def _reader(source: str) -> Any:
    import duckdb

    con = duckdb.connect(config={"threads": 2})
    function = "read_json" if source.endswith(".ndjson") else "read_csv"
    return con, con.execute(f"SELECT * FROM {function}('{source}')").to_arrow_reader(100_000)


def bare(source: str, target: str, rows: int) -> None:
    """DuckDB reads, delta-rs writes: nothing is archived, checked, protected or accounted for."""
    import duckdb
    from deltalake import DeltaTable, write_deltalake

    def work() -> dict[str, Any]:
        _, reader = _reader(source)
        write_deltalake(target, reader)
        return {}

    duckdb.connect().execute("SELECT 1")
    probe.measure(work, rows=rows, versions=_versions("duckdb", "deltalake"))
    assert DeltaTable(target).version() == 0


def _pipeline(target: str) -> Any:
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    os.environ["RUNTIME__LOG_LEVEL"] = "ERROR"
    import dlt

    return dlt.pipeline(
        pipeline_name="bench",
        pipelines_dir=f"{target}/state",
        destination=dlt.destinations.filesystem(f"file://{target}/lake"),
        dataset_name="samples",
    )


def dlt_arrow(source: str, target: str, rows: int) -> None:
    """dlt into a Delta table, fed with Arrow batches that DuckDB reads from the file."""
    import dlt

    pipeline = _pipeline(target)

    def work() -> dict[str, Any]:
        @dlt.resource(name="sample", table_format="delta", write_disposition="append")
        def samples() -> Iterator[Any]:
            _, reader = _reader(source)
            yield from reader

        pipeline.run(samples()).raise_on_failed_jobs()
        return {}

    probe.measure(work, rows=rows, versions=_versions("dlt", "duckdb", "deltalake"))


def dlt_dicts(source: str, target: str, rows: int) -> None:
    """dlt into a Delta table, fed with one dict a row, as most of its sources do; the first ``rows`` of the file."""
    import dlt

    pipeline = _pipeline(target)

    def records() -> Iterator[dict[str, Any]]:
        with open(source, encoding="utf-8", newline="") as file:
            yield from islice(map(json.loads, file) if source.endswith(".ndjson") else csv.DictReader(file), rows)

    def work() -> dict[str, Any]:
        @dlt.resource(name="sample", table_format="delta", write_disposition="append")
        def samples() -> Iterator[Any]:
            yield from records()

        pipeline.run(samples()).raise_on_failed_jobs()
        return {}

    probe.measure(work, rows=rows, versions=_versions("dlt", "deltalake"))


def _fit_values(path: Path) -> dict[str, Any]:
    """Every record of a file as fitdecode gives it: its count, and sums that any reader must agree on."""
    import fitdecode

    sums: dict[str, float] = {}
    count = 0
    with fitdecode.FitReader(path.read_bytes()) as reader:
        for frame in reader:
            if frame.frame_type == fitdecode.FIT_FRAME_DATA and frame.name == "record":
                count += 1
                for item in frame.fields:
                    if isinstance(item.value, int | float) and item.name in (
                        "heart_rate",
                        "distance",
                        "speed",
                        "power",
                    ):
                        sums[item.name] = sums.get(item.name, 0.0) + item.value
    return {"samples": count, **sums}


def fitdecode_folder(source: str, target: str, rows: int) -> None:
    """fitdecode over a folder of activities in ``rows`` processes; nothing is stored."""
    files = sorted(Path(source).rglob("*.fit"))

    def work() -> dict[str, Any]:
        if rows == 1:
            found = [_fit_values(path) for path in files]
        else:
            with ProcessPoolExecutor(rows) as pool:
                found = list(pool.map(_fit_values, files, chunksize=10))
        totals: dict[str, float] = {}
        for item in found:
            for name, value in item.items():
                totals[name] = totals.get(name, 0) + value
        return {"totals": totals, "files": len(files)}

    probe.measure(work, versions=_versions("fitdecode"))


def _versions(*names: str) -> dict[str, str]:
    return {name: metadata.version(name) for name in names}


PEERS = {"bare": bare, "dlt_arrow": dlt_arrow, "dlt_dicts": dlt_dicts, "fitdecode": fitdecode_folder}

if __name__ == "__main__":
    PEERS[sys.argv[1]](sys.argv[2], sys.argv[3], int(sys.argv[4]))
