"""Decoder ``xlsx``: one sheet of a workbook with a header row.

Options: ``sheet`` name (default: the only or first sheet) · ``header_row`` 1-based row of the header (default 1; rows
above it are titles) · ``optional_columns``. ``_record_no`` is the Excel row number. A date cell becomes ``YYYY-MM-DD``,
with a time ``YYYY-MM-DD HH:MM:SS``; a number without a fraction has no decimal point; blank rows are no records; a row
with an error value (#N/A …) is an issue.
"""

from __future__ import annotations

import io
import re
import zipfile
from typing import Any

import fastexcel
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.decoders.base import MAX_EXPANDED_BYTES, Decoded, DecodeIssue, Layout, empty_table, refusal
from ingestion.decoders.header import check_header
from ingestion.decoders.ndjson import with_origin
from lake.errors import TiyuError

#: The reader lays a sheet out as a full grid, so two cells far apart (A1 and XFD1048576) would take all memory.
MAX_GRID_CELLS = 32_000_000
_PLACE = re.compile(rb"""\br\s*=\s*["']\$?([A-Za-z]{0,3})\$?(\d{1,7})["']""")

OPTIONS: dict[str, type | tuple[type, ...]] = {
    "sheet": str,
    "header_row": int,
    "optional_columns": list,
}


def decode_chunk(options: dict[str, Any], objects: list[tuple[str, str, bytes]], layout: Layout) -> Decoded:
    """Decode workbooks. Refused as a whole: not a workbook (TIYU-ING-0215), too large when expanded (0216), no such
    sheet (0217), no header (0213), missing, unknown or repeated columns (0210, 0211, 0214)."""
    tables: list[pa.Table] = []
    issues: list[DecodeIssue] = []
    refusals: dict[str, TiyuError] = {}
    root_counts: dict[str, int] = {}
    for number, (sha, name, content) in enumerate(objects):
        try:
            table, row_no, error_rows = _read(options, content, name, layout)
        except TiyuError as error:
            refusals[sha] = error
            continue
        root_counts[sha] = table.num_rows + len(error_rows)
        reason = "该行有单元格是 Excel 错误值（如 #DIV/0!、#N/A）"
        issues.extend(DecodeIssue(int(row), None, None, "decode.cell_error", reason, None, sha) for row in error_rows)
        tables.append(with_origin(table, row_no, np.full(len(row_no), number, dtype=np.int64), objects))
    rows = pa.concat_tables(tables) if tables else empty_table(layout.fields)
    return Decoded({layout.table: rows}, issues, sum(root_counts.values()), root_counts, refusals)


def _read(options: dict[str, Any], content: bytes, name: str, layout: Layout) -> tuple[pa.Table, Any, Any]:
    hint = "请数据源单位用模板重新导出 .xlsx 后报送；文件已留存"
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            expanded = sum(item.file_size for item in archive.infolist())
            small = expanded <= MAX_EXPANDED_BYTES
            damaged = archive.testzip() if small else None
            grid = _grid_cells(archive) if small and not damaged else 0
    except Exception:  # zipfile raises many kinds on damaged input; each of them means the same to the operator
        raise refusal("TIYU-ING-0215", "文件不是完整的 Excel 工作簿（.xlsx）", hint, object_name=name) from None
    if expanded > MAX_EXPANDED_BYTES:
        raise refusal("TIYU-ING-0216", "工作簿解压后过大，疑似压缩炸弹", hint, object_name=name, expanded=expanded)
    if grid > MAX_GRID_CELLS:
        raise refusal("TIYU-ING-0216", "工作表的行列范围过大，疑似压缩炸弹", hint, object_name=name, cells=grid)
    if damaged:
        raise refusal("TIYU-ING-0215", "工作簿内部损坏", hint, object_name=name, part=damaged)
    try:
        reader = fastexcel.read_excel(content)
        sheets = reader.sheet_names
    except Exception:
        raise refusal("TIYU-ING-0215", "文件不是完整的 Excel 工作簿（.xlsx）", hint, object_name=name) from None
    wanted = options.get("sheet")
    if not sheets or (wanted is not None and wanted not in sheets):
        raise refusal("TIYU-ING-0217", f"工作簿中没有工作表 {wanted or ''}", hint, object_name=name, sheet=wanted)
    header_row = options.get("header_row", 1)
    try:
        sheet = reader.load_sheet(
            wanted if wanted is not None else sheets[0], header_row=None, skip_rows=0, dtypes="string"
        )
        batch, cell_errors = sheet.to_arrow_with_errors()
    except Exception as error:
        raise refusal(
            "TIYU-ING-0215", "工作表无法读取", hint, object_name=name, sheet=wanted, reason=type(error).__name__
        ) from None
    cells = pa.Table.from_batches([batch])
    if cells.num_rows < header_row:
        raise refusal("TIYU-ING-0213", "工作表没有表头", hint, object_name=name, header_row=header_row)
    titles = [(column[header_row - 1].as_py() or "").strip("\ufeff \t\n　") for column in cells.columns]
    while titles and not titles[-1] and _is_blank(cells.column(len(titles) - 1).slice(header_row)):
        titles.pop()  # a formatted but empty column at the right
    if not any(titles):
        raise refusal("TIYU-ING-0213", "工作表没有表头", hint, object_name=name, header_row=header_row)
    check_header(tuple(titles), name, layout)
    body = cells.slice(header_row)
    trimmed = [_text(column) for column in body.columns[: len(titles)]]
    filled = np.zeros(body.num_rows, dtype=bool)
    for column in trimmed:
        filled |= pc.is_valid(column).to_numpy(zero_copy_only=False)
    columns = {
        field: trimmed[titles.index(field)] if field in titles else pa.nulls(body.num_rows, pa.string())
        for field in layout.fields
    }
    row_no = np.arange(header_row + 1, header_row + 1 + body.num_rows, dtype=np.int64)
    # An error value is no value: reading it as null would hide what the sender's workbook shows as broken.
    found = {
        row + 1
        for row, column in (e.position for e in (cell_errors.errors if cell_errors else ()))
        if column < len(titles)
    }
    broken = np.isin(row_no, list(found))
    kept = filled & ~broken
    return pa.table(columns).filter(pa.array(kept)), row_no[kept], row_no[broken]


def _grid_cells(archive: zipfile.ZipFile) -> int:
    """Rows times columns of the largest sheet, from the places that rows and cells name (any part may be a sheet)."""
    largest = 0
    for item in archive.infolist():
        rows = columns = 1
        rest = b""
        with archive.open(item) as stream:
            while piece := stream.read(1 << 20):
                for letters, digits in set(_PLACE.findall(rest + piece)):
                    rows = max(rows, int(digits))
                    columns = max(columns, _column_number(letters))
                rest = piece[-64:]
        largest = max(largest, rows * columns)
    return largest


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters.upper():
        number = number * 26 + letter - 64
    return number


def _text(column: pa.ChunkedArray) -> pa.Array:
    text = column.cast(pa.string()).combine_chunks()
    text = pc.replace_substring_regex(text, r"^(\d{4}-\d{2}-\d{2}) 00:00:00$", r"\1")
    blank = pc.equal(pc.utf8_trim(text, " \t\r\n　"), "")
    return pc.if_else(pc.fill_null(blank, True), pa.scalar(None, pa.string()), text)


def _is_blank(column: pa.ChunkedArray) -> bool:
    return _text(column).null_count == len(column)
