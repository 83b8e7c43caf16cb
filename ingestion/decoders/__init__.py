"""How data is read: one module per file format, chosen by name in the contract.

Row formats (``csv``, ``ndjson``, ``json_items``, ``xlsx``, ``parquet``, ``xml``) give text exactly as sent, one string column per source
field, and the pipeline types it; plain numbers may come as numbers where it asks for them (`ingestion.decoders.numbers`).
``activity`` gives typed tables. No decoder writes to a disk.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ingestion.decoders import csv_rows, json_items, ndjson, parquet, unpacking, xlsx, xml_rows
from ingestion.decoders.base import (
    BATCH_BYTES,
    CHUNK_BYTES,
    RECORD_NO,
    SOURCE_OBJECT,
    Decoded,
    DecodeIssue,
    Layout,
    LostObject,
    Pieces,
    check_decoder_options,
    layout_of,
    refusal,
    snake_case,
)
from ingestion.decoders.lines import MAX_LINE_BYTES, LineTooLong, Piece
from ingestion.decoders.numbers import Numbers
from lake.errors import EXIT_USAGE, TiyuError
from lake.memory import Blocks

__all__ = ["DecodeIssue", "Decoded", "Pieces", "batch_bytes", "decode", "decode_many", "reads_pieces"]

_READ_BYTES = 1024 * 1024
"""What is read of a large object at once: little enough for the allocator to have a place for it at hand."""
_AT_ONCE = 2
"""Pieces of a large object that are decoded side by side."""
_LINE = re.compile(r"^第 (\d+) 行")
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
    objects: Iterable[tuple[str, str, Any]],
    contract: Any,
    *,
    chunk_bytes: int | None = None,
    numbers: dict[str, str] | None = None,
) -> Iterator[Decoded]:
    """Decode many objects, given as (sha256, name, bytes or Pieces), in chunks of about ``chunk_bytes``.

    The tables of a result carry ``_source_object``, its issues ``object_sha256``; objects that are refused stand in
    ``refusals`` and do not disturb the others. A result covers whole objects or one piece of a large one: its counts are
    of that piece, and when a later piece is refused the object is, with all that was given of it before. ``numbers``: source
    fields that may come as numbers and not as text (field → type, `ingestion.decoders.numbers`).
    Errors: TIYU-ING-0201, 0202 only.
    """
    run, default_bytes = _runner(decoder_options, contract, Numbers(numbers or {}))
    limit = chunk_bytes or default_bytes
    small: list[tuple[str, str, bytes]] = []
    size = 0
    for sha, name, content in objects:
        if isinstance(content, Pieces):
            if small:
                yield run(small)
                small, size = [], 0
            yield from _decode_pieces(decoder_options, run, sha, name, content, limit)
            continue
        if small and size + len(content) > limit:
            yield run(small)
            small, size = [], 0
        small.append((sha, name, content if isinstance(content, bytes) else bytes(content)))
        size += len(content)
    if small:
        yield run(small)


def reads_pieces(decoder_options: Any) -> bool:
    """Whether an object of this format may be given in pieces (line formats, whose records can be told apart anywhere)."""
    kind, options = _kind_and_options(decoder_options)
    module = _ROW_DECODERS.get(kind)
    return bool(module and getattr(module, "reads_pieces", lambda options: False)(options))


def _decode_pieces(
    decoder_options: Any, run: Callable[..., Decoded], sha: str, name: str, content: Pieces, limit: int
) -> Iterator[Decoded]:
    """A large object piece by piece, records and bytes counted through; the first refusal ends it."""
    kind, options = _kind_and_options(decoder_options)
    module = _ROW_DECODERS[kind]
    records = 0
    told: set[str] = set()
    blocks = Blocks()
    try:
        pieces = module.pieces(options, content.read(min(limit, _READ_BYTES)), limit, blocks.joined)
        for piece, decoded in _side_by_side(pieces, lambda piece: run([(sha, name, piece.content)])):
            met = [column for columns in decoded.unknown.values() for column in columns]
            decoded.unknown = {name: new} if (new := sorted(set(met) - told)) else {}
            told.update(met)
            for table_name, table in decoded.tables.items():
                position = table.schema.get_field_index(RECORD_NO)
                shifted = pc.add(table[RECORD_NO], pa.scalar(records, pa.int64()))
                decoded.tables[table_name] = table.set_column(position, RECORD_NO, shifted)
            for issue in decoded.issues:
                issue.record_no += records
                issue.reason_zh = _moved(issue.reason_zh, piece.line_shift)
                if issue.byte_from is not None and issue.byte_to is not None:
                    issue.byte_from += piece.byte_shift
                    issue.byte_to += piece.byte_shift
            blocks.give_back(piece.content)
            yield decoded
            if decoded.refusals:
                return
            records += decoded.numbered if decoded.numbered is not None else decoded.root_counts.get(sha, 0)
    except LineTooLong:
        most = f"{MAX_LINE_BYTES >> 20} MiB"
        error = refusal(
            "TIYU-ING-0224",
            f"文件有一行超过 {most}，不是按行分隔的记录",
            "请数据源单位核对换行符与文件格式后重新报送；文件已留存，未入库任何一行",
            object_name=name,
        )
        yield Decoded({}, [], 0, refusals={sha: error})
    except LostObject as lost:
        yield Decoded({}, [], 0, refusals={sha: lost.error})


def _side_by_side(pieces: Iterator[Piece], decode: Callable[[Piece], Decoded]) -> Iterator[tuple[Piece, Decoded]]:
    """Pieces with what they hold, in order, two being decoded at a time."""
    waiting: deque[tuple[Piece, Future[Decoded]]] = deque()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for piece in pieces:
            waiting.append((piece, pool.submit(decode, piece)))
            if len(waiting) == _AT_ONCE:
                first, done = waiting.popleft()
                yield first, done.result()
        for first, done in waiting:
            yield first, done.result()


def batch_bytes(kind: str) -> int:
    """How many bytes of source objects one batch may hold, by decoder: what they unfold to must fit into memory."""
    if kind == "activity":
        import ingestion.decoders.activity as activity

        return activity.BATCH_BYTES
    return BATCH_BYTES


def _moved(reason: str, lines: int) -> str:
    """A reason that begins with a line number, with that of the object."""
    return _LINE.sub(lambda found: f"第 {int(found[1]) + lines} 行", reason)


def _kind_and_options(decoder_options: Any) -> tuple[Any, dict[str, Any]]:
    if isinstance(decoder_options, dict):
        options = snake_case(decoder_options)
        return options.pop("kind", None), options
    options = snake_case(decoder_options.decoder_options)
    options.pop("kind", None)
    return decoder_options.decoder, options


def _runner(
    decoder_options: Any, contract: Any, numbers: Numbers | None = None
) -> tuple[Callable[[list[tuple[str, str, bytes]]], Decoded], int]:
    kind, options = _kind_and_options(decoder_options)
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
    layout = replace(layout, numbers=numbers or Numbers())

    def run(chunk: list[tuple[str, str, bytes]]) -> Decoded:
        mine = replace(layout, unknown={})
        done: Decoded = module.decode_chunk(options, chunk, mine)
        done.unknown = {name: sorted(columns) for name, columns in mine.unknown.items()}
        return done

    # what is packed may unfold many times over, and a chunk is unfolded as a whole
    usual = getattr(module, "CHUNK_BYTES", CHUNK_BYTES)
    small = usual if options.get("container", "none") == "none" else CHUNK_BYTES // 16
    return unpacking.unpacking(run, kind, options), small
