"""Decoder ``xlsx``: tables on the sheets of a workbook, .xlsx or .xls.

Options (contract: `catalog.contracts.decoder_options.XlsxDecoder`): ``sheet`` name, or ``sheets`` regular expression for
several (default: the first sheet) · ``sheet_column`` source field that takes the sheet's name · ``range`` the part of a
sheet that is read (``B3:F40``, ``H2:K``) · ``table_start`` regular expression for a cell of the row that a table begins
with; each such row begins one, which ends at a blank row or at the next beginning · ``header_row`` 1-based row of the
header in the sheet, range or table (default 1; rows above it are titles) · ``header_rows`` levels of the header, joined
with ``header_separator``; a merged cell counts for all its columns · ``unit_row``, ``skip_rows``, ``footer_rows``,
``footer_pattern``, ``skip_pattern`` as for CSV, a row's text being its cells with tabs between · ``durations`` fields
whose times are lengths of time and may be longer than a day · header options see `ingestion.decoders.header`.

``_record_no`` is the Excel row number; on the n-th sheet that is read (from 0) n × :data:`SHEET_STRIDE` more. A date cell
becomes ``YYYY-MM-DD``, with a time ``YYYY-MM-DD HH:MM:SS``, whether the workbook counts days from 1900 or 1904; a time
``HH:MM:SS``; a number without a fraction has no decimal point; hidden rows are rows; blank rows are no records. A row with
an error value (#N/A …) or with a formula whose result the workbook does not hold is an issue, not an empty cell.
"""

from __future__ import annotations

import datetime as dt
import io
import re
import zipfile
from dataclasses import dataclass, field, replace
from typing import Any

import fastexcel
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.decoders import workbook
from ingestion.decoders.base import MAX_EXPANDED_BYTES, Decoded, DecodeIssue, Layout, empty_table, refusal
from ingestion.decoders.csv_rows import unit_row_differs
from ingestion.decoders.header import HEADER_OPTIONS, resolve_header
from ingestion.decoders.ndjson import with_origin
from lake.errors import TiyuError

#: The reader lays a sheet out as a full grid, so two cells far apart (A1 and XFD1048576) would take all memory.
MAX_GRID_CELLS = 32_000_000
SHEET_STRIDE = 10_000_000
MAX_SHEETS = 99

OPTIONS: dict[str, type | tuple[type, ...]] = {
    "sheet": (str, type(None)),
    "sheets": (str, type(None)),
    "sheet_column": (str, type(None)),
    "range": (str, type(None)),
    "table_start": (str, type(None)),
    "header_row": int,
    "header_rows": int,
    "header_separator": str,
    "unit_row": dict,
    "skip_rows": int,
    "footer_rows": int,
    "footer_pattern": (str, type(None)),
    "skip_pattern": (str, type(None)),
    "durations": list,
    **HEADER_OPTIONS,
}
_HINT = "请数据源单位用模板重新导出工作簿后报送；文件已留存"
_EDGES = "\ufeff \t\r\n\u3000"
_EPOCH_DAY = re.compile(r"^(1899-12-3[01]|1900-\d\d-\d\d|1904-\d\d-\d\d) (\d\d):(\d\d):(\d\d(?:\.\d+)?)$")


@dataclass
class _Found:
    """What a workbook gave: parts with their row numbers, and rows that cannot be records with the reason."""

    tables: list[pa.Table] = field(default_factory=list)
    row_no: list[npt.NDArray[np.int64]] = field(default_factory=list)
    broken: list[tuple[int, str, str]] = field(default_factory=list)


def decode_chunk(options: dict[str, Any], objects: list[tuple[str, str, bytes]], layout: Layout) -> Decoded:
    """Decode workbooks. Refused as a whole: not a workbook (TIYU-ING-0215), too large when expanded (0216), no such
    sheet or table (0217), no header (0213), missing, unknown or repeated columns (0210, 0211, 0214), a unit row that
    says something else (0221)."""
    tables: list[pa.Table] = []
    issues: list[DecodeIssue] = []
    refusals: dict[str, TiyuError] = {}
    root_counts: dict[str, int] = {}
    for number, (sha, name, content) in enumerate(objects):
        try:
            found = _read(options, content, name, layout)
        except TiyuError as error:
            refusals[sha] = error
            continue
        issues += [DecodeIssue(row, None, None, rule, reason, None, sha) for row, rule, reason in found.broken]
        rows = 0
        for table, row_no in zip(found.tables, found.row_no, strict=True):
            rows += len(row_no)
            tables.append(with_origin(table, row_no, np.full(len(row_no), number, dtype=np.int64), objects))
        root_counts[sha] = rows + len(found.broken)
    rows_of_all = pa.concat_tables(tables) if tables else empty_table(layout.fields)
    return Decoded({layout.table: rows_of_all}, issues, sum(root_counts.values()), root_counts, refusals)


