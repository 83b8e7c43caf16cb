"""Decoder ``ndjson``: one JSON object a line, UTF-8. ``_record_no`` is the physical line; a blank line is no record."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.decoders.base import (
    PREVIEW_BYTES,
    RECORD_NO,
    SOURCE_OBJECT,
    Decoded,
    DecodeIssue,
    Layout,
    empty_table,
    extra_fields,
)
from ingestion.decoders.json_rows import extract
from ingestion.decoders.lines import blank, gather, split_lines, undecodable
from lake.errors import TiyuError

OPTIONS: dict[str, type | tuple[type, ...]] = {}

REASONS = {
    "bad_json": ("decode.bad_json", "该行不是完整合法的 JSON"),
    "not_object": ("decode.not_object", "该记录不是 JSON 对象"),
    "unknown_field": ("decode.unknown_field", "该记录含有契约未登记的字段"),
    "repeated_field": ("decode.repeated_field", "该记录的同一字段出现多次"),
    "undecodable": ("decode.bad_encoding", "该行含有无法按约定编码解读的字节"),
}


def decode_chunk(options: dict[str, Any], objects: list[tuple[str, str, bytes]], layout: Layout) -> Decoded:
    """Decode a chunk of NDJSON objects. A broken line is an issue; a field that *every* record of an object carries
    and that the contract does not know refuses the object (TIYU-ING-0211), on some records it is an issue."""
    lines = split_lines([content for _, _, content in objects], "utf-8")
    bad = undecodable(lines, "utf-8")
    record = np.flatnonzero(~blank(lines) | bad)
    readable = record[~bad[record]]
    buffer, offsets = gather(lines, readable)
    texts = pa.LargeStringArray.from_buffers(len(readable), pa.py_buffer(offsets.tobytes()), pa.py_buffer(buffer))
    table = extract(texts, layout.fields)
    state = np.asarray(table["state"].to_numpy(zero_copy_only=False), dtype=object)
    if layout.allow_extra:
        state[state == "unknown_field"] = "ok"

    refusals: dict[str, TiyuError] = {}
    unknown = state == "unknown_field"
    if unknown.any():
        of = lines.object_no[readable]
        total = np.bincount(lines.object_no[record], minlength=len(objects))
        per_object = np.bincount(of[unknown], minlength=len(objects))
        for number in np.flatnonzero((per_object == total) & (total > 0)):
            names = pc.unique(pc.list_flatten(table["unknown"].filter(pa.array(unknown & (of == number)))))
            sha, name, _ = objects[number]
            refusals[sha] = extra_fields(name, sorted(names.to_pylist()))
    refused = np.array([sha in refusals for sha, _, _ in objects], dtype=bool)

    full_state = np.full(len(lines.start), "undecodable", dtype=object)
    full_state[readable] = state
    issues = []
    for index in record[(full_state[record] != "ok") & ~refused[lines.object_no[record]]]:
        rule_id, reason = REASONS[full_state[index]]
        start, end = lines.byte_range(index)
        sha = objects[lines.object_no[index]][0]
        preview = lines.text_range(index)[:PREVIEW_BYTES]
        issues.append(DecodeIssue(int(lines.line_no[index]), start, end, rule_id, reason, preview, sha))

    keep = (state == "ok") & ~refused[lines.object_no[readable]]
    rows = table.select(list(layout.fields)).filter(pa.array(keep)) if len(readable) else empty_table(layout.fields)
    rows = with_origin(rows, lines.line_no[readable][keep], lines.object_no[readable][keep], objects)
    counts = np.bincount(lines.object_no[record], minlength=len(objects))
    root_counts = {sha: int(counts[number]) for number, (sha, _, _) in enumerate(objects) if sha not in refusals}
    return Decoded({layout.table: rows}, issues, sum(root_counts.values()), root_counts, refusals)


def with_origin(table: pa.Table, record_no: Any, object_no: Any, objects: list[tuple[str, str, bytes]]) -> pa.Table:
    """Add ``_record_no`` and ``_source_object`` to rows."""
    names = pa.array([sha for sha, _, _ in objects], pa.string())
    table = table.drop_columns([name for name in (RECORD_NO, SOURCE_OBJECT) if name in table.column_names])
    table = table.append_column(RECORD_NO, pa.array(record_no, pa.int64()))
    return table.append_column(SOURCE_OBJECT, names.take(pa.array(object_no, pa.int64())))
