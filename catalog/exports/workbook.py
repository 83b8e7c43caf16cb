"""The government catalogue workbook 政务信息资源目录 (XLSX): resources, their information items, code lists, how to read it.

Columns and their order follow the core metadata of the 2017 guide, then what Shanghai asks beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import xlsxwriter

from catalog import vocabularies
from catalog.entries import Entry, sheet
from catalog.entries.declared import Provider
from lake import properties

WIDTHS = {
    "信息资源分类": 30, "信息资源名称": 28, "信息资源代码": 18, "信息资源提供方": 14, "信息资源提供方代码": 22, "信息资源摘要": 48,
    "信息资源格式": 22, "信息项信息": 9, "共享类型": 11, "共享条件": 34, "共享方式": 20, "是否向社会开放": 9, "开放条件": 34,
    "更新周期": 9, "发布日期": 12, "关联资源": 34, "数据来源": 26, "安全等级": 14, "个人信息标识": 14, "开放类型": 11,
    "开放范围": 24, "责任处室": 20, "采集依据": 40, "保存期限": 26, "坐标系": 13, "种类": 20, "目录挂接": 34, "上游": 30,
    "下游": 30, "声明于": 40, "说明": 44, "信息项名称": 22, "列": 24, "表": 30, "数据类型": 16, "资源名称": 26, "资源代码": 18,
}  # fmt: skip
A3 = 8
LINE_HEIGHT, MOST_LINES = 15, 8
LETTER_ZH = {
    "C": "字符型C", "N": "数值型N", "Y": "货币型Y", "D": "日期型D", "T": "日期时间型T", "L": "逻辑型L", "B": "双精度型B",
    "I": "整型I", "G": "通用型G",
}  # fmt: skip


def _lines(row: dict[str, Any]) -> int:
    """How many lines the tallest cell of a row takes when wrapped; a Chinese character is two columns wide."""
    wide = {name: len(text := str(value or "")) + sum(ord(c) > 0x2E80 for c in text) for name, value in row.items()}
    return min(MOST_LINES, max(-(-width // WIDTHS.get(name, 12)) for name, width in wide.items()) or 1)


class _Book:
    """A workbook with one look: dark head, wrapped text, frozen head and first columns, filters."""

    def __init__(self, path: Path, created: date):
        self.book = xlsxwriter.Workbook(str(path), {"strings_to_urls": False, "strings_to_formulas": False})
        at = datetime(created.year, created.month, created.day, tzinfo=UTC).replace(tzinfo=None)
        self.book.set_properties({"title": "政务信息资源目录", "created": at})
        font = {
            "font_name": "Noto Sans CJK SC",
            "font_size": 10,
            "valign": "top",
            "text_wrap": True,
            "border": 1,
            "border_color": "#D5DCE4",
        }
        self.head = self.book.add_format(
            {**font, "bold": True, "font_color": "#FFFFFF", "bg_color": "#1F4E79", "valign": "vcenter"}
        )
        self.core = self.book.add_format(
            {**font, "bold": True, "font_color": "#FFFFFF", "bg_color": "#0B7285", "valign": "vcenter"}
        )
        self.plain = self.book.add_format(font)
        self.title = self.book.add_format({"font_name": "Noto Sans CJK SC", "font_size": 16, "bold": True})
        self.note = self.book.add_format(
            {"font_name": "Noto Sans CJK SC", "font_size": 10, "text_wrap": True, "valign": "top"}
        )

    def table(self, name: str, rows: Sequence[dict[str, Any]], *, freeze: int, core: int = 0) -> None:
        """A sheet of equal rows; the first `core` columns are the guide's."""
        page = self.book.add_worksheet(name)
        columns = list(rows[0]) if rows else []
        for number, column in enumerate(columns):
            page.set_column(number, number, WIDTHS.get(column, 12))
            page.write_string(0, number, column, self.core if number < core else self.head)
        page.set_row(0, 32)
        for line, row in enumerate(rows, 1):
            page.set_row(line, LINE_HEIGHT * _lines(row))
            for number, value in enumerate(row.values()):
                if isinstance(value, int) and not isinstance(value, bool):
                    page.write_number(line, number, value, self.plain)
                else:
                    page.write_string(line, number, "" if value is None else str(value), self.plain)
        if rows:
            page.autofilter(0, 0, len(rows), len(columns) - 1)
        page.freeze_panes(1, freeze)
        page.set_landscape()
        page.set_paper(A3)
        page.fit_to_pages(2 if len(columns) > 16 else 1, 0)
        page.repeat_rows(0)
        page.repeat_columns(0, freeze - 1)

    def reading(self, lines: Sequence[tuple[str, str]]) -> None:
        """The first sheet: what this is and how to read it."""
        page = self.book.add_worksheet("说明")
        page.hide_gridlines(2)
        page.set_landscape()
        page.fit_to_pages(1, 0)
        page.set_column(0, 0, 22)
        page.set_column(1, 1, 92)
        page.set_row(0, 28)
        page.write_string(0, 0, "政务信息资源目录", self.title)
        for line, (name, text) in enumerate(lines, 2):
            page.write_string(line, 0, name, self.note)
            page.write_string(line, 1, text, self.note)