def _read(options: dict[str, Any], content: bytes, name: str, layout: Layout) -> _Found:
    facts = None if workbook.is_old(content) else _facts(content, name)
    try:
        reader = fastexcel.read_excel(content)
        names = list(reader.sheet_names)
    except Exception:  # the reader raises many kinds on damaged input; each means the same to the operator
        raise refusal("TIYU-ING-0215", "文件不是完整的 Excel 工作簿", _HINT, object_name=name) from None
    found = _Found()
    for place, sheet in enumerate(_wanted(options, names, name)):
        _read_sheet(options, reader, sheet, place * SHEET_STRIDE, facts, name, layout, found)
    return found


def _facts(content: bytes, name: str) -> workbook.Facts:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            expanded = sum(item.file_size for item in archive.infolist())
            small = expanded <= MAX_EXPANDED_BYTES
            damaged = archive.testzip() if small else None
            facts = workbook.read_facts(archive) if small and not damaged else workbook.Facts()
    except Exception:  # zipfile raises many kinds on damaged input
        raise refusal("TIYU-ING-0215", "文件不是完整的 Excel 工作簿", _HINT, object_name=name) from None
    if expanded > MAX_EXPANDED_BYTES or facts.text_bytes > MAX_EXPANDED_BYTES:
        larger = max(expanded, facts.text_bytes)
        raise refusal("TIYU-ING-0216", "工作簿解压后过大，疑似压缩炸弹", _HINT, object_name=name, expanded=larger)
    if facts.grid_cells > MAX_GRID_CELLS:
        message = "工作表的行列范围过大，疑似压缩炸弹"
        raise refusal("TIYU-ING-0216", message, _HINT, object_name=name, cells=facts.grid_cells)
    if damaged:
        raise refusal("TIYU-ING-0215", "工作簿内部损坏", _HINT, object_name=name, part=damaged)
    return facts


def _wanted(options: dict[str, Any], names: list[str], name: str) -> list[str]:
    sheet, pattern = options.get("sheet"), options.get("sheets")
    if pattern is not None:
        chosen = [item for item in names if re.search(pattern, item)]
    elif sheet is not None:
        chosen = [item for item in names if item == sheet]
    else:
        chosen = names[:1]
    if not chosen or len(chosen) > MAX_SHEETS:
        asked = sheet or pattern or ""
        raise refusal("TIYU-ING-0217", f"工作簿中没有工作表 {asked}", _HINT, object_name=name, sheet=asked)
    return chosen


def _read_sheet(
    options: dict[str, Any],
    reader: Any,
    sheet: str,
    shift: int,
    facts: workbook.Facts | None,
    name: str,
    layout: Layout,
    found: _Found,
) -> None:
    try:
        loaded = reader.load_sheet(sheet, header_row=None, skip_rows=0, dtypes="string")
        batch, cell_errors = loaded.to_arrow_with_errors()
    except Exception as error:
        raise refusal(
            "TIYU-ING-0215", "工作表无法读取", _HINT, object_name=name, sheet=sheet, reason=type(error).__name__
        ) from None
    grid = pa.Table.from_batches([batch])
    left = workbook.first_column(facts, sheet) if facts else 0
    bad: dict[tuple[int, int], tuple[str, str]] = {}
    for cell in cell_errors.errors if cell_errors else ():
        bad[(cell.position[0], cell.position[1])] = (
            "decode.cell_error",
            "有单元格是 Excel 错误值（如 #DIV/0!、#N/A）",
        )
    known = facts.sheets.get(sheet) if facts else None
    for row, column in known.without_result if known else ():
        bad[(row, column - left)] = ("decode.no_result", "有公式没有保存计算结果，请在 Excel 中打开并重新保存")
    merges = [(a, b - left, c, d - left) for a, b, c, d in known.merges] if known else None

    top, bottom, first, last = _range(options.get("range"), grid, left)
    starts = [top]
    if options.get("table_start"):
        starts = _starts(grid, re.compile(options["table_start"]), top, bottom)
        if not starts:
            message = f"工作表 {sheet} 中没有表格的起始行"
            raise refusal("TIYU-ING-0217", message, _HINT, object_name=name, sheet=sheet)
    for start, end in zip(starts, [*starts[1:], bottom], strict=True):
        _read_table(options, grid, (start, end, first, last), bad, merges, (sheet, shift), name, layout, found)


