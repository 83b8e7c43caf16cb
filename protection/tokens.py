"""Tokens in place of identifiers.

A token is ``{kind}_{kid}_{first 26 characters of base32(HMAC-SM3(key[purpose, kid], kind NUL normalised value))}``
(130 bits). It is keyed, because a plain hash of an identity number is reversible by trying all 1.3e11 of them
(domain reference §7.4), and it is pseudonymous, not anonymous.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Callable

import polars as pl
from cryptography.hazmat.primitives import hashes, hmac

from lake.errors import EXIT_INTERNAL, TiyuError
from protection import keys

KINDS = ("id_no", "phone", "name", "athlete_no", "token")
_SEPARATORS = re.compile(r"[\s\-()]+")


def normalise(kind: str, value: str) -> str:
    """The one spelling of an identifier that is tokenised: full-width folded, blanks gone, case and prefix fixed."""
    text = unicodedata.normalize("NFKC", value).strip()
    if kind == "id_no":
        return _SEPARATORS.sub("", text).upper()
    if kind == "phone":
        return re.sub(r"^(?:\+|00)86", "", _SEPARATORS.sub("", text))
    if kind == "name":
        return re.sub(r"\s+", " ", text)
    if kind == "athlete_no":
        return _SEPARATORS.sub("", text).upper()
    if kind == "token":
        return text
    raise TiyuError(
        "TIYU-TOK-0001", "未知的标识符种类", "在 protection/tokens.py 登记该种类的规范化方法", EXIT_INTERNAL, kind=kind
    )


def tokenise(kind: str, values: pl.Series, purpose: str = "token") -> pl.Series:
    """Tokens for a column of raw identifiers; null and empty stay null.

    Each distinct value is hashed once; the column is mapped in one join-like replace.
    """
    text = values.cast(pl.String)
    distinct = text.drop_nulls().unique()
    make = _maker(kind, purpose)
    mapping = {raw: made for raw in distinct.to_list() if (made := make(raw)) is not None}
    if not mapping:
        return pl.Series(values.name, [None] * len(values), dtype=pl.String)
    return text.replace_strict(
        pl.Series(list(mapping)), pl.Series(list(mapping.values())), default=None, return_dtype=pl.String
    )


def token(kind: str, value: str, purpose: str = "token") -> str | None:
    """The token of a single value (for names of objects, look-ups and tests)."""
    return _maker(kind, purpose)(value)


def _maker(kind: str, purpose: str) -> Callable[[str], str | None]:
    """Token of one raw value; None when nothing is left of it after normalisation."""
    kid, key = keys.provider().current(purpose)
    base = hmac.HMAC(key, hashes.SM3())
    base.update(kind.encode() + b"\0")
    prefix = f"{kind}_{kid}_"

    def make(raw: str) -> str | None:
        plain = normalise(kind, raw)
        if not plain:
            return None
        mac = base.copy()
        mac.update(plain.encode())
        return prefix + base64.b32encode(mac.finalize()).decode()[:26].lower()

    return make
