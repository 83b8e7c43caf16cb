"""Masks: enough to recognise a value, never enough to identify a person (domain reference §2.6).

A mask is a list of forms, each a pattern and what is shown of a value that is written like it; a value written like none
of them is hidden whole. The patterns use only what Python, Polars and DuckDB understand alike, so that one declaration
serves a text, a frame and a serving file. Which kind of identifier has which mask is said by `catalog/policy/policy.yaml`.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Any

import polars as pl

from lake.errors import EXIT_INTERNAL, TiyuError
from lake.sql import quote_literal

HIDDEN = "***"
PREVIEW_CHARS = 60
"""Longest text that is shown plain in a preview."""

#: A resident identity number (area, birth date, order, check character) or a mobile number.
ID_NO = r"[1-9]\d{5}(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx]"
MOBILE = r"1[3-9]\d[ -]?\d{4}[ -]?\d{4}"
_PERSONAL = re.compile(rf"(?<!\d)(?:{ID_NO}|{MOBILE})(?![\dXx])", re.ASCII)
_PERSONAL_POLARS = rf"(?:^|\D)(?:{ID_NO}|{MOBILE})(?:[^\dXx]|$)"  # this engine has no look-around


@dataclass(frozen=True)
class Form:
    """How a value may be written, and what is shown of it: `{1}` and `{2}` are the pattern's groups."""

    pattern: str
    shown: str

    def rendered(self, group: str) -> str:
        """The replacement in the spelling of one engine; `group` holds `N` where the group's number goes."""
        return re.sub(r"\{(\d)\}", lambda found: group.replace("N", found[1]), self.shown)


MASKS: dict[str, tuple[Form, ...]] = {
    "hide": (),
    "name": (Form(r"(?s)^(.).*$", "{1}**"),),
    "id_no": (Form(r"^([0-9A-Za-z]{4})[0-9A-Za-z]{7,}([0-9A-Za-z]{4})$", "{1}**********{2}"),),
    "phone": (
        Form(r"^(\+[0-9 -]{2})[0-9 -]{5,}([0-9 -]{4})$", "{1}****{2}"),
        Form(r"^([0-9 -]{3})[0-9 -]{4,}([0-9 -]{4})$", "{1}****{2}"),
    ),
    "email": (Form(r"^([^@\s])[^@\s]*@[^@\s]+$", "{1}***@***"),),
    "tail4": (Form(r"^[0-9A-Za-z -]{8,}([0-9A-Za-z]{4})$", "****{1}"),),
    "tail2": (Form(r"^[0-9A-Za-z -]{5,}([0-9A-Za-z]{2})$", "*******{1}"),),
    "plate_no": (Form(r"^([^0-9A-Za-z\s][A-Za-z])[0-9A-Za-z·]{2,}([0-9A-Za-z]{2})$", "{1}***{2}"),),
    "address": (Form(r"(?s)^(.*?(?:街道|镇|乡)).*$", "{1}***"), Form(r"(?s)^(.*?[区县]).*$", "{1}***")),
    "grid": (Form(r"^(-?[0-9]{1,3}\.[0-9])[0-9]*$", "{1}"), Form(r"^(-?[0-9]{1,3})$", "{1}")),
    "birth_band": (
        Form(r"^([0-9]{3})[0-4][-/年]?[0-9].*$", "{1}0-{1}4年"),
        Form(r"^([0-9]{3})[5-9][-/年]?[0-9].*$", "{1}5-{1}9年"),
    ),
    "age_band": (Form(r"^([0-9]{3})[0-9]$", "{1}0年代"),),
    "hour": (Form(r"^([0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}):.*$", "{1}:00"),),
}
"""Mask → its forms, the first that fits counts. In a serving file `age_band` is computed against the row's date and `hour`
keeps the column's type; the forms here are for texts."""


def forms(mask: str) -> tuple[Form, ...]:
    """The forms of a mask; raises TIYU-MSK-0001 for one that nobody wrote, because a value must not pass unmasked."""
    found = MASKS.get(mask)
    if found is None:
        raise TiyuError(
            "TIYU-MSK-0001",
            "没有这种遮蔽方法",
            "在 protection/masking.py 中实现，或改用已有的方法",
            EXIT_INTERNAL,
            mask=mask,
        )
    return found


def mask_text(mask: str, value: str) -> str:
    """The masked spelling of one text; an empty one stays empty."""
    found = forms(mask)
    if not value:
        return value
    for form in found:
        if re.match(form.pattern, value, re.ASCII):
            return re.sub(form.pattern, form.rendered(r"\g<N>"), value, count=1, flags=re.ASCII)
    return HIDDEN


def masked(mask: str, column: pl.Expr) -> pl.Expr:
    """The masked spelling of a column; null and empty stay so."""
    text = column.cast(pl.String)
    shown: Any = pl.when(text.str.len_chars() == 0).then(text)  # a chain whose type changes with its second link
    for form in forms(mask):
        shown = shown.when(text.str.contains(form.pattern)).then(text.str.replace(form.pattern, form.rendered("${N}")))
    hidden = pl.when(text.is_not_null()).then(pl.lit(HIDDEN))
    return shown.otherwise(hidden).alias(column.meta.output_name())


def masked_sql(mask: str, expression: str) -> str:
    """The same as a DuckDB expression over another one."""
    text = f"CAST({expression} AS VARCHAR)"
    cases = [
        f"WHEN regexp_matches({text}, {quote_literal(form.pattern)})"
        f" THEN regexp_replace({text}, {quote_literal(form.pattern)}, {quote_literal(form.rendered(chr(92) + 'N'))})"
        for form in forms(mask)
    ]
    return f"CASE WHEN {text} IS NULL OR {text} = '' THEN {text} {' '.join(cases)} ELSE {quote_literal(HIDDEN)} END"


def personal_numbers(text: str) -> list[str]:
    """Identity and mobile numbers that stand in a text where the contract expects none (full-width digits folded)."""
    return _PERSONAL.findall(unicodedata.normalize("NFKC", text))


def has_personal_number(column: pl.Expr) -> pl.Expr:
    """The same question for a column: a value that sits in the wrong field must not be shown as if it belonged there."""
    text = column.cast(pl.String).str.normalize("NFKC")
    return text.str.contains(_PERSONAL_POLARS).fill_null(False)
