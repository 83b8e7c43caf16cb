"""Decoder ``csv``: delimited text with a header.

Options (contract: `catalog.contracts.decoder_options.CsvDecoder`): ``encoding`` as declared, a byte-order mark that
contradicts it refuses the object · ``delimiter``, ``quote`` (one ASCII character, ``""`` for none), ``escape`` ·
``header_row`` line of the header, lines above it are titles (default: the first line that is not blank) · ``unit_row``
source column → text that must stand in the row below the header, which is no record · ``skip_rows`` further rows below
the header that are no records · ``footer_rows`` that many last rows, ``footer_pattern`` last rows whose text matches,
``skip_pattern`` any row whose text matches, are no records · ``ragged``: ``issue`` (default) or ``pad``, fields missing
at a row's end are null · ``empty_object``: ``refuse`` (default) or ``accept``, an object without a byte has no records ·
``header_aliases``, ``header_match``, ``optional_columns`` see `ingestion.decoders.header`.

``_record_no`` counts records after the header, blank lines not counted. An empty field is null. Lines end with LF, CRLF
or, where no LF stands outside quotes, CR. A quoted field may span lines; in an object where that reading gives broken
records (a stray quote), each line is a record of its own, so that one stray quote costs one record and not the rest of
the file. Columns without a name at the right are left out when all their cells are empty.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from ingestion.decoders.base import (
    PREVIEW_BYTES,
    RECORD_NO,
    SOURCE_OBJECT,
    Decoded,
    DecodeIssue,
    Layout,
    empty_table,
    refusal,
)
from ingestion.decoders.header import HEADER_OPTIONS, resolve_header
from ingestion.decoders.lines import (
    Ints,
    Joined,
    Lines,
    Piece,
    blank,
    count_byte,
    cut_at_lines,
    gather_ranges,
    neighbours,
    places,
    split_lines,
    undecodable,
)
from ingestion.decoders.ndjson import with_origin
from ingestion.decoders.numbers import ARROW, is_finite, together
from ingestion.decoders.text import ENCODINGS, PlainText, plain_text
from lake.errors import TiyuError

OPTIONS: dict[str, type | tuple[type, ...]] = {
    "encoding": str,
    "delimiter": str,
    "quote": str,
    "escape": (str, type(None)),
    "header_row": (int, type(None)),
    "unit_row": dict,
    "skip_rows": int,
    "footer_rows": int,
    "footer_pattern": (str, type(None)),
    "skip_pattern": (str, type(None)),
    "ragged": str,
    "empty_object": str,
    **HEADER_OPTIONS,
}
_GOOD, _BAD_ENCODING, _BAD_QUOTE, _FIELD_COUNT, _QUOTE_USE = range(5)


class _Dialect:
    """The options of one contract, checked once. Error: TIYU-ING-0202."""

    def __init__(self, options: dict[str, Any]):
        wanted = str(options.get("encoding", "utf-8")).lower().replace("_", "-")
        if wanted not in ENCODINGS:
            raise _bad_option("encoding", "契约中的文件编码不支持", f"可用：{'、'.join(sorted(ENCODINGS))}")
        self.encoding = ENCODINGS[wanted]
        self.delimiter = options.get("delimiter", ",")
        self.quote = options.get("quote", '"')
        self.escape = options.get("escape") or ""
        marks = [self.delimiter, *filter(None, (self.quote, self.escape))]
        if not all(len(mark) == 1 and mark.isascii() and mark not in "\r\n" for mark in marks):
            raise _bad_option("delimiter", "分隔符、引号与转义符都必须是一个 ASCII 字符", "请修改契约")
        if len(set(marks)) < len(marks):
            raise _bad_option("delimiter", "分隔符、引号与转义符不能相同", "请修改契约")
        # the second byte of a GB18030 character may be a digit or a character from @ on
        self.rewrite = any(mark >= "@" or mark.isdigit() for mark in marks)
        self.header_row = options.get("header_row")
        self.unit_row: dict[str, str] = options.get("unit_row") or {}
        self.skip_rows = options.get("skip_rows", 0) + bool(self.unit_row)
        self.footer_rows = options.get("footer_rows", 0)
        try:
            self.footer = re.compile(options["footer_pattern"]) if options.get("footer_pattern") else None
            self.skip = options.get("skip_pattern")
            pc.match_substring_regex(pa.array([""]), self.skip or "x")
        except (re.error, pa.ArrowInvalid):
            raise _bad_option("skip_pattern", "契约中的行匹配式不是合法的正则表达式", "请修改契约") from None
        self.pads = options.get("ragged") == "pad"
        self.accepts_empty = options.get("empty_object") == "accept"
        self.options = options

    @property
    def quote_byte(self) -> int:
        return ord(self.quote) if self.quote else -1

    def reader(self, text: str) -> Any:
        return csv.reader(
            io.StringIO(text, newline=""),
            delimiter=self.delimiter,
            quotechar=self.quote or None,
            quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            escapechar=self.escape or None,
            strict=True,
        )


def _bad_option(option: str, message_zh: str, hint_zh: str) -> TiyuError:
    return TiyuError("TIYU-ING-0202", message_zh, hint_zh, 2, option=option)


CHUNK_BYTES = 16 * 1024 * 1024
"""As many rows as twice the bytes of JSON hold."""
_OF_THE_WHOLE = ("header_row", "unit_row", "skip_rows", "footer_rows", "footer_pattern", "skip_pattern", "escape")


def reads_pieces(options: dict[str, Any]) -> bool:
    """Where a line end is one byte that is never a part of another character, and no option speaks of places in the file."""
    dialect = _Dialect(options)
    plain = dialect.encoding in ("utf-8", "gb18030") and dialect.quote == '"'
    packed = options.get("container", "none") != "none"
    return plain and not packed and not any(options.get(name) for name in _OF_THE_WHOLE)


def pieces(options: dict[str, Any], content: Iterator[bytes], size: int, joined: Joined) -> Iterator[Piece]:
    """Pieces of about ``size`` bytes of a large object, each with the object's header before it."""
    head, position, line = b"", 0, 0
    begun = b""
    for parts in cut_at_lines(content, b'"', size):
        if head:
            part = joined([head, *parts])
            line -= head.count(b"\n")
            piece = Piece(part, position - len(head), line)
            position += len(part) - len(head)
        else:
            part = begun = joined([begun, *parts])
            head = _head(begun)
            if not head:
                continue
            piece = Piece(part, 0, 0)
            position = len(part)
        line += count_byte(part, 10)
        yield piece  # from here on the block may be used for another piece
    if not head:
        yield Piece(begun, 0, 0)