def _range(text: str | None, grid: pa.Table, left: int) -> tuple[int, int, int, int]:
    """Rows and columns (half-open, in the grid) of a range as Excel writes it; an end that is not said is the sheet's."""
    top, bottom, first, last = 0, grid.num_rows, 0, grid.num_columns
    if text:
        start, _, end = text.partition(":")
        row, column = workbook.place(start)
        top, first = row, max(column - left, 0)
        if end:
            digits = any(letter.isdigit() for letter in end)
            row, column = workbook.place(end if digits else f"{end}1")
            bottom, last = (min(bottom, row + 1) if digits else bottom), min(last, column - left + 1)
    return min(top, bottom), bottom, min(first, last), last


def _starts(grid: pa.Table, pattern: re.Pattern[str], top: int, bottom: int) -> list[int]:
    hits = np.zeros(grid.num_rows, dtype=bool)
    for column in grid.columns:
        texts = column.combine_chunks().dictionary_encode()
        matching = [bool(text) and bool(pattern.search(text)) for text in texts.dictionary.to_pylist()]
        found = pc.fill_null(pa.array(matching, pa.bool_()).take(texts.indices), False)
        hits |= found.to_numpy(zero_copy_only=False)
    return [int(row) for row in np.flatnonzero(hits) if top <= row < bottom]


def _read_table(
    options: dict[str, Any],
    grid: pa.Table,
    area: tuple[int, int, int, int],
    bad: dict[tuple[int, int], tuple[str, str]],
    merges: list[tuple[int, int, int, int]] | None,
    sheet: tuple[str, int],
    name: str,
    layout: Layout,
    found: _Found,
) -> None:
    """One table: rows ``area[0]`` to ``area[1]`` and columns ``area[2]`` to ``area[3]`` of the grid."""
    top, bottom, first, last = area
    header_row = top + options.get("header_row", 1) - 1
    levels = options.get("header_rows", 1)
    body_top = header_row + levels
    no_header = {"object_name": name, "sheet": sheet[0], "header_row": options.get("header_row", 1)}
    if body_top > bottom or first >= last:
        raise refusal("TIYU-ING-0213", "工作表没有表头", _HINT, **no_header)
    titles = _titles(grid, (header_row, levels, first, last), merges, options.get("header_separator", "_"))
    columns = {column: _text(grid.column(column).slice(body_top, bottom - body_top)) for column in range(first, last)}
    for edge in (-1, 0):  # formatted but empty columns beside the table
        while titles and not titles[edge][1] and columns[titles[edge][0]].null_count == bottom - body_top:
            titles.pop(edge)
    if not any(title for _, title in titles):
        raise refusal("TIYU-ING-0213", "工作表没有表头", _HINT, **no_header)
    sheet_column = options.get("sheet_column")
    wanted = layout
    if sheet_column:
        wanted = replace(layout, fields=tuple(item for item in layout.fields if item != sheet_column))
    resolved = resolve_header(tuple(title for _, title in titles), name, wanted, options)
    at = {title: column for (column, _), title in zip(titles, resolved, strict=True)}
    _check_units(options, {title: columns[column] for title, column in at.items()}, name)

    texts = {title: columns[column] for title, column in at.items() if title in layout.fields}
    row_no = np.arange(body_top + 1, bottom + 1, dtype=np.int64)
    filled = np.zeros(len(row_no), dtype=bool)
    for column, _ in titles:
        filled |= pc.is_valid(columns[column]).to_numpy(zero_copy_only=False)
    shown = [column for column, _ in titles]
    problems: dict[int, tuple[str, str]] = {}
    for (row, column), problem in bad.items():
        if body_top <= row < bottom and column in shown:
            problems[row + 1] = problem
            filled[row - body_top] = True
    data = _data_rows(options, columns, shown, filled)
    for title in texts:
        texts[title] = _times(texts[title], title in options.get("durations", ()), row_no, problems)
    broken = data & np.isin(row_no, list(problems))
    kept = data & ~broken
    fields = {
        item: pa.array([sheet[0]], pa.string()).take(pa.array(np.zeros(len(row_no), dtype=np.int64)))
        if item == sheet_column
        else texts.get(item, pa.nulls(len(row_no), pa.string()))
        for item in layout.fields
    }
    found.tables.append(pa.table(fields).filter(pa.array(kept)))
    found.row_no.append(row_no[kept] + sheet[1])
    for row in row_no[broken]:
        rule, reason = problems[int(row)]
        found.broken.append((int(row) + sheet[1], rule, f"第 {row} 行{reason}"))


