"""The column types a contract may use, and their Arrow counterparts."""

from __future__ import annotations

import re

import pyarrow as pa

_SIMPLE: dict[str, pa.DataType] = {
    "VARCHAR": pa.string(),
    "BIGINT": pa.int64(),
    "INTEGER": pa.int32(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
    "TIMESTAMPTZ": pa.timestamp("us", tz="UTC"),
}
_DECIMAL = re.compile(r"^DECIMAL\((\d{1,2}),(\d{1,2})\)$")


def arrow_type(duckdb_type: str) -> pa.DataType:
    """Arrow type of a DuckDB type text. Raises ValueError for a type that contracts may not use."""
    if duckdb_type in _SIMPLE:
        return _SIMPLE[duckdb_type]
    if (match := _DECIMAL.match(duckdb_type)) and int(match[2]) <= int(match[1]) <= 38:
        return pa.decimal128(int(match[1]), int(match[2]))
    raise ValueError(f"type {duckdb_type} is not allowed in a contract")


def is_known(duckdb_type: str) -> bool:
    """Whether contracts may use the type."""
    try:
        arrow_type(duckdb_type)
    except ValueError:
        return False
    return True