def _head(part: bytes) -> bytes:
    """All up to the header's end: blank lines, the header with its line end (it may hold quoted line breaks); empty where
    the header is not all there."""
    end = 0
    while found := part.find(b"\n", end) + 1:
        end = found
        if part[:end].strip(b" \t\r\n\xef\xbb\xbf") and part.count(b'"', 0, end) % 2 == 0:
            return bytes(part[:end])
    return b""


def decode_chunk(options: dict[str, Any], objects: list[tuple[str, str, bytes]], layout: Layout) -> Decoded:
    """Decode a chunk of CSV objects.

    Refused as a whole: no header or one that cannot be read (TIYU-ING-0213), a missing column (0210), a column the
    contract does not know (0211), a repeated column (0214), a unit row that says something else (0221), a byte-order
    mark that contradicts the contract (0223). A record with another number of fields, a broken quote or undecodable
    bytes is an issue.
    """
    dialect = _Dialect(options)
    refusals: dict[str, TiyuError] = {}
    texts: list[PlainText] = []
    for sha, name, content in objects:
        try:
            texts.append(
                plain_text(
                    content,
                    name,
                    dialect.encoding,
                    rewrite=dialect.rewrite,
                    first_line=dialect.header_row or 1,
                    quote=dialect.quote_byte,
                )
            )
        except TiyuError as error:
            refusals[sha] = error
            texts.append(PlainText(b"", 1, "utf-8"))
    encoding = "gb18030" if dialect.encoding == "gb18030" and not dialect.rewrite else "utf-8"
    lines = split_lines([text.body for text in texts], encoding, with_marks=False)
    records = _Records(lines, dialect, undecodable(lines, encoding), len(objects))

    headers: list[tuple[str, ...] | None] = []
    for number, (sha, name, content) in enumerate(objects):
        header = None
        if sha not in refusals and not (dialect.accepts_empty and not content):
            try:
                header = _header(records, number, name, encoding, dialect, layout)
            except TiyuError as error:
                refusals[sha] = error
        headers.append(header)
    width = np.array([len(header) if header else -1 for header in headers], dtype=np.int64)
    named = np.array([_named(header) if header else -1 for header in headers], dtype=np.int64)
    records.settle(width)

    issues: list[DecodeIssue] = []
    record_no = records.ordinal()
    data = records.is_data & (width[records.object_no] >= 0)
    tables: list[pa.Table] = []
    alike = _parse_alike(records, np.flatnonzero(data), headers, encoding, dialect, layout)
    if alike is not None:
        fault = np.full(len(data), _GOOD, dtype=np.int8)
        tables.append(with_origin(alike, record_no[data], records.object_no[data], objects))
    else:
        fault = _faults(records, width, named, dialect)
        for table, keep in _parse_groups(records, data, fault, headers, encoding, dialect, layout):
            tables.append(with_origin(table, record_no[keep], records.object_no[keep], objects))
    for index in np.flatnonzero(data & (fault != _GOOD)):
        number = int(records.object_no[index])
        issues.append(
            _issue(
                records,
                int(index),
                int(fault[index]),
                int(record_no[index]),
                int(width[number]),
                texts[number],
                objects,
            )
        )

    counts = np.bincount(records.object_no[data], minlength=len(objects))
    root_counts = {sha: int(counts[number]) for number, (sha, _, _) in enumerate(objects) if sha not in refusals}
    rows = together(tables, (RECORD_NO, SOURCE_OBJECT)) if tables else empty_table(layout.fields)
    return Decoded({layout.table: rows}, issues, sum(root_counts.values()), root_counts, refusals)


