"""What the columns of a recognised object hold: type, way of writing, key, date, and how sensitive they look.

A suggestion is made when every value of the column agrees, or all but a few of many (`is_most`): those few are named by their records, since
they would be refused. Anything else stays a text. What two readings of the same texts would turn into two different values (03/04/2026,
1.204) is left as a text and noted, unless another column of the same file settles which of them the file means.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

import duckdb
import polars as pl

from catalog.detectors import content, names
from catalog.grading import declarations
from ingestion.drafting.most import is_most
from ingestion.drafting.recognise import Recognised

NULL_TOKENS = ("--", "-", "—", "——", "/", "\\", "N/A", "n/a", "NA", "NULL", "null", "None", "NaN", "\\N", "无", "#N/A")
_BOOLEANS = (("是", "否"), ("true", "false"), ("yes", "no"), ("y", "n"), ("t", "f"), ("有", "无"))
_PLAIN_BOOLEANS = {word for pair in _BOOLEANS[:5] for word in pair}
_INTEGER = r"^[+-]?\d{1,18}$"
_DECIMAL = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_LEADING_ZERO = r"^[+-]?0\d"
_USUAL_DATES = ("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%Y年%m月%d日")
_OTHER_DATES = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y.%m.%d", "%d/%m/%y", "%m/%d/%y")
_USUAL_TIMES = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%d %H:%M",
                "%Y-%m-%dT%H:%M", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M")  # fmt: skip
_OTHER_TIMES = ("%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%d.%m.%Y %H:%M:%S",
                "%d.%m.%Y %H:%M", "%Y%m%d%H%M%S", "%Y年%m月%d日 %H:%M:%S", "%Y年%m月%d日 %H:%M", "%m/%d/%Y %I:%M %p")  # fmt: skip
_OFFSET = re.compile(r"(Z|z|[+-]\d{2}:?\d{2})$")
_NUMBERS = {  # decimal mark, thousands separator → how a whole number and a decimal look
    (".", None): (r"^[+-]?\d{1,18}$", _DECIMAL),
    (".", ","): (r"^[+-]?\d{1,3}(,\d{3})*$|^[+-]?\d{1,18}$", r"^[+-]?(\d{1,3}(,\d{3})+|\d+)(\.\d+)?$"),
    (",", "."): (r"^[+-]?\d{1,3}(\.\d{3})*$|^[+-]?\d{1,18}$", r"^[+-]?(\d{1,3}(\.\d{3})+|\d+)(,\d+)?$"),
    (".", " "): (
        r"^[+-]?\d{1,3}([ \u00a0\u202f]\d{3})*$|^[+-]?\d{1,18}$",
        r"^[+-]?(\d{1,3}([ \u00a0\u202f]\d{3})+|\d+)(\.\d+)?$",
    ),
    (",", " "): (
        r"^[+-]?\d{1,3}([ \u00a0\u202f]\d{3})*$|^[+-]?\d{1,18}$",
        r"^[+-]?(\d{1,3}([ \u00a0\u202f]\d{3})+|\d+)(,\d+)?$",
    ),
}
_NUMBER_LIKE = r"^[+-]?[\d.,' \u00a0\u202f]*\d[\d.,' \u00a0\u202f]*%?$"
_DATE_LIKE = r"^\d{1,4}[-/.年]\d{1,2}[-/.月]\d{1,4}日?([T ].*)?$|^\d{8}(\d{6})?$"
_NAMED_RECORDS = 5
_MONEY = re.compile(r"(金额|费用|费$|价格|单价|总价|余额|收入|amount|fee|price|cost|balance|revenue)", re.IGNORECASE)
_IDENTIFIERS = {"person_name": "name", "phone": "phone", "id_no": "id_no", "uscc": "uscc", "athlete_no": "athlete_no"}
_CODE_NAME = re.compile(r"(编号|编码|代码|号码|证号|单号|code|_no|_id|^id$|^no$)$", re.IGNORECASE)


@dataclass
class Column:
    """One source field: its suggested type and protection.

    type: as a contract writes it. date_formats, decimal_mark, thousands, suffix, true/false tokens: the settings its texts need beyond
    the usual spellings. rows: records. filled: share of them with a value. level, mark, identifier_kind: of the detectors' strongest finding.
    evidence: why. notes: what a person should look at.
    """

    source_name: str
    type: str = "VARCHAR"
    rows: int = 0
    filled: float = 1.0
    distinct: int = 0
    null_tokens: tuple[str, ...] = ()
    date_formats: tuple[str, ...] = ()
    decimal_mark: str | None = None
    thousands: str | None = None
    suffix: str | None = None
    boolean: tuple[str, str] | None = None
    level: str = "L2"
    mark: str = "N"
    identifier_kind: str | None = None
    evidence: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def is_date(self) -> bool:
        """Whether a record can be filed under this column's date."""
        return self.type in ("DATE", "TIMESTAMPTZ") and self.is_filled

    @property
    def is_filled(self) -> bool:
        """Whether every record has a value, or all but a few of many."""
        return self.filled == 1.0 or is_most(self.filled, self.rows)

    @property
    def is_of_a_person(self) -> bool:
        """Whether the column holds what a person is reached or called by, which tells no records apart."""
        return self.identifier_kind in ("phone", "name")


