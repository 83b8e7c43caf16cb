"""Text as delivered becomes typed columns: one SQL expression per column of the contract.

A value that cannot be converted becomes null and is reported by the rule ``{contract}.{column}.type``; nothing is
rounded, guessed or truncated on the way. Times without an offset are wall-clock times of Asia/Shanghai or of the zone
that the contract names. How values are written may be declared (`catalog.contracts.value_options`).
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from catalog import units, vocabularies
from catalog.contracts import ObjectSpec, PropertySpec
from catalog.contracts.value_options import DEFAULT_ZONE, NUMBERED_FORMATS
from lake.sql import quote_literal, quote_whole

#: Prefix of delivered text columns, so that they never clash with the typed columns.
SOURCE = "s::"

#: Column of elements of a list with the date of their record.
PARENT_DATE = "_parent_date"

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
    """The delivered text of a property, trimmed; empty or a null token of the contract is null (source columns are
    prefixed by :data:`SOURCE`)."""
    text = f"nullif(trim({source_column(str(prop.source_name))}), '')"
    tokens = prop.read.null_tokens
    if not tokens:
        return text
    return f"(case when {text} not in ({', '.join(quote_literal(token.strip()) for token in tokens)}) then {text} end)"


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
    if prop.type in ("BIGINT", "INTEGER", "DOUBLE") or prop.type.startswith("DECIMAL"):
        return _number(prop, text)
    if prop.type == "BOOLEAN":
        yes, no = prop.read.true_tokens or _TRUE, prop.read.false_tokens or _FALSE
        return (
            f"case when lower({text}) in ({', '.join(quote_literal(word.lower()) for word in yes)}) then true "
            f"when lower({text}) in ({', '.join(quote_literal(word.lower()) for word in no)}) then false end"
        )
    if prop.type == "DATE":
        return _sane(_date(prop, text), "DATE")
    return _sane(_instant(prop, text), "TIMESTAMPTZ")


def _number(prop: PropertySpec, text: str) -> str:
    """A number: the contract's way of writing is brought into plain digits first, then the text must be a number of the
    column's type as a whole; a unit is converted exactly or, for DOUBLE, by one multiplication."""
    text = _plain_number(prop, text)
    step = units.conversion(prop.read.source_unit, str(prop.unit)) if prop.read.source_unit else None
    if prop.type == "DOUBLE":
        plain = plain_number(text, prop.type)
        if step is None or step == (Fraction(0), Fraction(1)):
            return plain
        offset, factor = step
        moved = f"(({plain}) - {_double(offset)})" if offset else f"({plain})"
        return f"{moved} * {factor.numerator}::DOUBLE / {factor.denominator}::DOUBLE"
    if step is not None and step != (Fraction(0), Fraction(1)):
        return _exact(prop.type, text, step)
    # a cast would round what has more digits than the column
    if prop.type in ("BIGINT", "INTEGER"):
        return plain_number(text, prop.type)
    digits = int(prop.type.rstrip(")").split(",")[1])
    fraction = f"(\\.\\d{{1,{digits}}}0*)?" if digits else "(\\.0+)?"
    return f"case when regexp_full_match({text}, '[+-]?\\d+{fraction}') then try_cast({text} as {prop.type}) end"


def plain_number(text: str, kind: str) -> str:
    """SQL of a number in plain digits, with a point and an exponent only where the type has room for them."""
    if kind == "DOUBLE":
        return f"case when regexp_full_match({text}, '[+-]?(\\d+\\.?\\d*|\\.\\d+)([eE][+-]?\\d+)?') then try_cast({text} as DOUBLE) end"
    return f"case when regexp_full_match({text}, '[+-]?\\d+(\\.0+)?') then try_cast({text} as {kind}) end"


def is_plain_number(prop: PropertySpec) -> bool:
    """Whether a property is a plain number and nothing else is declared of it (`ingestion.typed` reads such texts faster)."""
    if prop.type not in ("BIGINT", "INTEGER", "DOUBLE"):
        return False
    text = f"nullif(trim({source_column(str(prop.source_name))}), '')"
    return expression(prop) == plain_number(text, prop.type)


def _plain_number(prop: PropertySpec, text: str) -> str:
    """SQL of the text with plain digits and a point, null where it is not written as declared."""
    read = prop.read
    if not (read.decimal_mark or read.thousands or read.suffix):
        return text
    mark, group = _class(read.decimal_mark or "."), _class(read.thousands) if read.thousands else None
    if read.suffix:
        text = f"trim(case when ends_with({text}, {quote_literal(read.suffix)}) then left({text}, -{len(read.suffix)}) else {text} end)"
    whole = f"(\\d+|\\d{{1,3}}({group}\\d{{3}})+)" if group else "\\d+"
    shape = f"[+-]?{whole}({mark}\\d+)?([eE][+-]?\\d+)?"
    plain = text
    if group:
        plain = f"regexp_replace({plain}, {quote_literal(group)}, '', 'g')"
    if read.decimal_mark == ",":
        plain = f"replace({plain}, ',', '.')"
    return f"(case when regexp_full_match({text}, {quote_literal(shape)}) then {plain} end)"


