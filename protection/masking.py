"""Masked previews: enough to recognise a row, never enough to identify a person (domain reference §2.6)."""

from __future__ import annotations

import polars as pl

_MAX_PREVIEW = 60


def mask(kind: str | None, column: pl.Expr, grade: str = "L1") -> pl.Expr:
    """The masked spelling of a text column.

    kind ``name``: first character kept; ``phone``: first 3 and last 4 digits; ``id_no``: first 4 and last 4;
    anything else graded L3 or above, or with another identifier kind: ``***``. Ungraded text counts as L4.
    """
    return _masked(kind, column.cast(pl.String), grade).alias(column.meta.output_name())


def _masked(kind: str | None, text: pl.Expr, grade: str) -> pl.Expr:
    length = text.str.len_chars()
    if kind == "name":
        return pl.when(length > 0).then(text.str.slice(0, 1) + pl.lit("**")).otherwise(text)
    if kind == "phone":
        return (
            pl.when(length >= 11)
            .then(text.str.slice(0, 3) + pl.lit("****") + text.str.slice(-4))
            .when(length > 0)
            .then(pl.lit("***"))
            .otherwise(text)
        )
    if kind == "id_no":
        return (
            pl.when(length >= 15)
            .then(text.str.slice(0, 4) + pl.lit("**********") + text.str.slice(-4))
            .when(length > 0)
            .then(pl.lit("***"))
            .otherwise(text)
        )
    if kind or grade not in ("L1", "L2"):
        return pl.when(text.is_not_null()).then(pl.lit("***")).otherwise(None)
    return text.str.slice(0, _MAX_PREVIEW)
