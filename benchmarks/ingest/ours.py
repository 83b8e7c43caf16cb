"""The platform's own ingest, in a process of its own: ``python -m benchmarks.ingest.ours WORK …``.

The home folder (``TIYU_HOME``) is given by the caller; each measured call is the whole `ingestion.run.ingest`.
"""

from __future__ import annotations

import datetime as dt
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.ingest import data, probe

CONTRACTS = Path(__file__).resolve().parent / "contracts"
AS_OF = "2031-12-31T12:00:00+08:00"


def _prepare(folder: str, decoder: str) -> Any:
    """Keys, clock, connection, and the benchmark's contract in place of the catalogue's."""
    os.environ.update(TIYU_AS_OF=AS_OF, TIYU_TODAY=AS_OF[:10], TIYU_CONN_BENCH_DROP=f"file://{folder}")
    import pandas  # noqa: F401 - pyarrow loads it with the first array that it makes

    from catalog import contracts
    from ingestion import sources
    from lake.errors import TiyuError
    from protection import keys

    keys.ensure()
    contracts.load_all()  # read once a process by every command; not part of one ingest
    contract = contracts.read_contract(CONTRACTS / "training" / "wearable_sample.odcs.yaml")
    assert contract.server is not None
    contract = contract.model_copy(update={"server": contract.server.model_copy(update={"decoder": decoder})})
    found = sources.contract_of

    def ours(resource: str) -> Any:
        try:
            return found(resource)
        except TiyuError:
            return contract

    sources.contract_of = ours
    return contract


def _counts(report: Any) -> dict[str, Any]:
    assert report.decoded == report.accepted + report.quarantined + report.duplicate
    return {
        "rows": report.decoded,
        "accepted": report.accepted,
        "quarantined": report.quarantined,
        "duplicate": report.duplicate,
        "batches": len(report.batches),
    }


def samples(folder: str, decoder: str, max_bytes: str = "0") -> None:
    """Ingest a folder of samples; ``max_bytes`` (0: default) makes it one batch."""
    contract = _prepare(folder, decoder)
    from ingestion.run import ingest

    probe.measure(lambda: _counts(ingest(contract.id, max_bytes=int(max_bytes) or None)))


def days(folder: str, decoder: str, history: str, rows: str, repeat: str) -> None:
    """Ingest one day after another into a table that holds ``history`` days already; seconds of each."""
    contract = _prepare(folder, decoder)
    import polars as pl

    from catalog.schemas import ods_schema
    from ingestion.run import ingest
    from lake import tables

    schema = ods_schema(contract.root)
    first = data.FIRST_DAY - dt.timedelta(days=int(history))
    for number in range(int(history)):
        day = first + dt.timedelta(days=number)
        at = dt.datetime.combine(day, dt.time(4), dt.UTC)
        frame = pl.DataFrame({"_record_no": range(1, 1_001)}).with_columns(
            athlete_token=pl.lit("athlete_no_k1_aaaaaaaaaaaaaaaaaaaaaaaaaa"),
            device_no=pl.lit("WD-000001"),
            sampled_at=pl.lit(at).cast(pl.Datetime("us", "UTC")) + pl.duration(seconds=pl.col("_record_no")),
            heart_rate_bpm=pl.lit(120, pl.Int32),
            part_date=pl.lit(day),
            _batch_id=pl.lit(f"b_{number}"),
            _source_object=pl.lit("0" * 64),
            _ingested_at=pl.lit(at).cast(pl.Datetime("us", "UTC")),
        )
        missing = [pl.lit(None, pl.String).alias(name) for name in schema.names if name not in frame.columns]
        rows_of_day = frame.with_columns(missing).select(schema.names).to_arrow()
        import pyarrow as pa

        plain = pa.schema([pa.field(f.name, f.type) for f in schema])
        tables.append(contract.root.table, rows_of_day.cast(plain), batch_id=f"b_{number}")
    times = []
    for number in range(int(repeat)):
        day = data.FIRST_DAY + dt.timedelta(days=number)
        data.write_samples(Path(folder) / f"{day}.{decoder}", int(rows), decoder, day, int(rows))
        report = ingest(contract.id)
        assert report.decoded == int(rows)
        times.append(report.seconds)
    probe.measure(lambda: {"times": times, "files": len(tables.open_table(contract.root.table).file_uris())})


def fit_decode(folder: str) -> None:
    """Decode a folder of FIT activities; nothing is stored. The same sums as the peer's are given back."""
    from ingestion.decoders import activity

    objects = [
        (f"{number:064d}", path.name, path.read_bytes())
        for number, path in enumerate(sorted(Path(folder).rglob("*.fit")))
    ]
    activity.decode_chunk({}, objects[:4])

    def work() -> dict[str, Any]:
        totals = {"samples": 0.0, "heart_rate": 0.0, "distance": 0.0, "speed": 0.0, "power": 0.0}
        step = 50
        for start in range(0, len(objects), step):
            found = activity.decode_chunk({}, objects[start : start + step])
            assert not found.issues
            assert not found.refusals
            table = found.tables["ods_training__activity_sample"]
            totals["samples"] += table.num_rows
            import pyarrow.compute as pc

            for name, column in (
                ("heart_rate", "heart_rate_bpm"),
                ("distance", "distance_m"),
                ("speed", "speed_m_s"),
                ("power", "power_w"),
            ):
                totals[name] += pc.sum(table[column]).as_py()
        return {"totals": totals, "files": len(objects)}

    probe.measure(work)


def fit_ingest(folder: str) -> None:
    """The whole ingest of a folder of FIT activities."""
    _prepare(folder, "ndjson")
    import ingestion.decoders.activity  # noqa: F401 - loaded when a contract asks for it
    from ingestion.run import ingest

    probe.measure(lambda: _counts(ingest("training.activity", folder)))


WORK = {"samples": samples, "days": days, "fit_decode": fit_decode, "fit_ingest": fit_ingest}

if __name__ == "__main__":
    WORK[sys.argv[1]](*sys.argv[2:])
