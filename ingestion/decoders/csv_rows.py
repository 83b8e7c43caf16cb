"""Decoder ``csv``: RFC 4180 text with a header, UTF-8 or GB18030.

Options: ``encoding`` (``utf-8`` default, ``gb18030``) · ``delimiter`` (default ``,``) · ``optional_columns`` source
names that may be absent. ``_record_no`` counts records after the header, blank lines not counted. An empty field is
null. A quoted field may span lines; in an object where that reading gives broken records (a stray quote), each line is
a record of its own, so that one stray quote costs one record and not the rest of the file.
"""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pacsv

from ingestion.decoders.base import (
    PREVIEW_BYTES,
    Decoded,
    DecodeIssue,
    Layout,
    empty_table,
    extra_fields,
    missing_fields,
    refusal,
)
from ingestion.decoders.lines import Ints, Lines, blank, gather_ranges, split_lines, undecodable
from ingestion.decoders.ndjson import with_origin
from lake.errors import TiyuError

OPTIONS: dict[str, type | tuple[type, ...]] = {
    "encoding": str,
    "delimiter": str,
    "optional_columns": list,
}
_ENCODINGS = {"utf-8": "utf-8", "utf8": "utf-8", "utf-8-sig": "utf-8", "gb18030": "gb18030", "gbk": "gb18030"}


def decode_chunk(options: dict[str, Any], objects: list[tuple[str, str, bytes]], layout: Layout) -> Decoded:
    """Decode a chunk of CSV objects.

    Refused as a whole: no header or one that cannot be read (TIYU-ING-0213), a missing column (0210), a column the
    contract does not know (0211), a repeated column (0214). A record with another number of fields, a broken quote or
    undecodable bytes is an issue.
    """
    encoding = _encoding(options)
    delimiter = options.get("delimiter", ",")
    if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n':
        raise TiyuError("TIYU-ING-0202", "分隔符必须是一个 ASCII 字符", "请修改契约", 2, option="delimiter")
    lines = split_lines([content for _, _, content in objects], encoding)
    records = _Records(lines, ord(delimiter), undecodable(lines, encoding), len(objects))

    refusals: dict[str, TiyuError] = {}
    headers: list[tuple[str, ...] | None] = []
    for number, (sha, name, _) in enumerate(objects):
        try:
            headers.append(_header(records, number, name, encoding, delimiter, layout))
        except TiyuError as error:
            refusals[sha] = error
            headers.append(None)
    width = np.array([len(header) if header else -1 for header in headers], dtype=np.int64)
    records.settle(width)

    issues: list[DecodeIssue] = []
    record_no = records.ordinal()
    data = records.is_data & (width[records.object_no] >= 0)
    good = data & ~records.is_bad & ~records.is_odd & (records.field_count == width[records.object_no])
    tables: list[pa.Table] = []
    for header in dict.fromkeys(item for item in headers if item):
        group = np.array([item == header for item in headers], dtype=bool)
        keep = np.flatnonzero(good & group[records.object_no])
        table, broken = _parse(records, keep, header, encoding, delimiter, layout)
        good[keep[broken]] = False
        keep = np.delete(keep, broken)
        tables.append(with_origin(table, record_no[keep], records.object_no[keep], objects))
    for index in np.flatnonzero(data & ~good):
        issues.append(_issue(records, int(index), int(record_no[index]), int(width[records.object_no[index]]), objects))

    counts = np.bincount(records.object_no[data], minlength=len(objects))
    root_counts = {sha: int(counts[number]) for number, (sha, _, _) in enumerate(objects) if sha not in refusals}
    rows = pa.concat_tables(tables) if tables else empty_table(layout.fields)
    return Decoded({layout.table: rows}, issues, sum(root_counts.values()), root_counts, refusals)


