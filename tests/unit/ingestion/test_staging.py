"""Staging: what a batch stores does not depend on how much of it was held in memory."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from catalog import contracts
from catalog.contracts import ObjectSpec
from catalog.contracts.behaviour import Dedup
from catalog.schemas import ods_schema
from ingestion import staging as staging_module
from ingestion.decoders.base import RECORD_NO
from ingestion.dedup import deduplicate
from ingestion.key_files import KEY, PLACE, SEQ, KeyFiles, positions_in_order
from ingestion.key_hashes import KeyHashes, Seen, positions, repeated_within
from ingestion.staging import Settled, Staging, clean
from lake import data_files, query, tables
from lake.data_files import DataFileWriter
from lake.errors import TiyuError
from lake.settings import settings as lake_settings
from lake.storage import fault

RESOURCE = "venue.entry"
AS_OF = dt.datetime(2026, 11, 20, 4, tzinfo=dt.UTC)
BATCH = {"batch_id": "b_1", "as_of_at": AS_OF}
ORDER = {"a" * 64: 1, "b" * 64: 2}


def dated():
    """The entries' object with the date in its key: only then are rows written before all of them are known."""
    root = contracts.load(RESOURCE).root
    key = [*root.dedup, "passed_at"]
    return root.model_copy(update={"dedup": key, "dedup_rule": Dedup(key=key)})


def entries(rows: list[tuple[int, str, int]], sha: str, first: int = 1) -> pa.Table:
    """Accepted turnstile entries as a chunk gives them: (sequence number, venue, day of November)."""
    obj = contracts.load(RESOURCE).root
    at = [dt.datetime(2026, 11, day, 2, tzinfo=dt.UTC) for _, _, day in rows]
    frame = pl.DataFrame(
        {
            "device_id": ["D1"] * len(rows),
            "seq_no": [number for number, _, _ in rows],
            "venue_id": [venue for _, venue, _ in rows],
            "passed_at": at,
            "part_date": [moment.date() for moment in at],
            "_record_no": list(range(first, first + len(rows))),
            "_source_object": [sha] * len(rows),
        },
        schema_overrides={"passed_at": pl.Datetime("us", "UTC"), "seq_no": pl.Int64},
    )
    missing = [pl.lit(None, pl.String).alias(p.name) for p in obj.properties if p.name not in frame.columns]
    names = [p.name for p in obj.properties] + ["part_date", "_record_no", "_source_object"]
    arrow = frame.with_columns(missing).select(names).to_arrow()
    wanted = {f.name: f.type for f in ods_schema(obj)}
    return arrow.cast(pa.schema([pa.field(name, wanted[name]) for name in names]))


def folded(chunk: pa.Table, number: int) -> pa.Table:
    """The chunk with some of its text columns as dictionaries, others in every chunk: so they come from the split."""
    return pa.table(
        {
            name: column.dictionary_encode() if pa.types.is_string(column.type) and (place + number) % 2 else column
            for place, (name, column) in enumerate(zip(chunk.column_names, chunk.columns, strict=True))
        }
    )


def settled(
    chunks: list[pa.Table], held_bytes: int, drop: str | None = None, obj: ObjectSpec | None = None
) -> tuple[Settled, pl.DataFrame]:
    """Settle chunks and give the rows that would be stored, in one order."""
    with Staging(obj or dated(), RESOURCE, BATCH, ORDER, held_bytes) as staging:
        for number, chunk in enumerate(chunks):
            staging.add(folded(chunk, number))
        if drop:
            staging.drop_object(drop)
        result = staging.settle()
        if result.unique is not None:
            rows = result.unique
        else:
            parts = [data_files.read(file).drop_columns(["_batch_id", "_ingested_at"]) for file in result.files]
            rows = pl.DataFrame(pa.concat_tables(parts)) if parts else pl.DataFrame(chunks[0]).clear()
    names = sorted(rows.columns)
    return result, rows.select(names).sort("_source_object", "_record_no")


