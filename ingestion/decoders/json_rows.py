"""Turning JSON texts into text columns at once, in DuckDB, in memory."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lake.sql import quote_literal

_LOCAL = threading.local()


def connection() -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB of this thread that can never spill: raw values must not reach a disk."""
    held = getattr(_LOCAL, "connection", None)
    if held is None or _LOCAL.process != os.getpid():  # a connection does not survive a fork
        held = duckdb.connect(":memory:", config={"threads": 2})
        held.execute("SET temp_directory = ''")
        held.execute("SET enable_external_access = false")
        held.execute("SET TimeZone = 'UTC'")
        _LOCAL.connection = held
        _LOCAL.process = os.getpid()
    return held


def json_path(field: str) -> str:
    """The JSON path of a top-level member, whatever characters its name holds."""
    return '$."' + field.replace("\\", "\\\\").replace('"', '\\"') + '"'


OK, BAD_JSON, NOT_OBJECT, UNKNOWN_FIELD, REPEATED_FIELD = range(5)


@dataclass
class Extracted:
    """rows: one per text, in order, the fields as text · state: one of the constants above per text · unknown: names
    that are not asked for, by position of the text."""

    rows: pa.Table
    state: npt.NDArray[np.int8]
    unknown: dict[int, list[str]]

    def unknown_names(self, positions: npt.NDArray[np.int64]) -> list[str]:
        return sorted({name for position in positions.tolist() for name in self.unknown.get(position, [])})


def extract(texts: pa.Array, fields: tuple[str, ...]) -> Extracted:
    """Read JSON objects into text columns.

    Numbers are given in shortest round-trip form, nested values as JSON, null and absent as null.
    """
    con = connection()
    con.register("_texts", pa.table({"text": texts}))
    structure = json.dumps(dict.fromkeys(fields, "VARCHAR"), ensure_ascii=False)
    try:
        table = con.execute(
            f"""
            SELECT CASE WHEN json_valid(text) THEN json_type(text) ELSE 'BAD' END AS kind,
                   CASE WHEN json_valid(text) THEN hash(json_keys(text)) ELSE 0 END AS keys,
                   CASE WHEN json_valid(text) AND json_type(text) = 'OBJECT'
                        THEN json_transform(text, {quote_literal(structure)}) END AS v
            FROM _texts
            """
        ).to_arrow_table()  # DuckDB keeps the order of insertion
    finally:
        con.unregister("_texts")
    kind = table["kind"].combine_chunks()
    is_object = pc.equal(kind, "OBJECT").to_numpy(zero_copy_only=False)
    is_bad = pc.equal(kind, "BAD").to_numpy(zero_copy_only=False)
    state = np.where(is_object, OK, np.where(is_bad, BAD_JSON, NOT_OBJECT)).astype(np.int8)
    # Records of one source carry few different sets of names, so names are judged once per set, not per record.
    keys = table["keys"].to_numpy()
    unknown: dict[int, list[str]] = {}
    position = np.flatnonzero(is_object)
    _, first, of_set = np.unique(keys[position], return_index=True, return_inverse=True)
    for number, names in enumerate(_member_names(con, texts.take(pa.array(position[first])))):
        extra = sorted(set(names) - set(fields))
        if extra or len(names) != len(set(names)):
            rows = position[of_set == number]
            state[rows] = UNKNOWN_FIELD if extra else REPEATED_FIELD
            unknown.update(dict.fromkeys(rows.tolist(), extra))
    values = table["v"].combine_chunks()
    columns = {field: pc.struct_field(values, [number]) for number, field in enumerate(fields)}
    return Extracted(pa.table(columns), state, unknown)


def _member_names(con: duckdb.DuckDBPyConnection, samples: pa.Array) -> list[list[str]]:
    con.register("_samples", pa.table({"position": pa.array(range(len(samples)), pa.int64()), "text": samples}))
    try:
        found = con.execute("SELECT json_keys(text) FROM _samples ORDER BY position").fetchall()
    finally:
        con.unregister("_samples")
    return [names for (names,) in found]