def columns_of(found: Recognised) -> list[Column]:
    """One profile a field, in order."""
    told = {name: _told(found.rows[name]) for name in found.fields}
    texts = {name: column.drop_nulls().unique(maintain_order=True) for name, column in told.items()}
    convention = _convention(texts.values())
    columns = [_column(name, texts[name], convention) for name in found.fields]
    columns = [_of_most(column, told[column.source_name], convention, found.numbers) for column in columns]
    _protect(found.rows, columns)
    for column in columns:
        if column.type == "DOUBLE" and _MONEY.search(column.source_name):
            column.notes.append(f"列“{column.source_name}”像金额；要一分不差请把类型改为 DECIMAL(12,2)")
        if column.type == "BIGINT" and is_code(column.source_name):
            column.notes.append(f"列“{column.source_name}”像编号，样本中都是整数；编号可能以 0 开头时请改为 VARCHAR")
    return columns


def _told(column: pl.Series) -> pl.Series:
    """The texts of all records, trimmed; null where there is none."""
    trimmed = column.cast(pl.String).str.strip_chars()
    return trimmed.replace("", None)


def _of_most(column: Column, told: pl.Series, convention: tuple[str, str | None] | None, numbers: list[int]) -> Column:
    """The column as most of its values say it is, where all of them together say only that it is text; the others are named by
    their records."""
    if column.type != "VARCHAR" or column.notes or is_code(column.source_name):
        return column
    values, tokens = _without_nulls(told.drop_nulls().unique(maintain_order=True))
    said = told.drop_nulls()
    said = said.filter(~said.is_in(list(tokens))) if tokens else said
    for word, fitting in _ways(values):
        if not len(fitting) or not is_most(float(said.is_in(fitting).sum()) / len(said), len(said)):
            continue
        found = Column(column.source_name, distinct=column.distinct, null_tokens=tokens)
        _type(found, fitting, convention or _convention([fitting]))
        if found.type == "VARCHAR":
            continue
        odd = (told.is_not_null() & ~told.is_in([*fitting.to_list(), *tokens])).arg_true().to_list()
        named = "、".join(str(numbers[place] if numbers else place + 1) for place in odd[:_NAMED_RECORDS])
        more = " 等" if len(odd) > _NAMED_RECORDS else ""
        found.notes.append(
            f"列“{column.source_name}”有 {len(odd)} 条不是{word}（第 {named} 条{more}），其余都是；按 {found.type} 处理，这些记录会进隔离区"
        )
        return found
    return column


