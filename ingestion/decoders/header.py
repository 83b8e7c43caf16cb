"""The header of a table as delivered against the columns of the contract, for every format that has one."""

from __future__ import annotations

import unicodedata
from typing import Any

from ingestion.decoders.base import Layout, extra_fields, missing_fields, refusal

#: What every header decoder understands: see :func:`resolve_header`.
HEADER_OPTIONS: dict[str, type | tuple[type, ...]] = {
    "optional_columns": list,
    "header_aliases": dict,
    "header_match": str,
}
_EDGES = "\ufeff \t\r\n\u3000"


def normalised(name: str) -> str:
    """A column name without what spellings differ in: width of characters (NFKC), white space, letter case."""
    return "".join(unicodedata.normalize("NFKC", name).split()).casefold()


def resolve_header(
    names: tuple[str, ...], object_name: str, layout: Layout, options: dict[str, Any]
) -> tuple[str, ...]:
    """Delivered names as the contract spells them, checked.

    ``header_aliases`` (delivered name → name in the contract) come first, then names that are equal, then, with
    ``header_match: normalised``, names that differ in width, white space or case only. Errors: see :func:`check_header`.
    """
    aliases = options.get("header_aliases") or {}
    loose = options.get("header_match") == "normalised"
    by_form = {normalised(field): field for field in layout.fields} if loose else {}
    loose_aliases = {normalised(name): target for name, target in aliases.items()} if loose else {}
    resolved = []
    for delivered in names:
        name = delivered.strip(_EDGES)
        if name in aliases:
            name = aliases[name]
        elif name not in layout.fields and loose:
            form = normalised(name)
            name = loose_aliases.get(form) or by_form.get(form) or name
        resolved.append(name)
    return check_header(tuple(resolved), object_name, layout)


def check_header(names: tuple[str, ...], object_name: str, layout: Layout) -> tuple[str, ...]:
    """The header against the contract: TIYU-ING-0210 missing, 0211 unknown, 0214 repeated columns."""
    missing = layout.missing(names)
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
    layout.note_unknown(object_name, extra)
    return names