def _faults(records: _Records, width: Ints, named: Ints, dialect: _Dialect) -> npt.NDArray[np.int8]:
    """What is wrong with each record, as far as its bytes, quotes and number of fields tell."""
    count = records.field_count
    own_width, own_named = width[records.object_no], named[records.object_no]
    fits = (count <= own_width) & (count >= own_named)
    if dialect.pads:
        fits |= count <= own_width * 2 + 16  # further fields must be empty; a row of thousands is no row of this table
    fault = np.full(len(count), _GOOD, dtype=np.int8)
    fault[~fits] = _FIELD_COUNT
    fault[records.is_odd] = _BAD_QUOTE
    fault[records.is_bad] = _BAD_ENCODING
    return fault


class _Records:
    """Records of a chunk: ranges of lines, with the number of fields of each (counted when it is asked for)."""

    def __init__(self, lines: Lines, dialect: _Dialect, bad_line: npt.NDArray[np.bool_], object_count: int):
        self.lines = lines
        self.object_count = object_count
        self._dialect = dialect
        white = b" \t\r".replace(dialect.delimiter.encode(), b"")
        self._blank = blank(lines, white) & ~bad_line
        self._bad_line = bad_line
        self._skipped_line = _matching(lines, dialect.skip) if dialect.skip else None
        self._escaped = _escaped(lines, dialect.escape)
        self._quotes = _places(lines, dialect.quote_byte, self._escaped)
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
        self._quotes_before = np.searchsorted(self._quotes, self.bounds)
        self.is_odd = (np.diff(self._quotes_before) & 1).astype(bool)
        self._field_count: Ints | None = None
        self._starts_record = starts_record
        self._mark_data(np.flatnonzero(~single_blank))

    @property
    def are_plain(self) -> bool:
        """Whether every delimiter is one: there are no quotes, no escape characters and no undecodable bytes."""
        return not len(self._quotes) and self._escaped is None and not self._bad_line.any()

    @property
    def field_count(self) -> Ints:
        """Fields of each record."""
        if self._field_count is None:
            delimiters = _places(self.lines, ord(self._dialect.delimiter), self._escaped)
            count = np.diff(np.searchsorted(delimiters, self.bounds)) + 1
            if len(self._quotes) and len(delimiters):
                of_delimiter = np.repeat(np.arange(len(self.first)), count - 1)
                quoted = (np.searchsorted(self._quotes, delimiters) - self._quotes_before[of_delimiter]) & 1
                count = np.bincount(of_delimiter[quoted == 0], minlength=len(self.first)) + 1
            self._field_count = count
        return self._field_count

    def _mark_data(self, visible: Ints) -> None:
        """Which of the records that are not blank are data: not the header, nor what stands right below it, nor the
        foot, nor rows that the contract leaves out."""
        dialect = self._dialect
        self.header = np.full(self.object_count, -1, dtype=np.int64)
        owner = self.object_no[visible]
        owners, first, size = np.unique(owner, return_index=True, return_counts=True)
        self.header[owners] = visible[first]
        self.below_header = self.header.copy()
        has_row = size > 1
        self.below_header[owners] = np.where(has_row, visible[np.minimum(first + 1, len(visible) - 1)], -1)
        self.is_data = np.zeros(len(self.first), dtype=bool)
        if not len(visible):
            return
        rank = np.arange(len(visible)) - np.repeat(first, size)
        from_end = np.repeat(size, size) - 1 - rank
        data = (rank > dialect.skip_rows) & (from_end >= dialect.footer_rows)
        if self._skipped_line is not None:
            data &= ~self._skipped_line[self.first[visible]]
        if dialect.footer is not None:
            for start, length in zip(first, size, strict=True):
                for at in range(start + length - 1, start, -1):
                    text = self.text(int(visible[at])).decode("utf-8" if self.lines_are_utf8 else "gb18030", "replace")
                    if not dialect.footer.search(text):
                        break
                    data[at] = False
        self.is_data[visible[data]] = True

    @property
    def lines_are_utf8(self) -> bool:
        return self._dialect.encoding != "gb18030" or self._dialect.rewrite

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


