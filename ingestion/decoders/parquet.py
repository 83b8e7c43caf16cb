"""Decoder ``parquet``: one Parquet file, read row group by row group; each column becomes text, as in every row format.

Options: ``header_aliases``, ``header_match``, ``optional_columns`` (see `ingestion.decoders.header`). ``_record_no`` is the 1-based row. Text of a value: integers and decimals in full; floats
in shortest round-trip form (``nan`` and ``inf`` stay words, which no numeric column accepts); booleans ``true`` and
``false``; dates ``YYYY-MM-DD``; times of day ``HH:MM:SS[.ffffff]``; instants ``YYYY-MM-DD HH:MM:SS[.ffffff]``, followed
by ``Z`` where the file says that they are instants (Parquet keeps them in UTC); null and the empty text are null.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestion.decoders.base import MAX_EXPANDED_BYTES, Decoded, Layout, empty_table, refusal
from ingestion.decoders.header import HEADER_OPTIONS, resolve_header
from ingestion.decoders.ndjson import with_origin
from lake.errors import TiyuError

OPTIONS: dict[str, type | tuple[type, ...]] = {**HEADER_OPTIONS}

#: Rows taken at once. A page of equal values takes a few bytes in the file, so what rows unfold to is bounded here.
BATCH_ROWS = 16_384
MAX_CELLS = 256_000_000
_HINT = "请数据源单位重新导出 Parquet 文件后报送；文件已留存，未入库任何一行"


def decode_chunk(options: dict[str, Any], objects: list[tuple[str, str, bytes]], layout: Layout) -> Decoded:
    """Decode Parquet files. Refused as a whole: not a sound Parquet file, or an encrypted one (TIYU-ING-0218), a column
    whose type has no plain text (nested, binary; 0219), too large when unfolded (0216), missing, unknown or repeated
    columns (0210, 0211, 0214)."""
    tables: list[pa.Table] = []
    refusals: dict[str, TiyuError] = {}
    root_counts: dict[str, int] = {}
    for number, (sha, name, content) in enumerate(objects):
        try:
            table = _read(options, content, name, layout)
        except TiyuError as error:
            refusals[sha] = error
            continue
        root_counts[sha] = table.num_rows
        record_no = np.arange(1, table.num_rows + 1, dtype=np.int64)
        tables.append(with_origin(table, record_no, np.full(table.num_rows, number, dtype=np.int64), objects))
    rows = pa.concat_tables(tables) if tables else empty_table(layout.fields)
    return Decoded({layout.table: rows}, [], sum(root_counts.values()), root_counts, refusals)


def _read(options: dict[str, Any], content: bytes, name: str, layout: Layout) -> pa.Table:
    if content[-4:] == b"PARE":
        raise refusal(
            "TIYU-ING-0218", "Parquet 文件已加密，无法读取", "请数据源单位以不加密的文件报送", object_name=name
        )
    try:
        # a text repeated a million times is held once: what it unfolds to is known before it is unfolded
        schema = pq.read_schema(pa.BufferReader(content))
        texts = [field.name for field in schema if _is_text(field.type)]
        file = pq.ParquetFile(pa.BufferReader(content), read_dictionary=texts, page_checksum_verification=True)
        names = tuple(file.schema_arrow.names)
        rows = file.metadata.num_rows
        expanded = sum(file.metadata.row_group(n).total_byte_size for n in range(file.metadata.num_row_groups))
    except Exception as error:  # the reader raises many kinds on damaged input; each means the same to the operator
        raise _damaged(name, error) from None
    if expanded > MAX_EXPANDED_BYTES or rows * max(len(names), 1) > MAX_CELLS:
        raise _too_large(name, expanded)
    delivered = dict(zip(resolve_header(names, name, layout, options), names, strict=True))
    wanted = {field: delivered[field] for field in layout.fields if field in delivered}
    for field, column in wanted.items():
        kind = file.schema_arrow.field(column).type
        if not _has_text(kind):
            raise refusal(
                "TIYU-ING-0219",
                f"Parquet 列 {field} 的类型 {kind} 不能作为一个值读取",
                "请数据源单位把嵌套列展开成普通列、把二进制列去掉后重新报送；文件已留存",
                object_name=name,
                column=field,
            )
    parts: list[pa.Table] = []
    size = 0
    try:
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(wanted.values()), use_threads=False):
            size += sum(_unfolded_bytes(column) for column in batch.columns)
            if size > MAX_EXPANDED_BYTES:
                raise _too_large(name, size)
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            parts.append(
                pa.table(
                    {
                        field: as_text(columns[wanted[field]]) if field in wanted else pa.nulls(len(batch), pa.string())
                        for field in layout.fields
                    }
                )
            )
    except TiyuError:
        raise
    except Exception as error:
        raise _damaged(name, error) from None
    table = pa.concat_tables(parts) if parts else empty_table(layout.fields)
    if table.num_rows != rows:
        raise _damaged(name, ValueError("rows"))
    return table


def _damaged(name: str, error: Exception) -> TiyuError:
    return refusal(
        "TIYU-ING-0218", "文件不是完整的 Parquet 文件，或已损坏", _HINT, object_name=name, reason=type(error).__name__
    )


def _too_large(name: str, expanded: int) -> TiyuError:
    hint = "请数据源单位确认文件；确属正常数据的，请拆分后重新报送"
    return refusal("TIYU-ING-0216", "Parquet 文件展开后过大，疑似压缩炸弹", hint, object_name=name, expanded=expanded)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _has_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _has_text(kind.value_type)
    return bool(
        pa.types.is_null(kind)
        or _is_text(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_date(kind)
        or pa.types.is_time(kind)
        or pa.types.is_timestamp(kind)
    )


def _unfolded_bytes(column: pa.Array) -> int:
    """What a column takes as plain text, at least: a dictionary's texts counted as often as they are used."""
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = pc.binary_length(column.dictionary.cast(pa.large_string()))
    return int(pc.sum(lengths.take(column.indices)).as_py() or 0) + 8 * len(column)


def as_text(column: pa.Array) -> pa.Array:
    """One column of values as text (the module's docstring says how each type is written)."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if pa.types.is_null(kind):
        return pa.nulls(len(column), pa.string())
    if pa.types.is_timestamp(kind):
        column = _timestamp_text(column)
    elif pa.types.is_time(kind):
        column = _without_zeros(column.cast(pa.string()))
    elif pa.types.is_date64(kind):
        column = column.cast(pa.date32())
    elif pa.types.is_float16(kind):
        column = column.cast(pa.float32())
    text = column.cast(pa.string())
    if pa.types.is_floating(kind):
        text = pc.replace_substring_regex(text, r"\.0$", "")
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def _timestamp_text(column: pa.Array) -> pa.Array:
    zoned = column.type.tz is not None
    plain = column.cast(pa.timestamp(column.type.unit))  # the same instant, written in UTC
    text = _without_zeros(plain.cast(pa.string()))
    return pc.binary_join_element_wise(text, "Z", "") if zoned else text


def _without_zeros(text: pa.Array) -> pa.Array:
    """Without the zeros that end a fraction of a second."""
    return pc.replace_substring_regex(pc.replace_substring_regex(text, r"(\.\d*?)0+$", r"\1"), r"\.$", "")
