"""Text columns as delivered become typed columns, a column at a time and each distinct text once.

What a text becomes is said by `ingestion.conversion` alone; this module only sees to it that the same text is not
converted a thousand times. Plain numbers, which hardly repeat, are read by a faster reader where it is certain to agree,
and every text it cannot read goes the ordinary way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from catalog import types
from catalog.contracts import ObjectSpec, PropertySpec
from ingestion import conversion
from lake.arrow import folded

_PLAIN = {"DOUBLE": pl.Float64, "INTEGER": pl.Int32, "BIGINT": pl.Int64}


@dataclass(frozen=True)
class Typed:
    """The typed columns of delivered rows, by the name they have in memory (`PropertySpec.raw_name`).

    columns: as Arrow arrays; a text column with few distinct values is a dictionary. type_errors: property name → where a
    text was there but could not be converted (absent when nowhere). folded: the columns with few distinct values, of
    whatever type, as dictionaries.
    """

    columns: dict[str, pa.Array]
    type_errors: dict[str, pa.Array]
    folded: dict[str, pa.DictionaryArray] = field(default_factory=dict)


class Memo:
    """What earlier chunks of a batch found out about single values, so that it is asked once; in memory only.

    A memo belongs to one contract and one instant (`as_of`).
    """

    _MOST = 200_000

    def __init__(self) -> None:
        self._known: dict[str, tuple[pa.Array, list[pa.Array]]] = {}

    def look_up(self, key: str, values: pa.Array, find: Callable[[pa.Array], list[pa.Array]]) -> list[pa.Array]:
        """``find(values)`` (arrays as long as the values), asked only for those that were not asked for before."""
        if key not in self._known or len(self._known[key][0]) > self._MOST:
            found = find(values)
            self._known[key] = (values, found)
            return found
        known, results = self._known[key]
        at = pc.index_in(values, known)
        if at.null_count:
            new = pc.unique(values.filter(pc.is_null(at)))
            more = find(new)
            known = pa.concat_arrays([known, new])
            results = [pa.concat_arrays([old, add.cast(old.type)]) for old, add in zip(results, more, strict=True)]
            self._known[key] = (known, results)
            at = pc.index_in(values, known)
        return [result.take(at) for result in results]


def typed_columns(
    con: duckdb.DuckDBPyConnection, obj: ObjectSpec, delivered: pa.Table, memo: Memo | None = None
) -> Typed:
    """Convert the delivered texts (named as in the source) of a contract object; a source field that was not delivered is null."""
    memo = memo or Memo()
    columns: dict[str, pa.Array] = {}
    errors: dict[str, pa.Array] = {}
    few: dict[str, pa.DictionaryArray] = {}
    encoded: dict[str, pa.DictionaryArray | None] = {}
    numbers = plain_numbers(obj)
    for prop in obj.properties:
        if prop.source_name is None or prop.derive is not None:
            continue
        source = str(prop.source_name)
        if source not in delivered.column_names:
            columns[prop.raw_name] = pa.nulls(delivered.num_rows, _arrow_type(prop))
            continue
        if pa.types.is_primitive(delivered.schema.field(source).type) and source in numbers:
            columns[prop.raw_name] = delivered[source].combine_chunks()
            continue
        texts = _whole(delivered[source])
        if source not in encoded:
            encoded[source] = texts if pa.types.is_dictionary(texts.type) else folded(texts)
        once = encoded[source]
        if once is not None:
            values, wrong = memo.look_up(
                f"typed {prop.name}", once.dictionary, partial(_converted_and_wrong, con, prop)
            )
            is_text = pa.types.is_string(values.type) and not values.null_count
            few[prop.raw_name] = pa.DictionaryArray.from_arrays(once.indices, values)
            columns[prop.raw_name] = few[prop.raw_name] if is_text else values.take(once.indices)
            where = pc.fill_null(wrong.take(once.indices), False) if pc.any(wrong).as_py() else None
        else:
            values = _read_plain(con, prop, texts)
            columns[prop.raw_name] = _converted(con, prop, texts) if values is None else values
            where = _wrong(con, prop, texts, columns[prop.raw_name])
        if where is not None and not prop.protection and prop.type != "VARCHAR" and pc.any(where).as_py():
            errors[prop.name] = where
    return Typed(columns, errors, few)


def plain_numbers(obj: ObjectSpec) -> dict[str, str]:
    """Source fields that are nothing but plain numbers of one type, which a decoder may therefore read itself: field → type."""
    found: dict[str, set[str | None]] = {}
    for prop in obj.properties:
        if prop.source_name is not None and prop.derive is None:
            kind = prop.type if conversion.is_plain_number(prop) else None
            found.setdefault(str(prop.source_name), set()).add(kind)
    return {name: kind for name, (kind, *more) in ((n, tuple(k)) for n, k in found.items()) if kind and not more}


def _arrow_type(prop: PropertySpec) -> pa.DataType:
    return pa.string() if prop.protection else types.arrow_type(prop.type)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    return array if pa.types.is_string(array.type) or pa.types.is_dictionary(array.type) else array.cast(pa.string())


def _evaluate(con: duckdb.DuckDBPyConnection, prop: PropertySpec, texts: pa.Array, sql: str) -> pa.Array:
    """An expression over the delivered text of a property, for each of the texts."""
    if not len(texts):
        return pa.array([], _arrow_type(prop))
    con.register("_texts_of_column", pa.table({conversion.SOURCE + str(prop.source_name): texts}))
    try:
        return con.execute(f"select {sql} as v from _texts_of_column").to_arrow_table()["v"].combine_chunks()
    finally:
        con.unregister("_texts_of_column")


def _converted_and_wrong(con: duckdb.DuckDBPyConnection, prop: PropertySpec, texts: pa.Array) -> list[pa.Array]:
    values = _converted(con, prop, texts)
    wrong = _wrong(con, prop, texts, values)
    return [values, pa.array(np.zeros(len(texts), dtype=bool)) if wrong is None else wrong]


def _converted(con: duckdb.DuckDBPyConnection, prop: PropertySpec, texts: pa.Array) -> pa.Array:
    return _evaluate(con, prop, texts, conversion.expression(prop))


def _wrong(con: duckdb.DuckDBPyConnection, prop: PropertySpec, texts: pa.Array, values: pa.Array) -> pa.Array | None:
    """Where a text is there and its value is not; None where that cannot be."""
    lost = pc.and_(pc.is_null(values), pc.is_valid(texts))
    if not pc.any(lost).as_py():
        return None
    at = np.flatnonzero(lost.to_numpy(zero_copy_only=False))
    is_text = _evaluate(con, prop, texts.take(pa.array(at)), f"({conversion.text_of(prop)}) is not null")
    wrong = np.zeros(len(texts), dtype=bool)
    wrong[at] = is_text.to_numpy(zero_copy_only=False).astype(bool)
    return pa.array(wrong)


def _read_plain(con: duckdb.DuckDBPyConnection, prop: PropertySpec, texts: pa.Array) -> pa.Array | None:
    """Plain numbers read fast; None for a column that is something else or that a contract reads in another way.

    A whole number of digits and a decimal number in digits with an exponent mean the same to every reader. What Polars
    reads beyond that (``inf``, ``nan``) or does not read is converted the ordinary way.
    """
    if not conversion.is_plain_number(prop):
        return None
    values = pl.Series(texts).cast(_PLAIN[prop.type], strict=False)
    odd = values.is_null() if prop.type != "DOUBLE" else ~values.is_finite().fill_null(False)
    at = np.flatnonzero((odd & pl.Series(pc.is_valid(texts))).to_numpy())
    read = values.to_arrow()
    if not len(at):
        return read
    if len(at) > len(texts) // 2:
        return None
    mended = _converted(con, prop, texts.take(pa.array(at)))
    mask = np.zeros(len(texts), dtype=bool)
    mask[at] = True
    return pc.replace_with_mask(read, pa.array(mask), mended.cast(read.type))
