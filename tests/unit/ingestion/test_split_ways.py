"""Rows judged column by column and rows put together first end the same: accepted, refused with reason and preview, counts.

Every contract of the catalogue that is judged column by column is tried, on texts of which many are wrong.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from datetime import UTC, datetime

import polars as pl
import pyarrow as pa
import pytest

from catalog import contracts, vocabularies
from ingestion import split
from ingestion.typed import Memo
from lake import query
from lake.arrow import joined, plain

ROWS = 300
AS_OF = datetime(2026, 11, 20, 4, tzinfo=UTC)
TEXTS = [
    "",
    " ",
    "甲",
    "a b",
    "13800138000",
    "x@example.org",
    "110101199003070000",
    "-1",
    "0",
    "7",
    "3.5",
    "1e400",
    "NaN",
    "是",
]
BY_TYPE = {
    "DATE": ["2026-11-19", "2026-02-30", "20261119", "1950-01-01"],
    "TIMESTAMPTZ": ["2026-11-19T08:00:00+08:00", "2026-11-19 08:00:00", "1991-06-01T00:00:00+08:00", "2031-01-01T00:00:00Z"],
    "BOOLEAN": ["true", "false", "1", "否"],
}  # fmt: skip
RESOURCES = [
    name
    for name, contract in contracts.load_all("source").items()
    if split._by_columns(contract.root) and contract.server and contract.server.decoder != "activity"
]


def delivered(obj: contracts.ObjectSpec, seed: str) -> pa.Table:
    """Texts for each source column: nulls, what is no value of its type, and some that are."""
    draw = random.Random(seed)
    columns = {}
    for prop in obj.properties:
        pool = [None, *BY_TYPE.get(prop.type, []) * 4, *TEXTS]
        if prop.code_list:
            pool += [str(item["code"]) for item in vocabularies.load(prop.code_list)][:10] * 6
        columns[str(prop.source_name)] = pa.array(draw.choices(pool, k=ROWS), pa.string())
    columns["_record_no"] = pa.array(range(1, ROWS + 1), pa.int64())
    columns["_source_object"] = pa.array([f"{n % 3:064x}" for n in range(ROWS)])
    return pa.table(columns)


def outcomes(
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    by_columns: bool,
    chunks: tuple[int, ...] = (ROWS,),
    shown_later: list[pl.DataFrame] | None = None,
) -> list[split.Split]:
    """A delivery judged in one of the two ways in chunks of so many rows, every table that rules look into holding nothing
    but ``7``. With ``shown_later`` the refused rows of all chunks go there, together."""
    contract = contracts.load(name)
    with monkeypatch.context() as patch, query.connect(spill=False) as con:
        if not by_columns:
            patch.setattr(split, "_by_columns", lambda obj: False)
        for rule in (rule for rule in contract.root.rules if rule.kind == "reference"):
            target = rule.params.get("target_column") or rule.columns[0]
            con.execute(f"create or replace temp table {rule.params['table']} as select '7' as {target}")
        rows, memo, starts = delivered(contract.root, name), Memo(), [0, *itertools.accumulate(chunks)]
        later = None if shown_later is None else split.Refusals(con, contract.root)
        found = [
            split.split_text(con, contract, rows.slice(start, size), AS_OF, memo, later)
            for start, size in zip(starts, chunks, strict=False)
        ]
        if shown_later is not None and later:
            shown_later.append(later.shown())
            assert later.shown().is_empty()
        return found


def outcome(name: str, monkeypatch: pytest.MonkeyPatch, *, by_columns: bool) -> split.Split:
    (whole,) = outcomes(name, monkeypatch, by_columns=by_columns)
    return whole


def same(frame: pl.DataFrame) -> list[tuple[object, ...]]:
    names = sorted(frame.columns)
    return [tuple(map(repr, row)) for row in frame.select(names).sort("_source_object", "_record_no").iter_rows()]


def on_sample(rule_id: str) -> bool:
    return ".detected." in rule_id and not rule_id.endswith((".id_no", ".hidden", ".contact"))


def test_enough_contracts_are_tried():
    assert len(RESOURCES) >= 10


@pytest.mark.parametrize("name", RESOURCES)
def test_both_ways_end_the_same(home, monkeypatch, name):
    ways = [outcome(name, monkeypatch, by_columns=by) for by in (True, False)]
    columns, rows = ways
    assert same(columns.refused) == same(rows.refused)
    assert same(columns.accepted) == same(rows.accepted)
    assert columns.examined == rows.examined
    assert columns.warned == rows.warned
    assert sorted(map(repr, columns.leaks)) == sorted(map(repr, rows.leaks))
    assert columns.refused.height + columns.accepted.height == ROWS


@pytest.mark.parametrize("name", RESOURCES)
def test_chunks_of_any_size_end_as_the_whole(home, monkeypatch, name):
    whole = outcome(name, monkeypatch, by_columns=True)
    parts = outcomes(name, monkeypatch, by_columns=True, chunks=(ROWS // 2, 3, 1, ROWS // 2 - 4))
    assert same(pl.concat([part.refused for part in parts])) == same(whole.refused)
    together = joined([part.rows for part in parts])
    assert same(pl.DataFrame(plain(together))) == same(whole.accepted)
    for counts in ("examined", "warned"):
        total: Counter[str] = Counter()
        for part in parts:
            total.update(getattr(part, counts))
        # the kinds that only warn are looked for in a sample of each chunk
        everywhere = {rule for rule in total | Counter(getattr(whole, counts)) if not on_sample(rule)}
        assert everywhere or counts == "warned"
        assert {rule: total[rule] for rule in everywhere} == {
            rule: getattr(whole, counts).get(rule, 0) for rule in everywhere
        }


@pytest.mark.parametrize("most_rows", [0, 100, 20_000])
@pytest.mark.parametrize("name", RESOURCES)
def test_refused_rows_may_be_shown_together(home, monkeypatch, name, most_rows):
    """Of each chunk by itself, of a few, or of all."""
    monkeypatch.setattr(split.Refusals, "_MOST_ROWS", most_rows)
    whole = outcome(name, monkeypatch, by_columns=True)
    shown: list[pl.DataFrame] = []
    parts = outcomes(name, monkeypatch, by_columns=True, chunks=(ROWS // 2, 3, 1, ROWS // 2 - 4), shown_later=shown)
    assert same(pl.concat([shown[0], *(part.refused for part in parts)])) == same(whole.refused)
    # rows with names are put together one by one, and shown so
    assert shown[0].is_empty() != all(part.refused.is_empty() for part in parts)
    assert whole.refused.height > 0


def test_the_comparison_sees_a_rule_that_one_way_forgets(home, monkeypatch):
    name = RESOURCES[0]
    whole = outcome(name, monkeypatch, by_columns=True)
    monkeypatch.setattr(split, "_type_ruled", lambda obj: [])
    assert same(outcome(name, monkeypatch, by_columns=True).refused) != same(whole.refused)