_ROW = st.tuples(st.integers(1, 6), st.sampled_from(["V1", "V2"]), st.integers(1, 3))


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    chunks=st.lists(st.lists(_ROW, min_size=1, max_size=6), min_size=1, max_size=5),
    drop=st.sampled_from([None, "b" * 64]),
)
def test_the_same_rows_whether_held_or_written(home, chunks, drop):
    given_chunks, number = [], 1
    for place, rows in enumerate(chunks):
        sha = "a" * 64 if place < 2 else "b" * 64
        number = 1 if place == 2 else number
        given_chunks.append(entries(rows, sha, number))
        number += len(rows)
    # all chunks of one object lie together, so dropping the second one leaves the first as it was
    held, held_rows = settled(given_chunks, 1 << 30, drop)
    written, written_rows = settled(given_chunks, 1, drop)
    assert held.unique is not None
    assert written_rows.equals(held_rows)
    assert (written.accepted, written.duplicate, written.part_dates) == (held.accepted, held.duplicate, held.part_dates)
    assert written.conflicts.sort(pl.all()).equals(held.conflicts.sort(pl.all()))
    total = sum(len(rows) for place, rows in enumerate(chunks) if not drop or place < 2)
    assert sum(held.accepted.values()) + sum(held.duplicate.values()) + held.conflicts.height == total


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    stored=st.lists(_ROW, min_size=1, max_size=5),
    chunks=st.lists(st.lists(_ROW, min_size=1, max_size=5), min_size=1, max_size=3),
    has_date=st.booleans(),
)
@example(stored=[(1, "V1", 1)], chunks=[[(1, "V1", 3)], [(2, "V1", 1)]], has_date=False)
def test_the_verdicts_are_those_over_all_rows_at_once(tmp_path, monkeypatch, stored, chunks, has_date):
    monkeypatch.setenv("TIYU_HOME", str(tmp_path / uuid.uuid4().hex))
    obj = dated() if has_date else contracts.load(RESOURCE).root
    schema = pa.schema([pa.field(f.name, f.type) for f in ods_schema(obj)])
    with Staging(obj, RESOURCE, {**BATCH, "batch_id": "b_0"}, {"c" * 64: 1}, 1 << 30) as staging:
        staging.add(entries(stored, "c" * 64))
        rows = staging.settle().unique
    assert rows is not None
    technical = {"_batch_id": "b_0", "_ingested_at": AS_OF}
    rows = rows.with_columns(**{name: pl.lit(value) for name, value in technical.items()}).select(schema.names)
    tables.append(obj.table, rows.to_arrow().cast(schema), batch_id="b_0")
    parts, number = [], 1
    for part in chunks:
        parts.append(entries(part, "a" * 64, number))
        number += len(part)
    at_once = deduplicate(
        pl.DataFrame(pa.concat_tables(parts)), obj, BATCH["batch_id"], ORDER, same_key_is_duplicate=False
    )
    for held_bytes in (1, 1 << 30):
        result, kept = settled(parts, held_bytes, obj=obj)
        assert (result.unique is None) == (has_date and held_bytes == 1 and kept.height > 0) or not result.files
        assert kept["_record_no"].to_list() == at_once.unique["_record_no"].sort().to_list()
        assert result.duplicate.get("a" * 64, 0) == at_once.duplicates.height
        assert sorted(result.conflicts["_record_no"]) == sorted(at_once.conflicts["_record_no"])


