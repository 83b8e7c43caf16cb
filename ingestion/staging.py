"""Accepted rows of a batch on their way to one commit, held within bounds whatever the batch's size.

Rows arrive chunk by chunk with their identifiers already tokens. A small batch stays in memory. When enough rows of a date
have gathered they are freed of duplicates and written to the date's data file, beside what the caller does, in
``{home}/tmp/staging/{resource}``; the commit moves the files into the table. What is kept of a written row is a hash of its
key (`ingestion.key_hashes`).

Which rows are duplicates is always decided by `ingestion.dedup` on the rows themselves; the hashes only tell which rows
need not be looked at.
"""

from __future__ import annotations

import shutil
import uuid
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from catalog.contracts import ObjectSpec
from catalog.schemas import ods_schema
from ingestion import dedup
from ingestion.decoders.base import RECORD_NO
from ingestion.key_files import KEY, SEQ
from ingestion.key_hashes import Hashes, KeyHashes, positions
from lake import data_files, query, tables
from lake.arrow import joined, plain
from lake.settings import settings
from lake.sql import quote_literal, quote_name

HELD_BYTES = 32 * 1024 * 1024
"""Rows held before some are written, in Arrow's bytes; some 350,000 rows of ten columns."""
GROUP_BYTES = 16 * 1024 * 1024
"""Rows of one date that are worth a part of a file."""
MOST_OPEN = 64
"""Files that are written at once; each holds some two megabytes beside its rows."""
_ALL = 1 << 62
_Span: TypeAlias = tuple[tuple[int, int], tuple[int, int]]
_ORIGIN = ("_source_object", "_record_no")


@dataclass
class Settled:
    """A batch's accepted rows, compared with each other and with what is stored.

    unique: the rows to store where the batch stayed in memory, else None and they are in ``files``. accepted, duplicate:
    records per object. conflicts: ``_source_object, _record_no`` of rows that repeat a key with other content.
    part_dates: dates of the rows to store.
    """

    unique: pl.DataFrame | None
    files: list[data_files.DataFile]
    accepted: dict[str, int]
    duplicate: dict[str, int]
    conflicts: pl.DataFrame
    part_dates: list[date]


@dataclass
class _File:
    """A data file of one date, being written; objects: accepted rows in it by object; span: its first and last record, as
    place of the object and record number. done: the file, once no more rows come."""

    date: date
    writer: data_files.DataFileWriter
    objects: Counter[str] = field(default_factory=Counter)
    span: _Span | None = None
    done: Future[data_files.DataFile] | None = None


@dataclass
class _Verdicts:
    duplicates: list[pl.DataFrame] = field(default_factory=list)
    conflicts: list[pl.DataFrame] = field(default_factory=list)


