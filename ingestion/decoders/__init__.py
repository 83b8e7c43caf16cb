"""How data is read: one module per file format, chosen by name in the contract.

Row formats (``csv``, ``ndjson``, ``json_items``, ``xlsx``, ``parquet``, ``xml``) give text exactly as sent, one string column per source
field; the pipeline types it. ``activity`` gives typed tables. No decoder writes to a disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ingestion.decoders import csv_rows, json_items, ndjson, parquet, unpacking, xlsx, xml_rows
from ingestion.decoders.base import (
    BATCH_BYTES,
    CHUNK_BYTES,
    SOURCE_OBJECT,
    Decoded,
    DecodeIssue,
    Layout,
    check_decoder_options,
    chunks,
    layout_of,
    snake_case,
)
from lake.errors import EXIT_USAGE, TiyuError

__all__ = ["DecodeIssue", "Decoded", "batch_bytes", "decode", "decode_many"]

_ROW_DECODERS: dict[str, Any] = {
    "csv": csv_rows,
    "ndjson": ndjson,
    "json_items": json_items,
    "xlsx": xlsx,
    "parquet": parquet,
    "xml": xml_rows,
}


def decode(
    decoder_options: Any,
    data: bytes | bytearray | memoryview | str | os.PathLike[str],
    *,
    object_name: str,
    object_sha256: str,
    contract: Any,
) -> Decoded:
    """Decode one object.

    decoder_options: the contract's ServerSpec, or ``{"kind": "csv", …options}``.
    Errors: TIYU-ING-0201 unknown decoder · 0202 option · 021x the object is refused as a whole (the object and what to
    do are named) · everything else is an issue of one record, never an exception.
    """
    content = Path(data).read_bytes() if isinstance(data, str | os.PathLike) else bytes(data)
    run, _ = _runner(decoder_options, contract)
    result = run([(object_sha256, object_name, content)])
    if object_sha256 in result.refusals:
        raise result.refusals[object_sha256]
    result.tables = {
        name: table.drop_columns([SOURCE_OBJECT]) if SOURCE_OBJECT in table.column_names else table
        for name, table in result.tables.items()
    }
    return result


def decode_many(
    decoder_options: Any,
    objects: Iterable[tuple[str, str, bytes]],
    contract: Any,
    *,
    chunk_bytes: int | None = None,
) -> Iterator[Decoded]:
    """Decode many objects, given as (sha256, name, bytes), in chunks of about ``chunk_bytes``.

    Each result covers whole objects: its tables carry ``_source_object``, its issues ``object_sha256``; objects that
    are refused stand in ``refusals`` and do not disturb the others. Errors: TIYU-ING-0201, 0202 only.
    """
    run, default_bytes = _runner(decoder_options, contract)
    for chunk in chunks(_as_bytes(objects), chunk_bytes or default_bytes):
        yield run(chunk)


def batch_bytes(kind: str) -> int:
    """How many bytes of source objects one batch may hold, by decoder: what they unfold to must fit into memory."""
    if kind == "activity":
        import ingestion.decoders.activity as activity

        return activity.BATCH_BYTES
    return BATCH_BYTES


def _as_bytes(objects: Iterable[tuple[str, str, Any]]) -> Iterator[tuple[str, str, bytes]]:
    for sha, name, content in objects:
        yield sha, name, content if isinstance(content, bytes) else bytes(content)


def _runner(decoder_options: Any, contract: Any) -> tuple[Callable[[list[tuple[str, str, bytes]]], Decoded], int]:
    if isinstance(decoder_options, dict):
        options = snake_case(decoder_options)
        kind = options.pop("kind", None)
    else:
        kind, options = decoder_options.decoder, snake_case(decoder_options.decoder_options)
        options.pop("kind", None)
    if kind == "activity":
        # The device-file libraries load only where they are needed.
        import ingestion.decoders.activity as activity

        check_decoder_options("activity", options, activity.OPTIONS)
        return lambda chunk: activity.decode_chunk(options, chunk), activity.CHUNK_BYTES
    if kind not in _ROW_DECODERS:
        raise TiyuError(
            "TIYU-ING-0201",
            "契约使用了未知的解码器",
            f"可用的解码器：{'、'.join(sorted([*_ROW_DECODERS, 'activity']))}",
            EXIT_USAGE,
            decoder=kind,
        )
    module = _ROW_DECODERS[kind]
    check_decoder_options(kind, options, module.OPTIONS | unpacking.OPTIONS)
    layout: Layout = layout_of(contract, options.get("optional_columns", ()))

    def run(chunk: list[tuple[str, str, bytes]]) -> Decoded:
        mine = replace(layout, unknown={})
        done: Decoded = module.decode_chunk(options, chunk, mine)
        done.unknown = {name: sorted(columns) for name, columns in mine.unknown.items()}
        return done

    # what is packed may unfold many times over, and a chunk is unfolded as a whole
    small = CHUNK_BYTES if options.get("container", "none") == "none" else CHUNK_BYTES // 16
    return unpacking.unpacking(run, kind, options), small
