"""Sample values for catalogue pages: what the values of a column look like, as the policy lets every reader see them.

Columns are sampled one by one, so that no row can be put together again; the policy's surface is `catalogue_sample`.
"""

from __future__ import annotations

import duckdb
import polars as pl

from catalog import policy
from catalog.policy.explain import table_columns
from lake import query
from lake.query import quote_name
from protection import freetext, masking

AUDIENCE, SURFACE = "catalogue", "catalogue_sample"
ROWS = 20_000
"""Rows a sample is taken from, so that a page costs the same for any table; k is judged on these."""
PERSONS = 5
"""A value of a table about persons is given only when this many rows share it (reference §2.6: internal release, k ≥ 5)."""


def masked_samples(table: str, limit: int = 5, *, con: duckdb.DuckDBPyConnection | None = None) -> dict[str, list[str]]:
    """Up to `limit` distinct sample values of each column of the checked version of a table, plain or masked.

    A column the policy gives nothing of, one nobody described, and one without values has an empty list; so has every column
    of a table of which nothing is checked yet. The same data always gives the same samples.
    """
    described = {column.name: column for column in table_columns(table)}
    person_level = policy.is_person_level(described.values())
    own = con or query.connect()
    try:
        if query.register(own, table, "checked", view="sampled") is None:
            return {name: [] for name in described}
        # once into memory: every column is grouped on its own
        own.execute(f"CREATE OR REPLACE TEMP TABLE sampled_rows AS SELECT * FROM sampled LIMIT {ROWS}")
        stored = [row[0] for row in own.execute("DESCRIBE sampled_rows").fetchall()]
        found: dict[str, list[str]] = {name: [] for name in stored}
        for name in stored:
            column = described.get(name)
            if column is None:
                continue
            decision = policy.decide_column(AUDIENCE, SURFACE, column, person_level=person_level)
            value = f"CAST({quote_name(name)} AS VARCHAR)"
            if decision.mask:
                value = masking.masked_sql(decision.mask, quote_name(name))
            elif decision.treatment != "plain":
                continue
            enough = f"HAVING count(*) >= {PERSONS}" if person_level else ""
            values = own.execute(
                f"SELECT value FROM (SELECT {value} AS value FROM sampled_rows) WHERE value IS NOT NULL AND value <> ''"
                f" GROUP BY value {enough} ORDER BY hash(value), value LIMIT {int(limit)}"
            ).pl()["value"]
            if not decision.mask and policy.kind_of(column, person_level=False) is None:
                values = freetext.cleaned(values.cast(pl.String), AUDIENCE, SURFACE)
            found[name] = list(dict.fromkeys(values))
        own.execute("DROP TABLE sampled_rows")
        return found
    finally:
        if con is None:
            own.close()