def _matching(lines: Lines, pattern: str) -> npt.NDArray[np.bool_]:
    """Which lines match a regular expression (a line that is no text matches none)."""
    offsets = np.append(lines.start, len(lines.buffer)).astype(np.int64)
    found = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(lines.start), [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(lines.buffer)]
    )
    return pc.match_substring_regex(found, pattern).to_numpy(zero_copy_only=False)


def _escaped(lines: Lines, escape: str) -> npt.NDArray[np.bool_] | None:
    """Which bytes are taken literally because an escape character stands before them."""
    if not escape:
        return None
    is_escape = lines.data == ord(escape)
    places = np.flatnonzero(is_escape)
    escaped = np.zeros(len(lines.data) + 1, dtype=bool)
    if len(places):
        run_start = np.concatenate([[True], np.diff(places) > 1])
        in_run = np.arange(len(places)) - np.maximum.accumulate(np.where(run_start, np.arange(len(places)), 0))
        escaped[places[in_run % 2 == 0] + 1] = True
    return escaped[:-1]


def _places(lines: Lines, byte: int, escaped: npt.NDArray[np.bool_] | None) -> Ints:
    if byte < 0 or lines.buffer.find(byte) < 0:
        return np.zeros(0, dtype=np.int64)
    if escaped is None:
        return places(lines.data, byte)
    return np.flatnonzero((lines.data == byte) & ~escaped)