class _Records:
    """Records of a chunk: ranges of lines, with the number of fields of each."""

    def __init__(self, lines: Lines, delimiter: int, bad_line: npt.NDArray[np.bool_], object_count: int):
        self.lines = lines
        self.object_count = object_count
        self._blank = blank(lines) & ~bad_line
        self._bad_line = bad_line
        self._delimiters = np.flatnonzero(lines.data == delimiter).astype(np.int64)
        self._quotes = np.flatnonzero(lines.data == 34).astype(np.int64)
        starts_record = np.ones(len(lines.start), dtype=bool)
        if len(self._quotes) and len(lines.start):
            seen = np.searchsorted(self._quotes, lines.end)  # quotes before each line's end …
            seen = seen - np.searchsorted(self._quotes, lines.base[lines.object_no])  # … in its object
            inside = (seen & 1).astype(bool)
            starts_record[1:] = ~inside[:-1] | (lines.object_no[1:] != lines.object_no[:-1])
        self._cut(starts_record)

    def _cut(self, starts_record: npt.NDArray[np.bool_]) -> None:
        lines = self.lines
        self.first = np.flatnonzero(starts_record).astype(np.int64)
        self.last = np.append(self.first[1:], len(lines.start)).astype(np.int64) - 1
        self.start = lines.start[self.first]
        self.end = lines.end[self.last] if len(self.first) else self.first
        self.object_no = lines.object_no[self.first]
        self.bounds = np.append(self.start, len(lines.buffer)).astype(np.int64)
        of_line = np.cumsum(starts_record) - 1
        self.is_bad = np.bincount(of_line[self._bad_line], minlength=len(self.first)).astype(bool)
        single_blank = self._blank[self.first] & (self.first == self.last)
        quotes_before = np.searchsorted(self._quotes, self.bounds)
        self.is_odd = (np.diff(quotes_before) & 1).astype(bool)
        of_delimiter = np.searchsorted(self.start, self._delimiters, side="right") - 1
        if len(self._quotes) and len(self._delimiters):
            quoted = (np.searchsorted(self._quotes, self._delimiters) - quotes_before[of_delimiter]) & 1
            of_delimiter = of_delimiter[quoted == 0]
        self.field_count = np.bincount(of_delimiter, minlength=len(self.first)) + 1
        visible = np.flatnonzero(~single_blank)
        owners, position = np.unique(self.object_no[visible], return_index=True)
        self.header = np.full(self.object_count, -1, dtype=np.int64)
        self.header[owners] = visible[position]
        self.is_data = ~single_blank
        self.is_data[visible[position]] = False
        self._starts_record = starts_record

    def settle(self, width: Ints) -> None:
        """Cut an object line by line where reading quoted line breaks gives broken records."""
        merged = self.first != self.last
        if not merged.any():
            return
        broken = self.is_data & (self.is_odd | self.is_bad | (self.field_count != width[self.object_no]))
        suspects = np.unique(self.object_no[merged & broken])
        if len(suspects):
            starts_record = self._starts_record.copy()
            after_header = np.arange(len(starts_record)) > self.last[self.header[self.lines.object_no]]
            starts_record |= np.isin(self.lines.object_no, suspects) & after_header
            self._cut(starts_record)

    def ordinal(self) -> Ints:
        """1-based number of each data record in its object."""
        running = np.cumsum(self.is_data)
        before = np.concatenate([np.zeros(1, np.int64), running])[:-1]
        first = np.searchsorted(self.object_no, np.arange(self.object_count), side="left")
        base = np.append(before, running[-1] if len(running) else 0)[np.minimum(first, len(before))]
        return (running - base[self.object_no]).astype(np.int64)

    def text(self, index: int) -> bytes:
        return self.lines.buffer[int(self.start[index]) : int(self.end[index])]


def _encoding(options: dict[str, Any]) -> str:
    wanted = str(options.get("encoding", "utf-8")).lower().replace("_", "-")
    if wanted not in _ENCODINGS:
        raise TiyuError(
            "TIYU-ING-0202", "契约中的文件编码不支持", f"可用：{'、'.join(sorted(_ENCODINGS))}", 2, option="encoding"
        )
    return _ENCODINGS[wanted]


def _header(
    records: _Records, number: int, name: str, encoding: str, delimiter: str, layout: Layout
) -> tuple[str, ...]:
    index = int(records.header[number])
    hint = "请数据源单位核对文件编码和表头后重新报送；文件已留存，未入库任何一行"
    if index < 0:
        raise refusal("TIYU-ING-0213", "文件没有表头", hint, object_name=name)
    try:
        text = records.text(index).decode(encoding)
        names = next(csv.reader(io.StringIO(text), delimiter=delimiter, strict=True), [])
    except (UnicodeDecodeError, csv.Error):
        raise refusal("TIYU-ING-0213", "文件的表头无法解读", hint, object_name=name, encoding=encoding) from None
    return check_header(tuple(item.strip("﻿ \t　") for item in names), name, layout)


