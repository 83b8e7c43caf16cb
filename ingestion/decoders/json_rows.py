"""Turning JSON texts into text columns at once, in DuckDB, in memory."""

from __future__ import annotations

import threading

import duckdb
import numpy as np
import pyarrow as pa

_LOCAL = threading.local()


def connection() -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB of this thread that can never spill: raw values must not reach a disk."""
    held = getattr(_LOCAL, "connection", None)
    if held is None:
        held = duckdb.connect(":memory:", config={"threads": 2})
        held.execute("SET temp_directory = ''")
        held.execute("SET enable_external_access = false")
        held.execute("SET TimeZone = 'UTC'")
        _LOCAL.connection = held
    return held


def json_path(field: str) -> str:
    """The JSON path of a top-level member, whatever characters its name holds."""
    return '$."' + field.replace("\\", "\\\\").replace('"', '\\"') + '"'


def extract(texts: pa.Array, fields: tuple[str, ...]) -> pa.Table:
    """One row per text, in order: ``state`` and the fields as text.

    state: ``ok``, ``bad_json``, ``not_object``, ``unknown_field`` or ``repeated_field``; ``unknown``: the names of
    fields that are not in ``fields``, as a list. Numbers are given in shortest round-trip form, nested values as
    JSON, null and absent as null.
    """
    con = connection()
    position = pa.array(np.arange(len(texts), dtype=np.int64))
    con.register("_texts", pa.table({"position": position, "text": texts}))
    names = ", ".join(f"v[{number}] AS f{number}" for number in range(1, len(fields) + 1))
    known = "[" + ", ".join(_literal(field) for field in fields) + "]::VARCHAR[]"
    paths = "[" + ", ".join(_literal(json_path(field)) for field in fields) + "]"
    try:
        # Records of one source carry few different sets of names, so names are judged once per set, not per record.
        table = con.execute(
            f"""
            WITH read AS MATERIALIZED (
                SELECT position,
                       CASE WHEN json_valid(text) THEN json_type(text) ELSE 'bad' END AS kind,
                       CASE WHEN json_valid(text) THEN json_keys(text) END AS keys,
                       CASE WHEN json_valid(text) THEN json_extract_string(text, {paths}) END AS v
                FROM _texts
            ), judged AS (
                SELECT keys,
                       list_filter(keys, lambda k: NOT list_contains({known}, k)) AS unknown,
                       len(keys) <> len(list_distinct(keys)) AS is_repeated
                FROM (SELECT DISTINCT keys FROM read)
            )
            SELECT CASE WHEN kind = 'bad' THEN 'bad_json'
                        WHEN kind <> 'OBJECT' THEN 'not_object'
                        WHEN len(unknown) > 0 THEN 'unknown_field'
                        WHEN is_repeated THEN 'repeated_field'
                        ELSE 'ok' END AS state,
                   unknown,
                   {names}
            FROM read LEFT JOIN judged ON read.keys IS NOT DISTINCT FROM judged.keys ORDER BY position
            """
        ).to_arrow_table()
    finally:
        con.unregister("_texts")
    return table.rename_columns(["state", "unknown", *fields])


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
