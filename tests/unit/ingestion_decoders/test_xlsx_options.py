"""Workbooks as offices make them: titles, merged headers, several tables and sheets, dates of both systems, formulas."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import zipfile
from pathlib import Path

import openpyxl
import pytest
import xlsxwriter
import xlwt

from ingestion import decoders
from ingestion.decoders import xlsx
from ingestion.decoders.xlsx import SHEET_STRIDE
from lake.errors import TiyuError
from tests.unit.ingestion_decoders.contracts import contract

TABLE = "ods_t__t"


def made(fill, **options) -> bytes:
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer, options) as book:
        fill(book)
    return buffer.getvalue()


def sheets(**tables) -> bytes:
    def fill(book):
        for name, lines in tables.items():
            sheet = book.add_worksheet(name)
            for number, line in enumerate(lines):
                sheet.write_row(number, 0, line)

    return made(fill)


def run(content: bytes, what, **options):
    result = decoders.decode(
        {"kind": "xlsx", **options}, content, object_name="表.xlsx", object_sha256="a" * 64, contract=what
    )
    assert result.root_count == result.tables[TABLE].num_rows + len(result.issues)
    return result


def rows(result):
    return [tuple(row.values()) for row in result.tables[TABLE].to_pylist()]


def refused(content, what, code, **options):
    with pytest.raises(TiyuError) as caught:
        run(content, what, **options)
    assert caught.value.code == f"TIYU-ING-{code}"


def test_merged_headers_of_two_levels_are_joined_and_a_column_outside_the_merge_is_not_in_it():
    def fill(book):
        sheet = book.add_worksheet("成绩")
        sheet.write("B1", None, book.add_format({"bold": True}))
        sheet.merge_range("B2:G2", "某某比赛成绩表")
        sheet.merge_range("B3:B4", "编号")
        sheet.merge_range("C3:D3", "成绩")
        sheet.write_row("C4", ["预赛", "决赛", "备注"])
        sheet.merge_range("F3:G3", "身体")
        sheet.write_row("F4", ["身高", "体重"])
        sheet.write_row("B5", ["7", 1.5, 2, "x", 180, 70])

    what = contract("编号", "成绩/预赛", "成绩/决赛", "备注", "身体/身高", "身体/体重")
    result = run(made(fill), what, headerRow=3, headerRows=2, headerSeparator="/")
    assert rows(result) == [("7", "1.5", "2", "x", "180", "70", 5)]


def old(fill, dates_1904=False) -> bytes:
    book = xlwt.Workbook(encoding="utf-8")
    book.dates_1904 = dates_1904
    fill(book)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("dates_1904", [False, True])
def test_an_old_workbook_is_read_like_a_new_one(dates_1904):
    day, time = xlwt.XFStyle(), xlwt.XFStyle()
    day.num_format_str, time.num_format_str = "yyyy-mm-dd", "hh:mm:ss"

    def fill(book):
        sheet = book.add_sheet("成绩")
        sheet.write_merge(0, 0, 1, 2, "成绩")
        for column, text in enumerate(["日期", "时间", "值"]):
            sheet.write(1, column, text)
        sheet.write(2, 0, dt.date(2026, 3, 1), day)
        sheet.write(2, 1, 0.25, time)
        sheet.write(2, 2, "007")
        sheet.row(3).set_cell_text(0, "x")
        sheet.row(3).set_cell_error(2, 0x2A)

    what = contract("日期", "成绩_时间", "成绩_值")
    result = run(old(fill, dates_1904), what, headerRows=2)
    assert rows(result) == [("2026-03-01", "06:00:00", "007", 3)]
    assert [(i.record_no, i.rule_id) for i in result.issues] == [(4, "decode.cell_error")]


@pytest.mark.parametrize("date_1904", [False, True])
def test_dates_times_and_lengths_of_time_in_both_date_systems(date_1904):
    def fill(book):
        sheet = book.add_worksheet("a")
        day, time, long = (book.add_format({"num_format": f}) for f in ("yyyy-mm-dd", "hh:mm:ss", "[h]:mm:ss"))
        sheet.write_row(0, 0, ["日期", "时间", "时长", "数"])
        sheet.write_datetime(1, 0, dt.datetime(2026, 3, 1), day)  # noqa: DTZ001 - Excel knows no zone
        sheet.write_datetime(1, 1, dt.time(8, 30), time)
        sheet.write_number(1, 2, 1.5, long)
        sheet.write_string(1, 3, "0012")
        sheet.set_row(1, None, None, {"hidden": True})

    what = contract("日期", "时间", "时长", "数")
    content = made(fill, date_1904=date_1904)
    assert rows(run(content, what, durations=["时长"])) == [("2026-03-01", "08:30:00", "36:00:00", "0012", 2)]
    (issue,) = run(content, what).issues
    assert issue.rule_id == "decode.ambiguous_time"


def test_a_formula_without_result_is_an_issue_and_one_with_a_result_is_its_value():
    book = openpyxl.Workbook()
    for line in [["a", "b"], [1, "=A2*2"], [2, 3]]:
        book.active.append(line)
    buffer = io.BytesIO()
    book.save(buffer)
    result = run(buffer.getvalue(), contract("a", "b"))
    assert rows(result) == [("2", "3", 3)]
    assert [(i.record_no, i.rule_id, i.reason_zh[:5]) for i in result.issues] == [(2, "decode.no_result", "第 2 行")]

    def fill(book):
        sheet = book.add_worksheet("a")
        sheet.write_row(0, 0, ["a", "b"])
        sheet.write_formula(1, 0, "=1+1", None, 2)
        sheet.write_formula(1, 1, '="x"', None, "x")

    assert rows(run(made(fill), contract("a", "b"))) == [("2", "x", 2)]


def test_several_sheets_by_pattern_with_their_name_as_a_column():
    content = sheets(
        徐汇区=[["a", "b"], ["1", "x"]], 说明=[["随便"]], 静安区=[["b", "a"], ["y", "2"], ["z", "3"]]
    )  # fmt: skip
    result = run(content, contract("a", "区", "b"), sheets="区$", sheetColumn="区")
    assert rows(result) == [
        ("1", "徐汇区", "x", 2),
        ("2", "静安区", "y", SHEET_STRIDE + 2),
        ("3", "静安区", "z", SHEET_STRIDE + 3),
    ]
    refused(content, contract("a"), "0217", sheets="市$")


def test_several_tables_on_one_sheet_and_a_range():
    content = sheets(
        a=[
            ["表一 男子组"],
            ["a", "b"],
            ["1", "x"],
            ["2", "y"],
            [],
            ["注：略"],
            [],
            ["表二 女子组"],
            ["a", "b"],
            ["3", "z"],
        ]
    )
    what = contract("a", "b")
    result = run(content, what, tableStart="^表[一二]", headerRow=2)
    assert rows(result) == [("1", "x", 3), ("2", "y", 4), ("3", "z", 10)]
    assert rows(run(content, what, range="A9:B10")) == [("3", "z", 10)]
    refused(content, what, "0217", tableStart="^表三")

    def fill(book):
        sheet = book.add_worksheet("a")
        sheet.write_row("B2", ["旁", "注", "a", "b"])
        sheet.write_row("D3", ["1", "x"])

    assert rows(run(made(fill), what, range="D2:E")) == [("1", "x", 3)]


def test_unit_row_totals_and_subtotals_are_no_records():
    content = sheets(a=[["a", "b"], [None, "（米）"], ["1", 2], ["小计", 2], ["3", 4], ["合计", 6], ["制表人"]])
    what = contract("a", "b")
    options = {"skipPattern": "^小计", "footerPattern": "^(合计|制表)"}
    assert rows(run(content, what, unitRow={"b": "（米）"}, **options)) == [("1", "2", 3), ("3", "4", 5)]
    refused(content, what, "0221", unitRow={"b": "（码）"}, **options)
    assert [row[0] for row in rows(run(content, what, skipRows=1, footerRows=2))] == ["1", "小计", "3"]


def test_header_names_by_alias_and_by_form():
    content = sheets(a=[["编 号", "ＶＡＬＵＥ"], ["1", "2"]])
    assert rows(run(content, contract("编号", "value"), headerMatch="normalised")) == [("1", "2", 2)]
    assert rows(run(content, contract("x", "y"), headerAliases={"编 号": "x", "ＶＡＬＵＥ": "y"})) == [("1", "2", 2)]


def test_a_long_text_shared_by_very_many_cells_is_refused_before_it_is_unfolded(monkeypatch):
    monkeypatch.setattr(xlsx, "MAX_EXPANDED_BYTES", 2_000_000)
    content = sheets(a=[["a"], *[["x" * 30_000]] * 100])
    assert len(content) < 20_000
    refused(content, contract("a"), "0216")


def test_a_part_that_brings_entities_along_gives_nothing_of_them():
    content = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(sheets(a=[["a"], ["1"]]))) as source, zipfile.ZipFile(content, "w") as target:
        for item in source.infolist():
            data = source.read(item)
            if item.filename == "xl/sharedStrings.xml":
                declaration = b'<!DOCTYPE sst [<!ENTITY x SYSTEM "file:///etc/hostname">]><sst'
                data = data.replace(b"<sst", declaration, 1).replace(b"<t>1</t>", b"<t>&x;</t>")
            target.writestr(item.filename, data)
    secret = Path("/etc/hostname").read_text("utf-8").strip()
    with contextlib.suppress(TiyuError):
        assert secret not in repr(rows(run(content.getvalue(), contract("a"))))