def check_header(names: tuple[str, ...], object_name: str, layout: Layout) -> tuple[str, ...]:
    """The header against the contract: TIYU-ING-0210 missing, 0211 unknown, 0214 repeated columns."""
    missing = [item for item in layout.fields if item not in names and item not in layout.optional_fields]
    if missing:
        raise missing_fields(object_name, missing)
    repeated = sorted({item for item in layout.fields if names.count(item) > 1})
    if repeated:
        raise refusal(
            "TIYU-ING-0214",
            f"文件的列重复出现：{'、'.join(repeated)}",
            "请数据源单位每列只保留一个后重新报送",
            object_name=object_name,
        )
    extra = [item or "（无名列）" for item in names if item not in layout.fields]
    if extra and not layout.allow_extra:
        raise extra_fields(object_name, extra)
    return names


def _parse(
    records: _Records, keep: Ints, header: tuple[str, ...], encoding: str, delimiter: str, layout: Layout
) -> tuple[pa.Table, Ints]:
    """Fields of records that look sound, as text. Gives the rows, and which of ``keep`` turned out broken."""
    none = np.zeros(0, dtype=np.int64)
    if not len(keep):
        return empty_table(layout.fields), none
    raw, _ = gather_ranges(records.lines, records.bounds, keep)
    text = raw if encoding == "utf-8" else raw.decode(encoding).encode()
    odd_rows = 0

    def on_invalid(_row: Any) -> str:
        nonlocal odd_rows
        odd_rows += 1
        return "skip"

    names = [f"c{number}" for number in range(len(header))]
    try:
        table = pacsv.read_csv(
            pa.BufferReader(text),
            read_options=pacsv.ReadOptions(column_names=names, block_size=max(1 << 20, min(len(text) + 1, 1 << 23))),
            parse_options=pacsv.ParseOptions(
                delimiter=delimiter,
                newlines_in_values=bool((records.first[keep] != records.last[keep]).any()),
                invalid_row_handler=on_invalid,
            ),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
                check_utf8=False,
            ),
        )
    except pa.ArrowInvalid:
        table = None
    broken = none
    if table is None or odd_rows or table.num_rows != len(keep):
        table, broken = _parse_slowly(records, keep, names, encoding, delimiter)
    position = {name: number for number, name in reversed(list(enumerate(header)))}
    columns = {
        field: table[names[position[field]]] if field in position else pa.nulls(table.num_rows, pa.string())
        for field in layout.fields
    }
    return pa.table(columns), broken


def _parse_slowly(
    records: _Records, keep: Ints, names: list[str], encoding: str, delimiter: str
) -> tuple[pa.Table, Ints]:
    """Record by record, for the rare object whose quotes two readers understand differently."""
    rows: list[list[str | None]] = []
    broken: list[int] = []
    for position, index in enumerate(keep):
        try:
            text = io.StringIO(records.text(int(index)).decode(encoding), newline="")
            found = list(csv.reader(text, delimiter=delimiter, strict=True))
        except csv.Error:
            found = []
        if len(found) == 1 and len(found[0]) == len(names):
            rows.append([value or None for value in found[0]])
        else:
            broken.append(position)
    columns = [pa.array([row[number] for row in rows], pa.string()) for number in range(len(names))]
    return pa.table(columns, names=names), np.array(broken, dtype=np.int64)


def _issue(
    records: _Records, index: int, record_no: int, width: int, objects: list[tuple[str, str, bytes]]
) -> DecodeIssue:
    if records.is_bad[index]:
        rule_id, reason = "decode.bad_encoding", "该行含有无法按约定编码解读的字节"
    elif records.is_odd[index]:
        rule_id, reason = "decode.bad_quote", "该行的引号不成对"
    elif records.field_count[index] != width:
        found = int(records.field_count[index])
        rule_id, reason = "decode.field_count", f"该行字段数不符：应有 {width} 个，实有 {found} 个"
    else:
        rule_id, reason = "decode.bad_quote", "该行的引号用法不符合 CSV 规范"
    start, _ = records.lines.byte_range(int(records.first[index]))
    _, end = records.lines.byte_range(int(records.last[index]))
    sha = objects[int(records.object_no[index])][0]
    return DecodeIssue(record_no, start, end, rule_id, reason, records.text(index)[:PREVIEW_BYTES], sha)