class Staging:
    """Use as a context: its files, where they were not committed, are removed at the end."""

    def __init__(
        self,
        obj: ObjectSpec,
        resource: str,
        batch: Mapping[str, Any],
        order: dict[str, int],
        held_bytes: int | None = None,
    ):
        self._obj, self._batch, self._order = obj, batch, order
        # where the date is no part of the key, a stored row of any date of the batch may be repeated, and its dates are
        # known only when all rows are there
        held_bytes = HELD_BYTES if held_bytes is None else held_bytes
        self._by_date = obj.part_date in obj.dedup and held_bytes < _ALL
        self._held_bytes = held_bytes if self._by_date else _ALL
        self._group_bytes = min(GROUP_BYTES, self._held_bytes) if self._held_bytes < _ALL else _ALL
        self._folder = settings().home / "tmp" / "staging" / resource / uuid.uuid4().hex
        self._pending: dict[date, list[pa.Table]] = {}
        self._pending_bytes: Counter[date] = Counter()
        self._open: dict[date, _File] = {}
        self._files: list[_File] = []
        self._writing: Future[Any] | None = None
        self._verdicts = _Verdicts()
        self._writer = ThreadPoolExecutor(1)
        self._con = query.connect(memory_limit="128MB", threads=1, delta=False)
        self._hashes = KeyHashes(self._folder)
        self._con.execute(f"create temp table stored_keys (part_date date, {KEY} ubigint)")
        self._head = tables.version(obj.table)
        self._looks = False
        self._stored_days: set[date] = set()
        self._repeated: list[pa.Array] = []
        self._keys = ", ".join(quote_name(name) for name in obj.dedup)

    def __enter__(self) -> Staging:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.shutdown(cancel_futures=True)
        self._con.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, rows: pa.Table) -> None:
        """Take accepted rows: the ODS columns of the contract, ``part_date``, ``_record_no`` and ``_source_object``."""
        if not rows.num_rows:
            return
        rows = self._numbered(rows)
        self._note_repeated(rows)
        days = pc.unique(rows["part_date"]).to_pylist()
        for day in days:
            part = rows if len(days) == 1 else rows.filter(pc.equal(rows["part_date"], pa.scalar(day, pa.date32())))
            self._pending.setdefault(day, []).append(part)
            self._pending_bytes[day] += part.nbytes
            if self._pending_bytes[day] > self._group_bytes:
                self._write(day)
        while self._pending_bytes.total() > self._held_bytes:
            self._write(max(self._pending_bytes, key=lambda day: self._pending_bytes[day]))

    def drop_object(self, sha256: str) -> None:
        """Forget every row of an object: it turned out to be damaged, or is refused, after some of it had been read."""
        for day, parts in list(self._pending.items()):
            self._pending[day] = [part.filter(_of_others(part, sha256)) for part in parts]
            self._pending_bytes[day] = sum(part.nbytes for part in self._pending[day])
        self._hashes.forget_object(self._order[sha256])
        for frames in (self._verdicts.duplicates, self._verdicts.conflicts):
            frames[:] = [frame.filter(pl.col("_source_object") != sha256) for frame in frames]
        for file in [item for item in self._files if item.objects[sha256]]:
            written = self._closed(file)
            self._files.remove(file)
            rest = data_files.read(written)
            rest = rest.filter(_of_others(rest, sha256))
            if rest.num_rows:
                self._submit(file.date, rest, file.span)

    def settle(self) -> Settled:
        """All rows are here: compare what is still in memory, write it out where files were begun, and say what is what."""
        unique: pl.DataFrame | None = None
        if not self._files:
            rows = self._concat([part for day in sorted(self._pending) for part in self._pending[day]])
            unique = pl.DataFrame(_without_helpers(self._freed(rows)))
            accepted = _counts(unique)
            days = unique["part_date"].unique().sort().to_list()
        else:
            for day in sorted(self._pending):
                self._write(day)
            for file in self._files:
                self._close(file)
            accepted = Counter()
            for file in self._files:
                accepted.update(file.objects)
            days = sorted({file.date for file in self._files})
        self._pending.clear()
        duplicate: Counter[str] = Counter()
        for frame in self._verdicts.duplicates:
            duplicate.update(_counts(frame))
        empty = pl.DataFrame(schema={"_source_object": pl.String, "_record_no": pl.Int64})
        return Settled(
            unique,
            [self._closed(file) for file in self._files],
            dict(accepted),
            dict(duplicate),
            pl.concat([empty, *self._verdicts.conflicts]),
            days,
        )

    def _numbered(self, rows: pa.Table) -> pa.Table:
        """The rows with the hash of their key and the place of their object in the batch."""
        objects = rows["_source_object"].combine_chunks()
        names, places = pa.array(list(self._order), pa.string()), pa.array(list(self._order.values()), pa.int32())
        if pa.types.is_dictionary(objects.type):
            seq = places.take(pc.index_in(objects.dictionary, names)).take(objects.indices)
        else:
            seq = places.take(pc.index_in(objects, names))
        self._con.register("_keyed", rows.select(dict.fromkeys(self._obj.dedup)))
        key = self._con.execute(f"select hash({self._keys}) as k from _keyed").to_arrow_table()["k"]
        self._con.unregister("_keyed")
        return rows.append_column(KEY, key).append_column(SEQ, seq)

    def _concat(self, parts: list[pa.Table]) -> pa.Table:
        if not parts:
            schema = ods_schema(self._obj)
            fields = [pa.field(f.name, f.type) for f in schema if f.name not in ("_batch_id", "_ingested_at")]
            return pa.schema([*fields, pa.field(KEY, pa.uint64()), pa.field(SEQ, pa.int32())]).empty_table()
        return joined(parts)

    def _write(self, day: date) -> None:
        del self._pending_bytes[day]
        rows = self._freed(self._concat(self._pending.pop(day)))
        if rows.num_rows:
            self._submit(day, _stamped(rows.drop_columns([KEY, SEQ]), self._obj, self._batch), _span(rows))

    def _submit(self, day: date, rows: pa.Table, span: _Span | None) -> None:
        """Add rows to the file of their date in the background; one at a time, so that at most one part is held beside
        the rows that gather."""
        if self._writing is not None:
            self._writing.result()
        file = self._open.pop(day, None)
        if file is None:
            while len(self._open) >= MOST_OPEN:
                self._close(next(iter(self._open.values())))  # the one that was not written to for longest
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{uuid.uuid4().hex}.parquet"
            file = _File(day, data_files.DataFileWriter(path, ("part_date",), (RECORD_NO,)))
            self._files.append(file)
        self._open[day] = file
        file.objects.update(_counts_in(rows))
        if span is not None:
            file.span = span if file.span is None else (min(file.span[0], span[0]), max(file.span[1], span[1]))
        self._writing = self._writer.submit(file.writer.write, rows)

    def _close(self, file: _File) -> Future[data_files.DataFile]:
        """Let no more rows into a file."""
        if file.done is None:
            self._open.pop(file.date)
            file.done = self._writer.submit(file.writer.close)
        return file.done

    def _closed(self, file: _File) -> data_files.DataFile:
        """The file when it is all there; what went wrong while it was written is raised here."""
        done = self._close(file)
        if self._writing is not None:
            self._writing.result()
        return done.result()

    def _freed(self, rows: pa.Table) -> pa.Table:
        """The rows without those that repeat an earlier record, of this batch or of the table."""
        if not rows.num_rows:
            return rows
        suspects = self._suspects(rows)
        if not len(suspects):
            return rows
        at = positions(rows[KEY].to_numpy(), suspects.to_numpy())
        if not len(at):
            return rows
        looked_at = rows.take(pa.array(at))
        compared = self._concat([plain(part) for part in (*self._firsts(looked_at), looked_at)])
        verdict = dedup.deduplicate(
            pl.DataFrame(_without_helpers(compared)),
            self._obj,
            self._batch["batch_id"],
            self._order,
            same_key_is_duplicate=False,
            window=tuple(pc.min_max(rows["part_date"]).as_py().values()),
            database=self._con,
        )
        mine = pl.DataFrame(_without_helpers(looked_at.select(_ORIGIN))).with_columns(_n=pl.Series(at))
        found = [mine.join(frame, on=list(_ORIGIN), how="semi") for frame in (verdict.duplicates, verdict.conflicts)]
        self._verdicts.duplicates.append(found[0].drop("_n"))
        self._verdicts.conflicts.append(found[1].drop("_n"))
        gone = pl.concat(found)["_n"].to_numpy()
        if not len(gone):
            return rows
        keep = np.ones(rows.num_rows, dtype=bool)
        keep[gone] = False
        return rows.filter(pa.array(keep))

    def _note_repeated(self, rows: pa.Table) -> None:
        """Put the keys of new rows to those of the batch, and remember which of them there was before."""
        places = rows.select([KEY, SEQ, RECORD_NO])
        for day in pc.unique(rows["part_date"]).to_pylist() if self._by_date else [None]:
            own = places if day is None else places.filter(pc.equal(rows["part_date"], pa.scalar(day, pa.date32())))
            again = self._hashes.add(day, own)
            if len(again):
                self._repeated.append(pa.array(again))

    def _suspects(self, rows: pa.Table) -> pa.Array:
        """Key hashes of rows that occur more than once in the batch so far, or in the dates of the table."""
        suspects = [*self._repeated, self._stored(rows)]
        self._repeated = [pc.unique(pa.concat_arrays(self._repeated))] if self._repeated else []
        return pc.unique(pa.concat_arrays(suspects))

    def _stored(self, rows: pa.Table) -> pa.Array:
        """Key hashes of these rows that the table holds in their dates."""
        first, last = pc.min_max(rows["part_date"]).as_py().values()
        self._con.register("_rows", rows.select([KEY]))
        if first != last:
            held = self._stored_between(first, last)
        else:
            if first not in self._stored_days:
                self._stored_days.add(first)
                self._con.execute(f"insert into stored_keys {self._stored_between(first, last)}")
            held = f"select part_date, {KEY} from stored_keys where part_date = date {quote_literal(str(first))}"
        found = self._con.execute(f"select distinct {KEY} from ({held}) as h semi join _rows using ({KEY})")
        suspects = found.to_arrow_table()[KEY].combine_chunks()
        self._con.unregister("_rows")
        return suspects

    def _stored_between(self, first: date, last: date) -> str:
        """Query of date and key hash of the stored rows of some days; empty where there is no table yet."""
        if self._head is None:
            return f"select null::date as part_date, null::ubigint as {KEY} where false"
        if not self._looks:
            self._looks = True
            query.add_delta(self._con)
            query.register(self._con, self._obj.table, self._head, view="stored")
        window = f"part_date >= date {quote_literal(str(first))} and part_date <= date {quote_literal(str(last))}"
        return f"select part_date, hash({self._keys}) as {KEY} from stored where {window}"

    def _firsts(self, looked_at: pa.Table) -> list[pa.Table]:
        """The first record of each of the keys looked at, where it is not among the rows looked at but in memory or in a file."""
        first, last = pc.min_max(looked_at["part_date"]).as_py().values()
        day = first if first == last and self._by_date else None
        firsts = self._hashes.first_places(day, pc.unique(looked_at[KEY]))
        mine = pl.DataFrame(looked_at.select([SEQ, RECORD_NO]))
        there = firsts.join(mine, on=[SEQ, RECORD_NO], how="anti").rows()
        if not there:
            return []
        elsewhere = np.array([key for key, _, _ in there], np.uint64)
        places = [(seq, record) for _, seq, record in there]
        found = [_with_keys(part, elsewhere) for parts in self._pending.values() for part in parts]
        for file in self._files:
            if file.span is None or not any(file.span[0] <= place <= file.span[1] for place in places):
                continue
            rows = self._numbered(data_files.read(self._closed(file)).drop_columns(["_batch_id", "_ingested_at"]))
            found.append(_with_keys(rows, elsewhere).select(looked_at.column_names))
        return [part for part in found if part.num_rows]