def _header(
    records: _Records, number: int, name: str, encoding: str, dialect: _Dialect, layout: Layout
) -> tuple[str, ...]:
    index = int(records.header[number])
    hint = "请数据源单位核对文件编码和表头后重新报送；文件已留存，未入库任何一行"
    if index < 0:
        raise refusal("TIYU-ING-0213", "文件没有表头", hint, object_name=name, header_row=dialect.header_row or 1)
    try:
        names = _fields(records, index, encoding, dialect)
    except (UnicodeDecodeError, csv.Error):
        raise refusal("TIYU-ING-0213", "文件的表头无法解读", hint, object_name=name, encoding=encoding) from None
    named = _named(names)
    header = resolve_header(tuple(names[:named]), name, layout, dialect.options)
    if dialect.unit_row:
        _check_unit_row(records, number, name, encoding, dialect, header)
    return header + ("",) * (len(names) - named)


def _fields(records: _Records, index: int, encoding: str, dialect: _Dialect) -> list[str]:
    found = list(dialect.reader(records.text(index).decode(encoding)))
    if len(found) != 1:
        raise csv.Error("line break outside quotes")
    return list(found[0])


def _named(header: tuple[str, ...] | list[str]) -> int:
    """How many columns a header has, without those at the right that bear no name."""
    return next((n for n in range(len(header), 0, -1) if header[n - 1].strip("\ufeff \t\u3000")), 0)


def _check_unit_row(
    records: _Records, number: int, name: str, encoding: str, dialect: _Dialect, header: tuple[str, ...]
) -> None:
    """TIYU-ING-0221: the row below the header does not say what the contract says it does, so units may have changed."""
    index = int(records.below_header[number])
    try:
        found = _fields(records, index, encoding, dialect) if index >= 0 else []
    except (UnicodeDecodeError, csv.Error):
        found = []
    told = dict(zip(header, (item.strip("\ufeff \t\u3000") for item in found), strict=False))
    differs = [column for column, expected in dialect.unit_row.items() if told.get(column) != expected]
    if differs:
        raise unit_row_differs(name, differs)


def _parse(
    records: _Records,
    keep: Ints,
    header: tuple[str, ...],
    field_count: int,
    encoding: str,
    dialect: _Dialect,
    layout: Layout,
) -> tuple[pa.Table, Ints, Ints]:
    """Fields of records that look sound and have ``field_count`` fields, as text. Gives the rows, and which of ``keep``
    turned out to be broken, and which to have text beyond the named columns."""
    none = np.zeros(0, dtype=np.int64)
    if not len(keep):
        return empty_table(layout.fields), none, none
    names = [f"c{number}" for number in range(field_count)]
    table, odd_rows = _read_records(records, keep, names, header, encoding, dialect, layout)
    broken = none
    if table is None or odd_rows or table.num_rows != len(keep):
        table, broken = _parse_slowly(records, keep, names, encoding, dialect)
    named = _named(header)
    overfull = np.zeros(table.num_rows, dtype=bool)
    for column in names[named:]:
        overfull |= pc.is_valid(table[column]).to_numpy()
    beyond = none
    if overfull.any():
        beyond = np.delete(np.arange(len(keep)), broken)[overfull]
        table = table.filter(pa.array(~overfull))
    return _named_as(table, header, layout), broken, beyond


