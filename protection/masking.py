"""Masked previews: enough to recognise a row, never enough to identify a person (domain reference §2.6)."""

from __future__ import annotations

import re
import unicodedata

import polars as pl

_MAX_PREVIEW = 60

#: A resident identity number (area, birth date, order, check character) or a mobile number.
_ID_NO = r"[1-9]\d{5}(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx]"
_MOBILE = r"1[3-9]\d[ -]?\d{4}[ -]?\d{4}"
_PERSONAL = re.compile(rf"(?<!\d)(?:{_ID_NO}|{_MOBILE})(?![\dXx])", re.ASCII)
_PERSONAL_POLARS = rf"(?:^|\D)(?:{_ID_NO}|{_MOBILE})(?:[^\dXx]|$)"  # this engine has no look-around


def personal_numbers(text: str) -> list[str]:
    """Identity and mobile numbers that stand in a text where the contract expects none (full-width digits folded)."""
    return _PERSONAL.findall(unicodedata.normalize("NFKC", text))


def has_personal_number(column: pl.Expr) -> pl.Expr:
    """The same question for a column: a value that sits in the wrong field must not be shown as if it belonged there."""
    text = column.cast(pl.String).str.normalize("NFKC")
    return text.str.contains(_PERSONAL_POLARS).fill_null(False)


def mask(kind: str | None, column: pl.Expr, grade: str = "L1") -> pl.Expr:
    """The masked spelling of a text column.

    kind ``name``: first character kept; ``phone``: first 3 and last 4 digits; ``id_no``: first 4 and last 4;
    a value not written like its kind, anything else graded L3 or above, or of another identifier kind: ``***``.
    Ungraded text counts as L4.
    """
    return _masked(kind, column.cast(pl.String), grade).alias(column.meta.output_name())


def _masked(kind: str | None, text: pl.Expr, grade: str) -> pl.Expr:
    length = text.str.len_chars()
    if kind == "name":
        return pl.when(length > 0).then(text.str.slice(0, 1) + pl.lit("**")).otherwise(text)
    if kind == "phone":
        return (
            pl.when(text.str.contains(r"^\+?[\d -]{11,}$"))
            .then(text.str.slice(0, 3) + pl.lit("****") + text.str.slice(-4))
            .when(length > 0)
            .then(pl.lit("***"))
            .otherwise(text)
        )
    if kind == "id_no":
        return (
            pl.when(text.str.contains(r"^[0-9A-Za-z]{15,}$"))
            .then(text.str.slice(0, 4) + pl.lit("**********") + text.str.slice(-4))
            .when(length > 0)
            .then(pl.lit("***"))
            .otherwise(text)
        )
    if kind or grade not in ("L1", "L2"):
        return pl.when(text.is_not_null()).then(pl.lit("***")).otherwise(None)
    return text.str.slice(0, _MAX_PREVIEW)