def _class(mark: str) -> str:
    """A regular expression for one mark; a space as separator is also written as one of the spaces that do not break."""
    return "[ \u00a0\u202f]" if mark == " " else f"[{mark}]"


def _double(number: Fraction) -> str:
    return f"({number.numerator}::DOUBLE / {number.denominator}::DOUBLE)"


def _exact(kind: str, text: str, step: tuple[Fraction, Fraction]) -> str:
    """A converted number of a type with fixed digits: null where the result would have to be rounded to fit."""
    offset, factor = (units.as_decimal(part) for part in step)
    assert offset is not None
    assert factor is not None  # the contract's check allows no other for these types
    value = f"try_cast({text} as DECIMAL(20,6))"
    if offset:
        value = f"({value} - {_literal(offset)})"
    value = f"try({value} * {_literal(factor)})"
    fits = f"case when try(try_cast({value} as {kind}) = {value}) then try_cast({value} as {kind}) end"
    return f"case when regexp_full_match({text}, '[+-]?\\d{{1,14}}(\\.\\d{{1,6}}0*)?') then {fits} end"


def _literal(number: Decimal) -> str:
    return f"{number:f}"


def _date(prop: PropertySpec, text: str) -> str:
    formats = prop.read.date_formats
    if not formats:
        return f"try_cast(try_strptime({text}, {_list(_DATE_FORMATS)}) as DATE)"
    return f"try_cast({_wall_clock(tuple(formats), text, prop.read.time_zone or DEFAULT_ZONE)} as DATE)"


def _instant(prop: PropertySpec, text: str) -> str:
    zone = prop.read.time_zone or DEFAULT_ZONE
    formats = prop.read.date_formats
    clock = _wall_clock(tuple(formats), text, zone) if formats else f"try_strptime({text}, {_list(_TIME_FORMATS)})"
    return (
        f"case when regexp_matches({text}, {quote_literal(_OFFSET)}) then try_cast({text} as TIMESTAMPTZ) "
        f"else {_in_zone(clock, zone)} end"
    )


def _wall_clock(formats: tuple[str, ...], text: str, zone: str) -> str:
    """Wall-clock time in ``zone`` of a text written in one of the declared formats."""
    written = tuple(item for item in formats if item not in NUMBERED_FORMATS)
    parts = [f"try_strptime({text}, {_list(written)})"] if written else []
    number = f"case when regexp_full_match({text}, '-?\\d{{1,15}}(\\.\\d{{1,6}})?') then try_cast({text} as DECIMAL(24,6)) end"
    for item in formats:
        if item == "excel_serial":  # days, kept to the millisecond as workbooks do
            parts.append(f"try(timestamp '1899-12-30' + to_milliseconds(cast(round({number} * 86400000) as BIGINT)))")
        elif item in NUMBERED_FORMATS:
            micros = f"cast({number} * {1_000_000 if item == 'epoch_s' else 1000} as BIGINT)"
            parts.append(f"timezone({quote_literal(zone)}, try(make_timestamptz({micros})))")
    return f"coalesce({', '.join(parts)})" if len(parts) > 1 else parts[0]


def _in_zone(clock: str, zone: str) -> str:
    """The instant of a wall-clock time. In a zone whose clocks are changed, a time that did not exist or came twice is
    null: which instant was meant is not in the data."""
    name = quote_literal(zone)
    instant = f"timezone({name}, {clock})"
    if zone == DEFAULT_ZONE:
        return instant
    one = [f"timezone({name}, {instant} {sign} interval 1 hour)" for sign in "+-"]
    return f"case when timezone({name}, {instant}) = {clock} and {one[0]} <> {clock} and {one[1]} <> {clock} then {instant} end"


def _sane(moment: str, kind: str) -> str:
    """Null outside the years 1900 to 9998: (BC), infinity and the like are dates to SQL, but to nothing behind it."""
    return f"case when {moment} between {kind} '1900-01-01' and {kind} '9998-12-31' then {moment} end"


def part_date_expression(obj: ObjectSpec) -> str:
    """SQL of ``part_date``: the Asia/Shanghai calendar date of the business event, of an element of a list that of its record."""
    if obj.items is not None:
        return quote_whole(PARENT_DATE)
    prop = obj.by_name[str(obj.part_date)]
    name = quote_whole(prop.name)
    return f"cast(timezone('Asia/Shanghai', {name}) as DATE)" if prop.type == "TIMESTAMPTZ" else f"cast({name} as DATE)"


def is_shanghai_date(obj: ObjectSpec) -> bool:
    """Whether ``part_date`` is nothing but the Shanghai date of a timestamp (`ingestion.split` knows a faster way to it)."""
    name = quote_whole(str(obj.part_date))
    return part_date_expression(obj) == f"cast(timezone('Asia/Shanghai', {name}) as DATE)"


def type_predicate(prop: PropertySpec) -> str:
    """TRUE when the delivered text was empty or could be converted."""
    return f"({text_of(prop)} is null or {quote_whole(prop.name)} is not null)"


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
        prop.raw_name: f"{expression(prop)} as {quote_whole(prop.raw_name)}"
        for prop in obj.properties
        if prop.source_name is not None and prop.derive is None
    }
    return f"select *, {', '.join(columns.values())} from {relation}"
