"""Typing a column at a time says the same as `ingestion.conversion` says of every single text."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from catalog import contracts
from ingestion import conversion
from ingestion.typed import typed_columns

NUMBERS = ["1", "-1", "+5", "1.0", "1.00", "1.5", " 7 ", "", "  ", "1e3", "1_000", "0x10", "１２", "nan", "inf", "-inf", ".5", "5.",
           "1.e2", "+.5e-3", "007", "-0", "99999999999", "9223372036854775807", "9223372036854775808", "1e400", "1,5", "1 2", "\t3",
           "3\n", "true", "0.1", "0.30000000000000004", "123456789012345678901234567890", "1e-320", "-", "e5", "١"]  # fmt: skip
OTHERS = [*NUMBERS, "是", "否", "2026-02-30", "2026-02-28", "2026-02-28T10:00:00+08:00", "2026-02-28 10:00:00", "2026-02-28T10:00:00Z",
          "1899-12-31", "9999-01-01", "infinity", "2026/2/8", "文 字", " x "]  # fmt: skip
TYPES = ("INTEGER", "BIGINT", "DOUBLE", "BOOLEAN", "DATE", "TIMESTAMPTZ", "DECIMAL(18,2)", "VARCHAR")


@pytest.fixture(scope="module")
def con():
    with duckdb.connect() as made:
        made.execute("SET TimeZone = 'UTC'")
        yield made


def spec(kind: str):
    """A contract table of one column of a type, as `typed_columns` asks for it."""
    base = contracts.load("venue.entry").root
    prop = base.by_name["unit_id"].model_copy(update={"type": kind, "name": "c", "source_name": "c"})
    return base.model_copy(update={"properties": [prop]})


def compare(con, kind: str, texts: list[str | None]) -> None:
    obj = spec(kind)
    (prop,) = obj.properties
    delivered = pa.table({"c": pa.array(texts, pa.string())})
    typed = typed_columns(con, obj, delivered)
    con.register("d", pa.table({conversion.SOURCE + "c": delivered["c"]}))
    said = con.execute(
        f"select v, not ({conversion.text_of(prop)} is null or v is not null) from (select *, {conversion.expression(prop)} as v from d)"
    ).to_arrow_table()
    con.unregister("d")
    assert typed.columns["c"].to_pylist() == said.column(0).to_pylist()
    wrong = typed.type_errors.get("c")
    found = wrong.to_pylist() if wrong is not None else [False] * len(texts)
    assert found == (said.column(1).to_pylist() if kind != "VARCHAR" else [False] * len(texts))


@pytest.mark.parametrize("kind", TYPES)
def test_every_nasty_text_alone_and_together(con, kind):
    compare(con, kind, [*OTHERS, None])
    compare(con, kind, [str(n) for n in range(3_000)] + [*OTHERS, None])  # hardly repeats: the fast reader
    compare(con, kind, [*OTHERS, None] * 60)  # repeats: each text once
    compare(con, kind, [])


_TEXT = st.text(alphabet="0123456789+-.eE _x,naif０ \n", max_size=8)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(st.none() | _TEXT, max_size=30), kind=st.sampled_from(["INTEGER", "BIGINT", "DOUBLE"]))
@example(texts=["1" * 400], kind="DOUBLE")
def test_numbers_read_fast_are_those_read_slowly(con, texts, kind):
    compare(con, kind, [str(n) + ".25" for n in range(100)] + texts)


def test_a_field_that_was_not_delivered_is_null(con):
    obj = spec("INTEGER")
    typed = typed_columns(con, obj, pa.table({"other": ["1", "2"]}))
    assert typed.columns["c"].to_pylist() == [None, None]
    assert typed.type_errors == {}