def items(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """One row an information item (element 8)."""
    return [
        {
            "资源代码": entry.code,
            "资源名称": entry.title_zh,
            "表": table.name,
            "序号": number,
            "信息项名称": column.title_zh,
            "列": column.name,
            "数据类型": LETTER_ZH.get(column.letter or "", ""),
            "单位": vocabularies.name_of("unit", column.unit) if column.unit else "",
            "代码表": column.code_list or "",
            "级别": column.grade or "未定级",
            "个人信息": column.pi_mark or "未标识",
            "说明": column.description or "",
        }
        for entry in entries
        for table in entry.tables
        for number, column in enumerate(table.columns, 1)
    ]


def write(path: Path, entries: Sequence[Entry], provider: Provider, issued: date) -> Path:
    """Write the workbook; returns its path."""
    book = _Book(path, issued)
    ordered = sorted(entries, key=lambda entry: entry.code or "")
    used = sorted({c.code_list for e in ordered for c in e.columns if c.code_list and vocabularies.exists(c.code_list)})
    code_rows = [
        {"代码表": name, "名称": vocabularies.title(name), "代码": row["code"], "含义": row["name"]}
        for name in used
        for row in vocabularies.load(name)
    ]
    notes = [
        ("提供方", f"{provider.name}　{provider.uscc}{'（演示代码）' if provider.uscc_is_synthetic else ''}"),
        ("编制日期", issued.isoformat()),
        ("编制依据", "《政务信息资源目录编制指南（试行）》（发改高技〔2017〕1272号）核心元数据；《上海市数据条例》第二十八条、第四十二条"),
        ("资源目录", f"{len(ordered)} 个条目：青色表头为核心元数据，蓝色表头为本市与本系统的扩展"),
        ("信息项", "每个资源的每一列：名称、类型、单位、代码表、级别、个人信息标识"),
        ("代码表", "信息项取值所用的代码"),
        ("资源代码", f"前段 {provider.prefix.digits}（{provider.prefix.catalogue.provenance}），斜线后为顺序码；已发布的代码不变更、不重复使用"),
        ("级别", "L1 不敏感、L2 低敏感、L3 较敏感、L4 敏感；个人信息标识 N 非个人信息、P 个人信息、S 敏感个人信息"),
    ]  # fmt: skip
    if banner := properties.demo_banner():
        notes.insert(0, ("数据声明", banner))
    book.reading(notes)
    book.table("资源目录", [dict(sheet.lines(entry)) for entry in ordered], freeze=3, core=16)
    book.table("信息项", items(ordered), freeze=2)
    book.table("代码表", code_rows, freeze=1)
    book.book.close()
    return path