def _ways(values: pl.Series) -> Iterator[tuple[str, pl.Series]]:
    """What the values of a column may be, and those of them that are."""
    yield "数", values.filter(values.str.contains(_NUMBER_LIKE))
    dated = values.filter(values.str.contains(_DATE_LIKE))
    if len(dated) < len(values) // 2:
        return
    zoned = dated.filter(dated.str.contains(_OFFSET.pattern) & dated.str.contains(r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}"))
    if len(zoned) >= len(dated) // 2:
        yield "日期或时间", zoned
        return
    layouts = (*_USUAL_DATES, *_OTHER_DATES, *_USUAL_TIMES, *_OTHER_TIMES)
    first = dated.head(1_000).to_list()  # which layout it is shows soon; only that one is tried on all
    best = max(layouts, key=lambda layout: sum(_moment(text, layout) is not None for text in first))
    yield (
        "日期或时间",
        dated.filter(pl.Series([_moment(text, best) is not None for text in dated.to_list()], dtype=pl.Boolean)),
    )


def _all(texts: pl.Series, pattern: str) -> bool:
    return len(texts) > 0 and bool(texts.str.contains(pattern).all())


def _without_nulls(texts: pl.Series) -> tuple[pl.Series, tuple[str, ...]]:
    tokens = tuple(text for text in texts.to_list() if text in NULL_TOKENS)
    return texts.filter(~texts.is_in(tokens)) if tokens else texts, tokens


def _convention(columns: Iterable[pl.Series]) -> tuple[str, str | None] | None:
    """How this file writes numbers, where one of its columns can be read in one way only; None where none tells."""
    for texts in columns:
        values, _ = _without_nulls(texts)
        written = values.filter(values.str.contains(_NUMBER_LIKE))
        if len(values) and is_most(len(written) / len(values), len(values)):
            values = written
        if not len(values) or _all(values, _DECIMAL) or _all(values, _INTEGER):
            continue
        fitting = [key for key, (_, decimal) in _NUMBERS.items() if key != (".", None) and _all(values, decimal)]
        # 12,50 is no group of three: only a decimal comma reads it; 1,204,300.50 only a point with commas between thousands
        certain = values.str.contains(r"\d[,.]\d{1,2}$|\d[,.]\d{4,}$|[,.  ]\d{3}[,.]").any()
        if fitting and (len(fitting) == 1 or certain):
            return fitting[0]
    return None


def _column(name: str, texts: pl.Series, convention: tuple[str, str | None] | None) -> Column:
    values, tokens = _without_nulls(texts)
    column = Column(name, distinct=len(texts))
    if not len(values):
        column.notes.append(f"列“{name}”没有一个值，类型待定")
        return column
    _type(column, values, convention)
    if tokens and column.type != "VARCHAR":
        column.null_tokens = tokens
    elif tokens:
        _type_of_text(column, texts)
    return column


def _type_of_text(column: Column, texts: pl.Series) -> None:
    """A text column keeps its texts; 无 and the like may be values there."""
    column.null_tokens = ()
    if texts.is_in(("N/A", "NULL", "\\N", "--")).any():
        column.notes.append(
            f"列“{column.source_name}”是文本，其中的 N/A、NULL、-- 等按原文保留；如表示空值请写 nullTokens"
        )


def _type(column: Column, values: pl.Series, convention: tuple[str, str | None] | None) -> None:
    lowered = set(values.str.to_lowercase().to_list())
    for yes, no in _BOOLEANS:
        if lowered <= {yes, no}:
            column.type = "BOOLEAN"
            column.boolean = None if {yes, no} <= _PLAIN_BOOLEANS else (yes, no)
            return
    if _dated(column, values):
        return
    if _all(values, r"%$"):
        bare = values.str.strip_suffix("%").str.strip_chars()
        if _numbered(column, bare, convention):
            column.suffix = "%"
            column.type = "DOUBLE"
            return
    _numbered(column, values, convention)


def _numbered(column: Column, values: pl.Series, convention: tuple[str, str | None] | None) -> bool:
    """A number when every value is one; a code with leading zeros, or too long for an exact number, is a text."""
    if values.str.contains(_LEADING_ZERO + r"\d*$").any():
        return False
    if convention and convention != (".", None):
        whole, decimal = _NUMBERS[convention]
        if _all(values, decimal):
            plain = _all(values, _INTEGER)
            column.type = "BIGINT" if _all(values, whole) else "DOUBLE"
            if not plain:
                column.decimal_mark, column.thousands = convention
            return True
        return False
    if _all(values, _INTEGER):
        column.type = "BIGINT"
        return True
    if _all(values, r"^[+-]?\d+$"):
        column.notes.append(f"列“{column.source_name}”的数字超过 18 位，按文本保留")
        return False
    if _all(values, _DECIMAL):
        if _all(values, r"^[+-]?\d{1,3}\.\d{3}$"):
            column.notes.append(
                f"列“{column.source_name}”的点可能是小数点，也可能是千分位，暂按文本保留；请定 decimalMark、thousands 与类型"
            )
            return False
        column.type = "DOUBLE"
        return True
    return False


def _dated(column: Column, values: pl.Series) -> bool:
    """A date or an instant when one way of writing reads every value, and no other way reads them differently."""
    offset = values.str.contains(_OFFSET.pattern)
    if offset.all() and values.str.contains(r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}").all():
        column.type = "TIMESTAMPTZ"
        return True
    for kind, usual, others in (("DATE", _USUAL_DATES, _OTHER_DATES), ("TIMESTAMPTZ", _USUAL_TIMES, _OTHER_TIMES)):
        fitting = [item for item in (*usual, *others) if _reads(values, item)]
        if not fitting:
            continue
        if fitting[0] in usual:
            column.type = kind
            if fitting[0] == "%Y%m%d":
                column.notes.append(
                    f"列“{column.source_name}”的八位数字都是合法日期，按日期处理；若是编号请改为 VARCHAR"
                )
            return True
        if len(fitting) > 1 and not _same(values, fitting):
            column.notes.append(
                f"列“{column.source_name}”的日期有两种读法（{'、'.join(fitting[:2])}），暂按文本保留；请定 dateFormats 与类型"
            )
            return True
        column.type, column.date_formats = kind, (fitting[0],)
        return True
    return False


def _reads(values: pl.Series, layout: str) -> bool:
    """Whether a way of writing reads every value as a moment between 1900 and 2100."""
    if layout in ("%Y%m%d", "%Y%m%d%H%M%S") and not values.str.contains(r"^\d{8}(\d{6})?$").all():
        return False
    return all(_moment(text, layout) is not None for text in values.head(10_000).to_list())


def _moment(text: str, layout: str) -> datetime | None:
    """The moment between 1900 and 2100 that a text written in this way says."""
    try:
        moment = datetime.strptime(text, layout)  # noqa: DTZ007 - only its shape is asked
    except ValueError:
        return None
    return moment if 1900 <= moment.year <= 2100 else None


def _same(values: pl.Series, layouts: list[str]) -> bool:
    readings = {tuple(datetime.strptime(text, item) for text in values.head(10_000).to_list()) for item in layouts}  # noqa: DTZ007
    return len(readings) == 1


def _protect(rows: pl.DataFrame, columns: list[Column]) -> None:
    """Level, mark and identifier kind by what names and contents show."""
    grading = declarations.load()
    con = duckdb.connect(":memory:")
    con.register("sample", rows.cast(pl.String).to_arrow())
    findings = content.scan(con, "sample", [column.source_name for column in columns]) if rows.height else []
    con.close()
    for column in columns:
        kinds = {
            item.kind: f"内容：{item.examined} 个值中 {item.hits} 个"
            for item in findings
            if item.column == column.source_name
        }
        for hit in names.detect(column.source_name):
            kinds.setdefault(hit.kind, f"名称含“{hit.evidence}”")
        for kind, why in kinds.items():
            item = grading.item(kind)
            level = grading.levels[item.degree]
            if item.context == "person" and not any(other.identifier_kind for other in columns):
                continue
            if level > column.level or item.mark > column.mark or (kind in _IDENTIFIERS and not column.identifier_kind):
                column.level, column.mark = max(level, column.level), max(item.mark, column.mark, key="NPS".index)
                column.evidence = f"{item.title}（{why}）"
            if kind in _IDENTIFIERS and column.identifier_kind is None:
                column.identifier_kind = _IDENTIFIERS[kind]
                column.type = "VARCHAR"
                column.date_formats, column.null_tokens, column.boolean = (), (), None
    for column in columns:
        filled = rows[column.source_name].cast(pl.String).str.strip_chars()
        there = filled.is_not_null() & (filled != "") & ~filled.is_in(list(column.null_tokens) or [""])
        column.filled = float(there.sum()) / rows.height if rows.height else 0.0
        column.rows = rows.height


def is_code(name: str) -> bool:
    """Whether a field's name says that it identifies something."""
    return bool(_CODE_NAME.search(name))