def _titles(
    grid: pa.Table, place: tuple[int, int, int, int], merges: list[tuple[int, int, int, int]] | None, separator: str
) -> list[tuple[int, str]]:
    """Column and joined title of each column. The text of a merged cell stands in its first cell only; where the format
    does not say what is merged (.xls), an upper level counts on to the right until the next text."""
    top, levels, first, last = place
    titles: list[tuple[int, str]] = []
    carried = [""] * levels
    for column in range(first, last):
        parts: list[str] = []
        for level in range(levels):
            row = top + level
            text = (grid.column(column)[row].as_py() or "").strip(_EDGES)
            if not text and merges is not None:
                merge = next((m for m in merges if m[0] <= row <= m[2] and m[1] <= column <= m[3]), None)
                if merge is not None and merge[0] == row and merge[1] >= 0:
                    text = (grid.column(merge[1])[row].as_py() or "").strip(_EDGES)
            elif not text and level < levels - 1:
                text = carried[level]
            elif text:
                carried[level:] = [text, *[""] * (levels - level - 1)]
            parts.append(text)
        titles.append((column, separator.join(part for part in parts if part)))
    return titles


def _check_units(options: dict[str, Any], columns: dict[str, pa.Array], name: str) -> None:
    expected: dict[str, str] = options.get("unit_row") or {}
    first = {title: column[0].as_py() if len(column) else None for title, column in columns.items()}
    differs = [title for title, text in expected.items() if (first.get(title) or "").strip(_EDGES) != text]
    if differs:
        raise unit_row_differs(name, differs)


def _data_rows(
    options: dict[str, Any], columns: dict[int, pa.Array], shown: list[int], filled: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Which rows below the header are records: neither blank nor left out by the contract, and, where a sheet holds
    several tables, above the first blank row."""
    data = filled.copy()
    if options.get("table_start"):
        blank = np.flatnonzero(~filled)
        if len(blank):
            data[blank[0] :] = False
    data[: options.get("skip_rows", 0) + bool(options.get("unit_row"))] = False
    skip, footer = options.get("skip_pattern"), options.get("footer_pattern")
    if skip or footer:
        parts = [pc.fill_null(columns[column], "") for column in shown]
        texts = pc.binary_join_element_wise(*parts, "\t")
        if skip:
            data &= ~pc.match_substring_regex(texts, skip).to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(data)[::-1] if footer else ():
            if not re.search(str(footer), texts[int(row)].as_py()):
                break
            data[row] = False
    if rows := options.get("footer_rows", 0):
        data[np.flatnonzero(data)[-rows:]] = False
    return data


def _text(column: pa.ChunkedArray) -> pa.Array:
    text = pa.concat_arrays(column.chunks).cast(pa.string()) if column.num_chunks else pa.array([], pa.string())
    text = pc.replace_substring_regex(text, r"^(\d{4}-\d{2}-\d{2}) 00:00:00$", r"\1")
    blank = pc.equal(pc.utf8_trim(text, " \t\r\n　"), "")
    return pc.if_else(pc.fill_null(blank, True), pa.scalar(None, pa.string()), text)


def _times(
    column: pa.Array, is_duration: bool, row_no: npt.NDArray[np.int64], problems: dict[int, tuple[str, str]]
) -> pa.Array:
    """Times of day and lengths of time, which the reader gives as moments of the first days it counts.

    On the day zero they are times. A moment of a later day of 1900 (or 1904) may be a length above a day or a date: where the
    contract does not say that the field holds lengths, the row is an issue.
    """
    early = pc.fill_null(pc.match_substring_regex(column, r"^(1899-12-3[01]|1900-|1904-).*:"), False)
    places = np.flatnonzero(early.to_numpy(zero_copy_only=False))
    if not len(places):
        return column
    values = column.to_pylist()
    for place in places:
        found = _EPOCH_DAY.match(values[place])
        if found is None:
            continue
        day, hours, minutes, seconds = found.groups()
        if not day.startswith("1899") and day != "1904-01-01":
            if not is_duration:
                problems[int(row_no[place])] = ("decode.ambiguous_time", "有单元格无法判断是日期还是超过一天的时长")
                continue
            days = (dt.date.fromisoformat(day) - dt.date(1904 if day > "1904" else 1900, 1, 1)).days
            if day < "1904":  # the day before is day zero, and Excel counts a 29 February 1900 that never was
                days += 1 + (days >= 59)
            hours = str(int(hours) + 24 * days)
        values[place] = f"{hours}:{minutes}:{seconds}"
    return pa.array(values, pa.string())
