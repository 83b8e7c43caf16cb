"""Decoder ``json_items``: a JSON document that holds a list of records (a page of an interface), UTF-8.

Option ``items_path``: dotted name of the list (default ``items``), ``$`` when the document is the list. ``_record_no`` is the 1-based place in the list.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.decoders import json_inside, json_strict
from ingestion.decoders.base import PREVIEW_BYTES, Decoded, DecodeIssue, Layout, refusal
from ingestion.decoders.json_rows import BAD_JSON, OK, connection, json_path
from ingestion.decoders.ndjson import REASONS, UNDECODABLE, judge_unknown, list_rows, with_origin
from lake.errors import TiyuError
from lake.sql import quote_literal

OPTIONS: dict[str, type | tuple[type, ...]] = {"items_path": str}


def decode_chunk(options: dict[str, Any], objects: list[tuple[str, str, bytes]], layout: Layout) -> Decoded:
    """Decode a chunk of pages. A page that is not JSON is one unreadable record with the whole byte range; a page
    without the list is refused (TIYU-ING-0212); a field of every record that the contract does not know refuses the
    page (TIYU-ING-0211)."""
    items_path = options.get("items_path", "items")
    names = [] if items_path == "$" else items_path.split(".")
    path = "$" + "".join(json_path(part)[1:] for part in names)
    issues: list[DecodeIssue] = []
    refusals: dict[str, TiyuError] = {}
    texts: list[str | None] = []
    for sha, _, content in objects:
        try:
            texts.append(content.decode("utf-8-sig"))
        except UnicodeDecodeError:
            texts.append(None)
            issues.append(_whole(sha, content, "整页应答含有无法解读的字节", REASONS[UNDECODABLE][0]))
    strict, broken = _read_strictly(texts, names)
    for page, rule in broken.items():
        texts[page] = None
        issues.append(_whole(objects[page][0], objects[page][2], json_strict.REASONS.get(rule), rule))
    con = connection()
    con.register(
        "_pages", pa.table({"page": pa.array(range(len(texts)), pa.int64()), "text": pa.array(texts, pa.string())})
    )
    quoted = quote_literal(path)
    every = quote_literal(path + "[*]")
    try:
        checked = con.execute(
            f"""SELECT page, json_valid(text) AS is_valid,
                       CASE WHEN json_valid(text) THEN coalesce(json_type(text, {quoted}), 'none') END AS kind
                FROM _pages WHERE text IS NOT NULL ORDER BY page"""
        ).fetchall()
        items = con.execute(
            f"""SELECT page, unnest(items)::VARCHAR AS text,
                       unnest(range(1, len(items) + 1)) AS place
                FROM (SELECT page, json_extract(text, {every}) AS items FROM _pages
                      WHERE CASE WHEN json_valid(text) THEN json_type(text, {quoted}) = 'ARRAY' ELSE false END)
                ORDER BY page, place"""
        ).to_arrow_table()
    finally:
        con.unregister("_pages")
    for page, is_valid, kind in checked:
        sha, name, content = objects[page]
        if not is_valid:
            issues.append(_whole(sha, content, None, REASONS[BAD_JSON][0]))
        elif kind != "ARRAY":
            refusals[sha] = refusal(
                "TIYU-ING-0212",
                f"应答中没有记录列表 {items_path}",
                "请数据源单位核对接口规范；应答已留存，可在修正后重放",
                object_name=name,
            )

    for page, records in strict.items():  # numbers as they were sent, where the reader would have changed some
        items = pa.concat_tables([items.filter(pc.not_equal(items["page"], page)), _items(items.schema, page, records)])
    items = items.sort_by([("page", "ascending"), ("place", "ascending")]) if strict else items
    page_no = items["page"].to_numpy()
    place = items["place"].to_numpy()
    item_texts = pa.concat_arrays(items["text"].chunks) if items.num_rows else pa.array([], pa.string())
    found = json_inside.read(item_texts, _bytes_of(item_texts), layout)
    total = np.bincount(page_no, minlength=len(objects))
    refusals.update(judge_unknown(found, page_no, total, objects, layout))
    refused = np.array([sha in refusals for sha, _, _ in objects], dtype=bool)

    kept_page = ~refused[page_no]
    for index in np.flatnonzero((found.state != OK) & kept_page):
        is_inside = int(found.state[index]) in json_inside.REASONS
        rule_id, reason = json_inside.reason_of(found, int(index)) if is_inside else REASONS[int(found.state[index])]
        preview = items["text"][int(index)].as_py()[:PREVIEW_BYTES].encode()[:PREVIEW_BYTES]
        sha = objects[page_no[index]][0]
        issues.append(DecodeIssue(int(place[index]), None, None, rule_id, reason, preview, sha))
    keep = (found.state == OK) & kept_page
    rows = with_origin(found.rows.filter(pa.array(keep)), place[keep], page_no[keep], objects)
    whole = {issue.object_sha256 for issue in issues if issue.record_no == 0}
    for issue in issues:
        issue.record_no = issue.record_no or 1
    root_counts = {
        sha: 1 if sha in whole else int(total[number])
        for number, (sha, _, _) in enumerate(objects)
        if sha not in refusals
    }
    tables = {layout.table: rows} | list_rows(found, keep, place, page_no, objects)
    return Decoded(tables, issues, sum(root_counts.values()), root_counts, refusals)


def _read_strictly(texts: list[str | None], names: list[str]) -> tuple[dict[int, list[str]], dict[int, str]]:
    """Records of the pages that the fast reader might change, and the rule of the pages that are refused."""
    records: dict[int, list[str]] = {}
    broken: dict[int, str] = {}
    for page, text in enumerate(texts):
        if text is None or not json_strict.worth_a_look(text.encode()):
            continue
        if not len(json_strict.suspects(pa.array([text]))) and json_strict.depth(text) <= json_strict.MAX_DEPTH:
            continue
        items, rule = json_strict.items_of(text, names)
        if rule is not None:
            broken[page] = rule
        elif items is not None:
            records[page] = items
    return records, broken


def _items(schema: pa.Schema, page: int, records: list[str]) -> pa.Table:
    return pa.table(
        {"page": [page] * len(records), "text": records, "place": list(range(1, len(records) + 1))}, schema=schema
    )


def _bytes_of(texts: pa.Array) -> bytes:
    buffer = texts.buffers()[2]
    return b"" if buffer is None else buffer.to_pybytes()


def _whole(sha: str, content: bytes, reason: str | None, rule_id: str) -> DecodeIssue:
    reason = reason or "整页应答不是完整合法的 JSON"
    reason = reason.replace("该记录", "整页应答")
    return DecodeIssue(0, 0, len(content), rule_id, reason, content[:PREVIEW_BYTES], sha)
