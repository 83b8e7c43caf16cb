"""Packed deliveries of row formats: what stands inside a .gz or .zip is decoded entry by entry, as one object.

A row keeps the object that was received as its source; its record number says the entry as well: entry n (from 0, in
the archive's order) adds n × :data:`ENTRY_STRIDE`. An entry that cannot be read or is refused is one issue of the object
(its names are not shown: they may be a person's); when it is the only entry, the object is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ingestion.decoders.base import ITEM_NO, RECORD_NO, SOURCE_OBJECT, Decoded, DecodeIssue, refusal
from ingestion.decoders.container import Entry, is_gzip, is_zip, unpack
from ingestion.decoders.numbers import together
from lake.errors import TiyuError

ENTRY_STRIDE = 1_000_000_000
OPTIONS: dict[str, type | tuple[type, ...]] = {"container": str, "entries": (str, type(None))}
Run = Callable[[list[tuple[str, str, bytes]]], Decoded]
_HINT = "请数据源单位重新打包后报送；文件已留存，可在修正后重放"


def unpacking(run: Run, kind: str, options: dict[str, Any]) -> Run:
    """The same decoder for packed objects. ``container``: ``none``, ``gzip``, ``zip``, or ``auto`` (as its first bytes
    say, packed or not); ``entries``: regular expression for the names of the entries to read (default all).

    Refused as a whole: not the container that was agreed, none declared for a packed object, nothing inside to read
    (TIYU-ING-0220), too large when unfolded (0216).
    """
    container = options.get("container", "none")
    wanted = re.compile(options["entries"]) if options.get("entries") else None

    def decode(objects: list[tuple[str, str, bytes]]) -> Decoded:
        parts: list[Decoded] = []
        plain: list[tuple[str, str, bytes]] = []
        for sha, name, content in objects:
            found = _found(content, kind)
            if found == "none" and container in ("none", "auto"):
                plain.append((sha, name, content))
                continue
            try:
                if container not in ("auto", found):
                    raise _wrong(container, found, name)
                parts.append(_decode_entries(run, sha, name, _entries(name, content, wanted)))
            except TiyuError as error:
                parts.append(Decoded({}, [], 0, {}, {sha: error}))
        if plain or not parts:
            parts.append(run(plain))
        return parts[0] if len(parts) == 1 else _together(parts)

    return decode


def _found(content: bytes, kind: str) -> str:
    if is_gzip(content):
        return "gzip"
    # a workbook is a zip itself: it names its list of content types near its beginning and in its directory at the end
    is_workbook = kind == "xlsx" and b"[Content_Types].xml" in content[:8192] + content[-65_536:]
    return "zip" if is_zip(content) and not is_workbook else "none"


def _wrong(declared: str, found: str, name: str) -> TiyuError:
    words = {"none": "未打包", "gzip": "gzip 压缩", "zip": "zip 压缩包", "auto": "自动识别"}
    return refusal(
        "TIYU-ING-0220",
        f"对象是{words[found]}的，契约约定为{words[declared]}",
        "请在契约的解码器中写明 container，或请数据源单位按约定报送；文件已留存，可在修改契约后重放",
        object_name=name,
        declared=declared,
        found=found,
    )


def _entries(name: str, content: bytes, wanted: re.Pattern[str] | None) -> list[tuple[int, Entry]]:
    found = list(enumerate(unpack(name, content)))
    chosen = [(number, entry) for number, entry in found if wanted is None or wanted.search(entry.name)]
    if not chosen:
        message = "压缩包内没有文件" if not found else "压缩包内没有名称符合契约的文件"
        raise refusal("TIYU-ING-0220", message, _HINT, object_name=name)
    return chosen


def _decode_entries(run: Run, sha: str, name: str, entries: list[tuple[int, Entry]]) -> Decoded:
    """Entries one after the other: only one of them is unfolded into rows at a time."""
    parts: list[Decoded] = []
    for number, entry in entries:
        at = f"压缩包内第 {number + 1} 个文件"
        if entry.problem is None:
            part = run([(sha, f"{name}（{at}）", entry.content)])
            error = part.refusals.pop(sha, None)
        else:
            part = Decoded({}, [], 0)
            error = refusal("TIYU-ING-0220", entry.problem, _HINT, object_name=f"{name}（{at}）")
        if error is not None:
            if len(entries) == 1:
                raise error
            issue = DecodeIssue(0, None, None, error.code, error.message_zh, None, sha)
            part = Decoded({}, [issue], 1, {sha: 1})
        for table_name, table in part.tables.items():
            column = pc.add(table[RECORD_NO], pa.scalar(number * ENTRY_STRIDE, pa.int64()))
            part.tables[table_name] = table.set_column(table.schema.get_field_index(RECORD_NO), RECORD_NO, column)
        for issue in part.issues:
            issue.record_no += number * ENTRY_STRIDE
            issue.byte_from = issue.byte_to = None  # the entry has such a place, the object received has not
            issue.reason_zh = f"{at}：{issue.reason_zh}"
        parts.append(part)
    return _together(parts)


def _together(parts: list[Decoded]) -> Decoded:
    tables: dict[str, list[pa.Table]] = {}
    counts: dict[str, int] = {}
    refusals: dict[str, TiyuError] = {}
    for part in parts:
        for name, table in part.tables.items():
            tables.setdefault(name, []).append(table)
        for sha, count in part.root_counts.items():
            counts[sha] = counts.get(sha, 0) + count
        refusals.update(part.refusals)
    issues = [issue for part in parts for issue in part.issues]
    unknown = {name: columns for part in parts for name, columns in part.unknown.items()}
    joined = {name: together(found, (RECORD_NO, SOURCE_OBJECT, ITEM_NO)) for name, found in tables.items()}
    return Decoded(joined, issues, sum(counts.values()), counts, refusals, unknown)