def _with_keys(rows: pa.Table, keys: Hashes) -> pa.Table:
    """The rows with any of a few key hashes."""
    return rows.take(pa.array(positions(rows[KEY].to_numpy(), keys)))


def _span(rows: pa.Table) -> _Span:
    """First and last record of some rows."""
    seq, record = rows[SEQ].to_numpy(), rows["_record_no"].to_numpy()
    low, high = seq.min(), seq.max()
    return (int(low), int(record[seq == low].min())), (int(high), int(record[seq == high].max()))


def _of_others(rows: pa.Table, sha256: str) -> pa.ChunkedArray:
    """Which rows are not of an object."""
    column = rows["_source_object"]
    plain = column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
    return pc.not_equal(plain, sha256)


def _counts_in(rows: pa.Table) -> dict[str, int]:
    """Rows per source object."""
    column = rows["_source_object"].combine_chunks()
    if not pa.types.is_dictionary(column.type):
        return _counts(pl.DataFrame(rows.select(["_source_object"])))
    found = np.bincount(column.indices.to_numpy(), minlength=len(column.dictionary)).tolist()
    counted: Counter[str] = Counter()
    for name, count in zip(column.dictionary.to_pylist(), found, strict=True):
        counted[name] += count
    return +counted


def _counts(frame: pl.DataFrame) -> dict[str, int]:
    counted = frame.select(pl.col("_source_object").cast(pl.String)).group_by("_source_object").len()
    return dict(counted.iter_rows())


