"""Free texts in rows: identifiers that stand in them are taken out, many values at once.

`protection.redaction` guards what the platform writes about data (messages, logs); this module guards the data's own
texts, where a source may have put a phone number although the contract says there is none. The same patterns decide;
only a bank card must begin like an issuer's number here, because a permit or serial number must not lose its digits.

Two lines. At the door (`hidden`) whatever is found is hidden whole, so that the lake holds nothing of it. On the way out
(`cleaned`, `clean_table`, `gather`) it becomes what the policy lets the audience see on the surface, which also covers rows
stored before the door was guarded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import duckdb
import polars as pl

from lake.sql import quote_literal, quote_name
from protection import redaction
from protection.masking import MOBILE
from protection.redaction import GONE

_PLATES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
#: A text that none of the patterns can match does not match this. Written so that Polars and DuckDB read it alike.
MAYBE = rf"(?:^|[^0-9A-Za-z])[1-9](?:[ -]?[0-9]){{10}}|[@＠０-９]|://|[{_PLATES}][A-Z]|_k[0-9A-Za-z_]+_[a-z2-7]{{26}}"
#: A mobile number or a mail address: what makes a key the name of a person.
_CONTACT = rf"(?:^|[^0-9A-Za-z.])(?:\+?86[ -]?)?{MOBILE}(?:[^0-9A-Za-z]|$)|[A-Za-z0-9._+-]+@[A-Za-z0-9-]+\.[A-Za-z]"
_ISSUER = re.compile(r"62|4|5[1-5]|3[457]")
_WHOLE_NAME = r"^[\x{4e00}-\x{9fff}·]{3,}$|^\S{2,} \S.*$"
"""Names that are looked for in the texts of other rows: three characters or more, or several words."""

PATTERNS = tuple(
    (kind, pattern, (lambda text, sure=sure: bool(_ISSUER.match(text)) and sure(text)) if kind == "bank_card" else sure)
    for kind, pattern, sure in redaction.PATTERNS
)


def _each(texts: pl.Series, change: Callable[[str], str]) -> pl.Series:
    """The texts with `change` applied once to every distinct one that may hold an identifier."""
    maybe = texts.to_frame("text").lazy().filter(pl.col("text").str.contains(MAYBE)).unique().collect()["text"]
    changed = {text: new for text in maybe if (new := change(text)) != text}
    return texts.replace(changed) if changed else texts


def hidden(texts: pl.Series) -> pl.Series:
    """The texts as they may be stored: every identifier in them is hidden whole; null stays null."""
    return _each(texts, lambda text: redaction.redact(text, patterns=PATTERNS, replacement=lambda kind, value: GONE))


def holds_identifier(texts: pl.Series) -> bool:
    """Whether some text holds an identifier as it is outside: a number, mail address or plate, but not a token of ours."""
    outside = tuple(one for one in PATTERNS if one[0] != "person_token")
    changed = _each(texts, lambda text: redaction.redact(text, patterns=outside, replacement=lambda kind, value: GONE))
    return bool((changed != texts).any())


def without_names(texts: pl.Series, names: pl.Series) -> pl.Series:
    """The texts without the names of persons that the same delivery says are names.

    Only names that are hardly ever a part of other words are looked for (three characters or more, or several words).
    """
    wanted = names.drop_nulls().unique().str.strip_chars()
    wanted = wanted.filter(wanted.str.contains(_WHOLE_NAME))
    return texts.str.replace_many(wanted.to_list(), [GONE], leftmost=True) if wanted.len() else texts


def without_name_sql(expression: str, names: Iterable[str]) -> str:
    """DuckDB expression: a text of a row without the names in other columns of that row (two characters or more)."""
    for name in names:
        known = f"CASE WHEN length(trim({name})) >= 2 THEN trim({name}) END"
        expression = f"coalesce(replace({expression}, {known}, {quote_literal(GONE)}), {expression})"
    return expression


def no_contact_sql(expression: str) -> str:
    """DuckDB predicate: a value holds no mobile number and no mail address (true for null)."""
    return f"NOT coalesce(regexp_matches({expression}, {quote_literal(_CONTACT)}), false)"


def cleaned(texts: pl.Series, audience: str, surface: str) -> pl.Series:
    """The texts as the policy lets an audience see them on a surface."""
    return _each(texts, lambda text: redaction.redact(text, surface, audience, patterns=PATTERNS))


def gather(con: duckdb.DuckDBPyConnection, texts: str, audience: str, surface: str, target: str) -> int:
    """Make a temporary table `target` (text, shown) of the texts that must change; `texts` is a query of one column.

    Returns how many there are.
    """
    found = con.execute(
        f"SELECT DISTINCT text FROM ({texts}) AS t(text) WHERE regexp_matches(text, {quote_literal(MAYBE)}) ORDER BY text"
    ).pl()
    pairs = found.with_columns(cleaned(found["text"].cast(pl.String), audience, surface).alias("shown"))
    pairs = pairs.filter(pl.col("text") != pl.col("shown"))
    con.execute(f"CREATE OR REPLACE TEMP TABLE {quote_name(target)} (text VARCHAR PRIMARY KEY, shown VARCHAR)")
    if pairs.height:
        con.register("gathered_texts", pairs.to_arrow())
        con.execute(f"INSERT INTO {quote_name(target)} SELECT text, shown FROM gathered_texts")
        con.unregister("gathered_texts")
    return pairs.height


def clean_table(
    con: duckdb.DuckDBPyConnection, table: str, columns: Iterable[str], audience: str, surface: str
) -> dict[str, int]:
    """Clean text columns of a table in memory in place; returns column → values changed, 0 where there were none."""
    changed = {}
    for column in columns:
        name = quote_name(column)
        changed[column] = 0
        if gather(con, f"SELECT {name} FROM {table}", audience, surface, "replaced_texts"):
            row = con.execute(
                f"UPDATE {table} SET {name} = r.shown FROM replaced_texts AS r WHERE {table}.{name} = r.text"
            ).fetchone()
            changed[column] = int(row[0]) if row else 0
    con.execute("DROP TABLE IF EXISTS replaced_texts")
    return changed