def test_no_key_that_came_before_is_overlooked():
    chance = np.random.default_rng(3)
    seen, before = Seen(), set()
    for size in (10, 100_000, 200_000, 1):
        keys = np.sort(chance.integers(0, 1 << 18, size, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
        maybe = seen.maybe(keys)
        assert all(maybe[place] for place, key in enumerate(keys.tolist()) if key in before)
        once, counts = np.unique(keys, return_counts=True)
        assert sorted(repeated_within(keys)) == once[counts > 1].tolist()
        seen.add(keys)
        before.update(keys.tolist())
    assert seen.size <= 1 << 26
    others = np.sort(np.arange(1 << 20, (1 << 20) + 1000, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    assert not seen.maybe(others).all()
    seen.forget()
    assert seen.maybe(np.arange(3, dtype=np.uint64)).all(), "what is forgotten may have been there"
    seen.add(np.arange(3, dtype=np.uint64))
    assert seen.size == 0


def test_hashes_are_found_among_many():
    chance = np.random.default_rng(4)
    keys = chance.integers(0, 5_000, 20_000, dtype=np.uint64) << np.uint64(40)  # last bits that are all alike
    for wanted in (keys[:3], keys[::7], keys, np.array([1, 2], np.uint64), keys[:0]):
        assert positions(keys, wanted).tolist() == np.flatnonzero(np.isin(keys, wanted)).tolist()
    assert not len(positions(keys[:0], keys))


def test_hashes_in_order_are_found_among_many():
    chance = np.random.default_rng(5)
    keys = np.sort(chance.integers(0, 3_000, 5_000, dtype=np.uint64))
    for wanted in (np.unique(keys[:9]), np.unique(keys), np.array([1, 2, 9_999], np.uint64), keys[:0]):
        assert positions_in_order(keys, wanted).tolist() == np.flatnonzero(np.isin(keys, wanted)).tolist()
    assert not len(positions_in_order(keys[:0], keys[:3]))


def test_dates_that_are_forgotten_keep_their_keys(home, monkeypatch):
    rows = [(number, "V1", day) for day in (1, 2, 3) for number in range(1, 40)]
    chunks = [entries(rows, "a" * 64), entries(rows[:50], "b" * 64), entries(rows, "b" * 64, 51)]
    usual, _ = settled(chunks, 1)
    for name in ("SEEN_BYTES", "HELD_BYTES"):
        monkeypatch.setattr(f"ingestion.key_hashes.{name}", 1)
        careful, kept = settled(chunks, 1)
        assert kept.height == len(rows)
        assert careful.duplicate == usual.duplicate == {"b" * 64: 50 + len(rows)}


def test_a_day_that_seems_over_and_comes_back_keeps_its_keys(tmp_path):
    number = iter(range(1, 10_000))

    def rows(*keys: int) -> pa.Table:
        columns = {KEY: pa.array(keys, pa.uint64()), SEQ: pa.array([1] * len(keys), pa.int32())}
        return pa.table(columns | {RECORD_NO: pa.array([next(number) for _ in keys], pa.int64())})

    hashes = KeyHashes(tmp_path)
    days = [dt.date(2026, 11, day) for day in (1, 2)]
    assert not len(hashes.add(days[0], rows(1 << 60, 2 << 60)))
    assert hashes._seen[days[0]].size
    for key in range(20):
        hashes.add(days[1], rows(key << 50))
    assert not hashes._seen[days[0]].size, "it was not forgotten: nothing is tried here"
    assert hashes._seen[days[1]].size
    assert hashes.add(days[0], rows(3 << 60, 2 << 60)).tolist() == [2 << 60]


def test_keys_put_away_are_those_of_their_day_and_not_of_a_dropped_object(tmp_path, monkeypatch):
    monkeypatch.setattr("ingestion.key_hashes.HELD_BYTES", 40)

    def rows(seq: int, *keys: int) -> pa.Table:
        columns = {KEY: pa.array(keys, pa.uint64()), SEQ: pa.array([seq] * len(keys), pa.int32())}
        return pa.table(columns | {RECORD_NO: pa.array(range(1, len(keys) + 1), pa.int64())})

    one, other = (dt.date(2026, 11, day) for day in (1, 2))
    for days in ((one, other), (None, None)):
        hashes = KeyHashes(tmp_path / str(days[0]))
        hashes.add(days[0], rows(1, 2 << 60, 1 << 60))
        hashes.add(days[0], rows(2, 3 << 60))
        hashes.add(days[1], rows(2, 5 << 60))
        assert sorted((tmp_path / str(days[0])).iterdir()), "nothing was put away: nothing is tried here"
        apart = days[0] is not None
        assert hashes.add(days[1], rows(3, 2 << 60, 7 << 60)).tolist() == ([] if apart else [2 << 60])
        assert hashes.first_places(days[0], pa.array([2 << 60, 3 << 60], pa.uint64())).sort(KEY).rows() == [
            (2 << 60, 1, 1),
            (3 << 60, 2, 1),
        ]
        hashes.forget_object(1)
        found = hashes.first_places(days[0], pa.array([1 << 60, 2 << 60, 3 << 60], pa.uint64()))
        assert found.sort(KEY).rows() == ([(3 << 60, 2, 1)] if apart else [(2 << 60, 3, 1), (3 << 60, 2, 1)])
        assert hashes.add(days[0], rows(4, 1 << 60, 3 << 60)).tolist() == [3 << 60]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full here")
def test_a_full_disk_under_the_key_files_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(KeyFiles, "_path", lambda self, number: Path("/dev/full"))
    rows = pa.table([range(9_999), [1] * 9_999, range(9_999)], schema=PLACE)
    with pytest.raises(OSError, match="No space") as raised:
        KeyFiles(tmp_path).put({None: rows})
    assert str(fault(raised.value)).startswith("TIYU-DISK-0001")


def test_files_become_rows_of_the_table_once(home):
    first = [entries([(1, "V1", 1), (2, "V1", 2), (2, "V1", 2)], "a" * 64), entries([(3, "V1", 1)], "b" * 64)]
    obj = contracts.load(RESOURCE).root
    schema = pa.schema([pa.field(f.name, f.type) for f in ods_schema(obj)])

    def commit() -> int:
        with Staging(dated(), RESOURCE, BATCH, ORDER, 1) as staging:
            for chunk in first:
                staging.add(chunk)
            result = staging.settle()
            assert result.duplicate == {"a" * 64: 1}
            return tables.append_files(obj.table, result.files, schema, part_dates=result.part_dates, batch_id="b_1")

    tables.append(obj.table, schema.empty_table(), batch_id="b_0")
    stale = tables.open_table(obj.table)
    version = commit()
    done = CommitProperties(app_transactions=[Transaction("tiyu:b_1", 1)])
    with pytest.raises(CommitFailedError):  # a run that raced with this one cannot commit the batch a second time
        stale.create_write_transaction([], "append", stale.schema(), ["part_date"], commit_properties=done)
    assert tables.has_batch(obj.table, "b_1")
    assert commit() == version, "the same batch again writes nothing"
    stored = pl.scan_delta(tables.path(obj.table)).collect()
    assert sorted(stored["seq_no"]) == [1, 2, 3]
    assert stored["_batch_id"].unique().to_list() == ["b_1"]
    assert stored["_ingested_at"].unique().to_list() == [AS_OF]
    assert tables.touched_dates(obj.table, version - 1, version) == {dt.date(2026, 11, 1), dt.date(2026, 11, 2)}
    assert not list((lake_settings().home / "tmp" / "staging").rglob("*.parquet"))
    with query.connect() as con:
        query.register(con, obj.table, version, view="t")
        assert con.execute("select count(*) from t where part_date = date '2026-11-01'").fetchone() == (2,)

    # the next batch meets the stored rows: the same is a duplicate, another content a conflict
    again = {"batch_id": "b_2", "as_of_at": AS_OF}
    for held_bytes in (1, 1 << 30):
        with Staging(dated(), RESOURCE, again, ORDER, held_bytes) as staging:
            staging.add(entries([(1, "V1", 1), (2, "V9", 2), (9, "V1", 2)], "a" * 64))
            result = staging.settle()
            assert (result.accepted, result.duplicate) == ({"a" * 64: 1}, {"a" * 64: 1})
            assert result.conflicts["_record_no"].to_list() == [2]


def test_the_log_says_of_a_file_what_delta_rs_says(home):
    obj = contracts.load(RESOURCE).root
    rows = entries([(n, "V1", 1) for n in range(1, 50)], "a" * 64)
    schema = pa.schema([pa.field(f.name, f.type) for f in ods_schema(obj)])
    with Staging(dated(), RESOURCE, BATCH, ORDER, 1) as staging:
        staging.add(rows)
        result = staging.settle()
        whole = data_files.read(result.files[0]).select(schema.names)
        tables.append_files("ods_venue__entry", result.files, schema, part_dates=result.part_dates, batch_id="b_1")
    tables.append("ods_venue__other", whole, batch_id="b_1")

    def said(name: str) -> dict:
        added = DeltaTable(tables.path(name)).get_add_actions(flatten=True)
        (row,) = pl.DataFrame(added).to_dicts()
        return {key: value for key, value in row.items() if key not in ("path", "size_bytes", "modification_time")}

    ours, theirs = said("ods_venue__entry"), said("ods_venue__other")
    assert ours["num_records"] == 49
    for key, value in ours.items():
        if key.startswith(("min.", "max.")) and value is None:
            continue  # long texts are left out: no reader skips a file by them
        assert theirs[key] == value, key
    assert ours["min.seq_no"] == 1
    assert ours["max.passed_at"] == dt.datetime(2026, 11, 1, 2, tzinfo=dt.UTC)


def test_files_of_another_layout_are_refused(home):
    obj = contracts.load(RESOURCE).root
    schema = pa.schema([pa.field(f.name, f.type) for f in ods_schema(obj)])
    with Staging(dated(), RESOURCE, BATCH, ORDER, 1) as staging:
        staging.add(entries([(1, "V1", 1)], "a" * 64))
        result = staging.settle()
        other = schema.append(pa.field("more", pa.string()))
        tables.append("ods_venue__entry", other.empty_table(), batch_id="b_0")
        with pytest.raises(TiyuError, match="TIYU-LAKE-0004"):
            tables.append_files("ods_venue__entry", result.files, schema, part_dates=result.part_dates, batch_id="b_1")


def test_what_a_killed_run_left_is_removed(home):
    folder = lake_settings().home / "tmp" / "staging" / RESOURCE / "old"
    folder.mkdir(parents=True)
    (folder / "000000-x.parquet").write_bytes(b"x")
    clean(RESOURCE)
    assert not folder.exists()


def test_stats_leave_out_what_would_mislead(home, tmp_path):
    rows = pa.table(
        {
            "f": pa.array([1.0, float("nan")]),
            "s": ["x" * 40, "y"],
            "d": pa.array([dt.date(2026, 1, 1), None], pa.date32()),
            "b": [True, False],
            "p": pa.array([dt.date(2026, 1, 1)] * 2, pa.date32()),
        }
    )
    writer = DataFileWriter(tmp_path / "f.parquet", ("p",))
    writer.write(rows)
    said = json.loads(writer.close().stats)
    assert said["numRecords"] == 2
    assert said["minValues"] == {"d": "2026-01-01"}
    assert said["nullCount"] == {"f": 0, "s": 0, "d": 1, "b": 0}
    with pytest.raises(ValueError, match="2 values"):
        DataFileWriter(tmp_path / "g.parquet", ("s",)).write(rows)


def test_numbers_that_go_up_are_written_as_differences(tmp_path):
    """Any reader gives the same rows, those of a part whose numbers do not go up too."""
    numbers = [*range(1, 2_000), 7, 1 << 40, 8]
    rows = pa.table(
        {"n": pa.array(numbers, pa.int64()), "x": [number / 8 for number in numbers], "p": pa.array([dt.date(2026, 1, 1)] * len(numbers), pa.date32())}
    )  # fmt: skip
    writer = DataFileWriter(tmp_path / "f.parquet", ("p",), ("n",))
    writer.write(rows)
    file = writer.close()
    group = pq.ParquetFile(file.path).metadata.row_group(0)
    encodings = {group.column(place).path_in_schema: set(group.column(place).encodings) for place in range(2)}
    assert "DELTA_BINARY_PACKED" in encodings["n"]
    assert "RLE_DICTIONARY" in encodings["x"]
    assert data_files.read(file)["n"].to_pylist() == numbers
    assert pl.read_parquet(file.path)["n"].to_list() == numbers
    with query.connect() as con:
        assert [n for (n,) in con.execute(f"select n from read_parquet('{file.path}')").fetchall()] == numbers


def test_no_more_files_are_open_than_may_be(home, monkeypatch):
    monkeypatch.setattr(staging_module, "MOST_OPEN", 2)
    chunks = [
        entries([(10 * turn + day, "V1", day)], "a" * 64, 10 * turn + day) for turn in range(3) for day in range(1, 6)
    ]
    _, expected = settled(chunks, 1 << 30)
    with Staging(dated(), RESOURCE, BATCH, ORDER, 1) as staging:
        for chunk in chunks:
            staging.add(chunk)
            assert len(staging._open) <= 2
        result = staging.settle()
        assert len(result.files) > 5  # a date that came again has another file
        rows = pl.DataFrame(pa.concat_tables([data_files.read(file) for file in result.files]))
    assert result.part_dates == [dt.date(2026, 11, day) for day in range(1, 6)]
    assert result.accepted == {"a" * 64: 15}
    assert rows.select(expected.columns).sort("_record_no").equals(expected.sort("_record_no"))