def _without_helpers(rows: pa.Table) -> pa.Table:
    """Plain texts again, and none of the columns of this module."""
    return plain(rows.drop_columns([name for name in (KEY, SEQ) if name in rows.column_names]))


def _stamped(rows: pa.Table, obj: ObjectSpec, batch: Mapping[str, Any]) -> pa.Table:
    """The rows with the technical columns, in the order and types of the contract's table (a text may be a dictionary)."""
    schema = ods_schema(obj)
    zeros = pa.array(np.zeros(rows.num_rows, dtype=np.int32))
    for name, value, kind in (
        ("_batch_id", batch["batch_id"], pa.string()),
        ("_ingested_at", batch["as_of_at"], pa.timestamp("us", tz="UTC")),
    ):
        rows = rows.append_column(name, pa.DictionaryArray.from_arrays(zeros, pa.array([value], kind)))
    rows = rows.select(schema.names)
    columns = [
        column if pa.types.is_dictionary(column.type) and pa.types.is_string(field.type) else column.cast(field.type)
        for column, field in zip(rows.columns, schema, strict=True)
    ]
    return pa.table(columns, names=schema.names).unify_dictionaries()


def clean(resource: str) -> None:
    """Remove what a killed run left; call only while holding the resource's lock."""
    shutil.rmtree(settings().home / "tmp" / "staging" / resource, ignore_errors=True)


__all__ = ["HELD_BYTES", "Settled", "Staging", "clean"]
