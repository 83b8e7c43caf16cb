"""Decoder ``json_items``: a JSON document that holds a list of records (a page of an interface), UTF-8.

Option ``items_path``: dotted name of the list (default ``items``). ``_record_no`` is the 1-based place in the list.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from ingestion.decoders.base import PREVIEW_BYTES, Decoded, DecodeIssue, Layout, refusal
from ingestion.decoders.json_rows import BAD_JSON, OK, connection, extract, json_path
from ingestion.decoders.ndjson import REASONS, UNDECODABLE, judge_unknown, with_origin
from lake.errors import TiyuError
from lake.sql import quote_literal

OPTIONS: dict[str, type | tuple[type, ...]] = {"items_path": str}


def decode_chunk(options: dict[str, Any], objects: list[tuple[str, str, bytes]], layout: Layout) -> Decoded:
    """Decode a chunk of pages. A page that is not JSON is one unreadable record with the whole byte range; a page
    without the list is refused (TIYU-ING-0212); a field of every record that the contract does not know refuses the
    page (TIYU-ING-0211)."""
    items_path = options.get("items_path", "items")
    path = "$" + "".join(json_path(part)[1:] for part in items_path.split("."))
    issues: list[DecodeIssue] = []
    refusals: dict[str, TiyuError] = {}
    texts: list[str | None] = []
    for sha, _, content in objects:
        try:
            texts.append(content.decode("utf-8-sig"))
        except UnicodeDecodeError:
            texts.append(None)
            issues.append(_whole(sha, content, UNDECODABLE))
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
            issues.append(_whole(sha, content, BAD_JSON))
        elif kind != "ARRAY":
            refusals[sha] = refusal(
                "TIYU-ING-0212",
                f"应答中没有记录列表 {items_path}",
                "请数据源单位核对接口规范；应答已留存，可在修正后重放",
                object_name=name,
            )

    page_no = items["page"].to_numpy()
    place = items["place"].to_numpy()
    found = extract(items["text"].combine_chunks(), layout.fields)
    total = np.bincount(page_no, minlength=len(objects))
    refusals.update(judge_unknown(found, page_no, total, objects, layout))
    refused = np.array([sha in refusals for sha, _, _ in objects], dtype=bool)

    kept_page = ~refused[page_no]
    for index in np.flatnonzero((found.state != OK) & kept_page):
        rule_id, reason = REASONS[int(found.state[index])]
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
    return Decoded({layout.table: rows}, issues, sum(root_counts.values()), root_counts, refusals)


def _whole(sha: str, content: bytes, state: int) -> DecodeIssue:
    rule_id, _ = REASONS[state]
    reason = "整页应答不是完整合法的 JSON" if state == BAD_JSON else "整页应答含有无法解读的字节"
    return DecodeIssue(0, 0, len(content), rule_id, reason, content[:PREVIEW_BYTES], sha)