def _parse_groups(
    records: _Records,
    data: npt.NDArray[np.bool_],
    fault: npt.NDArray[np.int8],
    headers: list[tuple[str, ...] | None],
    encoding: str,
    dialect: _Dialect,
    layout: Layout,
) -> Iterator[tuple[pa.Table, Ints]]:
    """The rows of the sound data records, by header and number of fields, each with its records. What turns out not to be
    sound is entered into ``fault``."""
    count = records.field_count
    for header in dict.fromkeys(item for item in headers if item):
        group = np.array([item == header for item in headers], dtype=bool)
        sound = data & (fault == _GOOD) & group[records.object_no]
        for fields in np.unique(count[sound]):
            keep = np.flatnonzero(sound & (count == fields))
            table, broken, overfull = _parse(records, keep, header, int(fields), encoding, dialect, layout)
            fault[keep[broken]] = _QUOTE_USE
            fault[keep[overfull]] = _FIELD_COUNT
            yield table, np.delete(keep, np.concatenate([broken, overfull]))


def _parse_alike(
    records: _Records,
    keep: Ints,
    headers: list[tuple[str, ...] | None],
    encoding: str,
    dialect: _Dialect,
    layout: Layout,
) -> pa.Table | None:
    """The rows where each of the records ``keep`` has just the fields of the one header, which the reader that cuts them tells
    by itself; None where that is not so, or in doubt."""
    (header, *others) = dict.fromkeys(item for item in headers if item) or [()]
    if not len(keep) or others or not records.are_plain or _named(header) < len(header):
        return None
    names = [f"c{number}" for number in range(len(header))]
    table, odd_rows = _read_records(records, keep, names, header, encoding, dialect, layout, alike=True)
    if table is None or odd_rows or table.num_rows != len(keep):
        return None
    return _named_as(table, header, layout)


def _named_as(table: pa.Table, header: tuple[str, ...], layout: Layout) -> pa.Table:
    """The contract's fields of a table whose columns stand as in the header; what is missing is null."""
    at = _positions(header[: table.num_columns])
    return pa.table(
        {
            field: table.column(at[field]) if field in at else pa.nulls(table.num_rows, pa.string())
            for field in layout.fields
        }
    )


def _positions(header: tuple[str, ...]) -> dict[str, int]:
    """Where each named column stands; the first of those of one name."""
    return {name: number for number, name in reversed(list(enumerate(header))) if name}


def _read_records(
    records: _Records,
    keep: Ints,
    names: list[str],
    header: tuple[str, ...],
    encoding: str,
    dialect: _Dialect,
    layout: Layout,
    *,
    alike: bool = False,
) -> tuple[pa.Table | None, int]:
    """The fields of records, plain numbers as numbers where the layout allows it and the text does, and how many records
    were left out (see `_read`)."""
    together = neighbours(records.bounds, keep)
    if encoding == "utf-8" and together is not None:  # a part of what is held already
        text = records.lines.buffer
        buffer = pa.py_buffer(text).slice(together[0], together[1] - together[0])
    else:
        raw, _ = gather_ranges(records.lines, records.bounds, keep)
        text = raw if encoding == "utf-8" else raw.decode(encoding).encode()
        buffer = pa.py_buffer(text)
    newlines = bool((records.first[keep] != records.last[keep]).any())
    newlines = newlines or (b"\r" in text and text.count(b"\r") != text.count(b"\r\n"))
    at = _positions(header[: len(names)])
    kinds = {names[at[field]]: kind for field, kind in layout.numbers.kinds.items() if field in at}
    if kinds and layout.numbers.worth_trying and not _unlike(text):
        table, odd_rows = _read(buffer, names, newlines, dialect, kinds, alike)
        if alike and odd_rows:
            return None, odd_rows
        if table is not None and all(is_finite(table[name]) for name, kind in kinds.items() if kind == "DOUBLE"):
            return table, odd_rows
        layout.numbers.in_vain += 1
    return _read(buffer, names, newlines, dialect, {}, alike)


def _unlike(text: bytes) -> bool:
    """Whether there may be blanks or numbers that the typed reader takes and a contract does not (a tab as delimiter is in
    doubt, too). One byte is looked for first: two are looked for fifteen times as slowly."""
    return b"\t" in text or any(mark in text and b"0" + mark in text for mark in (b"x", b"X"))


