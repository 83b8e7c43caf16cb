"""Decoder ``ndjson``: one JSON object a line, UTF-8. ``_record_no`` is the physical line; a blank line is no record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from ingestion.decoders import json_inside, json_strict
from ingestion.decoders.base import (
    PREVIEW_BYTES,
    RECORD_NO,
    SOURCE_OBJECT,
    Decoded,
    DecodeIssue,
    Layout,
    extra_fields,
)
from ingestion.decoders.json_rows import (
    BAD_JSON,
    NOT_OBJECT,
    OK,
    REPEATED_FIELD,
    UNKNOWN_FIELD,
    Extracted,
    extract_numbers,
    look,
)
from ingestion.decoders.lines import Joined, Piece, blank, cut_at_lines, gather, split_lines, undecodable
from lake.errors import TiyuError

OPTIONS: dict[str, type | tuple[type, ...]] = {}

UNDECODABLE = 9
REASONS = {
    BAD_JSON: ("decode.bad_json", "该记录不是完整合法的 JSON"),
    NOT_OBJECT: ("decode.not_object", "该记录不是 JSON 对象"),
    UNKNOWN_FIELD: ("decode.unknown_field", "该记录含有契约未登记的字段"),
    REPEATED_FIELD: ("decode.repeated_field", "该记录的同一字段出现多次"),
    json_strict.NOT_A_NUMBER: ("decode.not_a_number", json_strict.REASONS["decode.not_a_number"]),
    json_strict.LONE_SURROGATE: ("decode.lone_surrogate", json_strict.REASONS["decode.lone_surrogate"]),
    json_strict.TOO_DEEP: ("decode.too_deep", json_strict.REASONS["decode.too_deep"]),
    UNDECODABLE: ("decode.bad_encoding", "该记录含有无法按约定编码解读的字节"),
}


def reads_pieces(options: dict[str, Any]) -> bool:
    """A line is a record, wherever it stands, unless what is sent is packed."""
    return bool(options.get("container", "none") == "none")


def pieces(options: dict[str, Any], content: Iterator[bytes], size: int, joined: Joined) -> Iterator[Piece]:
    """Pieces of about ``size`` bytes of a large object, each of whole lines; a record is counted by its physical line."""
    position = 0
    for parts in cut_at_lines(content, size=size):
        part = joined(parts)
        begins, position = position, position + len(part)
        yield Piece(part, begins)  # from here on the block may be used for another piece


def decode_chunk(options: dict[str, Any], objects: list[tuple[str, str, bytes]], layout: Layout) -> Decoded:
    """Decode a chunk of NDJSON objects. A broken line is an issue; a field that *every* record of an object (of a piece
    of a large one) carries and that the contract does not know refuses the object (TIYU-ING-0211), on some records it is
    an issue."""
    lines = split_lines([content for _, _, content in objects], "utf-8")
    bad = undecodable(lines, "utf-8")
    record = np.flatnonzero(~blank(lines) | bad)
    readable = record[~bad[record]]
    buffer, offsets = gather(lines, readable)
    texts = pa.LargeStringArray.from_buffers(len(readable), pa.py_buffer(offsets.tobytes()), pa.py_buffer(buffer))
    found = _with_numbers(texts, buffer, layout) or json_inside.read(texts, buffer, layout, look(buffer))
    of = lines.object_no[readable]
    total = np.bincount(lines.object_no[record], minlength=len(objects))
    refusals = judge_unknown(found, of, total, objects, layout)
    refused = np.array([sha in refusals for sha, _, _ in objects], dtype=bool)

    full_state = np.full(len(lines.start), UNDECODABLE, dtype=np.int8)
    full_state[readable] = found.state
    issues = []
    position = {int(readable[place]): place for place in found.places}
    for index in record[(full_state[record] != OK) & ~refused[lines.object_no[record]]]:
        is_inside = int(full_state[index]) in json_inside.REASONS
        rule_id, reason = (
            json_inside.reason_of(found, position[int(index)]) if is_inside else REASONS[int(full_state[index])]
        )
        start, end = lines.byte_range(index)
        sha = objects[lines.object_no[index]][0]
        preview = bytes(lines.text_range(index)[:PREVIEW_BYTES])
        issues.append(DecodeIssue(int(lines.line_no[index]), start, end, rule_id, reason, preview, sha))

    keep = (found.state == OK) & ~refused[of]
    rows = found.rows if keep.all() else found.rows.filter(pa.array(keep))
    rows = with_origin(rows, lines.line_no[readable][keep], of[keep], objects)
    root_counts = {sha: int(total[number]) for number, (sha, _, _) in enumerate(objects) if sha not in refusals}
    tables = {layout.table: rows} | list_rows(found, keep, lines.line_no[readable], of, objects)
    return Decoded(tables, issues, sum(root_counts.values()), root_counts, refusals, numbered=len(lines.start))


def _with_numbers(texts: pa.Array, raw: bytes, layout: Layout) -> Extracted | None:
    """The texts read with numbers as numbers, where the layout allows it and the texts do."""
    if not layout.numbers.worth_trying or layout.is_nested:
        return None
    found = extract_numbers(texts, raw, layout.fields, layout.numbers)
    if found is None:
        layout.numbers.in_vain += 1
    return found


def list_rows(
    found: Extracted, keep: Any, record_no: Any, object_no: Any, objects: list[tuple[str, str, bytes]]
) -> dict[str, pa.Table]:
    """The elements of lists inside the texts that are kept, with their origin."""
    tables = {}
    for name, items in found.lists.items():
        of = items[json_inside.TEXT_NO].to_numpy()
        if not keep.all():
            items = items.filter(pa.array(keep[of]))
            of = items[json_inside.TEXT_NO].to_numpy()
        tables[name] = with_origin(items.drop_columns([json_inside.TEXT_NO]), record_no[of], object_no[of], objects)
    return tables


def judge_unknown(
    found: Extracted, object_no: Any, total: Any, objects: list[tuple[str, str, bytes]], layout: Layout
) -> dict[str, TiyuError]:
    """Objects to refuse since every record of them carries a field that the contract does not know."""
    unknown = found.state == UNKNOWN_FIELD
    if layout.allow_extra:
        for number in np.unique(object_no[unknown]):
            names = found.unknown_names(np.flatnonzero(unknown & (object_no == number)))
            layout.note_unknown(objects[number][1], names)
        found.state[unknown] = OK
        return {}
    per_object = np.bincount(object_no[unknown], minlength=len(objects))
    refusals = {}
    for number in np.flatnonzero((per_object == total) & (total > 0)):
        names = found.unknown_names(np.flatnonzero(unknown & (object_no == number)))
        refusals[objects[number][0]] = extra_fields(objects[number][1], names)
    return refusals


def with_origin(table: pa.Table, record_no: Any, object_no: Any, objects: list[tuple[str, str, bytes]]) -> pa.Table:
    """Add ``_record_no`` and ``_source_object`` (a dictionary: few objects, many rows) to rows."""
    names = pa.array([sha for sha, _, _ in objects], pa.string())
    table = table.drop_columns([name for name in (RECORD_NO, SOURCE_OBJECT) if name in table.column_names])
    table = table.append_column(RECORD_NO, pa.array(record_no, pa.int64()))
    of_row = pa.array(object_no, pa.int32())
    return table.append_column(SOURCE_OBJECT, pa.DictionaryArray.from_arrays(of_row, names))
