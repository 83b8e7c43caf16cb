"""Text as delivered becomes typed columns: one SQL expression per column of the contract.

A value that cannot be converted becomes null and is reported by the rule ``{contract}.{column}.type``; nothing is
rounded, guessed or truncated on the way. Times without an offset are Asia/Shanghai wall-clock times.
"""

from __future__ import annotations

from catalog import vocabularies
from catalog.contracts import ObjectSpec, PropertySpec
from lake.sql import quote_literal, quote_name, quote_whole

#: Prefix of delivered text columns, so that they never clash with the typed columns.
SOURCE = "s::"

_DATE_FORMATS = ("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%Y年%m月%d日", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S")
_TIME_FORMATS = (
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%d %H:%M:%S.%f",
    "%Y-%m-%dT%H:%M:%S.%f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M",
)
_OFFSET = r"(Z|z|[+-]\d{2}:?\d{2})$"
_TRUE = ("是", "true", "1", "y", "yes", "t")
_FALSE = ("否", "false", "0", "n", "no", "f")


def text_of(prop: PropertySpec) -> str:
    """The delivered text of a property, trimmed, empty as null (source columns are prefixed by :data:`SOURCE`)."""
    return f"nullif(trim({source_column(str(prop.source_name))}), '')"


def source_column(name: str) -> str:
    """The quoted column that holds the delivered text of a source field."""
    return quote_whole(SOURCE + name)


def _list(values: tuple[str, ...]) -> str:
    return "[" + ", ".join(quote_literal(value) for value in values) + "]"


def expression(prop: PropertySpec) -> str:
    """SQL that converts the delivered text of one property to its contract type (null when it cannot be)."""
    text = text_of(prop)
    if prop.protection:
        return text
    if prop.code_list:
        mapped = vocabularies.map_sql(prop.code_list, text)
        return mapped if prop.type == "VARCHAR" else f"try_cast({mapped} as {prop.type})"
    if prop.type == "VARCHAR":
        return text
    if prop.type in ("BIGINT", "INTEGER"):
        return f"case when regexp_full_match({text}, '[+-]?\\d+(\\.0+)?') then try_cast({text} as {prop.type}) end"
    if prop.type == "DOUBLE":
        return f"case when regexp_full_match({text}, '[+-]?(\\d+\\.?\\d*|\\.\\d+)([eE][+-]?\\d+)?') then try_cast({text} as DOUBLE) end"
    if prop.type == "BOOLEAN":
        return (
            f"case when lower({text}) in ({', '.join(map(quote_literal, _TRUE))}) then true "
            f"when lower({text}) in ({', '.join(map(quote_literal, _FALSE))}) then false end"
        )
    if prop.type == "DATE":
        return _sane(f"try_cast(try_strptime({text}, {_list(_DATE_FORMATS)}) as DATE)", "DATE")
    if prop.type == "TIMESTAMPTZ":
        return _sane(
            f"case when regexp_matches({text}, {quote_literal(_OFFSET)}) then try_cast({text} as TIMESTAMPTZ) "
            f"else timezone('Asia/Shanghai', try_strptime({text}, {_list(_TIME_FORMATS)})) end",
            "TIMESTAMPTZ",
        )
    return f"case when regexp_full_match({text}, '[+-]?\\d+(\\.\\d+)?') then try_cast({text} as {prop.type}) end"


def _sane(moment: str, kind: str) -> str:
    """Null outside the years 1900 to 9998: (BC), infinity and the like are dates to SQL, but to nothing behind it."""
    return f"case when {moment} between {kind} '1900-01-01' and {kind} '9998-12-31' then {moment} end"


def part_date_expression(obj: ObjectSpec) -> str:
    """SQL of ``part_date``: the Asia/Shanghai calendar date of the business event."""
    prop = obj.by_name[str(obj.part_date)]
    name = quote_name(prop.name)
    return f"cast(timezone('Asia/Shanghai', {name}) as DATE)" if prop.type == "TIMESTAMPTZ" else f"cast({name} as DATE)"


def type_predicate(prop: PropertySpec) -> str:
    """TRUE when the delivered text was empty or could be converted."""
    return f"({text_of(prop)} is null or {quote_name(prop.name)} is not null)"


_KIND_ZH = {
    "BIGINT": "整数",
    "INTEGER": "整数",
    "DOUBLE": "数值",
    "BOOLEAN": "是否（是、否、true、false、1、0）",
    "DATE": "日期",
    "TIMESTAMPTZ": "日期时间",
}


def type_reason(prop: PropertySpec) -> str:
    """What the type rule says of a refused value, in Chinese: the column as the source calls it and what is wanted."""
    wanted = _KIND_ZH.get(prop.type, "定点小数" if prop.type.startswith("DECIMAL") else prop.type)
    if prop.code_list:
        wanted = f"代码表 {prop.code_list} 中的值"
    named = prop.title_zh if prop.source_name in (None, prop.title_zh) else f"{prop.title_zh}（{prop.source_name}）"
    return f"{named}不是有效的{wanted}"


def typed_select(obj: ObjectSpec, relation: str) -> str:
    """A select that adds, to every delivered row, the typed columns (raw identifiers as ``raw__<source name>``).

    Technical columns ``_record_no`` and ``_source_object`` and the delivered text (for the type rules) pass through.
    """
    columns = {
        prop.raw_name: f"{expression(prop)} as {quote_name(prop.raw_name)}"
        for prop in obj.properties
        if prop.source_name is not None and prop.derive is None
    }
    return f"select *, {', '.join(columns.values())} from {relation}"