def _read(
    text: pa.Buffer, names: list[str], newlines: bool, dialect: _Dialect, kinds: dict[str, str], alike: bool
) -> tuple[pa.Table | None, int]:
    """The fields as text, those of ``kinds`` as numbers, and how many rows were left out for their number of fields; None
    for what cannot be read so, with ``alike`` as soon as a row has another number of fields."""
    odd_rows = 0

    def on_invalid(_row: Any) -> str:
        nonlocal odd_rows
        odd_rows += 1
        return "error" if alike else "skip"

    try:
        table = pacsv.read_csv(
            pa.BufferReader(text),
            read_options=pacsv.ReadOptions(column_names=names, block_size=max(1 << 20, min(text.size + 1, 1 << 23))),
            parse_options=pacsv.ParseOptions(
                delimiter=dialect.delimiter,
                quote_char=dialect.quote or False,
                escape_char=dialect.escape or False,
                newlines_in_values=newlines,
                invalid_row_handler=on_invalid,
                ignore_empty_lines=len(names) > 1,
            ),
            convert_options=pacsv.ConvertOptions(
                column_types={name: ARROW[kinds[name]] if name in kinds else pa.string() for name in names},
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
                check_utf8=False,
            ),
        )
    except pa.ArrowInvalid:
        return None, odd_rows
    return table, odd_rows


def unit_row_differs(object_name: str, columns: list[str]) -> TiyuError:
    """TIYU-ING-0221: the row below the header says something else of these columns than the contract."""
    return refusal(
        "TIYU-ING-0221",
        f"表头下一行（单位行）与契约不一致的列：{'、'.join(columns)}",
        "请与数据源单位核对计量单位是否改变，再修改契约的 unitRow 与单位；文件已留存，未入库任何一行",
        object_name=object_name,
        columns="、".join(columns),
    )


def _parse_slowly(
    records: _Records, keep: Ints, names: list[str], encoding: str, dialect: _Dialect
) -> tuple[pa.Table, Ints]:
    """Record by record, for the rare object whose quotes two readers understand differently."""
    rows: list[list[str | None]] = []
    broken: list[int] = []
    for position, index in enumerate(keep):
        try:
            found = list(dialect.reader(records.text(int(index)).decode(encoding)))
        except csv.Error:
            found = []
        if len(found) == 1 and len(found[0]) == len(names):
            rows.append([value or None for value in found[0]])
        else:
            broken.append(position)
    columns = [pa.array([row[number] for row in rows], pa.string()) for number in range(len(names))]
    return pa.table(columns, names=names), np.array(broken, dtype=np.int64)


def _issue(
    records: _Records,
    index: int,
    fault: int,
    record_no: int,
    width: int,
    text: PlainText,
    objects: list[tuple[str, str, bytes]],
) -> DecodeIssue:
    lines = records.lines
    first, last = int(records.first[index]), int(records.last[index])
    line = int(lines.line_no[first]) + text.line - 1
    if fault == _BAD_ENCODING:
        rule_id, reason = "decode.bad_encoding", "含有无法按约定编码解读的字节"
    elif fault == _BAD_QUOTE:
        rule_id, reason = "decode.bad_quote", "引号不成对"
    elif fault == _FIELD_COUNT:
        found = int(records.field_count[index])
        rule_id, reason = "decode.field_count", f"字段数不符：应有 {width} 个，实有 {found} 个"
    elif b"\r" in records.text(index):
        rule_id, reason = "decode.bad_quote", "含有引号以外的回车符，或引号用法不符合 CSV 规范"
    else:
        rule_id, reason = "decode.bad_quote", "引号用法不符合 CSV 规范"
    number = int(records.object_no[index])
    base = int(lines.base[number])
    start, end = text.place(int(lines.start[first]) - base), text.place(int(lines.end[last]) - base)
    preview = bytes(records.text(index)[:PREVIEW_BYTES])
    return DecodeIssue(record_no, start, end, rule_id, f"第 {line} 行{reason}", preview, objects[number][0])
