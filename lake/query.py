"""Reading the lake: stateless DuckDB connections with Delta tables registered as views at a pinned version."""

from __future__ import annotations

import functools
import os
import pathlib
from typing import Literal

import duckdb
import pyarrow as pa

from lake import ledger, tables
from lake.settings import settings
from lake.sql import quote_literal, quote_name

Version = Literal["head", "checked"] | int | None


@functools.cache
def _delta_extension() -> str:
    """Path of the pip-shipped Delta extension, so that nothing is downloaded at run time."""
    import duckdb_extension_delta

    root = pathlib.Path(duckdb_extension_delta.__file__).parent
    return str(next(root.rglob("delta.duckdb_extension")))


@functools.cache
def _verified_extension() -> str:
    """The same, after DuckDB compared it with its signature in this process. That takes 0.3 s of hashing; done again for
    every connection it was more than half of what a small batch costs."""
    with duckdb.connect(":memory:") as con:
        load_delta(con)
    return _delta_extension()


def load_delta(con: duckdb.DuckDBPyConnection) -> None:
    """Load the offline Delta extension into an existing connection."""
    con.execute(f"LOAD '{_delta_extension()}'")


def add_delta(con: duckdb.DuckDBPyConnection) -> None:
    """Let a connection made by :func:`connect` without Delta read the lake; a second time nothing happens."""
    con.execute(f"LOAD '{_verified_extension()}'")


def connect(
    *, memory_limit: str = "2GB", threads: int = 2, spill: bool = True, delta: bool = True
) -> duckdb.DuckDBPyConnection:
    """A private in-memory DuckDB with the Delta extension.

    spill=False forbids temporary files: required wherever raw personal values are in memory, because nothing raw
    may reach the disk outside the archive. delta=False leaves the extension out, for one that may never read the lake
    (:func:`add_delta`).
    """
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": threads,
        "memory_limit": memory_limit,
        "preserve_insertion_order": True,
        "autoinstall_known_extensions": False,
        "allow_unsigned_extensions": True,  # the one that is loaded was verified
    }
    if spill:
        spill_dir = settings().home / "tmp" / f"duckdb-{os.getpid()}"
        config["temp_directory"] = str(spill_dir)
    else:
        config["temp_directory"] = ""
        config["max_temp_directory_size"] = "0B"
    con = duckdb.connect(":memory:", config=config)
    if delta:
        add_delta(con)
    con.execute("SET TimeZone = 'UTC'")
    con.execute("SET enable_progress_bar = false")  # it would go to standard output, into a report or a task's log
    return con


def scan_sql(name: str, version: int) -> str:
    """The relation expression that reads a table at exactly one version."""
    return f"delta_scan({quote_literal(tables.path(name))}, version => {int(version)})"


def resolve_version(name: str, version: Version = "checked") -> int | None:
    """Turn 'checked' | 'head' | number into a version number, or None when there is nothing to see."""
    if version == "checked" or version is None:
        return ledger.checked_version(name)
    if version == "head":
        return tables.version(name)
    return int(version)


def register(
    con: duckdb.DuckDBPyConnection,
    name: str,
    version: Version = "checked",
    *,
    schema: pa.Schema | None = None,
    view: str | None = None,
) -> int | None:
    """Create a view of a lake table in ``con`` and return the version it shows.

    A table with nothing to see becomes an empty view when ``schema`` is given; without one, None is returned and no
    view is made. ``view`` (may be ``schema.name``) defaults to the table's own name.
    """
    target = view or name
    resolved = resolve_version(name, version)
    if "." in target:
        con.execute(f"create schema if not exists {quote_name(target.split('.')[0])}")
    if resolved is not None:
        con.execute(f"create or replace view {quote_name(target)} as select * from {scan_sql(name, resolved)}")
        return resolved
    if schema is not None:
        columns = ", ".join(f"cast(null as {duckdb_type(field.type)}) as {quote_name(field.name)}" for field in schema)
        con.execute(f"create or replace view {quote_name(target)} as select {columns} where false")
    return None


def duckdb_type(data_type: pa.DataType) -> str:
    """The DuckDB type name for an Arrow type used in the lake."""
    if pa.types.is_timestamp(data_type):
        return "TIMESTAMP WITH TIME ZONE" if data_type.tz else "TIMESTAMP"
    if pa.types.is_decimal(data_type):
        return f"DECIMAL({data_type.precision},{data_type.scale})"
    simple = {
        pa.string(): "VARCHAR",
        pa.large_string(): "VARCHAR",
        pa.bool_(): "BOOLEAN",
        pa.int8(): "TINYINT",
        pa.int16(): "SMALLINT",
        pa.int32(): "INTEGER",
        pa.int64(): "BIGINT",
        pa.float32(): "FLOAT",
        pa.float64(): "DOUBLE",
        pa.date32(): "DATE",
        pa.binary(): "BLOB",
    }
    return simple[data_type]
