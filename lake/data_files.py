"""Parquet files that become parts of a Delta table: written part by part, with what the table's log says of them.

The commit that takes them in is `lake.tables.append_files`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

COMPRESSION_LEVEL = 1
"""Of zstd, for every data file of the lake. Level 3 made those of three million samples 7 % smaller and took 0.6 s instead of 0.4 s."""
_GROUP_ROWS = 512 * 1024
_STATS_CHARS = 32


@dataclass(frozen=True)
class DataFile:
    """A Parquet file that will be a part of a table: where it is until then, its partition, what the log says of it."""

    path: Path
    partition: dict[str, str | None]
    rows: int
    stats: str


class DataFileWriter:
    """Writes a data file part by part, each a row group; :meth:`close` gives the file.

    The parts are rows of one partition with the same columns; the partition columns are in the file's place, not in it.
    A text column may be a dictionary in one part and plain in another. ``rising``: whole numbers that go up from row to row,
    written as differences; all others are written as a dictionary as long as that is small.
    """

    def __init__(self, path: Path, partition_by: tuple[str, ...], rising: tuple[str, ...] = ()):
        self._path, self._partition_by, self._rising = path, partition_by, rising
        self._partition: dict[str, str | None] = {}
        self._writer: pq.ParquetWriter | None = None
        self._bounds = _Bounds()

    def write(self, rows: pa.Table) -> None:
        """Add rows. Raises ValueError when they are of another partition than those before."""
        for column in self._partition_by:
            values = pc.unique(rows[column]).to_pylist()
            value = None if values[0] is None else str(values[0])
            if len(values) != 1 or self._partition.setdefault(column, value) != value:
                raise ValueError(f"{len(values)} values of {column} in one part, or another than before")
        content = rows.drop_columns(list(self._partition_by))
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._path,
                content.schema,
                compression="zstd",
                compression_level=COMPRESSION_LEVEL,
                use_dictionary=[name for name in content.column_names if name not in self._rising],
                column_encoding=dict.fromkeys(self._rising, "DELTA_BINARY_PACKED"),
                # of a folded text they take longer than to write it, and each part holds nearly all its values
                write_statistics=[f.name for f in content.schema if not pa.types.is_dictionary(f.type)],
                store_schema=False,
            )
        self._bounds.add(content)
        self._writer.write_table(_folded_as(content, self._writer.schema), row_group_size=_GROUP_ROWS)

    def close(self) -> DataFile:
        """Finish the file. At least one part must have been written."""
        assert self._writer is not None
        self._writer.close()
        return DataFile(self._path, self._partition, self._bounds.rows, self._bounds.stats())


def _folded_as(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows with dictionaries where, and only where, the schema has them."""
    columns = []
    for column, field in zip(rows.columns, schema, strict=True):
        if pa.types.is_dictionary(field.type) and not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        columns.append(column if column.type == field.type else column.cast(field.type))
    return pa.table(columns, schema=schema)


def read(file: DataFile) -> pa.Table:
    """The rows of a data file, partition columns last."""
    rows = pq.read_table(file.path)
    for column, value in file.partition.items():
        day = None if value is None else date.fromisoformat(value)
        rows = rows.append_column(column, pa.repeat(pa.scalar(day, pa.date32()), rows.num_rows))
    return rows


class _Bounds:
    """What Delta's log says of a file, gathered part by part: count of rows, and per column the count of nulls and the
    smallest and largest value where readers skip files by them (numbers, dates, times; short texts)."""

    def __init__(self) -> None:
        self.rows = 0
        self._nulls: dict[str, int] = {}
        self._lowest: dict[str, Any] = {}
        self._highest: dict[str, Any] = {}
        self._untold: set[str] = set()

    def add(self, rows: pa.Table) -> None:
        """Take the rows of a part into account."""
        self.rows += rows.num_rows
        for field in rows.schema:
            column = rows[field.name]
            self._nulls[field.name] = self._nulls.get(field.name, 0) + column.null_count
            if field.name in self._untold or column.null_count == len(column):
                continue
            found = _range_of(column)
            if found is None:
                self._untold.add(field.name)
                self._lowest.pop(field.name, None)
                self._highest.pop(field.name, None)
                continue
            self._lowest[field.name] = min(self._lowest.get(field.name, found[0]), found[0])
            self._highest[field.name] = max(self._highest.get(field.name, found[1]), found[1])

    def stats(self) -> str:
        """The entry of the log, as JSON."""
        lowest = {name: _told(value, -math.inf) for name, value in self._lowest.items()}
        highest = {name: _told(value, math.inf) for name, value in self._highest.items()}
        return json.dumps(
            {"numRecords": self.rows, "minValues": lowest, "maxValues": highest, "nullCount": self._nulls},
            ensure_ascii=False,
        )


def _range_of(column: pa.ChunkedArray) -> tuple[Any, Any] | None:
    """Smallest and largest value of a column, or None where nothing is said of such values."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        column = pc.unique(column).cast(kind)
    told = pa.types.is_string(kind) or pa.types.is_primitive(kind) or pa.types.is_decimal(kind)
    if pa.types.is_boolean(kind) or not told:
        return None
    bounds = pc.min_max(column)
    low, high = bounds["min"].as_py(), bounds["max"].as_py()
    if isinstance(low, str) and max(len(low), len(high)) > _STATS_CHARS:
        return None
    if isinstance(low, float) and not (math.isfinite(low) and math.isfinite(high)):
        return None
    if isinstance(low, float) and pc.any(pc.is_nan(column)).as_py():
        return None
    return low, high


def _told(value: Any, outwards: float) -> Any:
    """A bound as the log writes it; one that has no exact place there moves ``outwards``."""
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        number = float(value)
        return number if Decimal(number) == value else math.nextafter(number, outwards)
    return value
